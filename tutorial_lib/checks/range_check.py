"""The check in front of every compiled program: rank, dtype, device, strides, fixed sizes, ranges.

A compiled program without one is dangerous: ahead-of-time code checks nothing by default and reads
past the buffer of a tensor that is too small, while a just-in-time program quietly compiles again.
"""

from collections.abc import Sequence
from typing import Any

import torch

from tutorial_lib.core.profiles import Profile, holding, none_takes
from tutorial_lib.core.shapes import DerivedDim, DynamicDim, ShapeError, TensorSpec, named_dims

REMEMBERED = 4096
"""Signatures of accepted inputs that a guard keeps; a call with one of them costs one look-up."""


class OutOfRange(ShapeError):
    """Inputs that are right in every way but the size of a dynamic dimension."""


class Guard:
    """Refuses inputs that the program was not built for, in one sentence.

    `specs` are the inputs that it was built for, on `device`. Of several `profiles`, one has to hold all sizes.
    """

    def __init__(self, specs: Sequence[TensorSpec], device: torch.device, profiles: Sequence[Profile] = ()) -> None:
        self._specs, self._profiles = tuple(specs), tuple(profiles)
        self._device = device
        self._accepted: set[Any] = set()

    def __call__(self, inputs: Sequence[torch.Tensor]) -> None:
        """Return if the program may be called with `inputs`.

        Raises
        ------
        OutOfRange
            If only the size of a dynamic dimension is wrong.
        ShapeError
            If anything else is.
        """
        try:
            key = tuple(
                [
                    (
                        type(x),
                        x.shape,
                        x.dtype,
                        x.device,
                        x.is_contiguous(),
                        x.requires_grad,
                        x.is_inference(),
                        x.is_neg(),
                    )
                    for x in inputs
                ]
            )
            if key in self._accepted:
                return
        except (AttributeError, RuntimeError):  # not a tensor, or one without strides: check() says which
            key = None
        self.check(inputs)
        if len(self._accepted) >= REMEMBERED:
            self._accepted.clear()
        if not any(x.is_complex() for x in inputs):  # which may be conjugated lazily, and the key does not tell
            self._accepted.add(key)

    def check(self, inputs: Sequence[torch.Tensor]) -> None:
        """The whole check, without the memory of earlier calls."""
        if len(inputs) != len(self._specs):
            names = ", ".join(spec.name for spec in self._specs)
            raise ShapeError(f"{len(inputs)} inputs were given; this program takes {len(self._specs)} ({names}).")
        for spec, tensor in zip(self._specs, inputs, strict=True):
            self._check_kind(spec, tensor)
        sizes: dict[str, tuple[int, str]] = {}
        for spec, tensor in zip(self._specs, inputs, strict=True):
            for dim, size in zip(spec.shape, tensor.shape, strict=True):
                if not isinstance(dim, int):
                    self._note_size(spec, dim, size, sizes)
        for dim in named_dims(self._specs).values():
            size, owner = sizes[dim.name]
            self._check_size(owner, dim, size)
        together = {name: size for name, (size, _) in sizes.items()}
        if self._profiles and holding(self._profiles, together) is None:
            raise OutOfRange(none_takes(self._profiles, together))

    @staticmethod
    def _note_size(
        spec: TensorSpec, dim: DynamicDim | DerivedDim, size: int, sizes: dict[str, tuple[int, str]]
    ) -> None:
        """Add a size to `sizes`, by the name of its dimension and with its input; refuse it if it contradicts them."""
        if not isinstance(dim, DerivedDim):
            first, owner = sizes.setdefault(dim.name, (size, spec.name))
            if first != size:
                raise ShapeError(f"{dim.name} is {first} on {owner} but {size} on {spec.name}; it must be one size.")
            return
        base, rest = divmod(size - dim.offset, dim.factor)
        first, owner = sizes.setdefault(dim.base.name, (base, spec.name))
        if rest or dim.of(first) != size:
            expected = f"{dim.base.name} is {first} on {owner}, so give {dim.of(first)}"
            if rest and owner == spec.name:
                expected = f"no {dim.base.name} gives that"
            raise ShapeError(f"{spec.name} has size {size} where {dim} is expected: {expected}.")

    @staticmethod
    def _check_size(owner: str, dim: DynamicDim, size: int) -> None:
        if not dim.min <= size <= dim.max:
            allowed = str(dim.min) if dim.is_fixed else f"{dim.min} to {dim.max}"
            raise OutOfRange(
                f"{dim.name} is {size} on {owner}; this program was built for {allowed}: "
                f"stay in that range or build it again with a wider one."
            )
        if size % dim.step:
            below = size - size % dim.step
            raise OutOfRange(
                f"{dim.name} is {size} on {owner}; this program was built for multiples of {dim.step}: "
                f"crop it to {below} or pad it to {below + dim.step}."
            )

    def _check_kind(self, spec: TensorSpec, tensor: Any) -> None:
        name = spec.name
        refuse_unusual(name, tensor)
        if tensor.dim() != len(spec.shape):
            wanted = ", ".join(str(d) if isinstance(d, int) else d.name for d in spec.shape)
            raise ShapeError(
                f"{name} has {tensor.dim()} dimensions, shape {tuple(tensor.shape)}; "
                f"give {len(spec.shape)}: [{wanted}]."
            )
        if tensor.dtype != spec.dtype:
            raise ShapeError(
                f"{name} is {tensor.dtype}; this program was built for {spec.dtype}: "
                f"convert it with {name}.to({spec.dtype})."
            )
        if tensor.device != self._device:
            raise ShapeError(
                f"{name} is on {tensor.device}; this program was built for {self._device}: "
                f"move it with {name}.to({str(self._device)!r})."
            )
        for axis, (dim, size) in enumerate(zip(spec.shape, tensor.shape, strict=True)):
            if isinstance(dim, int) and size != dim:
                raise ShapeError(f"{name} has size {size} in dim {axis}; it is fixed at {dim}.")
        refuse_views(name, tensor)
        if tensor.requires_grad:
            raise ShapeError(f"{name} requires grad; this program was built for inference: pass {name}.detach().")
        if tensor.is_inference():
            raise ShapeError(
                f"{name} was made under torch.inference_mode(), which programs guard against: "
                f"make it under torch.no_grad(), or pass {name}.clone() from outside that mode."
            )


def refuse_unusual(name: str, tensor: Any) -> None:
    """Refuse an input that is no tensor, or one that is not dense and PyTorch's own."""
    if not isinstance(tensor, torch.Tensor):
        raise ShapeError(f"{name} is a {type(tensor).__name__}; give a torch.Tensor.")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.is_nested:
        kind = "nested tensor" if tensor.is_nested else type(tensor).__name__
        raise ShapeError(f"{name} is a {kind}; give a plain torch.Tensor.")
    if tensor.layout != torch.strided:
        raise ShapeError(f"{name} has layout {tensor.layout}; give a dense tensor ({name}.to_dense()).")


def refuse_views(name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor that does not lie in memory as it reads."""
    if not tensor.is_contiguous():
        raise ShapeError(
            f"{name} is not contiguous (strides {tensor.stride()}); compiled code reads memory in order: "
            f"pass {name}.contiguous()."
        )
    if tensor.is_neg() or tensor.is_conj():
        raise ShapeError(
            f"{name} is negated or conjugated lazily, and compiled code would read it as it lies in memory: "
            f"pass {name}.resolve_neg().resolve_conj()."
        )
