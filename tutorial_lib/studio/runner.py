"""Runs of the studio, from the request to the last status line. The newest request wins."""

import contextlib
import functools
import importlib
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from tutorial_lib.core.progress import Cancelled, Progress
from tutorial_lib.engines import EngineReport
from tutorial_lib.engines.worker import worker
from tutorial_lib.experiments.result import Failure, Result
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.studio.cached_runs import Answer, CachedRuns
from tutorial_lib.studio.display import Display
from tutorial_lib.studio.panel import Panel
from tutorial_lib.studio.views import status
from tutorial_lib.studio.worker import Job, Worker

WORKER = Worker("tutorial_lib studio")
"""For all studios: what is built and measured takes turns, so that no measurement runs beside another."""
REDRAW = 2.5
"""Seconds between two drawings while results stream in."""
SOONER = ("eager", "openvino", "inductor", "tensorrt")
"""Backends by how soon they have built a model."""
TELL = 0.25
"""Seconds between two status lines, so that these do not disturb what is measured."""
REST = 0.3
"""Seconds that a browser on the same machine gets to show a new figure before the measurement goes on."""


class Runner:
    """Hands runs to the worker, and tells `panel` and `display` how they go.

    A run that is replaced is cancelled, so a run that is not cancelled is the newest one.

    Parameters
    ----------
    runs, panel, display
        Of one studio.
    lock : RLock
        Held whenever widgets change.
    changed : callable
        Called with the lock held when a run has begun or ended, or something new is shown.
    """

    def __init__(
        self, runs: CachedRuns, panel: Panel, display: Display, lock: threading.RLock, changed: Callable[[], None]
    ) -> None:
        self._runs, self._panel, self._display, self._lock, self._changed = runs, panel, display, lock, changed
        self._kind, self._memory_kind = (id(self), "run"), (id(self), "engines over max")
        self._memory_job: Job[tuple[EngineReport, ...]] | None = None
        self._started = self._told = 0.0
        self._share, self._stage, self._spoken = 0.0, "", ""
        self.job: Job[Result] | None = None
        self.error: BaseException | None = None
        """What ended the last run early."""

    @property
    def running(self) -> bool:
        """Whether a run is under way that nobody cancelled."""
        return self.job is not None and not self.job.done() and not self.job.cancelled

    @property
    def untouched(self) -> bool:
        """Whether nothing was built, asked for or refused yet, so that the status line has nothing to tell."""
        return self.job is None and self.error is None

    def warm_up(self) -> None:
        """Load what the first build needs before anyone asks for it; a run waits until it is loaded."""
        engines = self._panel.engines.value
        WORKER.submit((id(self), "warm up"), lambda job: warm_up(engines))

    def start(self, setting: Setting, fresh: bool = False, race: Setting | None = None) -> Job[Result]:
        """Build and measure `setting`, which is settled, or show its result at once if it is in memory.

        With `race`, the same with another backend: that is another run, before it or after it, whose result stands
        behind it as a pinned one does. The backend that builds sooner comes first. The job's result is that of
        `setting`.
        """
        with self._lock:
            if self.job and self.running and self.job.about == (setting, race) and not fresh:
                return self.job
            cached = None if fresh else self._runs.cached(setting)
            raced = None if fresh or race is None else self._runs.cached(race)
            if cached and (raced or race is None):
                return self.show(cached, raced)
            self._display.race, self._display.race_setting = None, race
            self.job = self.error = None
            WORKER.cancel(self._memory_kind)
            self._started = time.monotonic()
            self._share, self._stage = 0.0, "waiting for another run" if WORKER.busy else "starting"
            self._spoken = ""
            self._show_stage()
            job = WORKER.submit(self._kind, functools.partial(self._run_both, setting, race, fresh), (setting, race))
            self.job = job
            job.when_done(lambda: self._ended(job))
            threading.Thread(target=self._keep_time, args=(job,), daemon=True).start()
            self._panel.cancel.disabled = False
            self._changed()
            return job

    def show(self, result: Result, race: Result | None = None) -> Job[Result]:
        """Show a result that is there already, in place of what runs, and that of the backend beside it."""
        with self._lock:
            self._display.race, self._display.race_setting = race, race.setting if race else None
            self.job, self.error = Job.of(result), None
            WORKER.cancel(self._kind)
            self._finish(result, f"Reused: built and measured at {when(result)}.")
            return self.job

    def cancel(self) -> None:
        """Stop what runs as soon as it can be stopped; its result is discarded."""
        with self._lock:
            WORKER.cancel(self._memory_kind)
            if self.running:
                text = "Cancelled. A step that cannot be stopped may still be finishing; its result is discarded."
                self._panel.status.value = status(text)
                WORKER.cancel(self._kind)
                self._idle()

    def _ended(self, job: Job[Result]) -> None:
        """Say that a cancelled run has really ended, whoever cancelled it."""
        with self._lock:
            if job is self.job and job.cancelled:
                self._panel.status.value = status("Cancelled.")
                self._idle()

    def _run_both(self, setting: Setting, race: Setting | None, fresh: bool, job: Job[Result]) -> Result:
        """Run the setting and the race, the one that builds sooner first; returns the result of the setting."""
        runs = sorted([setting, race] if race else [setting], key=lambda each: SOONER.index(each.backend))
        results: dict[Setting, Result] = {}
        try:
            for number, each in enumerate(runs):
                results[each] = self._run(each, fresh, job, results.get(setting), number, len(runs))
                with self._lock:
                    job.check()
                    if each != setting:
                        self._display.race = results[each]
                    elif race and results[each].sweep is not None:
                        self._display.result = results[each]
                        self._display.draw()
        except Cancelled:
            raise
        except BaseException as error:
            with self._lock:
                job.check()
                self.error, failure = error, Failure.of(error)
                self._panel.status.value = status(f"Not measured: {failure.sentence}", details=failure.details)
                self._idle()
            raise
        with self._lock:
            job.check()
            self._finish(results[setting], f"Done in {time.monotonic() - self._started:.1f} s.")
        return results[setting]

    def _run(
        self, setting: Setting, fresh: bool, job: Job[Result], front: Result | None, number: int, count: int
    ) -> Result:
        """One run of `count`. What streams in stands behind `front`, if there is one."""

        def tell(share: float, text: str) -> None:
            with self._lock:
                job.check()
                self._share = (number + share) / count
                self._stage = f"{setting.backend}: {text}" if count > 1 else text
                if time.monotonic() - self._told > TELL:
                    self._show_stage()

        def show(result: Result) -> None:
            with self._lock:
                job.check()
                late = time.monotonic() - self._display.drawn_at > REDRAW
                shown = self._display.race if front else self._display.shown
                news = _curves(result) != _curves(shown) or len(result.engines) != len(shown.engines if shown else ())
                due = late or not result.builds or news
                if due and front:
                    self._display.race = result
                    self._display.draw()
                elif due:
                    self._display.draw(result)
                if due:
                    self._changed()
            if due and _is_measuring(result):
                time.sleep(REST)

        return self._runs.run(setting, tell=tell, show=show, fresh=fresh)

    def _keep_time(self, job: Job[Result]) -> None:
        """Let the elapsed time go on while a step says nothing."""
        while not job.done() and not job.cancelled:
            time.sleep(0.5)
            with self._lock:
                if job is self.job and self.running and time.monotonic() - self._told > 0.4:
                    self._show_stage()

    def _show_stage(self) -> None:
        self._told = time.monotonic()
        aloud, self._spoken = self._stage != self._spoken, self._stage
        self._panel.status.value = status(self._stage, self._share, self._told - self._started, aloud=aloud)

    def _finish(self, result: Result, done: str) -> None:
        race = self._display.race
        failures = dict(result.failures)
        if race:
            failures |= {f"{path} with {race.backend}": why for path, why in race.failures.items()}
        failed = "; ".join(f"{path} could not be built: {why.sentence}" for path, why in failures.items())
        details = "\n".join(why.details for why in failures.values())
        text = failed
        if result.sweep is not None:
            self._display.result = result
            text = f"{done} {failed}".strip()
        self._panel.status.value = status(text, details=details)
        self._idle()

    def _idle(self) -> None:
        if self._display.race and not self._display.race.final:
            self._display.race = None
        self._panel.cancel.disabled = True
        self._panel.pin.disabled = self._display.result is None
        self._display.draw()
        self._changed()

    def ask(self, setting: Setting, size: int, outside: str) -> Job[tuple[Answer, ...]]:
        """Ask each path of a settled setting what it does with `size`."""
        panel = self._panel

        def work(job: Job[tuple[Answer, ...]]) -> tuple[Answer, ...]:
            def tell(share: float, text: str) -> None:
                job.check()
                panel.answers.value = status(text, share)

            try:
                answers = self._runs.ask(setting, size, outside, tell)
            except Exception as error:
                panel.answers.value = status(Failure.of(error).sentence)
                raise
            self._display.show_answers(answers)
            return answers

        panel.answers.value = status("waiting for another run" if WORKER.busy else "asking")
        return WORKER.submit((id(self), "ask"), work)

    def engines_over_max(self, dim: str, settings: Sequence[Setting]) -> Job[tuple[EngineReport, ...]]:
        """Let TensorRT for RTX build the engines of settled settings that differ in the max of `dim`."""
        panel = self._panel

        def work(job: Job[tuple[EngineReport, ...]]) -> tuple[EngineReport, ...]:
            def tell(where: str, step: Progress) -> None:
                with self._lock:
                    job.check()
                    panel.memory_status.value = status(f"{where}: {step.text}")

            for setting in settings:
                size = next(each.max for each in setting.ranges if each.name == dim)
                for path in setting.paths:
                    self._runs.engines(setting, path, functools.partial(tell, f"max {size}, {path}"))
                with self._lock:
                    job.check()
                    self._display.redraw()
            return self._runs.engines_over_max(settings[0], dim)

        def ended() -> None:
            with self._lock:
                if job is self._memory_job:
                    panel.memory_status.value = status("Cancelled.") if job.cancelled else _why(job)
                    panel.cancel.disabled = not self.running

        with self._lock:
            panel.memory_status.value = status("waiting for another run" if WORKER.busy else "starting")
            panel.cancel.disabled = False
            job = self._memory_job = WORKER.submit(self._memory_kind, work)
            job.when_done(ended)
            return job


def warm_up(engines: bool) -> None:
    """Load what the first build needs: the compilers' modules and, for TensorRT's `engines`, their process."""
    with contextlib.suppress(Exception):  # whatever is wrong here, a build says it
        if engines:
            worker().start()
        importlib.import_module("torch._inductor.compile_fx")


def _why(job: Job[Any]) -> str:
    """Why a job failed, as a status; nothing if it did not."""
    try:
        job.result(0)
    except Exception as error:
        return status(Failure.of(error).sentence)
    return ""


def _curves(result: Result | None) -> frozenset[str]:
    """The paths that are drawn of a result."""
    return frozenset(result.sweep.table["path"]) if result and result.sweep else frozenset()


def _is_measuring(result: Result) -> bool:
    """Whether calls are timed as soon as this result is shown; after a first look something is built instead."""
    return result.sweep is not None and bool(result.sweep.table["ratio"].notna().any())


def when(result: Result) -> str:
    """The date of a result in local time."""
    return datetime.fromisoformat(result.date).astimezone().strftime("%Y-%m-%d %H:%M:%S")
