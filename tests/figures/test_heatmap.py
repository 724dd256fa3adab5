import subprocess
import sys
from dataclasses import replace

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from tutorial_lib import grid, sweep
from tutorial_lib.figures import heatmap, plots
from tutorial_lib.measure.sweep import EAGER

QUICK = {"min_samples": 1, "min_seconds": 0}
BATCHES, LENGTHS = [1, 2, 4], [1, 5, 9]


@pytest.fixture(scope="module")
def result(built, masked):
    """A grid whose latency is 1 ms for each element, 2 ms in eager."""
    programs = {"export": built("export", "eager", masked)}
    found = sweep(programs, grid(masked, batch=BATCHES, length=LENGTHS), **QUICK)
    table = found.table.assign(median_ms=found.table["batch"] * found.table["length"] * 1.0)
    table.loc[table["path"] == EAGER, "median_ms"] *= 2
    table["samples_per_second"] = 1000 * table["batch"] / table["median_ms"]
    table["speedup"] = 1.0 + (table["path"] != EAGER)
    return replace(found, table=table)


FIGURES = {
    "latency": lambda found: heatmap.latency(found, "export"),
    "speedup": lambda found: heatmap.speedup(found, "export"),
    "padding": lambda found: heatmap.padding(found, "export"),
}


@pytest.fixture(params=FIGURES)
def draw(request):
    return FIGURES[request.param]


def numbers(axes):
    """The text of every cell, row by row."""
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    columns, rows = (1 + max(place[axis] for place in texts) for axis in (0, 1))
    return [[texts[column, row] for column in range(columns)] for row in range(rows)]


def frames(axes):
    """(columns, rows) from and to which each outline goes, by its colour."""
    return {
        to_rgb(p.get_edgecolor()): (
            p.get_x() + 0.5,
            p.get_y() + 0.5,
            p.get_x() + p.get_width() - 0.5,
            p.get_y() + p.get_height() - 0.5,
        )
        for p in axes.patches
        if isinstance(p, Rectangle) and not p.get_fill()
    }


def words(figure):
    return " ".join(" ".join(text.get_text().split()) for text in figure.texts)


def test_cells_are_the_medians_of_a_call_and_of_a_sample(result):
    call, sample = heatmap.latency(result, "export").axes
    assert numbers(call) == [["1.00", "5.00", "9.00"], ["2.00", "10.0", "18.0"], ["4.00", "20.0", "36.0"]]
    assert numbers(sample) == [["1.00", "5.00", "9.00"]] * 3
    assert (call.get_ylabel(), call.get_xlabel()) == ("batch", "length")
    assert [tick.get_text() for tick in call.get_xticklabels()] == ["1", "5", "9"]
    assert [tick.get_text() for tick in call.get_yticklabels()] == ["1", "2", "4"]
    assert "(ms)" in call.get_title(loc="left")


def test_speedup_is_over_eager_in_colours_around_one(result):
    assert numbers(heatmap.speedup(result, "export").axes[0]) == [["2.00x"] * 3] * 3
    even = heatmap.speedup(result, EAGER).axes[0]
    assert all(min(p.get_facecolor()) > 0.95 for p in even.patches if p.get_fill())  # as fast as eager is white


def test_padding_is_the_time_at_the_largest_size_over_the_time_at_the_cell(result):
    both = heatmap.padded(result, "export")
    assert both.to_numpy().tolist() == [[36 / (batch * length) for length in LENGTHS] for batch in BATCHES]
    one = heatmap.padded(result, "export", ["length"])
    assert one.to_numpy().tolist() == [[9 / length for length in LENGTHS]] * 3
    other = heatmap.padded(result, "export", ["batch"])
    assert other.to_numpy().tolist() == [[4 / batch] * 3 for batch in BATCHES]
    (axes,) = heatmap.padding(result, "export", ["length"]).axes
    assert axes.get_title(loc="left").endswith("padded to length 9")


def test_every_map_names_backend_device_range_and_what_is_marked(draw, result):
    figure = draw(result)
    text = words(figure)
    assert "backend eager" in text
    assert " ".join(result.provenance["device"].split()) in text
    assert "batch 1/2/4, length 1/5/9 (min/opt/max)" in text
    assert "Outlined: built for batch 1 to 4, length 1 to 9. Framed: opt (batch 2, length 5)." in text
    assert "export" in figure.get_suptitle()


def test_opt_and_the_range_are_marked(draw, result):
    for axes in draw(result).axes:
        assert frames(axes)[to_rgb(plots.OPT)] == (1, 1, 1, 1)
        assert frames(axes)[to_rgb("black")] == (0, 0, 2, 2)


