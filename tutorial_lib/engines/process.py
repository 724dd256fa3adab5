"""Runs a preview in a process of its own, and turns whatever happens to that process into one sentence."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from tutorial_lib import tensorrt
from tutorial_lib.engines import frontend, install
from tutorial_lib.engines.errors import EngineProcessError
from tutorial_lib.engines.record import EngineReport
from tutorial_lib.models import Case
from tutorial_lib.paths import PATHS
from tutorial_lib.shapes import ShapeError

SECONDS = 120
Sizes = int | Mapping[str, int]


def preview(
    case: Case,
    path: str,
    calls: Sequence[Sizes] = (),
    options: Mapping[str, Any] | None = None,
    seconds: float = SECONDS,
) -> EngineReport:
    """Which engines TensorRT would be asked to build for `case` on one path, and what each call would do.

    Runs Torch-TensorRT's own tracing, lowering and partitioning in another process; no GPU and no
    TensorRT is needed. Where TensorRT works, the same code builds real engines instead.

    Parameters
    ----------
    case : Case
        The model and its ranges. The model's class has to be in a module that can be imported.
    path : str
        ``jit``, ``input`` or ``export``.
    calls : sequence of int or dict
        Sizes to call the compiled model with afterwards, in order, as in :meth:`Case.sizes`. They go
        to the bare program, past this package's guard; the record says what the guard would do.
    options : dict, optional
        Settings of Torch-TensorRT, over this package's defaults.
    seconds : float
        Time limit for the whole process.

    Returns
    -------
    EngineReport
        Also if the build fails: its ``failed`` then says why.

    Raises
    ------
    EnginesUnavailable
        If something is missing here; the message says how to get it.
    EngineProcessError
        If the process crashed, was killed or took too long.
    OptionError, ShapeError
        If Torch-TensorRT does not have an option, or a size cannot be used.
    """
    if path not in PATHS:
        raise ShapeError(f"there is no path {path!r}; use {', '.join(PATHS)}.")
    for size in calls:
        case.sizes(size)  # a typing error need not wait for a process
    real = tensorrt.why_not(torch.device("cuda")) is None
    request = {
        "frontend": None if real else install.located(),
        "real": real,
        "device": "cuda" if real else "cpu",
        "path": path,
        "calls": list(calls),
        "options": options,
        "seconds": seconds,
        "allow_tf32": torch.backends.cuda.matmul.allow_tf32,
    }
    with tempfile.TemporaryDirectory(prefix="tutorial_lib-") as name:
        folder = Path(name)
        (folder / "request.pickle").write_bytes(pickle.dumps(request))
        _save(case, folder / "case.pt")
        ended = _run(folder, path, seconds, real)
        try:
            kind, value = pickle.loads((folder / "answer.pickle").read_bytes())
        except FileNotFoundError:
            raise EngineProcessError(f"the preview of {path} {ended} before it could answer.") from None
    if kind == "raise":
        raise value
    if kind == "error":
        raise EngineProcessError(f"the preview of {path} failed: {value}")
    return value


def previews(
    case: Case,
    paths: Sequence[str] = tuple(PATHS),
    calls: Sequence[Sizes] = (),
    options: Mapping[str, Any] | None = None,
    seconds: float = SECONDS,
) -> tuple[EngineReport, ...]:
    """:func:`preview` of several paths, two at a time, each in its own process."""
    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(lambda path: preview(case, path, calls, options, seconds), paths))


def _save(case: Case, path: Path) -> None:
    here = {type(m) for m in case.model.modules() if type(m).__module__ == "__main__"}
    if here:
        names = ", ".join(sorted(kind.__name__ for kind in here))
        raise ShapeError(
            f"{names} is defined in this notebook or script, where the preview's process cannot import it; "
            f"put it into a module (a .py file) and import it from there."
        )
    try:
        torch.save(case.to("cpu") if case.device.type != "cpu" else case, path)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ShapeError(f"{case.name} cannot be sent to the preview's process ({error}).") from error


def environment(gpu: bool = True) -> dict[str, str]:
    """The environment of a process that imports what this one can import; without `gpu`, it sees no GPU."""
    hidden = {} if gpu else frontend.HIDDEN
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **hidden}


def _run(folder: Path, path: str, seconds: float, real: bool) -> str:
    """Run the process to its end; how it ended, for the reader."""
    command = [sys.executable, "-m", "tutorial_lib.engines.child", str(folder)]
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(gpu=real),
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise EngineProcessError(
                f"the preview of {path} took longer than {seconds:g} s and was stopped; allow more with seconds=."
            ) from None
        finally:
            if process.poll() is None:  # also if this process is interrupted
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code < 0:
        memory = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"was ended by {signal.Signals(-code).name}{memory}"
    lines = [line for line in (folder / "output.txt").read_text(errors="replace").splitlines() if line.strip()]
    return f"ended with exit code {code} ({lines[-1].strip()[:200] if lines else 'no output'})"
