"""The frame around the three functions of :mod:`tutorial_lib.paths`.

Those functions hold upstream's calls and nothing else. This module does what has to happen around them: it chooses
the backend, lets one build run at a time without gradients, puts the settings in force, notes the engines and checks
the program.
"""

import collections
import contextlib
import functools
import inspect
import io
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
from unittest import mock

import torch
import torch._dynamo.config
import torch.compiler.config
from torch._dynamo import pgo
from torch.jit._trace import TracerWarning
from torch.utils import _pytree as pytree

from tutorial_lib.builds import backends, compat, convolutions, object_cache, package_cache, report
from tutorial_lib.builds.backends import inductor, openvino, tensorrt
from tutorial_lib.builds.program import LOCK, Compiled, Recompile
from tutorial_lib.builds.reasons import explain_failure, explain_no_engine
from tutorial_lib.builds.report import Build, Engine, EngineInput
from tutorial_lib.builds.routed import routed
from tutorial_lib.checks import corners, state
from tutorial_lib.checks.agreement import NotRepeatable
from tutorial_lib.checks.results import UncomparableResult
from tutorial_lib.checks.sizes_taken import explain_range
from tutorial_lib.core import inductor_cache, precision, shapes
from tutorial_lib.core.errors import first_line, sentence
from tutorial_lib.core.models import Case
from tutorial_lib.core.progress import stage
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.explain import Explanation, explain

compat.set_cuda_device_guard()

Options = Mapping[str, Any] | None
Program = Callable[..., Any]
"""What upstream returns: a compiled model without any check in front."""
PathFunction = Callable[[Any, Case, Any, Any], Program]
"""A function of :mod:`tutorial_lib.paths` as it is written: ``path(model, case, backend, options)``."""
Package = Callable[..., Program]
""":func:`tutorial_lib.paths.package`: ``package(exported, backend, device, file)``, without a file on eager."""


