"""What the engines' process is asked to do: build one path of a case, or run a function of the reader's."""

import contextlib
import inspect
import io
import itertools
import logging
import pickle
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tutorial_lib.builds.backends import tensorrt
from tutorial_lib.builds.job import BuildError
from tutorial_lib.builds.program import Compiled
from tutorial_lib.builds.report import Build, Engine
from tutorial_lib.checks import corners
from tutorial_lib.checks.range_check import OutOfRange
from tutorial_lib.core.errors import first_line
from tutorial_lib.core.models import Case
from tutorial_lib.core.progress import Progress
from tutorial_lib.engines import frontend
from tutorial_lib.engines.builder import Builder, Request
from tutorial_lib.engines.report import BUILD, FRONT_END, Call, EngineReport, FunctionReport, numbered
from tutorial_lib.engines.stand_in import ProfileRefusal, StandIn
from tutorial_lib.explain.explanation import raised_from
from tutorial_lib.paths import PATHS

Sizes = int | Mapping[str, int]
_given: dict[str, types.ModuleType] = {}  # by their names, the modules that hold what came by value


@dataclass(frozen=True)
class BuildTask:
    """One path of a case, and calls afterwards. `case` is what ``torch.save`` wrote of it."""

    case: bytes
    path: str
    calls: tuple[Sizes, ...]
    options: Mapping[str, Any] | None
    target: str | None
    mode: str
    keep_plans: bool
    allow_tf32: bool
    folders: tuple[str, ...]


@dataclass(frozen=True)
class FunctionTask:
    """A function of the reader's with its arguments, as a pickle."""

    function: bytes
    mode: str
    folders: tuple[str, ...]


