"""The exercises of notebook 0."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from tutorial_lib import paths
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import DynamicDim
from tutorial_lib.figures.plots import STYLES, label_sizes
from tutorial_lib.teach.checking import Feedback, NotYet, a_range, exercise

LARGEST_INPUT = 10**7
"""Numbers in the largest input of a case that is built for feedback."""


@exercise("00.range", hint="The three numbers are min, opt and max. Two of them are promises, and one is a wish.")
def range_for_a_service(answer: Any) -> Feedback:
    """Holds 1 and 100, tuned for 8."""
    dim = a_range(answer)
    figure = _drawn(dim, (1, 100))
    if dim.min > 1 or dim.max < 100:
        refused = 1 if dim.min > 1 else 100
        raise NotYet(f"{dim} refuses a batch of {refused}: it holds {dim.min} to {dim.max}.", figure=figure)
    if dim.opt != 8:
        raise NotYet(f"{dim} is tuned for {dim.opt}, not for 8.", figure=figure)
    return Feedback(True, f"{dim} serves 1 and 100, and is tuned for 8.", figure=figure)


def _drawn(dim: DynamicDim, batches: Sequence[int]) -> Figure:
    """A range from min to max with its opt, and above it the batches that come, served or refused."""
    figure = Figure(figsize=(7.5, 1.8), layout="constrained")
    axes = figure.subplots()
    color = STYLES["export"]["color"]
    axes.plot([dim.min, dim.max], [0, 0], color=color, linewidth=9, alpha=0.5, solid_capstyle="butt")
    axes.plot(dim.opt, 0, marker="o", color=color, markerfacecolor="white", markersize=9)
    axes.annotate(f"opt {dim.opt}", (dim.opt, 0), xytext=(0, -18), textcoords="offset points", ha="center", fontsize=9)
    for batch in batches:
        served = dim.min <= batch <= dim.max
        style = STYLES["export" if served else "input"]["color"]
        axes.plot(batch, 1, marker="o" if served else "x", color=style, markersize=8, markeredgewidth=2)
        text = f"{batch} is {'served' if served else 'refused'}"
        axes.annotate(text, (batch, 1), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=9, color=style)
    sizes = sorted({dim.min, dim.max, *batches})
    axes.set_xscale("log")
    axes.set_xlim(sizes[0] / 1.6, sizes[-1] * 1.6)
    axes.set_ylim(-0.9, 1.8)
    label_sizes(axes, sizes)
    axes.set_xlabel(dim.name)
    axes.set_yticks([])
    axes.spines[["top", "left", "right"]].set_visible(False)
    figure.suptitle(f"A range from {dim.min} to {dim.max}, and the batches that come", x=0.01, ha="left", fontsize=10)
    return figure


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