class NotSerializable(ValueError):
    """A program that cannot be written to a file, and why."""


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
    typed_options: frozenset[str] = frozenset()
    engines: list[Engine] = field(default_factory=list)
    sealed: bool = True  # then nothing may compile
    left_to_pytorch: tuple[str, ...] | None = None
    artefact_bytes: int | None = None
    serialize: Callable[[], bytes] | None = None
    reused: str | None = None
    kept_by_tracing: str = ""  # the line for which torch.jit.trace warned that it keeps what the example has
    started: float = field(default_factory=time.perf_counter)
    finished: bool = False
    sizes_seen: Any = field(default_factory=lambda: collections.defaultdict(pgo.CodeState))  # by code, as Dynamo does

    def __post_init__(self) -> None:
        self.names = tensorrt.placeholder_names(self.case.inputs)

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Allow compiling inside the ``with`` block: one build at a time, without gradients, engines noted."""
        dynamo = {
            "recompile_limit": 10_000,
            "accumulated_recompile_limit": 10_000,
            "fail_on_recompile_limit_hit": True,
            "allow_rnn": True,  # else it leaves models with an LSTM or GRU to Python, without a word
        }
        # Without the range in its keys, Inductor's cache on disk returns graphs that were built for another range,
        # whose bounds contradict the requested ones. Entries of older versions of this package have guards on
        # convolutions.
        caches: Any = torch.compiler.config
        ranges = ", ".join(map(str, self.case.dims.values()))
        tag = f"{caches.cache_key_tag} {ranges} convolutions of any size"
        with LOCK:
            stage(f"tracing {self.path}")
            torch._dynamo.utils.counters["unimplemented"].clear()  # the breaks of this build alone
            with (
                torch.no_grad(),
                precision.tf32(self.case.allows_tf32),
                compat.upstream_warnings_ignored(),
                torch._dynamo.config.patch(dynamo),
                _history_of_sizes(self.sizes_seen),
                caches.patch(cache_key_tag=tag),
                self._backend_in_force(),
            ):
                self.sealed = False
                try:
                    yield
                finally:
                    self.sealed = True

    @contextlib.contextmanager
    def _backend_in_force(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if self.backend == "tensorrt":
                stack.enter_context(tensorrt.observed(self.note, self.opt_source, self.names))
            elif self.case.device.type == "cpu":
                stack.enter_context(convolutions.for_any_size())
            if self.backend == "openvino":
                stack.enter_context(openvino.weights_copied())
            if self.backend == "inductor":
                fresh = package_cache.current_policy() == "fresh"
                stack.enter_context(inductor.patched({"force_disable_caches": True} if fresh else {}))
                stack.enter_context(inductor.patched(self.options))
                if package_cache.current_policy() == "reuse":
                    stack.enter_context(object_cache.reused(self._object_reused))
            yield

    def _object_reused(self) -> None:
        self.reused = "the same C++ was compiled before in this process"

    def note(self, engine: Engine) -> None:
        """Add an engine to the report."""
        if self.finished:
            engine = replace(engine, after_build=True, opt_source="the size of the call that triggered it")
        self.engines.append(engine)

    def build(self, function: PathFunction) -> Program:
        """Call a path's function, and call it again where a default of Inductor's was in the way."""
        if self.backend != "inductor":
            return self._call(function)
        try:
            return self._call(function)
        except Exception as error:
            narrowed = "Constraints violated" in str(error)
            if narrowed and compat.padding_may_narrow_the_range(self.case.device, self.options) and self.path == "jit":
                changed, note = "shape_padding", "Inductor's padding of matrix products would have narrowed the range"
            elif not narrowed and self.options.get("freezing") and "freezing" not in self.typed_options:
                changed, note = "freezing", f"with Inductor's freezing the build failed ({first_line(error)})"
            else:
                raise
            first_error = error
        self.options = {**self.options, changed: False}
        self.notes += (f"{note}, so {changed} is off",)
        self.engines.clear()
        try:
            with inductor.patched({changed: False}):
                return self._call(function)
        except Exception:
            raise first_error from None

    @compat.torch_log_kept()
    def _call(self, function: PathFunction) -> Program:
        if self.backend == "openvino":
            openvino.refuse_float64(self.case)
        if self.path != "jit":
            if self.backend == "openvino":
                return self._ahead_of_time_with_openvino(function)
            return function(self.case.model, self.case, self.backend, self.options)
        program = function(forward_of_its_own(self.case), self.case, self.dynamo_backend(), self.options)
        if self._is_in_pieces():
            self._compile_between_graph_breaks(program)
        return program

    def _ahead_of_time_with_openvino(self, function: PathFunction) -> Program:
        """Call a path's function, note what OpenVINO built, and give results the structure that eager's have."""
        if self.path == "input" and (refused := explain_range(self.case)):  # no guard of a trace would tell
            what_to_do = "Give the DynamicDim that step." if refused.kind == "multiple" else refused.fix
            raise BuildError(f"{refused.cause} {what_to_do}")
        structure = openvino.Structure.of(self.case.eager(*self.case.example(self.case.traced)))
        stage(f"compiling {self.path} ahead of time")
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TracerWarning)
            with openvino.signal_stack_kept():
                model: Any = function(self.case.model, self.case, self.backend, self.options)
        for warning in caught:
            if not issubclass(warning.category, TracerWarning):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
            elif not self.kept_by_tracing:
                self.kept_by_tracing = f"{Path(warning.filename).name}:{warning.lineno}"
        if self.kept_by_tracing:
            openvino.refuse_values_read(self.case, self.kept_by_tracing)
        expected = [
            EngineInput(spec.name, report.dtype_name(spec.dtype), *(spec.shape_at(self.case.traced),) * 3)
            for spec in self.case.inputs
        ]
        self._note_openvino(model, openvino.engine_inputs(model.compiled, expected), start)
        self.left_to_pytorch = ()
        self.serialize = functools.partial(openvino.saved, model, structure, self.options)
        self.artefact_bytes = model.compiled.export_model().getbuffer().nbytes
        return openvino.with_structure(model, structure)

    def _note_openvino(self, model: openvino.OpenVINOModel, inputs: tuple[EngineInput, ...], start: float) -> None:
        """Add an engine that OpenVINO built to the report."""
        source = report.opt_source(inputs, f"{self.opt_source} (OpenVINO itself has no opt)")
        self.note(Engine(inputs, source, openvino.operators(model.compiled), time.perf_counter() - start))
        for note in openvino.notes(model.compiled, self.case, self.options):
            if note not in self.notes:
                self.notes += (note,)

    def _compile_between_graph_breaks(self, program: Program) -> None:
        """Call a program of several pieces at the ends of its range, where pieces between breaks compile again.

        A piece gets tensors that nobody marked, so its first call makes it static, and one of another size dynamic.
        """
        for sizes in corners.corners(self.case.dims):
            with contextlib.redirect_stdout(io.StringIO()):
                program(*self.case.example(sizes))

    def dynamo_backend(self) -> Callable[..., Any]:
        """The backend for ``torch.compile``, which notes every graph that it is given to compile.

        Once the build is over it refuses to compile, so that no call compiles unseen.
        """
        upstream: Any = None if self.backend == "openvino" else torch._dynamo.lookup_backend(self.backend)

        def compile_graph(graph: torch.fx.GraphModule, example_inputs: list[Any], **keywords: Any) -> Any:
            if self.sealed:
                raise Recompile(self._why_not_compiled())
            stage(f"compiling {self.path}, engine {len(self.engines) + 1}")
            placeholders = report.graph_inputs(graph, self.case)
            inputs = tuple(i for i in placeholders if i is not None)
            if self.backend == "tensorrt":
                self.names.update(tensorrt.graph_names(placeholders))
                engines_before = len(self.engines)
                program = upstream(graph, example_inputs, **keywords)  # tensorrt.observed() notes the engines
                if len(self.engines) == engines_before:
                    shown = "; ".join(str(i) for i in inputs if i.kind == "data")
                    raise BuildError(f"jit with tensorrt built no engine for {shown}: that graph would run in PyTorch.")
                outside = tensorrt.left_to_pytorch(program) if isinstance(program, torch.fx.GraphModule) else ()
                self.left_to_pytorch = tuple(sorted({*(self.left_to_pytorch or ()), *outside}))
                return program
            if self.backend == "openvino":
                start = time.perf_counter()
                model, program, inputs = openvino.compile_graph(graph, example_inputs, placeholders, self.options)
                self._note_openvino(model, inputs, start)
                return program
            start, hits_before = time.perf_counter(), inductor.cache_hits()
            operators = report.call_functions(graph.graph)
            program = upstream(graph, example_inputs)  # Inductor's options are in force around the build
            if inductor.cache_hits() > hits_before:
                self.reused = "generated code found in Inductor's cache on disk"
            seconds = time.perf_counter() - start
            self.note(Engine(inputs, report.opt_source(inputs, self.opt_source), operators, seconds))
            return program

        return compile_graph

    def package(self, exported: torch.export.ExportedProgram, package: Package) -> Program:
        """Compile an exported program ahead of time with `package`, and note the result."""
        state.refuse_writes(self.case.name, exported)
        start = time.perf_counter()
        if self.backend == "inductor":
            program = self._package_in_a_file(exported, package)
        else:
            program = package(exported, self.backend, self.case.device)
            self.left_to_pytorch = tuple(sorted(report.operator_names(exported.graph)))
            self.serialize = functools.partial(_serialized, exported)
        if owner := _class_of_the_result(exported.call_spec.out_spec):
            self.serialize = functools.partial(_refuse_to_serialize, owner)
        inputs, operators = report.exported_inputs(exported, self.case), report.call_functions(exported.graph)
        self.note(Engine(inputs, self.opt_source, operators, time.perf_counter() - start))
        return program

    def _package_in_a_file(self, exported: torch.export.ExportedProgram, package: Package) -> Program:
        """Let `package` write a file of this build alone, or copy and load the file that an earlier kernel wrote."""
        folder = Path(tempfile.mkdtemp(prefix="tutorial_lib-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        file = folder / "model.pt2"
        policy = package_cache.current_policy()
        key = None if policy == "off" else package_cache.key(self.path, exported, self.case, self.options)
        cached = package_cache.find(key) if key and policy == "reuse" else None
        if cached:
            shutil.copyfile(cached.file, file)
            self.reused = cached.built
            program = inductor.load(file, self.case.device)
        else:
            stage(f"compiling {self.path} ahead of time")
            start = time.perf_counter()
            numbers = inductor.numbers_metadata(exported)
            with inductor.nothing_left_by_a_failed_load(file), inductor.patched(numbers):
                program = package(exported, self.backend, self.case.device, str(file))
            if numbers:
                program = inductor.with_numbers(program)
            problem = package_cache.keep(key, file, time.perf_counter() - start) if key else None
            if problem:
                self.notes += (problem,)
        self.artefact_bytes = file.stat().st_size
        self.left_to_pytorch = inductor.library_calls(file)
        self.serialize = file.read_bytes
        return program

    def finish(self, program: Program) -> Compiled:
        """The program with its range check and its report.

        Raises
        ------
        BuildError
            If no engine was built, or if the program is wrong at an end of its range.
        """
        if not self.engines:
            why = explain_no_engine(self.case) if self.path == "jit" else None
            reason = f" {advice(why)}" if why and why.translated else ""
            raise BuildError(
                f"{self.path} with {self.backend} built no engine: the model would run in PyTorch.{reason}"
            )
        if self.backend == "tensorrt" and isinstance(program, torch.fx.GraphModule):  # jit notes it graph by graph
            self.left_to_pytorch = tensorrt.left_to_pytorch(program)
            self.serialize = functools.partial(tensorrt.saved, program, self.case)
            if self.case.profiles:
                tensorrt.select_profiles(program)
        size = self.artefact_bytes if self.artefact_bytes is not None else tensorrt.artefact_bytes(self.engines)
        packages = openvino.PACKAGES if self.backend == "openvino" else ("triton", *tensorrt.PACKAGES)
        build = Build(
            case=self.case.name,
            path=self.path,
            backend=self.backend,
            device=report.device_name(self.case.device),
            versions=report.versions(*packages),
            options=self.options,
            seconds=time.perf_counter() - self.started,
            artefact_bytes=size,
            engines=tuple(self.engines),
            left_to_pytorch=self.left_to_pytorch,
            reused=self.reused,
            notes=(*self.notes, *self._graph_break_notes(), *self._opt_notes()),
        )
        compiled = Compiled(self.case, program, build, self.engines, self.compiling, self.serialize)
        self.sealed = True
        stage(f"checking {self.path} at the ends of its range")
        try:
            result = corners.check_corners(self.case, compiled, (Recompile,), len(self.engines))
        except corners.WrongAtCorner as error:
            if error.__cause__ and (explanation := explain(error.__cause__)).kind == "number from a tensor":
                failure = BuildError(f"the {self.path} path cannot run: {advice(explanation)}")
                failure.explanation = explanation
                raise failure from error.__cause__
            subject = "" if str(error).startswith(self.case.name) else f"the {self.path} path "
            reason = ""
            if self.kept_by_tracing:
                reason = (
                    " Tracing, which OpenVINO's input path does, kept what Python decided for the example "
                    f"({self.kept_by_tracing})."
                )
            raise BuildError(f"{subject}{error}{reason}") from error.__cause__
        self.finished = True
        seconds = time.perf_counter() - self.started
        return compiled.noting(seconds=seconds, checked=result.checked, not_checked=result.not_checked)

    def _opt_notes(self) -> tuple[str, ...]:
        """A note for each opt that is not as it was typed; the profiles of an exported program have theirs."""
        if self.case.profiles and self.path == "export":
            return ()
        return tuple(
            f"{dim.name}: opt is {dim.traced}, not {dim.opt}, since torch turns a dimension traced at 1 into a constant"
            for dim in self.case.dims.values()
            if dim.traced != dim.opt
        )

    def _is_in_pieces(self) -> bool:
        """Whether Dynamo cut the model: it gave more graphs than sizes need, or one that takes another one's result."""
        takes_a_result = any(i.kind == "intermediate" for engine in self.engines for i in engine.inputs)
        return takes_a_result or len(self.engines) > len(shapes.first_calls(self.case.dims))

    def _why_not_compiled(self) -> str:
        """What a call needs that the build did not compile; Dynamo's guard comes after it."""
        if not self._is_in_pieces():
            return "this call would compile another engine, inside the range it was built for"
        return (
            "the model does not compile in one piece, and this call takes a way between the pieces that no call of the "
            "build took, as at a branch on values; write the branch with torch.where, or give the Case examples that "
            "take every way"
        )

    def _graph_break_notes(self) -> tuple[str, ...]:
        if self.path != "jit" or not self._is_in_pieces():
            return ()
        sizes = len(shapes.first_calls(self.case.dims))
        return (
            f"{len(self.engines)} engines for {sizes} size{'s' if sizes > 1 else ''}: the model does not compile "
            "in one piece, and Python runs between the pieces; of branches on values, only those of the examples "
            "are built",
        )


