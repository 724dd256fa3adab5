"""The tutorial's models, each with the ranges of its inputs: a :class:`Case`.

Weights are random but seeded, so that every machine compiles the same numbers, and nothing is
downloaded. Models are in eval mode and need no gradients.
"""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tutorial_lib import precision
from tutorial_lib.shapes import DynamicDim, ShapeError, TensorSpec, as_size, named_dims

SEED = 0


class ExpandReshapeModel(nn.Module):
    """The first steps of a Vision Transformer, which mix a dynamic batch with fixed sizes.

    The class token is expanded to the batch, concatenated in front of the patches, projected to
    queries, keys and values, and split into heads::

        x [batch, tokens, embed_dim] -> [batch, tokens + 1, 3, heads, embed_dim / heads]
    """

    def __init__(self, embed_dim: int = 768, heads: int = 12) -> None:
        super().__init__()
        if embed_dim % heads:
            raise ShapeError(f"embed_dim is {embed_dim}; it must be a multiple of {heads}, the number of heads.")
        self.heads = heads
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim))
        self.qkv_proj = nn.Linear(embed_dim, 3 * embed_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = x.shape[0]
        cls_token = self.cls_token.expand(batch, -1, -1)
        x = torch.cat([cls_token, x], dim=1)
        qkv = self.qkv_proj(x)
        return qkv.reshape(batch, qkv.size(1), 3, self.heads, -1)


class Block(nn.Module):
    """A pre-norm transformer block: attention and a two-layer perceptron, each with a residual."""

    def __init__(self, embed_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.qkv, self.proj = nn.Linear(embed_dim, 3 * embed_dim), nn.Linear(embed_dim, embed_dim)
        self.mlp = nn.Sequential(nn.Linear(embed_dim, 4 * embed_dim), nn.GELU(), nn.Linear(4 * embed_dim, embed_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [batch, heads, tokens, head_dim]
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """A small Vision Transformer: images [batch, 3, 224, 224] -> class scores [batch, classes]."""

    def __init__(
        self,
        image: int = 224,
        patch: int = 16,
        embed_dim: int = 192,
        depth: int = 4,
        heads: int = 3,
        classes: int = 100,
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, embed_dim, kernel_size=patch, stride=patch)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, (image // patch) ** 2 + 1, embed_dim))
        self.blocks = nn.Sequential(*(Block(embed_dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(images).flatten(2).transpose(1, 2)  # [batch, patches, embed_dim]
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class Perceptron(nn.Module):
    """The two-layer perceptron of a transformer block, on single tokens: x [tokens, width] -> [tokens, width]."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


@dataclass(frozen=True)
class Case:
    """A model with its inputs: what the compile paths take.

    Parameters
    ----------
    name : str
        Name shown in tables and figures.
    model : torch.nn.Module
        Put in eval mode, with gradients off.
    inputs : tuple of TensorSpec
        One for each positional argument of the model's ``forward``, under that argument's name.
    precision : str, optional
        The name of a precision (:mod:`tutorial_lib.precision`); :meth:`in_precision` sets it. Without one,
        weights compute in the dtype they have, with TF32 as PyTorch is set.
    recipe : str, optional
        The Python expression that makes the model, such as ``"MyModel(width=64)"``, for scripts
        that stand alone.
    """

    name: str
    model: nn.Module
    inputs: tuple[TensorSpec, ...]
    precision: str | None = None
    recipe: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        if not self.inputs:
            raise ShapeError(f"{self.name} has no inputs; give at least one TensorSpec.")
        named_dims(self.inputs)
        self.model.eval().requires_grad_(False)

    @property
    def dims(self) -> dict[str, DynamicDim]:
        """The dynamic dimensions by name; the first one is the batch where there is one."""
        return named_dims(self.inputs)

    @property
    def traced(self) -> dict[str, int]:
        """The sizes that graphs are traced with: opt, but at least 2 (:attr:`DynamicDim.traced`)."""
        return {name: dim.traced for name, dim in self.dims.items()}

    @property
    def device(self) -> torch.device:
        """Where the model's weights are (the CPU for a model without any)."""
        tensor = next(itertools.chain(self.model.parameters(), self.model.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def allows_tf32(self) -> bool | None:
        """Whether products may use TF32; None where that is left as PyTorch is set."""
        return precision.allows_tf32(self.precision, self.device)

    @torch.no_grad()
    def eager(self, *inputs: torch.Tensor) -> Any:
        """What PyTorch computes without compiling, in the case's precision."""
        with precision.tf32(self.allows_tf32):
            return self.model(*inputs)

    def sizes(self, size: int | Mapping[str, int] | None = None) -> dict[str, int]:
        """A size for every dynamic dimension: `size` for the first, or by name; the rest at opt."""
        sizes = {name: dim.opt for name, dim in self.dims.items()}
        if size is None:
            return sizes
        if not isinstance(size, Mapping):
            if not sizes:
                raise ShapeError(f"{self.name} has no dynamic dimension, so it has no size {size} to run at.")
            size = {next(iter(sizes)): size}
        unknown = next((name for name in size if name not in sizes), None)
        if unknown is not None:
            raise ShapeError(f"{self.name} has no dynamic dimension {unknown!r}; it has {', '.join(sizes) or 'none'}.")
        return {**sizes, **{name: as_size(value, name) for name, value in size.items()}}

    def example(self, size: int | Mapping[str, int] | None = None, *, seed: int = SEED) -> tuple[torch.Tensor, ...]:
        """Random inputs on the model's device, standard normal, of the sizes that :meth:`sizes` gives.

        The same seed and size give the same numbers on every device.
        """
        sizes, generator = self.sizes(size), torch.Generator().manual_seed(seed)
        return tuple(
            torch.randn(spec.shape_at(sizes), generator=generator).to(self.device, spec.dtype) for spec in self.inputs
        )

    def to(self, device: str | torch.device) -> "Case":
        """The same case with a copy of its model on `device`."""
        return replace(self, model=copy.deepcopy(self.model).to(device))

    def in_precision(self, name: str) -> "Case":
        """The same case with a copy of its model, and its inputs, in precision `name`.

        Raises
        ------
        PrecisionError
            If there is no such precision, or not on the model's device.
        """
        reason = precision.why_not(name, self.device)
        if reason:
            raise precision.PrecisionError(f"precision {name}: {reason}")
        dtype = precision.DTYPES[name]
        inputs = tuple(replace(s, dtype=dtype) if s.dtype.is_floating_point else s for s in self.inputs)
        return replace(self, model=copy.deepcopy(self.model).to(dtype), inputs=inputs, precision=name)

    def with_ranges(self, **ranges: Sequence[int]) -> "Case":
        """The same case with other ranges: ``case.with_ranges(batch=(1, 4, 32))``."""
        dims = dict(self.dims)
        for name, triple in ranges.items():
            if name not in dims:
                raise ShapeError(f"{self.name} has no dynamic dimension {name!r}; it has {', '.join(dims) or 'none'}.")
            dims[name] = as_range(name, triple)
        return replace(
            self,
            inputs=tuple(
                replace(s, shape=tuple(dims[d.name] if isinstance(d, DynamicDim) else d for d in s.shape))
                for s in self.inputs
            ),
        )


def as_range(name: str, triple: Sequence[int]) -> DynamicDim:
    """A :class:`DynamicDim` from a (min, opt, max) triple."""
    try:
        low, opt, high = triple
    except (TypeError, ValueError):
        raise ShapeError(f"{name}: {triple!r} is not a range; give three sizes (min, opt, max).") from None
    return DynamicDim(name, low, opt, high)


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return make()


def expand_reshape(batch: Sequence[int] = (1, 4, 32), embed_dim: int = 768, tokens: int = 196) -> Case:
    """The tutorial's first model: input ``x`` [batch, 196, 768]."""
    model = _seeded(lambda: ExpandReshapeModel(embed_dim))
    x = TensorSpec("x", (as_range("batch", batch), tokens, embed_dim))
    return Case("expand-reshape", model, (x,), recipe=f"ExpandReshapeModel(embed_dim={embed_dim})")


def vit(batch: Sequence[int] = (1, 4, 8), **sizes: Any) -> Case:
    """A small Vision Transformer: input ``images`` [batch, 3, 224, 224]."""
    model = _seeded(lambda: VisionTransformer(**sizes))
    image = sizes.get("image", 224)
    images = TensorSpec("images", (as_range("batch", batch), 3, image, image))
    arguments = ", ".join(f"{name}={value!r}" for name, value in sizes.items())
    return Case("vit", model, (images,), recipe=f"VisionTransformer({arguments})")


def perceptron(tokens: Sequence[int] = (1, 64, 1024), width: int = 256) -> Case:
    """The perceptron of a transformer block: input ``x`` [tokens, 256], small enough for opt to matter on a CPU."""
    model = _seeded(lambda: Perceptron(width))
    x = TensorSpec("x", (as_range("tokens", tokens), width))
    return Case("perceptron", model, (x,), recipe=f"Perceptron(width={width})")


MODELS: dict[str, Callable[..., Case]] = {
    "expand-reshape": expand_reshape,
    "vit": vit,
    "perceptron": perceptron,
}
"""The models by the name that the command line uses."""


def make_case(model: str, low: int | None = None, opt: int | None = None, high: int | None = None) -> Case:
    """One of :data:`MODELS` with a range for its first dynamic dimension; what is None follows what is not."""
    case = MODELS[model]()
    name, dim = next(iter(case.dims.items()))
    low = dim.min if low is None else low
    high = max(dim.max, opt or 0, low) if high is None else high
    return case.with_ranges(**{name: (low, max(low, min(dim.opt, high)) if opt is None else opt, high)})
