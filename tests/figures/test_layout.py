"""All text of every figure can be read: none of it leaves the page or covers another."""

from dataclasses import replace
from itertools import combinations

import pandas as pd
import pytest
from engine_reports import CALLED, FAILED, JIT, OTHER_OPT, REFUSED, SEED, TWO_DIMS, VIT, VIT_OPT
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tutorial_lib.figures import heatmap, plots
from tutorial_lib.figures.engine_memory import memory
from tutorial_lib.figures.engine_profiles import profiles

MANY = (1, 2, 4, 8, 16, 32, 33, 64, 128, 196, 256, 512, 1024)


def texts(figure):
    """Every text that is shown, with what it says."""
    shown = list(figure.texts)
    for legend in [legend for part in (figure, *figure.subfigs) for legend in part.legends]:
        shown += legend.get_texts()
    for axes in figure.axes:
        shown += [*axes.texts, axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        shown += [tick.label1 for axis in (axes.xaxis, axes.yaxis) for tick in axis._update_ticks()]
    return [(text.get_text(), text.get_window_extent()) for text in shown if text.get_text() and text.get_visible()]


def check_layout(figure):
    FigureCanvasAgg(figure).draw()
    page, boxes = figure.bbox, texts(figure)
    for text, box in boxes:
        assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1, text
        assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1, text
    for (text, box), (other_text, other) in combinations(boxes, 2):
        assert not box.overlaps(other), (text, other_text)


PLOTS = [plots.latency, plots.speedup, plots.throughput, plots.agreement, plots.build_time, plots.panel]


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)
def test_plots_and_the_names_of_earlier_runs(plot, result, earlier):
    pins = [(f"{letter}: 1 / 4 / 32, inductor fp32, freezing=True", earlier) for letter in "ABC"]
    check_layout(plot(result, [*pins, ("D: " + "long " * 60, result)]))


def test_the_name_of_a_recording_is_shown_whole(result):
    name = "recorded on NVIDIA H100 80GB HBM3 at 2026-11-27, torch 2.11.0+cu130, cuda 13.0: gated-norm 1 / 8 / 256, "
    name += "inductor, fp32, jit input export"
    figure = plots.speedup(result, [(name, result)])
    check_layout(figure)
    assert name in [text.replace("\n", " ") for text, _ in texts(figure)]


def test_the_overview(result):
    check_layout(plots.overview(result))


@pytest.mark.parametrize(("plot", "opt"), [(plots.latency, 4), (plots.panel, 33), (plots.latency, 196)])
def test_sizes_on_the_axis(plot, opt, result):
    row = result.table[result.table["batch"] == 1]
    table = pd.concat([row.assign(batch=size) for size in MANY], ignore_index=True)
    dim = {"name": "batch", "min": 1, "opt": opt, "max": 1024}
    many = replace(result, table=table, provenance={**result.provenance, "dims": [dim]})
    figure = plot(many)
    check_layout(figure)
    for axes in figure.axes:
        assert {"1", str(opt), "1024"} <= {text.get_text() for text in axes.get_xticklabels()}


@pytest.mark.parametrize(("scale", "spread"), [(1, 1.01), (7.3, 3), (1e4, 20), (1e-3, 1e6)])
def test_numbers_on_a_logarithmic_axis(scale, spread, result):
    rows = result.table["batch"].map({1: scale, 4: scale, 8: scale * spread})
    figure = plots.latency(replace(result, table=result.table.assign(median_ms=rows, p10_ms=rows, p90_ms=rows)))
    check_layout(figure)
    assert len(figure.axes[0].yaxis._update_ticks()) >= 2


@pytest.mark.parametrize("sizes", [[1, 2, 4], [2]])
@pytest.mark.parametrize("draw", [heatmap.latency, heatmap.padding], ids=lambda draw: draw.__name__)
def test_heat_maps(draw, sizes, gridded):
    figure = draw(replace(gridded, table=gridded.table[gridded.table["batch"].isin(sizes)]), "export")
    check_layout(figure)
    for axes in figure.axes:
        width = axes.get_window_extent().width / len(axes.get_xticks())
        assert all(text.get_window_extent().width < width for text in axes.texts)


MEMORY = {"all": [*SEED, OTHER_OPT, JIT, *VIT, VIT_OPT], "jit": [JIT], "one": SEED[:1], "vit": [*VIT, VIT_OPT]}
PROFILES = {"all": [CALLED, replace(REFUSED, path="input"), REFUSED], "two": [TWO_DIMS], "failed": [FAILED]}


@pytest.mark.parametrize("shown", MEMORY)
def test_memory_of_engines(shown):
    check_layout(memory(MEMORY[shown], "batch"))


@pytest.mark.parametrize("shown", PROFILES)
def test_profiles_of_engines(shown):
    check_layout(profiles(PROFILES[shown]))
