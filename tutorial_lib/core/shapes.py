"""One description of a dynamic range, and its translation into the three dialects.

A dimension that may change is written once, as a :class:`DynamicDim`, and validated once.
A :class:`TensorSpec` then speaks each compile path's own language:

========  =====================================================  ============================
path      upstream API                                           our translation
========  =====================================================  ============================
jit       ``torch._dynamo.mark_dynamic(tensor, axis, ...)``      :meth:`TensorSpec.marks`
input     ``torch_tensorrt.Input(min_shape=, opt_shape=, ...)``  :meth:`TensorSpec.input_args`
export    ``torch.export.Dim(name, min=, max=)``                 :func:`export_dims`
========  =====================================================  ============================

Only the third can say that sizes are multiples of a number: ``16 * torch.export.Dim("height_", ...)``. The
other two get all sizes from min to max, so they take a model that could run at each of them, such as one that
cuts patches with a convolution. One that needs exact multiples, such as a reshape to ``height // 16`` rows,
is refused there. On all three, the guard refuses what is no multiple.
"""

import itertools
import keyword
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

LARGEST = 2**31 - 1
"""Largest size accepted: compiled kernels may index with 32-bit integers."""


class ShapeError(ValueError):
    """A range, a shape or an input that cannot be used; the message says what to type instead."""


@dataclass(frozen=True)
class DynamicDim:
    """A named dimension whose size may be anything from `min` to `max`, tuned for `opt`.

    Parameters
    ----------
    name : str
        A Python identifier. Two inputs that use the same name share one symbol.
    min, opt, max : int
        ``1 <= min <= opt <= max``. With ``min == max`` the dimension is fixed.
    step : int, optional
        Sizes are multiples of this, `min`, `opt` and `max` too. Unless the dimension is fixed, `min` is then
        at least twice that: torch turns a quotient of 1 into a constant, as it does a size of 1.
    limit : int, optional
        The most that `max` may ever be, such as the length of a table that positions are looked up in. An
        index past a table ends the process that runs compiled code.

    Raises
    ------
    ShapeError
        If the triple is not such a range; the message names the offending value.

    Examples
    --------
    >>> DynamicDim("batch", 1, 4, 32)
    DynamicDim(name='batch', min=1, opt=4, max=32)
    >>> print(DynamicDim("height", 96, 224, 320, step=16))
    height 96/224/320 in steps of 16
    >>> DynamicDim("batch", 1, 64, 32)
    Traceback (most recent call last):
    ...
    tutorial_lib.core.shapes.ShapeError: batch: opt is 64, above max 32; use 1 <= min <= opt <= max.
    """

    name: str
    min: int
    opt: int
    max: int
    step: int = 1
    limit: int | None = None

    def __post_init__(self) -> None:
        name = self.name
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise ShapeError(f"{name!r} is not a dimension name; use a Python identifier such as 'batch'.")
        if type(self.min) is int and self.min == 0:
            raise ShapeError(
                f"{name}: min is 0, and torch makes a constant of an empty dimension, which TensorRT does not take; "
                "use 1 or more, and for calls without it a model of their own that has no such input."
            )
        for field in ("min", "opt", "max"):
            object.__setattr__(self, field, as_size(getattr(self, field), f"{name}: {field}"))
        rule = "use 1 <= min <= opt <= max"
        if self.min > self.max:
            raise ShapeError(f"{name}: min is {self.min}, above max {self.max}; {rule}.")
        if self.opt < self.min:
            raise ShapeError(f"{name}: opt is {self.opt}, below min {self.min}; {rule}.")
        if self.opt > self.max:
            raise ShapeError(f"{name}: opt is {self.opt}, above max {self.max}; {rule}.")
        self._check_step()
        if self.limit is not None:
            object.__setattr__(self, "limit", as_size(self.limit, f"{name}: limit"))
            if self.max > self.limit:
                raise ShapeError(f"{name}: max is {self.max}, and the model takes {self.limit} at most.")

    def _check_step(self) -> None:
        step = as_size(self.step, f"{self.name}: step")
        object.__setattr__(self, "step", step)
        for field in ("min", "opt", "max"):
            size = getattr(self, field)
            if size % step:
                below = size - size % step
                use = f"{below} or {below + step}" if below else f"{step}"
                raise ShapeError(f"{self.name}: {field} is {size}, which is no multiple of {step}; use {use}.")
        if step > 1 and self.min == step and not self.is_fixed:
            raise ShapeError(
                f"{self.name}: min is {step}, a single step, which torch would turn into a constant; "
                f"use a min of {2 * step}, or a range of this one size."
            )

    def __str__(self) -> str:
        return f"{self.name} {self.min}/{self.opt}/{self.max}" + (f" in steps of {self.step}" if self.step > 1 else "")

    def __repr__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        shown = (f"{f.name}={given[f.name]!r}" for f in fields(self) if given[f.name] != f.default)
        return f"DynamicDim({', '.join(shown)})"

    @property
    def is_fixed(self) -> bool:
        """Whether the range holds a single size."""
        return self.min == self.max

    @property
    def traced(self) -> int:
        """Size of the example that the graph is traced with, which every compiler takes as opt.

        It is `opt`, except that a dimension traced at 1 becomes the constant 1 (torch
        specializes sizes 0 and 1), so a range with opt 1 is traced at 2.
        """
        return self.opt if self.is_fixed else max(2, self.opt)

    def __mul__(self, factor: int) -> "DerivedDim":
        return DerivedDim(self, factor, 0)

    __rmul__ = __mul__

    def __add__(self, offset: int) -> "DerivedDim":
        return DerivedDim(self, 1, offset)

    __radd__ = __add__

    def __sub__(self, offset: int) -> "DerivedDim":
        return DerivedDim(self, 1, -offset)


