"""What models do with numbers, dtypes, state and results: generation, experts, graphs, precision, and odd results."""

import dataclasses
from typing import NamedTuple

import torch
from registry import Layers, batch, ids, images_of_any_size, length, side, zoo
from torch import nn
from torch.nn import functional

from tutorial_lib import Case, DynamicDim, TensorSpec


def rows(*shape, name="x", **more):
    return TensorSpec(name, (batch(), *shape), **more)


@zoo
def diffusion_block():
    class Block(nn.Module):
        """A residual block that knows its time step, and attends to a text."""

        def __init__(self):
            super().__init__()
            self.time = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 8))
            self.norm, self.conv = nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3, padding=1)
            self.attention = nn.MultiheadAttention(8, 2, kdim=12, vdim=12, batch_first=True)

        def forward(self, x, step, text):
            frequencies = torch.exp(-torch.arange(8, dtype=torch.float32, device=x.device))
            angles = step.float()[:, None] * frequencies
            time = self.time(torch.cat([angles.sin(), angles.cos()], dim=-1))
            x = x + self.conv(functional.silu(self.norm(x) + time[:, :, None, None]))
            pixels = x.flatten(2).transpose(1, 2)  # [batch, places, 8]
            attended, _ = self.attention(pixels, text, text)
            return x + attended.transpose(1, 2).unflatten(2, x.shape[-2:])

    many = batch(1, 2, 5)
    x = TensorSpec("x", (many, 8, DynamicDim("height", 4, 8, 12), DynamicDim("width", 4, 8, 12)))
    step = TensorSpec("step", (many,), torch.int64, high=1000)
    return Block(), x, step, TensorSpec("text", (many, length(1, 7, 20), 12))


@zoo
def dynamically_quantized():
    from torch.ao.quantization import quantize_dynamic

    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    return quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8), rows(16, name="input")


@zoo
def fake_quantized():
    class FakeQuantized(Layers):
        def forward(self, x):
            x = torch.fake_quantize_per_tensor_affine(x, 0.05, 0, -128, 127)
            return self.linear(x)

    return FakeQuantized(linear=nn.Linear(16, 8)), rows(16)


class _Expert(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))


@zoo
def mixture_of_experts():
    class Mixture(Layers):
        """All experts see all tokens, and the two best count."""

        def forward(self, x):
            best, chosen = self.gate(x).topk(2, dim=-1)
            weights = torch.zeros(*x.shape[:-1], 4).scatter(-1, chosen, best.softmax(dim=-1))
            return sum(weights[..., i, None] * expert(x) for i, expert in enumerate(self.experts))

    model = Mixture(gate=nn.Linear(8, 4), experts=nn.ModuleList(_Expert() for _ in range(4)))
    return model, TensorSpec("x", (batch(), length(1), 8))


@zoo
def mixture_that_sends_tokens():
    class Routed(Layers):
        """Each expert sees its own tokens, as many as the data say."""

        def forward(self, x):
            chosen = self.gate(x).argmax(dim=-1)
            result = torch.zeros_like(x)
            for index, expert in enumerate(self.experts):
                mine = (chosen == index).nonzero().squeeze(1)
                result = result.index_add(0, mine, expert(x[mine]))
            return result

    model = Routed(gate=nn.Linear(8, 3), experts=nn.ModuleList(_Expert() for _ in range(3)))
    return model, TensorSpec("x", (DynamicDim("tokens", 2, 12, 40), 8))


@zoo
def embedding_bag():
    class Bag(Layers):
        def forward(self, ids, dense):
            return self.head(torch.cat([self.bag(ids), dense], dim=1)).sigmoid().squeeze(1)

    many = batch()
    model = Bag(bag=nn.EmbeddingBag(40, 8, mode="mean"), head=nn.Linear(8 + 3, 1))
    return model, ids((many, length(1)), 40), TensorSpec("dense", (many, 3))


