"""Upstream's examples about dynamic shapes, rebuilt: the same kind of model with the same ranges, in our own words.

They follow ``examples/`` and ``docsrc/`` of pytorch/TensorRT (main, August 2026). The last part runs in the engines'
process, for examples that call upstream's API in a way that no :class:`Case` can say.
"""

import itertools
from collections import namedtuple

import torch
from torch import nn
from torch.nn import functional

from tutorial_lib import Case, DynamicDim, TensorSpec, expand_reshape

# ---- models ------------------------------------------------------------------------------------------------------


class ImageClassifier(nn.Module):
    """A convolution whose whole feature map goes to a linear layer: only the batch can vary."""

    def __init__(self, side):
        super().__init__()
        self.features = nn.Conv2d(3, 16, 3, padding=1)
        self.head = nn.Linear(16 * side * side, 10)

    def forward(self, x):
        return self.head(functional.relu(self.features(x)).flatten(1))


class Residual(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.first, self.second = (
            nn.Sequential(nn.Conv2d(width, after, 3, step, 1, bias=False), nn.BatchNorm2d(after))
            for width, step in ((before, stride), (after, 1))
        )
        self.shortcut = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        return functional.relu(self.shortcut(x) + self.second(functional.relu(self.first(x))))


class ResNet18(nn.Module):
    """The ResNet with two basic blocks in each of four stages."""

    def __init__(self, classes=1000):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        widths = [64, 64, 128, 256, 512]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(Residual(before, after, 1 if before == after else 2), Residual(after, after, 1))
                for before, after in itertools.pairwise(widths)
            )
        )
        self.average, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(512, classes)

    def forward(self, images):
        return self.head(self.average(self.stages(self.pool(self.stem(images)))).flatten(1))


class MaskedEncoder(nn.Module):
    """Embeds ids and switches off those that the mask hides, so both inputs have one batch."""

    def __init__(self, vocabulary=1024, width=64):
        super().__init__()
        self.tokens, self.projection = nn.Embedding(vocabulary, width), nn.Linear(width, width)

    def forward(self, input_ids, attention_mask):
        x = self.tokens(input_ids)
        return self.projection(x * attention_mask[..., None].to(x.dtype))


class Scores(nn.Module):
    """Attention scores: queries times keys."""

    def forward(self, query, key):
        return query @ key.mT


