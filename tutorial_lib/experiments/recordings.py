"""Recorded runs: what was measured once, on a machine that is not here, with all that is needed to trust it.

A recording is a campaign on one device, as one JSON file: what was found of every setting, the conditions while it
was measured, and the command that made it. Whatever is shown of it says "recorded on ... at ...".
"""

import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from tutorial_lib.core.files import save, with_floats
from tutorial_lib.experiments.result import Result
from tutorial_lib.experiments.results_file import Found, ranges_of, rows_of, setting_of
from tutorial_lib.measure.device_conditions import held_back
from tutorial_lib.measure.sweep import SCHEMA as SWEEP_SCHEMA
from tutorial_lib.measure.sweep import Sweep

KIND, SCHEMA = "recorded run", 1
FOLDER = Path("notebooks", "recorded")
"""Where the project keeps its recordings."""
AGAIN = "record it again with `python -m tutorial_lib record`"

ABOUT = {"device": str, "date": str, "command": str, "versions": dict, "conditions": dict, "notes": list}
"""What every recording says of itself."""
RUN = {"key": str, "text": str, "setting": dict, "attempts": int, "failures": dict, "where": dict, "conditions": dict}
SWEEP = {"schema": int, "provenance": dict, "builds": list, "table": list, "pairs": list}
DIGITS = 6
"""Significant digits that are kept of every number; no two measurements agree to as many."""
POSITIVE = ("median_ms", "p10_ms", "p90_ms", "speedup", "samples_per_second", "calls")
"""Columns of every row that hold a number above zero."""


class RecordedError(ValueError):
    """A file that is no recording, or one that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Recorded:
    """A recorded run.

    Attributes
    ----------
    about : mapping
        ``device``, ``date`` of the first result (UTC), ``versions``, the ``command`` that made it, the ``conditions``
        (driver, clocks, temperature, load: smallest and largest over all settings), and ``notes``.
    runs : tuple
        What was found of each setting, as :mod:`tutorial_lib.experiments.results_file` keeps it.
    """

    about: Mapping[str, Any]
    runs: tuple[Found, ...]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """What stands beside everything that is shown of it."""
        versions = ", ".join(
            f"{name} {self.about['versions'][name]}"
            for name in ("torch", "cuda", "tensorrt")
            if name in self.about["versions"]
        )
        return f"recorded on {self.about['device']} at {self.about['date'][:10]}, {versions}"

    @property
    def table(self) -> pd.DataFrame:
        """All results, a row for each path and size, or for each path that failed; the first column is the label."""
        found = rows_of(self.runs)
        found.insert(0, "recorded", self.label)
        return found

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before trusting the numbers."""
        conditions = dict(self.about["conditions"])
        held, unknown = held_back(conditions), conditions.get("not_known")
        clocks = [f"While it was measured, the GPU's clocks were held back: {', '.join(held)}."] if held else []
        return (*clocks, *([unknown] if unknown else []), *self.about["notes"])

    def run(self, **wanted: str) -> Found:
        """The one setting that was measured and fits.

        Parameters
        ----------
        **wanted
            What tells it from the others: ``model``, ``backend``, ``precision``, ``ranges``.

        Raises
        ------
        RecordedError
            If none or several settings fit; the message lists them.
        """
        fitting = self._fitting(wanted)
        if len(fitting) != 1:
            found = "; ".join(run["text"] for run in fitting or self._fitting({}))
            how_many = f"{len(fitting)} settings fit" if fitting else "no setting fits"
            chosen = ", ".join(f"{name} {value}" for name, value in wanted.items())
            raise RecordedError(f"{how_many} {chosen or 'without a choice'}; the recording has: {found}.")
        return fitting[0]

    def result(self, **wanted: str) -> Result:
        """:meth:`run` as a result of its own; its builds are in its sweep."""
        setting = setting_of(self.run(**wanted)["setting"])
        return Result(setting, self.sweep(**wanted), date=self.about["date"], recorded=self.label)

    def sweep(self, **wanted: str) -> Sweep:
        """The results of :meth:`run`, to be drawn."""
        return self._labelled(self.run(**wanted))

    def behind(self, **wanted: str) -> list[tuple[str, Sweep]]:
        """The settings that fit, each with its label, for the argument `behind` of
        :mod:`tutorial_lib.figures.plots`.
        """
        return [(f"{self.label}: {run['text']}", self._labelled(run)) for run in self._fitting(wanted)]

    def save(self, path: str | Path) -> None:
        """Write it as one file, a line for each run.

        Raises
        ------
        RecordedError
            If it could not be read back.
        """
        content = self._content()
        check(content, str(path))
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        save(Path(path), _text(content))

    def _content(self) -> dict[str, Any]:
        return {"tutorial_lib": KIND, "schema": SCHEMA, "about": dict(self.about), "runs": list(self.runs)}

    def _fitting(self, wanted: Mapping[str, str]) -> list[Found]:
        measured = [run for run in self.runs if run["sweep"]]
        return [run for run in measured if all(_facts(run).get(name) == value for name, value in wanted.items())]

    def _labelled(self, run: Found) -> Sweep:
        found = Sweep.from_content(run["sweep"])
        return replace(found, provenance={**found.provenance, "recorded": self.label})


