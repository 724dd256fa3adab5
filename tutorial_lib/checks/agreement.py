"""Do two programs compute the same thing? Compared with eager and with a float64 reference.

The words are Polygraphy's (absolute and relative error, minimum required tolerance). The rule is
scale-free, so that it is the same on every model, dtype and TF32 setting:

    the root mean square error against float64 may be at most 4 times that of eager PyTorch
    in the same dtype and TF32 setting on the same inputs.

Why 4: correct float32 compilers measured 1.0 to 2.0 times eager's own error, bfloat16 about 10 000
times (on the tutorial's models, on CPUs); anything between separates them. An output of few numbers
says little about eager's error: by chance it can be several times too small. So of n numbers,
:func:`tolerated` allows (1 + 3 / sqrt(n)) times as much: 7.5 for 12, 4.1 for 10 000. Why not
``torch.allclose``: its default tolerance asks for nearly bitwise equality close to zero, which one
correct matrix product in fifty elements does not give. Where eager happens to be exact, the floor
is the rounding of the dtype itself.

Complex numbers are compared by their real and imaginary parts. Whole numbers and booleans have to be
equal, to eager's or to those that float64 gives (an index of a largest value may differ between the
two, and either is right). NaN and infinity agree where eager or float64 has the same in the same place.

Where the model cannot run in float64 (:class:`tutorial_lib.checks.float64.NoFloat64`), the reference
is eager itself: the root mean square difference from it may be at most 4 times 16 times the rounding
of eager's dtype, relative to the result. The comparison then says so (``Agreement.reference``).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from tutorial_lib.checks import float64, float64_results
from tutorial_lib.checks.float64 import NoFloat64
from tutorial_lib.checks.results import tensors
from tutorial_lib.core.models import Case

TOLERATED = 4.0
"""Error against float64, as a multiple of eager's own, up to which a program agrees: see :func:`tolerated`."""
REPEATS = 1e-4
"""Difference of two equal calls of eager, relative to the result, that may be rounding (a sum in another order)."""
ROUNDINGS = 16.0
"""Eager's own error in roundings of its dtype, assumed where there is no float64 run to measure it with."""
CHUNK = {"cpu": 1 << 19, "cuda": 1 << 24}
"""Elements compared at a time: few enough for the processor's cache, enough to be worth waking OpenMP's threads."""


class NotRepeatable(ValueError):
    """Two equal calls of the model do not do the same, so comparing it with anything means nothing."""

    @classmethod
    def random(cls, name: str) -> "NotRepeatable":
        """What is said of a model called `name` that draws random numbers."""
        return cls(
            f"{name} gives another result each time it is called with the same input: turn off what is random in it "
            "(F.dropout takes training=self.training), or make the noise an input."
        )


