"""The exercises of notebook 0."""

import math
from typing import Any

import pandas as pd

from tutorial_lib import paths
from tutorial_lib.core.models import Case
from tutorial_lib.teach.checking import Feedback, NotYet, a_range, exercise

LARGEST_INPUT = 10**7
"""Numbers in the largest input of a case that is built for feedback."""


@exercise("00.range", hint="The three numbers are min, opt and max. Two of them are promises, and one is a wish.")
def range_for_a_service(answer: Any) -> Feedback:
    """Holds 1 and 100, tuned for 8."""
    dim = a_range(answer)
    if dim.min > 1 or dim.max < 100:
        raise NotYet(f"{dim} refuses a batch of {1 if dim.min > 1 else 100}: it holds {dim.min} to {dim.max}.")
    if dim.opt != 8:
        raise NotYet(f"{dim} is tuned for {dim.opt}, not for 8.")
    return Feedback(True, f"{dim} serves 1 and 100, and is tuned for 8.")


@exercise(
    "00.case",
    hint="`gated_norm` makes a Case, as `expand_reshape` does above: give it batch=(min, opt, max). The row of `jit` "
    "in the table has one engine only if batch 1 is not in the range.",
)
def case_with_one_engine(answer: Any) -> Feedback:
    """A case of the gated norm from 2 to at least 16, so that every path has one engine."""
    if not isinstance(answer, Case):
        raise NotYet(
            f"your answer is a {type(answer).__name__}; give a Case, such as the one that gated_norm() returns."
        )
    if answer.name != "gated-norm":
        raise NotYet(f"this is {answer.name}; the exercise is about gated_norm.")
    dim = a_range(answer.dims["batch"])
    if math.prod(answer.inputs[0].shape_at({"batch": dim.max})) > LARGEST_INPUT:
        raise NotYet(f"{dim} of {answer.inputs[0].shape[1:]} is too much memory for an exercise; choose a smaller max.")
    builds = {path: build(answer, "eager").build for path, build in paths.PATHS.items()}
    rows = [(path, len(build.engines), "; ".join(map(str, build.engines))) for path, build in builds.items()]
    table = pd.DataFrame(rows, columns=["path", "engines", "which"])
    if dim.min < 2:
        raise NotYet(f"with {dim}, jit has {len(builds['jit'].engines)} engines: see the table.", table=table)
    if dim.min > 2 or dim.max < 16:
        raise NotYet(f"{dim} refuses a batch of {2 if dim.min > 2 else 16}.", table=table)
    return Feedback(True, f"from 2 to {dim.max}, every path has one engine.", table=table)
