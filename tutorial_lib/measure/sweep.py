"""Latency and agreement of compiled programs at several sizes, in one table, with all that is needed to trust it."""

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
from tutorial_lib.checks.corners import label
from tutorial_lib.core import precision
from tutorial_lib.core.files import save, with_floats
from tutorial_lib.core.models import Case
from tutorial_lib.core.profiles import holding, none_takes
from tutorial_lib.core.progress import Listener, Progress
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.measure import intervals, latency, memory

SCHEMA = 1
WITHOUT_FLOAT64 = (
    f"rms difference from eager at most {agreement.TOLERATED:g} x {agreement.ROUNDINGS:g} roundings of its dtype; "
    "more for few numbers"
)
EAGER = "eager PyTorch"
"""Name of the baseline in every table: PyTorch without compiling, not the backend ``eager``."""
AGREEMENT = (*(field.name for field in fields(agreement.Agreement)), "ratio", "agrees", "rule")
"""Columns of the table that a sweep without agreement leaves empty."""

Row = dict[str, Any]
Key = tuple[str, int]
"""The name of a program and the index of a size."""
Calls = dict[Key, "partial[Any]"]
"""Calls to time."""
Measured = Mapping[Key, latency.Latency]


@dataclass(frozen=True)
class Sweep:
    """Results of one sweep.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each program and size: latency in milliseconds (``median_ms``, ``p90_ms``, ...) with an interval for
        the median (``low_ms``, ``high_ms``, see :mod:`tutorial_lib.measure.intervals`), ``speedup`` over eager with an
        interval (``speedup_low``, ``speedup_high``), agreement with float64 (``max_abs``, ``ratio``, ``agrees``, ...),
        and on a GPU the memory of a call beyond weights and inputs (``peak_mb``, see
        :func:`tutorial_lib.measure.memory.peak`).
    pairs : pandas.DataFrame
        One row for each two paths and size: their root mean square difference, the same in units of eager's own
        error, whether that is within twice the tolerance of one path, and how many times as fast as `one` the `other`
        is, with an interval (``speedup``, ``speedup_low``, ``speedup_high``).
    builds : list of dict
        The build report of each path.
    provenance : dict
        Case, ranges, device, versions, settings, date.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    builds: list[dict[str, Any]]
    provenance: dict[str, Any]

    @property
    def agrees(self) -> bool:
        """Whether every path agrees with float64, and with every other path, at every size that was measured."""
        return bool(self.table["agrees"].all() and self.pairs["agrees"].all())

    @property
    def verdict(self) -> str:
        """One sentence on all comparisons, then one for each end of a range that was not compared."""
        reason = self.provenance.get("why_not_float64")
        judge = f"eager (the float64 reference cannot run here: {reason})" if reason else "float64"
        sentence = f"All paths agree with {judge}, and with each other, at every size that was measured."
        if not self.agrees:
            results, pairs = int((~self.table["agrees"]).sum()), int((~self.pairs["agrees"]).sum())
            sentence = (
                f"{results} of {len(self.table)} results differ from {judge}, "
                f"{pairs} of {len(self.pairs)} pairs of paths differ."
            )
        not_checked = [f"Not checked: {', '.join(paths)} at {end}." for end, paths in self._not_checked().items()]
        return " ".join([sentence, *not_checked])

    @property
    def certainty(self) -> str:
        """One sentence: how many pairs of paths, and of a path and eager, the measurement tells apart.

        Empty for a first look, and for files of versions that measured no intervals.
        """
        if "speedup_low" not in self.table or self.table["low_ms"].isna().all():
            return ""
        versus_eager = self.table[self.table["path"] != EAGER].assign(one=EAGER).rename(columns={"path": "other"})
        columns = ["one", "other", *self._dims, "speedup_low", "speedup_high"]
        verdicts: dict[str, list[str]] = {intervals.APART: [], intervals.SAME: [], intervals.OPEN: []}
        for table in (versus_eager, self.pairs):
            for row in table.reindex(columns=columns).to_dict("records"):
                where = label({name: int(row[name]) for name in self._dims})
                text = f"{row['one']} and {row['other']} at {where}"
                verdicts[intervals.verdict((row["speedup_low"], row["speedup_high"]))].append(text)
        return _certainty(verdicts)

    def _not_checked(self) -> dict[str, list[str]]:
        """The paths that neither their build nor this sweep compared, for each end of the range with the reason."""
        dims = self._dims
        compared = {label(dict(zip(dims, sizes, strict=True))) for sizes in self.table[dims].itertuples(index=False)}
        skipped: dict[str, list[str]] = {}
        for build in self.builds:
            for end in build.get("not_checked", ()):  # such as "batch 32: it would take 40 s"
                if end.split(":")[0] not in compared:
                    skipped.setdefault(end, []).append(build["path"])
        for end in self.provenance.get("left_out", ()):
            skipped.setdefault(end, ["all paths"])
        return skipped

    @property
    def _dims(self) -> list[str]:
        return [dim["name"] for dim in self.provenance["dims"]]

    def summary(self) -> pd.DataFrame:
        """The main columns of the table as short text, with the paths below each other for each size.

        ``note`` names the kind of a warning; the column ``warning`` of :attr:`table` has all of it.
        """
        dims = self._dims
        table = self.table.sort_values(dims, kind="stable")
        return pd.DataFrame(
            {
                **{name: table[name] for name in dims},
                "path": table["path"],
                "median ms": table["median_ms"].map("{:.3f}".format),
                **({"interval ms": _between(table, "low_ms", "high_ms", 3)} if "low_ms" in table else {}),
                "p90 ms": table["p90_ms"].map("{:.3f}".format),
                "p99 ms": table["p99_ms"].map("{:.3f}".format),
                "samples/s": table["samples_per_second"].map("{:.0f}".format),
                **({"peak MB": table["peak_mb"].map("{:.1f}".format)} if "peak_mb" in table else {}),
                "speedup": table["speedup"].map("{:.2f}x".format),
                **({"interval": _between(table, "speedup_low", "speedup_high", 2)} if "speedup_low" in table else {}),
                "max abs error": table["max_abs"].map("{:.1e}".format),
                "error / eager's": table["ratio"].map("{:.2f}x".format),
                "agrees": table["agrees"].map({True: "yes", False: "NO"}),
                "note": table["warning"].fillna("").map(lambda warning: warning.partition(": ")[0]),
            }
        ).reset_index(drop=True)

    @property
    def held(self) -> dict[str, int]:
        """The dimensions after the first that were measured at one size only, with that size."""
        sizes = {name: self.table[name].unique() for name in self._dims[1:]}
        return {name: int(values[0]) for name, values in sizes.items() if len(values) == 1}

    def at(self, **sizes: int) -> "Sweep":
        """The part that was measured at these sizes, such as one line of a grid: ``sweep.at(length=64)``.

        Figures are then over the first of the other dimensions.

        Raises
        ------
        ShapeError
            If nothing was measured there.
        """
        measured = {name: sorted(set(self.table[name])) for name in self._dims}
        table, pairs = self.table, self.pairs
        for name, size in sizes.items():
            if size not in measured.get(name, ()):
                ranges = "; ".join(f"{dim} {', '.join(map(str, values))}" for dim, values in measured.items())
                raise ShapeError(f"{name} {size} was not measured; what was is {ranges}.")
            table, pairs = table[table[name] == size], pairs[pairs[name] == size]
        if table.empty:
            raise ShapeError(f"{label(sizes)} were not measured together; leave one of them out.")
        dims = sorted(self.provenance["dims"], key=lambda dim: dim["name"] in sizes)
        provenance = {**self.provenance, "dims": dims}
        return Sweep(table.reset_index(drop=True), pairs.reset_index(drop=True), self.builds, provenance)

    def json(self) -> str:
        """Everything as JSON; numbers that are not finite become null."""
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
        """A sweep from the parsed :meth:`json`; KeyError, TypeError or ValueError if it is something else."""
        if content["schema"] != SCHEMA:
            raise ValueError(f"its schema is {content['schema']}, and this version reads {SCHEMA}")
        table, provenance = pd.DataFrame(content["table"]), content["provenance"]
        table["worst_index"] = table["worst_index"].map(tuple)
        pairs = _pairs(content["pairs"], [dim["name"] for dim in provenance["dims"]])
        return cls(table, pairs, content["builds"], provenance)


def default_sizes(case: Case) -> list[int]:
    """Sizes of the first dynamic dimension worth measuring: min, the powers of two, opt of every profile, max."""
    dim = next(iter(case.dims.values()), None)
    if dim is None:
        raise ShapeError(f"{case.name} has no dynamic dimension to sweep over.")
    powers = (dim.step * 2**power for power in range(dim.max.bit_length()))
    opts = {profile[0].opt for profile in case.profiles}
    return sorted({dim.min, dim.opt, dim.max, *opts, *(size for size in powers if dim.min <= size <= dim.max)})


def grid(case: Case, **sizes: Iterable[int]) -> list[dict[str, int]]:
    """Every combination of these sizes, for :func:`sweep`: ``grid(case, batch=[1, 4], length=[8, 64])``.

    Dimensions that are not named stay at opt.

    Raises
    ------
    ShapeError
        If a size is outside its range, or there are none.
    """
    if not sizes:
        dims = ", ".join(case.dims) or "none"
        raise ShapeError(f"a grid needs sizes of at least one dimension; {case.name} has {dims}.")
    for name, values in sizes.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise ShapeError(f"{name}: {values!r} is not a list of sizes; give one such as [{values}].")
    axes = [dict.fromkeys(values) for values in sizes.values()]  # each size once
    return check_sizes(case, [dict(zip(sizes, point, strict=True)) for point in product(*axes)])


def check_sizes(case: Case, sizes: Iterable[int | Mapping[str, int]]) -> list[dict[str, int]]:
    """All sizes by dimension name, checked against the ranges of `case`.

    Raises
    ------
    ShapeError
        If a size is outside its range, or there are none.
    """
    checked = [case.sizes(size) for size in sizes]
    for size in checked:
        for name, dim in case.dims.items():
            if not dim.min <= size[name] <= dim.max:
                raise ShapeError(f"{name} {size[name]} cannot be measured: the range is {dim.min} to {dim.max}.")
            if size[name] % dim.step:
                raise ShapeError(f"{name} {size[name]} cannot be measured: it is no multiple of {dim.step}.")
        if case.profiles and holding(case.profiles, size) is None:
            raise ShapeError(none_takes(case.profiles, size))
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
    budget: float = 0.0,
) -> Sweep:
    """Compare compiled `programs` of one case with eager, and with each other, at several sizes.

    Parameters
    ----------
    programs : mapping
        Compiled programs by the name of their path.
    sizes : sequence, optional
        Sizes of the first dynamic dimension, or mappings from names to sizes. Default: :func:`default_sizes`
        without those that need more memory than there is; the verdict names them. The ends of the other dimensions
        were compared when the programs were built (``Build.checked``).
    min_samples, min_seconds
        Passed to :func:`tutorial_lib.measure.latency.measure`.
    rows : bool
        Whether to compare the rows of one output as well (``row_spread``): one more call of each program.
    progress : callable, optional
        Called in the stage ``comparing``, whose steps are sizes, and in those of
        :func:`tutorial_lib.measure.latency.measure`.
    after_round : callable, optional
        Called with the sweep so far, agreement included, after every round of measuring, and of those beyond
        `min_samples` after ever fewer.
    budget : float
        Seconds for all rounds together. Within these, rounds go on beyond the minimum, for each size until every two
        programs are told apart there, or equal within 3 % (:attr:`Sweep.certainty`). 0: the minimum alone.

    Raises
    ------
    ShapeError
        If a size is outside the range; nothing is measured then.
    NotRepeatable
        If the model writes into its inputs, or gives another result each time.
    """
    case = _common_case(programs)
    selected = check_sizes(case, default_sizes(case) if sizes is None else sizes)
    left_out: list[str] = []
    if sizes is None:
        reasons = [corners.too_large(case, size) for size in selected]
        left_out = [f"{label(size)}: {reason}" for size, reason in zip(selected, reasons, strict=True) if reason]
        selected = [size for size, reason in zip(selected, reasons, strict=True) if not reason] or selected[:1]
    with precision.tf32(case.allows_tf32):
        calls = _calls(case, programs, selected)
        compared, pairs, why_not_float64 = _compared(case, calls, selected, rows, progress)
        provenance = _provenance(case, programs, min_samples, min_seconds)
        if why_not_float64:
            provenance.update(why_not_float64=why_not_float64, tolerance=WITHOUT_FLOAT64)
        if left_out:
            provenance["left_out"] = left_out
        if budget:
            provenance["budget_seconds"] = budget

        def result(measured: Measured) -> Sweep:
            return _result(programs, selected, compared, pairs, measured, provenance)

        return result(
            latency.measure(
                calls,
                case.device,
                min_samples=min_samples,
                min_seconds=min_seconds,
                warm=True,
                progress=progress,
                after_round=(lambda measured: after_round(result(measured))) if after_round else None,
                budget=budget,
                enough=answered if budget else None,
            )
        )


def answered(measured: Measured) -> list[Key]:
    """The calls of those sizes at which every two programs are told apart, or equal within 3 %."""
    names = list(dict.fromkeys(name for name, _ in measured))

    def nothing_is_open(index: int) -> bool:
        pairs = combinations([measured[name, index] for name in names], 2)
        return all(intervals.verdict(latency.speedup_interval(*pair)) != intervals.OPEN for pair in pairs)

    at_sizes = {index: nothing_is_open(index) for index in {index for _, index in measured}}
    return [key for key in measured if at_sizes[key[1]]]


def latencies(
    case: Case,
    programs: Mapping[str, Compiled],
    sizes: Sequence[int | Mapping[str, int]],
    *,
    looked: dict[Key, latency.Latency] | None = None,
    progress: Listener | None = None,
) -> Sweep:
    """Latency of each program and of eager alone, one sample at each size: a first look, without agreement.

    What is in `looked`, from earlier looks at the same sizes, is not measured again; what is new is added to it.

    Raises
    ------
    ShapeError
        If a size is outside the range.
    """
    looked = {} if looked is None else looked
    selected = check_sizes(case, sizes)
    with precision.tf32(case.allows_tf32):
        calls = _calls(case, programs, selected)
        new = {key: call for key, call in calls.items() if key not in looked}
        looked |= latency.measure(new, case.device, min_samples=1, min_seconds=0, progress=progress)
        provenance = _provenance(case, programs, 1, 0.0)
    empty = dict.fromkeys(AGREEMENT, math.nan)
    if case.device.type == "cuda":
        empty["peak_mb"] = math.nan
    rows = [{"path": name, **selected[index], **empty} for name, index in calls]
    return _result(programs, selected, rows, [], {key: looked[key] for key in calls}, provenance)


def _calls(case: Case, programs: Mapping[str, Compiled], sizes: Sequence[dict[str, int]]) -> Calls:
    """A call of eager and of each program at each size."""
    named: dict[str, Callable[..., Any]] = {EAGER: case.model, **programs}
    calls: Calls = {}
    for index, size in enumerate(sizes):
        inputs = case.example(size)
        for name, program in named.items():
            calls[name, index] = partial(program, *inputs)
    return calls


def _compared(
    case: Case, calls: Calls, sizes: Sequence[dict[str, int]], between_rows: bool, progress: Listener | None
) -> tuple[list[Row], list[Row], str | None]:
    """Agreement of every program at every size and of every two programs, and why float64 cannot run if it cannot."""
    reference, rows, pairs = agreement.Reference(case), [], []
    reference.check_repeatable(case.example(sizes[0]))
    outputs: dict[str, Any] = {}  # of the programs, at one size
    for (name, index), call in calls.items():
        size = sizes[index]
        if progress:
            text = f"comparing at {label(size)} ({index + 1} of {len(sizes)})"
            progress(Progress("comparing", index, len(sizes), text))
        if name == EAGER:
            inputs = call.args
            output, peak_mb = memory.peak(partial(reference.eager, inputs), case.device)
            eager, double = output, reference.double_or_none(inputs, output)
            own = agreement.compare_each(eager, eager, double)
            outputs = {}
        else:
            output, peak_mb = memory.peak(call, case.device)
            pairs += [_pair(other, name, outputs[other], output, size, own) for other in outputs]
            outputs[name] = output
        found = agreement.least_agreeing(own) if name == EAGER else agreement.compare(output, eager, double)
        if between_rows:
            found = replace(found, row_spread=agreement.row_spread(call.func, case, size))
        row = {"path": name, **size, **found.to_dict()}
        if peak_mb is not None:
            row["peak_mb"] = peak_mb
        rows.append(row)
    return rows, pairs, reference.why_not_float64


def _result(
    programs: Mapping[str, Compiled],
    sizes: Sequence[dict[str, int]],
    rows: Sequence[Row],
    pairs: Sequence[Row],
    measured: Measured,
    provenance: dict[str, Any],
) -> Sweep:
    """A sweep of `rows`, which are in the order of `measured`, and of `pairs`."""
    table = []
    for row, ((_, index), times) in zip(rows, measured.items(), strict=True):
        samples_per_call = next(iter(sizes[index].values()))
        table.append({**row, **times.summary(samples_per_call), **_speedup(measured[EAGER, index], times)})
    of_pairs = [
        {**row, **_speedup(*(measured[row[side], _index(sizes, row)] for side in ("one", "other")))} for row in pairs
    ]
    builds = [program.build.to_dict() for program in programs.values()]
    return Sweep(pd.DataFrame(table), _pairs(of_pairs, sizes[0]), builds, provenance)


def _index(sizes: Sequence[dict[str, int]], row: Row) -> int:
    return next(index for index, size in enumerate(sizes) if all(row[name] == size[name] for name in size))


def _speedup(baseline: latency.Latency, times: latency.Latency) -> dict[str, float]:
    low, high = (1.0, 1.0) if times is baseline else latency.speedup_interval(baseline, times)
    return {"speedup": latency.speedup(baseline, times), "speedup_low": low, "speedup_high": high}


def _pairs(rows: Sequence[Row], dims: Iterable[str]) -> pd.DataFrame:
    columns = ["one", "other", *dims, "rms", "ratio", "agrees", "speedup", "speedup_low", "speedup_high"]
    return pd.DataFrame(rows, columns=columns).astype({"agrees": bool})


def _between(table: pd.DataFrame, low: str, high: str, digits: int) -> list[str]:
    ends = table[[low, high]].itertuples(index=False)
    return ["" if math.isnan(first) else f"{first:.{digits}f}–{last:.{digits}f}" for first, last in ends]


def _certainty(verdicts: Mapping[str, Sequence[str]]) -> str:
    """The sentence of :attr:`Sweep.certainty`, for the pairs of each verdict."""
    counts = {name: len(pairs) for name, pairs in verdicts.items()}
    total = sum(counts.values())
    parts = [
        f"{counts[intervals.APART]} are told apart" if counts[intervals.APART] else "",
        f"{counts[intervals.SAME]} are equal within {100 * (intervals.EQUAL - 1):.0f} %"
        if counts[intervals.SAME]
        else "",
        f"{counts[intervals.OPEN]} are not told apart in the time" if counts[intervals.OPEN] else "",
    ]
    text = f"Of {total} comparisons of two latencies at one size, {', '.join(part for part in parts if part)}"
    unsure = verdicts[intervals.OPEN]
    if not unsure:
        return f"{text}."
    more = f" and {len(unsure) - 3} more" if len(unsure) > 3 else ""
    return f"{text}: {'; '.join(unsure[:3])}{more}."


def _pair(
    first: str, second: str, output: Any, other: Any, size: dict[str, int], own: Sequence[agreement.Agreement]
) -> Row:
    """How far two outputs are from each other, in the tensor where that is most beside eager's `own` error."""
    distances = [
        {"rms": rms, "ratio": rms / error.floor_rms, "allowed": 2 * error.tolerated}
        for rms, error in zip(agreement.apart_each(output, other), own, strict=True)
    ]

    def excess(distance: dict[str, float]) -> float:
        share = distance["ratio"] / distance["allowed"]
        return math.inf if math.isnan(share) else share

    worst = max(distances, key=excess)
    agrees = worst["ratio"] <= worst["allowed"]
    return {"one": first, "other": second, **size, "rms": worst["rms"], "ratio": worst["ratio"], "agrees": agrees}


def _common_case(programs: Mapping[str, Compiled]) -> Case:
    if not programs:
        raise ValueError("there is nothing to compare; give at least one compiled program.")
    if EAGER in programs:
        raise ValueError(f"{EAGER!r} is the name of the baseline; give the program another one.")
    cases = [program.case for program in programs.values()]
    if any(case.model is not cases[0].model or case.inputs != cases[0].inputs for case in cases):
        raise ValueError("the programs are of different cases; a sweep compares programs of one.")
    return cases[0]


def _dtype(case: Case) -> str:
    """What the case computes in: the dtype of its inputs, or of its weights if those are no floats."""
    dtypes = [*(spec.dtype for spec in case.inputs), *(weight.dtype for weight in case.model.parameters())]
    dtype = next((dtype for dtype in dtypes if dtype.is_floating_point), dtypes[0])
    return str(dtype).removeprefix("torch.")


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
        "timer": "CUDA events, warm L2 cache" if case.device.type == "cuda" else "time.perf_counter_ns",
        "min_samples": min_samples,
        "min_seconds": min_seconds,
        "tolerance": f"rms error against float64 at most {agreement.TOLERATED:g} x eager's own; more for few numbers",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
