"""What TensorRT for RTX makes of a model: memory, layers, profiles, progress, targets; and what it refuses, and why.

Real builds; the exact numbers are those of TensorRT for RTX 1.5, which goes with torch 2.13.
"""

from dataclasses import replace

import own_models
import pytest
import torch
import upstream

from tutorial_lib import expand_reshape, perceptron
from tutorial_lib.engines import build, build_all
from tutorial_lib.engines.targets import PORTABLE

AHEAD = ("input", "export")
numbers_of_1_5 = pytest.mark.skipif(upstream.MINOR < (2, 13), reason="the numbers are those of TensorRT for RTX 1.5")


@pytest.fixture(scope="module")
def reports(installed):
    """The tutorial's first model, as it is: batch 1/4/32, then a call at 33; by path."""
    return {report.path: report for report in build_all(expand_reshape(), calls=(33,))}


@pytest.fixture(scope="module")
def half(installed):
    """The perceptron in float16: tokens 1/64/1024; by path."""
    return {report.path: report for report in build_all(perceptron().in_precision("fp16"))}


def failed(case, path, **arguments):
    """The report on a build that failed."""
    report = build(case, path, **arguments)
    assert report.failed
    assert "\n" not in report.failed
    return report


# ---- the tutorial's models


@numbers_of_1_5
def test_activation_memory_of_every_engine(reports):
    memory = {path: [plan.activation_bytes for plan in report.plans] for path, report in reports.items()}
    assert memory["input"] == memory["export"] == [85_655_552]
    assert memory["jit"][:2] == [85_655_552, 10_612_736]


def test_the_call_above_max_has_an_engine_built_for_4096_that_asks_for_gigabytes(reports):
    *_, late = reports["jit"].engines
    assert late.after_build
    assert (late.data[0].min[0], late.data[0].opt[0], late.data[0].max[0]) == (1, 33, upstream.UNBOUNDED)
    if upstream.MINOR >= (2, 13):  # of 65536, as 2.11 asks, TensorRT for RTX 1.4 names 8 MB: too large a number for it
        assert late.plan.activation_bytes > 9.9e9
    for path in AHEAD:
        assert reports[path].calls[0].outcome == "refused"


def test_weights_are_inputs_on_jit_and_inside_the_plan_on_the_other_paths(reports):
    for plan in reports["jit"].plans:
        assert [tensor.kind for tensor in plan.inputs].count("weight") == 3
        assert plan.weight_bytes < 1000
        assert plan.plan_bytes < 1e6
    for path in AHEAD:
        (plan,) = reports[path].plans
        assert [(tensor.name, tensor.kind) for tensor in plan.inputs] == [("x", "data")]
        assert plan.weight_bytes > 4 * 2304 * 768
        assert plan.plan_bytes > plan.weight_bytes


def test_inputs_of_a_plan_have_the_models_names_and_ranges(reports):
    inputs = {tensor.argument: tensor for tensor in reports["jit"].plans[0].inputs}
    x = inputs.pop("x")
    assert (x.kind, x.dtype, x.is_dynamic) == ("data", "float32", True)
    assert x.profiles == (((1, 196, 768), (4, 196, 768), (32, 196, 768)),)
    assert x.name != "x"
    kinds = sorted(tensor.kind for tensor in inputs.values())
    assert kinds == [*["shape"] * upstream.SIZES_ARE_INPUTS, *["weight"] * 3]
    weights = [tensor for tensor in inputs.values() if tensor.kind == "weight"]
    assert {tensor.profiles[0][0] for tensor in weights} == {(1, 1, 768), (2304, 768), (2304,)}
    assert not any(tensor.is_dynamic or tensor.is_shape_tensor for tensor in weights)


@pytest.mark.skipif(not upstream.SIZES_ARE_INPUTS, reason="before 2.12, a size is computed again in the graph")
def test_a_size_passed_as_a_number_is_a_shape_tensor_with_a_range_of_values(reports):
    (size,) = (tensor for tensor in reports["jit"].plans[0].inputs if tensor.kind == "shape")
    assert (size.is_shape_tensor, size.dtype) == (True, "int64")
    assert size.profiles == (((1,), (4,), (32,)),)


@numbers_of_1_5
@pytest.mark.parametrize("path", AHEAD)
def test_a_dynamic_engine_has_26_layers_for_shapes_that_a_static_one_has_not(reports, path):
    (dynamic,) = reports[path].plans
    (static,) = build(expand_reshape((4, 4, 4)), path).plans
    assert (dynamic.network_layers, dynamic.shape_layers) == (36, 26)
    assert (static.network_layers, static.shape_layers) == (9 if upstream.MINOR >= (2, 14) else 10, 0)
    assert (dynamic.is_dynamic, static.is_dynamic) == (True, False)
    assert static.activation_bytes == 17_874_944
    assert "shape_call" in {layer.type for layer in dynamic.layers}
    assert "shape_call" not in {layer.type for layer in static.layers}


def test_layers_of_a_plan_name_the_layers_of_the_network_that_they_were_made_from(reports, path):
    plan = reports[path].plans[0]
    products = [layer for layer in plan.layers if any("MATRIX_MULTIPLY" in source for source in layer.sources)]
    assert len(products) == 1
    assert products[0].inputs[0] == "float32 [-1,768]"
    assert products[0].outputs == ("float32 [-1,2304]",)
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


