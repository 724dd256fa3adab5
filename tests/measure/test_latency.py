import itertools
import random
import time

import pytest
import torch

from tutorial_lib.builds.backends import as_device
from tutorial_lib.core.progress import Progress
from tutorial_lib.measure import latency
from tutorial_lib.measure.latency import Latency, measure, speedup


def of(*samples, rounds=1, device="cpu", enqueue_ms=None):
    return Latency(rounds=(tuple(samples),) * rounds, enqueue_ms=enqueue_ms, device=device)


def test_percentiles_are_samples_that_were_seen_as_trtexec_takes_them():
    found = of(*range(1, 11))
    assert [found.percentile(p) for p in (10, 50, 90, 95, 99)] == [1, 5, 9, 10, 10]
    assert found.median_ms == 5.5


def test_throughput_counts_the_samples_of_a_batch():
    assert of(2.0).summary(samples_per_call=8)["samples_per_second"] == 4000


@pytest.mark.parametrize(
    ("device", "spread", "unstable"), [("cpu", 0.05, False), ("cpu", 0.3, True), ("cuda", 0.05, True)]
)
def test_unstable_latencies_carry_a_warning_by_the_device_s_threshold(device, spread, unstable):
    found = of(1 - spread, 1 + spread, device=device, enqueue_ms=None if device == "cpu" else 0.1)
    assert (found.warning is not None) == unstable
    assert not unstable or "unstable" in found.warning


def test_a_gpu_that_waits_for_the_host_is_called_host_bound():
    assert "host-bound" in of(1.0, device="cuda", enqueue_ms=0.9).warning
    assert of(1.0, device="cuda", enqueue_ms=0.5).warning is None


def test_speedup_is_taken_within_rounds_so_that_drift_does_not_count():
    slow = Latency(((2.0,), (20.0,), (200.0,)), None, "cpu")
    fast = Latency(((1.0,), (10.0,), (100.0,)), None, "cpu")
    assert speedup(slow, fast) == 2


def test_each_call_has_as_many_samples_and_seconds_as_asked_for():
    found = measure({"a": lambda: None, "b": lambda: time.sleep(0.001)}, min_samples=4, min_seconds=0.02)
    for times in found.values():
        assert len(times.samples) >= 4
        assert sum(times.samples) >= 20
        assert len(times.rounds) == len(found["a"].rounds)


