"""Is a program right at the ends of its range? It is called at min, opt and max of each dimension, beside eager.

A compiler may be wrong at one size alone: at 1, which tracing never sees, or where a size that changes elsewhere
happens to stay (https://github.com/pytorch/pytorch/issues/198201). A sweep over the first dimension does not see that.

Eager at max may need more memory or time than anybody would wait for. What is above opt is therefore estimated first,
from a run of the model on fake tensors (shapes without numbers), and left out, with the reason, where its memory is
not there or the seconds that eager takes at all of these sizes would exceed a budget (:data:`BUDGET_SECONDS`).
"""

import contextlib
import math
import re
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tutorial_lib.checks import agreement, results
from tutorial_lib.checks.agreement import Agreement, Reference
from tutorial_lib.checks.sizes_taken import explain_range
from tutorial_lib.checks.without_numbers import empty_inputs, without_numbers
from tutorial_lib.core.errors import first_line
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import DynamicDim
from tutorial_lib.explain import explain

BUDGET_SECONDS = 0.5
"""Seconds that eager may take, for each build, at all sizes above opt together. The comparison costs about four times
as much where float64 has to decide, and twice as much where the program's numbers are all but eager's."""
MEMORY_SHARE = 0.5
"""Share of the free memory that a call may be expected to take."""
CALLS_AT_A_TIME = 4
"""Eager, the program, and float64, which takes twice as much: what a comparison may hold, in calls of eager."""
_budget = BUDGET_SECONDS


@contextlib.contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Another budget than :data:`BUDGET_SECONDS` for the builds inside the ``with`` block; ``math.inf`` for none."""
    global _budget
    before, _budget = _budget, seconds
    try:
        yield
    finally:
        _budget = before


@dataclass(frozen=True)
class CornerCheck:
    """What was compared with eager, and what was not, each as sizes (``batch 4, length 64``), the latter with why."""

    checked: tuple[str, ...]
    not_checked: tuple[str, ...]


class WrongAtCorner(RuntimeError):
    """The program cannot run at some sizes of its range, or its numbers are wrong there, in one sentence."""


@dataclass(frozen=True)
class Cost:
    """What one call of a model takes: most bytes at a time beside its weights, bytes written in all, FLOPs."""

    peak_bytes: int
    written_bytes: int
    flops: int

    def times(self, other: "Cost") -> float:
        """How many times as long as `other` a call of this takes: by FLOPs or by bytes, whichever says more."""
        return max(self.flops / max(other.flops, 1), self.written_bytes / max(other.written_bytes, 1))


def label(sizes: Mapping[str, int]) -> str:
    """Sizes as they are told: ``batch 4, length 64``."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def corners(*boxes: Mapping[str, DynamicDim]) -> list[dict[str, int]]:
    """The sizes to check of each box: opt, each dimension at its min and at its max by itself, all at min, all at max.

    Examples
    --------
    >>> [label(sizes) for sizes in corners({"batch": DynamicDim("batch", 1, 4, 32)})]
    ['batch 1', 'batch 4', 'batch 32']
    """
    every: list[dict[str, int]] = []
    for dims in boxes:
        opt = {name: dim.opt for name, dim in dims.items()}
        below = [{**opt, name: dim.min} for name, dim in dims.items()]
        above = [{**opt, name: dim.max} for name, dim in dims.items()]
        lowest, highest = ({name: getattr(dim, end) for name, dim in dims.items()} for end in ("min", "max"))
        every += [*below, lowest, opt, *sorted(above, key=lambda sizes: math.prod(sizes.values())), highest]
    return list({tuple(sizes.items()): sizes for sizes in every}.values())