@contextlib.contextmanager
def _history_of_sizes(sizes_seen: Any) -> Iterator[None]:
    """Compile as in a process of its own, where Dynamo has seen the sizes of this program's calls and no others.

    It makes a dimension dynamic that had two sizes, also for the next program of the same code, so what a program
    with graph breaks serves would depend on what was built before. The process's own history is put back afterwards.
    """
    with mock.patch.object(pgo, "_CODE_STATE", sizes_seen), mock.patch.object(pgo, "_INIT_CODE_STATE", None):
        yield


def forward_of_its_own(case: Case) -> Program:
    """``forward(input_0, input_1, ...)``: the case's model behind a function that Dynamo has not seen before.

    Dynamo stores its graphs, their number and the sizes it has seen with the code that it compiles. If that were the
    model's own ``forward``, builds of one class would share them: a second build with other fixed sizes would come
    out dynamic, and the ninth would not be compiled at all. A ``torch.fx`` graph that only calls the model has code
    of its own. Its arguments have names, because Torch-TensorRT 2.11 does not find the sizes of an input that comes
    as one of ``*inputs``.
    """
    graph = torch.fx.Graph()
    inputs = tuple(graph.placeholder(f"input_{index}") for index in range(len(case.inputs)))
    graph.output(graph.call_module("model", inputs))
    return torch.fx.GraphModule({"model": case.model}, graph).forward