@zoo
def graph_attention():
    class Attention(Layers):
        """A softmax over the edges that arrive at a node."""

        def forward(self, nodes, source, target):
            x = self.project(nodes)
            scores = functional.leaky_relu(self.score(torch.cat([x[source], x[target]], dim=1))).squeeze(1)
            count = nodes.shape[0]
            largest = torch.full((count,), -1e9).scatter_reduce(0, target, scores, "amax")
            weights = (scores - largest[target]).exp()
            sums = torch.zeros(count).index_add(0, target, weights)
            return torch.zeros(count, 8).index_add(0, target, x[source] * (weights / sums[target])[:, None])

    return _graph_case("graph_attention", Attention(project=nn.Linear(6, 8), score=nn.Linear(16, 1)))


def _graph_case(name, model):
    def examples(sizes):
        edges = torch.randint(sizes["nodes"], (2, sizes["edges"]))
        return torch.randn(sizes["nodes"], 6), edges[0], edges[1]

    edges = DynamicDim("edges", 2, 40, 100)
    ends = (TensorSpec(end, (edges,), torch.int64) for end in ("source", "target"))
    nodes = TensorSpec("nodes", (DynamicDim("nodes", 2, 12, 30), 6))
    return Case(name, model, (nodes, *ends), examples=examples)


@zoo
def fourier_operator():
    class Fourier(Layers):
        """The low frequencies of a field times complex weights."""

        def forward(self, x):
            spectrum = torch.fft.rfft2(x)
            low = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, :5, :5], self.weights)
            padding = (0, spectrum.shape[3] - 5, 0, spectrum.shape[2] - 5)
            return functional.gelu(torch.fft.irfft2(functional.pad(low, padding), s=x.shape[-2:]) + self.skip(x))

    model = Fourier(weights=nn.Parameter(torch.randn(4, 4, 5, 5, dtype=torch.complex64) / 4), skip=nn.Conv2d(4, 4, 1))
    return model, images_of_any_size(channels=4)


@zoo
def complex_result():
    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x).conj() * 2j

    return Spectrum(), rows(24)


@zoo
def counter_in_a_buffer():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x + self.calls

    return Counter(), rows(4)  # refused: keeps state


