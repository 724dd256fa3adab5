"""Runs of the studio, from the request to the last status line. The newest request wins."""

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from tutorial_lib.core.progress import Cancelled
from tutorial_lib.engines import EngineReport
from tutorial_lib.experiments.result import Failure, Result
from tutorial_lib.experiments.run import run
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.studio.cached_runs import Answer, CachedRuns
from tutorial_lib.studio.display import Display
from tutorial_lib.studio.panel import Panel
from tutorial_lib.studio.views import status
from tutorial_lib.studio.worker import Job, Worker

WORKER = Worker("tutorial_lib studio")
"""For all studios: what is built and measured takes turns, so that no measurement runs beside another."""
REDRAW = 1.0
"""Seconds between two drawings while results stream in."""
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
        self._kind = id(self), "run"
        self._started = self._told = 0.0
        self._share, self._stage = 0.0, ""
        self.job: Job[Result] | None = None
        self.error: BaseException | None = None
        """What ended the last run early."""

    @property
    def running(self) -> bool:
        """Whether a run is under way that nobody cancelled."""
        return self.job is not None and not self.job.done() and not self.job.cancelled

    def start(self, setting: Setting, fresh: bool = False) -> Job[Result]:
        """Build and measure `setting`, which is settled, or show its result at once if it is in memory."""
        with self._lock:
            if self.job and self.running and self.job.about == setting and not fresh:
                return self.job
            cached = None if fresh else self._runs.cached(setting)
            if cached:
                return self.show(cached)
            self.job = self.error = None
            self._started = time.monotonic()
            self._share, self._stage = 0.0, "waiting for another run" if WORKER.busy else "starting"
            self._show_stage()
            job = WORKER.submit(self._kind, functools.partial(self._run, setting, fresh), setting)
            self.job = job
            job.when_done(lambda: self._ended(job))
            threading.Thread(target=self._keep_time, args=(job,), daemon=True).start()
            self._panel.cancel.disabled = False
            self._changed()
            return job

    def show(self, result: Result) -> Job[Result]:
        """Show a result that is there already, in place of what runs."""
        with self._lock:
            self.job, self.error = Job.of(result), None
            WORKER.cancel(self._kind)
            self._finish(result, f"Reused: built and measured at {when(result)}.")
            return self.job

    def cancel(self) -> None:
        """Stop the run as soon as it can be stopped; its result is discarded."""
        with self._lock:
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

    def _run(self, setting: Setting, fresh: bool, job: Job[Result]) -> Result:
        def tell(share: float, text: str) -> None:
            with self._lock:
                job.check()
                self._share, self._stage = share, text
                if time.monotonic() - self._told > TELL:
                    self._show_stage()

        def show(result: Result) -> None:
            with self._lock:
                job.check()
                due = time.monotonic() - self._display.drawn_at > REDRAW or not result.builds
                if due:
                    self._display.draw(result)
                    self._changed()
            if due:
                time.sleep(REST)

        try:
            result = self._runs.run(setting, tell=tell, show=show, fresh=fresh)
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
            self._finish(result, f"Done in {time.monotonic() - self._started:.1f} s.")
        return result

    def _keep_time(self, job: Job[Result]) -> None:
        """Let the elapsed time go on while a step says nothing."""
        while not job.done() and not job.cancelled:
            time.sleep(0.5)
            with self._lock:
                if job is self.job and self.running and time.monotonic() - self._told > 0.4:
                    self._show_stage()

    def _show_stage(self) -> None:
        self._told = time.monotonic()
        self._panel.status.value = status(self._stage, self._share, self._told - self._started)

    def _finish(self, result: Result, done: str) -> None:
        failed = "; ".join(f"{path} could not be built: {why.sentence}" for path, why in result.failures.items())
        details = "\n".join(why.details for why in result.failures.values())
        text = failed
        if result.sweep is not None:
            self._display.result = result
            text = f"{done} {failed}".strip()
        self._panel.status.value = status(text, details=details)
        self._idle()

    def _idle(self) -> None:
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

    def engines(self, setting: Setting, calls: Sequence[int]) -> Job[tuple[EngineReport, ...]]:
        """Let TensorRT for RTX build the engines of a settled setting."""
        panel = self._panel

        def work(job: Job[tuple[EngineReport, ...]]) -> tuple[EngineReport, ...]:
            try:
                engines_only = replace(setting, measure=False, engines=True, calls=tuple(calls))
                reports = run(engines_only, self._runs.case(setting), progress=lambda _: job.check()).engines
            except Exception as error:
                panel.engine_reports.value = status(Failure.of(error).sentence)
                raise
            self._display.show_engines(reports)
            return reports

        panel.engine_reports.value = status("TensorRT for RTX builds the engines, in a process of its own.")
        return WORKER.submit((id(self), "engines"), work)


def when(result: Result) -> str:
    """The date of a result in local time."""
    return datetime.fromisoformat(result.date).astimezone().strftime("%Y-%m-%d %H:%M:%S")
