"""Many settings, measured by any executor, into one table on disk that an interrupted campaign resumes.

A :class:`~tutorial_lib.experiments.setting.Setting` is what is built and measured together, side by side, in one
process: its paths, at its sizes. Different settings need no common time, so they can run on different devices.

Only the process that calls :func:`run_all` writes to the file (:mod:`tutorial_lib.experiments.results_file`).
"""

import contextlib
import gc
import math
import os
import platform
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, as_completed, wait
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch

from tutorial_lib.builds import backends
from tutorial_lib.core.errors import sentence
from tutorial_lib.core.models import MODELS, Case
from tutorial_lib.experiments.processes import Processes, WorkerLost, one_per_device
from tutorial_lib.experiments.result import Failure, Result
from tutorial_lib.experiments.results_file import Line, key, opened, read, rows_of
from tutorial_lib.experiments.run import build, check_seconds, run, where
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.latency import MIN_SECONDS

RETRIES = 2
"""How often a setting is run again after its process ended early."""

Tell = Callable[[int, int, str], None]
"""Called with (settings done, settings in all, what was done last)."""

_imported_in = os.getpid()
_measuring = threading.Lock()


class _TimeUp(Exception):
    """The time that a campaign was given is over."""


class NotAlone(RuntimeError):
    """An executor that runs settings where their timings would disturb each other, or would not be their own."""


def run_all(
    settings: Iterable[Setting],
    file: str | Path,
    executor: Executor | Callable[[], Executor] | None = None,
    *,
    cases: Mapping[str, Callable[[], Case]] = MODELS,
    device: str = "auto",
    min_seconds: float = MIN_SECONDS,
    retries: int = RETRIES,
    seconds: float | None = None,
    reuse: bool = False,
    tell: Tell = lambda done, total, text: None,
) -> pd.DataFrame:
    """Build and measure every setting, each in a process that has nothing else to do meanwhile.

    What is in `file` already is not run again. That looks at the setting, the device's name as it is given here,
    and `min_seconds`, not at versions or machines, which every row names: for another machine, give another file.

    Parameters
    ----------
    settings : iterable of Setting
        What to measure. Equal ones are measured once.
    file : str or Path
        Where the results are written, a line as soon as each setting is done.
    executor : Executor, or function that makes one, optional
        Any that runs in processes, such as Dask's ``client.get_executor()``. Default: one process for each
        device (:class:`~tutorial_lib.experiments.processes.Processes`). If its processes break it as a whole, as
        happens to a ``ProcessPoolExecutor``, a function is called for another one; it then gets one setting at a time,
        so that a setting that ends its process is found.
    cases : mapping
        Importable functions that make the cases, by the names that the settings use.
    device : str
        ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
    min_seconds : float
        Measured time of each call at least.
    retries : int
        How often a setting runs again whose process ended early; then it is a row with that error.
    seconds : float, optional
        Stop after so long: what is not done by then is neither in the file nor in the table.
    reuse : bool
        Take packages that are on disk (:func:`build_ahead`), instead of building all anew. Build reports say so.
    tell : callable
        Called with (settings done, settings in all, the setting that was done).

    Returns
    -------
    pandas.DataFrame
        As :func:`table` reads it. What failed is a row with one sentence under ``error``.

    Raises
    ------
    TypeError
        If the executor runs threads.
    NotAlone
        If it turns out to run two settings in one process, or in this one, or in a fork of this one.
    BrokenExecutor
        If it broke, and there is no function to make another. The file has what was done.
    ResultsFileError
        If the file is something else, or another campaign writes to it.
    """
    if isinstance(executor, ThreadPoolExecutor):
        raise TypeError(
            "threads of one process disturb each other's timings; leave the executor out, or give one of processes."
        )
    check_seconds(min_seconds)
    requested = {key(setting, device, min_seconds): setting for setting in settings}
    for setting in requested.values():
        if setting.model not in cases:
            raise ValueError(f"there is no model {setting.model!r}; use {', '.join(cases)}.")
    with opened(Path(file)) as results:
        missing = {name: setting for name, setting in requested.items() if name not in results.lines}
        done = len(requested) - len(missing)

        def save(line: Line) -> None:
            nonlocal done
            results.append(line)
            done += 1
            failures = "; ".join(f"{path} {why.sentence}".strip() for path, why in line.result.failures.items())
            tell(done, len(requested), f"{missing[line.key]}{': ' if failures else ''}{failures}")

        if missing:
            policy = "reuse" if reuse else "off"
            work = {name: (cases[s.model], s, device, min_seconds, policy) for name, s in missing.items()}
            end = math.inf if seconds is None else time.monotonic() + seconds
            with contextlib.suppress(_TimeUp):
                _Campaign(work, executor, retries, end, save).run()
        return rows_of([line for line in results.lines.values() if line.key in requested])