def check_corners(
    case: Case, program: Callable[..., Any], recompiles: tuple[type[Exception], ...] = (), engines: int = 1
) -> CornerCheck:
    """Compare `program` with eager at the :func:`corners` of its case.

    `recompiles` are what `program` raises where it would compile again; `engines` is how many it is made of, for the
    sentence where it cannot run.

    Raises
    ------
    WrongAtCorner
        If the program cannot run at a corner where eager can, or differs there.
    UncomparableResult
        If the model returns what cannot be compared, or the program returns another kind of thing.
    """
    reference, spent, checked, left_out = Reference(case), 0.0, [], []
    measured: tuple[dict[str, int], float] | None = None  # the largest sizes up to opt, and eager's seconds there
    costs: dict[str, Cost | None] = {}
    boxes = [{dim.name: dim for dim in profile} for profile in case.profiles] or [case.dims]
    for sizes in corners(*boxes):
        above = any(size > case.dims[name].opt for name, size in sizes.items())
        reason = None
        if above:
            reason = too_large(case, sizes) or (measured and _too_slow(case, sizes, measured, _budget - spent, costs))
        if reason:
            left_out.append(f"{label(sizes)}: {reason}")
            continue
        inputs = case.example(sizes)
        of_eager, given = ([x.clone() for x in inputs] for _ in range(2))
        start, start_cpu = time.perf_counter(), time.process_time()
        try:
            expected = reference.eager(of_eager)
            if case.device.type == "cuda":
                torch.cuda.synchronize(case.device)
        except IndexError as error:
            raise WrongAtCorner(
                f"{case.name} itself cannot run at {_deviation(case, sizes)} ({first_line(error)}): a table that it "
                "looks sizes up in is shorter; give the DynamicDim the length of the table as limit=."
            ) from error
        except (RuntimeError, ValueError) as error:
            if explain(error).kind == "sizes":
                raise WrongAtCorner(_sizes_do_not_fit(case, sizes, reference, error)) from error
            if refused := explain_range(case):
                raise WrongAtCorner(f"{refused.cause} {refused.fix_here or refused.fix}") from error
            left_out.append(f"{label(sizes)}: eager itself fails with the example inputs ({first_line(error)})")
            continue
        seconds = time.perf_counter() - start
        if case.device.type == "cpu":  # beside other processes the time that passes says little
            seconds = min(seconds, time.process_time() - start_cpu)
        if above:
            spent += seconds
        if not above or measured is None:
            measured = max(measured or (sizes, seconds), (sizes, seconds), key=lambda each: math.prod(each[0].values()))
        try:
            output = program(*given)
        except recompiles as error:
            raise WrongAtCorner(_compiles_again(case, sizes, error)) from error
        except (RuntimeError, AssertionError) as error:  # a guard of torch.export's is an assertion
            cut = f"; cut into {engines} engines, only the first accepts it" if engines > 1 else ""
            raise WrongAtCorner(
                f"cannot run at {_deviation(case, sizes)} ({first_line(error)}{cut}); "
                f"{_advice(case, sizes, reference, program)}"
            ) from error
        difference = _differs(reference, output, expected, inputs)
        if difference:
            advice = _advice(case, sizes, reference, program)
            raise WrongAtCorner(f"is wrong at {_deviation(case, sizes)} ({difference}); {advice}")
        if not _same_inputs(given, of_eager):
            raise WrongAtCorner(
                f"leaves other numbers in its inputs than eager, into which {case.name} writes; let the model make a "
                "new tensor and return it (x = x + 1, not x += 1), or use another backend."
            )
        checked.append(label(sizes))
    return CornerCheck(tuple(checked), tuple(left_out))


def estimate(case: Case, sizes: Mapping[str, int]) -> Cost | None:
    """What a call of eager at `sizes` takes, from a run without numbers; None where the model cannot run so."""
    try:
        with without_numbers(case) as model, _Tally() as tally:
            inputs = empty_inputs(case, sizes)
            with FlopCounterMode(display=False) as counter:
                model(*inputs)
    except Exception:
        return None
    return Cost(tally.peak, tally.written, counter.get_total_flops())


class _Tally(TorchDispatchMode):
    """Counts the bytes of every tensor that is made, and the most that are alive at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.alive = self.written = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in pytree.tree_leaves(args) if isinstance(x, torch.Tensor)}
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in given:
                size = tensor.untyped_storage().nbytes()
                self.written += size
                self.alive += size
                self.peak = max(self.peak, self.alive)
                weakref.finalize(tensor.untyped_storage(), self._freed, size)
        return result

    def _freed(self, size: int) -> None:
        self.alive -= size


def too_large(case: Case, sizes: Mapping[str, int]) -> str | None:
    """Why comparing at `sizes` would take more memory than there is to take, by an estimate; None if it fits."""
    opt = {name: dim.opt for name, dim in case.dims.items()}
    growth = max(math.prod(sizes.values()) / math.prod(opt.values()), 1.0)
    data = sum(math.prod(spec.shape_at(sizes)) * spec.dtype.itemsize for spec in case.inputs)
    free = free_bytes(case.device)
    if data * growth**2 * 100 <= free * MEMORY_SHARE:  # even if memory grows with the square of every size
        return None
    cost = estimate(case, sizes)
    needed = CALLS_AT_A_TIME * (cost.peak_bytes if cost else data * growth) + data
    if needed <= free * MEMORY_SHARE:
        return None
    return f"comparing takes about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"


def _too_slow(
    case: Case,
    sizes: Mapping[str, int],
    measured: tuple[dict[str, int], float],
    left: float,
    costs: dict[str, Cost | None],
) -> str | None:
    """Why eager would take longer at `sizes` than the seconds `left`; `measured` is what it took at smaller ones."""
    smaller, seconds = measured
    growth = math.prod(sizes.values()) / math.prod(smaller.values())
    if seconds * growth**2 <= left:
        return None
    for each in (sizes, smaller):
        if label(each) not in costs:
            costs[label(each)] = estimate(case, each)
    cost, base = costs[label(sizes)], costs[label(smaller)]
    expected = seconds * max(cost.times(base), 1.0) if cost and base else seconds * growth
    if expected <= left:
        return None
    up, down = math.ceil(100 * expected) / 100, math.floor(100 * max(left, 0)) / 100  # so that the two differ
    return f"eager takes about {up:.2f} s, and of the {_budget:g} s for checks above opt {down:.2f} s are left"


def free_bytes(device: torch.device) -> float:
    """Bytes of memory that can still be taken on `device`."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    left = [float(psutil.virtual_memory().available)]
    with contextlib.suppress(OSError, ValueError):  # a container's own limit
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text() for name in ("max", "current"))
        left.append(float(int(limit) - int(used)))
    return min(left)