def test_a_model_in_half_precision_is_built_in_it(half, path):
    report = half[path]
    assert report.failed is None
    assert [(e.data[0].min[0], e.data[0].opt[0], e.data[0].max[0]) for e in report.engines] == [
        (1, 64, 1024),
        *[(1, 1, 1)] * (path == "jit"),
    ]
    for plan in report.plans:
        tensors = [text for layer in plan.layers for text in (*layer.inputs, *layer.outputs)]
        assert tensors
        assert all(text.startswith("float16 ") for text in tensors)
        assert {tensor.dtype for tensor in (*plan.inputs, *plan.outputs)} == {"float16"}


def test_a_plan_is_given_on_request(installed):
    (plan,) = build(perceptron((1, 2, 4), width=16), "export", keep_plans=True).plans
    assert isinstance(plan.data, bytes)
    assert len(plan.data) == plan.plan_bytes


# ---- memory follows max


@pytest.mark.parametrize("opt", [2, 32])
def test_opt_does_not_move_activation_memory(reports, opt):
    assert build(expand_reshape((1, opt, 32)), "export").activation_bytes == reports["export"].activation_bytes


def test_activation_memory_grows_with_max(reports):
    memory = [build(expand_reshape((1, 4, high)), "export").activation_bytes for high in (8, 256)]
    ordered = [memory[0], reports["export"].activation_bytes, memory[1]]
    assert ordered == sorted(set(ordered))
    assert ordered[-1] > 7 * ordered[1]
    if upstream.MINOR >= (2, 13):
        assert ordered[-1] == 627_900_416


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
    assert all(0 <= progress.done <= 100 for progress in building)
    assert all(progress.text for progress in seen)


# ---- targets


def test_a_plan_is_built_for_the_target_that_was_asked_for(installed):
    report = build(perceptron((1, 2, 4), width=16), "export", target="SM89")
    assert (report.target, report.plans[0].targets) == ("sm89", ("sm89",))
    assert " for sm89, not run" in report.title


def test_a_dynamic_plan_for_turing_is_refused_since_it_could_return_zeros(installed):
    report = failed(expand_reshape((1, 4, 8), embed_dim=24, tokens=7), "export", target="sm75")
    assert "can return zeros without an error" in report.failed
    assert build(perceptron((4, 4, 4), width=16), "export", target="sm75").failed is None


# ---- what is refused

REFUSED = {
    "pool": (
        own_models.pool,
        "tensorrt converter",
        "Torch-TensorRT cannot convert adaptive_avg_pool2d where the sizes that it pools vary.",
        {"torch_executed_ops": {"torch.ops.aten._adaptive_avg_pool2d.default"}},
    ),
    "interpolate": (
        own_models.up,
        "tensorrt converter",
        "A converter of Torch-TensorRT needs a number where the model has a size that varies",
        {"torch_executed_ops": {"torch.ops.aten.upsample_bilinear2d.vec"}},
    ),
    "arange": (own_models.places, "tensorrt converter", "torch.arange begins at a size that varies", None),
    "attention": (
        own_models.heads,
        "tensorrt attention",
        "TensorRT's attention layer has to know the number of heads",
        {"decompose_attention": True},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_explained_and_the_advice_helps(installed, name):
    case, kind, cause, options = REFUSED[name]
    if name == "attention" and upstream.MINOR < (2, 13):
        pytest.skip("Torch-TensorRT 2.11 takes attention apart by itself, and builds it")
    if name == "arange" and upstream.MINOR >= (2, 14):
        pytest.skip("Torch-TensorRT 2.14 converts such an arange, and builds it on jit")
    report = failed(case(), "export")
    assert report.explanation.kind == kind
    assert report.explanation.cause.startswith(cause)
    assert f"export with tensorrt could not compile {case().name}: {cause}" in report.failed
    if options:
        assert next(iter(options)) in report.explanation.fix
        assert build(case(), "export", options=options).failed is None


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in REFUSED if name != "interpolate"])
def test_a_refusal_on_jit_is_explained_alike(installed, name):
    case, kind, cause, _ = REFUSED[name]
    if name == "attention" and upstream.MINOR < (2, 13):
        pytest.skip("Torch-TensorRT 2.11 takes attention apart by itself, and builds it")
    if name == "arange" and upstream.MINOR >= (2, 14):
        pytest.skip("Torch-TensorRT 2.14 converts such an arange, and builds it on jit")
    report = failed(case(), "jit")
    assert report.explanation.kind == kind
    assert f"jit with tensorrt could not compile {case().name}: {cause}" in report.failed


@pytest.mark.skipif(upstream.MINOR < (2, 13), reason="seen with Torch-TensorRT 2.13")
@pytest.mark.parametrize(
    ("case", "cause", "left"),
    [
        (own_models.counted, "The result holds a number", None),
        (own_models.positive, "Torch-TensorRT converts aten.nonzero.default for TensorRT, and not for", "aten.nonzero"),
        (own_models.spectrum, "Torch-TensorRT 2.13 writes complex numbers as real ones", None),
        (own_models.double, "TensorRT does not compute in float64", None),
        pytest.param(own_models.ordered, "torch.sort over the last dimension", "aten.sort", marks=upstream.before_2_14),
        (own_models.sequences, "cannot tell the shape of what", "aten._native_batch_norm_legit_no_training"),
    ],
)
def test_errors_of_torch_tensorrts_own_code_are_explained(installed, case, cause, left):
    message = failed(case(), "export").failed
    assert cause in message
    if left:  # what to leave to PyTorch
        operator = f"torch.ops.{left}.default"
        assert operator in message
        assert build(case(), "export", options={"torch_executed_ops": {operator}}).failed is None


@pytest.mark.skipif(upstream.MINOR < (2, 13), reason="Torch-TensorRT 2.11 takes attention apart, and builds it")
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
    case = replace(own_models.item(), name="item")
    report = failed(case, "export")
    assert [engine.plan.network_layers for engine in report.engines] == [2]
