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
"""Seconds between two looks of an ``await``: a kernel's interrupt is only seen between them."""


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
        job._run()
        return job

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop; it may still be finishing what cannot be stopped."""
        return self._stop.is_set()

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._future.done()

    def check(self) -> None:
        """To be called by the work wherever it can stop: raises :class:`Cancelled` if it should."""
        if self.cancelled:
            raise Cancelled

    def cancel(self) -> None:
        """Ask the work to stop, at its next :meth:`check`."""
        self._stop.set()

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

        async def wait() -> T:
            try:
                while not self.done():
                    await asyncio.sleep(POLL)
            except asyncio.CancelledError:
                self.cancel()
                raise
            return self.result()

        return wait().__await__()

    def _run(self) -> None:
        try:
            self.check()
            result = self._work(self)
            self.check()
        except Cancelled:
            self._drop()
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    def _drop(self) -> None:
        if not self._future.done():
            self._future.set_exception(RunCancelled("this run was cancelled, or a newer one took its place."))


class Worker:
    """A thread that does one job at a time.

    A new job of a kind replaces one that waits, and cancels one that runs; jobs of different kinds take turns.
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
            replaced = self._waiting.pop(kind, None)
            if replaced:
                replaced.cancel()
                replaced._drop()
            if self._running and self._running.kind == kind:
                self._running.cancel()
            self._waiting[kind] = job
            if self._thread is None or not self._thread.is_alive():
                # A daemon, so that a kernel which is told to stop need not wait for a compiler.
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._change.notify()
        return job

    def cancel(self, kind: Hashable) -> None:
        """Cancel what waits and what runs of a kind."""
        with self._change:
            waiting = self._waiting.pop(kind, None)
            if waiting:
                waiting.cancel()
                waiting._drop()
            if self._running and self._running.kind == kind:
                self._running.cancel()

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return bool(self._waiting) or self._running is not None

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._waiting:
                    self._change.wait()
                self._running = self._waiting.pop(next(iter(self._waiting)))
            try:
                self._running._run()
            finally:
                with self._change:
                    self._running = None
