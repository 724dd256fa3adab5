"""A case from what is typed on a command line: a model of this tutorial, or a function of one's own."""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import cloudpickle
import torch

from tutorial_lib.core.models import MODELS, Case, make_case, ranged
from tutorial_lib.core.shapes import ShapeError


class ModelSourceError(ValueError):
    """A model that cannot be loaded, in one sentence."""


HOW = "a model of one's own is package.module:function or file.py::function, a function that returns a Case"


def load_case(source: str, low: int | None = None, opt: int | None = None, high: int | None = None) -> Case:
    """The case that `source` names, with a range for its first dynamic dimension.

    Parameters
    ----------
    source : str
        One of :data:`~tutorial_lib.core.models.MODELS`, ``package.module:function``, or ``file.py::function``; the
        function takes no arguments and returns a :class:`~tutorial_lib.core.models.Case`. The modules beside a file can
        be imported by it.
    low, opt, high : int, optional
        As in :func:`~tutorial_lib.core.models.make_case`.

    Raises
    ------
    ModelSourceError
        If there is no such model, or it does not load; whatever its own code raises is the ``__cause__``.
    ShapeError
        If the range cannot be used.
    """
    if source in MODELS:
        return make_case(source, low, opt, high)
    if "::" in source:
        origin, _, name = source.rpartition("::")
        module = _file(Path(origin))
    elif ":" in source:
        origin, _, name = source.rpartition(":")
        module = _module(origin)
    else:
        raise ModelSourceError(f"there is no model {source!r}; use {', '.join(MODELS)}; {HOW}.")
    function = getattr(module, name, None)
    if not callable(function):
        raise ModelSourceError(f"{origin} has no function {name!r}; {HOW}.")
    case = _run(f"{name} of {origin}", function)
    if not isinstance(case, Case):
        raise ModelSourceError(f"{name} of {origin} returned a {type(case).__name__}, not a Case; {HOW}.")
    if low is opt is high is None:
        return case
    if not case.dims:
        raise ShapeError(f"{case.name} has no dynamic dimension, so it has no min, opt or max.")
    return ranged(case, low, opt, high)


def _module(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current folder, as with `python -m`
    return _run(f"module {name}", importlib.import_module, name)


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ModelSourceError(f"there is no file {path}; {HOW}.")
    path = path.resolve()
    name = f"model_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelSourceError(f"{path.name} is not a Python file; give one whose name ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # what it imports from beside it
    _run(f"file {path.name}", spec.loader.exec_module, module)
    cloudpickle.register_pickle_by_value(module)  # no other process can import it by that name
    return module


def _run(what: str, function: Any, *args: Any) -> Any:
    """Call code of the reader's; whatever it raises becomes one sentence."""
    try:
        with _checkpoints_load_here():
            return function(*args)
    except ShapeError as error:
        raise ModelSourceError(f"{what} does not load: {error}") from error
    except (Exception, SystemExit) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
        raise ModelSourceError(f"{what} does not load ({type(error).__name__}: {reason[:200]}).") from error


@contextlib.contextmanager
def _checkpoints_load_here() -> Iterator[None]:
    """Let ``torch.load`` put what was saved on a GPU onto the CPU where PyTorch sees no GPU."""
    if torch.cuda.is_available():
        yield
        return
    upstream = torch.load

    def load(file: Any, map_location: Any = None, **more: Any) -> Any:
        return upstream(file, "cpu" if map_location is None else map_location, **more)

    with mock.patch.object(torch, "load", load):
        yield
