"""The process in which engines are built, as the reader's process sees it.

There is one, started by the first request and kept warm for the next ones, which wait for their turn. It ends with
the process that started it. Requests and answers are pickles on its own standard input and output, which no other
user can write to. While it works it reports progress; a request that is cancelled ends within two seconds, at
a step of TensorRT's builder if it can, else with the process, which the next request then replaces.
"""

import atexit
import contextlib
import itertools
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tutorial_lib.core.progress import Listener, Progress, stage
from tutorial_lib.engines import install
from tutorial_lib.engines.errors import EngineProcessError
from tutorial_lib.engines.frontend import HIDDEN
from tutorial_lib.engines.install import Frontend

SECONDS = 120
"""Time limit of a request, in seconds."""
PATIENCE = 1.5
"""Seconds that a cancelled request has for ending by itself."""
POLL = 0.1
"""Seconds between two looks at whether a request was cancelled."""


class ProcessEnded(EngineProcessError):
    """The process ended, or was ended, before it answered."""


class Worker:
    """One process that builds engines with `frontend`, with one request at a time."""

    def __init__(self, frontend: Frontend) -> None:
        self.frontend = frontend
        self._turn = threading.Lock()
        self._starting = threading.Lock()
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._messages: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._last_lines: deque[str] = deque(maxlen=20)
        self._reads_lines: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """The number of the process while there is one."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def ask(self, payload: bytes, seconds: float = SECONDS, listener: Listener | None = None) -> Any:
        """What the process answers to one request.

        Parameters
        ----------
        payload : bytes
            A pickle of a task (:mod:`tutorial_lib.engines.tasks`).
        seconds : float
            Time limit, the start of the process included.
        listener : callable, optional
            Called with :class:`~tutorial_lib.core.progress.Progress`, again and again. What it raises cancels the
            request.

        Raises
        ------
        ProcessEnded
            If the process crashed, was killed, or took longer than `seconds`.
        """
        while not self._turn.acquire(timeout=POLL):
            _tell(listener, Progress("starting", 0, None, "waiting for another build of engines"))
        try:
            kind, value = self._answer(payload, seconds, listener)
            if kind == "outdated":  # it had imported a file that was changed since; a new process reads it again
                self.stop()
                kind, value = self._answer(payload, seconds, listener)
        finally:
            self._turn.release()
        if kind == "raise":
            raise value
        return value

    def start(self) -> None:
        """Start the process unless there is one: it loads TensorRT by itself, and the next request need not wait."""
        with self._turn:
            self._running()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the process for as long as the ``with`` block takes; none is started meanwhile."""
        with self._starting:
            process = None
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(self.pid) if self.pid else None
                if process:
                    process.suspend()
            try:
                yield
            finally:
                if process:
                    with contextlib.suppress(psutil.Error):
                        process.resume()

    def stop(self) -> None:
        """End the process if there is one."""
        process, self._process = self._process, None
        if process:
            _kill(process)

    def _answer(self, payload: bytes, seconds: float, listener: Listener | None) -> tuple[str, Any]:
        number, deadline = next(self._numbers), time.monotonic() + seconds
        try:
            self._send(("ask", number, payload))
            return self._wait(number, deadline, seconds, listener)
        except BaseException:  # also an interrupt, and whatever `listener` raises
            self._cancel(number)
            raise

    def _send(self, message: tuple[Any, ...]) -> None:
        process = self._running()
        assert process.stdin
        try:
            pickle.dump(message, process.stdin)
            process.stdin.flush()
        except BrokenPipeError:
            raise ProcessEnded(self._ended()) from None

    def _running(self) -> subprocess.Popen[bytes]:
        with self._starting:
            if self._process and self.pid:
                return self._process
            self.stop()  # one that ended by itself leaves its pipe behind
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "tutorial_lib.engines.server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**environment(), **HIDDEN},
                # A group of its own: an interrupt at the keyboard is the reader's process's to handle, and the system
                # ends a group that is paused when the reader's process is gone.
                process_group=0,
            )
            self._messages, self._last_lines = queue.SimpleQueue(), deque(maxlen=20)
            threading.Thread(target=_receive, args=(process, self._messages), daemon=True).start()
            self._reads_lines = threading.Thread(target=_keep_lines, args=(process, self._last_lines), daemon=True)
            self._reads_lines.start()
            assert process.stdin
            pickle.dump(self.frontend, process.stdin)
            return process

    def _wait(self, number: int, deadline: float, seconds: float, listener: Listener | None) -> tuple[str, Any]:
        last = Progress("starting", 0, None, "starting the process that builds engines")
        while True:
            _tell(listener, last)
            try:
                message = self._messages.get(timeout=POLL)
            except queue.Empty:
                if time.monotonic() > deadline:
                    self.stop()
                    raise ProcessEnded(
                        f"took longer than {seconds:g} s and was stopped; allow more with seconds="
                    ) from None
                continue
            if message[0] == "end":
                raise ProcessEnded(self._ended())
            if message[1] != number:
                continue  # of a request that was cancelled
            if message[0] == "answer":
                return message[2], message[3]
            last = message[2]

    def _cancel(self, number: int) -> None:
        """Let the process end this request; if it does not do so soon, end the process."""
        if self.pid is None:
            return
        with contextlib.suppress(ProcessEnded):
            self._send(("cancel", number, b""))
            deadline = time.monotonic() + PATIENCE
            while (left := deadline - time.monotonic()) > 0:
                with contextlib.suppress(queue.Empty):
                    message = self._messages.get(timeout=left)
                    if message[0] == "end":
                        break
                    if message[0] == "answer" and message[1] == number:
                        return
        self.stop()

    def _ended(self) -> str:
        """How the process ended, for the reader."""
        process, self._process = self._process, None
        if process is None:
            return "ended"
        _kill(process, wait=1)
        code = process.returncode
        if code < 0:
            memory = " (out of memory?)" if -code == signal.SIGKILL else ""
            return f"was ended by {signal.Signals(-code).name}{memory}"
        if self._reads_lines:
            self._reads_lines.join(1)  # what it said last may still be on its way
        last = self._last_lines[-1][:200] if self._last_lines else "no output"
        return f"ended with exit code {code} ({last})"


