"""The figure of engine reports: what it draws is what a report says, and all of it can be read."""

from dataclasses import replace
from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tutorial_lib.builds.report import Engine, EngineInput
from tutorial_lib.engines import Call, EngineReport
from tutorial_lib.figures.engine_profiles import profiles


def of_x(low, opt, high, patches=(196, 196, 196)):
    return EngineInput("x", "float32", *zip((low, opt, high), patches, strict=True))


def engine(*range_of_x, late=False, **more):
    return Engine((of_x(*range_of_x, **more),), "somewhere", 5, 0.0, after_build=late)


def made(path, engines, calls=(), **more):
    values = dict.fromkeys(("target", "failed", "explanation"))
    values |= {"left_to_pytorch": (), "log": (), "notes": (), "options": {}, "seconds": 0.0, "tracing_seconds": 0.0}
    values |= {"case": "seed", "path": path, "mode": "build", "requested": (of_x(2, 4, 32),), "versions": VERSIONS}
    return EngineReport(engines=engines, calls=calls, **{**values, **more})


def call(size, outcome, built=()):
    return Call({"batch": size}, outcome, "", None, (), built, None)


VERSIONS = {"torch-tensorrt-rtx": "2.13.0", "tensorrt-rtx": "1.5.0.114"}
JIT = made(
    "jit",
    (engine(1, 4, 32), engine(1, 1, 1, late=True), engine(1, 33, 65536, late=True)),
    (call(1, "built", (2,)), call(33, "built", (3,))),
)
AHEAD = made("export", (engine(1, 4, 32),), (call(1, "served"), call(33, "refused")))
TWO = replace(
    made(
        "input",
        (engine(1, 4, 32, patches=(49, 196, 576)),),
        (Call({"b": 4, "p": 600}, "refused", "", "", (), (), None),),
    ),
    requested=(of_x(2, 4, 32, patches=(49, 196, 576)),),
)
FAILED = replace(made("jit", ()), failed="no")


def bars(axes):
    return [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]


def marks(axes, marker):
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == marker]


def words(axes):
    return [text.get_text() for text in axes.texts]


def test_ranges_and_opts_are_those_of_the_record():
    jit, export = profiles([JIT, AHEAD]).axes
    assert bars(jit) == [(2, 32), (1, 32), (1, 1), (1, 65536)]
    assert marks(jit, "o") == [4, 4, 1, 33]
    assert words(jit) == ["2 / 4 / 32", "1 / 4 / 32", "only 1", "1 / 33 / 65536"]
    assert bars(export) == [(2, 32), (1, 32)]


def test_engines_built_by_a_call_are_hatched_and_name_it():
    jit, _ = profiles([JIT, AHEAD]).axes
    assert [bool(bar.get_hatch()) for bar in jit.patches] == [False, False, True, True]
    labels = [label.get_text() for label in jit.get_yticklabels()]
    assert labels == ["typed", "engine 1", "engine 2, built at batch 1", "engine 3, built at batch 33"]


def test_a_refused_call_is_crossed_where_it_was_refused():
    jit, export = profiles([JIT, AHEAD]).axes
    assert (marks(jit, "x"), marks(export, "x")) == ([], [33])
    batch, patches = profiles([TWO]).axes
    assert (marks(batch, "x"), marks(patches, "x")) == ([], [600])


def test_ticks_are_sizes_that_occur():
    for axes in profiles([JIT, AHEAD]).axes:
        assert set(axes.get_xticks()) <= {1, 2, 4, 32, 33, 65536}
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "batch (x, dim 0)"


def test_it_says_by_what_the_engines_were_built_and_that_they_did_not_run():
    title = profiles([JIT, AHEAD]).get_suptitle()
    assert title.startswith("Engines built by TensorRT for RTX 1.5.0.114, not run; beside each: activation memory\n")
    assert "seed, typed: x [2/4/32, 196]" in title


def test_it_does_not_say_so_where_nothing_was_built():
    title = profiles([replace(JIT, mode="graph")]).get_suptitle()
    assert title.startswith("What Torch-TensorRT 2.13.0 asks for. TensorRT built nothing.\n")


def test_a_failed_build_says_so():
    (axes,) = profiles([FAILED]).axes
    assert axes.get_title(loc="left") == "jit: the build failed"
    assert bars(axes) == [(2, 32)]


@pytest.mark.parametrize(
    "shown", [[JIT, replace(AHEAD, path="input"), AHEAD], [TWO], [FAILED]], ids=["all", "two", "failed"]
)
def test_no_text_leaves_the_page_or_covers_another(shown):
    figure = profiles(shown)
    FigureCanvasAgg(figure).draw()
    texts = [*figure.texts, *figure.legends[0].get_texts()]
    for axes in figure.axes:
        texts += [*axes.texts, axes.title, axes._left_title, axes.xaxis.label]
        texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_visible() and t.get_text()]
    page = figure.bbox
    for name, box in boxes:
        assert page.x0 <= box.x0, name
        assert box.x1 <= page.x1, name
        assert page.y0 <= box.y0, name
        assert box.y1 <= page.y1, name
    for (one, box), (other, another) in combinations(boxes, 2):
        assert not box.overlaps(another), (one, other)
