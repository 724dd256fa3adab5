"""What was really built: engines, their real ranges, and the build they belong to."""

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from tutorial_lib.builds import compat
from tutorial_lib.builds.plan import Plan
from tutorial_lib.core import plain_values
from tutorial_lib.core.models import Case

Sizes = tuple[int | None, ...]
"""One size per axis; None where the compiler set no bound."""


@dataclass(frozen=True)
class EngineInput:
    """One input of an engine with the range that the engine really has.

    `kind` is ``data`` (an argument of the model), ``weight`` (a parameter that the engine takes as
    an input), ``shape`` (a size passed as a number) or ``intermediate`` (computed by another part
    of a model that was cut into several).
    """

    name: str
    dtype: str
    min: Sizes
    opt: Sizes
    max: Sizes
    kind: str = "data"

    def __str__(self) -> str:
        dims = []
        for low, opt, high in zip(self.min, self.opt, self.max, strict=True):
            dims.append(str(opt) if low == opt == high else f"{low}/{opt}/{'∞' if high is None else high}")
        return f"{self.name} [{', '.join(dims)}] {self.dtype}"


@dataclass(frozen=True)
class Engine:
    """One thing that a compiler built: a graph with a range for each input. `plan` is what TensorRT says of it."""

    inputs: tuple[EngineInput, ...]
    opt_source: str
    operators: int
    seconds: float
    engine_bytes: int | None = None
    after_build: bool = False
    plan: Plan | None = None

    @property
    def data(self) -> tuple[EngineInput, ...]:
        """The inputs that are arguments of the model."""
        return tuple(i for i in self.inputs if i.kind == "data")

    def __str__(self) -> str:
        late = ", built after the first build" if self.after_build else ""
        shown = [i for i in self.inputs if i.kind in ("data", "intermediate")]
        return f"{'; '.join(map(str, shown))}: opt from {self.opt_source}{late}"