@dataclass(frozen=True)
class DerivedDim:
    """A dimension whose size follows from another one: ``factor * base + offset``.

    Written as ``past + 1`` or ``2 * length`` with a :class:`DynamicDim`, it ties two inputs, such as a cache of
    ``past`` entries and a mask of ``past + 1``. It has no range of its own.

    Raises
    ------
    ShapeError
        If factor or offset is no whole number, the factor is below 1, or sizes would begin below 2, which torch would
        turn into a constant.

    Examples
    --------
    >>> past = DynamicDim("past", 1, 32, 127)
    >>> total = past + 1
    >>> print(total, total.min, total.max, total.of(32))
    past + 1 2 128 33
    """

    base: DynamicDim
    factor: int
    offset: int

    def __post_init__(self) -> None:
        for field in ("factor", "offset"):
            number = getattr(self, field)
            if isinstance(number, bool) or not isinstance(number, int):
                raise ShapeError(
                    f"a dimension that follows from {self.base.name} has {field} {number!r}; use a whole number."
                )
        if self.factor < 1:
            raise ShapeError(f"{self}: the factor is {self.factor}; use 1 or more.")
        if self.min < 2 and not (self.is_fixed and self.min == 1):
            raise ShapeError(f"{self}: sizes begin at {self.min}, and torch needs 2 or more here; raise the min.")
        as_size(self.max, str(self))

    def __str__(self) -> str:
        product = self.base.name if self.factor == 1 else f"{self.factor} * {self.base.name}"
        if not self.offset:
            return product
        return f"{product} {'+' if self.offset > 0 else '-'} {abs(self.offset)}"

    def __mul__(self, factor: int) -> "DerivedDim":
        return DerivedDim(self.base, factor * self.factor, factor * self.offset)

    __rmul__ = __mul__

    def __add__(self, offset: int) -> "DerivedDim":
        return DerivedDim(self.base, self.factor, self.offset + offset)

    __radd__ = __add__

    def __sub__(self, offset: int) -> "DerivedDim":
        return DerivedDim(self.base, self.factor, self.offset - offset)

    def of(self, base: Any) -> Any:
        """What follows from what stands for the base: a size, a :class:`DynamicDim` or a ``torch.export.Dim``."""
        product = base if self.factor == 1 else self.factor * base
        return product + self.offset if self.offset else product

    @property
    def name(self) -> str:
        """The expression, such as ``past + 1``."""
        return str(self)

    @property
    def min(self) -> int:
        """The size at the base's min."""
        return int(self.of(self.base.min))

    @property
    def opt(self) -> int:
        """The size at the base's opt."""
        return int(self.of(self.base.opt))

    @property
    def max(self) -> int:
        """The size at the base's max."""
        return int(self.of(self.base.max))

    @property
    def is_fixed(self) -> bool:
        """Whether there is a single size."""
        return self.base.is_fixed