def build_ahead(
    settings: Iterable[Setting],
    processes: int,
    *,
    cases: Mapping[str, Callable[[], Case]] = MODELS,
    device: str = "auto",
    tell: Tell = lambda done, total, text: None,
) -> None:
    """Build every setting, in so many `processes`, and leave on disk what :func:`run_all` with `reuse` then takes.

    Building takes one core for many seconds, and measuring needs a quiet machine: one after the other, both go faster.
    What cannot be built is only reported to `tell`, since it fails again where it is measured.
    The other arguments are those of :func:`run_all`; `tell` counts builds.
    """
    if processes < 1:
        raise ValueError(f"{processes} processes cannot build anything; use at least 1.")
    work = [(setting, path) for setting in dict.fromkeys(settings) for path in setting.paths]
    if not work:
        return
    pool = Processes(list(islice(cycle(one_per_device()), min(processes, len(work)))))
    try:
        running = {pool.submit(_built, cases[s.model], s, path, device): f"{path} of {s}" for s, path in work}
        for done, future in enumerate(as_completed(running), start=1):
            error = future.exception()
            tell(done, len(work), f"{running[future]}: {sentence(error)}" if error else f"built {running[future]}")
        pool.shutdown()
    except BaseException:
        pool.kill()
        raise


def table(file: str | Path) -> pd.DataFrame:
    """All results of a campaign so far, also while it runs.

    One row for each path and size, eager's among them, or for each path that failed: the columns of
    :class:`~tutorial_lib.measure.sweep.Sweep`, the setting, the error if there is one, and what it ran on
    (``host``, ``device``, ``threads``, ``cpus``, the versions, ``date``, ``attempts``).
    """
    return rows_of(list(read(Path(file)).values()))


