"""One thread works for all: the newest request of a kind wins, and nobody is left waiting."""

import random
import sys
import threading
import time
from collections import Counter

import pytest
from jupyter_client.manager import start_new_kernel
from studio_page import PATIENCE, until

from tutorial_lib.core.progress import Cancelled
from tutorial_lib.studio.worker import RunCancelled, Worker


@pytest.fixture
def worker():
    return Worker("worker of a test")


class Held:
    """Work that goes on until it is let go, or sees that it is cancelled."""

    def __init__(self, result=None, stoppable=True):
        self.result, self.stoppable = result, stoppable
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, job):
        self.begun.set()
        deadline = time.monotonic() + PATIENCE
        while not self.go.wait(0.005):
            assert time.monotonic() < deadline
            if self.stoppable:
                job.check()
        return self.result


def running(worker, kind="a", **more):
    """A job that has begun, and what holds it."""
    held = Held(**more)
    job = worker.submit(kind, held)
    assert held.begun.wait(PATIENCE)
    return job, held


def fails(error):
    def work(job):
        raise error

    return work


def assert_cancelled(*jobs):
    for job in jobs:
        with pytest.raises(RunCancelled, match="cancelled, or a newer one took its place"):
            job.result(PATIENCE)


def test_one_daemon_thread_does_all_work_and_returns_the_results(worker):
    threads = {worker.submit("a", lambda job: threading.current_thread()).result(PATIENCE) for _ in range(20)}
    (thread,) = threads
    assert (thread.name, thread.daemon) == ("worker of a test", True)
    job, held = running(worker, result=7)
    assert worker.busy
    with pytest.raises(TimeoutError):
        job.result(0.01)
    held.go.set()
    assert job.result(PATIENCE) == 7
    assert job.done()
    until(lambda: not worker.busy)


def test_a_newer_job_takes_the_place_of_one_of_its_kind_and_other_kinds_take_turns(worker):
    first, held = running(worker, "other")
    ran = []
    old = worker.submit("a", lambda job: ran.append("old"))
    between = worker.submit("b", lambda job: ran.append("b"))
    new = worker.submit("a", lambda job: ran.append("new"))
    assert_cancelled(old)  # at once, while the worker is still held
    held.go.set()
    for job in (first, between, new):
        job.result(PATIENCE)
    assert ran == ["b", "new"]


@pytest.mark.parametrize("stoppable", [True, False])
def test_a_newer_job_cancels_one_of_its_kind_that_runs(worker, stoppable):
    old, held = running(worker, stoppable=stoppable, result="late")
    new = worker.submit("a", lambda job: "new")
    assert old.cancelled
    if not stoppable:
        assert not old.done()
        held.go.set()
    assert_cancelled(old)
    assert new.result(PATIENCE) == "new"


def test_a_kind_that_asks_again_and_again_does_not_keep_another_from_its_turn(worker):
    asked, begun, other_asked = [], threading.Event(), threading.Event()

    def again(job):
        begun.set()
        assert other_asked.wait(PATIENCE)
        asked.append(job)
        if len(asked) < 50:
            worker.submit("a", again)

    worker.submit("a", again)
    assert begun.wait(PATIENCE)
    other = worker.submit("b", lambda job: len(asked))
    other_asked.set()
    assert other.result(PATIENCE) == 1
    until(lambda: len(asked) == 50)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_reaches_whoever_waits_and_the_worker_goes_on(worker, error):
    with pytest.raises(error, match="boom"):
        worker.submit("a", fails(error("boom"))).result(PATIENCE)
    assert worker.submit("a", lambda job: 1).result(PATIENCE) == 1


def test_a_job_can_be_cancelled_before_and_while_it_runs_but_not_afterwards(worker):
    job, _ = running(worker, "other")
    ran, ended = [], []
    waiting = [worker.submit(kind, lambda job: ran.append(1)) for kind in "ab"]
    waiting[0].when_done(lambda: ended.append("a"))
    worker.cancel("a")
    assert waiting[0].done()  # nobody has to wait for its turn to hear that
    assert ended == ["a"]
    waiting[1].cancel()
    job.cancel()
    assert_cancelled(job, *waiting, worker.submit("c", fails(Cancelled())))
    assert ran == []
    done = worker.submit("a", lambda job: 1)
    assert done.result(PATIENCE) == 1
    done.cancel()
    worker.cancel("a")
    assert done.result() == 1


ENDLESS = """
import time
from tutorial_lib.studio.worker import Worker
def endless(job):
    print("begun", flush=True)
    while True:
        job.check()
        time.sleep(0.01)
await Worker("endless").submit("a", endless)
"""


@pytest.mark.slow
def test_the_interrupt_of_a_kernel_ends_an_await():
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        asked = client.execute(ENDLESS)
        while client.get_iopub_msg(timeout=PATIENCE)["content"].get("text") != "begun\n":
            pass
        manager.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=5))["parent_header"]["msg_id"] != asked:
            pass  # a kernel that starts slowly is asked more than once whether it is there
        assert reply["content"]["ename"] == "CancelledError"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_many_threads_that_ask_at_once_end_with_one_last_job_done_and_none_stuck(worker):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    runs, jobs, lock = Counter(), [], threading.Lock()
    start = threading.Barrier(8)

    def work(number):
        def run(job):
            with lock:
                runs[number] += 1
            for _ in range(random.Random(str(number)).randrange(4)):
                job.check()
                time.sleep(0)
            return number

        return run

    def asks(thread):
        chance = random.Random(thread)
        start.wait(PATIENCE)
        for turn in range(60):
            number = thread, turn
            job = worker.submit(chance.choice("ab"), work(number))
            with lock:
                jobs.append((number, job))
            if chance.random() < 0.1:
                chance.choice([job.cancel, lambda: worker.cancel("b")])()

    threads = [threading.Thread(target=asks, args=(number,)) for number in range(8)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(interval)
    last = {kind: worker.submit(kind, work(kind)) for kind in "ab"}
    assert {kind: job.result(PATIENCE) for kind, job in last.items()} == {"a": "a", "b": "b"}
    assert max(runs.values()) == 1
    for number, job in jobs:
        try:
            assert job.result(PATIENCE) == number
            assert runs[number] == 1
        except RunCancelled:
            assert job.cancelled
    until(lambda: not worker.busy)
