"""Reads plain values from JSON as the types that a dataclass declares, or refuses them.

Why not a library: msgspec ignores unknown fields of a dataclass, cattrs takes "3" and true for numbers, and both take
NaN. A recording with any of these would be trusted.
"""

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def read(kind: type[T], plain: Any, where: str = "") -> T:
    """Convert `plain`, as ``json.loads`` returns it, to the type `kind`.

    Parameters
    ----------
    kind : type
        A dataclass, bool, int, float, str, a union with None, ``dict[str, ...]``, or a tuple of these:
        ``tuple[int, ...]`` of any length or ``tuple[int, str]`` of exactly that length. ``Any`` accepts everything.
    plain : object
        A dataclass is a dictionary with its fields; fields with a default may be missing.
    where : str
        The name of the value in errors.

    Raises
    ------
    ValueError
        If it has another type, a field is missing or unknown, or a number is not finite.

    Examples
    --------
    >>> read(tuple[int, ...], [1, 2])
    (1, 2)
    >>> read(dict[str, int | None], {"a": None}, "sizes")
    {'a': None}
    >>> read(int, True, "size")
    Traceback (most recent call last):
    ValueError: size is True, not a whole number
    """
    return typing.cast(T, _read(kind, plain, where or "the content"))


def _read(kind: Any, plain: Any, where: str) -> Any:
    if kind is Any:
        return plain
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, plain, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # only ... | None
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if plain is None else _read(inner, plain, where)
    if origin is tuple:
        return _tuple(arguments, plain, where)
    if origin is dict:
        if not isinstance(plain, dict):
            raise ValueError(f"{where} is {_show(plain)}, not an object")
        return {_read(str, key, where): _read(arguments[1], value, f"{where}.{key}") for key, value in plain.items()}
    if kind is float and isinstance(plain, int | float) and not isinstance(plain, bool):
        try:
            number = float(plain)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueError(f"{where} is {_show(plain)}, not a finite number")
        return number
    if type(plain) is not kind:
        raise ValueError(f"{where} is {_show(plain)}, not {_NAMES[kind]}")
    return plain


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _dataclass(kind: Any, plain: Any, where: str) -> Any:
    if not isinstance(plain, dict):
        raise ValueError(f"{where} is {_show(plain)}, not an object")
    hints, fields = typing.get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
    for name in plain:
        if name not in fields:
            raise ValueError(f"{where} has an unknown field {_show(name)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in plain:
            raise ValueError(f"{where} has no field {name!r}")
    values = {name: _read(hints[name], value, f"{where}.{name}") for name, value in plain.items()}
    try:
        return kind(**values)
    except ValueError as error:  # of a dataclass that checks its fields
        raise ValueError(f"{where}: {error}") from None


def _tuple(arguments: tuple[Any, ...], plain: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(plain, list | tuple):
        raise ValueError(f"{where} is {_show(plain)}, not a list")
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(plain)
    if len(arguments) != len(plain):
        raise ValueError(f"{where} has {len(plain)} values, not {len(arguments)}")
    pairs = enumerate(zip(arguments, plain, strict=True))
    return tuple(_read(kind, value, f"{where}[{index}]") for index, (kind, value) in pairs)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
