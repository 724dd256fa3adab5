"""Runs of the studio, from the request to the last status line. The newest request wins."""

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from tutorial_lib.core.progress import Cancelled
from tutorial_lib.engines import EngineReport
from tutorial_lib.experiments.result import Failure, Result
from tutorial_lib.experiments.run import run
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.studio.bench import Answer, Bench
from tutorial_lib.studio.display import Display
from tutorial_lib.studio.panel import Panel, status
from tutorial_lib.studio.worker import Job, Worker

WORKER = Worker("tutorial_lib studio")
"""For all studios: what is built and measured takes turns, so that no measurement runs beside another."""
REDRAW = 1.0
"""Seconds between two drawings while results stream in."""
TOLD = 0.25
"""Seconds between two status lines, so that telling does not disturb what is measured."""
REST = 0.3
"""Seconds that a browser on the same machine gets to show a new figure before the measurement goes on."""


class Runner:
    """Hands runs to the worker, and tells `panel` and `display` how they go.

    Parameters
    ----------
    bench, panel, display
        Of one studio.
    lock : RLock
        Held whenever widgets change.
    changed : callable
        Called with the lock held when a run has begun or ended, or something new is shown.
    """

    def __init__(self, bench: Bench, panel: Panel, display: Display, lock: Any, changed: Callable[[], None]) -> None:
        self._bench, self._panel, self._display, self._lock, self._changed = bench, panel, display, lock, changed
        self._turn = 0  # of the newest request; what an older run still brings is not shown
        self._started = self._told = 0.0
        self._stage = 0.0, ""
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
            known = None if fresh else self._bench.known(setting)
            if known:
                return self.show(known)
            self._turn += 1
            self.error = None
            run = functools.partial(self._run, self._turn, setting, fresh)
            waiting = WORKER.busy
            self._started, self._stage = time.monotonic(), (0.0, "waiting for another run" if waiting else "starting")
            self._say_stage()
            self.job = job = WORKER.submit((id(self), "run"), run, setting)
            self._panel.cancel.disabled = False
            threading.Thread(target=self._tick, args=(self._turn, job), daemon=True).start()
            self._changed()
            return job

    def show(self, result: Result) -> Job[Result]:
        """Show a result that is there already, in place of what runs."""
        with self._lock:
            self._turn += 1
            WORKER.cancel((id(self), "run"))
            self.job, self.error = Job.of(result), None
            self._end(result, f"Reused: built and measured at {when(result)}.")
            return self.job

    def cancel(self) -> None:
        """Stop the run as soon as it can be stopped; what it still brings is discarded."""
        with self._lock:
            if not self.running:
                return
            self._turn += 1
            WORKER.cancel((id(self), "run"))
            text = "Cancelled. A step that cannot be stopped may still be finishing; its result is discarded."
            self._panel.status.value = status(text)
            threading.Thread(target=self._ended, args=(self._turn, self.job), daemon=True).start()
            self._idle()

    def _ended(self, turn: int, job: Job[Any]) -> None:
        """Say so when a cancelled run has really ended."""
        while not job.done():
            time.sleep(0.05)
        with self._lock:
            if turn == self._turn:
                self._panel.status.value = status("Cancelled.")

    def _run(self, turn: int, setting: Setting, fresh: bool, job: Job[Result]) -> Result:
        def tell(share: float, text: str) -> None:
            job.check()
            self._tell(turn, share, text)

        def show(result: Result) -> None:
            job.check()
            if self._stream(turn, result):
                time.sleep(REST)

        try:
            result = self._bench.run(setting, tell=tell, show=show, fresh=fresh)
            job.check()
        except Cancelled:
            raise
        except BaseException as error:
            self._fail(turn, error)
            raise
        with self._lock:
            if turn == self._turn:
                self._end(result, f"Done in {time.monotonic() - self._started:.1f} s.")
        return result

    def _tell(self, turn: int, share: float, text: str) -> None:
        with self._lock:
            if turn == self._turn:
                self._stage = share, text
                if time.monotonic() - self._told > TOLD:
                    self._say_stage()

    def _tick(self, turn: int, job: Job[Any]) -> None:
        """Let the elapsed time go on while a step says nothing."""
        while not job.done() and turn == self._turn:
            time.sleep(0.5)
            with self._lock:
                if turn == self._turn and not job.done() and time.monotonic() - self._told > 0.4:
                    self._say_stage()
        with self._lock:
            if turn == self._turn and job.cancelled:  # by whoever awaited it, who does not know of the panel
                self._panel.status.value = status("Cancelled.")
                self._idle()

    def _say_stage(self) -> None:
        self._told = time.monotonic()
        share, text = self._stage
        self._panel.status.value = status(text, share, self._told - self._started)

    def _stream(self, turn: int, result: Result) -> bool:
        """Show what is known so far, unless that was done a moment ago."""
        with self._lock:
            due = turn == self._turn and (time.monotonic() - self._display.drawn_at > REDRAW or not result.builds)
            if due:
                self._display.draw(result)
                self._changed()
            return due

    def _end(self, result: Result, done: str) -> None:
        failed = "; ".join(f"{path} could not be built: {told.sentence}" for path, told in result.failures.items())
        details = "\n".join(told.details for told in result.failures.values())
        if result.sweep is not None:
            self._display.result = result
        self._panel.status.value = status(f"{done} {failed}".strip() if result.sweep else failed, details=details)
        self._idle()

    def _fail(self, turn: int, error: BaseException) -> None:
        with self._lock:
            if turn == self._turn:
                self.error, told = error, Failure.of(error)
                self._panel.status.value = status(f"Not measured: {told.sentence}", details=told.details)
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
                told = self._bench.ask(setting, size, outside, tell)
            except Exception as error:
                panel.answers.value = status(Failure.of(error).sentence)
                raise
            self._display.answered(told)
            return told

        panel.answers.value = status("waiting for another run" if WORKER.busy else "asking")
        return WORKER.submit((id(self), "ask"), work)

    def engines(self, setting: Setting, calls: Sequence[int]) -> Job[tuple[EngineReport, ...]]:
        """Let TensorRT for RTX build the engines of a settled setting."""
        panel = self._panel

        def work(job: Job[tuple[EngineReport, ...]]) -> tuple[EngineReport, ...]:
            try:
                of_engines = replace(setting, measure=False, engines=True, calls=tuple(calls))
                reports = run(of_engines, self._bench.case(setting), progress=lambda step: job.check()).engines
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