class Gpt2(nn.Module):
    """A small GPT-2 without a cache whose attention is written out: products, a causal mask and a softmax."""

    def __init__(self, layers=2, width=64, heads=4, vocabulary=100, positions=1024):
        super().__init__()
        self.heads = heads
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "before": nn.LayerNorm(width),
                    "qkv": nn.Linear(width, 3 * width),
                    "out": nn.Linear(width, width),
                    "after": nn.LayerNorm(width),
                    "up": nn.Linear(width, 4 * width),
                    "down": nn.Linear(4 * width, width),
                }
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, input_ids):
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        visible = place[:, None] >= place[None, :]
        x = self.tokens(input_ids) + self.positions(place)
        for block in self.blocks:
            q, k, v = (_heads(part, self.heads) for part in block["qkv"](block["before"](x)).chunk(3, dim=-1))
            scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~visible, float("-inf"))
            x = x + block["out"]((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
            x = x + block["down"](functional.gelu(block["up"](block["after"](x)), approximate="tanh"))
        return self.norm(x) @ self.tokens.weight.mT


class Llama(nn.Module):
    """A small Llama without a cache: RMS norms, rotary positions, grouped keys and a gated perceptron."""

    def __init__(self, fused, layers=2, width=64, heads=4, groups=2, vocabulary=100):
        super().__init__()
        self.fused, self.heads, self.groups, self.head_width = fused, heads, groups, width // heads
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "before": nn.RMSNorm(width),
                    "query": nn.Linear(width, width, bias=False),
                    "key_value": nn.Linear(width, 2 * groups * self.head_width, bias=False),
                    "out": nn.Linear(width, width, bias=False),
                    "after": nn.RMSNorm(width),
                    "gate_up": nn.Linear(width, 4 * width, bias=False),
                    "down": nn.Linear(2 * width, width, bias=False),
                }
            )
            for _ in range(layers)
        )
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, vocabulary, bias=False)
        speeds = 10_000.0 ** -(torch.arange(0, self.head_width, 2) / self.head_width)
        self.register_buffer("speeds", speeds, persistent=False)

    def forward(self, input_ids, position_ids):
        x = self.tokens(input_ids)
        angles = (position_ids[..., None].float() * self.speeds.float()).repeat(1, 1, 2)[:, None]
        cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for block in self.blocks:
            normed = block["before"](x)
            q = _rotated(_heads(block["query"](normed), self.heads), cosine, sine)
            k, v = (_heads(part, self.groups) for part in block["key_value"](normed).chunk(2, dim=-1))
            k, v = (part.repeat_interleave(self.heads // self.groups, dim=1) for part in (_rotated(k, cosine, sine), v))
            x = x + block["out"](self._attention(q, k, v).transpose(1, 2).flatten(2))
            gate, up = block["gate_up"](block["after"](x)).chunk(2, dim=-1)
            x = x + block["down"](functional.silu(gate) * up)
        return self.head(self.norm(x))

    def _attention(self, q, k, v):
        if self.fused:
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        place = torch.arange(q.shape[2], device=q.device)
        hidden = place[:, None] < place[None, :]
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(hidden, float("-inf")).softmax(-1) @ v


def _heads(x, count):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def _rotated(x, cosine, sine):
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine


class VideoAttention(nn.Module):
    """Attention over the patches of a video, with positions that turn complex numbers in time, height and width."""

    def __init__(self, heads=8, head_width=48):
        super().__init__()
        self.heads, width = heads, heads * head_width
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x, turns):
        turns = torch.view_as_complex(turns.unflatten(-1, (-1, 2)))[None, :, :, :, None]  # [1, t, h, w, 1, pairs]
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)  # [b, t, h, w, heads, width]
        q, k = (_turned(part, turns) for part in (q, k))
        q, k, v = (part.flatten(1, 3).transpose(1, 2) for part in (q, k, v))  # [b, heads, t * h * w, width]
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(attended).reshape(x.shape)


def _turned(x, turns):
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turns).flatten(-2)


class LatentDenoiser(nn.Module):
    """Down by four and up again, with attention to a text, as the networks of image generators do."""

    def __init__(self, width=16, text=32):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(4, width, 3, 2, 1), nn.SiLU(), nn.Conv2d(width, width, 3, 2, 1))
        self.text = nn.Linear(text, 2 * width)
        self.grow, self.up = nn.ConvTranspose2d(2 * width, width, 4, 4), nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, sample, encoder_hidden_states):
        x = self.down(sample)
        k, v = self.text(encoder_hidden_states).chunk(2, dim=-1)
        weights = (x.flatten(2).mT @ k.mT / x.shape[1] ** 0.5).softmax(-1)  # [batch, height * width, tokens]
        seen = (weights @ v).mT.reshape(x.shape)
        return sample + self.up(functional.silu(self.grow(torch.cat([x, seen], dim=1))))


