"""Convolutions on a CPU are compiled for their whole range: PyTorch's choice of a kernel by size is no limit."""

import contextlib
import itertools

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tutorial_lib import Case, DynamicDim, TensorSpec, paths
from tutorial_lib.builds import convolutions

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or convolutions.platform.machine() not in convolutions.MACHINES,
    reason="the kernels are known for x86-64 with oneDNN",
)
BATCH = DynamicDim("batch", 1, 8, 32)
HEIGHT, WIDTH = DynamicDim("height", 32, 64, 128), DynamicDim("width", 32, 64, 128)
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class Rows(nn.Module):
    """A convolution of a channels-last image, and its pixels as rows: [batch, height * width, channels]."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        result = self.convolution(x.contiguous(memory_format=torch.channels_last))
        return result.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 8)


MODELS = {
    "1d": (lambda: nn.Conv1d(3, 8, 3), (BATCH, 3, 64)),
    "2d": (lambda: nn.Conv2d(3, 8, 3, padding=1), (BATCH, 3, 32, 32)),
    "3d": (lambda: nn.Conv3d(2, 4, 3), (BATCH, 2, 8, 12, 12)),
    "of a point": (lambda: nn.Conv2d(3, 8, 1), (BATCH, 3, 32, 32)),
    "depthwise": (lambda: nn.Conv2d(8, 8, 3, groups=8), (BATCH, 8, 32, 32)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 8, 3), (BATCH, 3, 32, 32)),
    "of any size": (lambda: nn.Conv2d(3, 8, 3, padding=1), (1, 3, HEIGHT, WIDTH)),
    "channels-last": (Rows, (BATCH, 8, HEIGHT, WIDTH)),
    "3d, channels-last weight": (
        lambda: nn.Conv3d(2, 4, 3).to(memory_format=torch.channels_last_3d),
        (DynamicDim("batch", 2, 8, 32), 2, 8, 12, 12),
    ),
    "two": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(2)),
        (BATCH, 3, HEIGHT, WIDTH),
    ),
}


def case(name):
    make, shape = MODELS[name]
    torch.manual_seed(0)
    return Case(name, make(), (TensorSpec("x", shape),))


def check(compiled):
    """The corners and sizes around the choice are served by the engines that were built, and right."""
    dims, engines = compiled.case.dims, len(compiled.build.engines)
    corners = [{name: getattr(dim, end) for name, dim in dims.items()} for end in ("min", "opt", "max")]
    around = [{name: min(max(size, dim.min), dim.max) for name, dim in dims.items()} for size in (2, 15, 16, 17)]
    for sizes in corners + around:
        inputs = compiled.case.example(sizes)
        torch.testing.assert_close(compiled(*inputs), compiled.case.eager(*inputs), rtol=1e-4, atol=1e-5)
    assert len(compiled.build.engines) == engines


@pytest.mark.parametrize("name", MODELS)
def test_jit_serves_the_whole_range_and_leaves_torch_as_it_was(name):
    before = torch._C._select_conv_backend
    check(paths.jit(case(name), "eager"))
    assert torch._C._select_conv_backend is before


@pytest.mark.slow
@pytest.mark.parametrize("freezing", [False, True])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("2d", "channels-last") else pytest.mark.long) for name in MODELS]
)
def test_jit_serves_the_whole_range_with_inductor(name, freezing):
    check(paths.jit(case(name), "inductor", {"freezing": freezing}))


FORMATS = [
    *itertools.product((1,), (False,), (False,), (1, 3)),
    *itertools.product((2, 3), (False, True), (False, True), (1, 3)),
]


@pytest.mark.parametrize(("dims", "input_is_last", "weight_is_last", "kernel"), FORMATS)
def test_results_have_one_format_where_no_guard_is_kept(dims, input_is_last, weight_is_last, kernel):
    convolve = getattr(torch, f"conv{dims}d")
    weight = torch.randn(8, 8, *[kernel] * dims)
    weight = weight.contiguous(memory_format=LAST[dims]) if weight_is_last else weight
    small, large = {1: (5, 3000), 2: (5, 52), 3: (5, 14)}[dims]
    formats = {}
    for batch, size in itertools.product((1, 2, 15, 16), (small, large)):
        image = torch.randn(batch, 8, *[size] * dims)
        image = image.contiguous(memory_format=LAST[dims]) if input_is_last else image
        with FakeTensorMode() as mode:
            has_no_guard = convolutions._have_strides_of_one_format(mode.from_tensor(image), mode.from_tensor(weight))
        if has_no_guard:
            formats[batch, size] = convolve(image, weight).is_contiguous()
    assert len(set(formats.values())) <= 1
    assert dims == 3 or len(formats) == 8


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_left_to_torch(dtype):
    with FakeTensorMode():
        image, weight = torch.empty(1, 8, 5, 5, dtype=dtype), torch.empty(8, 8, 3, 3, dtype=dtype)
        assert not convolutions._have_strides_of_one_format(image, weight)


def test_without_it_torch_limits_the_range(monkeypatch):
    """Should torch choose otherwise one day, this module can go."""
    monkeypatch.setattr(convolutions, "for_any_size", contextlib.nullcontext)
    with pytest.raises(Exception, match="up to 15"):
        paths.jit(case("2d"), "eager")