def load(path: str | Path) -> Recorded:
    """Read a recording.

    Raises
    ------
    RecordedError
        If the file is missing, cut off, of something else, of another schema, or lacks what makes it trustworthy.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise RecordedError(f"{path} cannot be read ({error.strerror}); {AGAIN}.") from None
    except json.JSONDecodeError as error:
        raise RecordedError(f"{path} is cut off or no JSON (line {error.lineno}); {AGAIN}.") from None
    except ValueError as error:
        raise RecordedError(f"{path} cannot be used: {error}; {AGAIN}.") from None
    check(content, str(path))
    return Recorded(content["about"], tuple(content["runs"]))


def of(runs: Iterable[Found], command: str, notes: Sequence[str] = ()) -> Recorded:
    """A recording of what a campaign found, with :data:`DIGITS` of every number.

    Raises
    ------
    RecordedError
        If nothing was measured, or on several devices or versions.
    """
    kept = tuple(
        with_floats({**run, "where": {k: v for k, v in run["where"].items() if k != "host"}}, _rounded) for run in runs
    )
    measured = [run for run in kept if run["sweep"]]
    if not measured:
        failed = next((why for run in kept for why in run["failures"].values()), "there are no settings")
        raise RecordedError(f"nothing could be measured, so there is nothing to record: {failed}")
    first = measured[0]["sweep"]["provenance"]
    dates = sorted(run["sweep"]["provenance"]["date"] for run in measured)
    versions = dict(first["versions"])
    for run in measured:
        versions |= run["sweep"]["provenance"]["versions"]
    about = {
        "device": first["device"],
        "date": dates[0],
        "until": dates[-1],
        "versions": versions,
        "threads": first["threads"],
        "command": command,
        "conditions": _together([run["conditions"] for run in measured]),
        "notes": list(notes),
    }
    found = Recorded(about, kept)
    check(found._content(), "this recording")
    return found


def check(content: Any, name: str) -> None:
    """Whether `content` is a recording that can be used.

    Raises
    ------
    RecordedError
        One sentence on the first thing that is wrong; `name` is what it calls the file.
    """
    if not isinstance(content, dict) or content.get("tutorial_lib") != KIND:
        raise RecordedError(f"{name} is no recorded run; {AGAIN}.")
    if content.get("schema") != SCHEMA:
        raise RecordedError(f"{name} has schema {content.get('schema')}, and this version reads {SCHEMA}; {AGAIN}.")
    about: Any = content.get("about")
    runs: Any = content.get("runs")
    _fields(about, ABOUT, f"{name}: about")
    for field in ("device", "command"):
        if not about[field].strip():
            raise RecordedError(f"{name}: about.{field} is empty; {AGAIN}.")
    _date(about["date"], f"{name}: about.date")
    if not isinstance(about["versions"].get("torch"), str):
        raise RecordedError(f"{name}: about.versions does not name torch; {AGAIN}.")
    if not isinstance(runs, list) or not runs:
        raise RecordedError(f"{name} is empty: it has no runs; {AGAIN}.")
    for number, run in enumerate(runs):
        _run(run, about, f"{name}: runs[{number}]")
    if not any(run["sweep"] for run in runs):
        raise RecordedError(f"{name} is empty: every setting failed; {AGAIN}.")


def _run(run: Any, about: Mapping[str, Any], place: str) -> None:
    _fields(run, RUN, place)
    sweep = run.get("sweep")
    if sweep is None:
        if not run["failures"]:
            raise RecordedError(f"{place} has neither results nor a failure; {AGAIN}.")
        return
    _fields(sweep, SWEEP, f"{place}.sweep")
    if sweep["schema"] != SWEEP_SCHEMA:
        raise RecordedError(f"{place}.sweep has schema {sweep['schema']}, and this version reads {SWEEP_SCHEMA}.")
    found = sweep["provenance"]
    _fields(found, {"backend": str, "device": str, "date": str, "versions": dict, "dims": list}, f"{place}.provenance")
    if found["device"] != about["device"]:
        raise RecordedError(
            f"{place} is of {found['device']}, and the recording of {about['device']}; record them apart."
        )
    for package, version in found["versions"].items():
        if about["versions"].get(package) != version:
            raise RecordedError(f"{place} is of {package} {version}, and the recording of another; record them apart.")
    if found["backend"] == "tensorrt" and "tensorrt" not in found["versions"]:
        raise RecordedError(f"{place} has results of TensorRT and does not name its version; {AGAIN}.")
    if not sweep["table"]:
        raise RecordedError(f"{place}.sweep.table is empty; {AGAIN}.")
    for number, row in enumerate(sweep["table"]):
        _row(row, [dim["name"] for dim in found["dims"]], f"{place}.sweep.table[{number}]")
    try:
        Sweep.from_content(sweep)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordedError(f"{place}.sweep cannot be read ({error}); {AGAIN}.") from None


def _row(row: Any, dims: Sequence[str], place: str) -> None:
    _fields(row, {"path": str, **dict.fromkeys(dims, int)}, place)
    for column in POSITIVE:
        value = row.get(column)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise RecordedError(f"{place}.{column} is {value!r}, and a measured one is a number above 0; {AGAIN}.")


def _fields(value: Any, fields: Mapping[str, type], place: str) -> None:
    if not isinstance(value, dict):
        raise RecordedError(f"{place} is {type(value).__name__}, not an object; {AGAIN}.")
    for name, kind in fields.items():
        if name not in value:
            raise RecordedError(f"{place} has no {name!r}; {AGAIN}.")
        if not isinstance(value[name], kind):
            raise RecordedError(f"{place}.{name} is {value[name]!r}, not {kind.__name__}; {AGAIN}.")


def _text(content: Mapping[str, Any]) -> str:
    runs = [json.dumps(run, separators=(",", ":"), allow_nan=False) for run in content["runs"]]
    head = json.dumps({**content, "runs": []}, indent=1, allow_nan=False).removesuffix("[]\n}")
    return head + "[\n" + ",\n".join(runs) + "\n]\n}\n"


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _date(text: str, place: str) -> None:
    try:
        aware = datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise RecordedError(f"{place} is {text!r}, no date with a time zone; {AGAIN}.")


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which is neither JSON nor a measured number")


def _facts(run: Found) -> dict[str, str]:
    return {
        "model": run["setting"]["model"],
        "backend": run["sweep"]["provenance"]["backend"],
        "precision": run["setting"]["precision"],
        "ranges": ranges_of(run["setting"]),
    }


def _together(conditions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The conditions of all settings: of what was sampled the smallest and the largest, of the rest the first."""
    found: dict[str, Any] = dict(conditions[0])
    found["samples"] = sum(one["samples"] for one in conditions)
    for name, value in found.items():
        others = [one[name] for one in conditions if one.get(name) is not None]
        if name == "clock_reasons":
            found[name] = sorted({reason for some in others for reason in some}) if others else None
        elif isinstance(value, list):
            found[name] = [min(low for low, _ in others), max(high for _, high in others)]
    return found
