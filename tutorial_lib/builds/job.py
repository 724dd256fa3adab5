"""The frame around the three functions of :mod:`tutorial_lib.paths`.

They hold upstream's calls and nothing else. What has to happen around these calls is here: choosing the
backend, one build at a time, gradients off, settings in force, engines noted, and a check of the result.
"""

import contextlib
import functools
import inspect
import io
import re
import shutil
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
import torch._dynamo.config
import torch.compiler.config

from tutorial_lib.builds import backends, compat, convolutions, package_cache, report
from tutorial_lib.builds.backends import inductor, tensorrt
from tutorial_lib.builds.program import LOCK, Compiled, Recompile
from tutorial_lib.builds.report import Build, Engine, EngineInput
from tutorial_lib.checks import corners, state
from tutorial_lib.checks.agreement import NotRepeatable
from tutorial_lib.checks.results import UncomparableResult
from tutorial_lib.core import precision, shapes
from tutorial_lib.core.models import Case
from tutorial_lib.core.progress import stage
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.explain import Explanation, explain

compat.set_cuda_device_guard()

Options = Mapping[str, Any] | None
Program = Callable[..., Any]
"""What upstream returns: a compiled model, without any check in front."""


class BuildError(RuntimeError):
    """A build that failed, in one sentence; the compiler's own error is its ``__cause__``.

    Attributes
    ----------
    engines : tuple of Engine
        Those that had been built before it failed.
    explanation : Explanation or None
        What the compiler's error means, if that is known.
    """

    engines: tuple[Engine, ...] = ()
    explanation: Explanation | None = None


