"""A setting of the studio as a stand-alone Python script, to run elsewhere and to keep.

``exported_script.py.jinja`` is the whole script, a Jinja template: ``{% if ... %}`` stands in front of what only some
settings need, and ``{{ name }}`` where a setting's own numbers, calls and model go. Its three functions make the
upstream calls of :mod:`tutorial_lib.paths`, with this setting's numbers in them (``tests/test_one_source.py``).
"""

import builtins
import inspect
import re
import symtable
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import nn

from tutorial_lib.builds import backends
from tutorial_lib.builds.backends import tensorrt
from tutorial_lib.checks import agreement
from tutorial_lib.core import models, precision, shapes
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure import latency
from tutorial_lib.paths import PATHS

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=False,  # Python, not HTML
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
OF_THIS_MACHINE = frozenset({"cpp.cxx", "engine_cache_dir", "timing_cache_path"})
"""Options that are paths on this machine, which no script holds."""
COLUMNS = 120


def script(base: Case, setting: Setting) -> str:
    """A Python script that builds, compares and measures what `setting` does, without this package.

    It has the case's weights, inputs and upstream calls, and every setting of the backend as it is on
    this machine, so that its results are those of the studio. Its exit code is 1 if a path differs from float64.

    Raises
    ------
    ShapeError
        If the setting cannot be built, or the model or an option cannot be written down.
    BackendUnavailable, PrecisionError, OptionError
        As :meth:`Setting.settled` raises them.
    """
    if setting.precision is None:
        raise ShapeError(f"a script has to name its precision; choose one of {', '.join(precision.DTYPES)}.")
    backend, case = setting.settled(base).backend, setting.case(base)
    paths = [path for path in PATHS if path in setting.paths]
    on = {name: name in (*paths, backend, case.device.type) for name in (*PATHS, *backends.BACKENDS, "cuda")}
    definitions, imports = _definitions(case)
    values = {**on, **_constants(case, setting), **_calls(case, backend), "recipe": case.recipe}
    values["title"] = _title(case, backend, setting)
    values["definitions"] = definitions
    values["options"] = _options(case, setting, backend, ahead=on["input"] or on["export"])
    values["paths"] = _literal({path: _Source(path) for path in paths}, "PATHS = ")
    values["header"] = _header(setting, backend, case.device)
    template = TEMPLATES.get_template("exported_script.py.jinja")
    body = template.render(values, imports="")
    return template.render(values, imports=_import_lines(body, imports))


def _constants(case: Case, setting: Setting) -> dict[str, Any]:
    first, *others = case.dims
    at_opt = _keywords({name: case.dims[name].opt for name in others})
    shapes_and_dtypes = {
        spec.name: (tuple(getattr(dim, "name", dim) for dim in spec.shape), spec.dtype) for spec in case.inputs
    }
    floating = all(spec.dtype.is_floating_point for spec in case.inputs)
    masks = any(spec.dtype == torch.bool for spec in case.inputs)
    steps = {name: dim.step for name, dim in case.dims.items() if dim.step > 1}
    high = {spec.name: spec.high or models.HIGH for spec in case.inputs if _is_integer(spec.dtype)}
    width = max(len(first), 5)
    return {
        "seed": models.SEED,
        "rounds": setting.samples,
        "seconds": latency.MIN_SECONDS,
        "tolerated": agreement.TOLERATED,
        "device": str(case.device) if case.device.index else case.device.type,
        "device_type": case.device.type,
        "dtype": precision.DTYPES[case.precision or "fp32"],
        "tf32": case.allows_tf32,
        "ranges": _literal({name: (dim.min, dim.opt, dim.max) for name, dim in case.dims.items()}, "RANGES = "),
        "inputs": _literal(shapes_and_dtypes, "INPUTS = "),
        "sizes": _literal(setting.measured(case), "SIZES = "),
        "first": first,
        "others": f", with {at_opt}" if others else "",
        "at_size": f"{first}=size, {at_opt}" if others else f"{first}=size",
        "steps": _literal(steps, "STEPS = ") if steps else "",
        "high": _literal(high, "HIGH = ") if high else "",
        "masks": masks,
        "if_mask": "elif" if high else "if",
        "floating": not high and not masks,
        "doubled": "x.double()" if floating else "(x.double() if x.is_floating_point() else x)",
        "column": f"{first:>{width}}",
        "width": width,
    }


