"""What may stand in the way of compiling a model, found before a real build: :func:`examine`."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tutorial_lib.builds.job import BuildError
from tutorial_lib.builds.program import Recompile
from tutorial_lib.checks import results
from tutorial_lib.checks.agreement import NotRepeatable, Reference, apart
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import DynamicDim, first_calls
from tutorial_lib.explain import explain
from tutorial_lib.paths import PATHS

ROUNDING = 1e-5
"""Two results differ by more than float32 rounds if they are this share of their size apart."""


@dataclass(frozen=True)
class Finding:
    """A problem in a phrase, and what is known of it, if anything is."""

    problem: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.problem}: {self.detail}" if self.detail else self.problem


@dataclass(frozen=True)
class Examination:
    """What was found in a case."""

    case: str
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> list[str]:
        """The problems, a phrase each."""
        return [finding.problem for finding in self.findings]

    def __str__(self) -> str:
        lines = [f"  - {finding}" for finding in self.findings]
        return "\n".join([f"{self.case}: {'' if lines else 'nothing found'}".rstrip(), *lines])


def examine(case: Case) -> Examination:
    """Look for what makes a model fail, or go wrong unseen, when it is compiled where it is; no code is generated.

    The model is first called without compiling: same inputs, same result? Inputs left alone? Does a row depend on the
    other rows of its batch? Does all of it move to another device? Then ``jit`` and ``export`` capture it with backend
    ``eager`` (``input`` captures like ``export``), and the programs are compared with float64 at min, opt and max.

    Raises
    ------
    ShapeError
        If the case's own examples do not fit its ranges.
    """
    return Examination(case.name, (*of_the_model(case), *of_the_paths(case)))


def of_the_model(case: Case) -> Iterator[Finding]:
    """What is wrong with the model before anything compiles it."""
    inputs = case.example(case.traced)
    given = [x.clone() for x in inputs]
    once, again = case.eager(*given), case.eager(*(x.clone() for x in inputs))
    repeats = not differ(once, again)
    if not repeats:
        yield Finding("two calls with the same inputs differ")
    if repeats and _rows_are_mixed(case, inputs, once):
        yield Finding("a row depends on the other rows of its batch")
    if not all(map(torch.equal, given, inputs)):
        yield Finding("it writes into its input")
    try:
        elsewhere = case.to("meta")  # a device that every machine has, of shapes without numbers
        elsewhere.eager(*elsewhere.example())
    except Exception as error:
        if explain(error).kind == "device":
            yield Finding("part of it stays behind when it moves to another device")


def _rows_are_mixed(case: Case, inputs: tuple[torch.Tensor, ...], result: Any) -> bool:
    """Whether other rows beside the first change it; False where not all inputs and results have rows."""
    rows = {spec.shape[0] for spec in case.inputs if spec.shape}
    batch = next(iter(rows), None)
    size = inputs[0].shape[0] if inputs[0].dim() else 0
    tensors = results.tensors(result)
    if len(rows) > 1 or not isinstance(batch, DynamicDim) or any(x.shape[:1] != (size,) for x in tensors):
        return False
    others = case.example(case.traced, seed=1)
    mixed = [torch.cat([x[:1], other[1:]]) for x, other in zip(inputs, others, strict=True)]
    beside_others = results.tensors(case.eager(*mixed))
    return differ([x[:1] for x in beside_others], [x[:1] for x in tensors])


def of_the_paths(case: Case) -> Iterator[Finding]:
    """What compile paths say to the model."""
    reference = Reference(case)
    for path in ("jit", "export"):
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # torch also prints the graph it gave up on
                program = PATHS[path](case, "eager")
        except BuildError as error:
            yield Finding(f"{path} refuses it ({explain(error).kind})", str(error))
            continue
        except NotRepeatable:  # found in the model itself, too
            continue
        needed, graphs = len(first_calls(case.dims)), len(program.build.engines)
        if graphs > needed:
            yield Finding(f"{path} cuts it in pieces: {graphs} graphs for {needed} kinds of size")
        for end in ("min", "opt", "max"):
            inputs = case.example({name: getattr(dim, end) for name, dim in case.dims.items()})
            try:
                agreement = reference.compare(program(*(x.clone() for x in inputs)), inputs)
            except Recompile:
                yield Finding(f"{path} would compile again at {end}")
            else:
                if not agreement.agrees:
                    yield Finding(f"{path} DIFFERS at {end}", str(agreement))


def differ(first: Any, second: Any) -> bool:
    """Whether two results differ by more than float32 rounds."""
    size = apart(second, [torch.zeros_like(x) for x in results.tensors(second)])
    return apart(first, second) > ROUNDING * size
