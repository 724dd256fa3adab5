"""What TensorRT for RTX says to upstream's examples about dynamic shapes, rebuilt in :mod:`upstream_examples`."""

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

AS_TYPED = [
    *((name, path) for name in ("first_model", "saved_convolution", "scores") for path in PATHS),
    ("video", "input"),
    ("video", "export"),
]
"""Cases, and the paths along which they are built with the range that was typed."""
IN_SHORT = [("saved_linear", "jit"), ("shared_batch", "input"), ("shared_batch", "export")]
"""A tenth of the same, for every run of the slow tests."""


@pytest.fixture(scope="session")
def report(installed):
    """``report(name, path, calls, options)``: the report on one of the cases; each is built once."""
    reports = {}

    def build(name, path, calls=(), options=None):
        key = name, path, repr(calls), repr(options)
        if key not in reports:
            reports[key] = engines.build(getattr(examples, name)(), path, calls, options, seconds=SECONDS)
        return reports[key]

    return build


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


@pytest.mark.parametrize(
    ("name", "path"), [*IN_SHORT, *(pytest.param(*case, marks=pytest.mark.long) for case in AS_TYPED)]
)
def test_the_engine_has_the_range_that_was_typed(report, name, path):
    result = report(name, path)
    assert result.failed is None
    assert result.left_to_pytorch == ()
    first, *further = result.engines
    assert built(first) == typed(result)
    assert in_the_plan(first) == {argument: (profile,) for argument, profile in typed(result).items()}
    with_one = [dim for dim in getattr(examples, name)().dims.values() if dim.min == 1]
    assert len(further) == (2 ** len(with_one) - 1 if path == "jit" else 0)


@pytest.mark.long
@pytest.mark.parametrize("path", PATHS)
def test_a_graph_that_is_cut_gives_two_engines_of_one_range(report, path):
    result = report("broken_graph", path, (1, 16), MULTIPLIED_BY_PYTORCH)
    assert result.left_to_pytorch == ("aten.mul.Tensor",)
    assert len(result.engines) == (4 if path == "jit" else 2)
    ranges = [(each.min[0], each.opt[0], each.max[0]) for e in result.engines[:2] for each in e.inputs]
    assert ranges == [(1, 8, 16)] * 2
    assert served(result) == [("served", (3, 4) if path == "jit" else (1, 2)), ("served", (1, 2))]


def test_weights_that_can_be_replaced_need_a_gpu_unless_they_are_inputs(report):
    result = report("saved_linear", "input", (), {"immutable_weights": False})
    assert "CHECK(status == CUDA_SUCCESS) failed" in result.log[0]
    assert result.explanation.kind == "tensorrt needs a GPU"
    assert "immutable_weights=False" in result.failed
    assert report("saved_linear", "jit", (), {"immutable_weights": False}).failed is None


@pytest.mark.long
def test_a_range_in_steps_can_be_said_on_export_alone(report):
    result = report("latents", "export")
    assert built(result.engines[0]) == typed(result)
    for path in ("jit", "input"):
        assert "in steps of 4, which only the export path can be told" in report("latents", path).failed


@pytest.mark.long
def test_complex_numbers_beside_dynamic_sizes_fail_just_in_time(report):
    result = report("video", "jit")
    assert result.explanation.kind == "complex numbers"
    assert "Compile ahead of time" in result.failed
    assert result.engines == ()


@pytest.mark.long
@pytest.mark.parametrize("path", ["input", "export"])
def test_ahead_of_time_the_places_of_an_image_lose_their_range_and_the_build_is_refused(report, path):
    result = report("text_and_image", path)
    (engine,) = result.engines
    assert built(engine) == {**typed(result), "img_ids": ((4096, 3),) * 3}
    assert result.notes == ("engine 1, img_id: its only size is 4096, not 3586 to 4096",)
    assert "itself cannot run at batch 2, seq_len 512, img_id 3586" in result.failed


@pytest.mark.long
def test_just_in_time_the_places_of_an_image_are_refused_and_tensorrt_saw_it_too(report):
    result = report("text_and_image", "jit")
    assert "img_id became the constant 4096" in result.failed
    assert "Profile kMIN values are not self-consistent" in result.engines[0].plan.messages[0]