@zoo
def cache_in_a_buffer():
    class Cache(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("keys", torch.zeros(20, 16, 8), persistent=False)
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            rows = x.shape[0]
            self.keys[:rows] = torch.cat([self.keys[:rows, 1:], self.linear(x)[:, None]], dim=1)
            return self.keys[:rows].mean(dim=1)

    return Cache(), rows(8)  # refused: keeps state


@zoo
def statistics_in_training():
    class Training(Layers):
        def forward(self, x):
            return functional.batch_norm(x, self.norm.running_mean, self.norm.running_var, training=True)

    return Training(norm=nn.BatchNorm1d(6)), TensorSpec("x", (batch(2), 6))  # refused: keeps state


@zoo
def writes_into_its_input():
    class InPlace(nn.Module):
        def forward(self, x):
            return x.mul_(2).relu_()

    return InPlace(), rows(4)  # and so does a program of it


@zoo
def dropout_left_on():
    class Dropout(nn.Module):
        def forward(self, x):
            return functional.dropout(x, 0.5)

    return Dropout(), rows(16)  # refused: random


@zoo
def integers_and_booleans():
    class Labels(Layers):
        def forward(self, x):
            scores = self.linear(x)
            return scores.argmax(dim=1), scores.amax(dim=1) > 0.5, (scores > 0).sum(dim=1, dtype=torch.int32)

    return Labels(linear=nn.Linear(8, 5)), rows(8)


@zoo
def a_size_among_the_results():
    class Sized(nn.Module):
        def forward(self, x):
            return x.mean(dim=1), x.shape[0], 3, None

    return Sized(), rows(8)


@dataclasses.dataclass
class Detections:
    boxes: torch.Tensor
    scores: torch.Tensor


class Moments(NamedTuple):
    mean: torch.Tensor
    variance: torch.Tensor


@zoo
def dataclass_result():
    class Detector(Layers):
        def forward(self, x):
            x = self.linear(x)
            return Detections(boxes=x[:, :4], scores=x[:, 4].sigmoid())

    return Detector(linear=nn.Linear(8, 5)), rows(8)


@zoo
def named_tuple_result():
    class Statistics(nn.Module):
        def forward(self, x):
            return Moments(x.mean(dim=1), x.var(dim=1))

    return Statistics(), TensorSpec("x", (batch(), length()))


@zoo
def nested_results():
    class Nested(nn.Module):
        def forward(self, x):
            halves = x.chunk(2, dim=1)
            return {"halves": [part.sin() for part in halves], "sums": ({"all": x.sum()}, x.sum(dim=1))}

    return Nested(), rows(8)


@zoo
def results_that_share_memory():
    class Views(Layers):
        """Its input as it is, a view of it, one tensor twice, and a table of the model's own."""

        def forward(self, x):
            twice = x * 2
            return x, x[:, 1:], twice, twice, self.table

    return Views(table=nn.Parameter(torch.randn(3, 2))), rows(4)


@zoo
def result_of_no_dimension():
    class Loss(nn.Module):
        def forward(self, x, temperature):
            return functional.log_softmax(x / (temperature.abs() + 1), dim=1)[:, 0].mean()

    return Loss(), rows(5), TensorSpec("temperature", ())


@zoo
def index_of_no_dimension():
    class Pick(nn.Module):
        def forward(self, x, place):
            return x[:, place] + x.index_select(1, place[None]).squeeze(1)

    return Pick(), rows(5, 3), TensorSpec("place", (), torch.int64, high=5)


@zoo
def autocast_body():
    class Autocast(Layers):
        def forward(self, x):
            with torch.autocast(x.device.type, dtype=torch.bfloat16):
                x = functional.gelu(self.norm(self.body(x)))
            return self.head(x.float())

    return Autocast(body=nn.Linear(16, 32), norm=nn.LayerNorm(32), head=nn.Linear(32, 4)), rows(16)


@zoo
def bfloat16_body():
    class Mixed(Layers):
        def forward(self, x):
            return self.head(self.body(x.to(torch.bfloat16)).relu().float())

    return Mixed(body=nn.Linear(16, 32, dtype=torch.bfloat16), head=nn.Linear(32, 4)), rows(16)


@zoo
def half_precision():
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 4)).half()
    return model, rows(16, name="input", dtype=torch.float16)


@zoo
def double_precision():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    return model, rows(6, name="input", dtype=torch.float64)


@zoo
def its_own_nan_and_infinity():
    class Logs(nn.Module):
        def forward(self, x):
            return x.log(), x / x.round(), functional.softmax(torch.where(x > 0, x, -torch.inf), dim=1)

    return Logs(), rows(12)


@zoo
def fully_masked_rows():
    class Masked(nn.Module):
        def forward(self, x, mask):
            scores = (x @ x.transpose(1, 2)).masked_fill(~mask[:, None, :], torch.finfo(x.dtype).min)
            return scores.softmax(dim=-1) @ x

    shape = batch(), length(1)
    return Masked(), TensorSpec("x", (*shape, 4)), TensorSpec("mask", shape, torch.bool)


