import math
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.image import imread

from tutorial_lib import PATHS
from tutorial_lib.figures import heatmap, plots
from tutorial_lib.measure.sweep import EAGER

FIGURES = [plots.latency, plots.speedup, plots.throughput, plots.agreement, plots.build_time]
CURVES = [plots.latency, plots.speedup, plots.throughput, plots.agreement]


def legend(figure):
    return [
        text.get_text() for part in (figure, *figure.subfigs) for legend in part.legends for text in legend.get_texts()
    ]


def over_length(sweep):
    """`sweep` as if its dimension was another one."""
    dims = [{"name": "length", "min": 1, "opt": 4, "max": 8}]
    table = sweep.table.rename(columns={"batch": "length"})
    return replace(sweep, table=table, provenance={**sweep.provenance, "dims": dims})


@pytest.mark.parametrize("plot", FIGURES)
def test_every_figure_names_backend_device_range_and_units(plot, result):
    figure = plot(result)
    axes = figure.axes[0]
    text = " ".join(axes.get_title(loc="left").split())  # a long title has several lines
    assert "batch 1/4/8" in text
    assert "backend eager" in text
    assert result.provenance["device"] in text
    assert figure.get_suptitle()
    units = ("(ms)", "(s)", "(samples/s)", "times as fast", "rms error")
    assert any(unit in axes.get_xlabel() + axes.get_ylabel() for unit in units)


@pytest.mark.parametrize("plot", CURVES)
def test_the_size_axis_shows_real_sizes_the_range_and_opt(plot, result):
    figure = plot(result)
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4", "8"]
    assert "built for 1 to 8" in axes.get_xlabel()
    assert {"opt = 4", *PATHS} <= set(legend(figure))


COLUMNS = {
    plots.latency: "median_ms",
    plots.speedup: "speedup",
    plots.throughput: "samples_per_second",
    plots.agreement: "rms",
}


@pytest.mark.parametrize("plot", CURVES)
def test_curves_are_the_numbers_of_the_table(plot, result):
    curves = {line.get_label(): line for line in plot(result).axes[0].get_lines()}
    for path in PATHS:
        rows = result.table[result.table["path"] == path]
        assert curves[path].get_xdata().tolist() == rows["batch"].tolist()
        assert curves[path].get_ydata().tolist() == rows[COLUMNS[plot]].tolist()


