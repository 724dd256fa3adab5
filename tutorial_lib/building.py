"""The frame that every build runs in: one at a time, gradients off, settings in force, engines noted."""

import contextlib
import functools
import io
import itertools
import re
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

from tutorial_lib import agreement, backends, convolutions, inductor, precision, record, shapes, store, tensorrt
from tutorial_lib.compiled import LOCK, Compiled, Recompile
from tutorial_lib.explain import Explanation, explain
from tutorial_lib.models import Case
from tutorial_lib.record import Build, Engine, EngineInput
from tutorial_lib.shapes import ShapeError
from tutorial_lib.stages import stage

_numbers = itertools.count()

if hasattr(torch._C, "_ensureCUDADeviceGuardSet") and not torch.cuda.is_available():
    # A torch that is built with CUDA and finds no GPU puts a device guard in place when it first traces.
    # Done in one thread while another one works, that ends the process, so it is done here.
    torch._C._ensureCUDADeviceGuardSet()


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
    native: Callable[[], bytes] | None = None
    reused: str | None = None
    started: float = field(default_factory=time.perf_counter)
    finished: bool = False

    def __post_init__(self) -> None:
        self.names = {spec.name: (spec.name, "data") for spec in self.case.inputs}

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
                fresh = {"force_disable_caches": True} if store.chosen() == "fresh" else {}
                stack.enter_context(inductor.patched({**fresh, **self.options}))
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

    @functools.cached_property
    def model(self) -> Callable[..., Any]:
        """The case's model behind a function of this build alone, for ``torch.compile``.

        Dynamo keeps its graphs, their number and its memory of sizes with the code that it compiles.
        Were that the model's own ``forward``, then builds of one class would meet there: a second
        build with other fixed sizes would come out dynamic, and the ninth would not be compiled at all.
        """
        # Torch-TensorRT 2.11 finds an input's sizes only by the name of a plain argument, so none may be ``*inputs``.
        arguments = ", ".join(f"input_{place}" for place in range(len(self.case.inputs)))
        forward = eval(f"lambda model: lambda {arguments}: model({arguments})")(self.case.model)
        forward.__code__ = forward.__code__.replace(co_name=f"forward_{next(_numbers)}")
        return forward

    def for_the_whole_range(self, build: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """Call `build`, and if that fails by a limit that Inductor's padding may have set, again without it.

        For a GPU, Inductor pads the odd sizes of a matrix product where it expects that to pay. In torch 2.11 it
        asks so with the symbol of a dynamic size (``is_mm_compute_bound`` in ``torch/_inductor/fx_passes/pad_mm.py``;
        2.13 asks with opt), and the answer becomes a limit of that size, which no line of the model explains.
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
        del self.model  # Dynamo remembers what it met in the first one
        with inductor.patched({"shape_padding": False}):
            return build()

    def watched(self, name: str) -> Callable[..., Any]:
        """Backend `name` for ``torch.compile``, taking note of every graph it is given to compile.

        Once the build is over it refuses to compile, so that no call compiles unseen.
        """
        upstream = torch._dynamo.lookup_backend(name)
        keywords = {"options": self.options} if name == "tensorrt" else {}

        def compile_graph(graph: torch.fx.GraphModule, example_inputs: list[Any], **_: Any) -> Any:
            if self.sealed:
                raise Recompile("this call would compile another engine, inside the range it was built for")
            stage(f"compiling {self.path}, engine {len(self.engines) + 1}")
            start, known = time.perf_counter(), len(self.engines)
            placeholders, operators = _graph_inputs(graph, self.case), record.call_functions(graph.graph)
            inputs = tuple(i for i in placeholders if i is not None)
            if name == "tensorrt":
                self.names.update(tensorrt.graph_names(placeholders))
            cached = inductor.cache_hits()
            program = upstream(graph, example_inputs, **keywords)
            if inductor.cache_hits() > cached:
                self.reused = "generated code found in Inductor's cache on disk"
            if name != "tensorrt":
                seconds = time.perf_counter() - start
                self.note(Engine(inputs, record.opt_source(inputs, self.opt_source), operators, seconds))
                return program
            # tensorrt.observed() noted the engines; without any, the program is PyTorch under another name
            if len(self.engines) == known:
                shown = "; ".join(str(i) for i in inputs if i.kind == "data")
                raise BuildError(f"jit with tensorrt built no engine for {shown}: that graph would run in PyTorch.")
            outside = tensorrt.left_to_pytorch(program) if isinstance(program, torch.fx.GraphModule) else ()
            self.left_to_pytorch = tuple(sorted({*(self.left_to_pytorch or ()), *outside}))
            return program

        return compile_graph

    def package(self, exported: torch.export.ExportedProgram) -> Callable[..., Any]:
        """Compile an exported program ahead of time with this job's backend."""
        start = time.perf_counter()
        if self.backend == "eager":
            program: Callable[..., Any] = exported.module()
            self.left_to_pytorch = tuple(sorted(record.operator_names(exported.graph)))
            self.native = functools.partial(_saved, exported)
        else:
            folder = Path(tempfile.mkdtemp(prefix="tutorial_lib-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self.artefact = folder / "model.pt2"
            program = self._package(exported, self.artefact)
            self.left_to_pytorch = inductor.library_calls(self.artefact)
            self.native = self.artefact.read_bytes
        operators = record.call_functions(exported.graph)
        self.note(Engine(_exported_inputs(exported), self.opt_source, operators, time.perf_counter() - start))
        return program

    def _package(self, exported: torch.export.ExportedProgram, artefact: Path) -> Callable[..., Any]:
        """Compile `exported` into the file `artefact`, or copy the package that an earlier kernel left."""
        name = None if store.chosen() == "off" else store.key(self.path, exported, self.case, self.options)
        kept = store.find(name) if name and store.chosen() == "reuse" else None
        if kept:
            shutil.copyfile(kept.file, artefact)
            self.reused = str(kept)
            return inductor.load(artefact, self.case.device)
        stage(f"compiling {self.path} ahead of time")
        start = time.perf_counter()
        program = inductor.package(exported, artefact, self.options, self.case.device)
        if name:
            problem = store.keep(name, artefact, time.perf_counter() - start)
            self.notes += (problem,) if problem else ()
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
            self.native = functools.partial(tensorrt.saved, program, self.case)
        if self.path != "jit":
            stage(f"checking {self.path} at size 1")
            self._check_size_one(program)
        size = self.artefact.stat().st_size if self.artefact else tensorrt.artefact_bytes(self.engines)
        build = Build(
            case=self.case.name,
            path=self.path,
            backend=self.backend,
            device=record.device_name(self.case.device),
            versions=record.versions("triton", *tensorrt.PACKAGES),
            options=self.options,
            seconds=time.perf_counter() - self.started,
            artefact_bytes=size,
            engines=tuple(self.engines),
            left_to_pytorch=self.left_to_pytorch,
            reused=self.reused,
            notes=(*self.notes, *self._break_notes(), *record.opt_notes(list(self.case.dims.values()))),
        )
        self.finished = True
        return Compiled(self.case, program, build, self.engines, self.compiling, self.native)

    def _break_notes(self) -> tuple[str, ...]:
        sizes = len(shapes.first_calls(self.case.dims))
        if self.path != "jit" or len(self.engines) <= sizes:
            return ()
        return (
            f"{len(self.engines)} engines for {sizes} size{'s' if sizes > 1 else ''}: the model does not compile "
            "in one piece, and Python runs between the pieces",
        )

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
    with precision.tf32(case.allows_tf32):
        settings = backends.settings(name, case.device, options)
    job = Job(case, path, name, settings, passed, opt_source)
    try:
        with job.compiling():
            yield job
    except ShapeError:
        raise
    except Exception as error:
        inner = getattr(error, "inner_exception", None) or error
        failure = inner if isinstance(inner, BuildError) else None
        if failure is None:
            found = explain(error)
            if path == "jit":  # where Job.model has numbered the inputs
                cause = re.sub(r"\binput_(\d+)\b", lambda place: case.inputs[int(place[1])].name, found.cause)
                found = replace(found, cause=cause)
            told = f"{found.cause} {found.fix}" if found.translated else sentence(inner)
            failure = BuildError(f"{path} with {name} could not compile {case.name}: {told}")
            failure.explanation = found if found.translated else None
        failure.engines = tuple(job.engines)
        raise failure from (None if failure is error else error)


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
        value, source = node.meta.get("example_value"), getattr(node.meta.get("grapharg"), "source", None)
        if isinstance(value, torch.SymInt):
            low, opt, high = record.bounds(value)
            inputs.append(EngineInput(node.name, "int", (low,), (opt,), (high,), kind="shape"))
        elif isinstance(value, torch.Tensor):
            where = getattr(source, "name", "")
            argument = re.fullmatch(r"L\['input_(\d+)'\]", where() if callable(where) else where)
            name, kind = (case.inputs[int(argument[1])].name, "data") if argument else (node.name, "weight")
            dtype = str(value.dtype).removeprefix("torch.")
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
