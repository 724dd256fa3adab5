"""What one run of the studio found."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tutorial_lib.builds.report import Build
from tutorial_lib.experiments.recordings import Recorded
from tutorial_lib.experiments.results_file import setting_of
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.sweep import Sweep


@dataclass(frozen=True)
class Failure:
    """Why something failed: one sentence for the reader, and the traceback for whoever wants it."""

    sentence: str
    details: str


@dataclass(frozen=True)
class Result:
    """What is known of a setting; while the run goes on, what is known so far.

    Attributes
    ----------
    setting : Setting
        What was asked for.
    sweep : Sweep or None
        Latency and agreement; None if no path could be built. While :attr:`final` is false, latencies are a first
        look (one sample, not side by side) or agreement is missing (NaN).
    builds : tuple of Build
        What was built, for each path that could be.
    failures : mapping
        Path -> why it could not be built.
    seconds : mapping
        Where the time went: ``build jit``, ..., ``first look``, ``measure`` -> seconds.
    when : str
        Local date and time of the end of the run.
    final : bool
        False while results stream in.
    recorded : str
        Where and when, for a run that was not measured here: "recorded on ... at ...".
    """

    setting: Setting
    sweep: Sweep | None
    builds: tuple[Build, ...]
    failures: Mapping[str, Failure] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    when: str = ""
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


def of_recording(found: Recorded, **wanted: str) -> Result:
    """One setting of a recorded run as a result; its builds are in its sweep.

    Raises
    ------
    RecordedError
        If not exactly one setting fits what is `wanted`.
    """
    setting, about = setting_of(found.run(**wanted)["setting"]), found.about
    return Result(setting, found.sweep(**wanted), builds=(), when=about["date"], recorded=found.label)
