"""Models of the tests that the engines' process has to import, small, and each with something to it."""

import os
import signal
import time
from itertools import pairwise

import torch
from torch import nn

from tutorial_lib import Case, DynamicDim, TensorSpec

ROWS = TensorSpec("x", (DynamicDim("batch", 2, 4, 8), 3))


class Killed(nn.Module):
    """Its process ends by a signal while the model is traced."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, x):
        os.kill(os.getpid(), self.number)
        return x


class Slow(nn.Module):
    """Tracing it takes far longer than anyone waits."""

    def forward(self, x):
        time.sleep(300)
        return x


class Deep(nn.Module):
    """Many layers of different sizes: TensorRT takes its time."""

    def __init__(self, depth):
        super().__init__()
        widths = [64 + 8 * number for number in range(depth + 1)]
        layers = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU(), nn.LayerNorm(after), nn.Softmax(dim=-1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class Pool(nn.Module):
    """Pools images of any size to 3 by 3, between two steps of an engine's."""

    def forward(self, x):
        return torch.relu(nn.functional.adaptive_avg_pool2d(x * 2, (3, 3)))


class Item(nn.Module):
    """Divides by a number that it takes out of a tensor."""

    def forward(self, x, scale):
        return x / scale.item()


class Positive(nn.Module):
    """As many numbers as the values decide."""

    def forward(self, x):
        return x[(x > 0).nonzero(as_tuple=True)].sum()


class Ordered(nn.Module):
    def forward(self, x):
        return x.quantile(0.5, dim=1)


class Places(nn.Module):
    """Counts on from a size that varies."""

    def forward(self, x, past):
        first = past.shape[0]
        return x + torch.arange(first, first + x.shape[0], device=x.device)[:, None]


class Heads(nn.Module):
    """Attention whose keys and values have as many heads as are left over: a decoder's reshape."""

    def forward(self, q, k, v):
        batch, _, length, width = k.shape
        k, v = (part.reshape(batch, -1, length, width) for part in (k, v))
        return nn.functional.scaled_dot_product_attention(q, k, v)


def killed(number=signal.SIGKILL):
    return Case("killed", Killed(int(number)), (ROWS,))


def slow():
    return Case("slow", Slow(), (ROWS,))


def deep(depth=10):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Case("deep", Deep(depth).eval(), (TensorSpec("x", (DynamicDim("batch", 2, 4, 8), 64)),))


def pool():
    sides = (DynamicDim(name, 32, 64, 128) for name in ("height", "width"))
    return Case("pool", Pool(), (TensorSpec("x", (2, 3, *sides)),))


def item(low=1):
    batch = DynamicDim("batch", low, 4, 8)
    return Case("item", Item(), (TensorSpec("x", (batch, 3)), TensorSpec("scale", (1,))))


def positive():
    return Case("positive", Positive(), (ROWS,))


def ordered():
    return Case("ordered", Ordered(), (ROWS,))


def places():
    return Case("places", Places(), (ROWS, TensorSpec("past", (DynamicDim("past", 2, 4, 8), 3))))


def heads():
    batch, new, past = DynamicDim("batch", 1, 2, 4), DynamicDim("new", 2, 4, 8), DynamicDim("past", 2, 6, 16)
    inputs = (TensorSpec(name, (batch, 4, length, 8)) for name, length in (("q", new), ("k", past), ("v", past)))
    return Case("heads", Heads(), tuple(inputs))
