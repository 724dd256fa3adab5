"""The float64 reference of models whose forward makes tensors, or asks for dtypes, of its own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tutorial_lib import Case, DynamicDim, Reference, TensorSpec, paths, sweep
from tutorial_lib.checks import float64
from tutorial_lib.checks.float64 import NoFloat64

BATCH = DynamicDim("batch", 1, 3, 6)


class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x.float() / 255)


class Sinusoids(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 5)
        self.scale = torch.tensor(0.1)  # a plain attribute

    def forward(self, x):
        angle = x[:, None].float() * torch.linspace(1, 2, 4) * self.scale
        return self.linear(torch.cat([angle.sin(), angle.cos()], -1))


class FirstState(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(8, 4)

    def forward(self, x):
        state = torch.zeros(x.shape[0], 4)
        state[:, 1:] = x[:, :3]
        return self.cell(x, state)


class OneHot(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(9, 4)

    def forward(self, x):
        return self.linear(F.one_hot(x, 9).float())


class HalfBody(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 32).bfloat16(), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.body(x.bfloat16()).relu().float())


class Autocast(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 32)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            y = self.linear(x)
        return y.float().softmax(-1)


class Spectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, dtype=torch.cfloat))

    def forward(self, x):
        return torch.fft.rfft(x) * self.weight


MODELS = {
    Pixels: TensorSpec("x", (BATCH, 3, 8, 8), torch.uint8, high=256),
    Sinusoids: TensorSpec("x", (BATCH,), torch.int64, high=1000),
    FirstState: TensorSpec("x", (BATCH, 8)),
    OneHot: TensorSpec("x", (BATCH,), torch.int64, high=9),
    HalfBody: TensorSpec("x", (BATCH, 8)),
    Autocast: TensorSpec("x", (BATCH, 8)),
    Spectrum: TensorSpec("x", (BATCH, 8)),
}
COARSE = (HalfBody, Autocast)  # computes in bfloat16


@pytest.mark.parametrize("model_class", MODELS)
def test_what_forward_makes_itself_is_float64_too(model_class):
    case = Case("own", model_class(), (MODELS[model_class],))
    inputs = case.example()
    exact, eager = Reference(case).double(inputs), case.eager(*inputs)
    assert exact.dtype == (torch.complex128 if eager.is_complex() else torch.float64)
    error = float((exact - eager).abs().max())
    assert 0 < error < (0.05 if model_class in COARSE else 1e-5)
    if model_class in COARSE:
        assert error > 1e-5  # eager's own, which float64 has not
    assert all(p.dtype != torch.float64 for p in case.model.parameters())


@pytest.mark.parametrize("model_class", MODELS)
def test_such_models_are_built_and_agree(model_class):
    program = paths.export(Case("own", model_class(), (MODELS[model_class],)), "eager")
    assert sweep({"export": program}, [1, 4], min_samples=1, min_seconds=0.0).agrees


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
