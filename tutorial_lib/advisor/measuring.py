"""Measure a few engines of a case cheaply: which ones, at which sizes, side by side.

Backends are chosen and paths built as everywhere. The sampling is not that of :func:`tutorial_lib.experiments.run`:
a sweep calls one program at one size many times in a row, and what is predicted here is a service, where a call
follows calls of other sizes and waits for its answer (:func:`tutorial_lib.measure.latency.turns`).
"""

import functools
import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutorial_lib.advisor import footprint, router
from tutorial_lib.advisor.latency_model import PADDING, Engine, Measurement, Sizes
from tutorial_lib.advisor.policies import Policy, dynamic
from tutorial_lib.advisor.traffic import Array, Traffic, as_traffic
from tutorial_lib.builds import backends, report
from tutorial_lib.core import precision
from tutorial_lib.core.models import Case
from tutorial_lib.measure import latency

ROUNDS = (6, 400)
"""Rounds of measuring, at least and at most."""
Progress = Callable[[str], None]


@dataclass
class Bench:
    """A case on a backend, what was measured of it, and the engines that were built for that."""

    case: Case
    make: router.Builder
    measurement: Measurement
    path: str
    backend: str
    options: dict[str, Any]
    seconds: float = 0.0


def measure(
    case: Case,
    traffic: Any,
    *,
    backend: str = "auto",
    path: str = "export",
    options: Mapping[str, Any] | None = None,
    engines: int = 3,
    seconds: float = 3.0,
    opts: Sequence[Sizes] | None = None,
    progress: Progress | None = None,
) -> Bench:
    """Build a few engines of the whole range with different opts, and time them and eager at a few sizes.

    Parameters
    ----------
    case : Case
        The model, with the range that has to be served.
    traffic : Traffic, or what Traffic.of takes
        Says which opts and which sizes are worth measuring.
    backend, path, options
        As for :data:`tutorial_lib.paths.PATHS`.
    engines : int
        How many to build, if :func:`worth_measuring` finds as many opts.
    seconds : float
        Time for the measurement, besides the builds. At least 6 rounds are made, however long they take.
    opts : sequence of tuple of int, optional
        These instead of those.
    """
    traffic = as_traffic(traffic, case.dims)
    name, _ = backends.choose(backend, case.device)
    started, make, tell = time.perf_counter(), router.builder(path, name, options), progress or (lambda text: None)
    dims = [case.dims[each] for each in traffic.dims]
    chosen = [tuple(opt) for opt in opts] if opts else worth_measuring(traffic, engines)
    routers: dict[Engine, router.Router] = {None: router.Router(case, Policy("eager", traffic.dims, (), True), ())}
    for opt in chosen:
        tell(f"building with opt {' x '.join(map(str, opt))} ...")
        routers[opt] = router.build(case, dynamic(traffic.dims, dims, opt), make)
    builds = {opt: one.programs[0].build for opt, one in routers.items() if opt}
    axes = tuple(_grid(traffic, case, each, chosen) for each in range(len(dims)))
    corners = [dict(zip(traffic.dims, corner, strict=True)) for corner in itertools.product(*axes)]
    inputs = [case.example(corner) for corner in corners]
    calls: dict[Engine, list[Callable[[], Any]]] = {
        engine: [functools.partial(one, *given) for given in inputs] for engine, one in routers.items()
    }
    usual = _usual(traffic, corners)
    smallest = case.example({dim.name: dim.min for dim in dims})
    calls[PADDING] = [functools.partial(router.pad, case, smallest, corner) for corner in corners]
    samples, others = latency.quietest(lambda: _sample(case, calls, usual, seconds), 2 * seconds, tell)
    weights = max([footprint.weight_bytes(case), *(build.artefact_bytes or 0 for build in builds.values())])
    about: dict[str, Any] = {"case": case.name, "backend": name, "path": path}
    about |= {"device": report.device_name(case.device), "others": others}
    spent: dict[Engine, float] = {opt: build.seconds for opt, build in builds.items()}
    measurement = Measurement(traffic.dims, axes, samples, spent, weights, about)
    return Bench(case, make, measurement, path, name, dict(options or {}), time.perf_counter() - started)