class TextAndImage(nn.Module):
    """One attention over the tokens of a text and of an image, whose places come as inputs, as in Flux."""

    def __init__(self, heads=4, head_width=16, text=32):
        super().__init__()
        self.heads, width = heads, heads * head_width
        self.image_in, self.text_in = nn.Linear(64, width), nn.Linear(text, width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, 64)
        self.places = nn.Linear(3, head_width // 2)

    def forward(self, hidden_states, encoder_hidden_states, txt_ids, img_ids):
        x = torch.cat([self.text_in(encoder_hidden_states), self.image_in(hidden_states)], dim=1)
        angles = self.places(torch.cat([txt_ids, img_ids])).repeat(1, 2)
        q, k, v = (_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = (_rotated(part, angles.cos(), angles.sin()) for part in (q, k))
        x = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(x[:, encoder_hidden_states.shape[1] :])


class ShiftedRelu(nn.Module):
    """Adds, scales and cuts off."""

    def forward(self, x):
        return torch.relu((x + 2) * 0.5)


class AddOne(nn.Module):
    """The smallest model."""

    def forward(self, x):
        return x + 1


class TanhGelu(nn.Module):
    """GELU by its approximation with tanh."""

    def forward(self, x):
        return functional.gelu(x, approximate="tanh")


class NestedInputs(nn.Module):
    """Takes a dictionary of tensors, and multiplies two matrices whose common size varies."""

    def forward(self, a, b, c):
        return a @ b, c["a"] @ c["b"].T, 2 * c["b"]


# ---- cases -------------------------------------------------------------------------------------------------------


def _seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


def _case(name, make, *inputs):
    return Case(name, _seeded(make), inputs)


def _images(low, opt, high, name="x"):
    return TensorSpec(name, (DynamicDim("batch", low, opt, high), 3, 224, 224))


def _any_image():
    sides = (DynamicDim(side, 64, 256, 512) for side in ("height", "width"))
    return TensorSpec("x", (DynamicDim("batch", 1, 8, 16), 3, *sides))


def _sequence(low, opt, high, *names):
    shape = 1, DynamicDim("length", low, opt, high)
    return [TensorSpec(name, shape, torch.int64, high=100) for name in names]


def first_model():
    return expand_reshape(batch=(1, 4, 32))


def saved_classifier():
    return _case("image classifier", lambda: ImageClassifier(224), _images(1, 8, 32))


def saved_convolution():
    return _case("convolution", lambda: nn.Conv2d(3, 16, 3, padding=1), _renamed(_any_image(), "input"))


def saved_linear():
    x = TensorSpec("input", (DynamicDim("batch", 1, 8, 32), 10))
    return _case("linear", lambda: nn.Linear(10, 5), x)


def _renamed(spec, name):
    return TensorSpec(name, spec.shape, spec.dtype)


def resnet(low=1):
    return _case("resnet-18", ResNet18, _images(low, 8, 16, "images"))


def half_resnet():
    return resnet().in_precision("fp16")


def cached_resnet():
    return _case("resnet-18, cached", ResNet18, _images(1, 100, 200, "images"))


def shared_batch():
    shape = DynamicDim("batch", 1, 4, 8), 16
    inputs = (TensorSpec(name, shape, torch.int64, high=2) for name in ("input_ids", "attention_mask"))
    return _case("shared batch", MaskedEncoder, *inputs)


def scores():
    shape = 1, 12, DynamicDim("seq_len", 1, 7, 10), 64
    return _case("scores", Scores, TensorSpec("query", shape), TensorSpec("key", shape))


def gpt2():
    return _case("gpt-2", Gpt2, *_sequence(2, 7, 1023, "input_ids"))


def llama():
    model = lambda: Llama(fused=False)  # noqa: E731
    return _case("llama", model, *_sequence(1, 128, 256, "input_ids", "position_ids")).in_precision("fp16")


def prefill_and_decode():
    model = lambda: Llama(fused=True)  # noqa: E731
    return _case("gemma", model, *_sequence(1, 128, 256, "input_ids", "position_ids")).in_precision("fp16")


def video():
    time, height, width = DynamicDim("t", 1, 4, 32), DynamicDim("h", 4, 8, 64), DynamicDim("w", 4, 8, 64)
    x = TensorSpec("x", (1, time, height, width, 8 * 48))
    return _case("video", VideoAttention, x, TensorSpec("turns", (time, height, width, 48)))


def latents():
    batch = DynamicDim("batch", 2, 4, 24)
    sides = (DynamicDim(side, 64, 96, 128, step=4) for side in ("height", "width"))
    sample = TensorSpec("sample", (batch, 4, *sides))
    return _case("latents", LatentDenoiser, sample, TensorSpec("encoder_hidden_states", (batch, 77, 32)))


def text_and_image(image=(3586, 4096, 4096)):
    batch, length = DynamicDim("batch", 1, 2, 2), DynamicDim("seq_len", 1, 512, 512)
    inputs = (
        TensorSpec("hidden_states", (batch, 4096, 64)),
        TensorSpec("encoder_hidden_states", (batch, length, 32)),
        TensorSpec("txt_ids", (length, 3)),
        TensorSpec("img_ids", (DynamicDim("img_id", *image), 3)),
    )
    return _case("text and image", TextAndImage, *inputs).in_precision("fp16")


def broken_graph():
    return _case("broken graph", ShiftedRelu, _images(1, 8, 16))


def elu():
    shape = 1024, 1, DynamicDim("height", 32, 33, 34), DynamicDim("width", 32, 33, 34)
    return _case("elu", nn.ELU, TensorSpec("input", shape)).in_precision("fp16")


def perceptron():
    layers = lambda: nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())  # noqa: E731
    return _case("perceptron", layers, TensorSpec("input", (DynamicDim("batch", 1, 8, 1024), 10)))


def square():
    side = DynamicDim("spatial", 2, 4, 8)
    return _case("square", AddOne, TensorSpec("x", (DynamicDim("batch", 1, 4, 8), 3, side, side)))


def gelu():
    return _case("gelu", TanhGelu, TensorSpec("x", (DynamicDim("batch", 1, 2, 8), 5)))


def toy_convolution():
    layers = lambda: nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())  # noqa: E731
    return _case("toy convolution", layers, _renamed(_images(1, 4, 8), "input"))


