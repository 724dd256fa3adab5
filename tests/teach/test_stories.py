"""Sentences chosen by numbers: faster, slower, the same, undecided, and a machine that is too busy."""

import math
from dataclasses import replace

import pytest

from tutorial_lib.experiments import recordings
from tutorial_lib.measure.sweep import EAGER
from tutorial_lib.teach import speed_up, stories

RECORDING = "notebooks/recorded/cpu_quick.json"


@pytest.mark.parametrize(
    ("ratio", "interval", "said", "never"),
    [
        (1.9, (1.7, 2.1), "faster", "slower"),
        (0.5, (0.4, 0.6), "slower", "faster"),
        (1.0, (0.99, 1.02), "as long as", "faster"),
        (1.3, (0.8, 2.4), "Undecided", "faster"),
        (0.004, (0.001, 3.0), "Undecided", "slower:"),
        (2.0, (math.nan, math.nan), "Undecided", "faster"),
        (2.0, (0.0, math.inf), "Undecided", "faster"),
    ],
)
def test_the_sentence_follows_from_the_interval(ratio, interval, said, never):
    sentence = speed_up(ratio=ratio, interval=interval, what="jit")
    assert said in sentence
    assert never not in sentence


def run_with_intervals(width):
    sweep = recordings.load(RECORDING).sweep(model="perceptron", backend="inductor")
    table = sweep.table.copy()
    compiled = table["path"] != EAGER
    table.loc[compiled, "speedup_low"] = table["speedup"] / math.sqrt(width)
    table.loc[compiled, "speedup_high"] = table["speedup"] * math.sqrt(width)
    return replace(sweep, table=table)


def test_a_quiet_run_is_shown_and_a_busy_one_is_replaced_by_a_labelled_recording():
    choice = {"model": "perceptron", "backend": "eager"}
    quiet, busy = run_with_intervals(1.2), run_with_intervals(4.0)
    shown = stories.lesson(quiet, RECORDING, **choice)
    assert (shown.sweep, shown.recorded) == (quiet, False)
    assert "Measured here" in shown.sentence
    replaced = stories.lesson(busy, RECORDING, **choice)
    assert replaced.recorded
    assert replaced.sweep.provenance["backend"] == "eager"
    assert "too busy" in replaced.sentence
    assert "recorded on CPU" in replaced.sentence


def test_a_run_without_intervals_is_no_lesson():
    assert stories.is_busy(run_with_intervals(math.nan))
    assert stories.is_busy(recordings.load(RECORDING).sweep(model="perceptron", backend="eager"))


def test_the_numbers_of_a_row_go_into_the_sentence():
    sweep = run_with_intervals(1.1)
    numbers = stories.row(sweep, "jit", 4)
    (line,) = sweep.table.query("path == 'jit' and tokens == 4").to_dict("records")
    assert numbers["ratio"] == line["speedup"]
    assert numbers["interval"] == (line["speedup_low"], line["speedup_high"])
    older = recordings.load(RECORDING).sweep(model="perceptron", backend="eager")
    assert "without an interval" in speed_up(**stories.row(older, "jit", 4))


def test_two_runs_are_compared_in_units_of_eager_with_both_their_intervals():
    narrow, wide = run_with_intervals(1.02), run_with_intervals(1.5)
    numbers = stories.ratio(narrow, wide, "jit", 4)
    assert numbers["ratio"] == 1
    low, high = numbers["interval"]
    assert (low * high, high / low) == (pytest.approx(1), pytest.approx(1.02 * 1.5))
    assert "Undecided" in speed_up(**numbers)
    assert "as long as" in speed_up(**stories.ratio(narrow, narrow, "jit", 4))
    older = recordings.load(RECORDING).sweep(model="perceptron", backend="eager")
    assert stories.ratio(older, narrow, "jit", 4)["interval"] is None
