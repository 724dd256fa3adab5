"""What a model returns, taken apart into tensors and numbers, each with its place in the result."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

NUMBERS = (bool, int, float, complex)


class UncomparableResult(ValueError):
    """A result that holds something which is neither a tensor nor a number, or another kind of thing than eager's."""


def leaves(value: Any, place: str = "") -> list[tuple[str, Any]]:
    """The tensors, numbers, strings and Nones in a result, each with its place: ``[0]``, ``['mask']``, ``.logits``.

    Tuples, named tuples, lists, mappings (in the order of their keys), dataclasses, Hugging Face's ``ModelOutput``
    and whatever else is registered with ``torch.utils._pytree`` are taken apart.

    Raises
    ------
    UncomparableResult
        If something else is in it.
    """
    if value is None or isinstance(value, (torch.Tensor, str, *NUMBERS)):
        return [(place, value)]
    parts: list[tuple[str, Any]]
    if isinstance(value, Mapping):
        parts = [(f"[{key!r}]", value[key]) for key in sorted(value, key=str)]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = [(f".{name}", item) for name, item in zip(value._fields, value, strict=True)]
    elif isinstance(value, (tuple, list)):
        parts = [(f"[{index}]", item) for index, item in enumerate(value)]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [(f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        registered = pytree.tree_leaves(value, is_leaf=lambda item: item is not value)
        if len(registered) == 1 and registered[0] is value:
            raise UncomparableResult(
                f"the result{place} is a {type(value).__name__}, which cannot be compared: return tensors, numbers, or "
                "a tuple, list, dict, named tuple or dataclass of them."
            )
        parts = [(f"[{index}]", item) for index, item in enumerate(registered)]
    return [leaf for name, item in parts for leaf in leaves(item, f"{place}{name}")]


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors of a result, and its numbers as tensors of no dimension, in a fixed order."""
    return [
        leaf if isinstance(leaf, torch.Tensor) else torch.tensor(leaf)  # a Python float has the rounding of float32
        for _, leaf in leaves(value)
        if isinstance(leaf, (torch.Tensor, *NUMBERS))
    ]


def check_form(output: Any, eager: Any) -> None:
    """Return if `output` holds the same kinds of things at the same places as eager's result.

    Raises
    ------
    UncomparableResult
        If it does not, such as a tensor where eager returns an int; the sentence names the first such place.
    """
    given, expected = dict(leaves(output)), dict(leaves(eager))
    for place, value in expected.items():
        if place not in given:
            raise UncomparableResult(
                f"the program's result has no {place or 'value'}, where eager returns {kind(value)}."
            )
        if kind(given[place]) != kind(value):
            raise UncomparableResult(
                f"the program's result{place} is {kind(given[place])}, and eager's is {kind(value)}: "
                "drop it from what the model returns, or return it as a tensor."
            )
    extra = next((place for place in given if place not in expected), None)
    if extra is not None:
        raise UncomparableResult(f"the program's result has {extra or 'a value'}, which eager's has not.")


def kind(value: Any) -> str:
    """What a leaf is, in words: ``a tensor of complex numbers``, ``the number 4``'s type, ``None``."""
    if not isinstance(value, torch.Tensor):
        return "None" if value is None else f"a Python {type(value).__name__}"
    if value.is_complex():
        return "a tensor of complex numbers"
    if value.is_floating_point():
        return "a tensor of floats"
    return "a tensor of booleans" if value.dtype == torch.bool else "a tensor of whole numbers"