# ---- upstream's API, called as the examples call it ---------------------------------------------------------------


def compiled_as_written(case, settings=None):
    """``torch_tensorrt.compile`` with Input ranges, and upstream's own defaults but for `settings`."""
    import torch_tensorrt

    inputs = [torch_tensorrt.Input(**spec.input_args()) for spec in case.inputs]
    torch_tensorrt.compile(case.model, ir="dynamo", inputs=inputs, **(settings or {}))


def compiled_at_an_exported_size(case, size, high):
    """Export at `size`, then compile with Input ranges of another opt and, for the first dimension, max."""
    import torch_tensorrt

    from tutorial_lib.core.shapes import export_dims

    example = case.example(size)
    exported = torch.export.export(case.model, example, dynamic_shapes=export_dims(case.inputs), strict=False)
    args = [spec.input_args() for spec in case.inputs]
    for arg in args:
        arg["max_shape"] = (high, *arg["max_shape"][1:])
    torch_tensorrt.dynamo.compile(exported, inputs=[torch_tensorrt.Input(**arg) for arg in args], min_block_size=1)


def tied_inputs(case, how):
    """Two inputs with one batch: named, by a namedtuple, as keywords, or not tied at all."""
    import torch_tensorrt

    named = namedtuple("Shape", ["batch", "tokens"])
    inputs = []
    for spec in case.inputs:
        arg = spec.input_args()
        if how == "namedtuple":
            arg.update({end: named(*arg[end]) for end in ("min_shape", "opt_shape", "max_shape")})
        elif how != "not tied":
            arg["shared_dims"] = {0: "B"}
        inputs.append(torch_tensorrt.Input(**arg))
    passed = {"kwarg_inputs": {spec.name: spec for spec in inputs}} if how == "keywords" else {"inputs": inputs}
    program = torch_tensorrt.compile(case.model, ir="dynamo", min_block_size=1, **passed)
    names = [spec.name for spec in case.inputs]
    for size in (4, 2, 1):
        example = case.example(size)
        program(**dict(zip(names, example, strict=True))) if how == "keywords" else program(*example)


def called_with(case, sizes, dynamic=None, marked=False, settings=None):
    """``torch.compile`` and calls of these sizes, the first one marked with the case's range or not."""
    program = torch.compile(
        case.model,
        backend="tensorrt",
        dynamic=dynamic,
        options={"min_block_size": 1, "pass_through_build_failures": True, **(settings or {})},
    )
    for number, size in enumerate(sizes):
        example = case.example(size)
        for tensor, spec in zip(example, case.inputs, strict=True) if marked and not number else ():
            for axis, dim in spec.dynamic.items():
                torch._dynamo.mark_dynamic(tensor, axis, min=dim.min, max=dim.max)
        program(*example)


