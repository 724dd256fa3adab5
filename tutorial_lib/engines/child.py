"""The preview's own process: reads a request, runs one path for real, writes the answer.

Started by :mod:`tutorial_lib.engines.process` as ``python -m tutorial_lib.engines.child FOLDER``.
"""

import faulthandler
import pickle
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tutorial_lib import _files
from tutorial_lib.backends import BackendUnavailable, OptionError
from tutorial_lib.building import BuildError, first_line
from tutorial_lib.compiled import Compiled
from tutorial_lib.engines import frontend
from tutorial_lib.engines.errors import EnginesUnavailable
from tutorial_lib.engines.record import Call, EngineReport, differences, numbered, requested
from tutorial_lib.guard import OutOfRange
from tutorial_lib.models import Case
from tutorial_lib.paths import PATHS
from tutorial_lib.record import Build, versions
from tutorial_lib.shapes import ShapeError

EXPECTED = (EnginesUnavailable, OptionError, ShapeError, BackendUnavailable)
"""Errors that reach the reader as they are."""


def main(folder: Path) -> None:
    """Answer the request in `folder`."""
    request = pickle.loads((folder / "request.pickle").read_bytes())
    faulthandler.dump_traceback_later(request["seconds"] + 30, exit=True)  # if the parent is gone by then
    try:
        answer: tuple[str, Any] = ("preview", _answer(folder, request))
    except EXPECTED as error:
        answer = ("raise", error)
    except Exception as error:
        answer = ("error", f"{type(error).__name__}: {first_line(error)}")
    _files.save(folder / "answer.pickle", pickle.dumps(answer))


def _answer(folder: Path, request: Mapping[str, Any]) -> EngineReport:
    library = "libnvinfer of this machine" if request["real"] else frontend.load(request["frontend"])
    torch.backends.cuda.matmul.allow_tf32 = request["allow_tf32"]
    case: Case = torch.load(folder / "case.pt", weights_only=False).to(request["device"])
    return previewed(case, request["path"], request["calls"], request["options"], request["real"], library)


def previewed(
    case: Case,
    path: str,
    calls: Sequence[int | Mapping[str, int]],
    options: Mapping[str, Any] | None,
    real: bool,
    library: str,
) -> EngineReport:
    """Run one path and the calls in this process, after :func:`tutorial_lib.engines.frontend.load`."""
    start = time.perf_counter()
    failed: str | None = None
    build: Build | None = None
    done: list[Call] = []
    ran: list[int] = []
    _watch_engines(ran)
    try:
        compiled = PATHS[path](case, backend="tensorrt", options=options)
        done.extend(_calls(compiled, calls, ran))
        build = compiled.build
        made = build.engines
    except BuildError as error:
        failed, made = str(error), error.engines
    found = versions("torch-tensorrt", "tensorrt", "tensorrt-cu13-bindings")
    return EngineReport(
        case=case.name,
        path=path,
        requested=requested(case),
        engines=made,
        calls=tuple(done),
        left_to_pytorch=build.left_to_pytorch if build else None,
        failed=failed,
        notes=(*(build.notes if build else ()), *differences(case, made, found["torch-tensorrt"])),
        real=real,
        library=library,
        versions=found,
        options=dict(build.options if build else options or {}),
        seconds=time.perf_counter() - start,
    )


def _watch_engines(ran: list[int]) -> None:
    """Add an engine's number, counted from 1, to `ran` whenever it runs."""
    import torch_tensorrt.dynamo._compiler as compiler

    convert = compiler.convert_module
    count = 0

    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        number = count
        engine = convert(*args, **kwargs)
        engine.register_forward_pre_hook(lambda *_: ran.append(number))
        return engine

    frontend.set_engine_build(watched)


def _calls(compiled: Compiled, calls: Sequence[int | Mapping[str, int]], ran: list[int]) -> Iterator[Call]:
    for size in calls:
        sizes = compiled.case.sizes(size)
        inputs = compiled.case.example(sizes)
        known = len(compiled.build.engines)
        ran.clear()
        words = None
        try:
            _run_unguarded(compiled, inputs)
        except Exception as error:
            inner = getattr(error, "inner_exception", None) or error
            words, who = _words(inner, compiled, ran), _who(inner, ran)
        built = tuple(range(known + 1, len(compiled.build.engines) + 1))
        numbers = tuple(dict.fromkeys(ran))
        if words is None:
            outcome = "built" if built else "served"
            who = numbered(numbers) if numbers else "PyTorch, without any engine"
        else:
            outcome = "refused"
        yield Call(sizes, outcome, who, words, numbers, built, _guard(compiled, inputs))


def _run_unguarded(compiled: Compiled, inputs: tuple[torch.Tensor, ...]) -> Any:
    """Call the program as if it had been compiled without this package: nothing checks the inputs first."""
    if compiled.build.path == "jit":
        with compiled._compiling():
            return compiled._program(*inputs)
    with torch.no_grad():
        return compiled._program(*inputs)


def _words(error: BaseException, compiled: Compiled, ran: Sequence[int]) -> str:
    if isinstance(error, frontend.ProfileRefusal):  # in the model's names
        return f"{compiled.build.engines[ran[-1] - 1].inputs[error.place].name} {error.reason}"
    return first_line(error)


def _who(error: BaseException, ran: list[int]) -> str:
    if isinstance(error, frontend.ProfileRefusal):
        return f"the optimization profile of engine {ran[-1]}"
    if isinstance(error, BuildError):
        return "the build of a further engine"
    return f"engine {ran[-1]} ({type(error).__name__})" if ran else type(error).__name__


def _guard(compiled: Compiled, inputs: tuple[torch.Tensor, ...]) -> str | None:
    try:
        compiled._guard(inputs)
    except OutOfRange as error:
        return str(error)
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
