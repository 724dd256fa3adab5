"""Notebook 11: tables and figures of recordings, the panel, the exercises."""

from pathlib import Path

import pandas as pd
import pytest

from tutorial_lib.experiments import recordings
from tutorial_lib.teach import panels
from tutorial_lib.teach.lessons import nb11

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


@pytest.fixture(scope="module")
def machines():
    return [recordings.load(NOTEBOOKS / "recorded" / f"{name}.json") for name in ("h100", "h200")]


def test_pairs_are_trusted_where_neither_machine_warns(machines):
    table = nb11.pairs(*machines)
    assert (table["trusted"].sum(), len(table)) == (95, 720), "of the recordings that are committed"
    assert table["factor"][table["trusted"]].max() < 1.2 < table["factor"].max()


def test_the_figures_say_what_was_recorded_where(machines):
    (axes,) = nb11.precision_gains(machines[0]).axes
    assert axes.get_title() == machines[0].label
    figure = nb11.two_machines(nb11.pairs(*machines), (machines[0].label, machines[1].label))
    assert machines[1].label in figure.axes[0].get_title()


def test_a_speedup_with_a_warning_says_so(machines):
    table = nb11.speedups(machines[0])
    assert table.loc[("expand-reshape", "fp32", 1), "jit"].endswith("(warning)")
    assert float(table.loc[("expand-reshape", "fp32", 256), "export"]) > 1


def test_the_panel_shows_the_machines_that_are_chosen():
    panel = panels.recordings(NOTEBOOKS / "recorded")
    both = panel.choose("vit", "bf16", "speedup")
    assert set(both.columns.get_level_values(0)) == {"H100", "H200"}
    assert "have a warning" in panel.told.value
    panel.machines.value = ("H200",)  # a click
    assert "H100" not in panel.told.value
    panel.machines.value = ()
    assert "Choose a machine" in panel.told.value


def fastest(table, most):
    allowed = table[table["rms"] <= most]
    return allowed["median_ms"].idxmin() if len(allowed) else None


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("11.free", 16, None),
        ("11.free", 8, "a larger one does"),
        ("11.free", 256, "too long"),
        ("11.free", 3, "was not recorded"),
        ("11.choose", fastest, None),
        ("11.choose", lambda table, most: "fp32", "not 'fp32'"),
        ("11.choose", lambda table, most: fastest(table, max(most, 1e-5)), "1e-09: not 'fp32'"),
        ("11.trust", lambda row: row["agrees"] and pd.isna(row["warning"]), None),
        ("11.trust", lambda row: True, "you trust a row that says"),
        ("11.trust", lambda row: pd.isna(row["warning"]), "it differs from float64"),
        ("11.trust", lambda row: False, "no warning, and it agrees"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged, monkeypatch):
    monkeypatch.chdir(NOTEBOOKS)
    judged(key, answer, said)