def mutable_module(immutable):
    """A module that compiles itself at the first call, with a nested dictionary among its inputs."""
    import torch_tensorrt

    width, rows = (torch.export.Dim(name, min=1, max=50) for name in ("width", "rows"))
    module = torch_tensorrt.MutableTorchTensorRTModule(
        NestedInputs().eval(), min_block_size=1, immutable_weights=immutable
    )
    module.set_expected_dynamic_shape_range(({1: width}, {0: width}), {"c": {"a": {}, "b": {0: rows}}})
    for common, count in ((3, 10), (5, 5)):
        c = {"a": torch.randn(10, 30), "b": torch.randn(count, 30)}
        module(torch.randn(10, common), torch.randn(common, 30), c=c)


def own_converter(batch):
    """GELU by a converter of one's own, which takes precedence over Torch-TensorRT's; how often it was called."""
    import torch_tensorrt
    from torch_tensorrt.dynamo._SourceIR import SourceIR
    from torch_tensorrt.dynamo.conversion import ConverterPriority, dynamo_tensorrt_converter, impl
    from torch_tensorrt.dynamo.conversion._ConverterRegistry import DYNAMO_ATEN_CONVERTERS

    gelu, calls = torch.ops.aten.gelu.default, []

    def convert(ctx, target, args, kwargs, name):
        calls.append(name)

        def step(function, what, left, right):
            return function(ctx, target, SourceIR.ATEN, f"{name}_{what}", left, right)

        (x,) = args
        cubed = step(impl.elementwise.mul, "cubed", step(impl.elementwise.mul, "squared", x, x), x)
        inner = step(impl.elementwise.add, "inner", x, step(impl.elementwise.mul, "small", cubed, 0.044715))
        scaled = step(impl.elementwise.mul, "scaled", inner, (2 / torch.pi) ** 0.5)
        tanh = impl.activation.tanh(ctx, target, SourceIR.ATEN, f"{name}_tanh", scaled)
        raised = step(impl.elementwise.add, "raised", tanh, 1.0)
        return step(impl.elementwise.mul, "result", step(impl.elementwise.mul, "half", x, 0.5), raised)

    before = list(DYNAMO_ATEN_CONVERTERS[gelu])
    dynamo_tensorrt_converter(
        gelu,
        capability_validator=lambda node, settings: node.kwargs.get("approximate") == "tanh",
        supports_dynamic_shapes=True,
        priority=ConverterPriority.HIGH,
        requires_output_allocator=True,
    )(convert)
    low, opt, high = batch
    try:
        x = torch_tensorrt.Input(min_shape=(low, 5), opt_shape=(opt, 5), max_shape=(high, 5))
        torch_tensorrt.compile(TanhGelu().eval(), ir="dynamo", inputs=[x], min_block_size=1)
    finally:
        DYNAMO_ATEN_CONVERTERS[gelu] = before
    return len(calls)


def serialized(case):
    """The bytes of a plan for use without PyTorch."""
    import torch_tensorrt

    inputs = [torch_tensorrt.Input(**spec.input_args()) for spec in case.inputs]
    program = torch_tensorrt.dynamo.trace(case.model, arg_inputs=inputs)
    engine = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(program, arg_inputs=inputs)
    return len(engine)


def compiled_with_asserts(case):
    """Export with what the model needs as assertions at run time, where a guard would be refused; the guards kept."""
    import torch_tensorrt

    from tutorial_lib.core.shapes import export_dims

    example = case.example(case.traced)
    exported = torch.export._trace._export(
        case.model,
        example,
        dynamic_shapes=export_dims(case.inputs),
        strict=False,
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    torch_tensorrt.dynamo.compile(exported, inputs=example, min_block_size=1)
    return [str(node.args[0]) for node in exported.graph.nodes if "_assert_scalar" in str(node.target)]
