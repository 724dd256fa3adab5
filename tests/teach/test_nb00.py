"""Notebook 0: the panel, with an engine for each stop of its slider, and the exercises."""

import shutil

import pytest

from tutorial_lib import expand_reshape, gated_norm, teach
from tutorial_lib.core.shapes import DynamicDim

RECORDING = "notebooks/00_start_here.json"


def test_memory_follows_the_slider_also_where_only_the_recording_is(nothing_can_be_built):
    panel = teach.panels.memory_over_max(RECORDING)
    assert "85.7 MB" in panel.told.value
    assert "recorded with Torch-TensorRT" in panel.told.value
    for size in panel.slider.options:
        panel.slider.value = size[1]
        assert f"1 to {size[1]} reserves" in panel.told.value
    memory = [panel.reports[size].activation_bytes for size in sorted(panel.reports)]
    assert memory == sorted(memory)
    assert memory[-1] > 20 * memory[0]
    assert 'alt="An engine for batches from 1 to 256 reserves 628 MB' in panel.figure.value


def test_a_machine_without_engines_and_without_a_recording_says_so(nothing_can_be_built, tmp_path):
    panel = teach.panels.memory_over_max(tmp_path / "none.json")
    assert "not installed here" in panel.told.value
    assert panel.figure.value == ""


def test_a_panel_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match="'no_such'; there are memory_over_max"):
        _ = teach.panels.no_such


@pytest.mark.slow
def test_the_engine_is_built_here_where_that_works(installed, tmp_path):
    shutil.copy(RECORDING, tmp_path / "copy.json")
    panel = teach.panels.memory_over_max(tmp_path / "copy.json")
    assert "reserves" in panel.set_max(8)
    assert "recorded" not in panel.told.value


def small(low, opt, high):
    return gated_norm(batch=(low, opt, high), tokens=3, width=16)


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("00.range", [1, 8, 4096], None),
        ("00.range", DynamicDim("batch", 1, 8, 128), None),
        ("00.range", (1, 8, 99), "refuses a batch of 100"),
        ("00.range", (1, 4, 100), "tuned for 4"),
        ("00.case", (2, 4, 16), "is a tuple; give a Case"),
        ("00.case", small(1, 4, 16), "jit has 2 engines"),
        ("00.case", small(2, 4, 8), "refuses a batch of 16"),
        ("00.case", small(3, 4, 16), "refuses a batch of 2"),
        ("00.case", expand_reshape((2, 4, 16)), "this is expand-reshape"),
        ("00.case", gated_norm((2, 4, 4000)), "too much memory"),
        ("00.case", gated_norm((2, 4, 10**9)), "up to 4096"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged):
    judged(key, answer, said)


def test_a_case_without_batch_1_has_one_engine_on_every_path(judged):
    assert list(judged("00.case", small(2, 4, 16)).table["engines"]) == [1, 1, 1]


@pytest.mark.parametrize(
    ("low", "said", "drawn"), [(2, "refuses a batch of 1:", "1 is refused"), (1, None, "1 is served")]
)
def test_a_range_is_drawn_with_the_batches_that_come(low, said, drawn, judged):
    feedback = judged("00.range", (low, 8, 100), said)
    assert [text.get_text() for text in feedback.figure.axes[0].texts] == ["opt 8", drawn, "100 is served"]
    assert f'alt="A range from {low} to 100, and the batches that come"' in feedback._repr_html_()