class Repr(str):
    """The repr of an option, which is all of it that is saved; it is its own repr."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Build:
    """The report of one build: what was asked for, and what came of it.

    Attributes
    ----------
    case, path, backend, device : str
        What was compiled, how, by what, and for which device (its full name).
    versions, options : dict
        Versions of what took part, and every option that was in force.
    seconds : float
        Wall-clock seconds from the start of the build until the program could be called.
    artefact_bytes : int or None
        Size of the saved program or of the engines; None where the backend keeps nothing that can be measured.
    engines : tuple of Engine
        In the order in which they were built, recompiled ones included.
    left_to_pytorch : tuple of str or None
        Operators that run outside the compiled code, in PyTorch or in the libraries it brings; None if unknown.
    notes : tuple of str
        Where the build differs from what was asked for, one sentence each.
    reused : str or None
        What was not compiled this time but found on disk, and from when; `seconds` is then the time to load it.
    checked : tuple of str
        The sizes at which the program was compared with eager before it was handed out: ``batch 4, length 64``.
    not_checked : tuple of str
        The ends of the range where it was not, each with the reason (:mod:`tutorial_lib.checks.corners`).
    """

    case: str
    path: str
    backend: str
    device: str
    versions: dict[str, str]
    options: dict[str, Any]
    seconds: float
    artefact_bytes: int | None
    engines: tuple[Engine, ...]
    left_to_pytorch: tuple[str, ...] | None
    notes: tuple[str, ...] = ()
    reused: str | None = None
    checked: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()

    @property
    def recompiles(self) -> int:
        """Engines that were built after the build, by calls outside the range."""
        return sum(engine.after_build for engine in self.engines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        plain = asdict(self)
        plain["options"] = {name: repr(value) for name, value in self.options.items()}
        return {**plain, "recompiles": self.recompiles}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], where: str = "build") -> "Build":
        """The inverse of :meth:`to_dict`, except that options stay their reprs.

        Raises
        ------
        ValueError
            If a field is missing, unknown or of another type; `where` is how the report is called then.
        """
        build = plain_values.read(cls, {name: value for name, value in plain.items() if name != "recompiles"}, where)
        return replace(build, options={name: Repr(value) for name, value in build.options.items()})

    def __str__(self) -> str:
        size = "" if self.artefact_bytes is None else f", {self.artefact_bytes / 1e6:.1f} MB"
        count = f"{len(self.engines)} engine{'s' if len(self.engines) != 1 else ''}"
        lines = [f"{self.path} with {self.backend} on {self.device}: {count} in {self.seconds:.1f} s{size}"]
        lines += [f"  {engine}" for engine in self.engines]
        if self.left_to_pytorch:
            lines.append(f"  left to PyTorch: {', '.join(self.left_to_pytorch)}")
        if self.reused:
            lines.append(f"  reused: {self.reused}")
        lines += [f"  not checked: {sizes}" for sizes in self.not_checked]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def graph_inputs(graph: torch.fx.GraphModule, case: Case) -> list[EngineInput | None]:
    """Inputs of a graph that Dynamo hands to its backend, with their real ranges; None for any that is no tensor."""
    inputs: list[EngineInput | None] = []
    for node in graph.graph.find_nodes(op="placeholder"):
        value = node.meta.get("example_value")
        if isinstance(value, torch.SymInt):
            low, opt, high = bounds(value)
            inputs.append(EngineInput(node.name, "int", (low,), (opt,), (high,), kind="shape"))
        elif isinstance(value, torch.Tensor):
            source = compat.source_name(getattr(node.meta.get("grapharg"), "source", None))
            name, kind = node.name, "intermediate"
            if argument := re.fullmatch(r"L\['input_(\d+)'\]", source):
                name, kind = case.inputs[int(argument[1])].name, "data"
            elif re.match(r"L\['(model|self)'\]|.*(_parameters|_buffers)\[", source):
                kind = "weight"
            inputs.append(EngineInput(name, dtype_name(value.dtype), *range_of(value), kind=kind))
        else:
            inputs.append(None)
    return inputs


def exported_inputs(exported: torch.export.ExportedProgram, case: Case) -> tuple[EngineInput, ...]:
    """Inputs of an exported program, with the ranges that it was exported for."""
    specs = dict(zip(exported.graph_signature.user_inputs, case.inputs, strict=True))  # the graph has names of its own
    inputs = []
    for node in exported.graph.find_nodes(op="placeholder"):
        value = node.meta.get("val")
        if node.name in specs and isinstance(value, torch.Tensor):
            sizes = range_of(value, exported.range_constraints)
            inputs.append(EngineInput(specs[node.name].name, dtype_name(value.dtype), *sizes))
    return tuple(inputs)


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def range_of(value: torch.Tensor, constraints: Mapping[Any, Any] | None = None) -> tuple[Sizes, Sizes, Sizes]:
    """Real (min, opt, max) of a traced tensor, read from the symbols of its shape.

    The bounds come from `constraints` (an exported program's ``range_constraints``) where they name the symbol, else
    from torch's shape environment; opt is the hint, the size of the tensor that was traced.
    """
    ranges = [bounds(size, constraints) for size in value.shape]
    low, opt, high = zip(*ranges, strict=True) if ranges else ((), (), ())
    return low, opt, high


def bounds(
    size: int | torch.SymInt, constraints: Mapping[Any, Any] | None = None
) -> tuple[int | None, int | None, int | None]:
    """Real (min, opt, max) of one size; None where there is no bound."""
    if not isinstance(size, torch.SymInt):
        return int(size), int(size), int(size)
    node = size.node
    bound = (constraints or {}).get(node.expr) or node.shape_env.bound_sympy(node.expr)
    return _finite(bound.lower), node.hint, _finite(bound.upper)


def _finite(bound: Any) -> int | None:
    return int(bound) if getattr(bound, "is_Integer", False) else None


def call_functions(graph: torch.fx.Graph) -> int:
    """Number of operators in a graph (nodes that compute something from tensors)."""
    return sum(node.op in ("call_function", "call_method", "call_module") for node in graph.nodes)


def opt_source(inputs: Sequence[EngineInput], source: str) -> str:
    """Where an engine's opt came from: `source`, unless the engine has only one size."""
    return "its only size" if all(i.min == i.max for i in inputs) else source


def operator_names(graph: torch.fx.Graph) -> set[str]:
    """Names of what a graph calls: ``aten.linear.default``, or the bare name of a Python function."""
    targets = {node.target for node in graph.nodes if node.op == "call_function"}
    return {str(t) if isinstance(t, torch._ops.OpOverload) else getattr(t, "__name__", str(t)) for t in targets}


def device_name(device: torch.device) -> str:
    """Name of the processor or graphics card, for titles and records."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU ({_cpu_model()}, {threads} thread{'s' * (threads != 1)})"


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, torch and the `packages` that are installed."""
    numbers = {"python": platform.python_version(), "torch": str(torch.__version__)}
    if torch.version.cuda:
        numbers["cuda"] = torch.version.cuda
    for package in packages:
        try:
            numbers[package] = version(package)
        except PackageNotFoundError:
            continue
    return numbers
