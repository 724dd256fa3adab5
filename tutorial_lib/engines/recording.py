"""Previews for a notebook that has to run everywhere: made here, or else read from a file that goes with it.

The file is written where the front end works, by running the notebook with ``TUTORIAL_LIB_RECORD=1``.
"""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from tutorial_lib import tensorrt
from tutorial_lib._files import save
from tutorial_lib.engines import bare
from tutorial_lib.engines.bare import FunctionReport
from tutorial_lib.engines.errors import EnginesUnavailable
from tutorial_lib.engines.process import Sizes, previews
from tutorial_lib.engines.record import Call, EngineReport, requested
from tutorial_lib.models import Case
from tutorial_lib.paths import PATHS
from tutorial_lib.record import Engine, EngineInput

T = TypeVar("T", FunctionReport, list[EngineReport])
RECORD = "TUTORIAL_LIB_RECORD"
"""Set this variable of the environment to write what is found into the file."""


class Recording:
    """:func:`previews` and :func:`run_inside` of this package, with a file to fall back on.

    What comes from the file says so in a line of its own. What the file does not hold, because the
    reader asks for something else, is :class:`EnginesUnavailable`, with what is missing on this machine.

    Parameters
    ----------
    file : str or Path
        A JSON file.
    version : str, optional
        Major and minor of the one Torch-TensorRT that is meant, such as ``2.11``. Beside another torch, which goes
        with another front end, nothing is run: all comes from the file.
    """

    def __init__(self, file: str | Path, version: str | None = None) -> None:
        self._file = Path(file)
        self._other = None
        if version and not torch.__version__.startswith(f"{version}."):
            self._other = f"Torch-TensorRT {version} goes with torch {version}, and here is {torch.__version__}."
        kept = self._file.is_file() and not os.environ.get(RECORD)  # what is recorded anew starts empty
        self._known: dict[str, Any] = json.loads(self._file.read_text()) if kept else {}

    def __str__(self) -> str:
        if not self._other and tensorrt.why_not(torch.device("cuda")) is None:
            return "TensorRT works here: the engines of previews() are really built. The bare calls stay a preview."
        missing = self._other or bare.why_not()
        if missing is None:
            return "Torch-TensorRT's front end works here: all that follows is run now, as a PREVIEW, without TensorRT."
        return f"Nothing is run here: {missing}\nYou see what was recorded elsewhere, and it says so."

    def previews(
        self,
        case: Case,
        paths: Sequence[str] = tuple(PATHS),
        calls: Sequence[Sizes] = (),
        options: Mapping[str, Any] | None = None,
    ) -> tuple[EngineReport, ...]:
        """:func:`tutorial_lib.engines.previews`, or what was recorded of it."""
        ranges = ", ".join(map(str, requested(case)))
        key = f"previews: {case.name}, {ranges}, {', '.join(paths)}, calls {list(calls)}, options {options}"
        found = self._get(key, lambda: list(previews(case, paths, calls, options)), _plain_previews, _previews)
        return tuple(found)

    def run_inside(self, function: Callable[..., Any], *args: Any) -> FunctionReport:
        """:func:`tutorial_lib.engines.run_inside`, or what was recorded of it; the result has to be JSON."""
        told = ", ".join(", ".join([a.name, *map(str, requested(a))]) if isinstance(a, Case) else repr(a) for a in args)
        source = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:8]
        key = f"run_inside: {function.__name__}({told}), source {source}"
        return self._get(key, lambda: bare.run_inside(function, *args), _plain_asked, _asked)

    def _get(self, key: str, make: Callable[[], T], plain: Callable[[T], Any], read: Callable[[Any], T]) -> T:
        try:
            if self._other:
                raise EnginesUnavailable(self._other)
            found = make()
        except EnginesUnavailable as error:
            if key not in self._known:
                raise EnginesUnavailable(f"this was not recorded, and it cannot run here: {error}") from None
            print(f"(recorded with Torch-TensorRT {self._known[key]['version']}; not run here)")
            return read(self._known[key]["found"])
        if os.environ.get(RECORD):
            version = found.version if isinstance(found, FunctionReport) else found[0].versions["torch-tensorrt"]
            self._known[key] = {"version": version, "found": plain(found)}
            save(self._file, json.dumps(self._known, indent=1, sort_keys=True) + "\n")
        return found


def _plain_previews(found: list[EngineReport]) -> Any:
    # Neither options, which name folders of the machine, nor seconds, which differ in every recording.
    return [asdict(replace(one, options={}, seconds=0.0, engines=_untimed(one.engines))) for one in found]


def _plain_asked(found: FunctionReport) -> Any:
    return asdict(replace(found, engines=_untimed(found.engines)))


def _untimed(engines: tuple[Engine, ...]) -> tuple[Engine, ...]:
    return tuple(replace(engine, seconds=0.0) for engine in engines)


def _previews(plain: Any) -> list[EngineReport]:
    return [
        EngineReport(
            **{
                **_tuples(one),
                "requested": tuple(map(_input, one["requested"])),
                "engines": tuple(map(_engine, one["engines"])),
                "calls": tuple(Call(**_tuples(call)) for call in one["calls"]),
            }
        )
        for one in plain
    ]


def _asked(plain: Any) -> FunctionReport:
    return FunctionReport(
        **{**_tuples(plain), "engines": tuple(map(_engine, plain["engines"])), "result": plain["result"]}
    )


def _engine(plain: Any) -> Engine:
    return Engine(**{**plain, "inputs": tuple(map(_input, plain["inputs"]))})


def _input(plain: Any) -> EngineInput:
    return EngineInput(**_tuples(plain))


def _tuples(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
