"""One experiment, from its setting to its result: the way that the command line, campaigns and the studio share."""

import contextlib
import datetime
import functools
import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from tutorial_lib import engines
from tutorial_lib.builds import backends, package_cache, report
from tutorial_lib.builds.backends import tensorrt
from tutorial_lib.builds.program import Compiled
from tutorial_lib.core.models import Case
from tutorial_lib.core.progress import Cancelled, Listener, Progress, listening
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines import EngineReport
from tutorial_lib.experiments.result import Failure, Result
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.device_conditions import Conditions
from tutorial_lib.measure.latency import MIN_SECONDS, Latency
from tutorial_lib.measure.sweep import Key, Sweep, latencies, sweep
from tutorial_lib.paths import PATHS

BuildEngines = Callable[[str, Listener], EngineReport]
"""Lets TensorRT build the engines of a path; may be called in any thread, while programs are built in another."""
ENGINES, LOOKING, BUILDING, COMPARING = "engines", "first look", "building", "comparing"
"""The first stages of a run; what follows are those of :func:`tutorial_lib.measure.latency.measure`."""
SOON = ("openvino",)
"""Backends that build a path so soon that its first look is worth having before TensorRT's builder takes a core."""


def build(setting: Setting, case: Case, path: str, policy: str = "off") -> Compiled:
    """The program of one path of a settled setting, whose case is `case`.

    `policy` says what is taken from the packages on disk (:func:`tutorial_lib.builds.package_cache.policy`).
    """
    with package_cache.policy(policy):
        return PATHS[path](case, setting.backend, dict(setting.options))


def prepare_engines(setting: Setting, case: Case) -> BuildEngines:
    """Make ready what TensorRT for RTX needs for the paths of a settled setting, whose case is `case`."""
    options = dict(setting.options) if setting.backend == "tensorrt" else None
    ask = engines.prepare(case, setting.paths, setting.calls, options)
    return lambda path, progress: ask(path, progress=progress)


def run(
    setting: Setting,
    case: Case,
    *,
    device: str | torch.device | None = None,
    progress: Listener = lambda step: None,
    show: Callable[[Result], None] | None = None,
    build: Callable[[Setting, Case, str], Compiled] = build,
    prepare_engines: Callable[[Setting, Case], BuildEngines] = prepare_engines,
    look_after: float | None = None,
    min_seconds: float = MIN_SECONDS,
    rows: bool = False,
) -> Result:
    """Check a setting, build every path and, if it asks for them, TensorRT's engines, and measure the paths together.

    A path that cannot be built is a failure of the result, and the others go on. TensorRT's engines are built in their
    own process, beside the programs. That process is stopped while a first look is timed, and all is built before
    measuring begins, so that no call is timed beside a build.

    Parameters
    ----------
    setting : Setting
        What to build and measure.
    case : Case
        Its model. A case that is in the setting's precision already is not copied.
    device : str or torch.device, optional
        Where to run it. Default: where the model is.
    progress : callable
        Told of every step, as a :class:`~tutorial_lib.core.progress.Progress` that :func:`share` understands. What it
        raises, such as :class:`~tutorial_lib.core.progress.Cancelled`, ends the run.
    show : callable, optional
        Given the result so far after every build and every round of measuring.
    build : callable
        Builds one path; :func:`build`, or one that takes programs which are there already.
    prepare_engines : callable
        Makes ready to build TensorRT's engines; :func:`prepare_engines`, or one that knows reports already.
    look_after : float, optional
        With it, :attr:`Result.sweep` has latencies of one call each before all is built: eager's from the start, or
        from the first path on where that is built soon, those of the path that is built first, and of every other
        whose build took more than so many seconds.
    min_seconds : float
        Measured time of each call at least.
    rows : bool
        Whether to compare the rows of one output as well (:func:`tutorial_lib.measure.sweep.sweep`).

    Raises
    ------
    ShapeError, BackendUnavailable, PrecisionError, OptionError
        If the setting cannot be built or measured; nothing is built then.
    EnginesUnavailable
        If it asks for TensorRT's engines, and they cannot be built here.
    NotRepeatable
        If the model writes into its inputs, or gives another result each time.
    """
    check_seconds(min_seconds)
    base = case if device is None else case.to(backends.as_device(device))
    setting = setting.settled(base)
    work = _Run(setting, setting.case(base), progress, show)
    with work.building_engines(prepare_engines):
        if setting.measure:
            work.build_paths(build, look_after)
        work.wait_for_engines()
    if setting.measure:
        work.measure(min_seconds, rows)
    return work.result(final=True)


