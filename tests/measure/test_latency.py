import itertools
import random
import time

import pytest
import torch

from tutorial_lib.core.progress import Progress
from tutorial_lib.measure import latency
from tutorial_lib.measure.latency import Latency, measure, speedup


def of(*samples, device="cpu", enqueue_ms=None):
    return Latency((samples,), enqueue_ms, device)


def test_percentiles_are_samples_that_were_seen_as_trtexec_takes_them():
    latency = of(*range(1, 11))
    assert [latency.percentile(p) for p in (10, 50, 90, 95, 99)] == [1, 5, 9, 10, 10]
    assert latency.median_ms == 5.5


def test_throughput_counts_the_samples_of_a_batch():
    assert of(2.0).summary(samples_per_call=8)["samples_per_second"] == 4000


@pytest.mark.parametrize(
    ("device", "spread", "unstable"), [("cpu", 0.05, False), ("cpu", 0.3, True), ("cuda", 0.05, True)]
)
def test_unstable_latencies_carry_a_warning_by_the_device_s_threshold(device, spread, unstable):
    warning = of(1 - spread, 1 + spread, device=device, enqueue_ms=None if device == "cpu" else 0.1).warning
    assert (warning is not None and "unstable" in warning) == unstable


def test_a_gpu_that_waits_for_the_host_is_called_host_bound():
    assert "host-bound" in of(1.0, device="cuda", enqueue_ms=0.9).warning
    assert of(1.0, device="cuda", enqueue_ms=0.5).warning is None


def test_speedup_is_taken_within_rounds_so_that_drift_does_not_count():
    slow = Latency(((2.0,), (20.0,), (200.0,)), None, "cpu")
    fast = Latency(((1.0,), (10.0,), (100.0,)), None, "cpu")
    assert speedup(slow, fast) == 2


def test_each_call_has_as_many_samples_and_seconds_as_asked_for():
    latencies = measure({"a": lambda: None, "b": lambda: time.sleep(0.001)}, min_samples=4, min_seconds=0.02)
    for times in latencies.values():
        assert len(times.samples) >= 4
        assert sum(times.samples) >= 20
        assert len(times.rounds) == len(latencies["a"].rounds)


def test_calls_are_interleaved_in_rounds_whose_order_changes():
    seen = []
    calls = {name: lambda name=name: seen.append(name) for name in "abcd"}
    measure(calls, min_samples=6, min_seconds=0)
    rounds = [[name for name, _ in itertools.groupby(seen[i : i + 8])] for i in range(len(seen) - 48, len(seen), 8)]
    assert all(sorted(order) == list("abcd") for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1


def test_a_slower_call_is_measured_as_slower():
    calls = {"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.03)}
    latencies = measure(calls, min_samples=5, min_seconds=0)
    assert speedup(latencies["long"], latencies["short"]) > 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")
def test_on_a_gpu_device_time_is_not_the_time_of_the_launch():
    x = torch.randn(4096, 4096, device="cuda")
    (latency,) = measure({"product": lambda: x @ x}, "cuda", min_samples=5, min_seconds=0.01).values()
    assert latency.enqueue_ms < latency.median_ms


def test_progress_is_told_of_every_group_of_calls():
    steps = []
    measure(dict.fromkeys("ab", lambda: None), min_samples=3, min_seconds=1e-9, progress=steps.append)
    assert steps == [Progress("warming up", 0, 3, "warming up")] * 2 + [
        Progress("measuring", done, 3, f"measuring, round {done + 1} of 3") for done in range(3) for _ in "ab"
    ]


def test_progress_is_told_outside_the_time_that_is_measured():
    slow = measure({"a": lambda: None}, min_samples=3, min_seconds=0, progress=lambda _: time.sleep(0.02))
    assert slow["a"].median_ms < 10


@pytest.mark.parametrize("listener", ["progress", "after_round"])
def test_what_a_listener_raises_ends_the_measuring(listener):
    def stops(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure({"a": lambda: None}, **{listener: stops})


def test_after_every_round_the_latencies_so_far_are_told():
    rounds = []
    latencies = measure(dict.fromkeys("ab", lambda: None), min_samples=3, min_seconds=0, after_round=rounds.append)
    assert [len(so_far["b"].rounds) for so_far in rounds] == [1, 2, 3]
    assert all(latencies["b"].rounds[: len(so_far["b"].rounds)] == so_far["b"].rounds for so_far in rounds)
    assert rounds[-1] == latencies


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


def test_in_turns_every_call_is_timed_once_and_in_its_place():
    made = []
    calls = {name: [lambda name=name, n=n: made.append((name, n)) for n in range(3)] for name in "ab"}
    milliseconds = latency.turns({**calls, "none": []}, "cpu", random.Random(0))
    assert {name: len(times) for name, times in milliseconds.items()} == {"a": 3, "b": 3, "none": 0}
    for name in "ab":  # the first is called once more, untimed
        assert [n for key, n in made if key == name] == [0, 0, 1, 2]
    slow = latency.turns({"a": [lambda: time.sleep(0.02), lambda: None]}, "cpu", random.Random(0))
    assert slow["a"][0] >= 20 > slow["a"][1]


@pytest.mark.parametrize(
    ("clock", "at_most", "quietest", "sessions"),
    [
        ([0.0, 50.0, 100.0, 101.0, 200.0, 230.0], 9.0, 1, 3),
        ([0.0, 50.0], 0.01, 0, 1),  # too long to be repeated
        ([7.0, 7.0], 9.0, 0, 1),
    ],
)
def test_while_others_are_at_work_it_measures_again_and_the_quietest_session_counts(
    clock, at_most, quietest, sessions, monkeypatch
):
    told, numbers, ticks = [], iter(range(9)), iter(clock)
    monkeypatch.setattr(latency, "others_seconds", lambda: next(ticks))
    number, cores = latency.quietest(lambda: time.sleep(0.05) or next(numbers), at_most, told.append)
    assert number == quietest
    others = clock[2 * number + 1] - clock[2 * number]
    assert others / 5 <= cores <= others / 0.05
    assert told == ["measuring ...", *["other processes were at work; measuring again ..."] * (sessions - 1)]


def test_other_processes_are_counted_and_this_one_is_not():
    before, mine, start = latency.others_seconds(), time.process_time(), time.perf_counter()
    while time.process_time() < mine + 0.5:
        sum(range(10_000))
    cores = torch.multiprocessing.cpu_count()
    assert -0.1 < latency.others_seconds() - before < cores * (time.perf_counter() - start) - 0.4
