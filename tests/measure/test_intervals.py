"""Intervals of medians and ratios, and rounds that go on until these say something."""

import importlib
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tutorial_lib import PATHS
from tutorial_lib.measure import intervals, latency
from tutorial_lib.measure.latency import Latency, measure, speedup_interval
from tutorial_lib.measure.sweep import EAGER, sweep

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def of(*rounds):
    return Latency(tuple((value,) for value in rounds), None, "cpu")


@pytest.fixture
def made_up(monkeypatch):
    """Calls are not timed: they return their milliseconds."""
    monkeypatch.setattr(latency, "_timed_on_cpu", lambda call, repeats: ([call() for _ in range(repeats)], []))


@pytest.mark.parametrize(("count", "left_out"), [(8, 0), (12, 1), (20, 3), (100, 36)])
def test_enough_rounds_leave_out_as_many_at_each_end_as_the_binomial_distribution_allows(count, left_out):
    values = random.Random(0).sample(range(1, count + 1), count)
    assert intervals.of(values) == (1 + left_out, count - left_out)
    outside = sum(math.comb(count, number) for number in range(left_out + 1)) * 2 / 2**count
    one_more = outside + math.comb(count, left_out + 1) * 2 / 2**count
    assert outside <= 1 - intervals.LEVEL < one_more


def test_few_rounds_give_an_interval_that_is_wider_than_all_they_saw_and_one_round_none():
    widths = []
    for count in range(2, 8):
        low, high = intervals.of([1.0, 1.1, *[1.05] * (count - 2)])
        assert low < 1.0 < 1.1 < high
        widths.append(high / low)
    assert widths == sorted(widths, reverse=True)
    assert all(map(math.isnan, intervals.of([1.0])))


def test_the_interval_of_a_latency_contains_its_median_of_all_samples():
    times = Latency(((1.0, 9.0, 9.0), *[(1.0, 1.0, 9.0, 9.0, 9.0)] * 7), None, "cpu")
    low, high = times.interval_ms
    assert low <= times.median_ms <= high
    shifted = Latency((*[(1.0,)] * 8, (5.0,) * 99), None, "cpu")
    assert shifted.interval_ms == (1.0, 5.0)
    summary = of(*range(1, 21)).summary(1)
    assert (summary["low_ms"], summary["high_ms"]) == (4, 17)


def test_the_interval_of_a_speedup_is_of_ratios_within_rounds_so_that_drift_does_not_count():
    drift = [10.0**number for number in range(9)]
    slow, fast = of(*(3 * value for value in drift)), of(*drift)
    assert speedup_interval(slow, fast) == pytest.approx((3, 3))


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        ((1.001, 9.0), intervals.APART),
        ((0.5, 0.99), intervals.APART),
        ((0.98, 1.02), intervals.SAME),
        ((1.01, 1.02), intervals.SAME),  # apart as well, but by nothing that matters
        ((0.98, 1.04), intervals.OPEN),
        ((0.96, 1.0), intervals.OPEN),
        ((math.nan, math.nan), intervals.OPEN),
    ],
)
def test_two_latencies_are_told_apart_equal_or_neither(ratio, verdict):
    assert intervals.verdict(ratio) == verdict


def test_looks_at_the_intervals_become_ever_fewer():
    looks = [2, 3]
    while looks[-1] < 60:
        looks.append(intervals.next_look(looks[-1]))
    assert looks == [2, 3, 5, 8, 12, 18, 27, 41, 62]


def test_what_is_answered_is_measured_no_more_and_the_rest_goes_on(made_up):
    calls = dict.fromkeys(("early", "late"), lambda: 50.0)
    left = {3: ["early"], 12: ["early", "late"]}
    asked = []

    def enough(so_far):
        asked.append(len(so_far["late"].rounds))
        return left.get(asked[-1], left[3])

    times = measure(calls, min_samples=3, min_seconds=0, budget=math.inf, enough=enough)
    assert asked == [3, 5, 8, 12]
    assert {name: len(each.rounds) for name, each in times.items()} == {"early": 3, "late": 12}


def test_no_round_begins_when_the_budget_is_spent_but_those_that_were_asked_for(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))  # a second for each round
    monkeypatch.setattr(latency, "_timed_on_cpu", lambda call, repeats: ([50.0] * repeats, []))

    def rounds(**more):
        return len(measure({"a": lambda: None}, min_seconds=0, enough=lambda _: (), **more)["a"].rounds)

    assert rounds(min_samples=2, budget=5.0) == 5
    assert rounds(min_samples=7, budget=5.0) == 7
    assert rounds(min_samples=2, budget=math.inf) == intervals.MOST_ROUNDS


def test_the_number_of_calls_in_a_round_is_odd_so_that_their_median_is_as_often_too_low_as_too_high():
    for seconds in (0.0, 0.0004, 0.002):
        times = measure({"a": lambda: None}, min_samples=2, min_seconds=seconds)
        assert all(len(group) % 2 for group in times["a"].rounds)


