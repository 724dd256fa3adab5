"""Models of the course and of the zoo, along every path: built by TensorRT for RTX with the range typed, or refused."""

import pytest
import upstream
from models import MODELS as ZOO

from tutorial_lib import MODELS, PATHS, decoder, prefill
from tutorial_lib.core import make_case
from tutorial_lib.engines import build

pytestmark = pytest.mark.slow
SECONDS = 600
"""Time limit of a build, for busy machines."""


def assert_as_typed(report, case):
    """Whether the first engine that takes a dynamic dimension has the range that was typed."""
    real = {}
    for each in (each for engine in report.engines for each in engine.data):
        for axis, ends in enumerate(zip(each.min, each.opt, each.max, strict=True)):
            real.setdefault((each.name, axis), ends)
    for spec in case.inputs:
        for axis, dim in spec.dynamic.items():
            assert real[spec.name, axis] == (1 if dim.min == 2 else dim.min, dim.opt, dim.max)


# ---- the course's models

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
CUT_ON_JIT = {"vit-any-size"}
"""Where Torch-TensorRT leaves the sum of sizes that counts the tokens to PyTorch."""
ONE_KERNEL = {"gated-norm", "rotary_embedding"}
"""What TensorRT fuses whole, so that there is nothing to keep between kernels."""
IN_SHORT = [("expand-reshape", "bf16"), ("text-encoder", "fp32")]
"""What every run of the slow tests builds; the long ones build all."""


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        pytest.param(model, precision, marks=[] if (model, precision) in IN_SHORT else pytest.mark.long)
        for model in MODELS
        for precision in BYTES
    ],
)
def test_a_model_of_the_course_is_built(installed, model, precision):
    case = make_case(model).in_precision(precision)
    memory = {}
    for path in PATHS:
        report = build(case, path, seconds=SECONDS)
        if path == "input" and len(case.inputs) > 1 and not upstream.SHARED_DIMS:
            assert "declared as two" in report.failed
            continue
        assert report.failed is None, path
        assert_as_typed(report, case)
        assert len(report.plans) == len(report.engines)
        assert bool(report.left_to_pytorch) == (path == "jit" and model in CUT_ON_JIT)
        for plan in report.plans:
            assert plan.layers
            assert plan.network_layers >= len(plan.layers)
        memory[path] = report.activation_bytes
        if path != "jit":
            parameters = sum(parameter.numel() for parameter in case.model.parameters())
            assert report.plans[0].weight_bytes >= 0.9 * BYTES[precision] * parameters
    assert min(memory.values()) > 0 or model in ONE_KERNEL


@pytest.mark.parametrize("path", ["jit", "input"])  # notebook 12 takes the third
def test_prefill_and_decode_are_built_and_decode_needs_a_tenth_of_the_memory(installed, path):
    first = build(prefill(batch=(2, 2, 4), new=(2, 128, 512), depth=1), path, seconds=SECONDS)
    step = build(decoder(batch=(2, 2, 4), new=(1, 1, 1), past=(2, 256, 511), depth=1), path, seconds=SECONDS)
    for report in (first, step):
        assert (report.failed, len(report.engines), report.left_to_pytorch) == (None, 1, ())
    assert first.activation_bytes > 5 * step.activation_bytes
    (keys,) = (i for i in step.engines[0].data if i.name == "past_keys")
    assert (keys.min[3], keys.opt[3], keys.max[3]) == (1, 256, 511)


# ---- models from outside

REFUSED = {
    ("u_net_in_steps", "jit"): "height is in steps of 4, which only the export path can be told",
    ("u_net_in_steps", "input"): "height is in steps of 4, which only the export path can be told",
    ("rotary_embedding", "jit"): "writes complex numbers as real ones, and just in time that fails",
}
LEFT_TO_PYTORCH = {
    "as_many_as_are_positive": ("aten.index.Tensor",),
    "detection_head": ("aten.gather.default",),
    "bert": ("aten.gather.default",),
    "llama": ("aten.cumsum.default",),
    "gpt2": ("aten.cumsum.default",),
}
"""A size that the data decide, look-ups, and sums along a length that varies."""
FROM_TRANSFORMERS = [("bert", "export"), ("llama", "jit"), ("gpt2", "input")]
FROM_OUTSIDE = [
    *((name, path) for name in ("u_net_in_steps", "rotary_embedding") for path in PATHS),
    *(("detection_head", path) for path in ("jit", "input")),
    *(("cross_attention", path) for path in ("input", "export")),
    ("gru_with_state", "input"),
    ("cnn_of_any_size", "export"),
    ("separable_with_squeeze_and_excitation", "jit"),
    ("as_many_as_are_positive", "input"),
    *FROM_TRANSFORMERS,
]
OF_THESE_IN_SHORT = [("u_net_in_steps", "export"), ("rotary_embedding", "jit"), ("as_many_as_are_positive", "input")]


@pytest.mark.parametrize(
    ("name", "path"),
    [pytest.param(*each, marks=[] if each in OF_THESE_IN_SHORT else pytest.mark.long) for each in FROM_OUTSIDE],
)
def test_a_model_from_outside_is_built_or_refused_with_a_reason(installed, name, path):
    if (name, path) in FROM_TRANSFORMERS:
        pytest.importorskip("transformers", reason="the dependency group zoo is not installed")
    case = ZOO[name]()
    report = build(case, path, seconds=SECONDS)
    if (name, path) in REFUSED:
        assert REFUSED[name, path] in report.failed
        return
    assert report.failed is None
    assert report.activation_bytes > 0 or name in ONE_KERNEL
    assert report.left_to_pytorch == LEFT_TO_PYTORCH.get(name, ())
    assert_as_typed(report, case)
