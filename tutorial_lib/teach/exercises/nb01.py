"""The exercises of notebook 1."""

from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import nn

from tutorial_lib import paths
from tutorial_lib.builds.report import Build
from tutorial_lib.checks.range_check import OutOfRange
from tutorial_lib.core.errors import first_line
from tutorial_lib.core.models import Case, expand_reshape
from tutorial_lib.core.nets import ExpandReshapeModel
from tutorial_lib.explain.recompiles import forget
from tutorial_lib.teach.checking import Feedback, NotYet, a_function, a_range, by_case, call, exercise
from tutorial_lib.teach.lessons.nb04 import Numbered

ASKED = ((1, 4, 32), (1, 1, 32), (2, 8, 16))
"""The ranges of the builds whose opts are read."""


def _small(batch: tuple[int, int, int]) -> Case:
    """The notebook's model, small enough that nobody waits for it."""
    return expand_reshape(batch=batch, embed_dim=24, tokens=3)


class _Tokens(nn.Module):
    """What exercise 1 compiles. Its class is its own: Dynamo shall not forget the graphs of the notebook's model."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 3, 24] -> [batch, 96]."""
        return torch.cat([x, x.mean(1, keepdim=True)], 1).reshape(x.shape[0], -1)


@exercise(
    "01.mark",
    hint="Two lines: `torch._dynamo.mark_dynamic(x, 0, min=..., max=...)` marks the first dimension of `x`, and "
    "`torch.compile(model, backend=backend)` is what to return. The source of `paths.jit` has both.",
)
def mark_the_batch(answer: Any) -> Feedback:
    """A function that marks the batch for 2 to 32, and returns the compiled model."""
    my_jit = a_function(answer, "def my_jit(model, x, backend): ...")
    model, numbered = _Tokens(), Numbered()
    forget(model)
    with torch.no_grad():
        first = torch.randn(4, 3, 24)
        program = call(my_jit, model, first, numbered.backend, shown="my_jit(model, x, backend)")
        if not callable(program):
            raise NotYet(f"your function returns a {type(program).__name__}; return the compiled model.")
        rows: list[tuple[int, int, str]] = []
        for x in (first, *(torch.randn(batch, 3, 24) for batch in (8, 2, 32))):
            wrong = _answered(program, x, model(x), numbered, rows)
            if not wrong and len(numbered.graphs) > 1:
                low, high = _range_of_batch(numbered)
                only = f"a batch of {low} alone" if low == high else f"batches from {low} to {high}"
                wrong = f"batch {len(x)} compiled another graph, because the first is for {only}"
            if wrong:
                raise NotYet(f"{wrong}.", table=pd.DataFrame(rows, columns=COLUMNS))
        low, high = _range_of_batch(numbered)
        for x in (torch.randn(33, 3, 24), torch.randn(1, 3, 24)):
            _answered(program, x, model(x), numbered, rows)
    table = pd.DataFrame(rows, columns=COLUMNS)
    if high is None:
        raise NotYet("one graph, but it takes 33 as well: give the mark a min and a max.", table=table)
    if high != 32:
        raise NotYet(f"one graph, but it goes on to {high}; what was promised ends at 32.", table=table)
    return Feedback(True, "one graph for all that was promised. 33 and 1 compile further ones: see the table.", table)


COLUMNS = ["batch", "graphs so far", "the graph that answered"]


def _answered(
    program: Any, x: torch.Tensor, right: torch.Tensor, numbered: Numbered, rows: list[tuple[int, int, str]]
) -> str:
    """Call a program, and add a row on which graph answered; returns what is wrong, or nothing."""
    try:
        result = program(x)
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        return f"your program, called with a batch of {len(x)}, raised {why}"
    graph = numbered.graphs[numbered.answered[-1] - 1] if numbered.answered else ("none",)
    rows.append((len(x), len(numbered.graphs), "; ".join(map(str, graph))))
    if not isinstance(result, torch.Tensor) or result.shape != right.shape:
        return f"with a batch of {len(x)} comes back {_what(result)}, not {_what(right)}"
    if not torch.allclose(result, right, atol=1e-5):
        return f"with a batch of {len(x)} the numbers are not the model's"
    return "" if numbered.graphs else "nothing was compiled with `backend`; hand it to `torch.compile`"


def _range_of_batch(numbered: Numbered) -> tuple[int | None, int | None]:
    """Min and max of the batch in the first graph."""
    x = numbered.graphs[0][0]
    return x.min[0], x.max[0]