def test_a_narrower_range_is_outlined_and_an_opt_that_was_not_measured_is_said(result):
    dims = [{"name": "batch", "min": 2, "opt": 3, "max": 4}, {"name": "length", "min": 1, "opt": 5, "max": 5}]
    figure = heatmap.latency(replace(result, provenance={**result.provenance, "dims": dims}), "export")
    assert frames(figure.axes[0]) == {to_rgb("black"): (0, 1, 1, 2)}
    assert "Opt (batch 3, length 5) was not measured." in words(figure)


def test_what_was_not_measured_stays_empty(draw, result):
    table = result.table[(result.table["batch"] != 1) | (result.table["length"] != 5)]
    for axes in draw(replace(result, table=table)).axes:
        assert numbers(axes)[0][1] == "–"


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_number_can_be_read_on_its_cell(draw, result):
    for axes in draw(result).axes:
        cells = {(p.get_x() + 0.5, p.get_y() + 0.5): p.get_facecolor() for p in axes.patches if p.get_fill()}
        for text in axes.texts:
            dark, light = sorted([luminance(text.get_color()), luminance(cells[text.get_position()])])
            assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("sizes", [{}, {"batch": [1, 4], "length": [1, 9]}])
def test_nothing_leaves_the_page_or_its_cell(draw, sizes, result):
    table = result.table
    for name, some in sizes.items():
        table = table[table[name].isin(some)]
    figure = draw(replace(result, table=table))
    FigureCanvasAgg(figure).draw()
    page = figure.bbox
    for axes in figure.axes:
        texts = [axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for text in (*texts, *figure.texts, figure._suptitle):
            box = text.get_window_extent()
            assert page.x0 <= box.x0 < box.x1 <= page.x1, text.get_text()
            assert page.y0 <= box.y0 < box.y1 <= page.y1, text.get_text()
        width = axes.get_window_extent().width / len(axes.get_xticks())
        assert all(text.get_window_extent().width < width for text in axes.texts)
    subtitle, note = figure.texts[-2:]
    top = max(axes.get_tightbbox().y1 for axes in figure.axes)
    bottom = min(axes.get_tightbbox().y0 for axes in figure.axes)
    assert subtitle.get_window_extent().y0 >= top
    assert note.get_window_extent().y1 <= bottom


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (1.2345, "1.23"), (12.345, "12.3"), (123.45, "123"), (1234.5, "1234")]
)
def test_numbers_have_three_digits(value, text):
    assert heatmap._number(value) == text


def test_a_single_cell_is_a_map(draw, result):
    one = result.at(batch=2, length=5)
    assert all(len(numbers(axes)) == 1 for axes in draw(one).axes)


def test_what_has_no_two_dimensions_is_refused_with_what_to_do(result, built, seed):
    with pytest.raises(ValueError, match="batch is the only dynamic dimension here; draw the curves"):
        heatmap.latency(sweep({"export": built("export", "eager", seed)}, [1], **QUICK), "export")
    with pytest.raises(ValueError, match="'jit' was not measured; use 'eager PyTorch', 'export'"):
        heatmap.latency(result, "jit")
    with pytest.raises(ValueError, match="'width' is not one of the two dimensions here; pad batch or length"):
        heatmap.padding(result, "export", ["width"])


def test_three_dimensions_are_drawn_at_one_size_of_the_third(result):
    table = result.table.assign(width=result.table["length"])
    dims = [*result.provenance["dims"], {"name": "width", "min": 1, "opt": 5, "max": 9}]
    three = replace(result, table=table, provenance={**result.provenance, "dims": dims})
    with pytest.raises(ValueError, match=r"batch, length, width vary, and a map has two .* sweep\.at\(width=\.\.\.\)"):
        heatmap.latency(three, "export")
    one = replace(three, table=table.assign(width=5))
    assert numbers(heatmap.latency(one, "export").axes[0]) == numbers(heatmap.latency(result, "export").axes[0])
    assert "width 5 · backend" in words(heatmap.latency(one, "export"))


def test_maps_are_rendered_like_curves(draw, result):
    image = plots.show(draw(result))
    assert "export" in image.alt
    assert plots.svg(draw(result)) == plots.svg(draw(result))


@pytest.mark.slow
def test_drawing_a_map_does_not_touch_pyplot():
    code = "import sys, tutorial_lib.figures.heatmap; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_curves_of_a_grid_need_one_line_of_it(result):
    with pytest.raises(ValueError, match=r"length vary too; plot sweep\.at\(length=\.\.\.\), or a heatmap"):
        plots.latency(result)
    axes = plots.latency(result.at(batch=4)).axes[0]
    assert axes.get_xlabel().startswith("length")
    assert "length 1/5/9, batch 1/2/4 (min/opt/max), batch 4" in axes.get_title(loc="left")
