"""Runs the reader's own Torch-TensorRT calls in the preview's world, with nothing of this package around them.

``python -m tutorial_lib.engines.bare`` is the process in which they run. It starts with the first
:func:`run_inside`, stays for the next ones, and ends with the process that started it.
"""

import contextlib
import inspect
import logging
import os
import pickle
import select
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, Any

import torch

from tutorial_lib import tensorrt
from tutorial_lib.engines import frontend, install, stub
from tutorial_lib.engines.errors import EngineProcessError, EnginesUnavailable
from tutorial_lib.engines.install import Frontend
from tutorial_lib.engines.process import SECONDS, environment
from tutorial_lib.models import Case
from tutorial_lib.record import Engine
from tutorial_lib.shapes import ShapeError


@dataclass(frozen=True)
class FunctionReport:
    """What a function's calls asked TensorRT for. A preview, not a TensorRT result.

    Attributes
    ----------
    engines : tuple of Engine
        In the order in which they were asked for. Inputs have Torch-TensorRT's names; their kind is
        ``data`` also for weights, which nothing tells from data here, or ``shape``.
    result : object
        What the function returned.
    error : str or None
        The type and message of the exception that ended it.
    warnings : tuple of str
        What Torch-TensorRT logged as a warning or worse.
    version : str
        Torch-TensorRT's.
    """

    engines: tuple[Engine, ...]
    result: Any
    error: str | None
    warnings: tuple[str, ...]
    version: str

    def __str__(self) -> str:
        count = f"{len(self.engines)} engine{'s' if len(self.engines) != 1 else ''}"
        lines = [f"PREVIEW: Torch-TensorRT {self.version} asks for {count}"]
        for number, engine in enumerate(self.engines, start=1):
            lines.append(f"  engine {number}: {engine.operators} operators")
            lines += [f"    {one}" for one in engine.inputs]
        lines += [f"  warning: {text}" for text in self.warnings]
        return "\n".join([*lines, *([f"  error: {self.error}"] if self.error else [])])


def run_inside(function: Callable[..., Any], *args: Any, seconds: float = SECONDS) -> FunctionReport:
    """Run `function` where ``import torch_tensorrt`` works without TensorRT, and note the engines it asks for.

    The reader's own process stays as it is: the function's source goes to another one. So it has to
    be a ``def`` that imports what it uses (``torch`` is there); arguments and result have to be
    picklable. Nothing is compiled there yet when it starts, and gradients are off.

    Raises
    ------
    EnginesUnavailable
        If something is missing here; the message says how to get it.
    EngineProcessError
        If the process crashed or took longer than `seconds`.
    ShapeError
        If the function or its arguments cannot be sent.
    """
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise ShapeError(f"the source of {function!r} cannot be read ({error}); write it as a def.") from error
    if not source.startswith("def "):
        raise ShapeError(f"{source.splitlines()[0]!r} is not a function of its own; write it as a def.")
    sent = tuple(one.to("cpu") if isinstance(one, Case) else one for one in args)  # there is no GPU there
    try:
        request = pickle.dumps((source, function.__name__, sent))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ShapeError(
            f"the arguments of {function.__name__} cannot be sent to the preview's process ({error})."
        ) from error
    with _lock:
        kind, value = _ask(request, function.__name__, seconds)
    if kind == "error":
        raise EngineProcessError(f"the preview of {function.__name__} failed: {value}")
    return value


_lock = threading.Lock()
_running: list[subprocess.Popen[bytes]] = []


def _ask(request: bytes, name: str, seconds: float) -> tuple[str, Any]:
    process = _started()
    assert process.stdin
    assert process.stdout
    ended = None
    try:
        pickle.dump(request, process.stdin)
        process.stdin.flush()
        if select.select([process.stdout], [], [], seconds)[0]:
            return pickle.load(process.stdout)
        ended = f"took longer than {seconds:g} s and was stopped"
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        pass
    except BaseException:  # an interrupt: the answer would be taken for that of the next question
        _stop()
        raise
    code = _stop()
    raise EngineProcessError(f"the preview of {name} {ended or f'ended its process with exit code {code}'}.") from None


def _started() -> subprocess.Popen[bytes]:
    if _running and _running[0].poll() is None:
        return _running[0]
    _running.clear()
    frontend = install.located()
    stub.built(frontend.tensorrt_major)  # here, so that what is missing is said here
    process = subprocess.Popen(
        [sys.executable, "-m", "tutorial_lib.engines.bare"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(gpu=False),
        start_new_session=True,
    )
    assert process.stdin
    pickle.dump(frontend, process.stdin)
    _running.append(process)
    return process


def _stop() -> int:
    process = _running.pop()
    assert process.stdout
    with contextlib.suppress(subprocess.TimeoutExpired):
        if select.select([process.stdout], [], [], 0)[0]:  # its end, or an answer that nobody waits for
            process.wait(1)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode


def _serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there are no more questions: then the reader's process has ended."""
    frontend: Frontend = pickle.load(questions)
    problem: Exception | None = None
    try:
        frontend.load(frontend)
    except Exception as error:
        problem = error
    while True:
        try:
            request = pickle.load(questions)
        except EOFError:
            return
        try:
            if problem:
                raise problem
            answer = pickle.dumps(("asked", _asked(*pickle.loads(request))))
        except Exception as error:
            answer = pickle.dumps(("error", f"{type(error).__name__}: {error}"))
        answers.write(answer)
        answers.flush()


def _asked(source: str, name: str, args: tuple[Any, ...]) -> FunctionReport:
    """Run a function from its source, as if nothing had been compiled in this process before."""
    torch._dynamo.reset()
    frontend.set_engine_build(frontend.stand_in)
    file = f"<{name}>"
    names: dict[str, Any] = {"torch": torch}
    exec(compile(source, file, "exec", dont_inherit=True), names)
    engines: list[Engine] = []
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("torch_tensorrt")
    logger.addHandler(handler)
    result = error = None
    try:
        with warnings.catch_warnings(), torch.no_grad(), tensorrt.observed(engines.append, "", {}):
            warnings.simplefilter("ignore")
            result = names[name](*args)
    except Exception as raised:
        inner = getattr(raised, "inner_exception", None) or raised
        error = f"{type(inner).__name__}: {inner}"
    finally:
        logger.removeHandler(handler)
    return FunctionReport(tuple(map(_plain, engines)), result, error, tuple(messages), tensorrt.upstream().__version__)


def _plain(engine: Engine) -> Engine:
    inputs = tuple(replace(i, kind="data") if i.kind == "intermediate" else i for i in engine.inputs)
    return replace(engine, inputs=inputs)


def why_not() -> str | None:
    """What is missing here for :func:`run_inside`, as a sentence; None if nothing is."""
    try:
        stub.built(install.located().tensorrt_major)
    except EnginesUnavailable as error:
        return str(error)
    return None


if __name__ == "__main__":
    from tutorial_lib.engines import bare  # the classes that are pickled belong to this module, not to __main__

    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what the libraries print goes nowhere
        bare._serve(sys.stdin.buffer, answers)