@dataclass
class Job:
    """A build in progress: what its path function is given, and what is noted for the report."""

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
    native: Callable[[], bytes] | None = None
    reused: str | None = None
    started: float = field(default_factory=time.perf_counter)
    finished: bool = False

    def __post_init__(self) -> None:
        self.names = tensorrt.placeholder_names(self.case.inputs)

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Allow compiling inside the ``with`` block: one build at a time, gradients off, engines noted."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(LOCK)
            stage(f"tracing {self.path}")
            stack.enter_context(torch.no_grad())
            stack.enter_context(precision.tf32(self.case.allows_tf32))
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", category=FutureWarning)  # torch's own, about its pytree module
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message=".*TensorFloat32 tensor cores.*|dynamo_pgo force disabled.*")
            warnings.filterwarnings("ignore", message="TypedStorage is deprecated.*")  # torch's own, when it freezes
            stack.enter_context(
                torch._dynamo.config.patch(
                    recompile_limit=10_000, accumulated_recompile_limit=10_000, fail_on_recompile_limit_hit=True
                )
            )
            # Without the range in its keys, Inductor's cache on disk gives back a graph that was built for
            # another range, whose bounds then contradict the ones asked for. Entries of older versions of this
            # package have guards on convolutions.
            ranges = ", ".join(map(str, self.case.dims.values()))
            caches: Any = torch.compiler.config
            stack.enter_context(caches.patch(cache_key_tag=f"{caches.cache_key_tag} {ranges} convolutions of any size"))
            if self.case.device.type == "cpu" and self.backend != "tensorrt":  # whose process chooses as a GPU does
                stack.enter_context(convolutions.for_any_size())
            if self.backend == "inductor":
                fresh = {"force_disable_caches": True} if package_cache.current_policy() == "fresh" else {}
                stack.enter_context(inductor.patched({**fresh, **self.options}))
            elif self.backend == "tensorrt":
                stack.enter_context(tensorrt.observed(self.note, self.opt_source, self.names))
            self.sealed = False
            try:
                yield
            finally:
                self.sealed = True

    def note(self, engine: Engine) -> None:
        """Add an engine to the report."""
        if self.finished:
            engine = replace(engine, after_build=True, opt_source="the size of the call that triggered it")
        self.engines.append(engine)

    @functools.cached_property
    def model(self) -> Program:
        """``forward(input_0, input_1, ...)``: the case's model behind a function of this build alone, for Dynamo.

        Dynamo keeps its graphs, their number and its memory of sizes with the code that it compiles.
        Were that the model's own ``forward``, then builds of one class would meet there: a second
        build with other fixed sizes would come out dynamic, and the ninth would not be compiled at all.
        A graph of ``torch.fx`` that only calls the model gets code of its own. Its arguments have names, because
        Torch-TensorRT 2.11 does not find the sizes of an input that comes as one of ``*inputs``.
        """
        graph = torch.fx.Graph()
        inputs = tuple(graph.placeholder(f"input_{index}") for index in range(len(self.case.inputs)))
        graph.output(graph.call_module("model", inputs))
        return torch.fx.GraphModule({"model": self.case.model}, graph).forward

    def for_the_whole_range(self, build: Callable[[], Program]) -> Program:
        """Call `build`; if Inductor's padding of matrix products narrowed the range, call it again without padding.

        For a GPU, Inductor pads the odd sizes of a matrix product where it expects a gain. In torch 2.11 that test
        computes with the symbol of a dynamic size (``is_mm_compute_bound`` in
        ``torch/_inductor/fx_passes/pad_mm.py``; 2.13 computes with opt), and its answer becomes a limit of that
        size, which no line of the model explains.
        """
        if self.backend != "inductor" or not inductor.pads(self.case.device, self.options):
            return build()
        with inductor.quiet_guards():
            try:
                return build()
            except Exception as error:
                if "Constraints violated" not in str(error):
                    raise
        self.options = {**self.options, "shape_padding": False}
        self.notes += ("Inductor's padding of matrix products would have narrowed the range, and is off",)
        self.engines.clear()
        del self.model  # a new one, because Dynamo remembers the limit with the code of the first
        with inductor.patched({"shape_padding": False}):
            return build()

    def watched(self, name: str) -> Callable[..., Any]:
        """Backend `name` for ``torch.compile``, taking note of every graph it is given to compile.

        Once the build is over it refuses to compile, so that no call compiles unseen.
        """
        upstream = torch._dynamo.lookup_backend(name)

        def compile_graph(graph: torch.fx.GraphModule, example_inputs: list[Any], **given: Any) -> Any:
            keywords = given if name == "tensorrt" else {}  # Inductor's options are in force around the build
            if self.sealed:
                raise Recompile("this call would compile another engine, inside the range it was built for")
            stage(f"compiling {self.path}, engine {len(self.engines) + 1}")
            start = time.perf_counter()
            engines_before = len(self.engines)
            placeholders = _graph_inputs(graph, self.case)
            operators = report.call_functions(graph.graph)
            inputs = tuple(i for i in placeholders if i is not None)
            if name == "tensorrt":
                self.names.update(tensorrt.graph_names(placeholders))
            hits_before = inductor.cache_hits()
            program = upstream(graph, example_inputs, **keywords)
            if inductor.cache_hits() > hits_before:
                self.reused = "generated code found in Inductor's cache on disk"
            if name != "tensorrt":
                seconds = time.perf_counter() - start
                self.note(Engine(inputs, report.opt_source(inputs, self.opt_source), operators, seconds))
                return program
            # tensorrt.observed() noted the engines; without any, the program is PyTorch under another name
            if len(self.engines) == engines_before:
                shown = "; ".join(str(i) for i in inputs if i.kind == "data")
                raise BuildError(f"jit with tensorrt built no engine for {shown}: that graph would run in PyTorch.")
            outside = tensorrt.left_to_pytorch(program) if isinstance(program, torch.fx.GraphModule) else ()
            self.left_to_pytorch = tuple(sorted({*(self.left_to_pytorch or ()), *outside}))
            return program

        return compile_graph

    def package(self, exported: torch.export.ExportedProgram, package: "Package") -> Program:
        """Compile an exported program ahead of time with `package`, and note what came of it."""
        state.refuse_writes(self.case.name, exported)
        start = time.perf_counter()
        if self.backend == "inductor":
            program = self._package_in_a_file(exported, package)
        else:
            program = package(exported, self.backend, self.case.device)
            self.left_to_pytorch = tuple(sorted(report.operator_names(exported.graph)))
            self.native = functools.partial(_saved, exported)
        inputs, operators = _exported_inputs(exported, self.case), report.call_functions(exported.graph)
        self.note(Engine(inputs, self.opt_source, operators, time.perf_counter() - start))
        return program

    def _package_in_a_file(self, exported: torch.export.ExportedProgram, package: "Package") -> Program:
        """Let `package` write a file of this build alone, or copy and load the file that an earlier kernel wrote."""
        folder = Path(tempfile.mkdtemp(prefix="tutorial_lib-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        file = folder / "model.pt2"
        policy = package_cache.current_policy()
        key = None if policy == "off" else package_cache.key(self.path, exported, self.case, self.options)
        cached = package_cache.find(key) if key and policy == "reuse" else None
        if cached:
            shutil.copyfile(cached.file, file)
            self.reused = str(cached)
            program = inductor.load(file, self.case.device)
        else:
            stage(f"compiling {self.path} ahead of time")
            start = time.perf_counter()
            with inductor.nothing_left_by_a_failed_load(file):
                numbers = inductor.numbers_metadata(exported)
                with inductor.patched(numbers):
                    program = package(exported, self.backend, self.case.device, str(file))
                if numbers:
                    program = inductor.with_numbers(program)
            problem = package_cache.keep(key, file, time.perf_counter() - start) if key else None
            self.notes += (problem,) if problem else ()
        self.artefact = file
        self.left_to_pytorch = inductor.library_calls(file)
        self.native = file.read_bytes
        return program

    def done(self, program: Program) -> Compiled:
        """The program with its range check and its report.

        Raises
        ------
        BuildError
            If no engine was built, or if the program is wrong at an end of its range.
        """
        if not self.engines:
            raise BuildError(f"{self.path} with {self.backend} built no engine: the model would run in PyTorch.")
        if self.backend == "tensorrt" and isinstance(program, torch.fx.GraphModule):  # jit notes it graph by graph
            self.left_to_pytorch = tensorrt.left_to_pytorch(program)
            self.native = functools.partial(tensorrt.saved, program, self.case)
        size = self.artefact.stat().st_size if self.artefact else tensorrt.artefact_bytes(self.engines)
        build = Build(
            case=self.case.name,
            path=self.path,
            backend=self.backend,
            device=report.device_name(self.case.device),
            versions=report.versions("triton", *tensorrt.PACKAGES),
            options=self.options,
            seconds=time.perf_counter() - self.started,
            artefact_bytes=size,
            engines=tuple(self.engines),
            left_to_pytorch=self.left_to_pytorch,
            reused=self.reused,
            notes=(*self.notes, *self._break_notes(), *report.opt_notes(list(self.case.dims.values()))),
        )
        compiled = Compiled(self.case, program, build, self.engines, self.compiling, self.native)
        self.sealed = True
        stage(f"checking {self.path} at the ends of its range")
        try:
            result = corners.check_corners(self.case, compiled, (Recompile,), len(self.engines))
        except corners.WrongAtCorner as error:
            if error.__cause__ and (explanation := explain(error.__cause__)).kind == "number from a tensor":
                failure = BuildError(f"the {self.path} path cannot run: {explanation.cause} {explanation.fix}")
                failure.explanation = explanation
                raise failure from error.__cause__
            subject = "" if str(error).startswith(self.case.name) else f"the {self.path} path "
            raise BuildError(f"{subject}{error}") from error.__cause__
        self.finished = True
        seconds = time.perf_counter() - self.started
        return compiled.noting(seconds=seconds, checked=result.checked, not_checked=result.not_checked)

    def _break_notes(self) -> tuple[str, ...]:
        sizes = len(shapes.first_calls(self.case.dims))
        if self.path != "jit" or len(self.engines) <= sizes:
            return ()
        return (
            f"{len(self.engines)} engines for {sizes} size{'s' if sizes > 1 else ''}: the model does not compile "
            "in one piece, and Python runs between the pieces",
        )


class CompilePath(Protocol):
    """A path as readers call it."""

    def __call__(self, case: Case, backend: str = "auto", options: Options = None) -> Compiled:
        """Compile the case's model for its ranges."""


class Package(Protocol):
    """:func:`tutorial_lib.paths.package`, as the frame calls it."""

    def __call__(
        self, exported: torch.export.ExportedProgram, backend: str, device: torch.device, file: str = ...
    ) -> Program:
        """Compile an exported program, into a file if the backend writes one."""


_current: ContextVar[Job | None] = ContextVar("current", default=None)


def compile_path(opt: str) -> Callable[[Callable[[Any, Case, Any, Any], Program]], CompilePath]:
    """Decorate a function of upstream calls, ``path(model, case, backend, options)``, with the frame of a build.

    Readers call the result as ``path(case, backend="auto", options=None)`` and get a :class:`Compiled`.

    Parameters
    ----------
    opt : str
        What is opt on this path, for the report.
    """

    def decorate(function: Callable[[Any, Case, Any, Any], Program]) -> CompilePath:
        def path(case: Case, backend: str = "auto", options: Options = None) -> Compiled:
            """Compile.

            Raises
            ------
            BackendUnavailable, OptionError
                If the backend or an option does not exist here.
            BuildError
                If the model keeps state, the compiler fails, or the program is wrong at an end of its range.
            """
            with _building(function.__name__, case, backend, options, opt) as job:
                if job.path != "jit":
                    return job.done(function(case.model, case, job.backend, job.options))
                watched = job.watched(job.backend)
                return job.done(
                    job.for_the_whole_range(lambda: function(job.model, case, watched, job.options)),
                )

        signature = inspect.signature(path)
        functools.update_wrapper(path, function)  # so that inspect.getsource shows the upstream calls
        path.__signature__ = signature  # type: ignore[attr-defined]
        return path

    return decorate


def packaging(package: Package) -> Package:
    """Decorate the function that compiles an exported program ahead of time: during a build, its job takes notes."""

    @functools.wraps(package)
    def noted(exported: torch.export.ExportedProgram, backend: str, device: torch.device, file: str = "") -> Program:
        job = _current.get()
        if job is None:
            return package(exported, backend, device, *([file] if file else []))
        return job.package(exported, package)

    return noted


@contextlib.contextmanager
def _building(path: str, case: Case, backend: str, options: Options, opt_source: str) -> Iterator[Job]:
    """The frame of every build: choose the backend, take the lock, and turn failures into one sentence."""
    name, passed = backends.choose(backend, case.device)
    with precision.tf32(case.allows_tf32):
        settings = backends.settings(name, case.device, options)
    job = Job(case, path, name, settings, passed, opt_source)
    token = _current.set(job)
    try:
        with job.compiling():
            with contextlib.redirect_stdout(io.StringIO()):  # what the model prints here is no part of the build
                state.refuse_state(case.name, case.model, case.example(case.traced))
            with state.unchanged(case.name, case.model):
                yield job
    except (state.WritesState, UncomparableResult) as error:
        raise BuildError(str(error)) from None
    except (ShapeError, NotRepeatable):
        raise
    except Exception as error:
        failure = _in_one_sentence(error, job)
        raise failure from (None if failure is error else error)
    finally:
        _current.reset(token)


def _in_one_sentence(error: Exception, job: Job) -> BuildError:
    """What failed, for the person who built; a :class:`BuildError` stays itself."""
    inner = getattr(error, "inner_exception", None) or error
    if isinstance(inner, BuildError):
        failure = inner
    else:
        explanation = explain(error)
        if job.path == "jit":  # there, Job.model has numbered the inputs
            cause = re.sub(r"\binput_(\d+)\b", lambda match: job.case.inputs[int(match[1])].name, explanation.cause)
            explanation = replace(explanation, cause=cause)
        told = f"{explanation.cause} {explanation.fix}" if explanation.translated else sentence(inner)
        failure = BuildError(f"{job.path} with {job.backend} could not compile {job.case.name}: {told}")
        failure.explanation = explanation if explanation.translated else None
    failure.engines = tuple(job.engines)
    return failure


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something, else the error's type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def sentence(error: BaseException) -> str:
    """An error in one sentence: the message of one of this package, else its type and its first line."""
    ours = type(error).__module__.startswith("tutorial_lib")
    return str(error) if ours else f"{type(error).__name__}: {first_line(error)}"


def _saved(exported: torch.export.ExportedProgram) -> bytes:
    buffer = io.BytesIO()  # given a file, torch's writer ends the process when the disk is full
    torch.export.save(exported, buffer)
    return buffer.getvalue()


def _graph_inputs(graph: torch.fx.GraphModule, case: Case) -> list[EngineInput | None]:
    """Inputs of a graph that Dynamo hands to its backend, with their real ranges; None for any that is no tensor."""
    inputs: list[EngineInput | None] = []
    for node in graph.graph.find_nodes(op="placeholder"):
        value = node.meta.get("example_value")
        source = getattr(node.meta.get("grapharg"), "source", None)
        if isinstance(value, torch.SymInt):
            low, opt, high = report.bounds(value)
            inputs.append(EngineInput(node.name, "int", (low,), (opt,), (high,), kind="shape"))
        elif isinstance(value, torch.Tensor):
            path = compat.source_name(source)
            argument = re.fullmatch(r"L\['input_(\d+)'\]", path)
            held = re.match(r"L\['(model|self)'\]|.*(_parameters|_buffers)\[", path)  # by the model, not given to it
            other = "weight" if held else "intermediate"
            name, kind = (case.inputs[int(argument[1])].name, "data") if argument else (node.name, other)
            dtype = str(value.dtype).removeprefix("torch.")
            inputs.append(EngineInput(name, dtype, *report.range_of(value), kind=kind))
        else:
            inputs.append(None)
    return inputs


def _exported_inputs(exported: torch.export.ExportedProgram, case: Case) -> tuple[EngineInput, ...]:
    """Inputs of an exported program, with the ranges that it was exported for."""
    specs = dict(zip(exported.graph_signature.user_inputs, case.inputs, strict=True))  # the graph's names vary
    return tuple(
        EngineInput(
            specs[node.name].name,
            str(node.meta["val"].dtype).removeprefix("torch."),
            *report.range_of(node.meta["val"], exported.range_constraints),
        )
        for node in exported.graph.find_nodes(op="placeholder")
        if node.name in specs and isinstance(node.meta.get("val"), torch.Tensor)
    )
