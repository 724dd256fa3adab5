"""A model run in float64 whatever dtypes its forward asks for: the reference of every comparison.

``model.double()`` widens parameters and buffers, and no more: a forward that makes tensors itself
(``x.float() / 255``, ``torch.zeros(...)`` as a first state, a table, a one-hot code, an autocast region, a head in
float32 after a body in bfloat16) then mixes dtypes and fails. Here each operator is asked for float64 as well: see
:class:`Widening`.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

WIDE: dict[torch.dtype, torch.dtype] = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
}
"""The dtype that stands for each narrower one in the reference."""


class NoFloat64(RuntimeError):
    """The reference cannot run in float64; nothing is said of the model or of a program by that."""


def widened(model: nn.Module) -> nn.Module:
    """A copy of `model` with parameters, buffers and tensors in plain attributes in float64 (complex128)."""
    wide = copy.deepcopy(model)._apply(_wide_tensor)
    for module in wide.modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules") and isinstance(value, (torch.Tensor, list, dict)):
                vars(module)[name] = pytree.tree_map_only(torch.Tensor, _wide_tensor, value)
    return wide


def run(model: nn.Module, inputs: Sequence[torch.Tensor]) -> Any:
    """What a :func:`widened` `model` returns for `inputs`, everything in float64.

    Raises
    ------
    NoFloat64
        If that fails: eager in its own precision may work all the same.
    """
    try:
        with torch.no_grad(), Widening():
            return model(*(_wide_tensor(x) for x in inputs))
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise NoFloat64(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__) from error


class Widening(TorchDispatchMode):
    """Every operator inside computes in float64 (complex128), also where it is asked for a narrower dtype.

    An operator that has no kernel for float64, such as a quantized one, computes in float32, and its result is
    widened: it is then no more exact there than eager is.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.view.dtype and (args[0].is_floating_point() or args[1].is_floating_point):
            raise NotImplementedError("the bits of a float are read as another type, which float64 has not")
        written = _written_narrow(func, args)
        given = args if written else _wide(args)
        asked = _wide(kwargs)
        if not written and _makes_from_nothing(func, args, kwargs):
            return self._made(func, given, asked)
        try:
            result = func(*given, **asked)
        except (RuntimeError, NotImplementedError) as error:
            if written or "index" in str(error):
                raise
            result = func(*_narrow(given), **_narrow(asked))
        return result if written else _wide(result)

    def _made(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A tensor made from no other: in float64 from the start, so that ``torch.linspace`` rounds as float64 does."""
        result = func(*args, **kwargs)
        if not isinstance(result, torch.Tensor) or result.dtype not in WIDE:
            return result
        if torch.Tag.nondeterministic_seeded in func.tags:
            return _wide_tensor(result)
        return func(*args, **{**kwargs, "dtype": WIDE[result.dtype]})


def _makes_from_nothing(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    takes_dtype = any(argument.name == "dtype" for argument in func._schema.arguments)
    return takes_dtype and not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves((args, kwargs)))


def _written_narrow(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether `func` writes into a tensor that is not wide: a copy in its stead would lose what is written."""
    return any(
        isinstance(value, torch.Tensor)
        and value.dtype in WIDE
        and argument.alias_info is not None
        and argument.alias_info.is_write
        for argument, value in zip(func._schema.arguments, args, strict=False)
    )


def _wide_tensor(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(WIDE.get(tensor.dtype, tensor.dtype))


def _wide(value: Any) -> Any:
    return pytree.tree_map(_wide_leaf, value)


def _wide_leaf(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return _wide_tensor(leaf)
    return WIDE.get(leaf, leaf) if isinstance(leaf, torch.dtype) else leaf


def _narrow(value: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda x: x.float() if x.dtype == torch.float64 else x, value)