@exercise(
    "01.serve-one",
    hint="A batch of two that holds the image twice, or the image and zeros, is in the range. Of its result, keep the "
    "first row: `[:1]`.",
)
def serve_single_images(answer: Any) -> Feedback:
    """A function that pads a single image to two."""
    serve = a_function(answer, "def serve(program, x): ...")
    case = _small((2, 4, 32))
    program = paths.export(case, "eager")
    batches: list[int] = []

    def counted(x: torch.Tensor) -> Any:
        batches.append(x.shape[0])
        return program(x)

    rows = []
    for batch in (4, 1, 32):
        (x,) = _small((1, 4, 32)).example(batch)
        batches.clear()
        result = call(serve, counted, x, shown=f"serve(program, x) with {batch} images")
        rows.append((batch, ", ".join(map(str, batches)) or "no call", _what(result)))
        table = pd.DataFrame(rows, columns=["images", "batch that the program saw", "what came back"])
        if not isinstance(result, torch.Tensor):
            raise NotYet(f"with {batch} images it returns a {type(result).__name__}, not a tensor.", table=table)
        right = case.eager(x)
        if result.shape != right.shape:
            raise NotYet(f"with {batch} images, {tuple(right.shape)} should come back; see the table.", table=table)
        if not torch.allclose(result, right, atol=1e-5):
            raise NotYet(f"with {batch} images the numbers are not the model's.", table=table)
        if not batches:
            raise NotYet("the right result, but without a call of program.", table=table)
        if batch > 1 and sum(batches) > batch:
            raise NotYet(f"{batch} images are in the range; you padded them nevertheless.", table=table)
    return Feedback(True, "one engine serves every batch from 1 to 32.", table=table)


def _what(result: Any) -> str:
    return f"a tensor {tuple(result.shape)}" if isinstance(result, torch.Tensor) else type(result).__name__


@cache
def _builds() -> tuple[tuple[tuple[int, int, int], str, Build], ...]:
    """What was asked for, the path, and the report of its build."""
    return tuple(
        (asked, path, build(_small(asked), "eager").build) for asked in ASKED for path, build in paths.PATHS.items()
    )


@exercise(
    "01.opt-one",
    hint="`engine.data[0]` is the input `x` of an engine. Its `.opt` is a shape, and the batch is the first number of "
    "that. Return a list, with one number for each engine in `build.engines`.",
)
def read_the_real_opts(answer: Any) -> Feedback:
    """A function that reads from a build which opt each of its engines has."""
    read = a_function(answer, "def real_opts(build): ...")
    rows, wrong = [], []
    for asked, path, build in _builds():
        real = [engine.data[0].opt[0] for engine in build.engines]
        typed = " / ".join(map(str, asked))
        yours = call(read, build, shown=f"real_opts(build) for {typed} on {path}")
        rows.append((typed, path, str(real), str(yours)[:60]))
        if not (isinstance(yours, list | tuple) and list(yours) == real):
            wrong.append(f"for {typed} on {path} the build has opt {real}, and yours is {str(yours)[:60]}.")
    table = pd.DataFrame(rows, columns=["asked for", "path", "opt of its engines", "yours"])
    return by_case(table, wrong, "who asks for 1 gets 2: no dynamic dimension is traced at less.")


@exercise(
    "01.patches",
    hint="A TensorSpec takes a DynamicDim in every place that varies: `TensorSpec('x', (batch, patches, 768))`. The "
    "first DynamicDim is still the batch.",
)
def case_for_any_patches(answer: Any) -> Feedback:
    """A case of the notebook's model whose patches vary from 49 to 256."""
    if not isinstance(answer, Case):
        raise NotYet(f"your answer is a {type(answer).__name__}; give a Case.")
    if not isinstance(answer.model, ExpandReshapeModel):
        raise NotYet(f"its model is a {type(answer.model).__name__}; take an ExpandReshapeModel.")
    if len(answer.dims) < 2:
        raise NotYet(f"of its dimensions, only {', '.join(answer.dims) or 'none'} varies; the patches have to as well.")
    for dim in answer.dims.values():
        a_range(dim)
    _, second = answer.dims.values()
    if second.min > 49 or second.max < 256:
        raise NotYet(f"{second} does not take {49 if second.min > 49 else 256} patches.")
    program = paths.export(answer, "eager")
    rows = []
    for batch, patches in ((1, 49), (4, 100), (2, 256)):
        x = torch.randn(batch, patches, answer.model.qkv_proj.in_features)
        try:
            rows.append((batch, patches, str(tuple(program(x).shape))))
        except (OutOfRange, ValueError) as error:
            rows.append((batch, patches, str(error)))
            table = pd.DataFrame(rows, columns=["batch", "patches", "what comes back"])
            raise NotYet(f"{batch} images of {patches} patches are refused.", table=table) from None
    table = pd.DataFrame(rows, columns=["batch", "patches", "what comes back"])
    return Feedback(True, "one program takes images of any of these sizes.", table=table)
