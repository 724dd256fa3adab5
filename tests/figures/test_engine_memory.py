"""The figure of memory: its markers are TensorRT's numbers."""

from dataclasses import replace

import pytest
from engine_reports import JIT, OTHER_OPT, SEED, VERSION, VIT, VIT_OPT, engine, report

from tutorial_lib.builds.plan import PlanLayer
from tutorial_lib.builds.report import EngineInput
from tutorial_lib.figures.engine_memory import memory
from tutorial_lib.figures.plots import STYLES


def markers(axes, hollow=False):
    return {
        (int(x), int(y))
        for line in axes.lines
        if (line.get_markerfacecolor() == "white") == hollow
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def labels(axes):
    return [text.get_text() for text in axes.texts]


def test_every_engine_is_a_marker_at_its_max_and_its_memory():
    figure = memory([*SEED, *VIT], "batch")
    (axes,) = figure.axes
    seed = {(8, 24_000_000), (32, 72_000_000), (256, 520_000_000)}
    assert markers(axes) == seed | {(8, 21_000_000), (128, 221_000_000)}
    assert {text.splitlines()[-1] for text in labels(axes)} == {"24 MB", "72 MB", "520 MB", "21 MB", "221 MB"}
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlabel()) == ("log", "log", "max of the batch")
    assert f"built by TensorRT for RTX {VERSION}, not run" in figure.get_suptitle()


def test_a_line_goes_through_the_engines_of_one_model_and_path_in_order_of_max():
    (axes,) = memory([SEED[2], SEED[0], SEED[1]], "batch").axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [8, 32, 256]
    assert line.get_color() == STYLES["export"]["color"]


def test_an_engine_that_a_call_built_is_hollow_and_on_no_line():
    (axes,) = memory([*SEED, JIT], "batch").axes
    assert markers(axes, hollow=True) == {(4096, 8_200_000_000)}
    assert all(4096 not in line.get_xdata() for line in axes.lines if len(line.get_xdata()) > 1)
    assert "seed, jit: built by a call out of range\n8.2 GB" in labels(axes)
    assert "seed, jit: only 1\n10 MB" in labels(axes)


def test_the_label_tells_what_opt_does_to_memory():
    assert "seed, export\nopt 4 and 256: 520 MB" in labels(memory([*SEED, OTHER_OPT], "batch").axes[0])
    assert "vit, export\nopt 4: 221 MB\nopt 128: 241 MB" in labels(memory([*VIT, VIT_OPT], "batch").axes[0])


def test_memory_that_leaves_out_what_is_allocated_at_run_time_says_so():
    late = engine(1, 33, 65536, 8_192_000, late=True)
    late = replace(late, plan=replace(late.plan, layers=(PlanLayer("allocate_0", "allocate"),)))
    (axes,) = memory([*SEED, replace(JIT, engines=(late,))], "batch").axes
    assert "seed, jit: built by a call out of range\n8.19 MB and more at run time" in labels(axes)


def test_the_same_memory_on_two_paths_is_labelled_once():
    (axes,) = memory([*SEED, JIT], "batch").axes
    assert [text for text in labels(axes) if "72 MB" in text] == ["72 MB"]
    assert "seed, export\n520 MB" in labels(axes), "jit has another line"


def test_paths_that_need_the_same_share_a_label_and_what_only_one_has_keeps_its_own():
    same = [replace(each, path="input") for each in SEED]
    (axes,) = memory([*same, *SEED], "batch").axes
    assert "seed, input and export\n520 MB" in labels(axes)
    one = replace(JIT, engines=JIT.engines[:2])
    (axes,) = memory([one, replace(SEED[1], path="input"), SEED[1]], "batch").axes
    assert labels(axes) == ["seed, jit, input and export\n72 MB", "seed, jit: only 1\n10 MB"]
    weights = EngineInput("w", "float32", (8,), (8,), (8,), kind="weight")
    with_weights = engine(4, 4, 4, 18_000_000)
    only_4 = {"jit": replace(with_weights, inputs=(*with_weights.inputs, weights)), "export": with_weights}
    static = [report(each, path=path) for path, each in only_4.items()]
    assert labels(memory([*SEED, *static], "batch").axes[0])[-1] == "seed, export and jit: only 4\n18 MB"


def test_the_current_setting_is_ringed_and_its_weights_are_shown_where_the_plan_holds_them():
    weights = EngineInput("w", "float32", (8,), (8,), (8,), kind="weight")
    first = JIT.engines[0]
    jit = replace(JIT, engines=(replace(first, inputs=(*first.inputs, weights)),))
    (axes,) = memory([*SEED, jit], "batch", current=[SEED[1], jit]).axes
    rings = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in rings] == [(32, 72_000_000)] * 2
    of_weights = [line for line in axes.lines if set(line.get_ydata()) == {7_090_432}]
    assert [list(line.get_xdata()) for line in of_weights] == [[8, 32, 256]]
    assert [text for text in labels(axes) if "weights" in text] == ["weights\n7.09 MB"]
    assert axes.get_ylim()[0] < 7_090_432
    assert "weights" not in " ".join(labels(memory(SEED, "batch").axes[0]))


def test_one_of_several_dimensions_is_chosen_by_its_axis():
    two = [report(engine(1, 4, size, size), patches=(49, 196, 576)) for size in (32, 64)]
    assert memory(two, "batch", axis=("x", 0)).axes[0].lines[0].get_xdata().tolist() == [32, 64]


def test_reports_without_plans_and_models_with_other_than_one_dynamic_dimension_are_refused():
    with pytest.raises(ValueError, match="built none"):
        memory([report()], "batch")
    with pytest.raises(ValueError, match="2 dynamic dimensions"):
        memory([report(engine(1, 4, 32, 1), patches=(49, 196, 576))], "batch")


def at(*amounts):
    """A report for each amount of activation memory, with max 8, 16 and so on."""
    return [report(engine(2, 4, 8 * 2**index, amount)) for index, amount in enumerate(amounts)]


@pytest.mark.parametrize(
    ("amounts", "finding"),
    [
        ((1_000_000, 2_000_000), "Activation memory grows with the max of the batch"),
        ((2_000_000, 2_000_000), "Activation memory does not grow with the max of the batch"),
        ((2_000_000,), "Activation memory at one max of the batch"),
        ((0, 0), "None of these engines needs activation memory"),
    ],
)
def test_the_title_says_what_the_numbers_show(amounts, finding):
    assert memory(at(*amounts), "batch").get_suptitle().splitlines()[0] == finding


def test_an_engine_that_needs_no_memory_is_in_sight():
    figure = memory(at(0, 2_000_000), "batch")
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    assert low < 0 < 2_000_000 < high
    assert (8, 0) in markers(axes)
    figure.canvas.draw()
    shown = [label.get_text() for label in axes.get_yticklabels() if label.get_text()]
    assert shown[:2] == ["0 bytes", "1 kB"]
