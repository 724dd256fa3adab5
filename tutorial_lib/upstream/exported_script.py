"""A setting of the studio as a stand-alone Python script, to run elsewhere and to keep.

``exported_script.py.jinja`` is the whole script, a Jinja template: ``{% if ... %}`` stands in front of what only some
settings need, and ``{{ name }}`` where a setting's own numbers, calls and model go. Its three functions make the
upstream calls of :mod:`tutorial_lib.paths`, with this setting's numbers in them (``tests/test_one_source.py``).
"""

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import nn

from tutorial_lib.builds import backends
from tutorial_lib.builds.backends import tensorrt
from tutorial_lib.checks import agreement
from tutorial_lib.core import models, precision, shapes
from tutorial_lib.core.models import Case
from tutorial_lib.core.profiles import holding
from tutorial_lib.core.shapes import DerivedDim, DynamicDim, ShapeError
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure import latency
from tutorial_lib.paths import PATHS
from tutorial_lib.upstream.literals import COLUMNS, Source, keywords, literal
from tutorial_lib.upstream.model_source import definitions, import_lines

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
WHY_NO_JIT = (
    "A script cannot hold jit with openvino: OpenVINO's own backend for torch.compile fails on marked dimensions, and "
    "the one that was used is the tutorial's."
)


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
    paths = [path for path in PATHS if path in setting.paths and (backend, path) != ("openvino", "jit")]
    if not paths:
        raise ShapeError(f"{WHY_NO_JIT} Choose the input or the export path.")
    if case.profiles and (backend != "tensorrt" or "jit" in paths):
        raise ShapeError(
            "A script holds several profiles as one engine of TensorRT, on the input and the export path; write one "
            "for each profile, with its ranges alone."
        )
    used = {*paths, backend, case.device.type}
    model_source, imports = definitions(case)
    values = {
        **{name: name in used for name in (*PATHS, *backends.BACKENDS, "cuda")},
        **_constants(case, setting),
        **_inputs(case),
        **_calls(case, backend),
        "title": _title(case, backend, setting, paths),
        "left_out": textwrap.fill(WHY_NO_JIT, COLUMNS) if len(paths) < len(setting.paths) else "",
        "header": _header(setting, backend, case.device),
        "recipe": case.recipe,
        "definitions": model_source,
        "options": _options(case, setting, backend),
        "bounds": literal([spec.bounds() for spec in case.inputs], "BOUNDS = "),
        "paths": literal({path: Source(path) for path in paths}, "PATHS = "),
    }
    template = TEMPLATES.get_template("exported_script.py.jinja")
    body = template.render(values, imports="")
    return template.render(values, imports=import_lines(body, imports))


def _constants(case: Case, setting: Setting) -> dict[str, Any]:
    first, *others = case.dims
    at_opt = keywords({name: case.dims[name].opt for name in others})
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
        "sizes": literal(_sizes_at_opt(case, setting), "SIZES = "),
        "first": first,
        "others": f", with {at_opt}" if others else "",
        "at_size": f"{first}=size, {at_opt}" if others else f"{first}=size",
        "column": f"{first:>{width}}",
        "width": width,
    }


def _sizes_at_opt(case: Case, setting: Setting) -> tuple[int, ...]:
    """The sizes to measure, with the other dimensions at opt; of several profiles, those that one of them takes."""
    first, *others = case.dims
    opts = {name: case.dims[name].opt for name in others}
    sizes = setting.measured(case)
    return tuple(
        size for size in sizes if not case.profiles or holding(case.profiles, {first: size, **opts}) is not None
    )


def _inputs(case: Case) -> dict[str, Any]:
    """Shapes, ranges and dtypes of the inputs, and how examples of them are made."""
    derived = {dim.name: dim for spec in case.inputs for dim in spec.shape if isinstance(dim, DerivedDim)}
    named: list[DynamicDim | DerivedDim] = [*case.dims.values(), *derived.values()]
    ranges = {dim.name: (dim.min, dim.opt, dim.max) for dim in named}
    steps = {name: dim.step for name, dim in case.dims.items() if dim.step > 1}
    follows = {name: (dim.base.name, Source(f"lambda {dim.base.name}: {name}")) for name, dim in derived.items()}
    inputs = {spec.name: (tuple(getattr(dim, "name", dim) for dim in spec.shape), spec.dtype) for spec in case.inputs}
    high = {spec.name: spec.high or models.HIGH for spec in case.inputs if _is_integer(spec.dtype)}
    masks = any(spec.dtype == torch.bool for spec in case.inputs)
    floating = not high and not masks
    return {
        "ranges": literal(ranges, "RANGES = "),
        "steps": literal(steps, "STEPS = ") if steps else "",
        "follows": literal(follows, "FOLLOWS = ") if follows else "",
        "inputs": literal(inputs, "INPUTS = "),
        "high": literal(high, "HIGH = ") if high else "",
        "masks": masks,
        "if_mask": "elif" if high else "if",
        "floating": floating,
        "doubled": "x.double()" if floating else "(x.double() if x.is_floating_point() else x)",
        "own_examples": case.examples is not None,
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
        "several_inputs": "\n".join(_tensorrt_inputs(case, traced=False)) if case.profiles else "",
        "range_dims": "\n".join(_dynamic_shapes(shapes.range_dims(case.inputs))),
        "export_dims": "\n".join(_dynamic_shapes(shapes.export_dims(case.inputs))),
        "traced": keywords(case.traced),
        "packaged": "exported.module()" if backend == "eager" else "package(exported)",
        "recurrent": any(isinstance(module, nn.RNNBase) for module in case.model.modules()),
        "convolutions": backend != "tensorrt" and _has_convolutions_on_a_cpu(case),
    }


