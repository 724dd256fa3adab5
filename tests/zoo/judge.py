"""Is a compiled program right? Asked without any code of the library that compiled it.

The yardstick is the model itself, widened to float64 here, and else eager PyTorch in the model's own precision. The
program is called at the corners of its ranges and at sizes between, with numbers that no build has seen.
"""

import copy
import itertools
import random
import re
from collections.abc import Mapping

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WORKS, REFUSED, LATE, UNFINISHED, WRONG, CRASHED = VERDICTS = (
    "works", "refused", "refused late", "unfinished", "wrong", "crashed"
)  # fmt: skip
"""Right everywhere; refused in a sentence by the build, or by a call; more than the time limit; a wrong result without
a word; a raw error."""

MULTIPLE = 8.0
"""Largest error against float64, as a multiple of eager's own."""
FLOOR, HIGHEST_FLOOR = 64, 0.02
"""An error of so many roundings of the result's dtype is none, and of this at most, relative to its largest number."""
BETWEEN = 3
"""How many sizes between the ends are tried."""
RAW_ERROR = re.compile(r"\b[A-Z]\w*(Error|Exception|Violation|Unsupported)\w*: ")
"""An error's name and its first line in a sentence: it was not understood."""


def verdict_of(compile_, case):
    """Compile and judge: the verdict, what was said, and the notes and unchecked sizes of the build.

    Parameters
    ----------
    compile_ : callable
        Makes a program from the case.
    case : tutorial_lib.Case
        The model and its ranges.
    """
    model = copy.deepcopy(case.model)  # a build must leave the model alone
    try:
        program = compile_(case)
    except Exception as error:
        return refusal(error), str(error)
    notes = "; ".join((*program.build.notes, *(f"not checked: {each}" for each in program.build.not_checked)))
    if problem := _changed(model, case.model):
        return WRONG, f"the build changed the model: {problem}"
    try:
        problem = mistake(program, model, case)
    except Exception as error:
        late = LATE if refusal(error) == REFUSED else CRASHED
        return late, f"a call inside the range failed: {type(error).__name__}: {error}"
    return (WRONG, f"{problem} [{notes}]") if problem else (WORKS, notes)


def refusal(error):
    """Whether an error is a refusal in a sentence, or raw."""
    ours = type(error).__module__.startswith("tutorial_lib")
    return REFUSED if ours and not RAW_ERROR.search(str(error)) else CRASHED


def mistake(program, model, case):
    """The first size at which a program is wrong, and how; None if it is right at all that are tried."""
    outputs = []
    for index, sizes in enumerate(sizes_of(case)):
        inputs = numbers(case, sizes, seed=1000 + index)
        given, of_eager = ([x.clone() for x in inputs] for _ in range(2))
        with torch.no_grad():
            eager = copy.deepcopy(model(*of_eager))
            if index == 0 and _differs(model(*(x.clone() for x in given)), eager, None):
                return "the model gives another result each time, and nothing says so"
        output = program(*inputs)
        if not all(map(_same, inputs, of_eager)):  # a model may write into its inputs, and then a program has to
            return f"at {sizes}: the program leaves other numbers in its inputs than eager"
        outputs.append((sizes, given, output, eager))
    for sizes, inputs, output, eager in outputs:  # after all calls, for what a later call may have overwritten
        wide = in_float64(model, inputs)
        if problem := _differs(output, eager, wide, 0.0 if wide is not None else coarsest(model, inputs)):
            return f"at {sizes}: {problem}"
    return None


def sizes_of(case):
    """Opt, each end of each range by itself, all ends together, and some sizes between, in no order."""
    opt = {name: dim.opt for name, dim in case.dims.items()}
    ends = [{**opt, name: getattr(dim, end)} for name, dim in case.dims.items() for end in ("min", "max")]
    together = [{name: getattr(dim, end) for name, dim in case.dims.items()} for end in ("min", "max")]
    dice = random.Random(1)
    between = [
        {name: dice.randrange(dim.min, dim.max + 1, dim.step) for name, dim in case.dims.items()}
        for _ in range(BETWEEN)
    ]
    every = {tuple(sizes.items()): sizes for sizes in (opt, *ends, *together, *between)}
    return dice.sample(list(every.values()), len(every))


def numbers(case, sizes, seed):
    """Inputs of a case: its own examples where it has them, else random ones."""
    torch.manual_seed(seed)
    if case.examples is not None:
        return tuple(case.examples(dict(sizes)))
    return tuple(_random(spec.dtype, spec.shape_at(sizes), spec.high or 2) for spec in case.inputs)


def _random(dtype, shape, high):
    if dtype == torch.bool:
        return torch.rand(shape) < 0.7
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, dtype=dtype)
    return torch.randint(high, shape, dtype=dtype)


