"""The exercises of notebook 5: a tolerance, the rule, what would have been shipped, what can hide."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tutorial_lib.checks.agreement import compare
from tutorial_lib.core.models import expand_reshape
from tutorial_lib.teach.checking import Feedback, NotYet, a_function, a_mapping, a_number, by_case, call, exercise
from tutorial_lib.teach.lessons.nb05 import NO_BUG, Layer, cosine, layer, planted


@cache
def _layer() -> tuple[Layer, dict[str, Tensor]]:
    one = layer(expand_reshape(batch=(1, 4, 32), embed_dim=192).in_precision("fp32"))
    return one, planted(one)


@exercise("05.tolerance", hint="With rtol=0, allclose compares one number with atol: the largest difference.")
def smallest_tolerance(answer: Any) -> Feedback:
    """A function of two outputs: the smallest `atol` with which `allclose` passes, to within a tenth."""
    smallest = a_function(answer, "lambda one, other: 1e-5")
    one, outputs = _layer()
    pairs = {"parts": (outputs[NO_BUG], one.plain), "bfloat16": (outputs["result rounded to bfloat16"], one.plain)}
    pairs["1000 x parts"] = (1000 * outputs[NO_BUG], 1000 * one.plain)
    rows = []
    for name, (left, right) in pairs.items():
        left, right = left.double(), right.double()
        atol = a_number(
            call(smallest, left, right, shown=f"your function, given '{name}',"), f"the tolerance for '{name}'"
        )
        passes = torch.allclose(left, right, rtol=0, atol=atol)
        smaller = torch.allclose(left, right, rtol=0, atol=0.9 * atol)
        rows.append({"outputs": name, "your atol": f"{atol:.1e}", "passes": passes, "a tenth less passes too": smaller})
        table = pd.DataFrame(rows)
        if not passes:
            raise NotYet(f"'{name}' does not pass with {atol:.1e}.", table=table)
        if smaller:
            raise NotYet(f"'{name}' passes with {atol:.1e}, and with a tenth less.", table=table)
    return Feedback(True, "and it is another number for each pair: no atol is right for all.", table=table)


@exercise("05.rule", hint="rms = lambda error: error.square().mean().sqrt(). And NaN <= anything is False.")
def write_the_rule(answer: Any) -> Feedback:
    """The rule as a function ``agrees(output, eager, exact)``, at several scales, with the bugs and with NaN."""
    agrees = a_function(answer, "lambda output, eager, exact: True")
    one, outputs = _layer()
    broken = one.plain.clone()
    broken[0, 0, 0, 0, 0] = torch.nan
    rows, wrong = [], []
    for scale in (0.001, 1.0, 1000.0):
        for name, output in (outputs | {"one NaN": broken}).items():
            tensors = (scale * output, scale * one.plain, scale * one.exact)
            right = compare(*tensors).agrees
            given = bool(call(agrees, *tensors, shown=f"your function, given '{name}' at scale {scale:g},"))
            rows.append({"output": name, "scale": scale, "agrees": right, "yours": given})
            if given != right:
                wrong.append(f"'{name}' at scale {scale:g} {'agrees' if right else 'differs'}, and you say otherwise.")
    return by_case(pd.DataFrame(rows), wrong, "one rule for every scale, and NaN does not pass.")


@exercise(
    "05.shipped",
    hint="The table of the planted bugs has the cosines; allclose(..., rtol=0.01, atol=0.01) you can call.",
)
def shipped_by_popular_checks(answer: Any) -> Feedback:
    """Which planted bugs pass a cosine above 0.999, and which pass ``rtol=atol=0.01``."""
    given = a_mapping(answer, ("cosine", "allclose"))
    one, outputs = _layer()
    bugs = {name: output for name, output in outputs.items() if name != NO_BUG}
    passed = {
        "cosine": {name for name, output in bugs.items() if cosine(output, one.exact) > 0.999},
        "allclose": {name for name, out in bugs.items() if torch.allclose(out, one.plain, rtol=0.01, atol=0.01)},
    }
    for check, names in given.items():
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise NotYet(f"what {check} lets through is {names!r}; give a set of names.")
        names = {str(name) for name in names}
        if strange := sorted(names - set(bugs)):
            raise NotYet(f"{strange[0]!r} is none of the bugs: {', '.join(bugs)}.")
        if wrong := sorted(names ^ passed[check]):
            raise NotYet(f"{check}: '{wrong[0]}' {'passes' if wrong[0] in passed[check] else 'does not pass'}.")
    return Feedback(True, "both checks would have shipped two bugs of four.")


@exercise("05.hidden", hint="The mean of the squares may be 16 times eager's, and eager's own part of it is 1.")
def how_much_can_hide(answer: Any) -> Feedback:
    """An error of one result that passes, and of which twice as much does not."""
    size = abs(a_number(answer, "the error"))
    one, _ = _layer()

    def passes(error: float) -> bool:
        output = one.plain.clone()
        output[1, 50, 2, 3, 4] += error
        return compare(output, one.plain, one.exact).agrees

    if not passes(size):
        raise NotYet(f"with {size:g} the rule says DIFFERS.")
    if passes(2 * size):
        raise NotYet(f"{size:g} passes, and twice as much passes, too.")
    times = size / compare(one.plain, one.plain, one.exact).rms
    return Feedback(True, f"{size:g} can hide in one number: {times:,.0f} times the error of a typical result.")