def _differs(reference: Reference, output: Any, eager: Any, inputs: Sequence[torch.Tensor]) -> Agreement | str | None:
    """How `output` is wrong, or None. Float64 is asked only where the numbers are not all but eager's."""
    try:
        results.check_form(output, eager)
        if agreement.surely_agrees(output, eager):
            return None
        result = agreement.compare(output, eager, reference.double_or_none(inputs, eager))
    except results.UncomparableResult:
        raise
    except ValueError as error:
        return str(error)
    if not (result.agrees and reference.repeats):
        reference.check_repeatable(inputs)  # beside the error of a model that is random, everything agrees
    return None if result.agrees else result


def _same_inputs(given: Sequence[torch.Tensor], of_eager: Sequence[torch.Tensor]) -> bool:
    """Whether a call left the same numbers in its inputs as eager did, up to rounding."""
    pairs = zip(given, of_eager, strict=True)
    return all(torch.allclose(mine, its, rtol=1e-3, atol=1e-5, equal_nan=True) for mine, its in pairs)


def _sizes_do_not_fit(case: Case, sizes: Mapping[str, int], reference: Reference, error: Exception) -> str:
    text = f"{case.name} itself cannot run at {label(sizes)} ({first_line(error)})"
    if len(sizes) == 1:
        return f"{text}; {_advice(case, sizes, reference, case.eager)}"
    return (
        f"{text}. Ask for sizes that the model takes; with this package, a size that follows from another is written "
        f"as an expression of it, such as {next(iter(sizes))} + 1."
    )


def _compiles_again(case: Case, sizes: Mapping[str, int], error: Exception) -> str:
    value = re.search(r"\binput_(\d+)\.item\(\) ==", str(error))
    if value:
        name = case.inputs[int(value[1])].name
        return (
            f"makes a constant of the value of {name}, as of any number; give {name} one dimension and look it up with "
            "index_select, or, with torch 2.13, take the export path."
        )
    return (
        f"would compile again at {_deviation(case, sizes)} ({first_line(error)}); what the guard names must not change "
        "from call to call, or take the export path."
    )


def _deviation(case: Case, sizes: Mapping[str, int]) -> str:
    """The sizes that are not opt, or all of them where all are."""
    away = {name: size for name, size in sizes.items() if size != case.dims[name].opt}
    return " and ".join(f"{name} {size}" for name, size in (away or sizes).items()) or "its only size"


def _advice(case: Case, sizes: Mapping[str, int], reference: Reference, program: Callable[..., Any]) -> str:
    """What to type instead: the end of the range moved to the next size, where the program is right at that size."""
    changes = []
    for name, size in sizes.items():
        dim = case.dims[name]
        end, moved = ("min", size + dim.step) if size < dim.opt else ("max", size - dim.step)
        if size != dim.opt and _is_right(case, {**sizes, name: moved}, reference, program):
            changes.append((name, f"a {end} of {moved}"))
    if not changes:
        return "use another path or backend for this model."
    if len(changes) == 1:
        return f"use {changes[0][1]}."
    return "use " + " or ".join(f"{change} for {name}" for name, change in changes) + "."


def _is_right(case: Case, sizes: Mapping[str, int], reference: Reference, program: Callable[..., Any]) -> bool:
    inputs = case.example(sizes)
    try:
        return not _differs(reference, program(*(x.clone() for x in inputs)), reference.eager(inputs), inputs)
    except Exception:
        return False
