"""One thread that works, whatever thread asks: the newest request of a kind wins, and any can be cancelled.

Handlers of widgets may run on any thread, also beside a running cell, so they only hand in work and return.
An exception in a thread passes unseen under nbval: it is kept here, and raised by :meth:`Job.result`.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Hashable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from tutorial_lib.core.progress import Cancelled

T = TypeVar("T")
POLL = 0.05
"""Seconds between two looks of an ``await``.

``asyncio.wrap_future`` instead would sleep until the end: a kernel's interrupt cancels the waiting task in a signal
handler, which does not wake an event loop (seen with ipykernel 7.4).
"""


class RunCancelled(RuntimeError):
    """The work was cancelled, or a newer request took its place."""


class Job(Generic[T]):
    """Work that was handed in: wait for it, ``await`` it, or cancel it.

    Attributes
    ----------
    kind : hashable
        Newer jobs of one kind replace older ones.
    about : object
        What the work is for, to tell whether another request asks for the same.
    """

    def __init__(self, kind: Hashable, work: "Callable[[Job[T]], T]", about: Any = None) -> None:
        self.kind, self.about = kind, about
        self._work = work
        self._future: Future[T] = Future()
        self._stop = threading.Event()

    @classmethod
    def of(cls, result: T) -> "Job[T]":
        """A job that has ended with `result`."""
        job = cls(None, lambda _: result)
        job.run()
        return job

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop; it may still be finishing what cannot be stopped."""
        return self._stop.is_set()

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._future.done()

    def when_done(self, do: Callable[[], None]) -> None:
        """Call `do` when it has ended, on the thread that ends it."""
        self._future.add_done_callback(lambda _: do())

    def check(self) -> None:
        """To be called by the work wherever it can stop: raises :class:`Cancelled` if it should."""
        if self.cancelled:
            raise Cancelled

    def cancel(self) -> None:
        """Ask the work to stop, at its next :meth:`check`."""
        self._stop.set()

    def drop(self) -> None:
        """Cancel it where it has not begun: it ends now."""
        self.cancel()
        self._future.set_exception(RunCancelled("this run was cancelled, or a newer one took its place."))

    def result(self, seconds: float | None = None) -> T:
        """What the work returned.

        Raises
        ------
        RunCancelled
            If it was cancelled.
        TimeoutError
            If it has not ended after `seconds`; it goes on.
        BaseException
            Whatever the work raised.
        """
        return self._future.result(seconds)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait without blocking an event loop; if the waiting is interrupted, the work is cancelled."""
        return self._wait().__await__()

    async def _wait(self) -> T:
        try:
            while not self.done():
                await asyncio.sleep(POLL)
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self.result()

    def run(self) -> None:
        """Do the work, on this thread."""
        try:
            self.check()
            result = self._work(self)
            self.check()
        except Cancelled:
            self.drop()
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)


class Worker:
    """A thread that does one job at a time.

    A new job of a kind replaces one that waits, and cancels one that runs; jobs of different kinds take turns. The
    thread is a daemon, which those of an executor are not: a kernel that is told to stop need not wait for a compiler.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._change = threading.Condition()
        self._waiting: dict[Hashable, Job[Any]] = {}
        self._running: Job[Any] | None = None
        self._thread: threading.Thread | None = None

    def submit(self, kind: Hashable, work: Callable[[Job[T]], T], about: Any = None) -> Job[T]:
        """Hand in `work`, which is called with its :class:`Job`; returns at once."""
        job = Job(kind, work, about)
        with self._change:
            self.cancel(kind)
            self._waiting[kind] = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._change.notify()
        return job

    def cancel(self, kind: Hashable) -> None:
        """Cancel what waits and what runs of a kind."""
        with self._change:
            waiting = self._waiting.pop(kind, None)
            if waiting:
                waiting.drop()
            if self._running and self._running.kind == kind:
                self._running.cancel()

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        with self._change:
            return bool(self._waiting) or self._running is not None

    def _work(self) -> None:
        while True:
            with self._change:
                self._running = None
                self._change.wait_for(lambda: self._waiting)
                self._running = self._waiting.pop(next(iter(self._waiting)))
            self._running.run()
