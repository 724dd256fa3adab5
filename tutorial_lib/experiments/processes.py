"""One process for each device, as a ``concurrent.futures.Executor``.

``concurrent.futures.ProcessPoolExecutor`` gives up all its work when one of its processes ends early, and
does not say whose work that was. Here only the work of that process fails (:class:`WorkerLost`), and
a new process takes its place. Processes are spawned: a forked one can neither use the parent's GPU
nor its OpenMP threads.
"""

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch

T = TypeVar("T")
_environment = threading.Lock()


class WorkerLost(RuntimeError):
    """A process that ended in the middle of its work."""


def one_per_device() -> list[dict[str, str]]:
    """The environment of a process for each GPU that PyTorch sees; of a single process where there is none."""
    count = torch.cuda.device_count()
    if not count:
        return [{}]
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    names = given.split(",")[:count] if given else map(str, range(count))
    return [{"CUDA_VISIBLE_DEVICES": name.strip()} for name in names]


class Processes(Executor):
    """Calls functions in spawned processes, each of which has one thing to do at a time.

    Parameters
    ----------
    environments : sequence of mappings, optional
        One process for each, with these variables of the environment over those of this process.
        Default: :func:`one_per_device`.

    Examples
    --------
    Two processes of one thread each::

        with Processes([{"OMP_NUM_THREADS": "1"}] * 2) as two:
            future = two.submit(math.sqrt, 2)
    """

    def __init__(self, environments: Sequence[Mapping[str, str]] | None = None) -> None:
        self._work: queue.SimpleQueue[tuple[Future[Any], Any] | None] = queue.SimpleQueue()
        self._closed, self._killed, self._running = False, False, set[BaseProcess]()
        chosen = one_per_device() if environments is None else environments
        self._threads = [threading.Thread(target=self._feed, args=(each,), daemon=True) for each in chosen]
        if not self._threads:
            raise ValueError("there is no process to run anything in; give at least one environment.")
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[..., T], /, *args: Any, **keywords: Any) -> Future[T]:
        """Call a function, which has to be importable, in the next process that is free."""
        if self._closed:
            raise RuntimeError("these processes were shut down; make new ones.")
        future: Future[T] = Future()
        self._work.put((future, (call, args, keywords)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and end each process when its own is done."""
        self._closed = True
        if cancel_futures:
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting = self._work.get_nowait()
                    if waiting:
                        waiting[0].cancel()
        for _ in self._threads:
            self._work.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def kill(self) -> None:
        """End all processes at once, in the middle of their work."""
        self._killed = True
        self.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            process.kill()
        for thread in self._threads:
            thread.join()

    def _feed(self, environment: Mapping[str, str]) -> None:
        """Hand work to one process, and start another when that ends early."""
        worker: _Worker | None = None
        while taken := self._work.get():
            future, work = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if worker is None:
                    worker = _Worker(environment, self._started)
                future.set_result(worker.call(work))
            except BaseException as error:
                if worker and isinstance(error, WorkerLost):
                    self._running.discard(worker.process)
                    worker = None
                future.set_exception(error)
        if worker:
            worker.end()
            self._running.discard(worker.process)

    def _started(self, process: BaseProcess) -> None:
        self._running.add(process)
        if self._killed:  # in the meantime
            process.kill()


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, environment: Mapping[str, str], started: Callable[[BaseProcess], None]) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        try:
            with _with(environment):  # a process has the environment of its parent at its start
                self.process.start()
            started(self.process)
            theirs.close()
            self._pipe.recv()
        except (EOFError, OSError, RuntimeError) as error:
            raise BrokenExecutor(
                f"a process of its own could not start ({self._how()}); "
                "a script has to start its work under `if __name__ == '__main__':`."
            ) from error

    def call(self, work: Any) -> Any:
        """What the process gives for `work`, or the error that it raises."""
        try:
            self._pipe.send(work)
            good, answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise WorkerLost(f"the process that ran it ended early ({self._how()}).") from None
        if not good:
            raise answer
        return answer

    def end(self) -> None:
        """Let the process end."""
        self._pipe.close()
        self.process.join()

    def _how(self) -> str:
        if self.process.pid is None:
            return "it was refused"
        self.process.join(10)
        code = self.process.exitcode
        return f"signal {-code}" if code and code < 0 else f"exit code {code}"


def _serve(pipe: Connection) -> None:
    """What a process does: call what it is given until nothing more comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    pipe.send(None)
    while True:
        try:
            call, args, keywords = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, call(*args, **keywords)
        except BaseException as error:
            answer = False, error
        try:
            pipe.send(answer)
        except Exception as error:  # what cannot be pickled
            pipe.send((False, RuntimeError(f"what the process found cannot be sent: {error}")))


@contextlib.contextmanager
def _with(environment: Mapping[str, str]) -> Iterator[None]:
    with _environment:
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