@zoo
def branch_on_data():
    class Branch(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x - 1

    return Branch(), rows(4)


@zoo
def branch_on_size():
    class Branch(nn.Module):
        """Long sequences are averaged in another way."""

        def forward(self, x):
            return x.mean(dim=1) if x.shape[1] < 20 else x[:, -20:].mean(dim=1) + 1

    return Branch(), TensorSpec("x", (batch(), length(), 4))


@zoo
def as_many_as_are_positive():
    class Selecting(Layers):
        def forward(self, x):
            x = self.linear(x)
            return x[x.sum(dim=1) > 0] * 2

    return Selecting(linear=nn.Linear(8, 8)), rows(8)


@zoo
def the_better_half():
    class Half(nn.Module):
        def forward(self, x):
            values, places = x.topk(x.shape[1] // 2, dim=1)
            return values, places

    return Half(), TensorSpec("x", (batch(), length()))


@zoo
def merged_batch_and_length():
    class Merged(Layers):
        def forward(self, x):
            rows, steps, _ = x.shape
            return self.linear(x.reshape(-1, 6)).view(rows, steps, 3, 3).transpose(1, 2)

    return Merged(linear=nn.Linear(6, 9)), TensorSpec("x", (batch(), length(1), 6))


@zoo
def one_hot_and_histogram():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(10, 3)
            self.register_buffer("edges", torch.linspace(0, 1, 9))

        def forward(self, ids, x):
            codes = functional.one_hot(ids, 10).float()  # [batch, length, 10]
            return self.linear(codes.sum(dim=1)), torch.bucketize(x, self.edges)

    many = batch()
    return Counts(), ids((many, length(1)), 10), TensorSpec("x", (many, 4))


@zoo
def gaussian_process():
    class Process(nn.Module):
        """Kernel, Cholesky factor, and solve: the length is that of the matrix."""

        def forward(self, points, values):
            kernel = (-torch.cdist(points, points).square()).exp() + 0.1 * torch.eye(points.shape[1])
            factor = torch.linalg.cholesky(kernel)
            return torch.cholesky_solve(values, factor), factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)

    shape = batch(1, 3, 6), length(2, 8, 20)
    return Process(), TensorSpec("points", (*shape, 2)), TensorSpec("values", (*shape, 1))


@zoo
def state_space_scan():
    class Scan(Layers):
        """A linear recurrence, as a sum of decayed inputs."""

        def forward(self, x):
            steps = torch.arange(x.shape[1], dtype=x.dtype)
            decays = torch.tril(
                (-(steps[:, None] - steps[None, :]).clamp(min=0)[..., None] * self.decay).exp().permute(2, 0, 1)
            )
            return self.project(torch.einsum("dts,bsd->btd", decays, x))

    return Scan(decay=nn.Parameter(torch.rand(8)), project=nn.Linear(8, 8)), TensorSpec("x", (batch(), length(1), 8))


@zoo
def point_cloud():
    class Points(Layers):
        """The three nearest neighbours of every point."""

        def forward(self, points):
            distance = torch.cdist(points, points)
            near = distance.topk(3, largest=False).indices  # [batch, points, 3]
            gathered = points[torch.arange(points.shape[0])[:, None, None], near]  # [batch, points, 3, 3]
            edges = torch.cat([gathered - points[:, :, None], points[:, :, None].expand_as(gathered)], dim=-1)
            return self.mlp(edges).amax(dim=2).amax(dim=1)

    model = Points(mlp=nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8)))
    return model, TensorSpec("points", (batch(1, 2, 6), DynamicDim("points_", 3, 12, 40), 3))


@zoo
def roll_and_flip():
    class Rolled(nn.Module):
        def forward(self, x):
            return torch.roll(x, (1, -2), (2, 3)) + x.flip(-1) + functional.pad(x, (1, 1, 1, 1), "reflect")[..., 2:, 2:]

    return Rolled(), TensorSpec("x", (batch(), 2, side("height"), side("width")))


@zoo
def sorted_and_searched():
    class Sorted(nn.Module):
        def forward(self, x, queries):
            values, order = x.sort(dim=1)
            return torch.searchsorted(values, queries), order, values.cumprod(dim=1), x.quantile(0.5, dim=1)

    many = batch()
    return Sorted(), TensorSpec("x", (many, length())), TensorSpec("queries", (many, 3))
