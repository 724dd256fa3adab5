"""The requests a reader makes of the engines' process: build the engines of a case, or run a function there."""

import contextlib
import inspect
import io
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cloudpickle
import torch

from tutorial_lib.builds import report
from tutorial_lib.core.models import Case
from tutorial_lib.core.progress import Listener
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines import targets
from tutorial_lib.engines.errors import EngineProcessError
from tutorial_lib.engines.report import BUILD, BUILDER, FRONT_END, MODES, EngineReport, FunctionReport
from tutorial_lib.engines.tasks import BuildTask, FunctionTask, Sizes
from tutorial_lib.engines.worker import SECONDS, ProcessEnded, worker
from tutorial_lib.paths import PATHS


class CannotBeSent(ShapeError):
    """A model, a function or an argument that cannot be pickled, so another process cannot have it."""


def build(
    case: Case,
    path: str,
    calls: Sequence[Sizes] = (),
    options: Mapping[str, Any] | None = None,
    *,
    target: str | None = None,
    mode: str = BUILD,
    keep_plans: bool = False,
    seconds: float = SECONDS,
    progress: Listener | None = None,
) -> EngineReport:
    """The engines of one compile path, built by TensorRT for RTX in a process of its own. No GPU is needed.

    Parameters
    ----------
    case : Case
        The model and its ranges.
    path : str
        ``jit``, ``input`` or ``export``.
    calls : sequence of int or dict
        Sizes to call the compiled model with afterwards, in order, as in :meth:`Case.sizes`. The calls bypass this
        package's range check, and the report says what the check would do. The graphs run in PyTorch, so results and
        times are not TensorRT's.
    options : dict, optional
        Settings of Torch-TensorRT, over this package's defaults.
    target : str, optional
        A compute capability, such as ``sm89`` (:mod:`tutorial_lib.engines.targets`). Default: TensorRT's portable
        default.
    mode : str
        ``build``, or ``graph`` for the graphs and profiles without the build, which is faster.
    keep_plans : bool
        Whether each ``engine.plan.data`` holds the serialized plan, for :func:`tutorial_lib.engines.save`.
    seconds : float
        Time limit, the start of the process included.
    progress : callable, optional
        Called with :class:`~tutorial_lib.core.progress.Progress`, about ten times a second. What it raises, such as
        :class:`~tutorial_lib.core.progress.Cancelled`, ends the build.

    Returns
    -------
    EngineReport
        Also if the build fails, the model cannot be sent to the process, the process crashes, or the time is over: its
        ``failed`` then says why.

    Raises
    ------
    EnginesUnavailable
        If something is missing here; the message says how to get it.
    OptionError, ShapeError, TargetError
        If Torch-TensorRT does not have an option, a size cannot be used, or there is no such target.
    """
    return prepare(case, (path,), calls, options, target=target, mode=mode, keep_plans=keep_plans)(
        path, seconds=seconds, progress=progress
    )


def prepare(
    case: Case,
    paths: Sequence[str] = tuple(PATHS),
    calls: Sequence[Sizes] = (),
    options: Mapping[str, Any] | None = None,
    *,
    target: str | None = None,
    mode: str = BUILD,
    keep_plans: bool = False,
) -> Callable[..., EngineReport]:
    """Check a request for some paths and pickle its case, once; the returned function sends it, from any thread.

    That function is called as ``ask(path, seconds=..., progress=...)`` and returns what :func:`build` does.
    Tracing puts fake tensors into a model for a while, so nothing else may pickle it then. What was pickled before can
    be sent while this process traces. Parameters and errors are those of :func:`build`.
    """
    for path in paths:
        if path not in PATHS:
            raise ShapeError(f"there is no path {path!r}; use {', '.join(PATHS)}.")
    if mode not in MODES:
        raise ShapeError(f"there is no mode {mode!r}; use {' or '.join(MODES)}.")
    target = targets.check_target(target)
    for size in calls:
        case.sizes(size)  # a typing error need not wait for a process
    engines_process = worker()
    options = dict(options) if options else None
    cannot_be_sent, saved = "", io.BytesIO()
    try:
        with _sending(case.name):  # classes of a notebook go along by value
            torch.save(case if case.device.type == "cpu" else case.to("cpu"), saved, pickle_module=cloudpickle)
    except CannotBeSent as error:
        cannot_be_sent = str(error)
    of_all = (tuple(calls), options, target, mode, keep_plans, torch.backends.cuda.matmul.allow_tf32, _folders())

    def ask(path: str, *, seconds: float = SECONDS, progress: Listener | None = None) -> EngineReport:
        failed = cannot_be_sent
        if not failed:
            try:
                task = _pickled(BuildTask(saved.getvalue(), path, *of_all), case.name)
                answer: EngineReport = engines_process.ask(task, seconds, progress)
                return answer
            except ProcessEnded as error:
                failed = f"the process that built {path} {error}."
            except (EngineProcessError, CannotBeSent) as error:
                failed = str(error)
        frontend = engines_process.frontend
        versions = {**report.versions(), FRONT_END: frontend.torch_tensorrt, BUILDER: frontend.tensorrt_rtx}
        given = dict(options or {})
        return EngineReport.of(case, path, (), versions, mode=mode, target=target, failed=failed, options=given)

    return ask


def build_all(case: Case, paths: Sequence[str] = tuple(PATHS), *args: Any, **keywords: Any) -> tuple[EngineReport, ...]:
    """:func:`build` of several paths, one after the other in the same process."""
    return tuple(build(case, path, *args, **keywords) for path in paths)


def run_inside(function: Callable[..., Any], *args: Any, seconds: float = SECONDS, mode: str = BUILD) -> FunctionReport:
    """Run `function` where ``import torch_tensorrt`` works, and note the engines that it has built.

    The function is sent to another process with what it uses, so the reader's own stays as it is. When it starts,
    nothing is compiled there, and gradients are off.

    Parameters
    ----------
    function : callable
        Its arguments and its result have to be picklable.
    *args
        Its arguments. A :class:`Case` goes there on the CPU.
    seconds : float
        Time limit, the start of the process included.
    mode : str
        ``build``, or ``graph`` for the graphs and profiles without the build.

    Raises
    ------
    EnginesUnavailable
        If something is missing here; the message says how to get it.
    EngineProcessError
        If the process crashed or took longer than `seconds`.
    ShapeError
        If the function or its arguments cannot be sent.
    """
    name = getattr(function, "__name__", repr(function))
    if not inspect.isroutine(function):
        raise ShapeError(f"{name} is not a function; write it as a def.")
    sent = tuple(arg.to("cpu") if isinstance(arg, Case) else arg for arg in args)  # there is no GPU there
    task = FunctionTask(_pickled((function, sent), name), mode, _folders())
    try:
        return worker().ask(pickle.dumps(task), seconds)
    except ProcessEnded as error:
        raise EngineProcessError(f"the process that ran {name} {error}.") from None


def _pickled(value: Any, name: str) -> bytes:
    with _sending(name):
        return cloudpickle.dumps(value)


@contextlib.contextmanager
def _sending(name: str) -> Any:
    try:
        yield
    except Exception as error:  # pickling raises whatever the objects' own code raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if "parametrized modules" in reason:
            reason = "a layer of it is parametrized; torch.nn.utils.parametrize.remove_parametrizations makes it plain"
        raise CannotBeSent(f"{name} cannot be sent to the engines' process ({reason}).") from error


def _folders() -> tuple[str, ...]:
    """Where this process imports from now; the other one started with what was there then."""
    return tuple(filter(None, sys.path))
