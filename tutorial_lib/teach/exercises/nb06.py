"""The exercises of notebook 6: counting engines, a relation of Dims, a reshape, a check of two inputs."""

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tutorial_lib.explain import explain
from tutorial_lib.teach.checking import Feedback, NotYet, a_function, a_mapping, a_number, by_case, call, exercise
from tutorial_lib.teach.lessons.nb06 import Model, attempt, pairs

ENGINES = {"batch from 2, length from 8": 1, "batch from 1, length from 8": 2, "batch from 1, length from 1": 4}


@exercise("06.engines", hint="Think of each dimension that may be 1, and of both at once.")
def engines_of_jit(answer: Any) -> Feedback:
    """How many engines `jit` builds for each of three boxes."""
    given = a_mapping(answer, list(ENGINES))
    for box, right in ENGINES.items():
        if a_number(given[box], f"the number for '{box}'") != right:
            raise NotYet(f"'{box}' does not make {given[box]!r}.")
    return Feedback(True, "each dimension from 1 doubles them: (n, n), (n, 1), (1, n) and (1, 1).")


@exercise("06.dims", hint="A Dim can be multiplied by a number: 2 * labels.")
def two_frames_for_a_label(answer: Any) -> Feedback:
    """``dynamic_shapes`` for x [2 s, 4] and y [s, 8], s from 2 to 16."""
    dims = a_mapping(answer, ("x", "y"))
    example = (torch.randn(16, 4), torch.randn(8, 8))
    program = attempt(lambda: torch.export.export(pairs, example, dynamic_shapes=dims))
    if isinstance(program, Exception):
        words = explain(program)
        raise NotYet(f"{words.cause} {words.fix}" if words.translated else str(program).splitlines()[0])
    ranges = {(int(found.lower), found.upper) for found in program.range_constraints.values()}
    if ranges != {(4, 32), (2, 16)}:
        shown = ", ".join(f"{low} to {'∞' if high > 2**40 else int(high)}" for low, high in sorted(ranges))
        raise NotYet(f"the program's ranges are {shown or 'fixed'}; they should be 4 to 32 and 2 to 16.")
    return Feedback(True, "one range is given, and the other follows: 2 to 16 labels, 4 to 32 frames.")


@exercise("06.flatten", hint="-1 can be inferred; which size may stand beside it as it is?")
def flatten_each_sample(answer: Any) -> Feedback:
    """A function of x [batch, 6, 4] -> [batch, 24] that exports for 1 to 32 samples."""
    flatten = a_function(answer, "lambda x: x.reshape(8, -1)")
    dims = {"x": {0: torch.export.Dim("batch", min=1, max=32)}}
    call(flatten, torch.randn(8, 6, 4), shown="your function, given [8, 6, 4],")
    model = Model(lambda x, table: flatten(x))
    program = attempt(lambda: torch.export.export(model, (torch.randn(8, 6, 4),), dynamic_shapes=dims))
    if isinstance(program, Exception):
        words = explain(program)
        raise NotYet(words.cause if words.translated else str(program).splitlines()[0])
    rows = []
    for batch in (1, 5, 32):
        x = torch.randn(batch, 6, 4)
        output = attempt(lambda x=x: program.module()(x))  # type: ignore[misc]
        right = isinstance(output, Tensor) and torch.equal(output, x.flatten(1))
        shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        rows.append({"batch": batch, "gives": str(shape), "right": right})
        if not right:
            raise NotYet(f"a batch of {batch} gives {shape}, not [{batch}, 24].", table=pd.DataFrame(rows))
    return Feedback(True, "it exports for the whole range, and flattens each sample.", table=pd.DataFrame(rows))


@exercise("06.agree", hint="A mask of one row would be broadcast. Compare x.shape with mask.shape, whole.")
def check_two_inputs(answer: Any) -> Feedback:
    """A function of ids and mask that is True only where both have one shape within 1 to 8 and 8 to 256."""
    admits = a_function(answer, "lambda ids, mask: True")
    cases = {
        "4 x 32": ((4, 32), (4, 32), True),
        "1 x 8": ((1, 8), (1, 8), True),
        "8 x 256": ((8, 256), (8, 256), True),
        "mask too short": ((4, 32), (4, 16), False),
        "mask with one row": ((4, 32), (1, 32), False),
        "batch 9": ((9, 32), (9, 32), False),
        "length 7": ((4, 7), (4, 7), False),
        "length 257": ((4, 257), (4, 257), False),
    }
    rows, wrong = [], []
    for name, (ids, mask, right) in cases.items():
        tensors = torch.zeros(ids, dtype=torch.int64), torch.ones(mask, dtype=torch.bool)
        given = bool(call(admits, *tensors, shown=f"your function, given '{name}',"))
        rows.append({"call": name, "should run": right, "yours": given})
        if given != right:
            wrong.append(f"'{name}': you {'let it through' if given else 'refuse it'}.")
    right_words = "a profile is a box for each input by itself; this says that the two agree."
    return by_case(pd.DataFrame(rows), wrong, right_words)
