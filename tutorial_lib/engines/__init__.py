"""TensorRT's own engines, built by TensorRT for RTX on any Linux x86-64 machine, and not run.

The range that a reader types is often not the optimization profile that TensorRT gets, and a call
may build another engine unseen. :func:`build` lets Torch-TensorRT trace, lower, partition and convert a model along a
compile path, and TensorRT build every engine that it asks for, and reports what each became: its profile,
memory and layers. :func:`run_inside` does the same with calls of the reader's own. Both work in a
process of their own. Engines run only on a supported card: :func:`save` and :func:`run` are for that.
:mod:`tutorial_lib.figures.engine_profiles` draws reports.
"""

from tutorial_lib.engines.errors import EngineProcessError, EnginesUnavailable
from tutorial_lib.engines.files import save
from tutorial_lib.engines.recording import Recording
from tutorial_lib.engines.report import Call, EngineReport, FunctionReport
from tutorial_lib.engines.requests import build, build_all, run_inside
from tutorial_lib.engines.running import run

__all__ = [
    "Call",
    "EngineProcessError",
    "EngineReport",
    "EnginesUnavailable",
    "FunctionReport",
    "Recording",
    "build",
    "build_all",
    "run",
    "run_inside",
    "save",
]
