"""What TensorRT for RTX makes of a model: memory, layers, profiles, progress, targets; and what it refuses, and why.

Real builds; the exact numbers are those of TensorRT for RTX 1.5, which goes with torch 2.13.
"""

import models as zoo
import own_models
import pytest
import torch
import upstream
from upstream import before_2_14, since_2_13

from tutorial_lib import expand_reshape, perceptron
from tutorial_lib.engines import build, build_all
from tutorial_lib.engines.targets import PORTABLE

AHEAD = ("input", "export")
numbers_of_1_5 = pytest.mark.skipif(upstream.MINOR < (2, 13), reason="the numbers are those of TensorRT for RTX 1.5")


@pytest.fixture(scope="module")
def reports(installed):
    """The tutorial's first model, as it is: batch 1/4/32, then a call at 33; by path."""
    return {report.path: report for report in build_all(expand_reshape(), calls=(33,))}


def failed(case, path, **arguments):
    """The report on a build that failed."""
    report = build(case, path, **arguments)
    assert report.failed
    assert "\n" not in report.failed
    return report


# ---- the tutorial's models


def test_activation_memory_and_the_engine_above_max_that_asks_for_gigabytes(reports):
    *_, late = reports["jit"].engines
    assert late.after_build
    assert (late.data[0].min[0], late.data[0].opt[0], late.data[0].max[0]) == (1, 33, upstream.UNBOUNDED)
    for path in AHEAD:
        assert reports[path].calls[0].outcome == "refused"
    if upstream.MINOR >= (2, 13):  # of 65536, as 2.11 asks, TensorRT for RTX 1.4 names 8 MB: too large a number for it
        memory = {path: [plan.activation_bytes for plan in report.plans] for path, report in reports.items()}
        assert memory["input"] == memory["export"] == [85_655_552]
        assert memory["jit"][:2] == [85_655_552, 10_612_736]
        assert memory["jit"][2] > 9.9e9


def test_weights_are_inputs_on_jit_and_inside_the_plan_on_the_other_paths(reports):
    for plan in reports["jit"].plans:
        weights = [tensor for tensor in plan.inputs if tensor.kind == "weight"]
        assert {tensor.profiles[0][0] for tensor in weights} == {(1, 1, 768), (2304, 768), (2304,)}
        assert not any(tensor.is_dynamic or tensor.is_shape_tensor for tensor in weights)
        assert plan.weight_bytes < 1000
        assert plan.plan_bytes < 1e6
    for path in AHEAD:
        (plan,) = reports[path].plans
        assert [(tensor.name, tensor.kind) for tensor in plan.inputs] == [("x", "data")]
        assert plan.plan_bytes > plan.weight_bytes > 4 * 2304 * 768


def test_inputs_of_a_plan_have_the_models_names_and_ranges_and_sizes_a_range_of_values(reports):
    inputs = reports["jit"].plans[0].inputs
    (x,) = (tensor for tensor in inputs if tensor.argument == "x")
    assert (x.kind, x.dtype, x.is_dynamic) == ("data", "float32", True)
    assert x.profiles == (((1, 196, 768), (4, 196, 768), (32, 196, 768)),)
    assert x.name != "x"
    sizes = [(i.is_shape_tensor, i.dtype, i.profiles) for i in inputs if i.kind == "shape"]
    assert sizes == [(True, "int64", (((1,), (4,), (32,)),))] * upstream.SIZES_ARE_INPUTS


@numbers_of_1_5
def test_a_dynamic_engine_has_26_layers_for_shapes_that_a_static_one_has_not(reports):
    (static,) = build(expand_reshape((4, 4, 4)), "export").plans
    assert (static.network_layers, static.shape_layers) == (9 if upstream.MINOR >= (2, 14) else 10, 0)
    assert (static.is_dynamic, static.activation_bytes) == (False, 17_874_944)
    assert "shape_call" not in {layer.type for layer in static.layers}
    for path in AHEAD:
        (dynamic,) = reports[path].plans
        assert (dynamic.network_layers, dynamic.shape_layers, dynamic.is_dynamic) == (36, 26, True)
        assert "shape_call" in {layer.type for layer in dynamic.layers}


