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


@pytest.mark.parametrize(
    ("device", "spread", "enqueue_ms", "warning"),
    [
        ("cpu", 0.05, None, None),
        ("cpu", 0.3, None, "unstable"),
        ("cuda", 0.05, 0.1, "unstable"),
        ("cuda", 0, 0.5, None),
        ("cuda", 0, 0.9, "host-bound"),
    ],
)
def test_a_spread_beyond_the_device_s_threshold_and_a_gpu_that_waits_for_the_host_are_warned_of(
    device, spread, enqueue_ms, warning
):
    told = of(1 - spread, 1 + spread, device=device, enqueue_ms=enqueue_ms).warning
    assert told is None if warning is None else told.startswith(warning)


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
    assert speedup(latencies["b"], latencies["a"]) > 3


def test_calls_are_interleaved_in_rounds_whose_order_changes():
    seen = []
    calls = {name: lambda name=name: seen.append(name) for name in "abcd"}
    measure(calls, min_samples=6, min_seconds=0)
    rounds = [[name for name, _ in itertools.groupby(seen[i : i + 8])] for i in range(len(seen) - 48, len(seen), 8)]
    assert all(sorted(order) == list("abcd") for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1


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
    while time.process_time() < mine + 0.2:
        sum(range(10_000))
    cores = torch.multiprocessing.cpu_count()
    assert -0.1 < latency.others_seconds() - before < cores * (time.perf_counter() - start) - 0.1
