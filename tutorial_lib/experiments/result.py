"""What came of an experiment: its latencies, the programs and engines that were built, and what failed."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tutorial_lib.builds.job import sentence
from tutorial_lib.builds.report import Build
from tutorial_lib.engines import EngineReport
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.sweep import Sweep


@dataclass(frozen=True)
class Failure:
    """Why something failed: one sentence for the reader, and the traceback for whoever wants it."""

    sentence: str
    details: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """An error as a failure; the sentence of an error of this package is its message."""
        return cls(sentence(error), "".join(traceback.format_exception(error)))


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a setting; while the run goes on, what there is of it so far.

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
    def label(self) -> str:
        """What tells this result from another: ``1 / 4 / 32, inductor fp32``."""
        options = ", ".join(f"{name}={value}" for name, value in self.setting.options)
        told = [f"{self.setting.label}, {self.backend} {self.setting.precision}", options, self.recorded]
        return ", ".join(part for part in told if part)