@dataclass(frozen=True)
class Agreement:
    """How far an output is from the float64 reference, and whether that is as close as eager.

    Attributes
    ----------
    max_abs, mean_abs : float
        Largest and mean absolute error against float64.
    max_rel, mean_rel : float
        The same relative to the reference's magnitude; elements that are exactly zero are left out.
    rms, floor_rms : float
        Root mean square error of this output, and of eager's (never below the dtype's own rounding).
    tolerated : float
        How large it may be for an output of so many numbers.
    tolerance_abs, tolerance_rel : float
        Minimum required tolerance against eager: with an absolute tolerance of the one *or* a
        relative tolerance of the other, every element would pass.
    worst_index : tuple of int
        Where the absolute error is largest, with `worst_value` there and what it should be; of a complex number,
        the part (real or imaginary) that is further off.
    finite : bool
        No NaN and no infinity, but where the model itself gives them.
    row_spread : float or None
        Largest difference between the rows of one output whose input rows were identical.
    reference : str
        ``float64``, or ``eager`` where the model cannot run in float64.
    """

    max_abs: float
    mean_abs: float
    max_rel: float
    mean_rel: float
    rms: float
    floor_rms: float
    tolerated: float
    tolerance_abs: float
    tolerance_rel: float
    worst_index: tuple[int, ...]
    worst_value: float
    worst_reference: float
    finite: bool
    row_spread: float | None = None
    reference: str = "float64"

    @property
    def ratio(self) -> float:
        """Error against float64 as a multiple of eager's own, ``rms / floor_rms``: the figure that the rule judges."""
        return self.rms / self.floor_rms

    @property
    def agrees(self) -> bool:
        """The verdict of the module's rule."""
        return self.finite and self.ratio <= self.tolerated

    @property
    def rule(self) -> str:
        """The rule with this comparison's numbers, to be read before the verdict."""
        if self.reference != "float64":
            return f"rms difference from eager at most {self.tolerated:.2g} x {self.floor_rms:.1e}"
        return f"rms error against float64 at most {self.tolerated:.2g} x eager's {self.floor_rms:.1e}"

    def to_dict(self) -> dict[str, Any]:
        """All figures and the verdict as plain values."""
        return {**asdict(self), "ratio": self.ratio, "agrees": self.agrees, "rule": self.rule}

    def __str__(self) -> str:
        verdict = "agrees" if self.agrees else "DIFFERS" if self.finite else "DIFFERS (not finite)"
        ratio = f"{self.ratio:.2f}" if self.ratio < 1e4 else f"{self.ratio:.1e}"
        return f"{verdict}: rms error {self.rms:.1e}, {ratio} x eager's; largest {self.max_abs:.1e}"


