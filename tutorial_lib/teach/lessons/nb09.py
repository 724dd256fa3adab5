"""Notebook 9: what is said of a model of spoken keywords, by upstream, by this package, and by an examination."""

import contextlib
import io
import textwrap
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from tutorial_lib import paths
from tutorial_lib.builds import backends
from tutorial_lib.builds.job import BuildError
from tutorial_lib.checks.agreement import NotRepeatable
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import DynamicDim, TensorSpec
from tutorial_lib.experiments.examination import examine
from tutorial_lib.explain import explain
from tutorial_lib.explain.explanation import Explanation
from tutorial_lib.measure.sweep import sweep

SOUND = TensorSpec("sound", (DynamicDim("batch", 1, 4, 16), DynamicDim("length", 20, 100, 400), 40))
"""Recordings: [batch, length in frames of 10 ms, 40 numbers]."""


class Report(str):
    """Text that the last line of a cell shows as it is."""

    def __repr__(self) -> str:
        return str(self)


def case_of(model_class: Callable[[], nn.Module], place: Any = "auto") -> Case:
    """A case of a class of models of sound, with the same weights each time."""
    torch.manual_seed(0)
    device = backends.as_device(place)
    return Case(getattr(model_class, "__name__", "model"), model_class(), (SOUND,)).to(device)


@cache
def problems(model_class: Any) -> list[str]:
    """What the examination finds; a class that is defined again is another one, and examined again."""
    return list(examine(case_of(model_class)).problems)


def report(*classes: Any) -> Report:
    """What the examination finds in each class, in lines."""
    lines = []
    for model_class in classes:
        found = problems(model_class)
        lines += [f"{model_class.__name__}: {'' if found else 'nothing found'}", *(f"  - {each}" for each in found)]
    return Report("\n".join(lines))


@cache
def words_of(path: str, model_class: Any, place: Any = "auto") -> tuple[BaseException, Explanation]:
    """The error of upstream that a build ends in, and what `explain` makes of it.

    Raises
    ------
    ValueError
        If the model is built.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # torch also prints the graph it gave up on
            paths.PATHS[path](case_of(model_class, place), "eager")
    except BuildError as error:
        return error.__cause__ or error, explain(error)
    raise ValueError(f"{model_class.__name__} was built on {path}.")


def told(path: str, model_class: Any, place: Any = "auto") -> Report:
    """Upstream's line that tells, beside the cause and the fix in words."""
    error, words = words_of(path, model_class, place)
    head = f"{path}: {type(error).__name__}, of which this is 1 line of {len(str(error).strip().splitlines())}:"
    lines = [
        textwrap.indent(textwrap.fill(f"{title}: {text}", 108), "    ")
        for title, text in (("upstream", words.quote), ("cause", words.cause), ("fix", words.fix))
    ]
    return Report("\n".join([head, *lines]))


def three_calls(path: str, model_class: type[nn.Module]) -> dict[str, Any]:
    """Build a model on the CPU and call it three times.

    Returns
    -------
    dict
        ``graphs``; ``while building``, the first line that was printed then; ``printed`` and ``counted`` in three
        calls (lines, and how far the model's attribute ``calls`` went); or ``refused``, why it was not built.
    """
    case, printed = case_of(model_class, "cpu"), io.StringIO()
    (x,) = case.example()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            program = paths.PATHS[path](case, "eager")
            building, before = printed.getvalue().splitlines(), getattr(case.model, "calls", 0)
            for _ in range(3):
                program(x)
    except BuildError as error:
        return {"refused": str(error).splitlines()[0]}
    return {
        "graphs": len(program.build.engines),
        "while building": building[0] if building else "",
        "printed": len(printed.getvalue().splitlines()) - len(building),
        "counted": getattr(case.model, "calls", 0) - before,
    }


def kinds(cases: Mapping[str, Case]) -> pd.DataFrame:
    """What each path says to each case: ``built``, or the kind of `explain`'s answer."""
    table: dict[str, dict[str, str]] = {}
    for name, case in cases.items():
        for path, build in paths.PATHS.items():
            try:
                build(case, "eager")
                table.setdefault(name, {})[path] = "built"
            except BuildError as error:
                table.setdefault(name, {})[path] = explain(error).kind
    return pd.DataFrame(table).T


def spelled(base: type[nn.Module], forward: Callable[[Any, Tensor], Tensor]) -> type[nn.Module]:
    """A class with another `forward`, and 4 as its attribute ``batch``."""
    return type("Spelled", (base,), {"forward": forward, "batch": 4})


def refusal(model_class: type[nn.Module]) -> str | None:
    """The sentence with which building or measuring refuses a model that is not repeatable; None if it does not."""
    try:
        sweep({"export": paths.export(case_of(model_class), "eager")}, [4, 16], min_seconds=0.02)
    except NotRepeatable as error:
        return str(error)
    return None
