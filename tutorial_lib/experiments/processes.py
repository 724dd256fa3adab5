"""One process for each device, as a ``concurrent.futures.Executor``.

A ``ProcessPoolExecutor`` gives up all its work when one of its processes ends early, and does not say whose work that
was. So each device has a pool of a single process here: only its own work fails (:class:`WorkerLost`), and a new
pool takes its place. Processes are spawned, because a fork can neither use the parent's GPU nor its OpenMP threads.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

T = TypeVar("T")
_starting = threading.Lock()


class WorkerLost(RuntimeError):
    """A process that ended in the middle of its work."""


def one_per_device() -> list[dict[str, str]]:
    """The environment of a process for each GPU that PyTorch sees; of a single process where there is none."""
    count = torch.cuda.device_count()
    if not count:
        return [{}]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    names = visible.split(",")[:count] if visible else map(str, range(count))
    return [{"CUDA_VISIBLE_DEVICES": name.strip()} for name in names]


class Processes(Executor):
    """Calls functions in spawned processes, each of which does one thing at a time.

    Parameters
    ----------
    environments : sequence of mappings, optional
        One process for each, with these environment variables in addition to those of this process.
        Default: :func:`one_per_device`.

    Examples
    --------
    Two processes of one thread each::

        with Processes([{"OMP_NUM_THREADS": "1"}] * 2) as two:
            future = two.submit(math.sqrt, 2)
    """

    def __init__(self, environments: Sequence[Mapping[str, str]] | None = None) -> None:
        environments = one_per_device() if environments is None else environments
        if not environments:
            raise ValueError("there is no process to run anything in; give at least one environment.")
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._workers = [_Worker(environment) for environment in environments]
        for worker in self._workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(len(self._workers))  # each waits for one process

    def submit(self, call: Callable[..., T], /, *args: Any, **keywords: Any) -> Future[T]:
        """Call a function, which has to be importable, in the next process that is free."""
        return self._threads.submit(self._call, call, args, keywords)

    def _call(self, call: Callable[..., T], args: Any, keywords: Any) -> T:
        worker = self._free.get()
        try:
            return worker.call(call, args, keywords)
        finally:
            self._free.put(worker)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and end each process when its own is done."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            for worker in self._workers:
                worker.end()

    def kill(self) -> None:
        """End all processes at once, in the middle of their work."""
        self.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self.shutdown()


class _Worker:
    """A pool of one process, which is started when there is work and again when it was lost."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._pool: ProcessPoolExecutor | None = None
        self._process: Any = None
        self._killed = False

    def call(self, call: Callable[..., T], args: Any, keywords: Any) -> T:
        """What the process returns, or the error that it raises."""
        pool = self._pool or self._start()
        try:
            return pool.submit(call, *args, **keywords).result()
        except BrokenProcessPool:
            self.end()
            code = self._process.exitcode
            how = f"signal {-code}" if code and code < 0 else f"exit code {code}"
            raise WorkerLost(f"the process that ran it ended early ({how}).") from None

    def _start(self) -> ProcessPoolExecutor:
        self._process = None
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare)
        try:
            with _with(self._environment):  # a process has the environment of its parent at its start
                started = self._pool.submit(os.getpid)
            children = {child.pid: child for child in multiprocessing.active_children()}
            self._process = children[started.result()]
        except (BrokenProcessPool, RuntimeError, OSError) as error:
            self.end()
            raise BrokenExecutor(
                "a process of its own could not start; a script has to start its work under "
                "`if __name__ == '__main__':`."
            ) from error
        if self._killed:  # in the meantime
            self.kill()
        return self._pool

    def kill(self) -> None:
        """End the process at once."""
        self._killed = True
        if self._process:
            self._process.kill()

    def end(self) -> None:
        """Let the process end; the next call starts another."""
        if self._pool:
            self._pool.shutdown()
            self._pool = None


def _prepare() -> None:
    """Leave Ctrl-C to the process that waits, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@contextlib.contextmanager
def _with(environment: Mapping[str, str]) -> Iterator[None]:
    with _starting:
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