class Reference:
    """Eager and float64 results of one case, the ground that every comparison stands on.

    Attributes
    ----------
    why_not_float64 : str or None
        Why the model cannot run in float64, once that has been tried; eager is then the reference.
    repeats : bool
        Whether :meth:`check_repeatable` has passed.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.why_not_float64: str | None = None
        self.repeats = False
        self._double: torch.nn.Module | None = None

    def eager(self, inputs: Sequence[torch.Tensor]) -> Any:
        """What PyTorch computes without compiling."""
        return self.case.eager(*inputs)

    def double(self, inputs: Sequence[torch.Tensor]) -> Any:
        """The same model with the same weights and inputs, in float64 (:mod:`tutorial_lib.checks.float64`).

        Raises
        ------
        NoFloat64
            If the model cannot run in float64.
        """
        if self._double is None:
            try:
                self._double = float64.widened(self.case.model)
            except Exception as error:
                raise NoFloat64(f"its copy cannot be made: {error}") from error
        return float64.run(self._double, inputs)

    def double_or_none(self, inputs: Sequence[torch.Tensor], eager: Any) -> Any:
        """As :meth:`double`, but None where that is impossible; :attr:`why_not_float64` then says why.

        `eager` is what :meth:`eager` returns for `inputs` now: the model is not run in float64 again where it was
        before (:mod:`tutorial_lib.checks.float64_results`). Do not write into the result.
        """
        if self.why_not_float64 is None:
            try:
                return float64_results.remembered(self.case.model, inputs, eager, lambda: self.double(inputs))
            except NoFloat64 as error:
                self.why_not_float64 = str(error)
        return None

    def check_repeatable(self, inputs: Sequence[torch.Tensor]) -> None:
        """Call eager twice on a copy of `inputs`.

        Raises
        ------
        NotRepeatable
            If the model writes into them, or gives another result the second time. Its errors against float64 are
            then large whoever computes it, and would hide any real error.
        """
        copies = [x.clone() for x in inputs]
        first = [value.clone() for value in tensors(self.eager(copies))]
        for spec, given, after in zip(self.case.inputs, inputs, copies, strict=True):
            if not torch.equal(given, after):
                raise NotRepeatable(
                    f"{self.case.name} writes into its input {spec.name}, so every call changes the next one's: make a "
                    "new tensor in the model (x = x + 1, not x += 1), or clone it first."
                )
        second = tensors(self.eager(copies))
        same_shapes = [x.shape for x in first] == [x.shape for x in second]
        allowed = max(REPEATS, 10 * _rounding(first)) * _magnitude(first) if first else 0.0
        if not same_shapes or (first and apart(first, second) > allowed):
            raise NotRepeatable.random(self.case.name)
        self.repeats = True

    def compare(self, output: Any, inputs: Sequence[torch.Tensor]) -> Agreement:
        """Compare `output` with both references on `inputs`; see :class:`Agreement`."""
        eager = self.eager(inputs)
        return compare(output, eager, self.double_or_none(inputs, eager))


def compare(output: Any, eager: Any, reference: Any) -> Agreement:
    """Compare one output (a tensor, a number or a nest of them) with eager's and with a float64 reference.

    Parameters
    ----------
    output, eager, reference
        Results of the same model for the same inputs; `reference` is None where there is no float64 run.

    Returns
    -------
    Agreement
        That of the tensor which agrees least.

    Raises
    ------
    ValueError
        If they do not have the same shapes and kinds of numbers (:class:`UncomparableResult` for a class that
        cannot be taken apart).
    """
    return least_agreeing(compare_each(output, eager, reference))


@torch.no_grad()
def compare_each(output: Any, eager: Any, reference: Any) -> tuple[Agreement, ...]:
    """As :func:`compare`, for every tensor of the results by itself, in the order of ``results.tensors``."""
    got, same = tensors(output), tensors(eager)
    true = same if reference is None else tensors(reference)
    shapes = [[tuple(t.shape) for t in each] for each in (got, same, true)]
    if not shapes[0] == shapes[1] == shapes[2] or not got:
        raise ValueError(f"outputs of shape {shapes[0]} cannot be compared with eager's {shapes[1]}.")
    return tuple(_judged(*each, reference is not None) for each in zip(got, same, true, strict=True))


@torch.no_grad()
def surely_agrees(output: Any, eager: Any) -> bool:
    """Whether `output` is so near eager's that it agrees whatever float64 says.

    By the triangle inequality: its error is at most eager's and the difference between the two. With a difference
    of no more than 3 roundings of the dtype it is at most 4 times the larger of eager's error and one rounding.
    """
    for got, same in zip(tensors(output), tensors(eager), strict=True):
        if got.shape != same.shape or got.dtype != same.dtype:
            return False
        if torch.equal(got, same):
            continue
        if not (same.is_floating_point() or same.is_complex()):
            return False
        parts = _parts(same)
        allowed = (TOLERATED - 1) * torch.finfo(parts.dtype).eps / 2 * _magnitude([same])
        if not _rms_apart(_parts(got), parts) <= allowed:
            return False
    return True


def least_agreeing(each: Sequence[Agreement]) -> Agreement:
    """The comparison that is furthest from agreeing."""
    return max(each, key=lambda r: (not r.finite, r.ratio / r.tolerated))


def tolerated(elements: int) -> float:
    """How many times eager's error a program's may be, for an output of so many numbers.

    Eager's root mean square error is an estimate from these. With 99.9 % confidence the true one is less than
    ``1 + 3 / sqrt(elements)`` times as large (within a fifth, that is the bound of the chi-square distribution for
    12 normal errors and more; for fewer, which it leaves all but unbounded, this stays useful).
    """
    return TOLERATED * (1 + 3 / max(elements, 1) ** 0.5)


def _rounding(tensors: Sequence[torch.Tensor]) -> float:
    """The largest relative rounding error of one number in any of these."""
    return max((torch.finfo(t.dtype).eps / 2 for t in tensors if t.is_floating_point()), default=0.0)


def _magnitude(each: Sequence[torch.Tensor]) -> float:
    """The largest root mean square of any of these, without what is not finite."""
    return max(map(_rms, each))


def _rms(tensor: torch.Tensor) -> float:
    values = _parts(tensor)
    if not values.is_floating_point():
        values = values.double()
    norm = float(torch.linalg.vector_norm(values, dtype=torch.float64))
    if not math.isfinite(norm):
        finite = torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        norm = float(torch.linalg.vector_norm(finite, dtype=torch.float64))
    return norm / max(values.numel(), 1) ** 0.5


def _parts(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor along one axis, each complex one as its real and imaginary part."""
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).reshape(-1)


