"""What came of building engines: every engine with its plan, what each call did, and what went wrong."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tutorial_lib.builds.plan import Plan, PlanTensor, show_activation, show_bytes
from tutorial_lib.builds.report import Build, Engine, EngineInput, Sizes, dtype_name
from tutorial_lib.core.models import Case
from tutorial_lib.core.profiles import Profile, holding, show
from tutorial_lib.core.shapes import DynamicDim
from tutorial_lib.explain import Explanation

ENDS = ("min", "opt", "max")
BUILD, GRAPH = MODES = ("build", "graph")
"""Whether TensorRT builds the engines, or the graphs and profiles are all that is wanted."""
DEFAULT_FACTOR = {"2.11": 2**16}
"""Where Dynamo has no upper bound, Torch-TensorRT's is the lower bound times this factor."""
FRONT_END, BUILDER = "torch-tensorrt-rtx", "tensorrt-rtx"


@dataclass(frozen=True)
class Call:
    """What one call did. The graph ran in PyTorch, behind the engine's profile.

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
    range_check : str or None
        What this package's range check says before such a call of a
        :class:`~tutorial_lib.builds.program.Compiled`; None if it lets the call pass.
    """

    sizes: dict[str, int]
    outcome: str
    by: str
    words: str | None
    ran: tuple[int, ...]
    built: tuple[int, ...]
    range_check: str | None

    def __str__(self) -> str:
        where = ", ".join(f"{name} {size}" for name, size in self.sizes.items()) or "the only shape"
        check = " (through tutorial_lib: refused first, by its range check)" if self.range_check else ""
        if self.outcome == "refused":
            return f"{where}: refused by {self.by}: {self.words}{check}"
        if self.outcome == "built":
            return f"{where}: built {numbered(self.built)}, which served it{check}"
        return f"{where}: served by {self.by}{check}"


