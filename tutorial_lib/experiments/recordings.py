"""Recordings: what was measured once, perhaps on another machine, with all that is needed to trust it.

A recording is a campaign on one device, as one JSON file: the result of every setting, the device's conditions while
it was measured, and the command that made it. Everything shown of it says "recorded on ... at ...".
"""

import datetime
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from tutorial_lib.core import plain_values
from tutorial_lib.core.files import save, with_floats
from tutorial_lib.experiments.result import SCHEMA, Result
from tutorial_lib.experiments.results_file import Line, rows_of
from tutorial_lib.measure.device_conditions import held_back
from tutorial_lib.measure.sweep import Sweep

KIND = "recorded run"
FOLDER = Path("notebooks", "recorded")
"""Where the recordings of this project are."""
AGAIN = "record it again with `python -m tutorial_lib record`"
DIGITS = 6
"""Significant digits of every number in a file; no two measurements agree to more."""
SHOWN = ("torch", "cuda", "tensorrt", "openvino")
"""Packages whose versions stand beside everything that is shown."""
POSITIVE = ("median_ms", "p10_ms", "p90_ms", "speedup", "samples_per_second", "calls")
"""Columns in which every row has a number above zero."""
FOLDERS = re.compile(r"(?<![\w./~-])~?/(?:[\w.+@%-]+/)*(?=[\w.+@%-])")
"""The folders of an absolute path: they name a machine and its user."""


@dataclass(frozen=True)
class Metadata:
    """What a recording says about itself (in the file: ``about``).

    Attributes
    ----------
    device : str
        What was measured on.
    date, until : str
        Dates of the first and the last result, in UTC, as ISO 8601.
    command : str
        The command that made the recording.
    versions : mapping
        Versions by package.
    conditions : mapping
        Driver, clocks, temperature and load: smallest and largest over all settings.
    notes : tuple of str
        What its author wants readers to know.
    threads : int or None
        Threads of PyTorch.
    """

    device: str
    date: str
    command: str
    versions: dict[str, str]
    conditions: dict[str, Any]
    notes: tuple[str, ...]
    until: str = ""
    threads: int | None = None


class RecordedError(ValueError):
    """A file that is no recording, or one that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Recorded:
    """A recorded run.

    Attributes
    ----------
    metadata : Metadata
        Device, date, versions, command, conditions and notes.
    runs : tuple of Line
        The result of each setting.
    """

    metadata: Metadata
    runs: tuple[Line, ...]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """What stands beside everything that is shown of it."""
        versions = [f"{name} {self.metadata.versions[name]}" for name in SHOWN if name in self.metadata.versions]
        return f"recorded on {self.metadata.device} at {self.metadata.date[:10]}, {', '.join(versions)}"

    @property
    def table(self) -> pd.DataFrame:
        """All results, a row for each path and size, or for each path that failed; the first column is the label."""
        table = rows_of(self.runs)
        table.insert(0, "recorded", self.label)
        return table

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before trusting the numbers."""
        conditions, warnings = self.metadata.conditions, []
        held = held_back(conditions)
        if held:
            warnings.append(f"While it was measured, the GPU's clocks were held back: {', '.join(held)}.")
        if conditions.get("not_known"):
            warnings.append(conditions["not_known"])
        return (*warnings, *self.metadata.notes)

    def run(self, **choice: str) -> Result:
        """The result of the one measured setting that fits, labelled as recorded.

        Parameters
        ----------
        **choice
            What tells it from the others: ``model``, ``backend``, ``precision``, ``ranges``.

        Raises
        ------
        RecordedError
            If none or several settings fit; the message lists them.
        """
        fitting = self._fitting(choice)
        if len(fitting) == 1:
            return fitting[0]
        how_many = f"{len(fitting)} settings fit" if fitting else "no setting fits"
        requested = ", ".join(f"{name} {value}" for name, value in choice.items()) or "without a choice"
        listed = "; ".join(str(result.setting) for result in fitting or self._fitting({}))
        raise RecordedError(f"{how_many} {requested}; the recording has: {listed}.")

    def sweep(self, **choice: str) -> Sweep:
        """The latencies and agreement of :meth:`run`, to be drawn."""
        sweep = self.run(**choice).sweep
        assert sweep is not None  # only what was measured fits
        return sweep

    def behind(self, **choice: str) -> list[tuple[str, Sweep]]:
        """The settings that fit, each with its label, for the argument `behind` of
        :mod:`tutorial_lib.figures.plots`.
        """
        fitting = self._fitting(choice)
        return [(f"{self.label}: {result.setting}", result.sweep) for result in fitting if result.sweep]

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
        runs = [line.to_dict() for line in self.runs]
        return {"tutorial_lib": KIND, "schema": SCHEMA, "about": asdict(self.metadata), "runs": runs}

    def _fitting(self, choice: Mapping[str, str]) -> list[Result]:
        """The measured results that fit, labelled as recorded."""
        fitting = []
        for result in (line.result for line in self.runs):
            if result.sweep and result.facts.items() >= choice.items():
                provenance = {**result.sweep.provenance, "recorded": self.label}
                fitting.append(replace(result, sweep=replace(result.sweep, provenance=provenance), recorded=self.label))
        return fitting


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
    return check(content, str(path))


