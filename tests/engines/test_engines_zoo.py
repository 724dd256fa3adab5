"""Models from outside this tutorial, along every path: built with the range typed, or refused with a true reason."""

import pytest
import zoo

from tutorial_lib import PATHS
from tutorial_lib.engines import build

pytestmark = pytest.mark.slow
SECONDS = 600
"""Time limit of a build, for busy machines."""
REFUSED = {
    ("u-net", "input"): "A converter of Torch-TensorRT needs a number where the model has a size that varies",
    ("u-net", "export"): "A converter of Torch-TensorRT needs a number where the model has a size that varies",
}
LEFT_TO_PYTORCH = {
    "selecting": ("aten.index.Tensor",),
    "bert (transformers)": ("aten.gather.default",),
    "llama (transformers)": ("aten.cumsum.default",),
    "gpt2 (transformers)": ("aten.cumsum.default",),
}
"""A size that the data decide, a look-up in a table of one row, and sums along a length that varies."""


def case_of(name):
    if name.endswith("(transformers)"):
        pytest.importorskip("transformers", reason="the dependency group zoo is not installed")
    return zoo.MODELS[name]()


IN_SHORT = [("u-net", "export"), ("decoder with past", "jit"), ("selecting", "input")]
"""What every run of the slow tests builds; the long ones build all."""


@pytest.mark.parametrize(
    ("name", "path"),
    [
        pytest.param(name, path, marks=[] if (name, path) in IN_SHORT else pytest.mark.long)
        for name in zoo.MODELS
        for path in PATHS
    ],
)
def test_a_model_from_outside_is_built_or_refused_with_a_reason(installed, name, path):
    case = case_of(name)
    report = build(case, path, seconds=SECONDS)
    if (name, path) in REFUSED:
        assert REFUSED[name, path] in report.failed
        return
    assert report.failed is None
    typed = {(spec.name, axis): dim for spec in case.inputs for axis, dim in spec.dynamic.items()}
    real = {}
    for engine_input in (each for engine in report.engines for each in engine.data):
        for axis, ends in enumerate(zip(engine_input.min, engine_input.opt, engine_input.max, strict=True)):
            real.setdefault((engine_input.name, axis), ends)  # of the first engine that takes it
    if (name, path) != ("selecting", "jit"):  # in pieces, whose inputs have no names of the model's
        assert real.keys() >= typed.keys()
    for place, dim in typed.items():
        assert real.get(place) in (None, (1 if dim.min == 2 else dim.min, dim.opt, dim.max))
    assert report.activation_bytes > 0
    if (name, path) != ("selecting", "jit"):  # where Python runs between the pieces
        assert report.left_to_pytorch == LEFT_TO_PYTORCH.get(name, ())


@pytest.mark.long
def test_a_decoder_with_past_is_built_with_decomposed_attention_too(installed):
    report = build(zoo.decoder_with_past(), "export", options={"decompose_attention": True}, seconds=SECONDS)
    assert (report.failed, len(report.engines)) == (None, 1)


@pytest.mark.long
def test_a_u_net_is_built_where_the_operator_that_asks_for_a_size_is_left_to_pytorch(installed):
    options = {"torch_executed_ops": {"torch.ops.aten.upsample_bilinear2d.vec"}}
    report = build(zoo.unet(), "export", options=options, seconds=SECONDS)
    assert (report.failed, report.left_to_pytorch) == (None, ("aten.upsample_bilinear2d.vec",))