def in_float64(model, inputs):
    """What the model gives in float64; None where it cannot run so, or computes in another dtype by itself."""
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        wide = copy.deepcopy(model).double()
        with torch.no_grad():
            return wide(*(x.double() if x.is_floating_point() else x for x in inputs))
    except Exception:
        return None
    finally:
        torch.set_default_dtype(default)


class _Rounding(TorchDispatchMode):
    """Notes the coarsest rounding of what operators compute, relative to 1."""

    coarsest = 0.0

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        result = operator(*arguments, **(keywords or {}))
        for _, x in leaves(result):
            if isinstance(x, torch.Tensor) and x.is_floating_point():
                self.coarsest = max(self.coarsest, torch.finfo(x.dtype).eps)
        return result


def coarsest(model, inputs):
    """The coarsest rounding of any operator, where float64 cannot tell what the model's own precision costs."""
    with torch.no_grad(), _Rounding() as seen:
        model(*(x.clone() for x in inputs))
    return seen.coarsest


def leaves(result, path="result"):
    """Every tensor and plain value of a result with its place, dataclasses and classes with fields taken apart."""
    if isinstance(result, Mapping):
        items = [(f"{path}[{key!r}]", value) for key, value in result.items()]
    elif isinstance(result, tuple | list):
        items = [(f"{path}[{index}]", value) for index, value in enumerate(result)]
    elif hasattr(result, "__dataclass_fields__"):
        items = [(f"{path}.{name}", getattr(result, name)) for name in result.__dataclass_fields__]
    else:
        return [(path, result)]
    return list(itertools.chain.from_iterable(leaves(value, where) for where, value in items))


def _differs(output, eager, wide, rounding=0.0):
    """How a result is wrong, or None; `wide` is the result in float64 or None.

    `rounding` is that of what was computed on the way, where it is coarser than that of the result's dtype.
    """
    if type(output) is not type(eager):
        return f"it is a {type(output).__name__}, not a {type(eager).__name__}"
    got, same = leaves(output), leaves(eager)
    true = same if wide is None else leaves(wide)
    if [place for place, _ in got] != [place for place, _ in same]:
        return f"it has {[place for place, _ in got]}, not {[place for place, _ in same]}"
    for (place, mine), (_, theirs), (_, exact) in zip(got, same, true, strict=True):
        if problem := _leaf_differs(mine, theirs, exact, rounding):
            return f"{place} {problem}"
    return None


def _leaf_differs(got, eager, true, rounding):
    if not isinstance(eager, torch.Tensor):
        right = type(got) is type(eager) and got == eager
        return None if right else f"is {got!r}, not {eager!r}"
    if not isinstance(got, torch.Tensor) or got.dtype != eager.dtype or got.shape != eager.shape:
        return f"is a {_kind(got)}, not a {_kind(eager)}"
    if not (eager.is_floating_point() or eager.is_complex()):
        right = got == eager
        if true.shape == eager.shape and true.dtype == eager.dtype:
            right = right | (got == true)  # of two equal scores either may be the larger one
        return None if bool(right.all()) else f"differs in {int((~right).sum())} of {right.numel()} places"
    if true.shape != eager.shape:
        return "has another shape in float64"
    rounding = max(rounding, torch.finfo(eager.dtype).eps)
    got, eager, true = (_parts(tensor) for tensor in (got, eager, true))
    if bool((got.isnan() != eager.isnan()).any()) or bool((got.isinf() & (got != eager)).any()):
        return "has NaN or infinity in other places than the model"
    if bool((eager.isinf() & (got != eager)).any()):
        return "is finite where the model has infinity"
    compared = eager.isfinite() & true.isfinite()
    if not bool(compared.any()):
        return None
    got, eager, true = got[compared], eager[compared], true[compared]
    error, own, scale = (float(each.abs().max()) for each in (got - true, eager - true, true))
    allowed = max(MULTIPLE * own, min(FLOOR * rounding, HIGHEST_FLOOR) * scale)
    return None if error <= allowed else f"is {error:.1e} from float64 (eager: {own:.1e}), and its largest {scale:.1e}"


def _parts(tensor):
    """The numbers of a tensor in float64, each complex one as two."""
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).double().flatten()


def _kind(value):
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


def _same(one, other):
    return torch.equal(one.nan_to_num(), other.nan_to_num())


def _changed(before, after):
    """The first parameter or buffer that differs between two copies of a model, or None."""
    now = {**dict(after.named_parameters()), **dict(after.named_buffers())}
    then = {**dict(before.named_parameters()), **dict(before.named_buffers())}
    if now.keys() != then.keys():
        return f"it has other tensors: {sorted(now.keys() ^ then.keys())}"
    return next((name for name, tensor in then.items() if not _same(tensor, now[name])), None)