def test_the_ribbon_goes_from_the_10th_to_the_90th_percentile(result):
    ribbons = [each for each in plots.latency(result).axes[0].collections if isinstance(each, PolyCollection)]
    assert len(ribbons) == 1 + len(PATHS)
    rows = result.table[result.table["path"] == EAGER]
    heights = ribbons[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (rows["p10_ms"].min(), rows["p90_ms"].max())


@pytest.mark.parametrize(
    ("plot", "low", "high"), [(plots.latency, "low_ms", "high_ms"), (plots.speedup, "speedup_low", "speedup_high")]
)
def test_bars_are_the_intervals_and_leave_the_axis_as_the_curves_need_it(plot, low, high, result):
    rows = result.table[result.table["path"] == "export"]

    def drawn(sweep):
        axes = plot(sweep).axes[0]
        bars = [each.get_segments() for each in axes.collections if isinstance(each, LineCollection)]
        return axes.get_ylim(), [bar for line in bars for bar in line]

    limits, bars = drawn(result)
    for size, bottom, top in zip(rows["batch"], rows[low], rows[high], strict=True):
        assert any(bar[:, 0].tolist() == [size] * 2 and bar[:, 1].tolist() == [bottom, top] for bar in bars)
    wide = replace(result, table=result.table.assign(**{low: 1e-6, high: 1e6}))
    assert drawn(wide)[0] == limits
    old = replace(result, table=result.table.drop(columns=[low, high]))
    assert drawn(old) == (limits, []), "a file of a version without intervals"


def test_the_agreement_figure_shows_tolerance_and_eagers_own_error(result):
    curves = {line.get_label(): line.get_ydata() for line in plots.agreement(result).axes[0].get_lines()}
    rows = result.table[result.table["path"] == EAGER]
    assert curves["eager's own error"].tolist() == rows["floor_rms"].tolist()
    assert curves["tolerance: 4 x"].tolist() == (rows["floor_rms"] * rows["tolerated"]).tolist()


def test_paths_differ_in_marker_as_well_as_in_colour():
    for feature in ("marker", "color"):
        values = [style[feature] for style in plots.STYLES.values()]
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("plot", CURVES)
def test_an_earlier_run_is_faint_behind_and_named_once(plot, result, earlier):
    figure, plain = plot(result, [("A: earlier", earlier)]), plot(result)
    faint = [line for line in figure.axes[0].get_lines() if line.get_alpha()]
    bold = [line for line in figure.axes[0].get_lines() if line.get_label() in PATHS]
    assert len(figure.axes[0].get_lines()) == len(plain.axes[0].get_lines()) + len(faint)
    assert legend(figure).count("A: earlier") == 1
    assert {line.get_color() for line in faint} >= {plots.STYLES["jit"]["color"], plots.OPT}
    assert max(line.get_zorder() for line in faint) < min(line.get_zorder() for line in bold)


def test_a_path_that_only_an_earlier_run_has_is_named_in_the_legend(result, earlier):
    named = legend(plots.speedup(earlier, [("A", result)]))
    assert {"jit", "input", "export"} <= set(named)
    assert named.count("jit") == 1
    assert plots.describe(plots.speedup(earlier, [("A", result)])) == plots.describe(plots.speedup(earlier))


def test_earlier_runs_differ_by_their_lines(result):
    figure = plots.panel(result, [(label, result) for label in "ABC"])
    lines = [line for line in figure.axes[0].get_lines() if line.get_alpha() and line.get_color() == "#0072B2"]
    assert len({line._unscaled_dash_pattern for line in lines}) == len(lines) == 3


def test_the_size_axis_covers_earlier_runs_and_marks_their_opt(result):
    dim = {"name": "batch", "min": 1, "opt": 256, "max": 1024}
    table = result.table.assign(batch=result.table["batch"] * 128)
    wider = replace(result, table=table, provenance={**result.provenance, "dims": [dim]})
    axes = plots.latency(result, [("A", wider)]).axes[0]
    assert axes.get_xlim()[1] > 1024
    assert any(list(line.get_xdata()) == [256, 256] for line in axes.get_lines())


def test_a_run_over_another_dimension_is_left_out(result):
    assert "A" not in legend(plots.panel(result, [("A", over_length(result))]))


def test_results_that_stream_in_are_drawn_without_agreement(result, earlier, unbuilt):
    streaming = [replace(earlier, table=earlier.table.assign(rms=no, floor_rms=no)) for no in (math.nan, None)]
    for partial in (*streaming, unbuilt):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            main = plots.panel(partial, [("A", result), ("B", streaming[1])])
            assert plots.svg(main)
        assert [text.get_text() for text in main.axes[1].texts] == [plots.LATER]


def test_where_nothing_is_built_the_figure_says_so_and_shows_throughput(unbuilt):
    assert plots.throughput(unbuilt).get_suptitle() == "Throughput"
    (axes,) = plots.build_time(unbuilt).axes
    assert axes.texts[0].get_text() == "nothing is built"


def test_build_time_says_how_long_what_size_and_what_was_reused(result):
    builds = [{**result.builds[0], "reused": "found on disk", "artefact_bytes": 3_100_000}, *result.builds[1:]]
    axes = plots.build_time(replace(result, builds=builds)).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [build["seconds"] for build in builds[::-1]]
    assert [label.get_text() for label in axes.get_yticklabels()] == [build["path"] for build in builds[::-1]]
    assert axes.texts[-1].get_text().endswith("2 engines · 3.1 MB · reused")


def test_the_panel_has_one_subtitle_which_names_a_precision_that_is_not_float32(result):
    half = replace(result, provenance={**result.provenance, "precision": "bf16"})
    figure = plots.panel(half)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Latency", "Agreement with float64"]
    assert figure.get_suptitle() == plots.subtitle(half)
    assert "backend eager, bf16" in plots.subtitle(half)
    assert "float32" not in plots.subtitle(result)


def test_svg_is_xml_that_is_the_same_every_time_and_a_hostile_name_is_only_text(result, earlier, monkeypatch):
    name = r"$\frac{$ <script>alert(1)</script> & $x$"
    named = replace(result, provenance={**result.provenance, "case": name})
    first = plots.svg(plots.panel(named, [(name, earlier)]))
    monkeypatch.setitem(matplotlib.rcParams, "svg.hashsalt", "mine")
    assert plots.svg(plots.panel(named, [(name, earlier)])) == first
    assert matplotlib.rcParams["svg.hashsalt"] == "mine", "matplotlib stays as it was set"
    root = ElementTree.fromstring(first)
    assert root.tag.endswith("svg")
    assert not list(root.iter("{http://www.w3.org/2000/svg}text"))  # letters are shapes
    assert "dc:date" not in first


@pytest.mark.slow
def test_two_threads_can_draw_at_once(result, earlier):
    def draw(_):
        return plots.svg(plots.panel(result, [("A", earlier)])), plots.png(plots.overview(result))

    with ThreadPoolExecutor(2) as threads:
        assert len(set(threads.map(draw, range(6)))) == 1


def test_a_shown_figure_is_a_png_with_alternative_text(gridded, tmp_path):
    image = plots.show(heatmap.latency(gridded, "export"))
    assert image.alt.startswith("Median latency of export")
    (tmp_path / "shown.png").write_bytes(image.data)
    assert imread(tmp_path / "shown.png").std() > 0.01  # something was drawn


@pytest.mark.slow
def test_drawing_does_not_touch_pyplot():
    names = ("plots", "heatmap", "engine_memory", "engine_profiles")
    imports = ", ".join(f"tutorial_lib.figures.{name}" for name in names)
    code = f"import sys, {imports}; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_curves_of_a_grid_need_one_line_of_it(gridded):
    with pytest.raises(ValueError, match=r"sweep\.at\(length=\.\.\.\)"):
        plots.latency(gridded)
    axes = plots.latency(gridded.at(batch=4)).axes[0]
    assert axes.get_xlabel().startswith("length")
    assert "length 1/5/9, batch 1/2/4 (min/opt/max), batch 4" in axes.get_title(loc="left")


def test_a_figure_is_told_in_words_with_its_ends_and_extremes():
    figure = Figure()
    axes = figure.subplots()
    figure.suptitle("Speedup over eager")
    axes.set_ylabel("times as fast as eager\nmedian over rounds")
    axes.plot([1, 4, 8, 64], [1.5, 2.0, 7.25, 2.1], label="export")
    axes.plot([1, 64], [1, 9])
    axes.axvline(8, label="opt = 8")
    said = "Speedup over eager. times as fast as eager: export 1.5 at 1, 7.25 at 8, 2.1 at 64."
    assert plots.describe(figure) == said
