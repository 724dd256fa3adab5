"""What the zoo's models share: their register, and the ranges that most of them have."""

import functools

import torch
from torch import nn

from tutorial_lib import Case, DynamicDim, TensorSpec

MODELS = {}
"""Each model's function by its name; the function makes the case, with weights that are the same every time."""


def zoo(function):
    """Decorate a function that returns ``(model, *inputs)``, or a case, and add it to :data:`MODELS`."""

    @functools.wraps(function)
    def make():
        torch.manual_seed(0)
        made = function()
        return made if isinstance(made, Case) else Case(function.__name__, made[0], made[1:])

    MODELS[function.__name__] = make
    return make


class Layers(nn.Module):
    """A model of the layers and parameters that it is given by name."""

    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


def batch(low=1, opt=4, high=20):
    return DynamicDim("batch", low, opt, high)


def length(low=2, opt=12, high=40, **more):
    return DynamicDim("length", low, opt, high, **more)


def side(name, low=16, opt=32, high=56, **more):
    return DynamicDim(name, low, opt, high, **more)


def images(height=32, width=32, channels=3, name="x"):
    return TensorSpec(name, (batch(), channels, height, width))


def images_of_any_size(channels=3, step=1, name="x"):
    dims = batch(1, 2, 5), channels, side("height", step=step), side("width", step=step)
    return TensorSpec(name, dims)


def ids(dims, high, name="ids"):
    return TensorSpec(name, dims, torch.int64, high=high)