def test_layers_of_a_plan_name_the_layers_of_the_network_that_they_were_made_from(reports, path):
    plan = reports[path].plans[0]
    (product,) = (layer for layer in plan.layers if any("MATRIX_MULTIPLY" in source for source in layer.sources))
    assert (product.inputs[0], product.outputs) == ("float32 [-1,768]", ("float32 [-1,2304]",))
    assert any("CONCATENATION" in source for layer in plan.layers for source in layer.sources)
    assert len(plan.layers) < plan.network_layers


def test_versions_targets_and_seconds_are_noted(installed, reports, path):
    report = reports[path]
    assert [engine.engine_bytes for engine in report.engines] == [plan.plan_bytes for plan in report.plans]
    for plan in report.plans:
        assert [(tensor.dtype, tensor.kind) for tensor in plan.outputs] == [("float32", "")]
        assert plan.tensorrt_version == installed.tensorrt_rtx
        assert plan.versions["torch-tensorrt-rtx"] == installed.torch_tensorrt
        assert plan.versions["torch"] == torch.__version__
        assert set(plan.targets) <= set(PORTABLE)
        assert "sm89" in plan.targets
        assert plan.build_seconds > 0
        assert plan.conversion_seconds > 0
        if upstream.MINOR >= (2, 13):  # 1.4 warns of its own defaults
            assert plan.messages == ()
        assert plan.data is None
    built = sum(plan.conversion_seconds + plan.build_seconds for plan in report.plans)
    assert report.tracing_seconds == pytest.approx(report.seconds - built)
    assert installed.tensorrt_rtx in report.title


def test_a_model_in_half_precision_is_built_in_it(installed):
    (plan,) = build(perceptron((1, 2, 4), width=16).in_precision("fp16"), "export").plans
    tensors = [text for layer in plan.layers for text in (*layer.inputs, *layer.outputs)]
    assert tensors
    assert all(text.startswith("float16 ") for text in tensors)
    assert {tensor.dtype for tensor in (*plan.inputs, *plan.outputs)} == {"float16"}


# ---- memory follows max


def test_activation_memory_grows_with_max_and_opt_does_not_move_it(reports):
    at_32 = reports["export"].activation_bytes
    assert build(expand_reshape((1, 32, 32)), "export").activation_bytes == at_32
    at_256 = build(expand_reshape((1, 4, 256)), "export").activation_bytes
    assert at_256 > 7 * at_32
    if upstream.MINOR >= (2, 13):
        assert at_256 == 627_900_416


# ---- progress


def test_progress_passes_every_stage_and_grows_while_tensorrt_builds(installed):
    seen = []
    build(own_models.deep(8), "export", [4], progress=seen.append)
    stages = list(dict.fromkeys(progress.stage for progress in seen))
    assert stages == ["starting", "tracing", "converting", "building", "calling"]
    building = [progress for progress in seen if progress.stage == "building" and progress.total]
    done = [progress.done for progress in building]
    assert done == sorted(done)
    assert done[-1] > done[0]
    assert {progress.total for progress in building} == {100}
    assert max(done) <= 100
    assert all(progress.text for progress in seen)


# ---- targets


def test_a_plan_is_built_for_the_target_that_was_asked_for_and_given_on_request(installed):
    report = build(perceptron((1, 2, 4), width=16), "export", target="SM89", keep_plans=True)
    (plan,) = report.plans
    assert (report.target, plan.targets) == ("sm89", ("sm89",))
    assert isinstance(plan.data, bytes)
    assert len(plan.data) == plan.plan_bytes


def test_a_dynamic_plan_for_turing_is_refused_since_it_could_return_zeros(installed):
    report = failed(expand_reshape((1, 4, 8), embed_dim=24, tokens=7), "export", target="sm75")
    assert "can return zeros without an error" in report.failed
    assert build(perceptron((4, 4, 4), width=16), "export", target="sm75").failed is None


# ---- what is refused


