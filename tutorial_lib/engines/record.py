"""What a preview found: the engines TensorRT would be asked to build, and what each call did."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from tutorial_lib.models import Case
from tutorial_lib.record import Engine, EngineInput, Sizes

ENDS = ("min", "opt", "max")
DEFAULT_FACTOR = {"2.11": 2**16}
"""Torch-TensorRT's upper bound where there is none is its lower bound times this."""


@dataclass(frozen=True)
class Call:
    """What one call did.

    Attributes
    ----------
    sizes : dict
        The size of every dynamic dimension.
    outcome : str
        ``served`` by engines that were there, ``built`` (the call built further engines and was then
        served by them), or ``refused``.
    by : str
        Who served or refused it.
    words : str or None
        The words of the refusal.
    ran, built : tuple of int
        Numbers of the engines that ran, and of those that this call built, counted from 1.
    guard : str or None
        What this package's guard says first, when the same program is called through
        :class:`~tutorial_lib.compiled.Compiled`; None if it lets the call pass.
    """

    sizes: dict[str, int]
    outcome: str
    by: str
    words: str | None
    ran: tuple[int, ...]
    built: tuple[int, ...]
    guard: str | None

    def __str__(self) -> str:
        where = ", ".join(f"{name} {size}" for name, size in self.sizes.items()) or "the only shape"
        guard = " (through tutorial_lib: refused first, by its range guard)" if self.guard else ""
        if self.outcome == "refused":
            return f"{where}: refused by {self.by}: {self.words}{guard}"
        if self.outcome == "built":
            return f"{where}: built {numbered(self.built)}, which served it{guard}"
        return f"{where}: served by {self.by}{guard}"


@dataclass(frozen=True)
class EngineReport:
    """The engines that one compile path asks TensorRT to build. A preview, not a TensorRT result.

    Attributes
    ----------
    case, path : str
        What was compiled, and how.
    requested : tuple of EngineInput
        The model's inputs with the ranges that were typed.
    engines : tuple of Engine
        In the order in which they were asked for, those of the calls included.
    calls : tuple of Call
        What each call did, in order: an engine that one call built serves the next.
    left_to_pytorch : tuple of str or None
        Operators that run outside the engines; None if the build failed.
    failed : str or None
        Why the build failed, if it did.
    notes : tuple of str
        Where the engines differ from what was typed.
    real : bool
        True on a machine with TensorRT: the engines were really built.
    library : str
        The ``libnvinfer`` that took part: its name, or ``stub``.
    versions, options : dict
        Versions of what took part, and every option in force.
    seconds : float
        Wall-clock seconds of the path and its calls, the start of the process not included.
    """

    case: str
    path: str
    requested: tuple[EngineInput, ...]
    engines: tuple[Engine, ...]
    calls: tuple[Call, ...]
    left_to_pytorch: tuple[str, ...] | None
    failed: str | None
    notes: tuple[str, ...]
    real: bool
    library: str
    versions: dict[str, str]
    options: dict[str, Any]
    seconds: float

    @property
    def title(self) -> str:
        """One line that says what this is, and what it is not."""
        version = self.versions.get("torch-tensorrt", "?")
        if self.real:
            return f"{self.case}, {self.path}: engines built by TensorRT (Torch-TensorRT {version})"
        return f"PREVIEW of {self.case}, {self.path}: what Torch-TensorRT {version} asks for; TensorRT built nothing"

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row per engine input, as plain values, for a data frame."""
        typed = {i.name: i for i in self.requested}
        for number, engine in enumerate(self.engines, start=1):
            for i in engine.inputs:
                yield {
                    "path": self.path,
                    "engine": number,
                    "input": i.name,
                    "kind": i.kind,
                    "dtype": i.dtype,
                    "typed": shape(typed[i.name]) if i.kind == "data" and i.name in typed else "",
                    "real": shape(i),
                    "opt from": engine.opt_source,
                    "operators": engine.operators,
                    "built by a call": engine.after_build,
                }

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values, for JSON."""
        options = {name: repr(value) for name, value in self.options.items()}
        return {"title": self.title, **asdict(self), "options": options}

    def __str__(self) -> str:
        lines = [self.title]
        lines += [f"  typed: {i.name} {shape(i)} {i.dtype}" for i in self.requested]
        for number, engine in enumerate(self.engines, start=1):
            late = ", built by a call" if engine.after_build else ""
            plural = "s" if engine.operators != 1 else ""
            lines.append(f"  engine {number}: {engine.operators} operator{plural}, opt from {engine.opt_source}{late}")
            lines += [f"    {text}" for text in _engine_lines(engine)]
        if self.left_to_pytorch:
            lines.append(f"  left to PyTorch: {', '.join(self.left_to_pytorch)}")
        if self.failed:
            lines.append(f"  the build failed: {self.failed}")
        lines += [f"  call {call}" for call in self.calls]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def requested(case: Case) -> tuple[EngineInput, ...]:
    """The inputs of a case with the ranges that were typed."""
    found = []
    for spec in case.inputs:
        low, opt, high = (tuple(d if isinstance(d, int) else getattr(d, end) for d in spec.shape) for end in ENDS)
        found.append(EngineInput(spec.name, str(spec.dtype).removeprefix("torch."), low, opt, high))
    return tuple(found)


