"""Notebook 5: planted mistakes, the panel, the exercises."""

from pathlib import Path

import pytest
import torch

from tutorial_lib import expand_reshape
from tutorial_lib.teach import panels
from tutorial_lib.teach.lessons.nb05 import NO_BUG, as_tf32, emulated_tf32, judged, layer, on_a_gpu, planted

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


@pytest.fixture(scope="module")
def one():
    return layer(expand_reshape(batch=(1, 4, 32), tokens=20, embed_dim=96).in_precision("fp32"))


def test_only_the_rule_tells_mistakes_from_rounding(one):
    table = judged(planted(one), one)
    assert not table["allclose"].any()
    assert list(table.index[table["rule"] == "agrees"]) == [NO_BUG]


def test_tf32_keeps_ten_bits_of_the_fraction(one):
    assert as_tf32(torch.tensor([1 + 2**-10, 1 + 2**-12, -3.0])).tolist() == [1 + 2**-10, 1.0, -3.0]
    assert emulated_tf32(one).ratio > 100


def test_the_errors_recorded_on_a_gpu_say_where_they_were_measured(one):
    label, rows = on_a_gpu(one.case, str(NOTEBOOKS / "05_numerical_agreement.json"))
    if one.case.device.type == "cpu":
        assert label.startswith("recorded on NVIDIA")
    assert list(rows["precision"].unique()) == ["fp32", "tf32", "fp16", "bf16"]


def test_the_panel_shows_that_no_tolerance_is_right_for_every_unit():
    panel = panels.tolerance()
    assert panel.set(NO_BUG, 1000.0, 1e-5) == pytest.approx({"passes": False, "agrees": True, "ratio": 0.4}, abs=0.2)
    wrong = panel.set("result rounded to bfloat16", 0.001)
    assert wrong["passes"]
    assert not wrong["agrees"]
    assert "equal" in panel.told.value
    assert "data:image/png;base64," in panel.figure.value
    panel.atol.value = 1e-9  # a move of the slider
    assert "not equal" in panel.told.value


def rule(output, eager, exact):
    return (output - exact).square().mean() <= 16 * (eager - exact).square().mean()


BOTH = {"weights of an earlier step", "result rounded to bfloat16"}


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("05.tolerance", lambda one, other: (one - other).abs().max(), None),
        ("05.tolerance", lambda one, other: 1e-9, "does not pass"),
        ("05.tolerance", lambda one, other: 1.0, "a tenth less"),
        ("05.rule", rule, None),
        ("05.rule", lambda output, eager, exact: torch.allclose(output, eager), "agrees, and you"),
        ("05.shipped", {"cosine": BOTH, "allclose": list(BOTH)}, None),
        ("05.shipped", {"cosine": {"a bug"}, "allclose": BOTH}, "none of the bugs"),
        ("05.shipped", {"cosine": BOTH, "allclose": set()}, "allclose: 'result rounded"),
        ("05.hidden", 3e-4, None),
        ("05.hidden", 1e-6, "twice as much"),
        ("05.hidden", 1.0, "DIFFERS"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged):
    judged(key, answer, said)
