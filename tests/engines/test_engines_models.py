"""Every model of the course, in every precision, along every path: built by TensorRT for RTX with the range typed."""

import pytest
import upstream

from tutorial_lib import MODELS, PATHS
from tutorial_lib.core import make_case
from tutorial_lib.engines import build

pytestmark = pytest.mark.slow
SECONDS = 600
"""Time limit of a build, for busy machines."""
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
CUT_ON_JIT = {"vit-any-size"}
"""Where Torch-TensorRT leaves the sum of sizes that counts the tokens to PyTorch."""

ONE_KERNEL = {"gated-norm"}
"""What TensorRT fuses whole, so that there is nothing to keep between kernels."""


def range_of(report, case):
    """The ranges of the first engine's inputs, by the model's names."""
    axes = {spec.name: spec.dynamic for spec in case.inputs}
    return {
        (i.name, axis): (i.min[axis], i.opt[axis], i.max[axis])
        for i in report.engines[0].data
        for axis in axes.get(i.name, ())
    }


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
    dims = {(spec.name, axis): dim for spec in case.inputs for axis, dim in spec.dynamic.items()}
    typed = {place: (dim.min, dim.opt, dim.max) for place, dim in dims.items()}
    memory = {}
    for path in PATHS:
        report = build(case, path, seconds=SECONDS)
        if path == "input" and len(case.inputs) > 1 and not upstream.SHARED_DIMS:
            assert "declared as two" in report.failed
            continue
        assert report.failed is None, path
        assert range_of(report, case) == typed, path
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
