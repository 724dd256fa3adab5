"""Which sizes of its ranges does a model itself take? It is run at some of them on fake tensors, without numbers.

Upstream's errors name the guard that failed, which may be far from the reason: ``x.chunk(2)`` becomes a quotient, and
two halves become an inequality that holds for every size. That the model takes even sizes only is seen by running it.
"""

import copy
import time
from collections.abc import Iterator

import torch

from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import DynamicDim
from tutorial_lib.explain import Explanation
from tutorial_lib.explain.explanation import common_step, step_advice

TRIED = 64
"""How many sizes around the traced one are tried."""
BUDGET_SECONDS = 3.0
"""A model that takes longer than this for the sizes tried so far is not judged."""


def explain_range(case: Case) -> Explanation | None:
    """Say what of the ranges the model cannot take in eager; None if nothing is found, or it cannot be judged.

    A model that fails without numbers at the traced sizes too is not judged, nor one that needs the values of its
    inputs.
    """
    deadline = time.perf_counter() + BUDGET_SECONDS
    if _error_at(case, {}) is not None:
        return None
    dims = [dim for dim in case.dims.values() if not dim.is_fixed]
    if explanation := _multiples_only(case, dims, deadline):
        return explanation
    for dim in dims:
        for end, size in (("min", dim.min), ("max", dim.max)):
            error = _error_at(case, {dim.name: size}) if time.perf_counter() < deadline else None
            if error is not None:
                return _end_is_refused(case, dim, end, size, error)
    return None


def _multiples_only(case: Case, dims: list[DynamicDim], deadline: float) -> Explanation | None:
    taken_by_name = {dim.name: taken for dim in dims if (taken := _step_taken(case, dim, deadline))}
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


def _step_taken(case: Case, dim: DynamicDim, deadline: float) -> tuple[int, int, str] | None:
    """The number whose multiples alone run, a size that does not, and its error; None if there is no such number."""
    neighbour = next((n for n in (dim.traced + dim.step, dim.traced - dim.step) if dim.min <= n <= dim.max), None)
    error = None if neighbour is None else _error_at(case, {dim.name: neighbour})
    if neighbour is None or error is None:
        return None
    first = max(dim.min, dim.traced - TRIED // 2 * dim.step)
    sizes = range(first, min(dim.max, first + TRIED * dim.step) + 1, dim.step)
    runs = []
    for size in sizes:
        if time.perf_counter() > deadline:
            return None
        if _error_at(case, {dim.name: size}) is None:
            runs.append(size)
    step = common_step(sizes, runs)
    return None if step is None else (step, neighbour, error)


def _end_is_refused(case: Case, dim: DynamicDim, end: str, size: int, error: str) -> Explanation:
    others = {name: traced for name, traced in case.traced.items() if name != dim.name}
    beside = ", ".join(f"{name} {size}" for name, size in others.items())
    expression = f" If sizes belong together, write one as an expression of the other, such as {dim.name} + 1."
    return Explanation(
        "range",
        f"{case.name} itself cannot run at {dim.name} {size}, the {end} of the range{beside and f', beside {beside}'} "
        f"({error}).",
        f"Ask for sizes that the model takes.{expression if others else ''}",
    )


def _error_at(case: Case, sizes: dict[str, int]) -> str | None:
    """The first line of what the model raises at `sizes`, the others as traced; None if it runs."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    shared = {id(x): x for x in _weights(case)}
    every = {**case.traced, **sizes}
    try:
        model = copy.deepcopy(case.model, shared)  # which may keep a fake tensor in an attribute
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            model(*(torch.empty(spec.shape_at(every), dtype=spec.dtype, device=case.device) for spec in case.inputs))
    except Exception as error:
        return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return None


def _weights(case: Case) -> Iterator[torch.Tensor]:
    yield from case.model.parameters()
    yield from case.model.buffers()