class Tasks:
    """Answers requests in this process, each as if nothing had been compiled in it before."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    def answer(self, payload: bytes, request: Request) -> EngineReport | FunctionReport:
        """The report on one task."""
        task: BuildTask | FunctionTask = pickle.loads(payload)
        sys.path[:] = [*dict.fromkeys([*sys.path[:1], *task.folders, *sys.path[1:]])]  # the front end stays first
        torch._dynamo.reset()
        for module in _given.values():
            vars(module).clear()
        self._builder.request = request
        with torch.no_grad():
            if isinstance(task, BuildTask):
                request.target, request.keep_plans = task.target, task.keep_plans
                return self._build(task, request)
            return self._function(task)

    def _engine_build(self, mode: str) -> Callable[..., StandIn]:
        return self._builder.convert if mode == BUILD else stand_in

    def _build(self, task: BuildTask, request: Request) -> EngineReport:
        torch.backends.cuda.matmul.allow_tf32 = task.allow_tf32
        case: Case = torch.load(io.BytesIO(task.case), weights_only=False)
        done: set[int] = set()
        for module in case.model.modules():
            _give_modules(type(module), done)
        start = time.perf_counter()
        failed: str | None = None
        log: tuple[str, ...] = ()
        build: Build | None = None
        calls: list[Call] = []
        ran: list[int] = []
        frontend.set_engine_build(_numbering(self._engine_build(task.mode), ran))
        explanation = None
        try:
            with corners.budget(0.0):  # no engine runs here, so sizes above opt have nothing to tell
                compiled = PATHS[task.path](case, backend="tensorrt", options=task.options)
            for size in task.calls:
                request.progress(Progress("calling", len(calls), len(task.calls), f"calling {task.path} at {size}"))
                calls.append(_call(compiled, size, ran))
            build = compiled.build
            engines = build.engines
        except BuildError as error:
            failed, engines, explanation = str(error), error.engines, error.explanation
            log = next((cause.log for cause in raised_from(error) if hasattr(cause, "log")), ())
        built = sum(e.plan.conversion_seconds + e.plan.build_seconds for e in engines if e.plan)
        seconds = time.perf_counter() - start
        return EngineReport.of(
            case=case,
            path=task.path,
            mode=task.mode,
            target=task.target,
            engines=engines,
            versions=self._builder.versions,
            calls=tuple(calls),
            build=build,
            failed=failed,
            explanation=explanation,
            log=log,
            options=dict(build.options if build else task.options or {}),
            seconds=seconds,
            tracing_seconds=max(0.0, seconds - built),
        )

    def _function(self, task: FunctionTask) -> FunctionReport:
        """Run a function, and note the engines that its calls have built."""
        function, args = pickle.loads(task.function)
        _give_modules(function, set())
        frontend.set_engine_build(self._engine_build(task.mode))
        engines: list[Engine] = []
        messages: list[str] = []
        result = error = None
        try:
            with _warnings_of("torch_tensorrt", messages), tensorrt.observed(engines.append, "", {}):
                result = function(*args)
        except Exception as raised:
            inner = getattr(raised, "inner_exception", None) or raised
            error = f"{type(inner).__name__}: {inner}"
        version = self._builder.versions[FRONT_END]
        return FunctionReport(tuple(map(_plain, engines)), result, error, tuple(messages), version, task.mode)


def _give_modules(value: Any, done: set[int]) -> None:
    """Put the global names of a function or class that came by value into a module, where Dynamo looks for them.

    What a reader defines in a notebook or a script is sent with the names that it uses. Its own module, often
    ``__main__``, is another one in this process, or none. It is one object for all requests, because Dynamo never looks
    for it a second time. `done` holds the ids of the namespaces that are in a module.
    """
    if isinstance(value, type):
        for method in vars(value).values():
            if inspect.isfunction(method):
                _give_modules(method, done)
    elif inspect.isfunction(value):
        namespace = value.__globals__
        name = namespace.get("__name__", "__main__")
        is_there = name in sys.modules and vars(sys.modules[name]) is namespace
        if is_there or id(namespace) in done:
            return
        done.add(id(namespace))
        sys.modules[name] = module = _given.setdefault(name, types.ModuleType(name))
        # Without the name of its file, which is not here.
        vars(module).update({key: value for key, value in namespace.items() if key != "__file__"})
        for used in list(namespace.values()):
            _give_modules(used, done)


def stand_in(module: torch.fx.GraphModule, inputs: Sequence[Any], *args: Any, **kwargs: Any) -> StandIn:
    """An engine build that builds nothing, with the signature of ``convert_module``."""
    return StandIn(module, inputs)


def _numbering(build: Callable[..., StandIn], ran: list[int]) -> Callable[..., StandIn]:
    """`build`, with engines that add their number, counted from 1, to `ran` whenever they run."""
    numbers = itertools.count(1)

    def numbered(*args: Any, **kwargs: Any) -> StandIn:
        number = next(numbers)
        engine = build(*args, **kwargs)
        engine.register_forward_pre_hook(lambda *_: ran.append(number))
        return engine

    return numbered


def _call(compiled: Compiled, size: Sizes, ran: list[int]) -> Call:
    """What one call does, at `size`, past this package's range check."""
    sizes = compiled.case.sizes(size)
    inputs = compiled.case.example(sizes)
    before = len(compiled.build.engines)
    ran.clear()
    words = None
    try:
        _run_unguarded(compiled, inputs)
    except Exception as error:
        inner = getattr(error, "inner_exception", None) or error
        words, who = _words(inner, compiled, ran), _who(inner, ran)
    built = tuple(range(before + 1, len(compiled.build.engines) + 1))
    numbers = tuple(dict.fromkeys(ran))
    if words is None:
        outcome = "built" if built else "served"
        who = numbered(numbers) if numbers else "PyTorch, without any engine"
    else:
        outcome = "refused"
    return Call(sizes, outcome, who, words, numbers, built, _range_check(compiled, inputs))


def _run_unguarded(compiled: Compiled, inputs: tuple[torch.Tensor, ...]) -> Any:
    """Call the program as if it had been compiled without this package: nothing checks the inputs first."""
    if compiled.build.path == "jit":
        with compiled._compiling():
            return compiled._program(*inputs)
    return compiled._program(*inputs)


def _words(error: BaseException, compiled: Compiled, ran: Sequence[int]) -> str:
    if isinstance(error, ProfileRefusal):  # in the model's names
        return f"{compiled.build.engines[ran[-1] - 1].inputs[error.position].name} {error.reason}"
    return first_line(error)


def _who(error: BaseException, ran: list[int]) -> str:
    if isinstance(error, ProfileRefusal):
        return f"the optimization profile of engine {ran[-1]}"
    if isinstance(error, BuildError):
        return "the build of a further engine"
    return f"engine {ran[-1]} ({type(error).__name__})" if ran else type(error).__name__


def _range_check(compiled: Compiled, inputs: tuple[torch.Tensor, ...]) -> str | None:
    try:
        compiled._guard(inputs)
    except OutOfRange as error:
        return str(error)
    return None


def _plain(engine: Engine) -> Engine:
    inputs = tuple(replace(i, kind="data") if i.kind == "intermediate" else i for i in engine.inputs)
    return replace(engine, inputs=inputs)


@contextlib.contextmanager
def _warnings_of(name: str, messages: list[str]) -> Iterator[None]:
    """Collect what a package logs as a warning or worse."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)
