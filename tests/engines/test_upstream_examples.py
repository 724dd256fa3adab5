"""What TensorRT for RTX says to upstream's examples about dynamic shapes, rebuilt in :mod:`upstream_examples`.

Not rebuilt from ``examples/`` and ``docsrc/`` of pytorch/TensorRT (main, August 2026), with the reason:

=====================================================================  ==============================================
example                                                                why not
=====================================================================  ==============================================
multi_optimization_profiles.py and its page, the several profiles      ``Input(profiles=)`` comes with 2.14; the
                                                                       engine with one profile is rebuilt, on a small
                                                                       model of our own
save_dynamic_shapes_*.py and saving_models.rst, the saving             test_engines_saving.py; loading needs a GPU
torchtrt_executorch_example, torchtrt_aoti_example, the files          ExecuTorch, and a GPU for the packaged engine
torch_export_cudagraphs.py, cuda_graphs.rst, the CUDA graphs;          they run the engine, which needs a GPU
runtime_settings.rst, python_runtime.rst; weight_streaming_example.py,
the budgets
mutable_torchtrt_module_example.py, flux_demo.py: the pipelines;       their models are downloaded; small models with
torch_export_flux_dev.py, torch_export_sam2.py                         the same ranges are rebuilt, but SAM 2's, which
                                                                       are fixed
quantize_vit_fp8.py                                                    calibrated by NVIDIA's quantizer on a GPU
llama2_flashinfer_rmsnorm.py, auto_generate_*.py, aot_plugin.py,       plugins, whose kernels need a GPU; but for
nvrtc_aot_plugin.py, ptx_op.py, cuda_kernel_op.py,                     `supports_dynamic_shapes` their shapes are
custom_kernel_plugins.py                                               fixed
custom_converters/elu_model.py, the front end and the converter        TorchScript, which the RTX flavour does not
                                                                       have, and C++; the model is rebuilt
distributed_inference.rst, tensor_parallel_*.py                        several GPUs
cross_compile_windows.rst                                              a plan for Windows needs a GPU
torch_compile_transformers_example.py, torch_compile_stable_diffusion  ``dynamic=False``: about fixed shapes
.py, torch_compile_advanced_usage.py, dynamic_memory_allocation.py,
refit_engine_example.py, engine_caching_bert_example.py,
low_cpu_memory_compilation.py, aliased_io_*.py
contributors/dynamic_shapes.rst, trace.rst, dynamo_export.rst,         ranges of models that are not shown, in calls
performance_tuning.rst, notebooks.rst, tensorrt_rtx.rst                that are rebuilt here
=====================================================================  ==============================================
"""

import pytest
import upstream
import upstream_examples as examples

from tutorial_lib import PATHS, engines

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(upstream.MINOR < (2, 13), reason="seen with Torch-TensorRT 2.13 only"),
]
MULTIPLIED_BY_PYTORCH = {"torch_executed_ops": {"torch.ops.aten.mul.Tensor"}}
SECONDS = 400

# The cases, and the paths that they are built along. jit of a ResNet runs it on the CPU, and is among the calls below.
AS_TYPED = {
    "first_model": PATHS,  # compile_with_dynamic_inputs.py
    "half_resnet": ("input",),  # torch_compile_resnet_example.py
    "resnet": ("input",),  # torch_export_cudagraphs.py
    "saved_classifier": PATHS,  # save_dynamic_shapes_example.py
    "saved_convolution": PATHS,
    "saved_linear": PATHS,  # save_dynamic_shapes_both_methods.py
    "shared_batch": PATHS,  # shared_dynamic_dims_example.py
    "scores": PATHS,  # docsrc/user_guide/compilation/dynamic_shapes.rst
    "gpt2": PATHS,  # torch_compile_gpt2.py
    "llama": ("export",),  # weight_streaming_example.py
    "prefill_and_decode": PATHS,  # multi_optimization_profiles.py, its engine with one profile
    "video": ("input", "export"),  # torch_export_3d_rope.py
    "elu": PATHS,  # custom_converters/elu_model.py
    "perceptron": PATHS,  # torchtrt_aoti_example
    "square": PATHS,  # torchtrt_executorch_example
    "toy_convolution": PATHS,  # docsrc/getting_started/tensorrt_rtx.rst
}


@pytest.fixture(scope="session")
def report(installed):
    """``report(name, path, calls, options)``: the report on one of the cases; each is built once."""
    reports = {}

    def build(name, path, calls=(), options=None):
        key = name, path, repr(calls), repr(options)
        if key not in reports:
            case = getattr(examples, name)()
            reports[key] = engines.build(case, path, calls, options, seconds=SECONDS)
        return reports[key]

    return build