def shape(one: EngineInput) -> str:
    """The ranges of an input, such as ``[1/4/32, 196, 768]`` (min/opt/max)."""
    return str(replace(one, name="", dtype="")).strip()


def differences(case: Case, engines: tuple[Engine, ...], torch_tensorrt: str) -> tuple[str, ...]:
    """A sentence for each min, opt or max of the model's inputs that is not what was typed.

    Engines of a single size are left out: they are further engines, not another range.
    """
    found: dict[str, None] = {}
    factor = DEFAULT_FACTOR.get(".".join(torch_tensorrt.split(".")[:2]), 2**12)
    for number, engine in enumerate(engines, start=1):
        for one in engine.data:
            spec = next((spec for spec in case.inputs if spec.name == one.name), None)
            for axis, dim in spec.dynamic.items() if spec else ():
                low, opt, high = (_at(corner, axis) for corner in (one.min, one.opt, one.max))
                if low is None or low == high:
                    continue
                where = f"engine {number}, {dim.name}"
                if low != dim.min:
                    why = " (Torch-TensorRT turns a lower bound of 2 into 1)" if (low, dim.min) == (1, 2) else ""
                    found[f"{where}: min is {low}, not {dim.min}{why}"] = None
                if opt != dim.opt:
                    found[f"{where}: opt is {opt}, not {dim.opt} ({engine.opt_source})"] = None
                if high != dim.max:
                    default = " (Torch-TensorRT's own, where Dynamo has no upper bound)" if high == low * factor else ""
                    found[f"{where}: max is {high}, not {dim.max}{default}"] = None
    return tuple(found)


def _at(corner: Sizes, axis: int) -> int | None:
    return corner[axis] if axis < len(corner) else None


def _engine_lines(engine: Engine) -> Iterator[str]:
    for one in engine.inputs:
        if one.kind == "data":
            yield str(one)
        elif one.kind == "intermediate":
            yield f"{one}, from another part of the model"
        elif one.kind == "shape":
            yield f"{one}, a size passed as a number"
    weights = [one.name for one in engine.inputs if one.kind == "weight"]
    if weights:
        yield f"{len(weights)} weight{'s' if weights[1:] else ''} as inputs"


def numbered(engines: tuple[int, ...]) -> str:
    """Engines by their numbers: ``engine 1``, ``engines 1 and 2``."""
    return f"engine{'s' if len(engines) > 1 else ''} {' and '.join(map(str, engines))}"
