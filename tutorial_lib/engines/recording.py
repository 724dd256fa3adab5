"""Engines for a notebook that has to run everywhere: built on this machine, or else read from a file beside it.

The file is written where TensorRT for RTX works, by running the notebook with ``TUTORIAL_LIB_RECORD=1``.
"""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from tutorial_lib.builds.report import Engine
from tutorial_lib.core import plain_values
from tutorial_lib.core.files import save
from tutorial_lib.core.models import Case
from tutorial_lib.core.profiles import show
from tutorial_lib.engines import install, requests
from tutorial_lib.engines.errors import EnginesUnavailable
from tutorial_lib.engines.report import BUILD, GRAPH, EngineReport, FunctionReport, engine_dict, requested
from tutorial_lib.engines.tasks import Sizes
from tutorial_lib.engines.worker import SECONDS
from tutorial_lib.paths import PATHS

T = TypeVar("T", FunctionReport, tuple[EngineReport, ...])
RECORD = "TUTORIAL_LIB_RECORD"
"""Set this variable of the environment to write the answers into the file."""
_recorded_here: dict[Path, dict[str, Any]] = {}
"""What this process recorded, by file: the recordings of one file, a notebook's and a panel's, share it."""


class Recording:
    """:func:`build_all` and :func:`run_inside` of this package, with a file to fall back on.

    Where an answer comes from the file, a printed line says so. A question that the file does not answer, because the
    reader changed it, raises :class:`EnginesUnavailable`, which says what is missing on this machine.

    Parameters
    ----------
    file : str or Path
        A JSON file.
    version : str, optional
        Major and minor of the only Torch-TensorRT that is meant, such as ``2.11``. With another torch, which goes
        with another Torch-TensorRT, nothing is run: every answer comes from the file.
    """

    def __init__(self, file: str | Path, version: str | None = None) -> None:
        self._file = Path(file)
        self._other = None
        if version and not torch.__version__.startswith(f"{version}."):
            self._other = f"Torch-TensorRT {version} goes with torch {version}, and here is {torch.__version__}."
        records = os.environ.get(RECORD) and not self._other  # what is recorded anew starts empty
        reads = self._file.is_file() and not records
        self._answers: dict[str, Any] = json.loads(self._file.read_text()) if reads else {}
        if records:
            self._answers = _recorded_here.setdefault(self._file.resolve(), self._answers)

    def __str__(self) -> str:
        missing = self._other or why_not()
        if missing is None:
            version = install.located().tensorrt_rtx
            return f"TensorRT for RTX {version} works here: it builds every engine that follows, now."
        return f"Nothing is built here: {missing}\nYou see what was recorded elsewhere, and it says so."

    def build_all(
        self,
        case: Case,
        paths: Sequence[str] = tuple(PATHS),
        calls: Sequence[Sizes] = (),
        options: Mapping[str, Any] | None = None,
        mode: str = BUILD,
        seconds: float = SECONDS,
    ) -> tuple[EngineReport, ...]:
        """:func:`tutorial_lib.engines.build_all`, or what was recorded of it."""
        ranges = ", ".join(map(str, requested(case)))
        profiles = "".join(f", profile {show(profile)}" for profile in case.profiles)
        key = f"engines: {case.name}, {ranges}{profiles}, {', '.join(paths)}, calls {list(calls)}, options {options}"
        key += f", {GRAPH}" if mode == GRAPH else ""
        make = partial(requests.build_all, case, paths, calls, options, mode=mode, seconds=seconds)
        return self._answer(key, make, tuple[EngineReport, ...])

    def run_inside(self, function: Callable[..., Any], *args: Any) -> FunctionReport:
        """:func:`tutorial_lib.engines.run_inside`, or what was recorded of it; the result has to be JSON."""
        source = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:8]
        key = f"run_inside: {function.__name__}({', '.join(map(_shown, args))}), source {source}"

        return self._answer(key, partial(requests.run_inside, function, *args), FunctionReport)

    def _answer(self, key: str, make: Callable[[], T], kind: type[T]) -> T:
        """What `make` returns, or what was recorded of it, read as a `kind`."""
        try:
            if self._other:
                raise EnginesUnavailable(self._other)
            answer = make()
        except EnginesUnavailable as error:
            if key not in self._answers:
                raise EnginesUnavailable(f"this was not recorded, and it cannot run here: {error}") from None
            recorded = self._answers[key]
            print(f"(recorded with {recorded['versions']}; not run here)")
            return plain_values.read(kind, recorded["answer"])
        if os.environ.get(RECORD):
            installed = install.located()
            versions = f"Torch-TensorRT {installed.torch_tensorrt} and TensorRT for RTX {installed.tensorrt_rtx}"
            self._answers[key] = {"versions": versions, "answer": _plain(answer)}
            save(self._file, _one_line_each(self._answers))
        return answer


def why_not() -> str | None:
    """What is missing here for building engines, as a sentence; None if nothing is."""
    try:
        install.located()
    except EnginesUnavailable as error:
        return str(error)
    return None


def _shown(argument: Any) -> str:
    return ", ".join([argument.name, *map(str, requested(argument))]) if isinstance(argument, Case) else repr(argument)


def _one_line_each(answers: Mapping[str, Any]) -> str:
    """JSON with a line for each answer: a plan has hundreds of small lists, and indented it is twice as long."""
    lines = (
        f"{json.dumps(key)}: {json.dumps(answer, sort_keys=True, separators=(',', ':'))}"
        for key, answer in sorted(answers.items())
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _plain(answer: FunctionReport | tuple[EngineReport, ...]) -> Any:
    """Plain values without options, which name folders of the machine, and seconds, which differ each time."""
    if isinstance(answer, FunctionReport):
        return {**asdict(replace(answer, engines=())), "engines": _plain_engines(answer.engines)}
    plain = []
    for report in answer:
        untimed = replace(report, options={}, seconds=0.0, tracing_seconds=0.0, engines=())
        plain.append({**asdict(untimed), "engines": _plain_engines(report.engines)})
    return plain


def _plain_engines(engines: tuple[Engine, ...]) -> list[Any]:
    plain = []
    for engine in engines:
        plan = engine.plan and replace(engine.plan, conversion_seconds=0.0, build_seconds=0.0)
        plain.append(engine_dict(replace(engine, seconds=0.0, plan=plan)))
    return plain
