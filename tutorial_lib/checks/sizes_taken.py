"""Which sizes of its ranges does a model itself take? It is run at some of them on fake tensors, without numbers.

Upstream's errors name the guard that failed, which may be far from the reason: ``x.chunk(2)`` becomes a quotient, and
two halves become an inequality that holds for every size. That the model takes even sizes only is seen by running it.
"""

import time
from dataclasses import replace

from tutorial_lib.checks.without_numbers import empty_inputs, without_numbers
from tutorial_lib.core.errors import first_line
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import DynamicDim
from tutorial_lib.explain import Explanation
from tutorial_lib.explain.explanation import step_advice

LARGEST_STEP = 32
"""Multiples of numbers up to this one are looked for."""
BUDGET_SECONDS = 3.0
"""A dimension for which this is not enough is not judged."""


def explain_range(case: Case, knows_steps: bool = True) -> Explanation | None:
    """Say what of the ranges the model cannot take in eager; None if nothing is found, or it cannot be judged.

    With `knows_steps`, only the multiples of a dimension's step count, else all sizes from min to max.
    A model that fails without numbers at the traced sizes too is not judged, nor one that needs the values of its
    inputs.
    """
    if _error_at(case, {}) is not None:
        return None
    dims = [dim if knows_steps else replace(dim, step=1) for dim in case.dims.values() if not dim.is_fixed]
    if explanation := _multiples_only(case, dims):
        return explanation
    for dim in dims:
        for end, size in (("min", dim.min), ("max", dim.max)):
            error = _error_at(case, {dim.name: size})
            if error is not None:
                return _end_is_refused(case, dim, end, size, error)
    return None


def _multiples_only(case: Case, dims: list[DynamicDim]) -> Explanation | None:
    taken_by_name = {dim.name: taken for dim in dims if (taken := _step_taken(case, dim))}
    if not taken_by_name:
        return None
    name, (step, wrong, error) = next(iter(taken_by_name.items()))
    same = [other for other, taken in taken_by_name.items() if taken[0] == step]
    return Explanation(
        "multiple",
        f"{case.name} takes only multiples of {step} in {' and '.join(same)}: it cannot run at {name} {wrong} in eager "
        f"either ({error}).",
        step_advice(step),
    )


def _step_taken(case: Case, dim: DynamicDim) -> tuple[int, int, str] | None:
    """The number whose multiples alone run, a size that does not, and its error; None if there is no such number.

    Sizes are tried from the traced one on, away from the nearer end, until three multiples ran and nothing between.
    """
    up = dim.max - dim.traced >= dim.traced - dim.min
    end = dim.max if up else dim.min
    sizes = range(dim.traced, end + (1 if up else -1), dim.step if up else -dim.step)
    deadline = time.perf_counter() + BUDGET_SECONDS
    refused: tuple[int, str] | None = None
    step = None
    for size in sizes[1:]:
        away = abs(size - dim.traced)
        if time.perf_counter() > deadline or away > (2 * step if step else LARGEST_STEP * dim.step):
            break
        error = _error_at(case, {dim.name: size})
        if error is not None:
            refused = refused or (size, error)
        elif refused is None:
            return None  # the neighbour runs: any size does, as far as can be seen
        elif step is None:
            step = away
        if step is not None and (error is None) != (size % step == 0):
            return None
    if refused is None or step is None or dim.traced % step:
        return None
    return step, *refused


def _end_is_refused(case: Case, dim: DynamicDim, end: str, size: int, error: str) -> Explanation:
    others = {name: traced for name, traced in case.traced.items() if name != dim.name}
    beside = ", ".join(f"{name} {size}" for name, size in others.items())
    nearest = _nearest_taken(case, dim, size)
    takes_one_size = (
        nearest == dim.traced and _error_at(case, {dim.name: dim.max if end == "min" else dim.min}) is not None
    )
    if takes_one_size and others:
        fix = f"A size that follows from another is written as an expression of it with this package: {dim.name} + 1."
    else:
        fix = f"Use a {end} of {nearest}, the nearest size that it takes."
    return Explanation(
        "range",
        f"{case.name} itself cannot run at {dim.name} {size}, the {end} of the range{beside and f', beside {beside}'} "
        f"({error}).",
        fix,
    )


def _nearest_taken(case: Case, dim: DynamicDim, refused: int) -> int:
    """The size nearest to `refused` that the model takes, if it takes all from there to the traced one."""
    taken = dim.traced
    while abs(taken - refused) > dim.step:
        middle = (taken + refused) // 2 // dim.step * dim.step
        if _error_at(case, {dim.name: middle}) is None:
            taken = middle
        else:
            refused = middle
    return taken


def _error_at(case: Case, sizes: dict[str, int]) -> str | None:
    """The first line of what the model raises at `sizes`, the others as traced; None if it runs."""
    try:
        with without_numbers(case) as model:
            model(*empty_inputs(case, {**case.traced, **sizes}))
    except Exception as error:
        return first_line(error)
    return None
