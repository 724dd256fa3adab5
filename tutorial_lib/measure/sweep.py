"""Paths x batch sizes -> one table of latency and agreement, with what is needed to trust it."""

import datetime
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tutorial_lib.builds import report
from tutorial_lib.builds.program import Compiled
from tutorial_lib.checks import agreement, corners
from tutorial_lib.core import precision
from tutorial_lib.core.files import save, with_floats
from tutorial_lib.core.models import Case
from tutorial_lib.core.progress import Listener, Progress
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.measure import latency, memory

SCHEMA = 1
WITHOUT_FLOAT64 = (
    f"rms difference from eager at most {agreement.TOLERATED:g} x {agreement.ROUNDINGS:g} roundings of its dtype; "
    "more for few numbers"
)
EAGER = "eager PyTorch"
"""Name of the baseline in every table; it is PyTorch without compiling, not the backend ``eager``."""


@dataclass(frozen=True)
class Sweep:
    """Results of one sweep.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each program and size: latency in milliseconds (``median_ms``, ``p90_ms``, ...),
        ``speedup`` over eager, agreement with float64 (``max_abs``, ``ratio``, ``agrees``, ...), and on a GPU the
        memory that a call takes (``peak_mb``, see :func:`tutorial_lib.measure.memory.peak`).
    pairs : pandas.DataFrame
        One row for each two paths and size: their root mean square difference, in units of eager's
        own error, and whether that is within twice the tolerance of one path.
    builds : list of dict
        The build record of each path.
    provenance : dict
        Case, ranges, device, versions, settings, date.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    builds: list[dict[str, Any]]
    provenance: dict[str, Any]

    @property
    def agrees(self) -> bool:
        """Whether every path agrees with float64, and with every other path, at every size."""
        return bool(self.table["agrees"].all() and self.pairs["agrees"].all())

    @property
    def verdict(self) -> str:
        """One sentence on all comparisons, and one on what neither they nor the builds have compared."""
        return " ".join([self._judgement, *self._not_checked])

    @property
    def _judgement(self) -> str:
        reason = self.provenance.get("why_not_float64")
        judge = f"eager (the float64 reference cannot run here: {reason})" if reason else "float64"
        if self.agrees:
            return f"All paths agree with {judge}, and with each other, at every size."
        own, between = int((~self.table["agrees"]).sum()), int((~self.pairs["agrees"]).sum())
        return (
            f"{own} of {len(self.table)} results differ from {judge}, "
            f"{between} of {len(self.pairs)} pairs of paths differ."
        )

    @property
    def _not_checked(self) -> list[str]:
        """A sentence for each end of the range at which neither a build nor this sweep compared a path."""
        dims = [dim["name"] for dim in self.provenance["dims"]]
        compared = {_label(dict(zip(dims, sizes, strict=True))) for sizes in self.table[dims].itertuples(index=False)}
        skipped: dict[str, list[str]] = {}
        for build in self.builds:
            for entry in build.get("not_checked", ()):
                if entry.split(":")[0] not in compared:
                    skipped.setdefault(entry, []).append(build["path"])
        for entry in self.provenance.get("left_out", ()):
            skipped.setdefault(entry, ["all paths"])
        return [f"Not checked: {', '.join(paths)} at {entry}." for entry, paths in skipped.items()]

    def summary(self) -> pd.DataFrame:
        """The table for reading: the main columns, formatted, paths side by side for each size."""
        dims = [dim["name"] for dim in self.provenance["dims"]]
        table = self.table.sort_values(dims, kind="stable")
        return pd.DataFrame(
            {
                **{name: table[name] for name in dims},
                "path": table["path"],
                "median ms": table["median_ms"].map("{:.3f}".format),
                "p90 ms": table["p90_ms"].map("{:.3f}".format),
                "p99 ms": table["p99_ms"].map("{:.3f}".format),
                "samples/s": table["samples_per_second"].map("{:.0f}".format),
                **({"peak MB": table["peak_mb"].map("{:.1f}".format)} if "peak_mb" in table else {}),
                "speedup": table["speedup"].map("{:.2f}x".format),
                "max abs error": table["max_abs"].map("{:.1e}".format),
                "error / eager's": table["ratio"].map("{:.2f}x".format),
                "agrees": table["agrees"].map({True: "yes", False: "NO"}),
                "note": table["warning"].fillna(""),
            }
        ).reset_index(drop=True)

    @property
    def held(self) -> dict[str, int]:
        """The dimensions after the first that were measured at one size only, with that size."""
        found = {dim["name"]: self.table[dim["name"]].unique() for dim in self.provenance["dims"][1:]}
        return {name: int(sizes[0]) for name, sizes in found.items() if len(sizes) == 1}

    def at(self, **sizes: int) -> "Sweep":
        """What was measured at these sizes, such as one line of a grid: ``plots.latency(found.at(length=64))``.

        Figures are then over the first of the other dimensions.

        Raises
        ------
        ShapeError
            If nothing was.
        """
        known = {dim["name"]: sorted(set(self.table[dim["name"]])) for dim in self.provenance["dims"]}
        table, pairs = self.table, self.pairs
        for name, size in sizes.items():
            if size not in known.get(name, ()):
                measured = "; ".join(f"{dim} {', '.join(map(str, some))}" for dim, some in known.items())
                raise ShapeError(f"{name} {size} was not measured; what was is {measured}.")
            table, pairs = table[table[name] == size], pairs[pairs[name] == size]
        if table.empty:
            raise ShapeError(f"{_label(sizes)} were not measured together; leave one of them out.")
        dims = sorted(self.provenance["dims"], key=lambda dim: dim["name"] in sizes)
        about = {**self.provenance, "dims": dims}
        return replace(self, table=table.reset_index(drop=True), pairs=pairs.reset_index(drop=True), provenance=about)

    def json(self) -> str:
        """Everything as text; what is not finite becomes null."""
        tables = {"table": self.table.to_dict("records"), "pairs": self.pairs.to_dict("records")}
        content = {"schema": SCHEMA, "provenance": self.provenance, "builds": self.builds, **tables}
        plain = with_floats(content, lambda value: value if math.isfinite(value) else None)
        return json.dumps(plain, indent=1, allow_nan=False) + "\n"

    def to_json(self, path: str | Path) -> None:
        """Write :meth:`json` to `path`."""
        save(Path(path), self.json())

    def to_csv(self, path: str | Path) -> None:
        """Write the table to `path`."""
        save(Path(path), self.table.to_csv(index=False))

    @classmethod
    def from_json(cls, path: str | Path) -> "Sweep":
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ValueError
            If the file is not a sweep of this schema.
        """
        try:
            return cls.from_content(json.loads(Path(path).read_text()))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a sweep that this version can read ({error}).") from None

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "Sweep":
        """What :meth:`json` says, once it is parsed; KeyError, TypeError or ValueError if it is something else."""
        if content["schema"] != SCHEMA:
            raise ValueError(f"its schema is {content['schema']}, and this version reads {SCHEMA}")
        table, about = pd.DataFrame(content["table"]), content["provenance"]
        table["worst_index"] = table["worst_index"].map(tuple)
        pairs = _pairs(content["pairs"], [dim["name"] for dim in about["dims"]])
        return cls(table, pairs, content["builds"], about)


