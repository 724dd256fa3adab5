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


class Pool(nn.Module):
    """Pools images of any size to 3 by 3."""

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(x, (3, 3))


class Item(nn.Module):
    """Divides by a number that it takes out of a tensor."""

    def forward(self, x, scale):
        return x / scale.item()


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


def killed(number=signal.SIGKILL):
    return Case("killed", Killed(int(number)), (ROWS,))


def slow():
    return Case("slow", Slow(), (ROWS,))


def pool():
    sides = (DynamicDim(name, 32, 64, 128) for name in ("height", "width"))
    return Case("pool", Pool(), (TensorSpec("x", (2, 3, *sides)),))


def item(low=1):
    batch = DynamicDim("batch", low, 4, 8)
    return Case("item", Item(), (TensorSpec("x", (batch, 3)), TensorSpec("scale", (1,))))


def deep(depth=30):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Case("deep", Deep(depth).eval(), (TensorSpec("x", (DynamicDim("batch", 2, 4, 8), 64)),))
