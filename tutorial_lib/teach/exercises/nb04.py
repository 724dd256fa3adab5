"""The exercises of notebook 4: which graph answers, splitting, a guard, padding."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tutorial_lib import paths
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.teach.checking import Feedback, NotYet, a_function, by_case, call, exercise
from tutorial_lib.teach.lessons.nb04 import requests, small_case, watch

CALLS = (40, 1, 16, 1)


@exercise("04.answers", hint="40 leaves a graph without an upper end behind, and Dynamo asks the newest graph first.")
def which_graph_answers(answer: Any) -> Feedback:
    """The number of the graph that answers each of `CALLS`, after a first call with 8."""
    if isinstance(answer, str) or not isinstance(answer, Sequence) or len(answer) != len(CALLS):
        raise NotYet(f"give {len(CALLS)} numbers, one for each of the calls {', '.join(map(str, CALLS))}.")
    case = small_case()
    with torch.no_grad():
        program = watch(case.model, *case.example(8), min=4, max=32)
        for size in CALLS:
            program(*case.example(size))
    real = program.answered[1:]
    for size, given, number in zip(CALLS, answer, real, strict=True):
        if given != number:
            raise NotYet(f"graph {given!r} is not the one that answers batch {size}.")
    return Feedback(True, f"the graphs are {'; '.join(str(graph[0]) for graph in program.graphs)}.")


@cache
def _program() -> tuple[Case, Any]:
    case = small_case()
    return case, paths.export(case, "eager")


@exercise("04.split", hint="`x.tensor_split(n)` makes n pieces whose sizes differ by at most one; which n is enough?")
def split_a_batch(answer: Any) -> Feedback:
    """A function that cuts [batch, 16, 48] into pieces of 4 to 32 images."""
    split = a_function(answer, "lambda x: x.split(32)")
    case, program = _program()
    rows = []
    for batch in (8, 32, 33, 65, 100):
        (x,) = case.example(batch)
        pieces = call(split, x, shown=f"your function, given a batch of {batch},")
        if not isinstance(pieces, tuple | list) or not all(isinstance(piece, Tensor) for piece in pieces):
            raise NotYet(
                f"for a batch of {batch} your function returned {type(pieces).__name__}; return a list of tensors."
            )
        rows.append({"batch": batch, "pieces": " + ".join(str(len(piece)) for piece in pieces)})
        table = pd.DataFrame(rows)
        try:
            output = torch.cat([program(piece.contiguous()) for piece in pieces])
        except (ShapeError, RuntimeError) as error:
            raise NotYet(f"a batch of {batch}: {error}", table=table) from None
        if not torch.equal(torch.cat(list(pieces)), x):
            raise NotYet(f"a batch of {batch}: the pieces put together are not what came in.", table=table)
        assert torch.allclose(output, case.eager(x), atol=1e-3)
    return Feedback(True, "every piece fits, and together they are the answer to the whole.", table=table)


@exercise("04.guard", hint="Look at x.dim() before you look at x.shape[2], and do not forget dtype and strides.")
def write_the_check(answer: Any) -> Feedback:
    """A function that is True for exactly those requests that the program was built for."""
    admits = a_function(answer, "lambda x: x.shape[0] <= 32")
    case, program = _program()
    tensors = requests(case) | {
        "batch 4": case.example(4)[0],
        "batch 32": case.example(32)[0],
        "47 wide": torch.ones(8, 16, 47),
    }
    rows, wrong = [], []
    for name, x in tensors.items():
        try:
            program(x)
            right = True
        except ShapeError:
            right = False
        given = bool(call(admits, x, shown=f"your function, given the request '{name}',"))
        rows.append({"request": name, "should run": right, "yours": given})
        if given != right:
            said = "you refuse what the program was built for." if right else "you let it through."
            wrong.append(f"'{name}', {list(x.shape)} {str(x.dtype).removeprefix('torch.')}: {said}")
    return by_case(pd.DataFrame(rows), wrong, "you admit what was promised, and nothing else.")


@exercise("04.pad", hint="torch.cat makes two rows of one; of the answer, only the first row was asked for.")
def pad_a_single_row(answer: Any) -> Feedback:
    """A function ``serve(program, x)`` that also answers a single row with a program built from 2 on."""
    serve = a_function(answer, "lambda program, x: program(x)")
    case = small_case().with_ranges(batch=(2, 8, 32))
    program = paths.jit(case, "eager")
    for batch in (1, 2, 9):
        (x,) = case.example(batch)
        output = call(serve, program, x, shown=f"your function, given a batch of {batch},")
        right = case.eager(x)
        if not isinstance(output, Tensor) or output.shape != right.shape:
            shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise NotYet(f"a batch of {batch} gave {shape}; it should be {list(right.shape)}.")
        if not torch.allclose(output, right, atol=1e-3):
            raise NotYet(f"a batch of {batch} gave other numbers than the model.")
    engines = len(program.build.engines)
    return Feedback(True, f"a single row is answered, by {engines} engine, which starts at 2.")