def as_size(value: Any, what: str) -> int:
    """Return `value` as a size of at least 1, or say which `what` it was meant for."""
    try:
        size = operator.index(value)
    except TypeError:
        size = None
    if size is None or isinstance(value, bool) or getattr(value, "dtype", None) == torch.bool:
        raise ShapeError(f"{what} is {value!r}; use a whole number of at least 1.")
    if size < 1:
        raise ShapeError(f"{what} is {size}; the smallest size is 1.")
    if size > LARGEST:
        raise ShapeError(f"{what} is {size}; the largest size is {LARGEST} (2**31 - 1).")
    return size


def range_within(dim: DynamicDim, given: Sequence[int] | DynamicDim) -> DynamicDim:
    """The range that is given for `dim`, which says what the model takes."""
    if not isinstance(given, DynamicDim):
        return as_range(dim.name, given, step=dim.step, limit=dim.limit)
    if given.name != dim.name:
        raise ShapeError(f"the range for {dim.name} is named {given.name}; give a DynamicDim({dim.name!r}, ...).")
    if given.step % dim.step:
        raise ShapeError(
            f"{dim.name} is in steps of {given.step}, and the model takes multiples of {dim.step}; "
            f"give it step={dim.step}."
        )
    limits = [limit for limit in (given.limit, dim.limit) if limit is not None]
    return replace(given, limit=min(limits, default=None))


def as_range(name: str, triple: Sequence[int], **more: Any) -> DynamicDim:
    """A :class:`DynamicDim` from a (min, opt, max) triple, with `more` of its fields."""
    try:
        low, opt, high = triple
    except (TypeError, ValueError):
        raise ShapeError(f"{name}: {triple!r} is not a range; give three sizes (min, opt, max).") from None
    return DynamicDim(name, low, opt, high, **more)


