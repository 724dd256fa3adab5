"""What the tests of a GPU's choices run in the engines' process."""

import torch
from torch import nn
from torch._functorch.aot_autograd import aot_export_joint_simple
from torch.nn.functional import scaled_dot_product_attention as attention

from tutorial_lib import Case
from tutorial_lib.core.shapes import DynamicDim, TensorSpec
from tutorial_lib.engines.as_on_gpu import as_on_gpu
from tutorial_lib.paths import PATHS

BATCH = DynamicDim("batch", 1, 8, 32)
HEIGHT, WIDTH = DynamicDim("height", 32, 64, 128), DynamicDim("width", 32, 64, 128)
LENGTH = DynamicDim("length", 16, 64, 128)
PAST_THE_CHOICE = 15, 16, 17


class Module(nn.Module):
    """A module whose forward has an argument called x, which export needs."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


class ChannelsLast(Module):
    def forward(self, x):
        x = x.contiguous(memory_format=torch.channels_last)
        return self.inner(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 8)


class Attention(nn.Module):
    """Attention of two heads in x [batch, length, 32]."""

    def forward(self, x):
        heads = x.unflatten(-1, (2, 16)).transpose(1, 2)
        return attention(heads, heads, heads).transpose(1, 2).flatten(2)


MODELS = {
    "conv2d": (lambda: nn.Conv2d(3, 8, 3, padding=1), (BATCH, 3, 32, 32)),
    "conv2d of any size": (lambda: nn.Conv2d(3, 8, 3, padding=1), (1, 3, HEIGHT, WIDTH)),
    "depthwise conv2d": (lambda: nn.Conv2d(8, 8, 3, groups=8), (BATCH, 8, HEIGHT, WIDTH)),
    "transposed conv2d": (lambda: nn.ConvTranspose2d(3, 8, 3), (BATCH, 3, 32, 32)),
    "conv1d": (lambda: nn.Conv1d(3, 8, 3), (BATCH, 3, LENGTH)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 3), (BATCH, 2, 8, 16, 16)),
    "channels-last input": (lambda: ChannelsLast(nn.Conv2d(3, 8, 3)), (BATCH, 3, HEIGHT, WIDTH)),
    "channels-last weight": (
        lambda: nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last),
        (BATCH, 8, HEIGHT, WIDTH),
    ),
    "network": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, groups=2),
            nn.Flatten(2),
        ),
        (BATCH, 3, HEIGHT, WIDTH),
    ),
    "attention": (Attention, (BATCH, LENGTH, 32)),
}


def case(name):
    make, shape = MODELS[name]
    torch.manual_seed(0)
    return Case(name, Module(make()), (TensorSpec("x", shape),))


def build(name, path):
    """(min, opt, max) of the data input of each engine, and the largest difference from eager.

    That is relative to eager's largest number, over the corners of the range and sizes around the CPU's choice.
    """
    compiled = PATHS[path](case(name), backend="tensorrt", options={"min_block_size": 1})
    engines = [(i.min, i.opt, i.max) for e in compiled.build.engines for i in e.inputs if i.name == "x"]
    dims = compiled.case.dims
    calls = [{dim: getattr(bounds, end) for dim, bounds in dims.items()} for end in ("min", "opt", "max")]
    calls += [{dim: min(max(size, bounds.min), bounds.max) for dim, bounds in dims.items()} for size in PAST_THE_CHOICE]
    differences = []
    for sizes in calls:
        inputs = compiled.case.example(sizes)
        expected, result = compiled.case.eager(*inputs), compiled(*inputs)
        assert result.shape == expected.shape
        differences.append(float((result - expected).abs().max() / expected.abs().max()))
    return engines, max(differences)


FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def convolution(dims, dtype, which):
    """The format of the result of a convolution with dynamic sizes, and its guards; `which` is channels-last."""
    dtype, convolve = getattr(torch, dtype), getattr(torch, f"conv{dims}d")
    image = torch.randn(5, 4, *range(10, 10 + dims)).to(dtype)
    weight = torch.randn(8, 4, *[3] * dims).to(dtype)
    if which == "input":
        image = image.contiguous(memory_format=FORMATS[dims])
    if which == "weight":
        weight = weight.contiguous(memory_format=FORMATS[dims])
    result, guards = _traced(lambda x: convolve(x, weight, padding=1), image, bounds={"min": 4, "max": 100})
    if result.is_contiguous():
        return "contiguous", guards
    return "channels last" if result.is_contiguous(memory_format=FORMATS[dims]) else result.stride(), guards


def guards_where_the_kernel_may_not_fit():
    """Guards of a convolution with a kernel of 5 over lengths that may be smaller."""
    weight = torch.randn(8, 4, 5)
    return _traced(lambda x: torch.conv1d(x, weight), torch.randn(6, 4, 10), bounds={})[1]


def _traced(function, x, bounds):
    """The traced result, with symbolic sizes, and the guards; all of x but the channels is dynamic."""
    answers = []

    def backend(graph, inputs):
        (node,) = (n for n in graph.graph.nodes if "conv" in str(n.target))
        size = next(s for s in node.meta["example_value"].shape if isinstance(s, torch.SymInt))
        answers.append((node.meta["example_value"], [str(guard.expr) for guard in size.node.shape_env.guards]))
        return graph.forward

    for axis in {*range(x.dim())} - {1}:
        torch._dynamo.mark_dynamic(x, axis, **bounds)
    torch.compile(function, backend=backend)(x)
    return answers[0]


def attention_operators(query, key, value, dtype, mask, options):
    """Operators that attention of these shapes is traced to just in time."""
    dtype, operators = getattr(torch, dtype), []

    def backend(graph, inputs):
        traced = aot_export_joint_simple(graph, inputs, trace_joint=False)
        operators.extend(str(n.target).split(".")[1] for n in traced.graph.nodes if "aten." in str(n.target))
        return graph.forward

    tensors = [torch.randn(shape).to(dtype) for shape in (query, key, value)]
    for tensor in tensors:
        torch._dynamo.mark_dynamic(tensor, 0, min=2, max=32)
    tensors.append(torch.ones(mask, dtype=torch.bool) if mask else None)
    torch.compile(lambda q, k, v, m: attention(q, k, v, m, **options), backend=backend)(*tensors)
    return operators


def functions_after_another_call():
    """Whether a second call of as_on_gpu leaves the functions in force as they are."""
    before = torch._C._select_conv_backend
    as_on_gpu()
    return torch._C._select_conv_backend is before