class CompilePath(Protocol):
    """A path as readers call it."""

    def __call__(self, case: Case, backend: str = "auto", options: Options = None) -> Compiled:
        """Compile the case's model for its ranges."""


_current: ContextVar[Job | None] = ContextVar("current", default=None)


def compile_path(opt: str) -> Callable[[PathFunction], CompilePath]:
    """Decorate a function of upstream calls, ``path(model, case, backend, options)``, with the frame of a build.

    Readers call the result as ``path(case, backend="auto", options=None)`` and get a :class:`Compiled`. Its report
    says that an engine's opt came from `opt`.
    """

    def decorate(function: PathFunction) -> CompilePath:
        def path(case: Case, backend: str = "auto", options: Options = None) -> Compiled:
            """Compile.

            Raises
            ------
            BackendUnavailable, OptionError
                If the backend or an option does not exist here.
            BuildError
                If the model keeps state, the compiler fails, the program is wrong at an end of its range, or the
                engines of the backend cannot have the case's profiles.
            """
            if isinstance(case, Case) and case.profiles:
                name, _ = backends.choose(backend, case.device)
                if name != "tensorrt" or function.__name__ == "jit":
                    cases = map(case.at_profile, range(len(case.profiles)))
                    return routed(case, [path(each, backend, options) for each in cases])
                if reason := tensorrt.why_no_profiles(case, function.__name__):
                    raise BuildError(reason)
            with _building(function.__name__, case, backend, options, opt) as job:
                return job.finish(job.build(function))

        signature = inspect.signature(path)
        functools.update_wrapper(path, function)  # so that inspect.getsource shows the upstream calls
        path.__signature__ = signature  # type: ignore[attr-defined]
        return path

    return decorate