def default_sizes(case: Case) -> list[int]:
    """Sizes of the first dynamic dimension worth measuring: min, the powers of two, opt, max."""
    dim = next(iter(case.dims.values()), None)
    if dim is None:
        raise ShapeError(f"{case.name} has no dynamic dimension to sweep over.")
    powers = (dim.step * 2**power for power in range(dim.max.bit_length()))
    return sorted({dim.min, dim.opt, dim.max, *(size for size in powers if dim.min <= size <= dim.max)})


def grid(case: Case, **sizes: Iterable[int]) -> list[dict[str, int]]:
    """Every combination of these sizes, for :func:`sweep`: ``grid(case, batch=[1, 4], length=[8, 64])``.

    Dimensions that are not named stay at opt.

    Raises
    ------
    ShapeError
        If a size is outside its range, or there are none.
    """
    if not sizes:
        known = ", ".join(case.dims) or "none"
        raise ShapeError(f"a grid needs sizes of at least one dimension; {case.name} has {known}.")
    for name, some in sizes.items():
        if isinstance(some, str) or not isinstance(some, Iterable):
            raise ShapeError(f"{name}: {some!r} is not a list of sizes; give one such as [{some}].")
    axes = [dict.fromkeys(some) for some in sizes.values()]
    return check_sizes(case, [dict(zip(sizes, each, strict=True)) for each in product(*axes)])


def check_sizes(case: Case, sizes: Iterable[int | Mapping[str, int]]) -> list[dict[str, int]]:
    """Every size by dimension name, checked against the ranges of `case`.

    Raises
    ------
    ShapeError
        If one is outside, or there is none.
    """
    checked = [case.sizes(size) for size in sizes]
    for size in checked:
        for name, dim in case.dims.items():
            if not dim.min <= size[name] <= dim.max:
                raise ShapeError(f"{name} {size[name]} cannot be measured: the range is {dim.min} to {dim.max}.")
            if size[name] % dim.step:
                raise ShapeError(f"{name} {size[name]} cannot be measured: it is no multiple of {dim.step}.")
    if not checked:
        raise ShapeError("there are no sizes to measure; give at least one.")
    return checked


