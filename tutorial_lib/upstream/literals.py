"""Values as they are typed in Python, on several lines where one is too short."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from tutorial_lib.core.shapes import ShapeError

COLUMNS = 120


class Source(str):
    """Text that stands for itself, not for a string."""


def keywords(values: Mapping[str, Any]) -> str:
    """The values as keyword arguments."""
    return ", ".join(f"{name}={literal(value)}" for name, value in values.items())


def literal(value: Any, before: str = "") -> str:
    """`value` as Python source behind the text `before`.

    Raises
    ------
    ShapeError
        If it is neither a number, a text, a dtype nor a collection of these.
    """
    if isinstance(value, dict):
        return _collection("{", [(f"{literal(key)}: ", item) for key, item in value.items()], "}", before)
    if isinstance(value, tuple):
        return _collection("(", _unlabelled(value), ",)" if len(value) == 1 else ")", before)
    if isinstance(value, list):
        return _collection("[", _unlabelled(value), "]", before)
    if isinstance(value, set) and value:
        return _collection("{", _unlabelled(sorted(value, key=repr)), "}", before)
    if isinstance(value, str) and not isinstance(value, Source):
        return repr(value) if '"' in value else f'"{repr(value)[1:-1]}"'
    if isinstance(value, bool | int | float | None | torch.dtype | set | Source):
        return str(value)
    raise ShapeError(f"{value!r} cannot be written in a script; use plain values: numbers, texts, collections of them.")


def _unlabelled(items: Iterable[Any]) -> list[tuple[str, Any]]:
    return [("", item) for item in items]


def _collection(opening: str, items: list[tuple[str, Any]], closing: str, before: str) -> str:
    line = opening + ", ".join(label + literal(item) for label, item in items) + closing
    if len(before + line) < COLUMNS or not items:
        return line
    outer = " " * (len(before) - len(before.lstrip()))
    inner = f"{outer}    "
    lines = [f"{inner}{label}{literal(item, inner + label)}," for label, item in items]
    return "\n".join([opening, *lines, outer + closing.lstrip(",")])
