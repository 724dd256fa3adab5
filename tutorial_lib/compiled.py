"""A compiled program as readers get it: the range guard in front, and the record of its build.

Also the frame that every build runs in: one build at a time, gradients off, settings in force, and
a note of every engine that is built.
"""

import contextlib
import shutil
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch._dynamo.config
import torch.compiler.config
from torch._dynamo.convert_frame import compile_lock
from torch._dynamo.exc import BackendCompilerFailed

from tutorial_lib import agreement, backends, inductor, record, tensorrt
from tutorial_lib.guard import Guard, OutOfRange
from tutorial_lib.models import Case
from tutorial_lib.record import Build, Engine, EngineInput
from tutorial_lib.shapes import ShapeError

LOCK = compile_lock
"""Held during every build. It is Dynamo's own lock, so a recompile in another thread waits too.

Tracing is not thread-safe: two exports, or an export beside a just-in-time compile, corrupt each
other. Running programs that are already built needs no lock.
"""

OUTSIDE = ("raise", "recompile", "eager")


class BuildError(RuntimeError):
    """A build that failed, in one sentence; the compiler's own error is its ``__cause__``.

    Attributes
    ----------
    engines : tuple of Engine
        Those that had been built before it failed.
    """

    engines: tuple[Engine, ...] = ()


class Recompile(RuntimeError):
    """A call that would have compiled a further engine without having been allowed to."""


class Compiled:
    """A program that takes the case's inputs, refuses what it was not built for, and knows its build.

    Call it with one tensor for each of ``case.inputs``. It runs without gradients. There is no way
    to the bare program from here: bare, it may read past a buffer or compile again unseen.

    Attributes
    ----------
    case : Case
        The model and the ranges it was compiled for.
    """

    def __init__(self, job: "Job", program: Callable[..., Any], build: Build) -> None:
        self.case = job.case
        self._job = job
        self._program = program
        self._build = build
        self._guard = Guard(self.case.inputs, self.case.device)
        self._outside = "raise"

    @property
    def build(self) -> Build:
        """The record of the build, with every engine built since."""
        return replace(self._build, engines=tuple(self._job.engines))

    @property
    def outside(self) -> str:
        """What a call outside the range does: ``raise``, ``recompile`` (counted) or ``eager``.

        Only the jit path can recompile.
        """
        return self._outside

    @outside.setter
    def outside(self, choice: str) -> None:
        if choice not in OUTSIDE:
            raise ValueError(f"outside is {choice!r}; use {', '.join(OUTSIDE)}.")
        if choice == "recompile" and self._build.path != "jit":
            raise ValueError(
                f"the {self._build.path} path was compiled ahead of time and cannot recompile; use raise or eager."
            )
        self._outside = choice

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Run the program.

        Raises
        ------
        ShapeError
            If an input is not what the program was built for (:class:`OutOfRange` if only a size is not).
        """
        try:
            self._guard(inputs)
        except OutOfRange:
            if self._outside == "raise":
                raise
            return self._call_outside(inputs)
        if torch.is_grad_enabled() or torch.is_inference_mode_enabled():  # Dynamo guards on both modes
            with torch.inference_mode(False), torch.no_grad():
                return self._run(inputs)
        return self._run(inputs)

    def _run(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        try:
            return self._program(*inputs)
        except BackendCompilerFailed as error:
            if isinstance(error.inner_exception, Recompile):
                raise Recompile(f"{error.inner_exception} ({self._why(inputs)})") from None
            raise

    @torch.no_grad()
    def _call_outside(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        if self._outside == "eager":
            return self.case.model(*inputs)
        with self._job.compiling():
            return self._program(*inputs)

    def _why(self, inputs: tuple[torch.Tensor, ...]) -> str:
        """Dynamo's own reason for wanting to recompile."""
        try:
            with LOCK, torch.compiler.set_stance("fail_on_recompile"):
                self._program(*inputs)
        except Exception as error:
            reasons = [line.strip() for line in str(error).splitlines() if "/" in line and ":" in line]
            return reasons[-1] if reasons else str(error).splitlines()[0]
        return "no reason found"

    def __repr__(self) -> str:
        return f"<Compiled {self.case.name}: {self._build.path} with {self._build.backend}>"