def sweep(
    programs: Mapping[str, Compiled],
    sizes: Sequence[int | Mapping[str, int]] | None = None,
    *,
    min_samples: int = latency.MIN_SAMPLES,
    min_seconds: float = latency.MIN_SECONDS,
    rows: bool = True,
    progress: Listener | None = None,
    after_round: Callable[[Sweep], None] | None = None,
) -> Sweep:
    """Compare compiled `programs` of one case with eager, and with each other, at several sizes.

    Parameters
    ----------
    programs : mapping
        Compiled programs by the name of their path.
    sizes : sequence, optional
        Sizes of the first dynamic dimension, or mappings from names to sizes. Default: :func:`default_sizes`,
        without those for which there is not the memory; the verdict names them. The ends of the other dimensions
        were compared when the programs were built (``Build.checked``).
    min_samples, min_seconds
        Passed to :func:`tutorial_lib.measure.latency.measure`.
    rows : bool
        Whether to compare the rows of one output as well (``row_spread``): one more call of each program.
    progress : callable, optional
        Told of every step: of the stage ``comparing``, whose steps are sizes, and those of
        :func:`tutorial_lib.measure.latency.measure`.
    after_round : callable, optional
        Given what is known so far after every round of measuring, agreement included.

    Raises
    ------
    ShapeError
        If a size is outside the range; nothing is measured then.
    NotRepeatable
        If the model writes into its inputs, or gives another result each time.
    """
    case = _common_case(programs)
    checked = check_sizes(case, default_sizes(case) if sizes is None else sizes)
    too_large = {_label(size): corners.too_large(case, size) for size in checked} if sizes is None else {}
    left_out = [f"{size}: {reason}" for size, reason in too_large.items() if reason]
    checked = [size for size in checked if not too_large.get(_label(size))] or checked[:1]
    with precision.tf32(case.allows_tf32):
        compared, pairs, calls, why_not_float64 = _compared(case, programs, checked, rows, progress)

        def result(measured: Mapping[tuple[str, int], latency.Latency]) -> Sweep:
            swept = _result(case, programs, checked, compared, pairs, measured, (min_samples, min_seconds))
            if why_not_float64:
                swept.provenance.update(why_not_float64=why_not_float64, tolerance=WITHOUT_FLOAT64)
            if left_out:
                swept.provenance.update(left_out=left_out)
            return swept

        return result(
            latency.measure(
                calls,
                case.device,
                min_samples=min_samples,
                min_seconds=min_seconds,
                warm=True,
                progress=progress,
                after_round=(lambda measured: after_round(result(measured))) if after_round else None,
            )
        )


def latencies(
    case: Case,
    programs: Mapping[str, Compiled],
    sizes: Sequence[int | Mapping[str, int]],
    *,
    progress: Listener | None = None,
) -> Sweep:
    """Latency of each program and of eager alone, one sample at each size: a first look, without agreement.

    Raises
    ------
    ShapeError
        If a size is outside the range.
    """
    checked = check_sizes(case, sizes)
    inputs = [case.example(size) for size in checked]
    named: dict[str, Callable[..., Any]] = {EAGER: case.model, **programs}
    calls: dict[tuple[str, int], Callable[[], Any]] = {}
    for step, given in enumerate(inputs):
        for name, call in named.items():
            calls[name, step] = partial(call, *given)
    with precision.tf32(case.allows_tf32):
        measured = latency.measure(calls, case.device, min_samples=1, min_seconds=0, progress=progress)
    nothing = dict.fromkeys((*AGREEMENT, *(["peak_mb"] if case.device.type == "cuda" else [])), math.nan)
    rows = [{"path": name, **checked[step], **nothing} for name, step in calls]
    return _result(case, programs, checked, rows, [], measured, (1, 0.0))


Row = dict[str, Any]
AGREEMENT = (*(field.name for field in fields(agreement.Agreement)), "ratio", "agrees", "rule")


