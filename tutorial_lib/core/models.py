"""The tutorial's models (:mod:`tutorial_lib.core.nets`), each with the ranges of its inputs: a :class:`Case`.

Weights are random but seeded, so that every machine compiles the same numbers, and nothing is
downloaded. Models are in eval mode and need no gradients.
"""

import copy
import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from tutorial_lib.core import precision
from tutorial_lib.core.nets import (
    AnySizeVisionTransformer,
    Decoder,
    ExpandReshapeModel,
    GatedNorm,
    Perceptron,
    TextEncoder,
    VisionTransformer,
)
from tutorial_lib.core.profiles import Profile, envelope, holding, read_profiles
from tutorial_lib.core.shapes import (
    DynamicDim,
    ShapeError,
    TensorSpec,
    as_range,
    as_size,
    named_dims,
    range_within,
    resolved,
)

M = TypeVar("M", bound=nn.Module)

SEED = 0
HIGH = 2
"""Integer examples are below this where a TensorSpec has no ``high``: 0 and 1 are in any table of two rows."""


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
        The name of a precision (:mod:`tutorial_lib.core.precision`); :meth:`in_precision` sets it. Without one,
        weights compute in the dtype they have, with TF32 as PyTorch is set.
    recipe : str, optional
        The Python expression that makes the model, such as ``"MyModel(width=64)"``, for scripts
        that stand alone.
    examples : callable, optional
        ``examples(sizes)`` returns one tensor for each input, of the shapes that follow from `sizes` (by name), for
        models that not all random numbers suit: positive numbers, the meaning of a mask. It is called with PyTorch's
        generator seeded, so ``torch.rand`` gives the same numbers each time. Without it, inputs are as in
        :meth:`example`.
    profiles : sequence of mapping, optional
        Several optimization profiles, each with a (min, opt, max) for *all* dynamic dimensions:
        ``({"batch": (1, 1, 4), "new": (1, 64, 512)}, {...})``. The ranges of the inputs then become the smallest that
        hold them all, with the opt of the first; a single profile becomes the ranges
        (:mod:`tutorial_lib.core.profiles`).

    Raises
    ------
    ShapeError
        If the model is no ``torch.nn.Module``, the inputs are not TensorSpecs that fit each other, or the profiles
        are not ones that could all serve calls.
    """

    name: str
    model: nn.Module
    inputs: tuple[TensorSpec, ...]
    precision: str | None = None
    recipe: str | None = None
    examples: Callable[[dict[str, int]], Sequence[torch.Tensor]] | None = None
    profiles: tuple[Profile, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise ShapeError(f"{self.name}: the model is a {type(self.model).__name__}; give a torch.nn.Module.")
        if isinstance(self.inputs, TensorSpec) or not all(isinstance(spec, TensorSpec) for spec in self.inputs):
            raise ShapeError(f"{self.name}: inputs is {self.inputs!r}; give a tuple of TensorSpecs.")
        object.__setattr__(self, "inputs", tuple(self.inputs))
        if not self.inputs:
            raise ShapeError(f"{self.name} has no inputs; give at least one TensorSpec.")
        profiles = read_profiles(self.name, named_dims(self.inputs), self.profiles)
        if profiles:
            object.__setattr__(self, "inputs", _with_dims(self.inputs, envelope(profiles)))
        object.__setattr__(self, "profiles", profiles if len(profiles) > 1 else ())
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
        """A size for every dynamic dimension: `size` for the first, or by name; the rest at opt.

        Of several profiles, opt is that of the first one which takes the sizes that are given.
        """
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
        given = {name: as_size(value, name) for name, value in size.items()}
        number = holding(self.profiles, given)
        if number is not None:
            sizes = {dim.name: dim.opt for dim in self.profiles[number]}
        return {**sizes, **given}

    def example(self, size: int | Mapping[str, int] | None = None, *, seed: int = SEED) -> tuple[torch.Tensor, ...]:
        """Inputs on the model's device, of the sizes that :meth:`sizes` gives: from `examples`, or random.

        Random floats are standard normal. Integers are uniform from 0 to below their spec's ``high``, or 0 and 1
        without one. Booleans are padding masks: along the last axis, the first n are True and the others
        False, with n uniform from 1 to all but one, for each row anew. The same seed and size give the same
        numbers on every device.

        Raises
        ------
        ShapeError
            If there is no such dimension, or `examples` returns other shapes.
        """
        sizes = self.sizes(size)
        if self.examples is not None:
            tensors = self._own_examples(sizes, seed)
        else:
            generator = torch.Generator().manual_seed(seed)
            tensors = tuple(_random(spec, spec.shape_at(sizes), generator) for spec in self.inputs)
        return tuple(tensor.to(self.device, spec.dtype) for tensor, spec in zip(tensors, self.inputs, strict=True))

    def _own_examples(self, sizes: dict[str, int], seed: int) -> tuple[torch.Tensor, ...]:
        assert self.examples is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tensors = self.examples(dict(sizes))
        names = [spec.name for spec in self.inputs]
        if not isinstance(tensors, tuple | list) or len(tensors) != len(names):
            raise ShapeError(f"{self.name}: examples must return a tuple of {len(names)} tensors: {', '.join(names)}.")
        for tensor, spec in zip(tensors, self.inputs, strict=True):
            shape = spec.shape_at(sizes)
            if not isinstance(tensor, torch.Tensor) or tensor.shape != shape:
                given = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
                raise ShapeError(f"{self.name}: examples({sizes}) returned {given} for {spec.name}, not {shape}.")
        # a view's offset into its memory would become a size that Dynamo guards on
        return tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in tensors)

    def to(self, device: str | torch.device) -> "Case":
        """The same case with a copy of its model on `device`.

        Raises
        ------
        ShapeError
            If this PyTorch has no such device here.
        """
        try:
            target = torch.device(device)
            torch.empty(0, device=target)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = textwrap.shorten(str(error), 100, placeholder=" ...")
            raise ShapeError(f"{self.name}: there is no device {str(device)!r} here ({reason}).") from None
        return replace(self, model=copy.deepcopy(self.model).to(target))

    def in_precision(self, name: str) -> "Case":
        """The same case with a copy of its model, and its inputs, in precision `name`; itself if it is so already.

        Raises
        ------
        PrecisionError
            If there is no such precision, or not on the model's device.
        """
        reason = precision.why_not(name, self.device)
        if reason:
            raise precision.PrecisionError(f"precision {name}: {reason}")
        if self.precision == name:
            return self
        dtype = precision.DTYPES[name]
        inputs = tuple(replace(s, dtype=dtype) if s.dtype.is_floating_point else s for s in self.inputs)
        return replace(self, model=precision.cast(self.model, dtype), inputs=inputs, precision=name)

    def with_ranges(self, **ranges: Sequence[int] | DynamicDim) -> "Case":
        """The same case with other ranges: ``case.with_ranges(batch=(1, 4, 32))``.

        A triple (min, opt, max) keeps the step and the limit of the dimension. So does a :class:`DynamicDim`,
        which may have a larger step or a lower limit. Several profiles give way to the one range.

        Raises
        ------
        ShapeError
            If there is no such dimension, or the model does not take all sizes of the range.
        """
        dims = dict(self.dims)
        for name, given in ranges.items():
            if name not in dims:
                raise ShapeError(f"{self.name} has no dynamic dimension {name!r}; it has {', '.join(dims) or 'none'}.")
            dims[name] = range_within(dims[name], given)
        return replace(self, inputs=_with_dims(self.inputs, dims), profiles=())

    def with_profiles(self, *profiles: Mapping[str, Sequence[int]] | Profile) -> "Case":
        """The same case with several optimization profiles: ``case.with_profiles({"batch": (1, 1, 4)}, {...})``.

        Without any, it is the case as it is, with its range alone.

        Raises
        ------
        ShapeError
            If they are not profiles that could all serve calls (:func:`tutorial_lib.core.profiles.read_profiles`).
        """
        return replace(self, profiles=read_profiles(self.name, self.dims, profiles))

    def at_profile(self, number: int) -> "Case":
        """The same case with the ranges of one of its profiles, and no others."""
        return self.with_ranges(**{dim.name: dim for dim in self.profiles[number]})


def _with_dims(inputs: Sequence[TensorSpec], dims: Mapping[str, DynamicDim]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, shape=tuple(resolved(dim, dims) for dim in spec.shape)) for spec in inputs)


def _random(spec: TensorSpec, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if spec.dtype.is_floating_point or spec.dtype.is_complex:
        return torch.randn(shape, generator=generator)
    if spec.dtype != torch.bool:
        return torch.randint(spec.high or HIGH, shape, generator=generator)
    *rows, width = shape or (1,)  # whichever value means padding, no row is nothing else
    present = torch.randint(1, max(width, 2), (*rows, 1), generator=generator)
    return (torch.arange(width) < present).reshape(shape)


def _seeded(make: Callable[[], M]) -> M:
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
    return Case("vit", model, (images,), recipe=f"VisionTransformer({_arguments(sizes)})")


def perceptron(tokens: Sequence[int] = (1, 64, 1024), width: int = 256) -> Case:
    """The perceptron of a transformer block: input ``x`` [tokens, 256], small enough for opt to matter on a CPU."""
    model = _seeded(lambda: Perceptron(width))
    x = TensorSpec("x", (as_range("tokens", tokens), width))
    return Case("perceptron", model, (x,), recipe=f"Perceptron(width={width})")


def gated_norm(batch: Sequence[int] = (1, 8, 64), tokens: int = 196, width: int = 256) -> Case:
    """Operators that a compiler fuses: input ``x`` [batch, 196, 256]. Where compiling is worth most."""
    model = _seeded(lambda: GatedNorm(width))
    x = TensorSpec("x", (as_range("batch", batch), tokens, width))
    return Case("gated-norm", model, (x,), recipe=f"GatedNorm(width={width})")


def text_encoder(batch: Sequence[int] = (1, 4, 16), length: Sequence[int] = (8, 64, 256), **sizes: Any) -> Case:
    """A small transformer encoder: token ``ids`` and their ``mask``, both [batch, length], to class scores.

    Its position table bounds the range of length, also for :meth:`Case.with_ranges`.
    """
    model = _seeded(lambda: TextEncoder(**sizes))
    vocabulary, positions = model.tokens.num_embeddings, model.positions.shape[0]
    shape = (as_range("batch", batch), as_range("length", length, limit=positions))
    inputs = (TensorSpec("ids", shape, torch.int64, high=vocabulary), TensorSpec("mask", shape, torch.bool))
    return Case("text-encoder", model, inputs, recipe=f"TextEncoder({_arguments(sizes)})")


def vit_any_size(batch: Sequence[int] = (1, 2, 8), image: Sequence[int] = (96, 224, 320), **sizes: Any) -> Case:
    """A small Vision Transformer for images of any size: input ``images`` [batch, 3, height, width].

    `image` is the range of the height, and of the width; sizes are multiples of the patch.
    """
    model = _seeded(lambda: AnySizeVisionTransformer(**sizes))
    patch = model.patch_embed.stride[0]
    height, width = (as_range(name, image, step=patch) for name in ("height", "width"))
    images = TensorSpec("images", (as_range("batch", batch), 3, height, width))
    recipe = f"AnySizeVisionTransformer({_arguments(sizes)})"
    return Case("vit-any-size", model, (images,), recipe=recipe)


def decoder(
    batch: Sequence[int] = (1, 2, 4),
    new: Sequence[int] = (1, 8, 64),
    past: Sequence[int] = (4, 64, 448),
    **sizes: Any,
) -> Case:
    """A small language model with its cache: token ``ids`` [batch, new], and keys and values of `past` tokens.

    The longest context is the max of `past` and of `new` together.
    """
    model = _seeded(lambda: Decoder(**sizes))
    batch_dim, new_dim, past_dim = as_range("batch", batch), as_range("new", new), as_range("past", past)
    block: Any = model.blocks[0]
    cache = (len(model.blocks), batch_dim, block.kv_heads, past_dim, block.head_dim)
    pasts = (TensorSpec(f"past_{what}", cache) for what in ("keys", "values"))
    return Case("decoder", model, (*_tokens(model, batch_dim, new_dim), *pasts), recipe=f"Decoder({_arguments(sizes)})")


def prefill(batch: Sequence[int] = (1, 2, 4), new: Sequence[int] = (1, 64, 512), **sizes: Any) -> Case:
    """The first call of the same language model, on a prompt of `new` tokens, without a cache.

    It is a program of its own: a cache without entries is a tensor with a size of 0, which torch, like 1, turns into a
    constant, so no program with a range for `past` serves it.
    """
    model = _seeded(lambda: Decoder(**sizes))
    inputs = _tokens(model, as_range("batch", batch), as_range("new", new))
    return Case("prefill", model, inputs, recipe=f"Decoder({_arguments(sizes)})")


def _tokens(model: Decoder, batch: DynamicDim, new: DynamicDim) -> tuple[TensorSpec, TensorSpec]:
    ids = TensorSpec("ids", (batch, new), torch.int64, high=model.tokens.num_embeddings)
    return ids, TensorSpec("padding", (batch,), torch.int64)


def _arguments(sizes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in sizes.items())


MODELS: dict[str, Callable[..., Case]] = {
    "expand-reshape": expand_reshape,
    "vit": vit,
    "perceptron": perceptron,
    "gated-norm": gated_norm,
    "text-encoder": text_encoder,
    "vit-any-size": vit_any_size,
    "decoder": decoder,
}
"""The models by the name that the command line uses."""


def make_case(model: str, low: int | None = None, opt: int | None = None, high: int | None = None) -> Case:
    """One of :data:`MODELS` with a range for its first dynamic dimension."""
    return ranged(MODELS[model](), low, opt, high)


def ranged(case: Case, low: int | None = None, opt: int | None = None, high: int | None = None) -> Case:
    """A case with another range for its first dynamic dimension; omitted bounds are derived from the given ones."""
    name, dim = next(iter(case.dims.items()))
    low = dim.min if low is None else low
    high = max(dim.max, opt or 0, low) if high is None else high
    return case.with_ranges(**{name: (low, max(low, min(dim.opt, high)) if opt is None else opt, high)})