@dataclass
class Job:
    """A build in progress: what the three paths use, and where its engines are noted."""

    case: Case
    path: str
    backend: str
    options: dict[str, Any]
    notes: tuple[str, ...]
    opt_source: str
    engines: list[Engine] = field(default_factory=list)
    sealed: bool = True
    left_to_pytorch: tuple[str, ...] | None = None
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    artefact: Path | None = None
    started: float = field(default_factory=time.perf_counter)
    finished: bool = False

    def __post_init__(self) -> None:
        self.names = {spec.name: (spec.name, "data") for spec in self.case.inputs}

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Allow compiling inside the ``with`` block: one build at a time, gradients off, engines noted."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(LOCK)
            stack.enter_context(torch.no_grad())
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", category=FutureWarning)  # torch's own, about its pytree module
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message=".*TensorFloat32 tensor cores.*")
            stack.enter_context(
                torch._dynamo.config.patch(
                    recompile_limit=10_000, accumulated_recompile_limit=10_000, fail_on_recompile_limit_hit=True
                )
            )
            # Without the range in its keys, Inductor's cache on disk gives back a graph that was built for
            # another range, whose bounds then contradict the ones asked for.
            ranges = ", ".join(map(str, self.case.dims.values()))
            stack.enter_context(
                torch.compiler.config.patch(cache_key_tag=f"{torch.compiler.config.cache_key_tag} {ranges}")
            )
            if self.backend == "inductor":
                stack.enter_context(inductor.patched(self.options))
            elif self.backend == "tensorrt":
                stack.enter_context(tensorrt.observed(self.note, self.opt_source, self.names))
            self.sealed = False
            try:
                yield
            finally:
                self.sealed = True

    def note(self, engine: Engine) -> None:
        """Add an engine to the record."""
        if self.finished:
            engine = replace(engine, after_build=True, opt_source="the size of the call that triggered it")
        self.engines.append(engine)

    def watched(self, name: str) -> Callable[..., Any]:
        """Backend `name` for ``torch.compile``, taking note of every graph it is given to compile.

        Once the build is over it refuses to compile, so that no call compiles unseen. Being a new
        object for every build, it also keeps builds of one model apart: Dynamo's cache belongs to
        the model's code and tells entries apart by their backend.
        """
        upstream = torch._dynamo.lookup_backend(name)
        keywords = {"options": self.options} if name == "tensorrt" else {}

        def compile_graph(graph: torch.fx.GraphModule, example_inputs: list[Any], **_: Any) -> Any:
            if self.sealed:
                raise Recompile("this call would compile another engine, inside the range it was built for")
            start, known = time.perf_counter(), len(self.engines)
            placeholders, operators = _graph_inputs(graph), record.call_functions(graph.graph)
            inputs = tuple(i for i in placeholders if i is not None)
            self.names.update(tensorrt.graph_names(placeholders))
            program = upstream(graph, example_inputs, **keywords)
            if name != "tensorrt":
                seconds = time.perf_counter() - start
                fixed = all(i.min == i.max for i in inputs)
                self.note(Engine(inputs, "its only size" if fixed else self.opt_source, operators, seconds))
                return program
            # tensorrt.observed() noted the engines; without any, the program is PyTorch under another name
            if len(self.engines) == known:
                shown = "; ".join(str(i) for i in inputs if i.kind == "data")
                raise BuildError(f"jit with tensorrt built no engine for {shown}: that graph would run in PyTorch.")
            self.left_to_pytorch = tuple(sorted({*(self.left_to_pytorch or ()), *tensorrt.left_to_pytorch(program)}))
            return program

        return compile_graph

    def package(self, exported: torch.export.ExportedProgram) -> Callable[..., Any]:
        """Compile an exported program ahead of time with this job's backend."""
        start = time.perf_counter()
        if self.backend == "eager":
            program: Callable[..., Any] = exported.module()
            self.left_to_pytorch = tuple(
                sorted({str(n.target) for n in exported.graph.nodes if n.op == "call_function"})
            )
        else:
            folder = Path(tempfile.mkdtemp(prefix="tutorial_lib-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self.artefact = folder / f"{self.case.name}.pt2"
            program = inductor.package(exported, self.artefact, self.options)
            self.left_to_pytorch = inductor.library_calls(self.artefact)
        operators = record.call_functions(exported.graph)
        self.note(Engine(_exported_inputs(exported), self.opt_source, operators, time.perf_counter() - start))
        return program

    def done(self, program: Callable[..., Any]) -> Compiled:
        """The program with its guard and its record.

        Raises
        ------
        BuildError
            If no engine was built, or if size 1 is in range and the program is wrong there.
        """
        if not self.engines:
            raise BuildError(f"{self.path} with {self.backend} built no engine: the model would run in PyTorch.")
        if self.backend == "tensorrt" and isinstance(program, torch.fx.GraphModule):  # jit notes it graph by graph
            self.left_to_pytorch = tensorrt.left_to_pytorch(program)
        if self.path != "jit":
            self._check_size_one(program)
        size = self.artefact.stat().st_size if self.artefact else tensorrt.artefact_bytes(self.engines)
        build = Build(
            case=self.case.name,
            path=self.path,
            backend=self.backend,
            device=record.device_name(self.case.device),
            versions=record.versions("triton", "torch-tensorrt", "tensorrt"),
            options=self.options,
            seconds=time.perf_counter() - self.started,
            artefact_bytes=size,
            engines=tuple(self.engines),
            left_to_pytorch=self.left_to_pytorch,
            notes=(*self.notes, *record.opt_notes(list(self.case.dims.values()))),
        )
        self.finished = True
        return Compiled(self, program, build)

    def _check_size_one(self, program: Callable[..., Any]) -> None:
        # Tracing assumes sizes of at least 2, so nobody has promised that the program is right at 1.
        ones = {name: 1 for name, dim in self.case.dims.items() if dim.min == 1 and not dim.is_fixed}
        if ones:
            inputs = self.case.example(ones)
            where = " and ".join(f"{name} 1" for name in ones)
            try:
                output = program(*inputs)
            except RuntimeError as error:
                cut = f"; cut into {len(self.engines)} engines, only the first accepts it" if self.engines[1:] else ""
                raise BuildError(
                    f"the {self.path} path cannot run at {where} ({first_line(error)}{cut}); use a min of 2."
                ) from error
            found = agreement.Reference(self.case).compare(output, inputs)
            if not found.agrees:
                raise BuildError(f"the {self.path} path is wrong at {where} ({found}); use a min of 2.")


@contextlib.contextmanager
def building(path: str, case: Case, backend: str, options: Mapping[str, Any] | None, opt_source: str) -> Iterator[Job]:
    """The frame of every build: choose the backend, take the lock, and turn failures into one sentence.

    Raises
    ------
    BackendUnavailable, OptionError
        If the backend or an option does not exist here.
    BuildError
        If the compiler fails.
    """
    name, passed = backends.choose(backend, case.device)
    job = Job(case, path, name, backends.settings(name, case.device, options), passed, opt_source)
    try:
        with job.compiling():
            yield job
    except ShapeError:
        raise
    except Exception as error:
        inner = getattr(error, "inner_exception", None) or error
        failure = inner if isinstance(inner, BuildError) else None
        if failure is None:
            kind = type(inner).__name__
            failure = BuildError(f"{path} with {name} could not compile {case.name}: {kind}: {first_line(inner)}")
        failure.engines = tuple(job.engines)
        raise failure from (None if failure is error else error)


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something, else the error's type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _graph_inputs(graph: torch.fx.GraphModule) -> list[EngineInput | None]:
    """Inputs of a graph that Dynamo hands to its backend, with their real ranges; None for any that is no tensor."""
    inputs: list[EngineInput | None] = []
    for node in graph.graph.find_nodes(op="placeholder"):
        value, source = node.meta.get("example_value"), getattr(node.meta.get("grapharg"), "source", None)
        if isinstance(value, torch.SymInt):
            low, opt, high = record.bounds(value)
            inputs.append(EngineInput(node.name, "int", (low,), (opt,), (high,), kind="shape"))
        elif isinstance(value, torch.Tensor):
            is_argument = getattr(source, "is_input", False)
            name = getattr(source, "local_name", node.name) if is_argument else node.name
            dtype = str(value.dtype).removeprefix("torch.")
            kind = "data" if is_argument else "weight"
            inputs.append(EngineInput(name, dtype, *record.range_of(value), kind=kind))
        else:
            inputs.append(None)
    return inputs


def _exported_inputs(exported: torch.export.ExportedProgram) -> tuple[EngineInput, ...]:
    """Inputs of an exported program, with the ranges that it was exported for."""
    names = set(exported.graph_signature.user_inputs)
    return tuple(
        EngineInput(
            node.name,
            str(node.meta["val"].dtype).removeprefix("torch."),
            *record.range_of(node.meta["val"], exported.range_constraints),
        )
        for node in exported.graph.find_nodes(op="placeholder")
        if node.name in names and isinstance(node.meta.get("val"), torch.Tensor)
    )
