"""Inductor and OpenVINO side by side on this machine's CPU, for what ``auto`` takes: ``doctor --measure``."""

import datetime

from tutorial_lib import paths
from tutorial_lib.builds.backends import choose
from tutorial_lib.builds.backends.preference import Comparison
from tutorial_lib.core.models import expand_reshape
from tutorial_lib.measure.sweep import sweep

BATCH = 4
SECONDS = 20.0
"""Seconds for all rounds: they go on until the two are told apart, or equal within 3 %."""


def compare_backends() -> Comparison:
    """Build the tutorial's first model with both on the export path, and time them beside each other.

    Raises
    ------
    BackendUnavailable
        If one of them does not work here.
    BuildError
        If one of them cannot be built.
    """
    names = [choose(name, "cpu")[0] for name in ("inductor", "openvino")]
    case = expand_reshape(batch=(1, BATCH, 32))
    result = sweep({name: paths.export(case, name) for name in names}, [BATCH], budget=SECONDS)
    (pair,) = result.pairs.to_dict("records")  # inductor is `one`, openvino the `other`
    speedup, low, high = (float(pair[name]) for name in ("speedup", "speedup_low", "speedup_high"))
    date = datetime.date.today().isoformat()
    return Comparison(speedup, low, high, f"{case.name}, batch {BATCH}", date)