def _is_integer(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def _calls(case: Case, backend: str) -> dict[str, Any]:
    """The upstream calls of the three paths, with this case's numbers."""
    first_calls = shapes.first_calls(case.dims)
    return {
        "backend": backend,
        "keywords": ", options=OPTIONS" if backend == "tensorrt" else "",
        "engines": len(first_calls),
        "ones": " Size 1 gets an engine of its own." if len(first_calls) > 1 else "",
        "first_calls": "\n".join(line for sizes in first_calls for line in _first_call(case, sizes)),
        "tensorrt_inputs": "\n".join(_tensorrt_inputs(case)) if backend == "tensorrt" else "",
        "range_dims": "\n".join(_dynamic_shapes(shapes.range_dims(case.inputs))),
        "export_dims": "\n".join(_dynamic_shapes(shapes.export_dims(case.inputs))),
        "traced": _keywords(case.traced),
        "packaged": "exported.module()" if backend == "eager" else "package(exported)",
    }


def _first_call(case: Case, sizes: Mapping[str, int]) -> Iterator[str]:
    marks = [
        f"    torch._dynamo.mark_dynamic(inputs[{index}], {axis}, {_keywords(bounds)})"
        for index, spec in enumerate(case.inputs)
        for axis, bounds in spec.marks(torch.empty(spec.shape_at(sizes), device="meta"))
    ]
    if marks:
        yield f"    inputs = example({_keywords(sizes)})"
        yield from marks
        yield "    program(*inputs)"
    else:
        yield f"    program(*example({_keywords(sizes)}))"


def _tensorrt_inputs(case: Case) -> Iterator[str]:
    for spec in case.inputs:
        yield "        torch_tensorrt.Input("
        for name, value in {**spec.input_args(), **tensorrt.shared_dims(spec)}.items():
            start = f"            {name}="
            yield f"{start}{_literal(value, start)},"
        yield "        ),"


def _dynamic_shapes(dims: Mapping[str, Mapping[int, Any]]) -> Iterator[str]:
    """The ``dynamic_shapes`` of an export, as statements: a variable for each ``Dim`` that is no multiple."""
    taken = ("torch", "model", "example", "package", "inputs", "exported", "dynamic_shapes")
    roots = [getattr(dim, "root", dim) for axes in dims.values() for dim in axes.values()]
    by_name = {dim.__name__: dim for dim in roots}
    variables = {name: f"{name}_" if name in taken else name for name in by_name}
    for name, dim in by_name.items():
        yield f'    {variables[name]} = torch.export.Dim("{name}", min={dim.min}, max={dim.max})'
    axes = {name: {axis: _dim_source(dim, variables) for axis, dim in axes.items()} for name, axes in dims.items()}
    yield f"    dynamic_shapes = {_literal(axes, '    dynamic_shapes = ')}"


def _dim_source(dim: Any, variables: Mapping[str, str]) -> "_Source":
    """A ``Dim`` by its variable; a multiple of one is called ``16*height_``, and is written like that."""
    factor, times, name = dim.__name__.rpartition("*")
    return _Source(f"{factor} * {variables[name]}" if times else variables[name])


def _options(case: Case, setting: Setting, backend: str, ahead: bool) -> str:
    """All settings of the backend, without those that concern this machine or a path that was not chosen."""
    with precision.tf32(case.allows_tf32):
        resolved = backends.settings(backend, case.device, dict(setting.options))
    options = {
        name: value
        for name, value in resolved.items()
        if name not in OF_THIS_MACHINE and (ahead or not name.startswith("aot_inductor."))
    }
    if backend == "tensorrt":
        return _literal(options, "OPTIONS = ")
    starts = {f"torch._inductor.config.{name} = ": value for name, value in options.items()}
    return "\n".join(start + _literal(value, start) for start, value in starts.items())


def _title(case: Case, backend: str, setting: Setting) -> str:
    name = re.sub(r'[\\"]', "'", case.name)
    text = f"{name} for {_ranges(case)}: {', '.join(setting.paths)} with {backend} in {setting.precision}."
    return textwrap.fill(text, COLUMNS - 3)


def _ranges(case: Case) -> str:
    return ", ".join(f"{dim.name} {dim.min} / {dim.opt} / {dim.max}" for dim in case.dims.values())


def _header(setting: Setting, backend: str, device: torch.device) -> str:
    where = "{name}" if device.type == "cuda" else "{DEVICE}"
    tensorrt = ", torch_tensorrt {torch_tensorrt.__version__}" if backend == "tensorrt" else ""
    return f"{backend} on {where}, torch {{torch.__version__}}{tensorrt}, {setting.precision}"


# The model


def _definitions(case: Case) -> tuple[str, dict[str, str]]:
    """Source of all that the recipe needs from the model's own package, and import lines for the rest, by name."""
    definitions: dict[str, str] = {}
    imports: dict[str, str] = {}
    if case.recipe is None:
        return "", imports
    kinds = {type(module).__name__: type(module) for module in case.model.modules()}
    package = type(case.model).__module__.split(".")[0]

    def add(source: str, home: str, what: str) -> None:
        for name in _free_names(source, what):
            if name in definitions or name in imports:
                continue
            namespace = {"torch": torch, "nn": nn, **kinds, **vars(sys.modules[home])}
            if name not in namespace:
                raise ShapeError(f"{what} uses {name}, which is not to be found in {home}; define it there.")
            value = namespace[name]
            if isinstance(value, ModuleType):
                imports[name] = _import_line(value.__name__, name)
            elif not isinstance(value, type | FunctionType):
                definitions[name] = f"{name} = {_literal(value)}"
            elif value.__module__.split(".")[0] != package or package == "torch":
                imports[name] = f"from {value.__module__} import {name}"
            elif value is not ShapeError:
                text = re.sub(r"\bShapeError\b", "ValueError", _source(value))
                imports[name] = ""  # so that what it uses may use it
                add(text, value.__module__, name)
                del imports[name]
                definitions[name] = text

    add(case.recipe, type(case.model).__module__, f"the recipe {case.recipe}")
    return "\n\n\n".join(definitions.values()), imports


def _source(value: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(value)).strip()
    except (OSError, TypeError) as error:
        raise ShapeError(
            f"the source of {value.__name__} cannot be read ({error}); write it in a file and import it from there."
        ) from None


def _free_names(source: str, what: str) -> list[str]:
    """Names that `source` uses and does not define, without Python's own."""
    try:
        top = symtable.symtable(source, what, "exec")
    except SyntaxError as error:
        raise ShapeError(f"{what} is not Python: {error}.") from None
    tables = [top]
    for table in tables:
        tables.extend(table.get_children())
    used = {s.get_name() for table in tables for s in table.get_symbols() if s.is_global() and s.is_referenced()}
    return sorted(used - {s.get_name() for s in top.get_symbols() if s.is_assigned()} - set(dir(builtins)))


def _import_line(module: str, name: str) -> str:
    if module == name:
        return f"import {name}"
    parent, _, last = module.rpartition(".")
    return f"from {parent} import {last}" if last == name else f"import {module} as {name}"


def _import_lines(body: str, imports: Mapping[str, str]) -> str:
    """An import for everything that `body` uses, the standard library first."""
    special = {"pytree": "from torch.utils import _pytree as pytree", **imports}
    lines = [special.get(name, f"import {name}") for name in _free_names(body, "the script")]
    lines.sort(key=lambda line: (line.startswith("from"), line))
    standard = [line for line in lines if line.split()[1].split(".")[0] in sys.stdlib_module_names]
    return "\n".join([*standard, "", *(line for line in lines if line not in standard)])


# Values as they are typed


class _Source(str):
    """Text that stands for itself, not for a string."""


def _keywords(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_literal(value)}" for name, value in values.items())


def _literal(value: Any, before: str = "") -> str:
    """`value` as Python source behind the text `before`; on several lines if one is too short for it."""
    opening, items, closing = _parts(value)
    single = isinstance(value, tuple) and len(items) == 1
    line = opening + ", ".join(label + _literal(item) for label, item in items) + "," * single + closing
    if len(before + line) < COLUMNS or not items:
        return line
    indent = " " * (len(before) - len(before.lstrip()) + 4)
    lines = [f"{indent}{label}{_literal(item, indent + label)}," for label, item in items]
    return "\n".join([opening, *lines, indent[4:] + closing])


def _parts(value: Any) -> tuple[str, list[tuple[str, Any]], str]:
    """What stands around the elements of `value`, and each with its label; no elements unless it is a collection."""
    if isinstance(value, dict):
        return "{", [(f"{_literal(key)}: ", item) for key, item in value.items()], "}"
    if isinstance(value, tuple):
        return "(", [("", item) for item in value], ")"
    if isinstance(value, list):
        return "[", [("", item) for item in value], "]"
    if isinstance(value, set) and value:
        return "{", [("", item) for item in sorted(value, key=repr)], "}"
    if isinstance(value, str) and not isinstance(value, _Source):
        return (repr(value) if '"' in value else f'"{repr(value)[1:-1]}"'), [], ""
    if isinstance(value, bool | int | float | None | torch.dtype | set | _Source):
        return str(value), [], ""
    raise ShapeError(f"{value!r} cannot be written in a script; use plain values: numbers, texts, collections of them.")