def of(runs: Iterable[Line], command: str, notes: Sequence[str] = ()) -> Recorded:
    """A recording of a campaign's results, with :data:`DIGITS` of every number, and no name of host, user or folder.

    Raises
    ------
    RecordedError
        If nothing was measured, or on several devices or versions.
    """
    lines = tuple(_anonymous(line) for line in runs)
    results = [line.result for line in lines]
    measured = [(result, result.sweep.provenance) for result in results if result.sweep]
    if not measured:
        failures = (why.sentence for result in results for why in result.failures.values())
        why = next(failures, "there are no settings")
        raise RecordedError(f"nothing could be measured, so there is nothing to record: {why}")
    first = measured[0][1]
    dates = sorted(provenance["date"] for _, provenance in measured)
    versions = dict(first["versions"])
    for _, provenance in measured:
        versions |= provenance["versions"]
    metadata = Metadata(
        device=first["device"],
        date=dates[0],
        until=dates[-1],
        versions=versions,
        threads=first["threads"],
        command=without_folders(command),
        conditions=_together([result.conditions for result, _ in measured]),
        notes=tuple(without_folders(note) for note in notes),
    )
    return check(Recorded(metadata, lines)._content(), "this recording")


def _anonymous(line: Line) -> Line:
    plain = with_floats(replace(line, host="").to_dict(), lambda value: float(f"{value:.{DIGITS}g}"))
    return Line.from_dict(without_folders(plain))


def without_folders(value: Any) -> Any:
    """`value`, made of plain values for JSON, with the last part of every absolute path alone.

    Examples
    --------
    >>> without_folders(["--out /home/me/run.json", "batch 1/4/32"])
    ['--out run.json', 'batch 1/4/32']
    """
    if isinstance(value, dict):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return FOLDERS.sub("", value) if isinstance(value, str) else value


def check(content: Any, name: str) -> Recorded:
    """The recording that `content` holds, if it can be used.

    Raises
    ------
    RecordedError
        One sentence on the first thing that is wrong; `name` is what it calls the file.
    """
    if not isinstance(content, dict) or content.get("tutorial_lib") != KIND:
        raise RecordedError(f"{name} is no recorded run; {AGAIN}.")
    schema, runs = content.get("schema"), content.get("runs")
    if schema not in (1, SCHEMA):
        raise RecordedError(f"{name} has schema {schema}, and this version reads {SCHEMA}; {AGAIN}.")
    try:
        metadata = plain_values.read(Metadata, content.get("about"), f"{name}: about")
        _check_metadata(metadata, f"{name}: about")
        if not isinstance(runs, list) or not runs:
            raise ValueError(f"{name} is empty: it has no runs")
        lines = []
        for number, run in enumerate(runs):
            where = f"{name}: runs[{number}]"
            lines.append(Line.from_dict(run, where, schema))
            _check_result(lines[-1].result, metadata, where)
        if not any(line.result.sweep for line in lines):
            raise ValueError(f"{name} is empty: every setting failed")
    except ValueError as error:
        raise RecordedError(f"{error}; {AGAIN}.") from None
    return Recorded(metadata, tuple(lines))


def _check_metadata(metadata: Metadata, where: str) -> None:
    for field in ("device", "command"):
        if not getattr(metadata, field).strip():
            raise ValueError(f"{where}.{field} is empty")
    try:
        has_zone = datetime.datetime.fromisoformat(metadata.date).tzinfo is not None
    except ValueError:
        has_zone = False
    if not has_zone:
        raise ValueError(f"{where}.date is {metadata.date!r}, no date with a time zone")
    if "torch" not in metadata.versions:
        raise ValueError(f"{where}.versions does not name torch")


def _check_result(result: Result, metadata: Metadata, where: str) -> None:
    if result.sweep is None:
        if not result.failures:
            raise ValueError(f"{where} has neither results nor a failure")
        return
    table, provenance = result.sweep.table, result.sweep.provenance
    if provenance["device"] != metadata.device:
        raise ValueError(
            f"{where} is of {provenance['device']}, and the recording of {metadata.device}; record them apart"
        )
    for package, version in provenance["versions"].items():
        if metadata.versions.get(package) != version:
            raise ValueError(f"{where} is of {package} {version}, and the recording of another; record them apart")
    if provenance["backend"] == "tensorrt" and "tensorrt" not in provenance["versions"]:
        raise ValueError(f"{where} has results of TensorRT and does not name its version")
    for dim in provenance["dims"]:
        if dim["name"] not in table or table[dim["name"]].isna().any():
            raise ValueError(f"{where} has rows without {dim['name']}")
    for column in POSITIVE:
        for number, value in enumerate(table.get(column, [None])):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(f"{where}: {column} of row {number} is {value!r}, not a measured number above 0")


def _text(content: Mapping[str, Any]) -> str:
    runs = [json.dumps(run, separators=(",", ":"), allow_nan=False) for run in content["runs"]]
    head = json.dumps({**content, "runs": []}, indent=1, allow_nan=False).removesuffix("[]\n}")
    return head + "[\n" + ",\n".join(runs) + "\n]\n}\n"


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which is neither JSON nor a measured number")


def _together(conditions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The conditions of all settings: of what was sampled the smallest and the largest, of the rest the first."""
    result: dict[str, Any] = dict(conditions[0])
    result["samples"] = sum(each["samples"] for each in conditions)
    for name, value in result.items():
        known = [each[name] for each in conditions if each.get(name) is not None]
        if name == "clock_reasons":
            result[name] = sorted({reason for reasons in known for reason in reasons}) if known else None
        elif isinstance(value, list):
            result[name] = [min(low for low, _ in known), max(high for _, high in known)]
    return result