def worth_measuring(traffic: Traffic, most: int) -> list[Sizes]:
    """Opts worth an engine: the median, the largest, where half of the samples are reached, and the smallest sizes.

    In that order, at most so many, and only such as are at least twice as large or as small as those before.
    """

    def quantiles(share: float) -> Sizes:
        return tuple(traffic.quantile(share, name) for name in traffic.dims)

    def halfway(name: str) -> int:
        values, shares = traffic.values(name)
        samples = np.cumsum(values * shares)
        return int(values[np.searchsorted(samples, samples[-1] / 2)])

    found: list[Sizes] = []
    for opt in (quantiles(0.5), quantiles(1), tuple(map(halfway, traffic.dims)), quantiles(0.05)):
        if all(np.abs(np.log2(opt) - np.log2(other)).max() >= 1 for other in found):
            found.append(opt)
    return sorted(found[: max(1, most)])


def _grid(traffic: Traffic, case: Case, column: int, opts: Sequence[Sizes]) -> Sizes:
    """Sizes of one dimension to measure at: the ends of its range, steps between, the traffic's quantiles, the opts."""
    name = traffic.dims[column]
    dim, two = case.dims[name], len(traffic.dims) == 2
    steps = np.geomspace(dim.min, dim.max, 4 if two else 7)
    wanted = {*steps, *([] if two else (traffic.quantile(share, name) for share in (0.5, 0.9, 0.99)))}
    fixed = {dim.min, dim.max, *(opt[column] for opt in opts)}
    found = sorted(fixed)
    for size in sorted(round(each / dim.step) * dim.step for each in wanted):
        if dim.min < size < dim.max and all(abs(np.log2(size / other)) >= 0.4 for other in found):
            found.append(size)
    return tuple(sorted(found))


def _usual(traffic: Traffic, corners: Sequence[Mapping[str, int]]) -> Array:
    """The share of the requests that is nearest to each corner."""
    grid = np.log([[corner[name] for name in traffic.dims] for corner in corners])
    nearest = np.abs(np.log(traffic.table)[:, None] - grid[None]).sum(axis=2).argmin(axis=1)
    return np.bincount(nearest, traffic.shares, len(corners))


def _sample(
    case: Case, calls: Mapping[Engine, Sequence[Callable[[], Any]]], usual: Array, seconds: float
) -> dict[Engine, list[Array]]:
    """Rounds in which every engine serves every size, small ones several times, in an order that changes.

    Before each call that counts stands one of a `usual` size, since a call takes longer after one that has put
    other data in the caches, or the other threads to sleep.
    """
    shuffle, started = random.Random(0), time.perf_counter()
    with precision.tf32(case.allows_tf32):
        slowest = [max(times) for times in zip(*latency.turns(calls, case.device, shuffle).values(), strict=True)]
        cells = range(len(slowest))
        repeats = [int(np.clip(max(slowest) / ms / 4, 1, 4)) for ms in slowest]
        order = [cell for cell in cells for _ in range(repeats[cell])]
        rounds: list[dict[Engine, list[list[float]]]] = []
        while len(rounds) < ROUNDS[0] or (time.perf_counter() - started < seconds and len(rounds) < ROUNDS[1]):
            shuffle.shuffle(order)
            run = []  # (cell, whether it counts)
            for cell in order:
                if slowest[cell] < latency.LONG_MS:
                    run += [(shuffle.choices(cells, usual.tolist())[0], False)]
                run += [(cell, True)]
            times = latency.turns({e: [calls[e][cell] for cell, _ in run] for e in calls}, case.device, shuffle)
            rounds.append({engine: [[] for _ in cells] for engine in calls})
            for engine, spent in times.items():
                for (cell, counts), ms in zip(run, spent, strict=True):
                    if counts:
                        rounds[-1][engine][cell].append(max(ms, 1e-6))
    return {engine: [np.array([one[engine][cell] for one in rounds]) for cell in cells] for engine in calls}
