"""What the tests of this folder run in the engines' process: this package's paths.

Every function takes and returns plain values, because they cross a process boundary.
"""

import torch
from inside import TOKENS, WIDTH, requests, seed
from torch import nn
from torch.utils import _pytree as pytree
from upstream import DEVICE

from tutorial_lib import PATHS, Case, DynamicDim, Reference, TensorSpec, text_encoder, vit, vit_any_size
from tutorial_lib.core import shapes
from tutorial_lib.engines import frontend
from tutorial_lib.engines.stand_in import ProfileRefusal, StandIn


class Hybrid(nn.Module):
    """Two linear layers around a sort of regrouped rows: x [batch, 7, 24] -> [21 * batch, 8]."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(8, 8)

    def forward(self, x):
        rows = torch.relu(self.first(x)).reshape(-1, 8)
        return torch.relu(self.second(torch.sort(rows, dim=-1)[0]))


class Masked(nn.Module):
    """Two inputs that share two dynamic dimensions."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 24)

    def forward(self, x, mask):
        return self.linear(x) * mask.unsqueeze(-1)


class Square(nn.Module):
    """Its weight has the shape of its fixed input: only where an input comes from tells them apart."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, x, y):
        return x @ self.weight + y.sum()


class AwkwardNames(nn.Module):
    """Arguments that export and FX call otherwise: a builtin of Python, and capitals."""

    def forward(self, input, Scale):
        return (input * Scale).relu()


SORT = {"torch_executed_ops": {"torch.ops.aten.sort.default"}}


def case(name="seed", batch=(1, 4, 32)):
    return (seed(batch) if name == "seed" else _other_case(name, batch)).to(DEVICE)


def _other_case(name, batch):
    dim = DynamicDim("batch", *batch)
    if name == "hybrid":
        return Case("hybrid", Hybrid(), (TensorSpec("x", (dim, TOKENS, WIDTH)),))
    if name == "awkward names":
        return Case(name, AwkwardNames(), (TensorSpec("input", (dim, 8)), TensorSpec("Scale", (dim, 8))))
    if name == "square":
        return Case("square", Square(), (TensorSpec("x", (dim, 8)), TensorSpec("y", (8, 8))))
    if name == "masked":
        length = DynamicDim("length", 2, 5, 9)
        return Case("masked", Masked(), (TensorSpec("x", (dim, length, 16)), TensorSpec("mask", (dim, length))))
    if name == "text-encoder":
        return text_encoder(batch, (8, 32, 64), vocabulary=50, positions=64, embed_dim=24, heads=2, classes=3)
    if name == "vit-any-size":
        return vit_any_size(batch, (32, 64, 96), grid=4, embed_dim=24, depth=1, heads=2, classes=5)
    small = vit(batch, image=32, embed_dim=12, depth=1, classes=5)
    return small if name == "vit" else small.in_precision({"vit-half": "fp16"}[name])


def build(path, name="seed", batch=(1, 4, 32), options=None):
    """The record of a build with the tensorrt backend."""
    return PATHS[path](case(name, batch), backend="tensorrt", options=options).build


def settings(path, names, options=None, tf32=False):
    """What Torch-TensorRT's CompilationSettings hold of `names` when an engine is asked for."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        with requests() as found:
            PATHS[path](seed(), backend="tensorrt", options=options)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return [{name: getattr(one, name) for name in names} for _, one, _ in found]


def devices(path):
    """Kinds of device of everything an engine is asked for with and gives: settings, weights, inputs, output."""
    seen = []

    def build(module, inputs, settings, **kwargs):
        engine = StandIn(module, inputs)
        engine.register_forward_hook(lambda _, given, output: seen.extend([*given, output]))
        seen.extend([settings.device.to(torch.device), *module.state_dict().values()])
        return engine

    frontend.set_engine_build(build)
    program = PATHS[path](seed(), backend="tensorrt")
    seen.append(program(*program.case.example(4)))
    placed = (one for one in pytree.tree_leaves(seen) if isinstance(one, torch.Tensor | torch.device))
    return {torch.device(getattr(one, "device", one)).type for one in placed}


def calls_outside(path, size, choice):
    """Engines before and after a call outside the range."""
    program = PATHS[path](seed(), backend="tensorrt")
    before = len(program.build.engines)
    program.outside = choice
    inputs = program.case.example(size)
    right = torch.allclose(program(*inputs), program.case.model(*inputs), atol=1e-5)
    program.outside = "raise"
    return before, program.build, right


def served(path, name, route, opt):
    """Profiles of the first dynamic axis when upstream is asked for 1/opt/8, and which sizes they serve without more.

    Routes: ``plain``, ``oblivious`` (``backed_size_oblivious``), ``unbacked`` (``mark_unbacked``, jit only)
    and ``trace at 2`` (ahead of time only).
    """
    import torch_tensorrt

    one = case(name, (1, opt, 8))
    options = {"min_block_size": 1, "pass_through_build_failures": True, **(SORT if name == "hybrid" else {})}
    example = one.example(2 if route == "trace at 2" else opt)
    with requests() as found, torch.fx.experimental._config.patch(backed_size_oblivious=route == "oblivious"):
        if path == "jit":
            program = torch.compile(one.model, backend="tensorrt", options=options)
            mark = torch._dynamo.decorators.mark_unbacked if route == "unbacked" else torch._dynamo.mark_dynamic
            for tensor, spec in zip(example, one.inputs, strict=True):
                for axis, dim in spec.dynamic.items():
                    mark(tensor, axis, min=dim.min, max=dim.max)
            program(*example)
        else:
            exported = torch.export.export(one.model, example, dynamic_shapes=shapes.export_dims(one.inputs))
            program = torch_tensorrt.dynamo.compile(exported, inputs=example, **options)
        profiles = [_first_range(inputs) for inputs, _, _ in found]
        return profiles, [size for size in (1, 2, 8) if _serves(program, one, size, found)]


def _first_range(inputs):
    ranges = [i.shape for i in inputs if isinstance(i.shape, dict) and not i.is_shape_tensor]
    return tuple(ranges[0][f"{end}_shape"][0] for end in ("min", "opt", "max"))


def _serves(program, one, size, found):
    before, inputs = len(found), one.example(size)
    try:
        right = Reference(one).compare(program(*inputs), inputs).agrees
    except ProfileRefusal:
        return False
    return right and len(found) == before
