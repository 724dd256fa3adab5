import math
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from tutorial_lib import PATHS, sweep
from tutorial_lib.figures import plots
from tutorial_lib.measure.sweep import EAGER, latencies


@pytest.fixture(scope="module")
def result(built, seed):
    return sweep({name: built(name, "eager", seed) for name in PATHS}, [1, 4, 8], min_samples=3, min_seconds=0.001)


@pytest.fixture(scope="module")
def earlier(built, seed):
    return latencies(seed, {"jit": built("jit", "eager", seed)}, [2, 4])


@pytest.fixture(scope="module")
def unbuilt(seed):
    return latencies(seed, {}, [1, 4])


def stretched(result, sizes, opt):
    """`result` as if it had been measured at `sizes`."""
    one = result.table[result.table["batch"] == 1]
    table = pd.concat([one.assign(batch=size) for size in sizes], ignore_index=True)
    dim = {"name": "batch", "min": min(sizes), "opt": opt, "max": max(sizes)}
    return replace(result, table=table, provenance={**result.provenance, "dims": [dim]})


def apart(texts):
    """Whether no two of `texts`, in the order in which they stand, run into each other."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return not any(one.overlaps(other) for one, other in pairwise(boxes))


def legend(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


FIGURES = [plots.latency, plots.speedup, plots.throughput, plots.agreement, plots.build_time]
PAGES = [plots.panel, plots.panel_more]
CURVES = [plots.latency, plots.speedup, plots.throughput, plots.agreement]
MANY = (1, 2, 4, 8, 16, 32, 33, 64, 128, 196, 256, 512, 1024)


@pytest.mark.parametrize("plot", FIGURES)
def test_every_figure_names_backend_device_and_range(plot, result):
    figure = plot(result)
    text = " ".join(figure.axes[0].get_title(loc="left").split())  # a long title has several lines
    assert "backend eager" in text
    assert result.provenance["device"] in text
    assert "batch 1/4/8" in text
    assert figure.get_suptitle()


UNITS = ("(ms)", "(s)", "(samples/s)", "times as fast", "rms error")


@pytest.mark.parametrize("plot", FIGURES)
def test_axes_carry_units(plot, result):
    axes = plot(result).axes[0]
    assert any(unit in axes.get_xlabel() + axes.get_ylabel() for unit in UNITS)


@pytest.mark.parametrize("plot", CURVES)
def test_the_batch_axis_shows_real_sizes_the_range_and_opt(plot, result):
    figure = plot(result)
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4", "8"]
    assert "built for 1 to 8" in axes.get_xlabel()
    labels = legend(figure)
    assert "opt = 4" in labels
    assert set(PATHS) <= set(labels)


def test_the_latency_figure_draws_the_medians_that_the_table_has(result):
    axes = plots.latency(result).axes[0]
    for line in axes.get_lines():
        if line.get_label() in (EAGER, *PATHS):
            rows = result.table[result.table["path"] == line.get_label()]
            assert line.get_ydata().tolist() == rows["median_ms"].tolist()
    assert len(axes.collections) == 4  # a ribbon for each


def test_the_agreement_figure_shows_tolerance_and_floor(result):
    labels = [line.get_label() for line in plots.agreement(result).axes[0].get_lines()]
    assert "tolerance: 4 x" in labels
    assert "eager's own error" in labels


def test_paths_differ_in_marker_as_well_as_in_colour():
    for feature in ("marker", "color"):
        values = [style[feature] for style in plots.STYLES.values()]
        assert len(set(values)) == len(values)


def test_no_text_leaves_the_page(result):
    named = [("A: " + "long " * 30, result), ("B: 2 / 3 / 8, eager fp32", result)]
    pages = [plot(result, behind) for plot in (*FIGURES, *PAGES) for behind in ((), named)]
    for figure in (*pages, plots.overview(result)):
        FigureCanvasAgg(figure).draw()
        page = figure.bbox
        for shown in figure.legends:
            box = shown.get_window_extent()
            assert box.x0 >= 0
            assert box.x1 <= page.x1
            assert box.y0 >= 0
        for axes in figure.axes:
            for text in (*axes.texts, axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label):
                if text.get_text():
                    box = text.get_window_extent()
                    assert box.x0 >= page.x0 - 1, text.get_text()
                    assert box.x1 <= page.x1 + 1, text.get_text()
                    assert box.y1 <= page.y1 + 1, text.get_text()


@pytest.mark.parametrize("plot", CURVES)
def test_an_earlier_run_is_faint_behind_and_named_once(plot, result, earlier):
    figure, plain = plot(result, [("A: earlier", earlier)]), plot(result)
    faint = [line for line in figure.axes[0].get_lines() if line.get_alpha()]
    bold = [line for line in figure.axes[0].get_lines() if line.get_label() in PATHS]
    assert len(figure.axes[0].get_lines()) == len(plain.axes[0].get_lines()) + len(faint)
    assert legend(figure).count("A: earlier") == 1
    assert {line.get_color() for line in faint} >= {plots.STYLES["jit"]["color"], plots.OPT}
    thin = [line.get_linewidth() for line in faint if line.get_color() != plots.OPT]
    assert max(thin) < bold[0].get_linewidth()
    assert max(line.get_zorder() for line in faint) < min(line.get_zorder() for line in bold)


def test_earlier_runs_differ_by_their_lines(result):
    figure = plots.panel(result, [(label, result) for label in "ABC"])
    lines = [line for line in figure.axes[0].get_lines() if line.get_alpha() and line.get_color() == "#0072B2"]
    assert len({line._unscaled_dash_pattern for line in lines}) == len(lines) == 3


def test_the_size_axis_covers_earlier_runs_and_marks_their_opt(result):
    wider = stretched(result, MANY, 256)
    axes = plots.latency(result, [("A", wider)]).axes[0]
    assert axes.get_xlim()[1] > 1024
    assert any(list(line.get_xdata()) == [256, 256] for line in axes.get_lines())


def test_a_run_over_another_dimension_is_left_out(result):
    dims = [{"name": "length", "min": 1, "opt": 4, "max": 8}]
    table = result.table.rename(columns={"batch": "length"})
    other = replace(result, table=table, provenance={**result.provenance, "dims": dims})
    assert "A" not in legend(plots.panel(result, [("A", other)]))


@pytest.mark.parametrize("opt", [4, 33, 196])
@pytest.mark.parametrize("width", [6, plots.SIZE[0]])
def test_labels_of_many_sizes_do_not_overlap(width, opt, result):
    many = stretched(result, MANY, opt)
    for figure in (plots._figure(many, (), "Latency", plots.draw_latency, (width, 4.2)), plots.panel(many)):
        FigureCanvasAgg(figure).draw()
        for axes in figure.axes:
            assert apart(axes.get_xticklabels())
            assert apart(axes.get_yticklabels())
            assert {"1", str(opt), "1024"} <= {text.get_text() for text in axes.get_xticklabels()}


@pytest.mark.parametrize(("scale", "spread"), [(1, 1.01), (7.3, 3), (1e4, 20), (1e-3, 1e6)])
def test_a_logarithmic_axis_has_numbers_that_do_not_overlap(scale, spread, result):
    rows = result.table["batch"].map({1: scale, 4: scale, 8: scale * spread})
    figure = plots.latency(replace(result, table=result.table.assign(median_ms=rows, p10_ms=rows, p90_ms=rows)))
    FigureCanvasAgg(figure).draw()
    labels = figure.axes[0].get_yticklabels()
    assert sum(bool(label.get_text()) for label in labels) >= 2
    assert apart(labels)


def test_legends_and_axes_stand_apart(result, earlier):
    for plot in (*FIGURES, *PAGES):
        figure = plot(result, [(f"{letter}: 1 / 4 / 32, inductor fp32, freezing=True", earlier) for letter in "ABCD"])
        FigureCanvasAgg(figure).draw()
        boxes = [shown.get_window_extent() for shown in figure.legends]
        boxes += [axes.get_tightbbox() for axes in figure.axes]
        for number, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[number + 1 :])


@pytest.mark.parametrize("missing", [math.nan, None])
def test_results_that_stream_in_are_drawn_without_agreement(missing, result, earlier, unbuilt):
    streaming = replace(earlier, table=earlier.table.assign(rms=missing, floor_rms=missing))
    for some in (streaming, unbuilt):
        for behind in ((), [("A", result), ("B", streaming)]):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                main, more = (plot(some, behind) for plot in PAGES)
                assert plots.svg(main) != plots.svg(more)
            assert [text.get_text() for text in main.axes[1].texts] == [plots.LATER]


def test_where_nothing_is_built_the_figure_says_so_and_shows_throughput(unbuilt):
    left, right = plots.panel_more(unbuilt).axes
    assert left.get_title(loc="left") == "Throughput"
    assert right.texts[0].get_text() == "nothing is built"


def test_build_time_says_what_was_reused(result):
    builds = [{**result.builds[0], "reused": "found on disk", "artefact_bytes": 3_100_000}, *result.builds[1:]]
    *_, text = plots.build_time(replace(result, builds=builds)).axes[0].texts
    assert text.get_text().endswith("3.1 MB · reused")


def test_the_panel_is_wide_and_has_one_subtitle(result):
    figure = plots.panel(result)
    assert figure.get_size_inches().tolist() == [12.5, 4.2]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Latency", "Agreement with float64"]
    assert figure.get_suptitle() == plots.subtitle(result)


def test_the_subtitle_names_a_precision_that_is_not_float32(result):
    assert "float32" not in plots.subtitle(result)
    half = replace(result, provenance={**result.provenance, "precision": "bf16"})
    assert "backend eager, bf16" in plots.subtitle(half)


def test_svg_is_xml_that_is_the_same_every_time(result, earlier):
    one, other = (plots.svg(plots.panel(result, [("A", earlier)])) for _ in range(2))
    assert one == other
    root = ElementTree.fromstring(one)
    assert root.tag.endswith("svg")
    assert not list(root.iter("{http://www.w3.org/2000/svg}text"))  # letters are shapes
    assert "dc:date" not in one


def test_a_hostile_name_is_only_text(result):
    name = r"$\frac{$ <script>alert(1)</script> & $x$"
    about = {**result.provenance, "case": name}
    ElementTree.fromstring(plots.svg(plots.panel(replace(result, provenance=about), [(name, result)])))


@pytest.mark.slow
def test_two_threads_can_draw_at_once(result, earlier):
    def draw(_):
        return plots.svg(plots.panel(result, [("A", earlier)])), plots.png(plots.panel_more(result))

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(draw, range(6)))
    assert len(set(found)) == 1


def test_drawing_leaves_matplotlib_as_it_was_set(result, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "svg.hashsalt", "mine")
    plots.svg(plots.latency(result))
    assert matplotlib.rcParams["svg.hashsalt"] == "mine"


def test_a_shown_figure_is_a_png_with_alternative_text(result, tmp_path):
    image = plots.show(plots.latency(result))
    assert image.alt == "Latency"
    (tmp_path / "latency.png").write_bytes(image.data)
    assert imread(tmp_path / "latency.png").std() > 0.01  # something was drawn


@pytest.mark.slow
def test_plotting_does_not_touch_pyplot():
    code = "import sys, tutorial_lib.figures.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
