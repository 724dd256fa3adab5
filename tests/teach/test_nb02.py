"""Notebook 2: the panel, the exercises, and their keys, which are those of real engines."""

import json
from pathlib import Path

import pytest

from tutorial_lib import engines, expand_reshape, teach
from tutorial_lib.teach.exercises.nb02 import PROFILES
from tutorial_lib.teach.lessons.nb02 import asked_for
from tutorial_lib.teach.panels.nb02_profiles import EXAMPLES

RECORDING = Path("notebooks/02_what_tensorrt_really_gets.json")


def profile(low, example, high):
    return (1 if low == 2 else low, max(example, 2), high)


def refuse(low, high, sentence="batch is {}"):
    def check_batch(x):
        if not low <= x.shape[0] <= high:
            raise ValueError(sentence.format(x.shape[0]))

    return check_batch


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("02.profile", lambda low, example, high: (low, example, high), "for (2, 4, 32) TensorRT got (1, 4, 32)"),
        ("02.profile", lambda low, example, high: (1, max(example, 2), high), "for (3, 8, 64)"),
        ("02.range-check", refuse(2, 32), None),
        ("02.range-check", refuse(1, 32), "batch 1 passes"),
        ("02.range-check", refuse(3, 32), "batch 2 is in the range"),
        ("02.range-check", refuse(2, 64), "batch 33 passes"),
        ("02.range-check", refuse(2, 32, "no"), "does not name the batch"),
        ("02.range-check", lambda x: True, "return nothing, not a bool"),
        ("02.took-part", lambda report: sum(each.operators for each in report.engines) * bool(report.result), None),
        ("02.took-part", lambda report: report.result, "PyTorch agrees with itself, without any engine"),
        ("02.took-part", lambda report: report.engines, "'a wrong weight' should fail, since the output differs"),
        ("02.took-part", lambda report: report.engines and report.result is not False, "'an error after the build'"),
        ("02.took-part", lambda report: len(report.engines) == 1 and report.result, "'a model in two parts'"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged):
    judged(key, answer, said)


def test_the_rule_of_profiles_is_judged_by_what_real_engines_had(judged):
    table = judged("02.profile", profile).table
    assert list(table["TensorRT got"]) == list(table["yours"])


@pytest.fixture
def panel(nothing_can_be_built):
    """The panel on a machine that can build nothing, so with what was recorded."""
    return teach.panels.profiles(RECORDING)


def test_the_panel_shows_what_was_typed_beside_what_tensorrt_got(panel):
    assert "Typed 2 / 4 / 32. jit got 1 / 4 / 32, and calls at 1 and 33 built further engines" in panel.told.value
    assert "export got 1 / 4 / 32." in panel.told.value
    assert "recorded with" in panel.told.value
    assert "<img" in panel.figure.value
    for example in EXAMPLES:
        assert panel.build(*example).startswith("Typed"), "every example is recorded"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [((4, 2, 8), "opt is 2"), ((1, 2, 10**9), "up to 1024"), ((1, 2, 77), "not recorded")],
)
def test_the_panel_says_why_it_does_not_build_and_keeps_what_it_shows(panel, typed, sentence):
    figure = panel.figure.value
    assert sentence in panel.build(*typed)
    assert panel.figure.value == figure


def test_the_picture_is_grey_while_the_entries_are_not_what_it_shows(panel):
    def is_grey():
        return "tl-stale" in panel.figure._dom_classes

    assert not is_grey()
    panel.example.value = (1, 4, 32)
    assert is_grey()
    panel.build_button.click()
    assert "Typed 1 / 4 / 32" in panel.told.value
    assert not is_grey()
    panel.build(4, 2, 8)
    assert is_grey()
    panel.type(1, 4, 32)
    assert not is_grey()


def test_the_exercise_looks_at_the_last_state_of_the_panel(panel, judged):
    judged("02.no-surprise", panel.reports, "the call at batch 1 built another engine")
    panel.build(1, 4, 32)
    judged("02.no-surprise", panel.reports)


@pytest.mark.slow
def test_the_profiles_of_the_key_are_those_of_real_engines(installed):
    for typed, real in PROFILES.items():
        (report,) = engines.build_all(expand_reshape(typed, embed_dim=24, tokens=3), ["export"])
        assert asked_for(report.engines[0]) == real


def test_the_recording_has_no_more_than_the_notebook_asks_for():
    assert len(json.loads(RECORDING.read_text())) < 25
