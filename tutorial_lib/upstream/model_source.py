"""The source of a model, with all that it needs from its own package, and imports for the rest."""

import builtins
import inspect
import re
import symtable
import sys
import textwrap
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.upstream.literals import literal


def definitions(case: Case) -> tuple[str, dict[str, str]]:
    """Source of what the recipe needs from the model's own package, and import lines by name for the rest.

    Raises
    ------
    ShapeError
        If a source or a value cannot be written down.
    """
    sources: dict[str, str] = {}
    imports: dict[str, str] = {}
    if case.recipe is None:
        return "", imports
    modules = {type(module).__name__: type(module) for module in case.model.modules()}
    package = type(case.model).__module__.split(".")[0]

    def add(source: str, home: str, user: str) -> None:
        for name in free_names(source, user):
            if name in sources or name in imports:
                continue
            namespace = {"torch": torch, "nn": nn, **modules, **vars(sys.modules[home])}
            if name not in namespace:
                raise ShapeError(f"{user} uses {name}, which is not to be found in {home}; define it there.")
            value = namespace[name]
            if isinstance(value, ModuleType):
                imports[name] = _import_line(value.__name__, name)
            elif not isinstance(value, type | FunctionType):
                sources[name] = f"{name} = {literal(value)}"
            elif value.__module__.split(".")[0] != package or package == "torch":
                imports[name] = f"from {value.__module__} import {name}"
            elif value is not ShapeError:
                text = re.sub(r"\bShapeError\b", "ValueError", _source(value))
                imports[name] = ""  # so that what it uses may use it
                add(text, value.__module__, name)
                del imports[name]
                sources[name] = text

    add(case.recipe, type(case.model).__module__, f"the recipe {case.recipe}")
    return "\n\n\n".join(sources.values()), imports


def _source(value: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(value)).strip()
    except (OSError, TypeError) as error:
        raise ShapeError(
            f"the source of {value.__name__} cannot be read ({error}); write it in a file and import it from there."
        ) from None


def free_names(source: str, user: str) -> list[str]:
    """Names that `source` uses and does not define, without Python's own."""
    try:
        top = symtable.symtable(source, user, "exec")
    except SyntaxError as error:
        raise ShapeError(f"{user} is not Python: {error}.") from None
    tables = [top]
    for table in tables:
        tables.extend(table.get_children())
    symbols = [symbol for table in tables for symbol in table.get_symbols()]
    used = {symbol.get_name() for symbol in symbols if symbol.is_global() and symbol.is_referenced()}
    defined = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned()}
    return sorted(used - defined - set(dir(builtins)))


def _import_line(module: str, name: str) -> str:
    if module == name:
        return f"import {name}"
    parent, _, last = module.rpartition(".")
    return f"from {parent} import {last}" if last == name else f"import {module} as {name}"


def import_lines(body: str, imports: Mapping[str, str]) -> str:
    """An import for everything that `body` uses, the standard library first."""
    special = {"pytree": "from torch.utils import _pytree as pytree", **imports}
    lines = [special.get(name, f"import {name}") for name in free_names(body, "the script")]
    lines.sort(key=lambda line: (line.startswith("from"), line))
    standard = [line for line in lines if line.split()[1].split(".")[0] in sys.stdlib_module_names]
    return "\n".join([*standard, "", *(line for line in lines if line not in standard)])
