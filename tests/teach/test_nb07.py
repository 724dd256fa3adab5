"""Notebook 7: the sentences that follow from times, what is recorded, the panel, the exercises."""

import json

import pandas as pd
import pytest

from tutorial_lib.engines.recording import why_not
from tutorial_lib.teach import panels
from tutorial_lib.teach.lessons import nb07


def table(**ratios):
    """Made-up times: `ratios` has, for each name, (low, high) at 2 and at 1024 tokens; `ms` is 1 over the middle."""
    rows = []
    for name, bounds in ratios.items():
        for tokens, (low, high) in zip((2, 1024), bounds, strict=True):
            middle = (low + high) / 2
            row = {"name": name.replace("_", " "), "tokens": tokens, "ms": 1 / middle, "ratio": middle}
            rows.append(row | {"low": low, "high": high})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("small", "said"),
    [
        ([(1.4, 1.5), (0.4, 0.5)], "opt 2 is faster than the one with opt 1024 at 2 tokens, slower at 1024."),
        ([(1.4, 1.5), (1.2, 1.3)], "opt 2 is faster than opt 1024 at 2, 1024 tokens, nowhere"),
        ([(0.4, 0.5), (0.4, 0.5)], "opt 2 is slower than opt 1024 at 2, 1024"),
        ([(0.4, 1.5), (0.4, 1.5)], "opt changes too little to see"),
    ],
)
def test_the_sentence_about_opt_follows_from_the_numbers(small, said):
    times = table(opt_2=small, opt_1024=[(0.8, 0.9), (1.0, 1.1)])
    assert said in nb07.crossing(nb07.Times(times, "made up"))


def test_padding_is_cheaper_or_dearer_only_where_intervals_say_so():
    times = nb07.Times(table(padded=[(0.2, 0.3), (1.4, 1.5)], opt_2=[(1, 1.1), (0.5, 0.6)]), "made up")
    assert nb07.padding(times).startswith(
        "Padding to 32 is cheaper than either dynamic engine at 1024 tokens, and dearer"
    )
    unclear = nb07.Times(table(padded=[(0.2, 3), (0.2, 3)], opt_2=[(1, 1.1), (0.5, 0.6)]), "made up")
    assert "do not tell" in nb07.padding(unclear)


def test_a_busy_machine_shows_what_was_recorded_and_says_so(tmp_path, monkeypatch):
    file = tmp_path / "measured.json"
    quiet, busy = table(opt_2=[(1, 1.1), (1, 1.1)]), table(opt_2=[(0.2, 3), (0.2, 3)])
    assert "no others are recorded" in nb07.here_or_recorded("opts", busy, "here", file).label
    monkeypatch.setenv("TUTORIAL_LIB_RECORD", "1")
    assert nb07.here_or_recorded("opts", quiet, "a quiet machine", file).label.startswith("Measured here")
    recorded = nb07.here_or_recorded("opts", busy, "here", file)
    assert "recorded on a quiet machine" in repr(recorded)
    assert recorded.wide().loc[2, "opt 2"] == quiet["ms"][0]
    assert json.loads(file.read_text())["opts"]["where"] == "a quiet machine", "a busy run is not recorded"


def test_the_figure_names_its_engines_and_where_it_was_measured():
    times = nb07.Times(table(opt_2=[(1, 2), (1, 2)], opt_32=[(1, 2), (1, 2)], opt_1024=[(1, 2), (1, 2)]), "made up")
    (axes,) = nb07.speedups(times).axes
    assert axes.get_title() == "made up"
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == ["opt 2", "opt 32", "opt 1024", "eager PyTorch"]


@pytest.mark.slow
@pytest.mark.skipif(why_not() is not None, reason="TensorRT for RTX builds nothing here")
def test_the_panel_says_how_many_engines_fit(tmp_path):
    panel = panels.memory(tmp_path / "none.json")
    assert "85.7 MB" in panel.told.value
    assert panel.build(max=256, at_max=True) == panel.build(max=256).replace("1/4/256", "1/256/256")
    panel.card.value = 80  # a click
    assert "127 such engines fit into 80 GB" in panel.told.value


def bucket(tokens):
    return max(2, 2 ** (tokens - 1).bit_length())


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("07.dispatch", lambda tokens: "opt 2" if tokens < 15 else "opt 1024", None),
        ("07.dispatch", lambda tokens: "opt 2", "would do"),
        ("07.dispatch", lambda tokens: "32", "give 'opt 2'"),
        ("07.gain", 1.0, "too little"),
        ("07.gain", 2.0, "too much"),
        ("07.buckets", bucket, None),
        ("07.buckets", lambda tokens: 1024, "more than twice"),
        ("07.buckets", lambda tokens: tokens, "1024 engines"),
        ("07.buckets", lambda tokens: tokens - 1, "do not fit"),
        ("07.max", 822, None),
        ("07.max", 32, "33 fits as well"),
        ("07.max", 823, "would want"),
        ("07.max", 1.5, "whole number"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged):
    judged(key, answer, said)