class _Campaign:
    """What waits for the executor: it submits settings, saves results, and runs again what was lost."""

    def __init__(
        self,
        work: Mapping[str, Sequence[Any]],
        executor: Executor | Callable[[], Executor] | None,
        retries: int,
        end: float,
        save: Callable[[Line], None],
    ) -> None:
        self._work, self._retries, self._end, self._save = work, retries, end, save
        self._is_ours = not isinstance(executor, Executor)
        self._make_again = executor if callable(executor) else None
        self._executor = executor if isinstance(executor, Executor) else (executor or Processes)()
        self._waiting, self._running = deque(work), dict[Future[Any], str]()
        self._lost = Counter[str]()
        self._most_running = len(work)
        self._broken: BaseException | None = None

    def run(self) -> None:
        """Until every setting has a result, or the time is up."""
        try:
            while self._waiting or self._running:
                self._submit()
                left = None if self._end == math.inf else max(0.0, self._end - time.monotonic())
                done = wait(self._running, left, FIRST_COMPLETED).done
                if self._running and not done:
                    raise _TimeUp
                for future in [future for future in self._running if future in done]:
                    self._take(future, self._running.pop(future))
                if self._broken and (self._waiting or self._running):
                    self._replace_executor(self._broken)
        except BaseException:
            for future in self._running:
                future.cancel()
            if self._is_ours and isinstance(self._executor, Processes):
                self._executor.kill()
            raise
        finally:
            if self._is_ours:
                self._executor.shutdown(wait=False, cancel_futures=True)

    def _submit(self) -> None:
        while self._waiting and len(self._running) < self._most_running and not self._broken:
            name = self._waiting.popleft()
            submit = cast(Any, self._executor.submit)
            try:
                self._running[submit(_measured, *self._work[name], _process(), self._lost[name])] = name
            except BrokenExecutor as error:
                self._broken = error
                self._run_again(name, error, is_to_blame=not self._running)

    def _take(self, future: Future[Any], name: str) -> None:
        """Save a result or an error, or let the setting run again."""
        error = BrokenExecutor("the executor cancelled a setting.") if future.cancelled() else future.exception()
        if error is None:
            host, result = future.result()
            self._save(Line(name, self._lost[name] + 1, Result.from_dict(result), host))
        elif isinstance(error, NotAlone) or not isinstance(error, Exception):
            raise error
        elif isinstance(error, BrokenExecutor):
            self._broken = error
            self._run_again(name, error, is_to_blame=self._most_running == 1)  # of several, nobody knows which one
        elif isinstance(error, WorkerLost) or type(error).__name__ == "KilledWorker":  # Dask's, after its own retries
            self._run_again(name, error, is_to_blame=True)
        else:
            self._fail(name, sentence(error), self._lost[name] + 1)

    def _run_again(self, name: str, error: BaseException, is_to_blame: bool) -> None:
        if is_to_blame:
            self._lost[name] += 1
        lost = self._lost[name]
        if lost > self._retries:
            self._fail(name, f"its process ended early {lost} times: {sentence(error)}", lost)
        else:
            self._waiting.append(name)

    def _fail(self, name: str, why: str, attempts: int) -> None:
        setting = self._work[name][1]
        self._save(Line(name, attempts, Result(setting, failures={"": Failure(why)})))

    def _replace_executor(self, error: BaseException) -> None:
        """Go on with another executor, one setting at a time, so that a setting that breaks it is found."""
        if self._make_again is None:
            raise BrokenExecutor(f"{sentence(error)} Run it again, and it goes on with what is left.")
        self._waiting.extend(self._running.values())
        self._running, self._most_running, self._broken = {}, 1, None
        self._executor.shutdown(wait=False)
        self._executor = self._make_again()


# In the process that measures.


def _measured(
    make: Callable[[], Case],
    setting: Setting,
    device: str,
    min_seconds: float,
    policy: str,
    caller: tuple[str, int],
    attempt: int,  # unused, but Dask takes calls with equal arguments for one
) -> tuple[str, dict[str, Any]]:
    """Build and measure one setting, if this process has nothing else to do: the host, and plain values.

    An object might hold what another process cannot read, such as an option of a compiler.
    """
    if _process() == caller:
        raise NotAlone("the executor runs settings in the process that waits for them; give one of processes.")
    if os.getpid() != _imported_in:
        raise NotAlone(
            "the executor forks processes, and a fork of PyTorch may hang; spawn them: "
            "ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))."
        )
    if not _measuring.acquire(blocking=False):
        raise NotAlone(
            "the executor runs two settings at once in threads of one process, where they disturb each other's "
            "timings; give each process one thread (Dask: threads_per_worker=1)."
        )
    try:
        return platform.node(), measured(make, setting, device, min_seconds, policy).to_dict()
    finally:
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        _measuring.release()


def _built(make: Callable[[], Case], setting: Setting, path: str, device: str) -> None:
    """Build one path of a setting, for the packages and caches on disk that this leaves."""
    base = make().to(backends.as_device(device))
    setting = setting.settled(base)
    build(setting, setting.case(base), path, "reuse")


def measured(
    make: Callable[[], Case], setting: Setting, device: str, min_seconds: float, policy: str = "off"
) -> Result:
    """Build and measure one setting, here and now; what fails is in the result."""
    try:
        return run(setting, make(), device=device, build=partial(build, policy=policy), min_seconds=min_seconds)
    except Exception as error:
        return Result(setting, failures={"": Failure.of(error)}, where=where())


def _process() -> tuple[str, int]:
    return platform.node(), os.getpid()