def test_calls_are_interleaved_in_rounds_whose_order_changes():
    seen = []
    calls = {name: lambda name=name: seen.append(name) for name in "abcd"}
    measure(calls, min_samples=6, min_seconds=0)
    rounds = [[name for name, _ in itertools.groupby(seen[i : i + 8])] for i in range(len(seen) - 48, len(seen), 8)]
    assert all(sorted(order) == list("abcd") for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1


def test_a_slower_call_is_measured_as_slower():
    found = measure(
        {"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.03)}, min_samples=5, min_seconds=0
    )
    assert speedup(found["long"], found["short"]) > 3
    assert speedup(found["short"], found["long"]) < 1


def test_on_a_gpu_device_time_is_not_the_time_of_the_launch():
    device = as_device()
    if device.type != "cuda":
        pytest.skip("no NVIDIA GPU")
    x = torch.randn(4096, 4096, device=device)
    (found,) = measure({"product": lambda: x @ x}, device, min_samples=5, min_seconds=0.01).values()
    assert found.enqueue_ms < found.median_ms


def test_progress_is_told_of_every_group_of_calls():
    steps = []
    measure(dict.fromkeys("ab", lambda: None), min_samples=3, min_seconds=0, progress=steps.append)
    assert steps == [Progress("warming up", 0, 3, "warming up")] * 2 + [
        Progress("measuring", done, 3, f"measuring, round {done + 1} of 3") for done in range(3) for _ in "ab"
    ]


def test_progress_has_more_steps_to_go_while_the_time_is_not_up():
    steps = []
    measure({"a": lambda: None}, min_samples=1, min_seconds=0.005, progress=steps.append)
    assert all(step.done < step.total for step in steps)


def test_progress_is_told_outside_the_time_that_is_measured():
    (found,) = measure({"a": lambda: None}, min_samples=3, min_seconds=0, progress=lambda *_: time.sleep(0.02)).values()
    assert found.median_ms < 10


def test_what_progress_or_after_round_raises_ends_the_measuring():
    class Enough(BaseException):
        pass

    def stops(*_):
        raise Enough

    for told in ("progress", "after_round"):
        with pytest.raises(Enough):
            measure({"a": lambda: None}, **{told: stops})


def test_after_every_round_what_is_known_so_far_is_told():
    seen = []
    found = measure(dict.fromkeys("ab", lambda: None), min_samples=3, min_seconds=0, after_round=seen.append)
    assert [len(one["a"].rounds) for one in seen] == [1, 2, 3]
    assert all(one.keys() == found.keys() for one in seen)
    assert all(found["b"].rounds[: len(one["b"].rounds)] == one["b"].rounds for one in seen)
    assert seen[-1] == found
    assert seen[0]["a"].summary(1)["median_ms"] > 0


def test_gradients_are_off_while_calls_run_and_as_before_afterwards():
    seen = []
    with torch.enable_grad():
        measure({"a": lambda: seen.append(torch.is_grad_enabled())}, min_samples=1, min_seconds=0)
        assert torch.is_grad_enabled()
    assert set(seen) == {False}


@pytest.mark.parametrize("bad", [{"min_samples": 0}, {"min_seconds": -1.0}, {"min_seconds": float("nan")}])
def test_nonsense_settings_are_refused(bad):
    with pytest.raises(ValueError, match="use at least"):
        measure({"a": lambda: None}, **bad)


def test_an_exception_in_a_call_is_not_swallowed():
    def fails():
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        measure({"a": fails})


def test_the_timer_is_named_for_provenance():
    assert "CUDA events" in latency.timer_name(torch.device("cuda"))
    assert "perf_counter" in latency.timer_name(torch.device("cpu"))


def test_in_turns_every_call_is_timed_once_and_in_its_place():
    made = []
    calls = {name: [lambda name=name, n=n: made.append((name, n)) for n in range(3)] for name in "ab"}
    spent = latency.turns(calls, "cpu", random.Random(0))
    assert list(spent) == ["a", "b"]
    assert [len(times) for times in spent.values()] == [3, 3]
    assert min(min(times) for times in spent.values()) > 0
    for name in "ab":  # the first is called once more, untimed
        assert [n for who, n in made if who == name] == [0, 0, 1, 2]
    assert latency.turns({"a": []}, "cpu", random.Random(0)) == {"a": []}
    slow = latency.turns({"a": [lambda: time.sleep(0.02), lambda: None]}, "cpu", random.Random(0))
    assert slow["a"][0] >= 20


def test_while_others_are_at_work_it_measures_again_and_the_quietest_time_counts(monkeypatch):
    told = []

    def quietest(clock, sessions, at_most=9.0):
        results, ticks = iter(range(9)), iter(clock)
        monkeypatch.setattr(latency, "others_seconds", lambda: next(ticks))
        return latency.quietest(lambda: time.sleep(0.1) or next(results), at_most, told.append, sessions)

    number, others = quietest([0.0, 50.0, 100.0, 101.0, 200.0, 230.0], 3)
    assert number == 1
    assert 3 < others <= 10.1  # one second of theirs in a little more than 0.1 of ours
    assert told == ["measuring ...", *["other processes were at work; measuring again ..."] * 2]
    assert quietest([0.0, 50.0], 3, at_most=0.05)[0] == 0  # too long to be repeated
    assert quietest([7.0, 7.0], 3) == (0, 0.0)
    assert quietest([None, None], 3) == (0, None)


def test_other_processes_are_counted_and_this_one_is_not():
    before, mine, start = latency.others_seconds(), time.process_time(), time.perf_counter()
    if before is None:
        pytest.skip("this system does not say how busy its processors are")
    while time.process_time() < mine + 0.5:
        sum(range(10_000))
    cores = torch.multiprocessing.cpu_count()
    assert -0.1 < latency.others_seconds() - before < cores * (time.perf_counter() - start) - 0.4