def refusal(name, cause, advice=None, operator=None, marks=()):
    """A model, the cause of its refusal, and the options of the advice, or the operator that is left to PyTorch."""
    options = {"torch_executed_ops": {f"torch.ops.aten.{operator}"}} if operator else advice
    return pytest.param(getattr(own_models, name, None) or zoo.MODELS[name], cause, options, id=name, marks=marks)


NORM = "_native_batch_norm_legit_no_training.default"
REFUSED = [
    refusal("pool", "cannot convert adaptive_avg_pool2d where the sizes", operator="_adaptive_avg_pool2d.default"),
    refusal("u_net_resized", "a number where the model has a size that varies", operator="upsample_bilinear2d.vec"),
    refusal("places", "torch.arange begins at a size that varies", marks=before_2_14),
    # 2.11 takes attention apart by itself, and builds it
    refusal("heads", "has to know the number of heads", {"decompose_attention": True}, marks=since_2_13),
    refusal("a_size_among_the_results", "The result holds a number", marks=since_2_13),
    refusal("positive", "converts aten.nonzero.default for TensorRT", operator="nonzero.default", marks=since_2_13),
    refusal("fourier_operator", "Torch-TensorRT 2.13 writes complex numbers as real ones", marks=since_2_13),
    refusal("double_precision", "does not compute in float64", marks=since_2_13),
    refusal("ordered", "torch.sort over the last", operator="sort.default", marks=[since_2_13, before_2_14]),
    refusal("time_delay_network", "cannot tell the shape of what", operator=NORM, marks=since_2_13),
]


@pytest.mark.parametrize(("case", "cause", "advice"), REFUSED)
def test_a_refusal_is_explained_and_the_advice_helps(installed, case, cause, advice):
    message = failed(case(), "export").failed
    assert f"export with tensorrt could not compile {case.__name__}: " in message
    assert cause in message
    for option, value in (advice or {}).items():
        assert option in message
        assert value is True or all(operator in message for operator in value)
        assert build(case(), "export", options=advice).failed is None


@pytest.mark.slow
@pytest.mark.parametrize(("case", "cause", "_"), [row for row in REFUSED if row.id in ("pool", "places", "heads")])
def test_a_refusal_on_jit_is_explained_alike(installed, case, cause, _):
    report = failed(case(), "jit")
    assert report.explanation
    assert f"jit with tensorrt could not compile {case.__name__}: " in report.failed
    assert cause in report.failed


@since_2_13
def test_the_reason_that_stands_in_tensorrts_log_alone_is_found_there(installed):
    report = failed(own_models.heads(), "export")
    assert any("[AttentionInput]" in line for line in report.log)
    if upstream.MINOR < (2, 14):  # whose exception has no more to say
        assert "[AttentionInput]" in report.explanation.quote


@pytest.mark.parametrize(("path", "low"), [("input", 1), ("export", 1), ("export", 2)])
def test_a_number_taken_out_of_a_tensor_is_explained_at_any_min(installed, path, low):
    report = failed(own_models.item(low), path, mode="graph")
    assert report.explanation.kind == "number from a tensor"
    assert f"the {path} path cannot run: The model takes a number out of a tensor" in report.failed
    assert len(report.engines) == 1


def test_what_a_graph_break_passes_on_is_no_weight(installed):
    graph, *_ = build(own_models.item(), "jit", mode="graph").engines
    assert [(i.kind, i.min[0], i.max[0]) for i in graph.inputs if len(i.min) == 2] == [("intermediate", 1, 8)]


def test_engines_built_before_a_refusal_are_in_the_report(installed):
    report = failed(own_models.item(), "export")
    assert [engine.plan.network_layers for engine in report.engines] == [2]


@pytest.mark.slow
def test_weights_that_can_be_replaced_need_a_gpu_unless_they_are_inputs(installed):
    options, case = {"immutable_weights": False}, perceptron((1, 2, 4), width=16)
    report = failed(case, "export", options=options)
    assert "CHECK(status == CUDA_SUCCESS) failed" in report.log[0]
    assert report.explanation.kind == "tensorrt needs a GPU"
    assert "immutable_weights=False" in report.failed
    assert build(case, "jit", options=options).failed is None
