"""The float64 reference of models whose forward makes tensors, or asks for dtypes, of its own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tutorial_lib import Case, DynamicDim, Reference, TensorSpec, paths, sweep
from tutorial_lib.checks import float64
from tutorial_lib.checks.float64 import NoFloat64

BATCH = DynamicDim("batch", 1, 3, 6)


class Own(nn.Module):
    """A model of these `parts`, whose forward is a function of the model and x."""

    def __init__(self, compute, **parts):
        super().__init__()
        self.compute = compute
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.compute(self, x)


def sinusoids(model, x):
    angle = x[:, None].float() * torch.linspace(1, 2, 4) * model.scale
    return model.linear(torch.cat([angle.sin(), angle.cos()], -1))


def first_state(model, x):
    state = torch.zeros(x.shape[0], 4)
    state[:, 1:] = x[:, :3]
    return model.cell(x, state)


def autocast(model, x):
    with torch.autocast("cpu", torch.bfloat16):
        y = model.linear(x)
    return y.float().softmax(-1)


PIXELS = TensorSpec("x", (BATCH, 3, 8, 8), torch.uint8, high=256)
NUMBERS, NINE = (TensorSpec("x", (BATCH,), torch.int64, high=high) for high in (1000, 9))
FLOATS = TensorSpec("x", (BATCH, 8))
MODELS = {
    "pixels": (PIXELS, lambda m, x: m.conv(x.float() / 255), {"conv": nn.Conv2d(3, 4, 3)}),
    "sinusoids of a plain tensor": (NUMBERS, sinusoids, {"linear": nn.Linear(8, 5), "scale": torch.tensor(0.1)}),
    "first state": (FLOATS, first_state, {"cell": nn.GRUCell(8, 4)}),
    "one hot": (NINE, lambda m, x: m.linear(F.one_hot(x, 9).float()), {"linear": nn.Linear(9, 4)}),
    "spectrum": (
        FLOATS,
        lambda m, x: torch.fft.rfft(x) * m.weight,
        {"weight": nn.Parameter(torch.randn(5, dtype=torch.cfloat))},
    ),
    "body in bfloat16": (
        FLOATS,
        lambda m, x: m.head(m.body(x.bfloat16()).relu().float()),
        {"body": nn.Linear(8, 32).bfloat16(), "head": nn.Linear(32, 4)},
    ),
    "autocast to bfloat16": (FLOATS, autocast, {"linear": nn.Linear(8, 32)}),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_forward_makes_itself_is_float64_too(name):
    spec, compute, parts = MODELS[name]
    case = Case("own", Own(compute, **parts), (spec,))
    inputs, reference = case.example(), Reference(case)
    exact, eager = reference.double(inputs), case.eager(*inputs)
    assert exact.dtype == (torch.complex128 if eager.is_complex() else torch.float64)
    error = float((exact - eager).abs().max())
    # eager's own error, which float64 has not
    assert (1e-5 < error < 0.05) if "bfloat16" in name else (0 < error < 1e-5)
    assert reference.compare(eager, inputs).agrees
    assert all(x.dtype in (torch.float32, torch.bfloat16, torch.cfloat) for x in case.model.parameters())


def test_linspace_is_as_exact_as_float64():
    model = float64.widened(nn.Identity())
    model.forward = lambda x: x * torch.linspace(0, 1, 4)
    (exact,) = float64.run(model, [torch.ones(1, 4)])
    assert torch.equal(exact, torch.linspace(0, 1, 4, dtype=torch.float64))


class Bits(nn.Module):
    """Reads the bits of a float32 as an integer, which has no meaning in float64."""

    def forward(self, x):
        return (x.view(torch.int32) & 0x7FFFFFFF).view(torch.float32)


def test_where_float64_cannot_run_eager_is_the_reference_and_that_is_said():
    case = Case("bits", Bits(), (TensorSpec("x", (BATCH, 64)),))
    inputs, reference = case.example(), Reference(case)
    with pytest.raises(NoFloat64):
        reference.double(inputs)
    eager = case.eager(*inputs)
    found = reference.compare(eager * (1 + 1e-7), inputs)
    assert found.agrees
    assert found.reference == "eager"
    assert "difference from eager" in found.rule
    assert not reference.compare(eager * (1 + 1e-4), inputs).agrees
    result = sweep({"export": paths.export(case, "eager")}, [4], min_samples=1, min_seconds=0.0)
    assert result.agrees
    assert "float64 reference cannot run" in result.verdict
    assert "from eager" in result.provenance["tolerance"]