@dataclass(frozen=True)
class EngineReport:
    """The engines of one compile path: built by TensorRT for RTX, not run.

    Attributes
    ----------
    case, path : str
        What was compiled, and how.
    mode : str
        ``build``, or ``graph``: then only graphs and profiles were made, and no engine has a plan.
    target : str or None
        The compute capability that it was built for; None for TensorRT's portable default.
    requested : tuple of EngineInput
        The model's inputs with the ranges that were typed.
    profiles : tuple of Profile
        What was typed if it was several profiles.
    engines : tuple of Engine
        In the order in which they were built, those of the calls included.
    calls : tuple of Call
        What each call did, in order: an engine that one call built serves the next.
    left_to_pytorch : tuple of str or None
        Operators that run outside the engines; None if the build failed.
    failed : str or None
        Why the build failed, if it did.
    explanation : Explanation or None
        What that means and what to do, where it is known.
    log : tuple of str
        TensorRT's own errors of a build that failed.
    notes : tuple of str
        Where the engines differ from what was typed.
    versions, options : dict
        Versions of what took part, and every option in force.
    seconds, tracing_seconds : float
        Wall-clock seconds of the path and its calls, without the start of the process; and what remains of them
        without conversion and build.
    """

    case: str
    path: str
    mode: str
    target: str | None
    requested: tuple[EngineInput, ...]
    engines: tuple[Engine, ...]
    versions: dict[str, str]
    calls: tuple[Call, ...] = ()
    left_to_pytorch: tuple[str, ...] | None = None
    failed: str | None = None
    explanation: Explanation | None = None
    log: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    tracing_seconds: float = 0.0
    profiles: tuple[Profile, ...] = ()

    @classmethod
    def of(
        cls,
        case: Case,
        path: str,
        engines: tuple[Engine, ...],
        versions: dict[str, str],
        build: Build | None = None,
        **fields: Any,
    ) -> "EngineReport":
        """The report on `case`, with what follows from its engines filled in."""
        return cls(
            case=case.name,
            path=path,
            requested=requested(case),
            engines=engines,
            left_to_pytorch=build.left_to_pytorch if build else None,
            notes=(*(build.notes if build else ()), *differences(case, engines, versions[FRONT_END])),
            versions=versions,
            profiles=case.profiles,
            **fields,
        )

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans that TensorRT built, in the order of the engines."""
        return tuple(engine.plan for engine in self.engines if engine.plan)

    @property
    def activation_bytes(self) -> int | None:
        """Activation memory of the engine that needs most; None where nothing was built."""
        return max((plan.activation_bytes for plan in self.plans), default=None)

    @property
    def title(self) -> str:
        """One line that says what this is, and what it is not."""
        front_end = f"Torch-TensorRT {self.versions.get(FRONT_END, '?')}"
        if self.mode == GRAPH:
            return f"{self.case}, {self.path}: what {front_end} asks for; TensorRT built nothing"
        builder = f"TensorRT for RTX {self.versions.get(BUILDER, '?')}"
        if self.failed:
            return f"{self.case}, {self.path}: not built by {builder} ({front_end})"
        target = f" for {self.target}" if self.target else ""
        return f"{self.case}, {self.path}: built by {builder}{target}, not run ({front_end})"

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
        """The report as plain values, for JSON; without the bytes of the plans."""
        options = {name: repr(value) for name, value in self.options.items()}
        engines = [engine_dict(engine) for engine in self.engines]
        return {"title": self.title, **asdict(replace(self, engines=())), "engines": engines, "options": options}

    def __str__(self) -> str:
        lines = [self.title]
        lines += [f"  typed: {i.name} {shape(i)} {i.dtype}" for i in self.requested]
        lines += [f"  typed: profile {number}: {show(profile)}" for number, profile in enumerate(self.profiles)]
        for number, engine in enumerate(self.engines, start=1):
            late = ", built by a call" if engine.after_build else ""
            plural = "s" if engine.operators != 1 else ""
            lines.append(f"  engine {number}: {engine.operators} operator{plural}, opt from {engine.opt_source}{late}")
            lines += [f"    {text}" for text in _engine_lines(engine)]
            if engine.plan:
                lines += [f"    {text}" for text in plan_lines(engine.plan)]
        if self.left_to_pytorch:
            lines.append(f"  left to PyTorch: {', '.join(self.left_to_pytorch)}")
        if self.failed:
            lines.append(f"  the build failed: {self.failed}")
            lines += [f"  TensorRT's log: {text}" for text in self.log if text not in self.failed]
        lines += [f"  call {call}" for call in self.calls]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


@dataclass(frozen=True)
class FunctionReport:
    """What a function's calls had built, where ``import torch_tensorrt`` works. Nothing of it ran on a GPU.

    Attributes
    ----------
    engines : tuple of Engine
        In the order in which they were built. Inputs have Torch-TensorRT's names; their kind is
        ``data`` also for weights, which nothing tells from data here, or ``shape``.
    result : object
        What the function returned.
    error : str or None
        The type and message of the exception that ended it.
    warnings : tuple of str
        What Torch-TensorRT logged as a warning or worse.
    version : str
        Torch-TensorRT's.
    mode : str
        ``build``, or ``graph``: then no engine has a plan.
    """

    engines: tuple[Engine, ...]
    result: Any
    error: str | None
    warnings: tuple[str, ...]
    version: str
    mode: str

    def __str__(self) -> str:
        count = f"{len(self.engines)} engine{'s' if len(self.engines) != 1 else ''}"
        done = "had TensorRT build" if self.mode == BUILD else "asked for (nothing was built):"
        lines = [f"Torch-TensorRT {self.version} {done} {count}"]
        for number, engine in enumerate(self.engines, start=1):
            lines.append(f"  engine {number}: {engine.operators} operators")
            lines += [f"    {each}" for each in engine.inputs]
            if engine.plan:
                lines += [f"    {text}" for text in plan_lines(engine.plan)]
        lines += [f"  warning: {text}" for text in self.warnings]
        return "\n".join([*lines, *([f"  error: {self.error}"] if self.error else [])])


def plan_lines(plan: Plan) -> Iterator[str]:
    """A plan in two lines, its size and memory, and its layers; with several profiles one more for each."""
    yield (
        f"plan {show_bytes(plan.plan_bytes)}; memory: activation {show_activation(plan)}, "
        f"weights {show_bytes(plan.weight_bytes)}"
    )
    shapes = f", {plan.shape_layers} of them for shapes" if plan.shape_layers else ""
    yield f"{_layers(plan.network_layers)} of the network{shapes} -> {_layers(len(plan.layers))} of the plan"
    for number, activation in enumerate(plan.activation_by_profile):
        ranges = "; ".join(_profile_range(tensor, number) for tensor in plan.inputs if tensor.is_dynamic)
        count = _layers(sum(layer.profile == number for layer in plan.layers))
        yield f"profile {number}: {ranges}: activation {show_bytes(activation)}, {count} of the plan"


def _profile_range(tensor: PlanTensor, number: int) -> str:
    """The range of an input of a plan in one of its profiles: ``x [1/2/4, 196, 768]``."""
    return str(EngineInput(tensor.argument or tensor.name, "", *tensor.profiles[number])).rstrip()


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count != 1 else ''}"


def engine_dict(engine: Engine) -> dict[str, Any]:
    """An engine as plain values, for JSON; without the bytes of its plan."""
    plain = asdict(replace(engine, plan=None))
    return {**plain, "plan": engine.plan.to_dict() if engine.plan else None}


def requested(case: Case) -> tuple[EngineInput, ...]:
    """The inputs of a case with the ranges that were typed."""
    inputs = []
    for spec in case.inputs:
        low, opt, high = (tuple(d if isinstance(d, int) else getattr(d, end) for d in spec.shape) for end in ENDS)
        inputs.append(EngineInput(spec.name, dtype_name(spec.dtype), low, opt, high))
    return tuple(inputs)


def shape(engine_input: EngineInput) -> str:
    """The ranges of an input, such as ``[1/4/32, 196, 768]`` (min/opt/max)."""
    return str(replace(engine_input, name="", dtype="")).strip()


def differences(case: Case, engines: tuple[Engine, ...], torch_tensorrt: str) -> tuple[str, ...]:
    """A sentence for each min, opt or max of the model's inputs that is not what was typed.

    Engines for a size of 1, and those that calls built for one size, are left out: they are further engines, not
    another range.
    """
    factor = DEFAULT_FACTOR.get(".".join(torch_tensorrt.split(".")[:2]), 2**12)
    notes: dict[str, None] = {}
    for number, engine in enumerate(engines, start=1):
        where = f"engine {number}"
        if not case.profiles:
            notes |= dict.fromkeys(_differences(where, case, engine, factor))
        elif engine.plan and engine.plan.activation_by_profile:
            for profile in range(len(case.profiles)):
                part = _at_profile(engine, engine.plan, profile)
                label = f"{where}, profile {profile}"
                notes |= dict.fromkeys(_differences(label, case.at_profile(profile), part, factor))
        else:  # a program for each profile
            specs = {spec.name: spec.shape for spec in case.inputs}
            sizes = {
                dim.name: size
                for each in engine.data
                for dim, size in zip(specs.get(each.name, ()), each.opt, strict=False)
                if isinstance(dim, DynamicDim) and size is not None
            }
            profile = holding(case.profiles, sizes) or 0
            notes |= dict.fromkeys(_differences(where, case.at_profile(profile), engine, factor))
    return tuple(notes)


def _at_profile(engine: Engine, plan: Plan, number: int) -> Engine:
    """An engine of several profiles as if it had only that one."""
    ranges = {tensor.argument or tensor.name: tensor.profiles[number] for tensor in plan.inputs}
    inputs = [EngineInput(i.name, i.dtype, *ranges.get(i.name, (i.min, i.opt, i.max)), i.kind) for i in engine.inputs]
    return replace(engine, inputs=tuple(inputs))


def _differences(engine_name: str, case: Case, engine: Engine, factor: int) -> Iterator[str]:
    for each in engine.data:
        spec = next((spec for spec in case.inputs if spec.name == each.name), None)
        for axis, dim in spec.dynamic.items() if spec else ():
            low, opt, high = (_at(corner, axis) for corner in (each.min, each.opt, each.max))
            is_further = low == 1 or engine.after_build
            if low is None or (low == high and is_further):
                continue
            where = f"{engine_name}, {dim.name}"
            if low == high:
                yield f"{where}: its only size is {low}, not {dim.min} to {dim.max}"
                continue
            if low != dim.min:
                why = " (Torch-TensorRT turns a lower bound of 2 into 1)" if (low, dim.min) == (1, 2) else ""
                yield f"{where}: min is {low}, not {dim.min}{why}"
            if opt != dim.opt:
                yield f"{where}: opt is {opt}, not {dim.opt} ({engine.opt_source})"
            if high != dim.max:
                default = " (Torch-TensorRT's own, where Dynamo has no upper bound)" if high == low * factor else ""
                yield f"{where}: max is {high}, not {dim.max}{default}"


def _at(corner: Sizes, axis: int) -> int | None:
    return corner[axis] if axis < len(corner) else None


def _engine_lines(engine: Engine) -> Iterator[str]:
    remarks = {"data": "", "intermediate": ", from another part of the model", "shape": ", a size passed as a number"}
    for each in engine.inputs:
        if each.kind in remarks:
            yield f"{each}{remarks[each.kind]}"
    weights = [each.name for each in engine.inputs if each.kind == "weight"]
    if weights:
        yield f"{len(weights)} weights as inputs" if weights[1:] else "1 weight as an input"


def numbered(engines: tuple[int, ...]) -> str:
    """Engines by their numbers: ``engine 1``, ``engines 1 and 2``."""
    return f"engine{'s' if len(engines) > 1 else ''} {' and '.join(map(str, engines))}"