def _has_convolutions_on_a_cpu(case: Case) -> bool:
    """Whether torch would choose a kernel by size for one of the model's layers (:mod:`builds.convolutions`)."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
    layers = any(isinstance(module, kinds) for module in case.model.modules())
    return layers and case.device.type == "cpu" and case.precision == "fp32"


def _first_call(case: Case, sizes: Mapping[str, int]) -> Iterator[str]:
    marks = [
        f"    torch._dynamo.mark_dynamic(inputs[{index}], {axis}, {keywords(bounds)})"
        for index, spec in enumerate(case.inputs)
        for axis, bounds in spec.marks(torch.empty(spec.shape_at(sizes), device="meta"))
    ]
    if marks:
        yield f"    inputs = example({keywords(sizes)})"
        yield from marks
        yield "    program(*inputs)"
    else:
        yield f"    program(*example({keywords(sizes)}))"


def _tensorrt_inputs(case: Case, traced: bool = True) -> Iterator[str]:
    for spec in case.inputs:
        yield "        torch_tensorrt.Input("
        shared = tensorrt.shared_dims(spec) if traced else {}
        for name, value in {**spec.input_args(case.profiles, traced=traced), **shared}.items():
            start = f"            {name}="
            yield f"{start}{literal(value, start)},"
        yield "        ),"


def _dynamic_shapes(dims: Mapping[str, Mapping[int, Any]]) -> Iterator[str]:
    """The ``dynamic_shapes`` of an export, as statements: a variable for each ``Dim`` that is not computed."""
    in_use = ("torch", "model", "example", "package", "inputs", "exported", "dynamic_shapes")
    roots = {_root(dim).__name__: _root(dim) for axes in dims.values() for dim in axes.values()}
    variables = {name: f"{name}_" if name in in_use else name for name in roots}
    for name, dim in roots.items():
        yield f'    {variables[name]} = torch.export.Dim("{name}", min={dim.min}, max={dim.max})'
    axes = {name: {axis: _expression(dim, variables) for axis, dim in axes.items()} for name, axes in dims.items()}
    yield f"    dynamic_shapes = {literal(axes, '    dynamic_shapes = ')}"


def _root(dim: Any) -> Any:
    """The ``Dim`` that `dim` is computed from, or `dim` itself."""
    return getattr(dim, "root", dim)


def _expression(dim: Any, variables: Mapping[str, str]) -> Source:
    """A ``Dim`` in terms of its variable; torch calls a computed one ``16*height_``."""
    text = ast.unparse(ast.parse(dim.__name__))
    root = _root(dim).__name__
    return Source(re.sub(rf"\b{re.escape(root)}\b", variables[root], text))


def _options(case: Case, setting: Setting, backend: str) -> str:
    """All settings of the backend, without those that concern this machine or a path that was not chosen."""
    with precision.tf32(case.allows_tf32):
        settings = backends.settings(backend, case.device, dict(setting.options), case.precision)
    ahead = "input" in setting.paths or "export" in setting.paths
    options = {
        name: value
        for name, value in settings.items()
        if name not in OF_THIS_MACHINE and (ahead or not name.startswith("aot_inductor."))
    }
    if backend in ("tensorrt", "openvino"):
        return literal(options, "OPTIONS = ")
    starts = {f"torch._inductor.config.{name} = ": value for name, value in options.items()}
    return "\n".join(start + literal(value, start) for start, value in starts.items())


def _title(case: Case, backend: str, setting: Setting, paths: Sequence[str]) -> str:
    name = re.sub(r'[\\"]', "'", case.name)
    ranges = ", ".join(f"{dim.name} {dim.min} / {dim.opt} / {dim.max}" for dim in case.dims.values())
    text = f"{name} for {ranges}: {', '.join(paths)} with {backend} in {setting.precision}."
    return textwrap.fill(text, COLUMNS - 3)


def _header(setting: Setting, backend: str, device: torch.device) -> str:
    where = "{name}" if device.type == "cuda" else "{DEVICE}"
    tensorrt = ", torch_tensorrt {torch_tensorrt.__version__}" if backend == "tensorrt" else ""
    return f"{backend} on {where}, torch {{torch.__version__}}{tensorrt}, {setting.precision}"