def test_a_sweep_goes_on_at_a_size_until_its_programs_are_told_apart_or_equal(made_up, built, seed, monkeypatch):
    rng, spreads = random.Random(0), {1: 0.001, 4: 0.05}
    speeds = {EAGER: 50.0, "jit": 40.0, "export": 40.0}
    original = latency.measure

    def without_running(calls, *arguments, **more):
        def call(name, index):
            return lambda: speeds[name] * math.exp(rng.gauss(0, spreads[(1, 4)[index]]))

        return original({key: call(*key) for key in calls}, *arguments, **more)

    monkeypatch.setattr(latency, "measure", without_running)
    case = seed.to("cpu")  # a GPU is timed by events, which know nothing of times that are made up
    programs = {name: built(name, "eager", case) for name in ("jit", "export")}
    steps = []
    swept = sweep(programs, [1, 4], min_samples=3, min_seconds=0, budget=60, progress=steps.append)
    assert swept.provenance["budget_seconds"] == 60
    rounds = swept.table.set_index(["batch", "path"])["calls"]
    assert set(rounds[1]) == {3}
    assert len(set(rounds[4])) == 1
    assert rounds[4, "jit"] > 8
    for row in swept.table.to_dict("records"):
        assert row["low_ms"] <= row["median_ms"] <= row["high_ms"]
        assert row["speedup_low"] <= row["speedup"] <= row["speedup_high"]
    pairs = swept.pairs.set_index("batch")
    assert pairs.loc[1, "speedup_low"] > 1 / 1.03
    assert pairs.loc[1, "speedup_high"] < 1.03
    assert any("not told apart yet" in step.text for step in steps)


@pytest.fixture(scope="module")
def swept(built, seed):
    return sweep({name: built(name, "eager", seed) for name in PATHS}, [1, 4], min_samples=1, min_seconds=0)


def judged(swept, versus_eager, pairs):
    """The sweep with the same interval for every path against eager, and one for every pair."""
    names = ["speedup_low", "speedup_high"]
    table = swept.table.assign(low_ms=1.0, **dict(zip(names, versus_eager, strict=True)))
    return replace(swept, table=table, pairs=swept.pairs.assign(**dict(zip(names, pairs, strict=True))))


def test_the_result_says_how_sure_it_is(swept):
    assert swept.certainty == "", "one round says nothing"
    start = "Of 12 comparisons of two latencies at one size, "
    assert judged(swept, (1.2, 1.4), (0.99, 1.01)).certainty == f"{start}6 are told apart, 6 are equal within 3 %."
    assert judged(swept, (1.2, 1.4), (1.1, 1.2)).certainty == f"{start}12 are told apart."
    unsure = judged(swept, (1.2, 1.4), (0.9, 1.2)).certainty
    assert unsure.startswith(f"{start}6 are told apart, 6 are not told apart in the time: jit and input at batch 1; ")
    assert unsure.endswith(" and 3 more.")


def test_tables_without_intervals_say_nothing(swept):
    old = replace(swept, table=swept.table.drop(columns=["low_ms", "high_ms", "speedup_low", "speedup_high"]))
    assert old.certainty == ""
    assert "interval ms" not in old.summary()
    assert "interval ms" in swept.summary()


def test_the_rows_of_the_summary_are_short_and_the_table_has_the_whole_warning(swept):
    table = judged(swept, (1.2, 1.4), (1.1, 1.2)).table
    table = table.assign(low_ms=1.0, high_ms=2.5, warning="unstable: the coefficient of variation is 14%")
    row = replace(swept, table=table).summary().iloc[0]
    assert (row["interval ms"], row["interval"], row["note"]) == ("1.000–2.500", "1.20–1.40", "unstable")


@pytest.fixture
def coverage(monkeypatch):
    """The benchmark of that name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("coverage_of_intervals")


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.01, 0.05, 0.15])
@pytest.mark.parametrize("kind", ["lognormal", "bimodal", "spiked", "exponential"])
def test_intervals_hold_what_is_true_in_90_of_100_runs_that_stop_by_themselves(kind, spread, coverage):
    for ratio in coverage.RATIOS:
        _, median, of_ratio = coverage.coverage(coverage.KINDS[kind](spread), ratio, runs=200)
        assert min(median, of_ratio) >= 0.9, ratio


@pytest.mark.slow
def test_intervals_hold_what_is_true_on_a_machine_that_becomes_slower(coverage):
    for ratio in coverage.RATIOS:
        drift = coverage.drifting(intervals.MOST_ROUNDS)
        rounds, median, of_ratio = coverage.coverage(coverage.lognormal(0.05), ratio, runs=200, drift=drift)
        assert min(median, of_ratio) >= 0.9, ratio
        assert rounds < intervals.MOST_ROUNDS


def test_recorded_rounds_are_replayed_from_each_of_them_and_both_programs_stay_in_step(coverage):
    rng = random.Random(0)
    machine = [2.0 ** rng.randint(-2, 2) for _ in range(2 * intervals.MOST_ROUNDS)]
    rounds = {"eager": [4.0 * value for value in machine], "export": machine}
    runs, mean_rounds, _, of_ratio = coverage.replayed(rounds)
    assert runs == intervals.MOST_ROUNDS
    assert (mean_rounds, of_ratio) == (3, 1), "the ratio is the same in every round, whatever the machine does"
