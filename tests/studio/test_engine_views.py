"""TensorRT's engines as HTML: every number is the report's, every word is escaped, and nothing claims to have run."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from engine_reports import SEED, VERSIONS, engine, report
from html_page import HOSTILE, Page
from plans import PLAN

from tutorial_lib import Case, DynamicDim, TensorSpec
from tutorial_lib.builds.plan import PlanLayer
from tutorial_lib.builds.report import Engine, EngineInput
from tutorial_lib.engines import Call, EngineReport
from tutorial_lib.experiments.result import Result
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.explain import Explanation
from tutorial_lib.studio import engine_views, views

X = EngineInput("x", "float32", (1, 7), (4, 7), (8, 7))
ONE = EngineInput("x", "float32", (1, 7), (1, 7), (1, 7))
JIT = EngineReport(
    case="seed",
    path="jit",
    mode="build",
    target=None,
    requested=(replace(X, min=(2, 7)),),
    engines=(
        Engine((X,), "the size of the first call", 5, 0.0, plan=PLAN),
        Engine((ONE,), "a call", 5, 0.0, after_build=True),
    ),
    calls=(
        Call({"batch": 1}, "built", "", None, (2,), (2,), None),
        Call({"batch": 9}, "refused", "it", HOSTILE, (), (), None),
    ),
    left_to_pytorch=("aten.cat",),
    notes=("engine 1, batch: min is 1, not 2",),
    versions=VERSIONS,
)
FAILED = replace(
    JIT,
    engines=(),
    calls=(),
    failed="TensorRT refused it.",
    log=("TensorRT refused it.", f"its own words {HOSTILE}"),
    explanation=Explanation("limit", "The cause is known.", "Do this."),
)
SHAPES = PlanLayer("__mye1", "shape_call")
FUSED = PlanLayer(
    "__myl_ReplConc_myl0_1",
    "kgen",
    ("[SLICE]-[aten_ops.expand.default]-[/expand]", "[CONCATENATION]-[unknown_ir_ops.cat.default]-[/cat]"),
    ("float32 [-1,196,768]",),
    ("float32 [-1,197,768]",),
)
PRODUCT = PlanLayer("gemm_myl0_2", "gemm", ("linear",), ("float32 [-1,768]",), ("float32 [-1,2304]",))
AGAIN = PlanLayer("__fc1", "gemm", ("linear",))
THREE = replace(PLAN, network_layers=36, shape_layers=26, layers=(SHAPES, FUSED, PRODUCT))


def result(*reports, model="seed", paths=("jit", "input", "export"), engines=True, **changes):
    setting = Setting(model, (DynamicDim("batch", 2, 4, 8),), paths=paths, engines=engines)
    return Result(setting, engines=reports, **changes)


def with_plan(**changes):
    return report(replace(engine(1, 4, 32), plan=replace(PLAN, **changes)))


def test_a_report_says_by_what_it_was_built_what_was_typed_and_what_it_became():
    page = Page(engine_views.engines(result(JIT)))
    assert page.text.strip().startswith("seed, jit: built by TensorRT for RTX 1.5.0.114, not run")
    head, first, second = page.rows[:3]
    row = dict(zip(head, first, strict=True))
    assert (row["typed"], row["real min/opt/max"]) == ("[2/4/8, 7]", "[1/4/8, 7] float32")
    assert (row["plan"], row["activation memory"], row["weights in the plan"]) == ("11 bytes", "85.7 MB", "7.09 MB")
    assert dict(zip(head, second, strict=True))["when"] == "after the build, by a call"
    for said in (*map(str, JIT.calls), *JIT.notes, "aten.cat"):
        assert said in page.text


def test_a_refusal_has_tensorrts_words_once_and_what_they_mean():
    text = Page(engine_views.engines(result(FAILED))).text
    assert "not built by TensorRT for RTX 1.5.0.114" in text
    assert "TensorRT has no engine for jit: TensorRT refused it." in text
    assert text.count("TensorRT refused it.") == 1
    assert f"its own words {HOSTILE}" in text
    assert "The cause is known. Do this." in text


def test_what_is_not_built_yet_is_named_and_what_is_not_asked_for_says_how_to_ask():
    assert "TensorRT builds the engines of input, export;" in engine_views.engines(result(JIT))
    assert "TensorRT builds" not in engine_views.engines(result(JIT, paths=("jit",)))
    assert "not asked for" in engine_views.engines(result(engines=False))


def test_layers_are_counted_drawn_and_listed():
    html = engine_views.engines(result(with_plan(network_layers=36, shape_layers=26, layers=THREE.layers)))
    page = Page(html)
    assert "Layers of the engine: 36 of the network, 26 of them for shapes → 3 of the plan" in page.text
    assert len(page.all("rect")) == 3
    assert len(page.all("path")) == 3
    made_from = "SLICE /expandCONCATENATION /cat"
    assert ["2", "kgen ReplConc", made_from, "float32 [-1,196,768]", "float32 [-1,197,768]"] in page.rows
    (svg,) = page.all("svg")
    assert svg["aria-label"] == "36 layers of the network became 3 of the plan"


def test_in_the_graph_every_layer_is_linked_to_its_sources_and_nothing_lies_on_something_else():
    graph = engine_views.graph(replace(THREE, layers=(*THREE.layers, AGAIN)))
    sources = {box.title: box.y for box in graph.sources}
    assert [box.title for box in graph.sources] == [*FUSED.sources, *PRODUCT.sources]
    middles = [box.y for box in graph.layers]
    expected = [(sources[source], middles[1]) for source in FUSED.sources]
    assert list(graph.links) == [*expected, (sources["linear"], middles[2]), (sources["linear"], middles[3])]
    heights = engine_views.SOURCE_HEIGHT, engine_views.LAYER_HEIGHT
    for column, height in zip((sorted(sources.values()), middles), heights, strict=True):
        assert all(lower - upper >= height for upper, lower in pairwise(column))
        assert height / 2 <= column[0] <= column[-1] <= graph.height - height / 2


def test_long_names_are_cut_in_the_middle_and_whole_on_request():
    long = "blocks.0.mlp.0/" + "linear_" * 20
    graph = engine_views.graph(replace(THREE, layers=(PlanLayer("a", "gemm", (long,)),)))
    (box,) = graph.sources
    assert len(box.text) == engine_views.SOURCE_LETTERS
    assert box.text.startswith("blocks.0.mlp.0/")
    assert box.title == long


def test_memory_is_drawn_over_the_max_of_a_dimension_and_told_in_numbers():
    axis = ("x", 0)
    figure = engine_views.memory_figure([*SEED, FAILED], [SEED[0], FAILED], "batch", axis)
    assert {int(size) for line in figure.axes[0].lines for size in line.get_xdata()} == {8, 32, 256}
    assert engine_views.memory_alt(SEED, "batch", axis).endswith("export: 24 MB at 8, 72 MB at 32, 520 MB at 256.")
    assert engine_views.memory_figure([FAILED], [FAILED], "batch", axis) is None


def test_the_axis_of_a_dimension_is_found_also_where_its_range_is_one_size():
    batch, length = DynamicDim("batch", 4, 4, 4), DynamicDim("length", 1, 5, 9)
    case = Case("two", torch.nn.ReLU(), (TensorSpec("a", (3, 7)), TensorSpec("b", (7, length, batch))))
    assert engine_views.axis_of(case, "batch") == ("b", 2)
    assert engine_views.axis_of(case, "length") == ("b", 1)
    assert engine_views.axis_of(case, "height") is None


def test_two_settings_are_compared_number_by_number():
    small = with_plan(layers=THREE.layers, network_layers=36)
    large = with_plan(layers=THREE.layers, network_layers=36, activation_bytes=2 * PLAN.activation_bytes)
    page = Page(engine_views.changes(("A: 8", result(small)), ("shown: 16", result(large))))
    assert page.rows[0] == ["what", "A", "shown", "factor"]
    assert ["activation memory", "85.7 MB", "171 MB", "2.00x"] in page.rows
    assert ["weights in the plan", "7.09 MB", "7.09 MB", "the same"] in page.rows
    assert ["layers, network → plan", "36 → 3", "36 → 3", ""] in page.rows
    assert page.rows[-1][0] == "layers that changed"
    assert page.rows[-1][1].startswith("none")
    assert "not run" in page.text


def test_layers_that_changed_are_listed_side_by_side():
    static = replace(PRODUCT, outputs=("float32 [4,2304]",))
    old, new = with_plan(layers=THREE.layers), with_plan(layers=(FUSED, static))
    page = Page(engine_views.changes(("A: 8", result(old)), ("B: 4", result(new))))
    assert page.rows[-2:] == [
        ["other layers", "shape_call", "–", ""],
        ["other tensors", "gemm float32 [-1,2304]", "gemm float32 [4,2304]", ""],
    ]


def test_an_engine_that_only_one_setting_has_is_compared_with_none():
    one, two = replace(JIT, engines=JIT.engines[:1]), replace(JIT, engines=(JIT.engines[0], JIT.engines[0]))
    page = Page(engine_views.changes(("A: 8", result(one)), ("B: 8", result(two))))
    assert "jit, engine 2" in page.text
    assert ["activation memory", "–", "85.7 MB", ""] in page.rows


@pytest.mark.parametrize(
    ("other", "why"),
    [(result(JIT, model="vit"), "two models"), (result(replace(JIT, path="export")), "no path of which both")],
)
def test_what_cannot_be_compared_says_why(other, why):
    assert why in engine_views.changes(("A: 8", result(JIT)), ("B: 8", other))


def test_hostile_text_stays_text():
    layer = PlanLayer(HOSTILE, HOSTILE, (HOSTILE,), (HOSTILE,), (HOSTILE,))
    bad = replace(
        JIT, case=HOSTILE, notes=(HOSTILE,), engines=(replace(JIT.engines[0], plan=replace(PLAN, layers=(layer,))),)
    )
    shown = [engine_views.engines(result(bad)), engine_views.engines(result(FAILED)), engine_views.unavailable(HOSTILE)]
    shown.append(engine_views.changes((HOSTILE, result(bad)), (HOSTILE, result(JIT))))
    for html in shown:
        page = Page(html)
        assert not page.all("script")
        assert HOSTILE in page.text


def test_every_class_has_a_style():
    old, new = result(with_plan(layers=THREE.layers)), result(JIT, FAILED)
    html = engine_views.engines(old) + engine_views.engines(new) + engine_views.changes(("A", old), ("B", old))
    used = {name for _, attrs in Page(html).tags for name in (attrs.get("class") or "").split()}
    for name in used:
        assert f".{name}" in views.STYLE, name