def inside(function, *arguments):
    return engines.run_inside(function, *arguments, seconds=SECONDS)


def typed(report):
    """The ranges as they were typed, with a min of 2 as 1, which Torch-TensorRT makes of it."""
    ranges = {}
    for each in report.requested:
        low = tuple(1 if a == 2 < c else a for a, c in zip(each.min, each.max, strict=True))
        ranges[each.name] = low, each.opt, each.max
    return ranges


def built(engine):
    return {each.name: (each.min, each.opt, each.max) for each in engine.data}


def in_the_plan(engine):
    """The same from TensorRT's own table."""
    return {each.argument or each.name: each.profiles for each in engine.plan.inputs if each.kind == "data"}


def served(report):
    return [(call.outcome, call.ran) for call in report.calls]


def batches(result):
    """(min, opt, max) of the batch of every input of several sizes of images or rows, engine by engine."""
    return [
        [(i.min[0], i.opt[0], i.max[0]) for i in e.data if len(i.opt) in (2, 4) and i.min != i.max]
        for e in result.engines
    ]


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in AS_TYPED.items() for path in paths])
def test_the_engine_has_the_range_that_was_typed(report, name, path):
    result = report(name, path)
    assert result.failed is None
    assert result.left_to_pytorch == ()
    first, *further = result.engines
    assert built(first) == typed(result)
    assert in_the_plan(first) == {argument: (profile,) for argument, profile in typed(result).items()}
    assert first.plan.plan_bytes > 0
    with_one = [dim for dim in getattr(examples, name)().dims.values() if dim.min == 1]
    assert len(further) == (2 ** len(with_one) - 1 if path == "jit" else 0)


@pytest.mark.parametrize("path", PATHS)
def test_a_graph_that_is_cut_gives_two_engines_of_one_range(report, path):
    result = report("broken_graph", path, (1, 16), MULTIPLIED_BY_PYTORCH)
    assert result.left_to_pytorch == ("aten.mul.Tensor",)
    assert len(result.engines) == (4 if path == "jit" else 2)
    ranges = [(each.min[0], each.opt[0], each.max[0]) for e in result.engines[:2] for each in e.inputs]
    assert ranges == [(1, 8, 16)] * 2
    assert served(result) == [("served", (3, 4) if path == "jit" else (1, 2)), ("served", (1, 2))]


# ---- options and calls of the examples ---------------------------------------------------------------------------


def test_gpt_2_serves_the_next_tokens_with_the_engine_of_the_prompt(report):
    """Upstream's comment says that the second token compiles anew."""
    assert served(report("gpt2", "jit", (8, 9, 1023))) == [("served", (1,))] * 3


def test_an_engine_that_streams_its_weights_is_built_without_a_gpu(report):
    result = report("llama", "export", (), {"enable_weight_streaming": True})
    assert result.failed is None
    assert built(result.engines[0]) == typed(result)


@pytest.mark.parametrize(("name", "path"), [("cached_resnet", "export"), ("saved_linear", "input")])
def test_weights_that_can_be_replaced_need_a_gpu(report, name, path):
    result = report(name, path, (), {"immutable_weights": False})
    assert "CHECK(status == CUDA_SUCCESS) failed" in result.log[0]
    assert result.explanation.kind == "tensorrt needs a GPU"
    assert "immutable_weights=False" in result.failed


def test_on_jit_weights_are_inputs_and_immutable_weights_changes_nothing(report):
    assert report("saved_linear", "jit", (), {"immutable_weights": False}).failed is None


def test_a_module_that_compiles_itself_has_replaceable_weights_and_cannot_be_built_without_a_gpu(installed):
    assert "CHECK(status == CUDA_SUCCESS) failed" in inside(examples.mutable_module, False).error
    assert "immutable_weights has to be False" in inside(examples.mutable_module, True).error


def test_a_range_in_steps_can_be_said_on_export_alone(report):
    result = report("latents", "export")
    assert built(result.engines[0]) == typed(result)
    for path in ("jit", "input"):
        refused = report("latents", path)
        assert "of sample == (4 + 4*" in refused.failed
        assert "_height = Dim('_height', min=16, max=32)" in refused.failed or path == "jit"


def test_complex_numbers_beside_dynamic_sizes_fail_just_in_time(report):
    result = report("video", "jit")
    assert result.explanation.kind == "complex numbers"
    assert "Compile ahead of time" in result.failed
    assert result.engines == ()