def check_seconds(seconds: float) -> None:
    """Reject what is not a number of seconds, before anything is built."""
    if not 0 <= seconds < math.inf:
        raise ShapeError(f"min_seconds is {seconds!r}; use a number of at least 0.")


def share(step: Progress, setting: Setting) -> float:
    """How much of a run of `setting` is done at a step of it, from 0 to 1."""
    paths = len(setting.paths)
    builds, of_engines = paths if setting.measure else 0, paths if setting.engines else 0
    steps = builds + of_engines + (2 if setting.measure else 0)
    part = step.done / step.total if step.total else 0.0
    if step.stage in (LOOKING, BUILDING):
        return step.done / steps
    if step.stage == ENGINES:
        return (builds + step.done) / steps
    return (builds + of_engines + (0 if step.stage == COMPARING else 1) + part) / steps


class _Run:
    """A run in progress."""

    def __init__(self, setting: Setting, case: Case, progress: Listener, show: Callable[[Result], None] | None) -> None:
        self._setting, self._case, self._progress, self._show = setting, case, progress, show
        self._engines: list[EngineReport] = []
        self._asked: list[Future[EngineReport]] = []
        self._engines_text = "TensorRT starts"
        self._engines_may_start = threading.Event()
        self._programs: dict[str, Compiled] = {}
        self._failures: dict[str, Failure] = {}
        self._seconds: dict[str, float] = {}
        self._sweep: Sweep | None = None
        self._looked: dict[Key, Latency] = {}
        self._conditions = Conditions(case.device)
        self._where = {**where(), "device": report.device_name(case.device)}
        self._sampled = 0  # rounds of measuring before which the device was looked at

    def result(self, final: bool) -> Result:
        """All there is so far."""
        return Result(
            setting=self._setting,
            sweep=self._sweep,
            builds=tuple(program.build for program in self._in_order().values()),
            failures=dict(self._failures),
            engines=tuple(self._engines),
            seconds=dict(self._seconds),
            conditions=self._conditions.summary() if self._sampled else {},
            where=self._where,
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            final=final,
        )

    @contextlib.contextmanager
    def building_engines(self, prepare: Callable[[Setting, Case], BuildEngines]) -> Iterator[None]:
        """Let TensorRT for RTX build the engines of every path during the ``with`` block, if they are asked for."""
        if not self._setting.engines:
            yield
            return
        build = prepare(self._setting, self._case)
        pool, ended = ThreadPoolExecutor(1), threading.Event()

        def tell(path: str, step: Progress) -> None:
            if ended.is_set():
                raise Cancelled
            percent = f", {100 * step.done // step.total} %" if step.total else ""
            self._engines_text = f"{path}: {step.text}{percent}"

        def of_path(path: str) -> EngineReport:
            while not self._engines_may_start.wait(0.1):
                if ended.is_set():  # before TensorRT was asked
                    raise Cancelled
            with self._timed("engines"):
                return build(path, functools.partial(tell, path))

        try:
            self._asked = [pool.submit(of_path, path) for path in self._setting.paths]
            yield
        finally:
            ended.set()
            pool.shutdown(cancel_futures=True)

    def wait_for_engines(self) -> None:
        """Wait for what TensorRT has not built yet."""
        self._engines_may_start.set()
        while len(self._engines) < len(self._asked):
            self._tell(ENGINES, len(self._engines), self._engines_text)
            futures.wait(self._asked[len(self._engines) : len(self._engines) + 1], timeout=0.1)
            self._collect_engines()

    def _collect_engines(self) -> None:
        """Show the reports of engines that are built by now."""
        done = [future.result() for future in itertools.takewhile(Future.done, self._asked)]
        if len(done) > len(self._engines):
            self._engines = done
            self._show_so_far()

    def build_paths(self, build: Callable[[Setting, Case, str], Compiled], look_after: float | None) -> None:
        """Build every path, and note those that fail; TensorRT starts after the first look at one, if that is soon."""
        if look_after is None or self._setting.backend not in SOON:
            self._engines_may_start.set()
            if look_after is not None:
                self._look(0, None)
                self._show_so_far()
        soonest = "export" if self._setting.backend == "openvino" else "jit"  # so that its curve is there soonest
        order = sorted(self._setting.paths, key=lambda path: path != soonest)
        for index, path in enumerate(order):

            def tell(text: str, index: int = index) -> None:
                self._collect_engines()
                in_parallel = self._engines_may_start.is_set() and len(self._engines) < len(self._asked)
                beside = f"; TensorRT meanwhile, {self._engines_text}" if in_parallel else ""
                self._tell(BUILDING, index, f"{text}{beside}")

            try:
                with self._timed(f"build {path}"), listening(tell):
                    self._programs[path] = build(self._setting, self._case, path)
            except Exception as error:
                self._failures[path] = Failure.of(error)
            else:
                is_last = path == order[-1]
                worth_it = len(self._programs) == 1 or self._seconds[f"build {path}"] > (look_after or 0.0)
                if look_after is not None and worth_it and not is_last:
                    self._look(index + 1, path)
            self._engines_may_start.set()
            self._show_so_far()

    def _look(self, done: int, path: str | None) -> None:
        """Add latencies of one call each to the sweep: eager's, or those of `path`."""

        def tell(step: Progress) -> None:
            self._tell(LOOKING, done, f"a first look at {path or 'eager'}")

        with self._timed("first look"), engines.paused():
            shown = {name for name, _ in self._looked}
            programs = {name: each for name, each in self._in_order().items() if name in shown or name == path}
            sizes = self._setting.sizes
            self._sweep = latencies(self._case, programs, sizes, looked=self._looked, progress=tell)

    def measure(self, min_seconds: float, rows: bool) -> None:
        """Measure all programs side by side, if there are any; the device is looked at before every round."""

        def tell(step: Progress) -> None:
            if step.stage == "measuring" and step.done == self._sampled:
                self._conditions.sample()
                self._sampled += 1
            self._progress(step)

        def show(measured: Sweep) -> None:
            self._sweep = measured
            self._show_so_far()

        self._sweep = None
        if not self._programs:
            return
        with self._timed("measure"):
            self._sweep = sweep(
                self._in_order(),
                self._setting.sizes,
                min_samples=self._setting.samples,
                min_seconds=min_seconds,
                budget=self._setting.budget,
                rows=rows,
                progress=tell,
                after_round=show if self._show else None,
            )
        self._conditions.sample()

    def _in_order(self) -> dict[str, Compiled]:
        """The programs in the order of the setting's paths, whichever was built first."""
        return {path: self._programs[path] for path in self._setting.paths if path in self._programs}

    def _tell(self, stage: str, done: int, text: str) -> None:
        self._progress(Progress(stage, done, len(self._setting.paths), text))

    def _show_so_far(self) -> None:
        if self._show:
            self._show(self.result(final=False))

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start


def where() -> dict[str, Any]:
    """What a run of this process runs on, except for the device."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"threads": torch.get_num_threads(), "cpus": cpus, **report.versions("triton", *tensorrt.PACKAGES)}