def _judged(output: torch.Tensor, eager: torch.Tensor, reference: torch.Tensor, measured: bool) -> Agreement:
    """One tensor by the rule for its kind of numbers; `measured` where `reference` is a float64 run."""
    if output.is_complex() != eager.is_complex():
        raise ValueError(f"an output of {output.dtype} cannot be compared with eager's of {eager.dtype}.")
    if eager.is_complex():
        parts = [torch.view_as_real(x.resolve_conj()) for x in (output, eager, reference.to(torch.complex128))]
        result = _judged(parts[0], parts[1], parts[2], measured)
        return replace(result, worst_index=result.worst_index[:-1])
    if eager.is_floating_point():
        result = _compare(output, eager, reference)
        if measured:
            return result
        return replace(result, floor_rms=result.floor_rms * ROUNDINGS, reference="eager")
    expected = torch.where(output == reference, reference, eager.to(reference.dtype))
    result = _compare(output, expected, expected)
    if result.agrees and not torch.equal(output.to(expected.dtype), expected):  # beyond 2**53, where float64 has gaps
        result = replace(result, rms=1.0, max_abs=max(result.max_abs, 1.0), floor_rms=torch.finfo(torch.float64).tiny)
    return result


def _forgive_the_models_own(
    got: torch.Tensor,
    same: torch.Tensor,
    true: torch.Tensor,
    error: torch.Tensor,
    other: torch.Tensor,
    scale: torch.Tensor,
) -> None:
    """Set to 0, in place, what a NaN or infinity of the model itself adds to the errors.

    That is all where the program has eager's very value and eager or the reference is not finite (or is beyond what
    float32 holds: ``finfo.min`` of a mask is another number in float64), or where it has the reference's. Elsewhere it
    is eager's error alone, which then would hide any other.
    """
    judged = same.isfinite() & (true.abs() <= torch.finfo(torch.float32).max)
    own = ((got == same) | (got.isnan() & same.isnan())) & ~judged
    own |= _same_not_finite(got, true)
    for values in (got, same, error):
        values.masked_fill_(own, 0.0)
    for values in (other, scale):
        values.masked_fill_(own | ~judged, 0.0)


