"""One thread works for all: the newest request of a kind wins, and nobody is left waiting."""

import asyncio
import random
import sys
import threading
import time
from collections import Counter

import pytest

from tutorial_lib.core.progress import Cancelled
from tutorial_lib.studio.worker import Job, RunCancelled, Worker

PATIENCE = 60


@pytest.fixture
def worker():
    return Worker("worker of a test")


class Held:
    """Work that goes on until it is let go, or sees that it is cancelled."""

    def __init__(self, result=None, stoppable=True):
        self.result, self.stoppable = result, stoppable
        self.begun, self.go, self.runs = threading.Event(), threading.Event(), 0

    def __call__(self, job):
        self.runs += 1
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


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_work_is_done_on_the_workers_thread_and_its_result_comes_back(worker):
    caller = threading.current_thread().name
    job = worker.submit("a", lambda job: threading.current_thread().name, about="what for")
    assert job.result(PATIENCE) == "worker of a test" != caller
    assert job.done()
    assert not job.cancelled
    assert (job.kind, job.about) == ("a", "what for")
    until(lambda: not worker.busy)


def test_submit_returns_before_the_work_is_done(worker):
    job, held = running(worker)
    assert not job.done()
    assert worker.busy
    with pytest.raises(TimeoutError):
        job.result(0.01)
    held.go.set()
    job.result(PATIENCE)


def test_a_newer_job_of_the_kind_takes_the_place_of_one_that_waits(worker):
    _, held = running(worker, "other")
    old, ran = worker.submit("a", lambda job: ran.append("old")), []
    new = worker.submit("a", lambda job: ran.append("new") or "new")
    with pytest.raises(RunCancelled, match="cancelled, or a newer one took its place"):
        old.result(PATIENCE)  # at once, while the worker is still held
    assert old.cancelled
    held.go.set()
    assert new.result(PATIENCE) == "new"
    assert ran == ["new"]


def test_a_newer_job_of_the_kind_cancels_one_that_runs(worker):
    old, _ = running(worker)
    new = worker.submit("a", lambda job: "new")
    assert new.result(PATIENCE) == "new"
    with pytest.raises(RunCancelled):
        old.result(PATIENCE)


def test_what_a_cancelled_job_still_returns_or_raises_is_dropped_or_told(worker):
    old, held = running(worker, stoppable=False, result="late")
    worker.cancel("a")
    assert not old.done()
    held.go.set()
    with pytest.raises(RunCancelled):
        old.result(PATIENCE)


def test_another_kind_is_not_cancelled_and_kinds_take_turns(worker):
    order = []
    first, held = running(worker, "a")
    second = worker.submit("b", lambda job: order.append("b"))
    third = worker.submit("c", lambda job: order.append("c"))
    again = worker.submit("b", lambda job: order.append("b again"))
    assert not first.cancelled
    assert order == []
    held.go.set()
    third.result(PATIENCE)
    again.result(PATIENCE)
    assert sorted(order) == ["b again", "c"]
    assert second.cancelled
    first.result(PATIENCE)


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
    def fails(job):
        raise error("boom")

    job = worker.submit("a", fails)
    with pytest.raises(error, match="boom"):
        job.result(PATIENCE)
    assert worker.submit("a", lambda job: 1).result(PATIENCE) == 1


def test_cancelled_before_it_begins_it_never_begins(worker):
    _, held = running(worker, "other")
    ran = []
    jobs = [worker.submit(kind, lambda job: ran.append(1)) for kind in "ab"]
    worker.cancel("a")
    assert jobs[0].done()  # nobody has to wait for its turn to hear that
    jobs[1].cancel()
    held.go.set()
    for job in jobs:
        with pytest.raises(RunCancelled):
            job.result(PATIENCE)
    assert ran == []


def test_cancelled_while_it_runs_it_stops_at_its_next_check(worker):
    job, held = running(worker)
    job.cancel()
    assert job.cancelled
    with pytest.raises(RunCancelled):
        job.result(PATIENCE)
    assert held.runs == 1


def test_cancelling_what_is_done_changes_nothing(worker):
    job = worker.submit("a", lambda job: 1)
    job.result(PATIENCE)
    job.cancel()
    worker.cancel("a")
    worker.cancel("unknown")
    assert job.result() == 1
    assert worker.submit("a", lambda job: 2).result(PATIENCE) == 2


def test_work_that_raises_cancelled_itself_was_cancelled(worker):
    def stops(job):
        raise Cancelled

    with pytest.raises(RunCancelled):
        worker.submit("a", stops).result(PATIENCE)


def test_a_job_of_a_result_has_ended_with_it():
    job = Job.of(7)
    assert job.done()
    assert job.result() == 7
    assert asyncio.run(waits_for(job)) == 7


async def waits_for(job):
    return await job


def test_an_event_loop_stays_alive_while_it_awaits_a_job(worker):
    job, held = running(worker, result="done")

    async def both():
        turns = 0

        async def turn():
            nonlocal turns
            while turns < 5:
                await asyncio.sleep(0.001)
                turns += 1
            held.go.set()

        return await asyncio.gather(job, turn()), turns

    (result, _), turns = asyncio.run(both())
    assert (result, turns) == ("done", 5)


def test_an_await_raises_what_the_work_raised(worker):
    def fails(job):
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        asyncio.run(waits_for(worker.submit("a", fails)))


def test_an_interrupted_await_cancels_the_work(worker):
    job, held = running(worker)

    async def interrupted():
        task = asyncio.ensure_future(waits_for(job))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    with pytest.raises(RunCancelled):
        job.result(PATIENCE)
    assert held.runs == 1


def test_an_await_with_a_time_limit_cancels_the_work(worker):
    job, _ = running(worker)

    async def limited():
        async with asyncio.timeout(0.01):
            await job

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    with pytest.raises(RunCancelled):
        job.result(PATIENCE)


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
        choose = random.Random(thread)
        start.wait(PATIENCE)
        for turn in range(60):
            kind, number = choose.choice("ab"), (thread, turn)
            job = worker.submit(kind, work(number))
            with lock:
                jobs.append((number, job))
            if choose.random() < 0.1:
                choose.choice([job.cancel, lambda: worker.cancel("b")])()

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
    assert sum(thread.name == "worker of a test" and thread.is_alive() for thread in threading.enumerate()) >= 1


def test_one_thread_serves_all_jobs_and_does_not_keep_the_kernel_alive(worker):
    seen = {worker.submit("a", lambda job: threading.current_thread()).result(PATIENCE) for _ in range(20)}
    assert len(seen) == 1
    assert seen.pop().daemon
