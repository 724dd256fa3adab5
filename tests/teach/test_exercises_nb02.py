"""The exercises and the panel of notebook 2: right answers, wrong ones with what is said to them, and the keys."""

import json
from pathlib import Path

import pytest

from tutorial_lib import engines, expand_reshape, teach
from tutorial_lib.engines import EnginesUnavailable, install
from tutorial_lib.teach import check
from tutorial_lib.teach.exercises.nb02 import PROFILES
from tutorial_lib.teach.lessons.nb02 import asked_for
from tutorial_lib.teach.panels.nb02_profiles import EXAMPLES

RECORDING = Path("notebooks/02_what_tensorrt_really_gets.json")


def said(key, answer):
    feedback = check(key, answer)
    assert not feedback.right
    return feedback.sentence


def test_the_rule_of_profiles_is_judged_by_what_real_engines_had():
    feedback = check("02.profile", lambda low, example, high: (1 if low == 2 else low, max(example, 2), high))
    assert feedback.right
    assert list(feedback.table["TensorRT got"]) == list(feedback.table["yours"])


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (lambda low, example, high: (low, example, high), "for (2, 4, 32) TensorRT got (1, 4, 32)"),
        (lambda low, example, high: (1, max(example, 2), high), "for (3, 8, 64)"),
        (lambda low, example, high: (1 if low == 2 else low, example, high), "for (1, 1, 32) TensorRT got (1, 2, 32)"),
        (lambda low, example, high: (..., ..., ...), "still returns `...`"),
        (lambda low: low, "raised TypeError"),
    ],
)
def test_a_wrong_rule_is_told_the_first_case_that_it_misses(rule, sentence):
    assert sentence in said("02.profile", rule)


def refuse(low, high, sentence="batch is {}"):
    def check_batch(x):
        if not low <= x.shape[0] <= high:
            raise ValueError(sentence.format(x.shape[0]))

    return check_batch


def test_a_check_in_front_lets_the_range_pass_and_names_what_it_refuses():
    assert check("02.range-check", refuse(2, 32)).right
    assert "batch 1 passes" in said("02.range-check", refuse(1, 32))
    assert "batch 2 is in the range" in said("02.range-check", refuse(3, 32))
    assert "batch 33 passes" in said("02.range-check", refuse(2, 64))
    assert "does not name the batch" in said("02.range-check", refuse(2, 32, "no"))
    assert "return nothing, not a bool" in said("02.range-check", lambda x: True)


@pytest.mark.parametrize(
    "took_part",
    [
        lambda report: len(report.engines) > 0 and report.result is True,
        lambda report: bool(report.engines) and report.result and report.error is None,
        lambda report: sum(engine.operators for engine in report.engines) * bool(report.result),
    ],
)
def test_a_check_that_counts_engines_and_compares_is_right(took_part):
    feedback = check("02.took-part", took_part)
    assert feedback.right
    assert list(feedback.table["should"]) == list(feedback.table["with your check"])


@pytest.mark.parametrize(
    ("took_part", "sentence"),
    [
        (lambda report: report.result, "PyTorch agrees with itself, without any engine; your check lets it pass"),
        (lambda report: report.engines, "'a wrong weight' should fail, since the output differs"),
        (lambda report: report.engines and report.result is not False, "'an error after the build' should fail"),
        (lambda report: len(report.engines) == 1 and report.result, "'a model in two parts' should pass"),
        (lambda report: None, "'min_block_size 3' should pass"),
        (lambda report: report.engines[0].operators > 2, "raised IndexError"),
        (lambda report: ..., "still returns `...`"),
    ],
)
def test_a_check_that_lets_the_wrong_reports_pass_is_told_the_first(took_part, sentence):
    assert sentence in said("02.took-part", took_part)


@pytest.fixture
def panel(monkeypatch):
    """The panel on a machine that can build nothing, so with what was recorded."""

    def located():
        raise EnginesUnavailable("TensorRT for RTX is not installed here.")

    monkeypatch.setattr(install, "located", located)
    return teach.panels.profiles(RECORDING)


def test_the_panel_shows_what_was_typed_beside_what_tensorrt_got(panel):
    assert "Typed 2 / 4 / 32. jit got 1 / 4 / 32, and calls at 1 and 33 built further engines" in panel.told.value
    assert "export got 1 / 4 / 32." in panel.told.value
    assert "recorded with" in panel.told.value
    assert "<img" in panel.figure.value
    panel.example.value = (1, 4, 32)
    panel.build_button.click()
    assert "Typed 1 / 4 / 32" in panel.told.value


def test_every_example_of_the_panel_is_recorded(panel):
    for example in EXAMPLES:
        assert panel.build(*example).startswith("Typed")


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [((4, 2, 8), "opt is 2"), ((0, 2, 8), "min is 0"), ((1, 2, 10**9), "up to 1024"), ((1, 2, 77), "not recorded")],
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
    assert not is_grey()
    panel.build(4, 2, 8)
    assert is_grey()
    panel.type(1, 4, 32)
    assert not is_grey()


def test_the_exercise_looks_at_the_last_state_of_the_panel(panel):
    assert "the call at batch 1 built another engine" in said("02.no-surprise", panel.reports)
    panel.build(1, 4, 32)
    assert check("02.no-surprise", panel.reports).right


@pytest.mark.slow
def test_the_profiles_of_the_key_are_those_of_real_engines():
    try:
        install.located()
    except EnginesUnavailable as error:
        pytest.skip(str(error))
    for typed, real in PROFILES.items():
        (report,) = engines.build_all(expand_reshape(typed, embed_dim=24, tokens=3), ["export"])
        assert asked_for(report.engines[0]) == real


def test_the_recording_has_no_more_than_the_notebook_asks_for():
    assert len(json.loads(RECORDING.read_text())) < 25