def _compared(
    case: Case,
    programs: Mapping[str, Compiled],
    sizes: Sequence[dict[str, int]],
    between_rows: bool,
    progress: Listener | None,
) -> tuple[list[Row], list[Row], dict[tuple[str, int], Callable[[], Any]], str | None]:
    """Agreement of every program at every size, of every two, the calls to be timed, and why float64 cannot run."""
    reference, rows, pairs = agreement.Reference(case), [], []
    named: dict[str, Callable[..., Any]] = {EAGER: case.model, **programs}
    calls: dict[tuple[str, int], Callable[[], Any]] = {}
    reference.check_repeatable(case.example(sizes[0]))
    for step, size in enumerate(sizes):
        inputs, outputs = case.example(size), {}
        for name, call in named.items():
            if progress:
                text = f"comparing at {_label(size)} ({step + 1} of {len(sizes)})"
                progress(Progress("comparing", step, len(sizes), text))
            asked = partial(reference.eager, inputs) if name == EAGER else partial(call, *inputs)
            output, taken = memory.peak(asked, case.device)
            if name == EAGER:
                eager, double = output, reference.double_or_none(inputs)
                own = agreement.compare_each(eager, eager, double)
            spread = agreement.row_spread(call, case, size) if between_rows else None
            found = agreement.compare(output, eager, double, spread)
            rows.append({"path": name, **size, **found.to_dict(), **({} if taken is None else {"peak_mb": taken})})
            calls[name, step] = partial(call, *inputs)
            if name != EAGER:
                outputs[name] = output
        pairs += [_pair(one, other, outputs, size, own) for one, other in combinations(outputs, 2)]
    return rows, pairs, calls, reference.why_not_float64


def _result(
    case: Case,
    programs: Mapping[str, Compiled],
    sizes: Sequence[dict[str, int]],
    rows: Sequence[Row],
    pairs: Sequence[Row],
    measured: Mapping[tuple[str, int], latency.Latency],
    least: tuple[int, float],
) -> Sweep:
    timed = []
    for row, key in zip(rows, measured, strict=True):
        times = measured[key]
        speedup = latency.speedup(measured[EAGER, key[1]], times)
        timed.append({**row, **times.summary(samples_per_call=next(iter(sizes[key[1]].values()))), "speedup": speedup})
    return Sweep(
        pd.DataFrame(timed),
        _pairs(pairs, case.dims),
        [program.build.to_dict() for program in programs.values()],
        _provenance(case, programs, *least),
    )


def _pairs(rows: Sequence[Row], dims: Iterable[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["one", "other", *dims, "rms", "ratio", "agrees"]).astype({"agrees": bool})


def _pair(
    one: str, other: str, outputs: Mapping[str, Any], size: dict[str, int], own: Sequence[agreement.Agreement]
) -> dict[str, Any]:
    """How far two outputs are from each other, in the tensor where that is most beside eager's `own` error."""
    between = agreement.apart_each(outputs[one], outputs[other])
    rms, ratio, allowed = max(
        ((rms, rms / each.floor_rms, 2 * each.tolerated) for rms, each in zip(between, own, strict=True)),
        key=lambda each: each[1] / each[2],
    )
    return {"one": one, "other": other, **size, "rms": rms, "ratio": ratio, "agrees": ratio <= allowed}


def _common_case(programs: Mapping[str, Compiled]) -> Case:
    if not programs:
        raise ValueError("there is nothing to compare; give at least one compiled program.")
    if EAGER in programs:
        raise ValueError(f"{EAGER!r} is the name of the baseline; give the program another one.")
    cases = [program.case for program in programs.values()]
    if any(case.model is not cases[0].model or case.inputs != cases[0].inputs for case in cases):
        raise ValueError("the programs are of different cases; a sweep compares programs of one.")
    return cases[0]


def _label(size: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in size.items())


def _dtype(case: Case) -> str:
    """What the case computes in: the dtype of its inputs, or of its weights if those are no floats."""
    dtypes = [*(spec.dtype for spec in case.inputs), *(weight.dtype for weight in case.model.parameters())]
    found = next((dtype for dtype in dtypes if dtype.is_floating_point), dtypes[0])
    return str(found).removeprefix("torch.")


def _provenance(case: Case, programs: Mapping[str, Compiled], min_samples: int, min_seconds: float) -> dict[str, Any]:
    first = next((program.build for program in programs.values()), None)
    return {
        "case": case.name,
        "dims": [{key: getattr(dim, key) for key in ("name", "min", "opt", "max")} for dim in case.dims.values()],
        "inputs": {spec.name: f"[{', '.join(map(str, spec.shape))}] {spec.dtype}" for spec in case.inputs},
        "backend": first.backend if first else EAGER,
        "device": report.device_name(case.device),
        "versions": first.versions if first else report.versions(),
        "threads": torch.get_num_threads(),
        "precision": case.precision or _dtype(case),
        "tf32": case.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32,
        "timer": latency.timer_name(case.device),
        "min_samples": min_samples,
        "min_seconds": min_seconds,
        "tolerance": f"rms error against float64 at most {agreement.TOLERATED:g} x eager's own; more for few numbers",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
