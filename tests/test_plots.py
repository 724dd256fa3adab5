import subprocess
import sys

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from tutorial_lib import PATHS, plots, sweep
from tutorial_lib.sweep import EAGER


@pytest.fixture(scope="module")
def result(built, seed):
    return sweep({name: built(name, "eager", seed) for name in PATHS}, [1, 4, 8], min_samples=3, min_seconds=0.001)


def legend(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


FIGURES = [plots.latency, plots.speedup, plots.agreement, plots.build_time]


@pytest.mark.parametrize("plot", FIGURES)
def test_every_figure_names_backend_device_and_range(plot, result):
    figure = plot(result)
    text = figure.axes[0].get_title(loc="left")
    assert "backend eager" in text
    assert result.provenance["device"] in text
    assert "batch 1/4/8" in text
    assert figure.get_suptitle()


@pytest.mark.parametrize("plot", FIGURES)
def test_axes_carry_units(plot, result):
    axes = plot(result).axes[0]
    assert any(unit in axes.get_xlabel() + axes.get_ylabel() for unit in ("(ms)", "(s)", "times as fast", "rms error"))


@pytest.mark.parametrize("plot", [plots.latency, plots.speedup, plots.agreement])
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
    for figure in (*(plot(result) for plot in FIGURES), plots.overview(result)):
        FigureCanvasAgg(figure).draw()
        page = figure.bbox
        for axes in figure.axes:
            for text in (*axes.texts, axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label):
                if text.get_text():
                    box = text.get_window_extent()
                    assert box.x0 >= page.x0 - 1, text.get_text()
                    assert box.x1 <= page.x1 + 1, text.get_text()
                    assert box.y1 <= page.y1 + 1, text.get_text()


def test_a_shown_figure_is_a_png_with_alternative_text(result, tmp_path):
    image = plots.show(plots.latency(result))
    assert image.alt == "Latency"
    (tmp_path / "latency.png").write_bytes(image.data)
    assert imread(tmp_path / "latency.png").std() > 0.01  # something was drawn


def test_plotting_does_not_touch_pyplot():
    code = "import sys, tutorial_lib.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
