from dataclasses import replace

import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from tutorial_lib.figures import heatmap, plots

BATCHES, LENGTHS = [1, 2, 4], [1, 5, 9]


@pytest.fixture(params=[heatmap.latency, heatmap.padding], ids=lambda draw: draw.__name__)
def draw(request):
    return lambda shown: request.param(shown, "export")


def numbers(axes):
    """The text of every cell, row by row."""
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    columns, rows = (1 + max(place[axis] for place in texts) for axis in (0, 1))
    return [[texts[column, row] for column in range(columns)] for row in range(rows)]


def frames(axes):
    """(columns, rows) from and to which each outline goes, by its colour."""
    outlines = [patch for patch in axes.patches if isinstance(patch, Rectangle) and not patch.get_fill()]
    inner = {to_rgb(each.get_edgecolor()): each.get_bbox().padded(-0.5) for each in outlines}
    return {colour: tuple(box.extents) for colour, box in inner.items()}


def words(figure):
    return " ".join(" ".join(text.get_text().split()) for text in figure.texts)


def test_cells_are_the_medians_of_a_call_and_of_a_sample(gridded):
    call, sample = heatmap.latency(gridded, "export").axes
    assert numbers(call) == [["1.00", "5.00", "9.00"], ["2.00", "10.0", "18.0"], ["4.00", "20.0", "36.0"]]
    assert numbers(sample) == [["1.00", "5.00", "9.00"]] * 3
    assert (call.get_ylabel(), call.get_xlabel()) == ("batch", "length")
    assert [tick.get_text() for tick in call.get_xticklabels()] == ["1", "5", "9"]
    assert [tick.get_text() for tick in call.get_yticklabels()] == ["1", "2", "4"]
    assert "(ms)" in call.get_title(loc="left")


def test_padding_is_the_time_at_the_largest_size_over_the_time_at_the_cell(gridded):
    both = heatmap.padded(gridded, "export")
    assert both.to_numpy().tolist() == [[36 / (batch * length) for length in LENGTHS] for batch in BATCHES]
    (axes,) = heatmap.padding(gridded, "export").axes
    assert " ".join(axes.get_title(loc="left").split()) == "times as long, padded to batch 4, length 9"


def test_every_map_names_backend_device_range_and_what_is_marked(draw, gridded):
    figure = draw(gridded)
    text = words(figure)
    assert "backend eager" in text
    assert " ".join(gridded.provenance["device"].split()) in text
    assert "batch 1/2/4, length 1/5/9 (min/opt/max)" in text
    assert "Outlined: built for batch 1 to 4, length 1 to 9. Framed: opt (batch 2, length 5)." in text
    assert "export" in figure.get_suptitle()


def test_opt_and_the_range_are_marked(draw, gridded):
    for axes in draw(gridded).axes:
        assert frames(axes)[to_rgb(plots.OPT)] == (1, 1, 1, 1)
        assert frames(axes)[to_rgb("black")] == (0, 0, 2, 2)


def test_a_narrower_range_is_outlined_and_an_opt_that_was_not_measured_is_said(gridded):
    dims = [{"name": "batch", "min": 2, "opt": 3, "max": 4}, {"name": "length", "min": 1, "opt": 5, "max": 5}]
    figure = heatmap.latency(replace(gridded, provenance={**gridded.provenance, "dims": dims}), "export")
    assert frames(figure.axes[0]) == {to_rgb("black"): (0, 1, 1, 2)}
    assert "Opt (batch 3, length 5) was not measured." in words(figure)


def test_what_was_not_measured_stays_empty(draw, gridded):
    table = gridded.table[(gridded.table["batch"] != 1) | (gridded.table["length"] != 5)]
    for axes in draw(replace(gridded, table=table)).axes:
        assert numbers(axes)[0][1] == "–"


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def cell_colours(axes):
    """The colour of every cell, row by row."""
    (mesh,) = axes.collections
    mesh.update_scalarmappable()
    rows, columns = mesh.get_array().shape
    return mesh.get_facecolor().reshape(rows, columns, 4)


def test_every_number_can_be_read_on_its_cell(draw, gridded):
    for axes in draw(gridded).axes:
        cells = cell_colours(axes)
        for text in axes.texts:
            column, row = text.get_position()
            dark, light = sorted([luminance(text.get_color()), luminance(cells[row][column])])
            assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0.01234, "0.0123"), (12.345, "12.3"), (1234.5, "1234")],
)
def test_numbers_have_three_digits(milliseconds, text, gridded):
    call, _ = heatmap.latency(replace(gridded, table=gridded.table.assign(median_ms=milliseconds)), "export").axes
    assert numbers(call)[0][0] == text


def test_a_single_cell_is_a_map(draw, gridded):
    one = gridded.at(batch=2, length=5)
    assert all(len(numbers(axes)) == 1 for axes in draw(one).axes)


def test_what_has_no_two_dimensions_is_refused_with_what_to_do(gridded, earlier):
    with pytest.raises(ValueError, match="batch"):
        heatmap.latency(earlier, "jit")
    with pytest.raises(ValueError, match="use 'eager PyTorch', 'export'"):
        heatmap.latency(gridded, "jit")


def test_three_dimensions_are_drawn_at_one_size_of_the_third(gridded):
    table = gridded.table.assign(width=gridded.table["length"])
    dims = [*gridded.provenance["dims"], {"name": "width", "min": 1, "opt": 5, "max": 9}]
    three = replace(gridded, table=table, provenance={**gridded.provenance, "dims": dims})
    with pytest.raises(ValueError, match=r"sweep\.at\(width=\.\.\.\)"):
        heatmap.latency(three, "export")
    one = replace(three, table=table.assign(width=5))
    assert numbers(heatmap.latency(one, "export").axes[0]) == numbers(heatmap.latency(gridded, "export").axes[0])
    assert "width 5 · backend" in words(heatmap.latency(one, "export"))