@dataclass(frozen=True)
class TensorSpec:
    """One input of a model: a name, a shape of ints, :class:`DynamicDim` and expressions of these, and a dtype.

    `high` is for integers: the values of examples are below it. Give the number of rows of the table that they
    index. No call is checked for it, and an index past a table ends the process that runs compiled code.

    Examples
    --------
    >>> x = TensorSpec("x", (DynamicDim("batch", 1, 4, 32), 196, 768))
    >>> x.shape_at({"batch": 8})
    (8, 196, 768)
    >>> x.input_args()["max_shape"]
    (32, 196, 768)
    """

    name: str
    shape: tuple[int | DynamicDim | DerivedDim, ...]
    dtype: torch.dtype = torch.float32
    high: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ShapeError(f"{self.name!r} is not an input name; use the model's argument name.")
        if not isinstance(self.dtype, torch.dtype):
            raise ShapeError(f"{self.name}: dtype is {self.dtype!r}; use a torch.dtype.")
        if isinstance(self.shape, str) or not isinstance(self.shape, Sequence):
            raise ShapeError(f"{self.name}: shape is {self.shape!r}; give a tuple of sizes and DynamicDims.")
        shape = tuple(
            dim if isinstance(dim, DynamicDim | DerivedDim) else as_size(dim, f"{self.name}: dim {axis}")
            for axis, dim in enumerate(self.shape)
        )
        object.__setattr__(self, "shape", shape)
        if self.high is not None:
            if self.dtype.is_floating_point or self.dtype.is_complex or self.dtype == torch.bool:
                raise ShapeError(f"{self.name}: high is for integers, and the dtype is {self.dtype}; leave it out.")
            object.__setattr__(self, "high", as_size(self.high, f"{self.name}: high"))

    @property
    def dynamic(self) -> dict[int, DynamicDim | DerivedDim]:
        """The dimensions that really vary, by axis (a range of one size does not)."""
        return {axis: dim for axis, dim in enumerate(self.shape) if not isinstance(dim, int) and not dim.is_fixed}

    def shape_at(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The concrete shape with each dynamic dimension at ``sizes[name]``."""
        return tuple(resolved(dim, sizes) for dim in self.shape)

    def marks(self, tensor: torch.Tensor) -> Iterator[tuple[int, dict[str, int]]]:
        """Axes of `tensor` to give to ``torch._dynamo.mark_dynamic``, each with its keywords.

        The lower bound is at least 2: Dynamo guards ``2 <= size`` whatever is asked for, and a
        tensor of size 1 may not be marked at all. ``hint_override`` repeats the example's size,
        because Inductor's graph cache would otherwise forget which size the code was tuned for.
        A derived dimension is left unmarked where its base is 1, which makes a constant of both.
        """
        for axis, dim in self.dynamic.items():
            lower, size = max(2, dim.min), int(tensor.shape[axis])
            base = (size - dim.offset) // dim.factor if isinstance(dim, DerivedDim) else size
            if base > 1 and lower < dim.max:
                yield axis, {"min": lower, "max": dim.max, "hint_override": size}

    def bounds(self) -> list[int | tuple[int, int]]:
        """Sizes as ``openvino.PartialShape`` takes them: a number, or (min, max) where it varies.

        Examples
        --------
        >>> TensorSpec("x", (DynamicDim("batch", 1, 4, 32), 196, 768)).bounds()
        [(1, 32), 196, 768]
        """
        return [dim if isinstance(dim, int) else (dim.min, dim.max) for dim in self.shape]

    def input_args(self, profiles: Sequence[Sequence[DynamicDim]] = (), *, traced: bool = True) -> dict[str, Any]:
        """Keywords for ``torch_tensorrt.Input``: ``min_shape``, ``opt_shape``, ``max_shape``, dtype and name.

        A shape without dynamic dimensions gives ``shape`` alone. ``opt_shape`` is the traced size
        (:attr:`DynamicDim.traced`), since Torch-TensorRT traces its graph with a tensor of that size. With several
        `profiles`, the three shapes of each are the entries of ``profiles`` (Torch-TensorRT 2.14); it traces with the
        opt of the first. Where the graph is there already, `traced` is False, and every opt is as it was typed.
        """
        shapes: dict[str, Any] = {}
        if not self.dynamic:
            shapes["shape"] = self.shape_at({dim.name: dim.min for dim in named_dims([self]).values()})
        elif profiles:
            shapes["profiles"] = [
                self._corners(profile, traced and not number) for number, profile in enumerate(profiles)
            ]
        else:
            shapes = self._corners(tuple(named_dims([self]).values()), traced=True)
        return {**shapes, "dtype": self.dtype, "name": self.name}

    def _corners(self, profile: Sequence[DynamicDim], traced: bool) -> dict[str, tuple[int, ...]]:
        """``min_shape``, ``opt_shape`` and ``max_shape`` of one profile."""
        opts = {dim.name: dim.traced if traced else dim.opt for dim in profile}
        return {
            "min_shape": self.shape_at({dim.name: dim.min for dim in profile}),
            "opt_shape": self.shape_at(opts),
            "max_shape": self.shape_at({dim.name: dim.max for dim in profile}),
        }


def resolved(dim: int | DynamicDim | DerivedDim, by_name: Mapping[str, Any]) -> Any:
    """An entry of a shape, computed from what stands for the dimensions: sizes, ranges or ``Dim`` objects."""
    if isinstance(dim, int):
        return dim
    return dim.of(by_name[dim.base.name]) if isinstance(dim, DerivedDim) else by_name[dim.name]


def named_dims(specs: Sequence[TensorSpec]) -> dict[str, DynamicDim]:
    """The named dimensions of all inputs, in order of appearance, ranges of one size included.

    Raises
    ------
    ShapeError
        If two inputs have one name, or one dimension name stands for two ranges.
    """
    dims: dict[str, DynamicDim] = {}
    owner: dict[str, str] = {}
    seen: set[str] = set()
    for spec in specs:
        if spec.name in seen:
            raise ShapeError(f"two inputs are named {spec.name!r}; give each input its own name.")
        seen.add(spec.name)
        for dim in (dim.base if isinstance(dim, DerivedDim) else dim for dim in spec.shape if not isinstance(dim, int)):
            first = dims.setdefault(dim.name, dim)
            if first != dim:
                here, there = (str(each).removeprefix(f"{dim.name} ") for each in (first, dim))
                raise ShapeError(
                    f"{dim.name} is {here} on {owner[dim.name]} but {there} on {spec.name}; one name is one range."
                )
            owner.setdefault(dim.name, spec.name)
    return dims


def sizes_of(specs: Sequence[TensorSpec], inputs: Sequence[torch.Tensor]) -> dict[str, int]:
    """The size of every dynamic dimension in `inputs`, which fit the specs."""
    sizes = {}
    for spec, tensor in zip(specs, inputs, strict=True):
        for dim, size in zip(spec.shape, tensor.shape, strict=True):
            if isinstance(dim, DerivedDim):
                sizes[dim.base.name] = (size - dim.offset) // dim.factor
            elif isinstance(dim, DynamicDim):
                sizes[dim.name] = size
    return sizes


def export_dims(specs: Sequence[TensorSpec]) -> dict[str, dict[int, Any]]:
    """``dynamic_shapes`` for ``torch.export.export``: one ``Dim`` object per dimension name.

    A named ``Dim`` is the only form that keeps ``min=1``; ``Dim.AUTO(min=1)`` silently becomes 2. A dimension
    in steps is a multiple of a ``Dim`` with a name of its own: ``16 * Dim("height_", min=6, max=20)``.
    """
    dims = {name: _export_dim(dim) for name, dim in named_dims(specs).items() if not dim.is_fixed}
    return {spec.name: {axis: resolved(dim, dims) for axis, dim in spec.dynamic.items()} for spec in specs}


def _export_dim(dim: DynamicDim) -> Any:
    if dim.step == 1:
        return torch.export.Dim(dim.name, min=dim.min, max=dim.max)
    return dim.step * torch.export.Dim(f"{dim.name}_", min=dim.min // dim.step, max=dim.max // dim.step)


def range_dims(specs: Sequence[TensorSpec]) -> dict[str, dict[int, Any]]:
    """``dynamic_shapes`` derived from min / opt / max shapes alone, the way Torch-TensorRT's tracer does it.

    Every axis whose minimum and maximum differ becomes a ``Dim`` called ``<input>_<axis>``; axes that
    share a :class:`DynamicDim` share the ``Dim`` (``torch_tensorrt/dynamo/_tracer.py``, ``get_dynamic_shapes_args``).
    A :class:`DerivedDim` is computed from the ``Dim`` of its base, which Torch-TensorRT's ``Input`` cannot say.
    """
    dims: dict[str, Any] = {}
    for spec in specs:
        for axis, dim in spec.dynamic.items():
            if isinstance(dim, DynamicDim) and dim.name not in dims:
                dims[dim.name] = torch.export.Dim(f"{spec.name}_{axis}", min=dim.min, max=dim.max)
    for dim in named_dims(specs).values():
        if dim.name not in dims and not dim.is_fixed:  # only others are derived from it
            dims[dim.name] = torch.export.Dim(dim.name, min=dim.min, max=dim.max)
    return {spec.name: {axis: resolved(dim, dims) for axis, dim in spec.dynamic.items()} for spec in specs}


def first_calls(dims: Mapping[str, DynamicDim]) -> list[dict[str, int]]:
    """Sizes to call a just-in-time compiled model with, so that every size in range has its engine.

    The first call has every dimension at its traced size. A size of 1 is never served by that
    engine (torch specializes it), so each combination of ones that the range allows is a call of
    its own.

    Examples
    --------
    >>> first_calls({"batch": DynamicDim("batch", 1, 4, 32)})
    [{'batch': 4}, {'batch': 1}]
    >>> first_calls({"batch": DynamicDim("batch", 2, 4, 32)})
    [{'batch': 4}]
    """
    choices = [(dim.traced, 1) if dim.min == 1 and dim.max > 1 else (dim.traced,) for dim in dims.values()]
    return [dict(zip(dims, sizes, strict=True)) for sizes in itertools.product(*choices)]
