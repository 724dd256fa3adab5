"""Whether ``auto`` takes inductor or openvino on a CPU: what the reader says, else what was measured on this machine.

Which of the two is faster depends on the processor. ``python -m tutorial_lib doctor --measure`` compares them once and
writes the result into the cache folder, where it holds for this processor, number of threads and these versions.
Nothing is measured by itself: without a result, inductor comes first, which compiles more of what PyTorch runs.
"""

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tutorial_lib.builds import report
from tutorial_lib.core import plain_values
from tutorial_lib.core.files import cache_folder, save

VARIABLE = "TUTORIAL_LIB_BACKEND"
"""Environment variable that names the backend which ``auto`` takes."""
FILE = "auto.json"


@dataclass(frozen=True)
class Comparison:
    """openvino beside inductor on this machine, on one model.

    Attributes
    ----------
    speedup, low, high : float
        How many times as fast as inductor openvino is, and the interval of that.
    model : str
        What was measured, such as ``expand-reshape, batch 4``.
    date : str
        When, as an ISO 8601 date.
    """

    speedup: float
    low: float
    high: float
    model: str
    date: str

    @property
    def faster(self) -> str:
        """The backend to take: openvino where the whole interval says so, else inductor."""
        return "openvino" if self.low > 1 else "inductor"

    def __str__(self) -> str:
        return (
            f"openvino is {self.speedup:.2f} times as fast as inductor ({self.low:.2f} to {self.high:.2f}) on "
            f"{self.model}, measured here on {self.date}"
        )


def remember(comparison: Comparison) -> None:
    """Keep `comparison` for this processor, number of threads and these versions.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    save(cache_folder() / FILE, json.dumps({**_remembered(), _key(): asdict(comparison)}, indent=1))


def comparison_here() -> Comparison | None:
    """What was measured with this processor, number of threads and these versions; None if nothing was."""
    try:
        return plain_values.read(Comparison, _remembered()[_key()], "comparison")
    except (KeyError, ValueError):
        return None


def requested() -> str | None:
    """The backend that the environment names for ``auto``, if any."""
    return os.environ.get(VARIABLE) or None


def _remembered() -> dict[str, Any]:
    try:
        return dict(json.loads((cache_folder() / FILE).read_text()))
    except (OSError, TypeError, ValueError):
        return {}


def _key() -> str:
    versions = report.versions("openvino")
    return ", ".join(
        [report.device_name(torch.device("cpu")), *(f"{n} {versions.get(n)}" for n in ("torch", "openvino"))]
    )
