"""The exercises of notebook 9: models to repair, each judged for a single recording and by the examination."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from tutorial_lib.experiments.examination import differ, examine
from tutorial_lib.teach.checking import Feedback, NotYet, exercise
from tutorial_lib.teach.lessons.nb09 import case_of

Meant = Callable[[Any, Tensor], Tensor]
"""What a model computes for one recording, [1, length, 40]."""


def _repaired(answer: Any, meant: Meant) -> Feedback:
    """Whether a class computes what it is meant to, and whether the examination finds nothing in it."""
    if not isinstance(answer, type) or not issubclass(answer, nn.Module):
        raise NotYet("give the class, such as Chances, without calling it.")
    case = case_of(answer, "cpu")
    (x,) = case.example()
    x[1] *= 0.2  # a quiet recording among loud ones
    with torch.no_grad():
        right = torch.cat([meant(case.model, one[None].clone()) for one in x])
        same = not differ(case.eager(x.clone()), right)
    rows = [{"asked": "what it is meant to compute", "found": "yes" if same else "something else"}]
    found = list(examine(case).problems)
    rows += [{"asked": "the examination", "found": each} for each in found or ["nothing"]]
    table = pd.DataFrame(rows)
    if found:
        raise NotYet(f"{found[0]}.", table=table)
    if not same:
        raise NotYet("it compiles well, and does not compute what it was meant to.", table=table)
    return Feedback(True, "it computes what it was meant to, on every path.", table=table)


@exercise("09.chances", hint="softmax works on a whole batch at once: over which dimension?")
def chances(answer: Any) -> Feedback:
    """The chance of each word."""
    return _repaired(answer, lambda model, one: model.scores(one).softmax(-1))


def _spread(one: Tensor) -> Tensor:
    centred = one - one.mean(1, keepdim=True)
    return centred / centred.std() if centred.std() > 0.5 else centred


@exercise(
    "09.spread", hint="Three mistakes: a write into the input, an `if` on a value, and one spread for the whole batch."
)
def spread(answer: Any) -> Feedback:
    """Relative to its own mean; divided by its spread where that is above 0.5."""
    return _repaired(answer, lambda model, one: model.scores(_spread(one)))


def _loudness(one: Tensor) -> Tensor:
    loud = one[one.square().mean(-1) > 1]
    return one - (loud.mean(0) if len(loud) else 0)


@exercise("09.loudness", hint="A mask over frames as numbers, 0 or 1; and at least 1 to divide by.")
def loudness(answer: Any) -> Feedback:
    """Minus the mean of its loud frames."""
    return _repaired(answer, lambda model, one: model.scores(_loudness(one)))
