"""The figure of memory: its markers are TensorRT's numbers, and all of it can be read."""

from dataclasses import replace
from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tutorial_lib.builds.plan import Plan, PlanLayer
from tutorial_lib.builds.report import Engine, EngineInput
from tutorial_lib.engines import EngineReport
from tutorial_lib.figures.engine_memory import memory
from tutorial_lib.figures.plots import STYLES

VERSION = "1.5.0.114"
VERSIONS = {"torch-tensorrt-rtx": "2.13.0", "tensorrt-rtx": VERSION}
PLAN = Plan(
    plan_bytes=7_378_836,
    activation_bytes=0,
    weight_bytes=7_090_432,
    scratch_bytes=0,
    network_layers=36,
    shape_layers=26,
    layers=(),
    inputs=(),
    outputs=(),
    targets=("sm80",),
    conversion_seconds=0.0,
    build_seconds=0.0,
    messages=(),
    versions=VERSIONS,
)


def engine(low, opt, high, activation_bytes, late=False):
    x = EngineInput("x", "float32", (low, 8), (opt, 8), (high, 8))
    return Engine((x,), "somewhere", 5, 0.0, after_build=late, plan=replace(PLAN, activation_bytes=activation_bytes))


def report(*engines, case="seed", path="export", low=(1, 8), high=(32, 8)):
    return EngineReport(
        case=case,
        path=path,
        mode="build",
        target=None,
        requested=(EngineInput("x", "float32", low, low, high),),
        engines=engines,
        calls=(),
        left_to_pytorch=(),
        failed=None,
        explanation=None,
        log=(),
        notes=(),
        versions=VERSIONS,
        options={},
        seconds=0.0,
        tracing_seconds=0.0,
    )


SEED = [report(engine(1, 4, size, 2_000_000 * size + 8_000_000)) for size in (8, 32, 256)]
OTHER_OPT = report(engine(1, 256, 256, 520_000_000))
JIT = report(
    engine(1, 4, 32, 72_000_000),
    engine(1, 1, 1, 10_000_000),
    engine(1, 33, 4096, 8_200_000_000, late=True),
    path="jit",
)
VIT = [report(engine(1, 4, 8, 21_000_000), case="vit"), report(engine(1, 4, 128, 221_000_000), case="vit")]
VIT_OPT = report(engine(1, 128, 128, 241_000_000), case="vit")


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
    (axes,) = memory([*SEED, *VIT], "batch").axes
    seed = {(8, 24_000_000), (32, 72_000_000), (256, 520_000_000)}
    assert markers(axes) == seed | {(8, 21_000_000), (128, 221_000_000)}
    assert {text.splitlines()[-1] for text in labels(axes)} == {"24 MB", "72 MB", "520 MB", "21 MB", "221 MB"}
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "max of the batch"


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


def test_what_opt_does_to_memory_is_said_at_the_marker():
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


def test_the_title_names_the_builder_and_says_that_nothing_ran():
    title = memory(SEED, "batch").get_suptitle()
    assert title == (
        f"Activation memory grows with the max of the batch\nEngines built by TensorRT for RTX {VERSION}, not run"
    )


def test_reports_without_plans_and_models_with_other_than_one_dynamic_dimension_are_refused():
    with pytest.raises(ValueError, match="built none"):
        memory([report()], "batch")
    with pytest.raises(ValueError, match="2 dynamic dimensions"):
        memory([report(engine(1, 4, 32, 1), high=(32, 16))], "batch")


ALL = [*SEED, OTHER_OPT, JIT, *VIT, VIT_OPT]


@pytest.mark.parametrize("shown", [ALL, [JIT], SEED[:1], [*VIT, VIT_OPT]], ids=["all", "jit", "one", "vit"])
def test_no_text_leaves_the_page_or_covers_another(shown):
    figure = memory(shown, "batch")
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    texts = [*figure.texts, *axes.texts, axes.xaxis.label, axes.yaxis.label]
    low, high = axes.get_ylim()
    ticks = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    texts += [*axes.get_xticklabels(), *(label for tick, label in ticks if low <= tick <= high)]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    for name, box in boxes:
        assert figure.bbox.x0 <= box.x0, name
        assert box.x1 <= figure.bbox.x1, name
        assert box.y1 <= figure.bbox.y1, name
    for (one, box), (other, another) in combinations(boxes, 2):
        assert not box.overlaps(another), (one, other)
