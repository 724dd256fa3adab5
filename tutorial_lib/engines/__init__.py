"""TensorRT's own engines, built by TensorRT for RTX on any Linux x86-64 machine, and not run.

The range that a reader types is often not the optimization profile that TensorRT gets, and a call may build another
engine unseen. :func:`build` compiles a model along a path: Torch-TensorRT traces, lowers, partitions and converts it,
and TensorRT builds every engine. The report shows the profile, memory and layers of each. :func:`run_inside` does the
same for calls of the reader's own. Both work in a process of their own. Engines run only on a supported card:
:func:`save` and :func:`run` are for that. :mod:`tutorial_lib.figures.engine_profiles` draws reports.
"""

from tutorial_lib.engines.errors import EngineProcessError, EnginesUnavailable
from tutorial_lib.engines.files import save
from tutorial_lib.engines.recording import Recording
from tutorial_lib.engines.report import Call, EngineReport, FunctionReport
from tutorial_lib.engines.requests import build, build_all, prepare, run_inside
from tutorial_lib.engines.running import run
from tutorial_lib.engines.worker import paused

__all__ = [
    "Call",
    "EngineProcessError",
    "EngineReport",
    "EnginesUnavailable",
    "FunctionReport",
    "Recording",
    "build",
    "build_all",
    "paused",
    "prepare",
    "run",
    "run_inside",
    "save",
]