@pytest.mark.parametrize("path", ["input", "export"])
def test_ahead_of_time_the_places_of_an_image_lose_their_range_and_only_the_report_says_so(report, path):
    result = report("text_and_image", path, ({"img_id": 4000},))
    (engine,) = result.engines
    assert built(engine) == {**typed(result), "img_ids": ((4096, 3),) * 3}
    assert result.notes == ("engine 1, img_id: its only size is 4096, not 3586 to 4096",)
    assert result.calls[0].words == "img_ids has size 4000 in dim 0, and the optimization profile holds 4096"


def test_just_in_time_the_places_of_an_image_are_refused_and_tensorrt_saw_it_too(report):
    result = report("text_and_image", "jit")
    assert "dimension 0 of img_ids became the constant 4096" in result.failed
    assert "Profile kMIN values are not self-consistent" in result.engines[0].plan.messages[0]


def test_runtime_assertions_instead_of_guards_change_nothing_there(installed):
    result = inside(examples.compiled_with_asserts, examples.text_and_image())
    assert result.error is None
    assert [i.min for i in result.engines[0].data if i.name == "img_ids"] == [(4096, 3)]


# ---- upstream's calls as they are written ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["saved_linear", "saved_convolution", "toy_convolution"])
def test_written_as_upstream_writes_it_a_small_model_gets_no_engine(installed, name):
    result = inside(examples.compiled_as_written, getattr(examples, name)())
    assert result.error is None
    assert result.engines == ()
    assert "Skipping this subgraph, since min_block_size was detected to be 5" in result.warnings[0]


def test_written_as_upstream_writes_it_the_first_example_gets_its_engine(installed):
    (engine,) = inside(examples.compiled_as_written, examples.first_model()).engines
    assert [(i.min[0], i.opt[0], i.max[0]) for i in engine.inputs] == [(1, 4, 32)]


def test_opt_is_the_size_that_was_exported_not_that_of_the_input(installed):
    result = inside(examples.compiled_at_an_exported_size, examples.saved_classifier(), 2, 32)
    assert batches(result) == [[(1, 2, 32)]]


def test_max_is_that_of_the_dim_not_that_of_the_input(installed):
    result = inside(examples.compiled_at_an_exported_size, examples.perceptron(), 8, 1014)
    assert batches(result) == [[(1, 8, 1024)]]


@pytest.mark.parametrize("how", ["named", "keywords"])
def test_inputs_that_share_a_named_dimension_are_one_engine(installed, how):
    result = inside(examples.tied_inputs, examples.shared_batch(), how)
    assert result.error is None
    assert batches(result) == [[(1, 4, 8)] * 2]


@pytest.mark.parametrize("how", ["not tied", "namedtuple"])  # the names of a namedtuple are read from 2.14 on
def test_inputs_that_share_a_dimension_without_a_name_are_refused(installed, how):
    result = inside(examples.tied_inputs, examples.shared_batch(), how)
    assert "must always be equal" in result.error
    assert result.engines == ()


def test_a_converter_of_ones_own_is_used_and_gone_afterwards(installed):
    own = inside(examples.own_converter, (1, 2, 8))
    assert own.error is None
    assert own.result == 1
    assert batches(own) == [[(1, 2, 8)]]
    usual = inside(examples.compiled_as_written, examples.gelu(), {"min_block_size": 1})
    assert usual.error is None
    assert usual.engines[0].plan.network_layers < own.engines[0].plan.network_layers


def test_another_fixed_batch_compiles_once_more_and_then_for_all(installed):
    result = inside(examples.called_with, examples.resnet(2), (1, 8, 12))
    assert result.error is None
    assert [[batch[:2] for batch in engine] for engine in batches(result)] == [[], [(1, 8)]]


def test_marked_before_the_first_call_nothing_compiles_again(installed):
    assert batches(inside(examples.called_with, examples.resnet(2), (8, 12), None, True)) == [[(1, 8, 16)]]


def test_dynamic_true_does_not_compile_for_each_shape(installed):
    """Upstream's page for contributors says that it does."""
    result = inside(examples.called_with, examples.saved_linear(), (8, 4, 32), True)
    assert batches(result) == [[(1, 8, upstream.UNBOUNDED)]]
    assert any("has no max bound for dim 0" in text for text in result.warnings)


def test_a_plan_for_use_without_pytorch(installed):
    result = inside(examples.serialized, examples.first_model())
    assert result.error is None
    assert result.result > 7_000_000  # the model has 7,090,432 bytes of weights