def _tell(listener: Listener | None, progress: Progress) -> None:
    """Report progress, to give whoever listens the chance to cancel."""
    stage(progress.text)
    if listener:
        listener(progress)


def _receive(process: subprocess.Popen[bytes], messages: "queue.SimpleQueue[tuple[Any, ...]]") -> None:
    assert process.stdout
    with process.stdout:
        while True:
            try:
                message = pickle.load(process.stdout)
            except Exception:  # its end, also in the middle of a message
                messages.put(("end",))
                return
            messages.put(message)


def _keep_lines(process: subprocess.Popen[bytes], lines: deque[str]) -> None:
    assert process.stderr
    with process.stderr:
        for line in process.stderr:
            if text := line.decode(errors="replace").strip():
                lines.append(text)


def _kill(process: subprocess.Popen[bytes], wait: float = 0) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        if wait:
            process.wait(wait)
    if process.poll() is None:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()


def environment() -> dict[str, str]:
    """The environment of a process that imports what this one can import."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


_workers: dict[Path, Worker] = {}
_workers_lock = threading.Lock()


def worker() -> Worker:
    """The worker of this process, made at the first call.

    Raises
    ------
    EnginesUnavailable
        If something is missing here; the message says how to get it.
    """
    frontend = install.located()
    with _workers_lock:
        if frontend.folder not in _workers:
            _workers[frontend.folder] = Worker(frontend)
        return _workers[frontend.folder]


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Stop the process for as long as the ``with`` block takes, so that no call is timed beside a build of engines."""
    with contextlib.ExitStack() as stack:
        for each in list(_workers.values()):
            stack.enter_context(each.paused())
        yield


def stop() -> None:
    """End the process, if there is one; the next request starts another."""
    with _workers_lock:
        for each in _workers.values():
            each.stop()


atexit.register(stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.clear)  # the process belongs to the parent
