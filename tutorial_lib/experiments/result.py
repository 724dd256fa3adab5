"""The result of an experiment: its latencies, the programs and engines that were built, and what failed."""

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tutorial_lib.builds.report import Build, Repr
from tutorial_lib.core.errors import sentence
from tutorial_lib.core.plain_values import read
from tutorial_lib.engines import EngineReport
from tutorial_lib.experiments.setting import Setting, show_options
from tutorial_lib.measure.sweep import SCHEMA as SWEEP_SCHEMA
from tutorial_lib.measure.sweep import Sweep

SCHEMA = 2
"""The version of the format that :meth:`Result.to_dict` writes."""


@dataclass(frozen=True)
class Failure:
    """Why something failed: one sentence, and the traceback."""

    sentence: str
    details: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """A failure from an exception; of this package's own exceptions the message is the sentence."""
        return cls(sentence(error), "".join(traceback.format_exception(error)))


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a setting; during a run, as much of it as there is.

    Attributes
    ----------
    setting : Setting
        What was asked for, with its backend and sizes named (:meth:`Setting.settled`).
    sweep : Sweep or None
        Latency and agreement; None if nothing could be measured, or nothing was to be. While :attr:`final` is false,
        latencies are a first look (one sample, not side by side) or agreement is missing (NaN).
    builds : tuple of Build
        The report of each path that was built.
    failures : mapping
        Path -> why it could not be built; under an empty name, why there is no result at all.
    engines : tuple of EngineReport
        What TensorRT for RTX built for each path, if the setting asks for it.
    seconds : mapping
        Where the time went: ``engines``, ``build jit``, ..., ``first look``, ``measure`` -> seconds.
    conditions : mapping
        The device while it was measured on (:class:`tutorial_lib.measure.device_conditions.Conditions`).
    where : mapping
        What it ran on: ``device``, ``threads``, ``cpus``, and versions by package.
    date : str
        The end of the run, in UTC, as ISO 8601.
    final : bool
        False while results stream in.
    recorded : str
        Where and when, for a run that was not measured here: "recorded on ... at ...".
    """

    setting: Setting
    sweep: Sweep | None = None
    builds: tuple[Build, ...] = ()
    failures: Mapping[str, Failure] = field(default_factory=dict)
    engines: tuple[EngineReport, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""
    final: bool = True
    recorded: str = ""

    @property
    def backend(self) -> str:
        """The backend that was used."""
        return self.builds[0].backend if self.builds else self.setting.backend

    @property
    def facts(self) -> dict[str, str | None]:
        """What tells it from other results in a table."""
        setting = self.setting
        return {
            "model": setting.model,
            "ranges": setting.ranges_text,
            "precision": setting.precision,
            "options": show_options(setting.options),
            "backend": self.backend,
        }

    @property
    def label(self) -> str:
        """A short name among other results: ``1 / 4 / 32, inductor fp32``."""
        options = ", ".join(f"{name}={value}" for name, value in self.setting.options)
        parts = [f"{self.setting.label}, {self.backend} {self.setting.precision}", options, self.recorded]
        return ", ".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; failures without their tracebacks, which are of use only on the same machine."""
        sweep = json.loads(self.sweep.json()) if self.sweep else {}
        return {
            "setting": self.setting.to_dict(),
            "builds": [build.to_dict() for build in self.builds],
            "failures": {path: failure.sentence for path, failure in self.failures.items()},
            "sweep": {name: sweep[name] for name in ("provenance", "table", "pairs")} if sweep else None,
            "engines": [_without_title(report.to_dict()) for report in self.engines],
            "seconds": dict(self.seconds),
            "conditions": dict(self.conditions),
            "where": dict(self.where),
            "date": self.date,
        }

    @classmethod
    def from_dict(cls, plain: Any, where: str = "the result") -> "Result":
        """The inverse of :meth:`to_dict`.

        Raises
        ------
        ValueError
            If something is missing, unknown or of another type; `where` is how the message calls the result.
        """
        content = read(_Content, plain, where)
        builds = tuple(Build.from_dict(each, f"{where}.builds[{n}]") for n, each in enumerate(content.builds))
        engines = tuple(_report(each, f"{where}.engines[{n}]") for n, each in enumerate(content.engines))
        return cls(
            setting=Setting.from_dict(content.setting, f"{where}.setting"),
            sweep=_sweep(content.sweep, builds, f"{where}.sweep") if content.sweep else None,
            builds=builds,
            failures={path: Failure(text) for path, text in content.failures.items()},
            engines=engines,
            seconds=content.seconds,
            conditions=content.conditions,
            where=content.where,
            date=content.date,
        )


Object = dict[str, Any]


@dataclass(frozen=True)
class _SweepContent:
    provenance: Object
    table: tuple[Object, ...]
    pairs: tuple[Object, ...]


@dataclass(frozen=True)
class _Content:
    """What :meth:`Result.to_dict` gives."""

    setting: Object
    builds: tuple[Object, ...]
    failures: dict[str, str]
    sweep: _SweepContent | None
    engines: tuple[Object, ...]
    seconds: dict[str, float]
    conditions: Object
    where: Object
    date: str


@dataclass(frozen=True)
class _Provenance:
    """What the provenance of a sweep must have; it may have more."""

    backend: str
    device: str
    date: str
    threads: int
    versions: dict[str, str]
    dims: tuple[Object, ...]


def _sweep(content: _SweepContent, builds: tuple[Build, ...], where: str) -> Sweep:
    needed = {name: value for name, value in content.provenance.items() if name in _Provenance.__annotations__}
    read(_Provenance, needed, f"{where}.provenance")
    if not content.table:
        raise ValueError(f"{where}.table is empty")
    plain = {"schema": SWEEP_SCHEMA, "provenance": content.provenance, "builds": [each.to_dict() for each in builds]}
    try:
        return Sweep.from_content({**plain, "table": content.table, "pairs": content.pairs})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} cannot be read ({error!r})") from None


def _report(plain: Object, where: str) -> EngineReport:
    report = read(EngineReport, plain, where)
    return replace(report, options={name: Repr(value) for name, value in report.options.items()})


def _without_title(report: Object) -> Object:
    return {name: value for name, value in report.items() if name != "title"}


def from_schema_1(run: Any, where: str) -> Object:
    """What :meth:`Result.to_dict` would have given of a run of the first schema; a ValueError if it lacks something."""
    try:
        sweep = run["sweep"]
        return {
            "setting": run["setting"],
            "builds": sweep["builds"] if sweep else [],
            "failures": run["failures"],
            "sweep": {name: sweep[name] for name in ("provenance", "table", "pairs")} if sweep else None,
            "engines": [],
            "seconds": {},
            "conditions": run["conditions"],
            "where": {name: value for name, value in run["where"].items() if name != "host"},
            "date": sweep["provenance"]["date"] if sweep else "",
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where} is no run of the first schema ({error!r})") from None
