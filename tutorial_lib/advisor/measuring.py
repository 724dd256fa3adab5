"""Measure a few engines of a case cheaply: which ones, at which sizes, side by side.

Backends are chosen and paths built as everywhere else. The sampling differs from :func:`tutorial_lib.experiments.run`:
a sweep calls one program at one size many times in a row; what is predicted here is a service, where a call follows
calls of other sizes and waits for its answer (:func:`tutorial_lib.measure.latency.turns`).
"""

import itertools
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tutorial_lib.advisor import footprint, router
from tutorial_lib.advisor.latency_model import PADDING, Engine, Measurement, Size
from tutorial_lib.advisor.policies import Policy, one_engine
from tutorial_lib.advisor.traffic import Array, Traffic, as_traffic
from tutorial_lib.builds import backends, report
from tutorial_lib.core import precision
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.measure import latency

LEAST_ROUNDS, MOST_ROUNDS = 6, 400


@dataclass
class MeasuredCase:
    """A case on a backend, how its engines are built, and what was measured of a few of them."""

    case: Case
    make: router.Builder
    measurement: Measurement
    path: str
    backend: str
    options: dict[str, Any]


def measure(
    case: Case,
    traffic: Any,
    *,
    backend: str = "auto",
    path: str = "export",
    options: Mapping[str, Any] | None = None,
    engines: int = 3,
    seconds: float = 3.0,
    opts: Sequence[Size] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> MeasuredCase:
    """Build a few engines of the whole range with different opts, and time them and eager at a few sizes.

    Parameters
    ----------
    case : Case
        The model, with the range that has to be served.
    traffic : Traffic, or what Traffic.of takes
        Determines which opts and which sizes are worth measuring.
    backend, path, options
        As for :data:`tutorial_lib.paths.PATHS`.
    engines : int
        How many to build, if :func:`worth_measuring` finds as many opts.
    seconds : float
        Time for the measurement, besides the builds. At least 6 rounds are made, however long they take.
    opts : sequence of tuple of int, optional
        The opts to build, instead of those that :func:`worth_measuring` finds.
    """
    if not 0 <= seconds < math.inf:
        raise ShapeError(f"seconds is {seconds!r}; use a number of at least 0.")
    traffic = as_traffic(traffic, case.dims)
    backend, _ = backends.choose(backend, case.device)
    make = router.builder(path, backend, options)
    dims = [case.dims[name] for name in traffic.dims]
    opts = [tuple(opt) for opt in opts] if opts else worth_measuring(traffic, engines)
    eager = Policy("eager", traffic.dims, (), eager=True)
    routers: dict[Engine, router.Router] = {None: router.Router(case, eager, ())}
    for opt in opts:
        progress(f"building with opt {' x '.join(map(str, opt))} ...")
        routers[opt] = router.build(case, one_engine(traffic.dims, dims, opt), make)
    builds = {opt: routers[opt].programs[0].build for opt in opts}

    axes = tuple(_axis(traffic, case, column, opts) for column in range(len(dims)))
    corners = list(itertools.product(*axes))
    named = [dict(zip(traffic.dims, corner, strict=True)) for corner in corners]
    inputs = [case.example(sizes) for sizes in named]
    smallest = case.example({dim.name: dim.min for dim in dims})
    calls: dict[Engine, list[Callable[[], Any]]] = {
        engine: [partial(route, *tensors) for tensors in inputs] for engine, route in routers.items()
    }
    calls[PADDING] = [partial(router.pad, case, smallest, sizes) for sizes in named]
    shares = _shares(traffic, corners)
    samples, others = latency.quietest(lambda: _sample(case, calls, shares, seconds), 2 * seconds, progress)

    weights = max([footprint.weight_bytes(case), *(build.artefact_bytes or 0 for build in builds.values())])
    metadata = {
        "case": case.name,
        "backend": backend,
        "path": path,
        "device": report.device_name(case.device),
        "others": others,
    }
    build_seconds: dict[Engine, float] = {opt: build.seconds for opt, build in builds.items()}
    measurement = Measurement(traffic.dims, axes, samples, build_seconds, weights, metadata)
    return MeasuredCase(case, make, measurement, path, backend, dict(options or {}))


def worth_measuring(traffic: Traffic, most: int) -> list[Size]:
    """Opts worth an engine: the median, the largest size, the size where half of the samples are reached, small sizes.

    In that order, at most `most`, and only those that differ from the ones before by a factor of at least 2.
    """

    def quantiles(share: float) -> Size:
        return tuple(traffic.quantile(share, name) for name in traffic.dims)

    def half_of_the_samples(name: str) -> int:
        values, shares = traffic.values(name)
        samples = np.cumsum(values * shares)
        return int(values[np.searchsorted(samples, samples[-1] / 2)])

    opts: list[Size] = []
    for opt in (quantiles(0.5), quantiles(1), tuple(map(half_of_the_samples, traffic.dims)), quantiles(0.05)):
        if all(np.abs(np.log2(opt) - np.log2(other)).max() >= 1 for other in opts):
            opts.append(opt)
    return sorted(opts[: max(1, most)])


def _axis(traffic: Traffic, case: Case, column: int, opts: Sequence[Size]) -> Size:
    """Sizes of one dimension to measure at: the ends of its range and the opts; steps and quantiles in between."""
    name = traffic.dims[column]
    dim = case.dims[name]
    if len(traffic.dims) == 1:
        between = [*np.geomspace(dim.min, dim.max, 7), *(traffic.quantile(share) for share in (0.5, 0.9, 0.99))]
    else:
        between = [*np.geomspace(dim.min, dim.max, 4)]
    axis = sorted({dim.min, dim.max, *(opt[column] for opt in opts)})
    for size in sorted(round(each / dim.step) * dim.step for each in between):
        if dim.min < size < dim.max and all(abs(np.log2(size / other)) >= 0.4 for other in axis):
            axis.append(size)
    return tuple(sorted(axis))


def _shares(traffic: Traffic, corners: Sequence[Size]) -> list[float]:
    """The share of the requests that is closest to each measured size."""
    distances = np.abs(np.log(traffic.table)[:, None] - np.log(corners)[None]).sum(axis=2)  # [sizes, corners]
    return np.bincount(distances.argmin(axis=1), traffic.shares, len(corners)).tolist()


def _sample(
    case: Case, calls: Mapping[Engine, Sequence[Callable[[], Any]]], shares: Sequence[float], seconds: float
) -> dict[Engine, list[Array]]:
    """Rounds in which every engine serves every size, small ones several times, in an order that changes.

    Before each timed call there is an untimed one, of a size drawn by `shares`: a call takes longer after one that
    has put other data into the caches, or other threads to sleep.
    """
    shuffle, start = random.Random(0), time.perf_counter()
    rounds: list[dict[Engine, list[list[float]]]] = []
    with precision.tf32(case.allows_tf32):
        slowest_ms = [max(times) for times in zip(*latency.turns(calls, case.device, shuffle).values(), strict=True)]
        corners = range(len(slowest_ms))
        order = []
        for corner, ms in enumerate(slowest_ms):
            order += [corner] * int(np.clip(max(slowest_ms) / ms / 4, 1, 4))
        while len(rounds) < LEAST_ROUNDS or (time.perf_counter() - start < seconds and len(rounds) < MOST_ROUNDS):
            shuffle.shuffle(order)
            served, is_timed = [], []
            for corner in order:
                if slowest_ms[corner] < latency.LONG_MS:
                    served += shuffle.choices(corners, shares)
                    is_timed.append(False)
                served.append(corner)
                is_timed.append(True)
            turn = {engine: [calls[engine][corner] for corner in served] for engine in calls}
            samples: dict[Engine, list[list[float]]] = {engine: [[] for _ in corners] for engine in calls}
            for engine, times in latency.turns(turn, case.device, shuffle).items():
                for corner, timed, ms in zip(served, is_timed, times, strict=True):
                    if timed:
                        samples[engine][corner].append(max(ms, 1e-6))
            rounds.append(samples)
    return {engine: [np.array([each[engine][corner] for each in rounds]) for corner in corners] for engine in calls}