def _same_not_finite(given: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Where two float64 tensors have the same infinity, or both NaN."""
    return ~given.isfinite() & ((given == expected) | (given.isnan() & expected.isnan()))


def _compare(output: torch.Tensor, eager: torch.Tensor, reference: torch.Tensor) -> Agreement:
    rounding = torch.finfo(eager.dtype if eager.is_floating_point() else torch.float64).eps / 2
    size = output.numel()
    largest = dict.fromkeys(("abs", "rel", "apart", "apart_rel"), 0.0)
    total = dict.fromkeys(("abs", "rel", "square", "floor", "scale"), 0.0)
    nonzero, finite, worst = 0, True, 0
    flat = [tensor.reshape(-1) for tensor in (output, eager, reference)]
    step = min(size, CHUNK[output.device.type])
    memory = [torch.empty(step, dtype=torch.float64, device=output.device) for _ in range(6)]
    for start in range(0, size, step or 1):
        got, same, true, error, other, scale = (piece[: size - start] for piece in memory)
        for piece, tensor in zip((got, same, true), flat, strict=True):
            piece.copy_(tensor[start : start + step])
        torch.sub(got, true, out=error)
        torch.sub(same, true, out=other)
        torch.abs(true, out=scale)
        squares = [float(torch.dot(values, values)) for values in (error, other, scale)]
        if not all(map(math.isfinite, squares)):
            _forgive_the_models_own(got, same, true, error, other, scale)
            squares = [float(torch.dot(values, values)) for values in (error, other, scale)]
        for name, square in zip(("square", "floor", "scale"), squares, strict=True):
            total[name] += square
        absolute = float(error.abs_().sum())
        total["abs"] += absolute
        finite = finite and (math.isfinite(absolute) or bool(got.isfinite().all()))
        peak = _largest(error)
        if peak > largest["abs"] or start == 0:
            here = error.nan_to_num(nan=torch.inf, posinf=torch.inf) == peak
            largest["abs"], worst = peak, start + int(here.int().argmax())
        torch.sub(got, same, out=other).abs_()
        largest["apart"] = max(largest["apart"], _largest(other))
        largest["apart_rel"] = max(largest["apart_rel"], _largest(_over(other, same.abs_(), other == 0)))
        nonzero += int(scale.count_nonzero())
        relative = _over(error, scale, scale == 0)
        total["rel"] += float(relative.sum())
        largest["rel"] = max(largest["rel"], _largest(relative))
    rms = {name: (total[name] / max(size, 1)) ** 0.5 for name in ("square", "scale", "floor")}
    worst_index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), output.shape)) if size else ()
    return Agreement(
        max_abs=largest["abs"],
        mean_abs=total["abs"] / max(size, 1),
        max_rel=largest["rel"],
        mean_rel=total["rel"] / max(nonzero, 1),
        rms=rms["square"],
        floor_rms=max(rms["floor"], rounding * rms["scale"], torch.finfo(torch.float64).tiny),
        tolerated=tolerated(size),
        tolerance_abs=largest["apart"],
        tolerance_rel=largest["apart_rel"],
        worst_index=worst_index,
        worst_value=float(output[worst_index]) if size else 0.0,
        worst_reference=float(reference[worst_index]) if size else 0.0,
        finite=finite,
    )


def _over(error: torch.Tensor, scale: torch.Tensor, without: torch.Tensor) -> torch.Tensor:
    """`error` relative to `scale`, in the memory of `error`, and 0 in the places `without`."""
    return error.div_(scale).masked_fill_(without, 0.0)


def _largest(values: torch.Tensor) -> float:
    """The largest of some values that are not negative; NaN counts as infinite."""
    peak = float(values.max())
    return math.inf if math.isnan(peak) else peak


@torch.no_grad()
def row_spread(program: Any, case: Case, sizes: dict[str, int]) -> float | None:
    """Largest difference between output rows when every row of the inputs is the same.

    Rows are taken along the first dynamic dimension, on each input's axis of that name and on axis 0
    of the outputs. None where that dimension is 1, missing, or not the outputs' first axis.
    """
    if not sizes:
        return None
    batch = next(iter(case.dims))
    rows = sizes[batch]
    if rows < 2:
        return None
    inputs = []
    for spec, tensor in zip(case.inputs, case.example(sizes), strict=True):
        axis = next((axis for axis, dim in enumerate(spec.shape) if getattr(dim, "name", None) == batch), None)
        same = tensor if axis is None else tensor.narrow(axis, 0, 1).expand_as(tensor).contiguous()
        inputs.append(same)
    outputs = [t for t in tensors(program(*inputs)) if t.dim() and t.shape[0] == rows and t.numel()]
    if not outputs:
        return None
    return max(_largest_apart(row, t[0]) for t in outputs for row in t[1:])


def _largest_apart(first: torch.Tensor, second: torch.Tensor) -> float:
    given, expected = _parts(first).double(), _parts(second).double()
    return float((given - expected).abs_().masked_fill_(_same_not_finite(given, expected), 0.0).max())


@torch.no_grad()
def apart(first: Any, second: Any) -> float:
    """Root mean square difference of two outputs: how far two paths are from each other."""
    return max(apart_each(first, second))


@torch.no_grad()
def apart_each(first: Any, second: Any) -> list[float]:
    """As :func:`apart`, for every tensor of the outputs by itself."""
    return [_rms_apart(_parts(a), _parts(b)) for a, b in zip(tensors(first), tensors(second), strict=True)]


def _rms_apart(first: torch.Tensor, second: torch.Tensor) -> float:
    total, step = 0.0, CHUNK[first.device.type]
    for start in range(0, first.numel(), step):
        given, expected = (tensor[start : start + step].double() for tensor in (first, second))
        squares = float((given - expected).square_().sum())
        if not math.isfinite(squares):
            squares = float((given - expected).masked_fill_(_same_not_finite(given, expected), 0.0).square_().sum())
        total += squares
    return (total / max(first.numel(), 1)) ** 0.5