def packaging(package: Package) -> Package:
    """Decorate the function that compiles an exported program ahead of time: during a build, its job takes notes."""

    @functools.wraps(package)
    def noted(exported: torch.export.ExportedProgram, *args: Any) -> Program:
        job = _current.get()
        return job.package(exported, package) if job else package(exported, *args)

    return noted


@contextlib.contextmanager
def _building(path: str, case: Case, backend: str, options: Options, opt_source: str) -> Iterator[Job]:
    """The frame of every build: choose the backend, take the lock, and turn failures into one sentence."""
    if not isinstance(case, Case):
        raise ShapeError(f"paths.{path} got a {type(case).__name__}; give it a Case, the model with its inputs.")
    name, passed_over = backends.choose(backend, case.device)
    with precision.tf32(case.allows_tf32):
        settings = backends.settings(name, case.device, options, case.precision)
    problem = inductor_cache.problem()
    notes = (*passed_over, str(problem)) if problem and name == "inductor" else passed_over
    job = Job(case, path, name, settings, notes, opt_source, frozenset(options or ()))
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
        explanation = explain_failure(error, job.case, job.path)
        reason = advice(explanation) if explanation.translated else sentence(inner)
        failure = BuildError(f"{job.path} with {job.backend} could not compile {job.case.name}: {reason}")
        failure.explanation = explanation if explanation.translated else None
    failure.engines = tuple(job.engines)
    return failure


def advice(explanation: Explanation) -> str:
    """Why something failed, and what to do with this package."""
    return f"{explanation.cause} {explanation.fix_here or explanation.fix}"


def _class_of_the_result(spec: pytree.TreeSpec | None) -> str | None:
    """The first class in a result that pytree knows only where the library of that class is imported."""
    if spec is None or spec.is_leaf():
        return None
    if getattr(spec.type, "__module__", "builtins").partition(".")[0] not in ("builtins", "collections", "torch"):
        return f"{spec.type.__module__}.{spec.type.__qualname__}"
    return next(filter(None, map(_class_of_the_result, spec.children())), None)


def _refuse_to_serialize(owner: str) -> bytes:
    raise NotSerializable(
        f"it returns a {owner}, which a process without that library cannot make: return a tuple or a dict of tensors"
    )


def _serialized(exported: torch.export.ExportedProgram) -> bytes:
    buffer = io.BytesIO()  # given a file, torch's writer ends the process when the disk is full
    torch.export.save(exported, buffer)
    return buffer.getvalue()
