"""What TensorRT is really asked to build, without TensorRT.

The range that a reader types is often not the optimization profile that TensorRT gets, and a call
may build another engine unseen. :func:`preview` runs Torch-TensorRT's real front end on a compile
path, up to the engine build, and reports every engine that TensorRT would be asked for;
:func:`run_inside` does the same with calls of the reader's own. Both run in a process of their own;
what they report is a preview, never a TensorRT result. :mod:`tutorial_lib.engines.figure` draws it.
"""

from tutorial_lib.engines.bare import FunctionReport, run_inside
from tutorial_lib.engines.errors import EngineProcessError, EnginesUnavailable
from tutorial_lib.engines.process import preview, previews
from tutorial_lib.engines.record import Call, EngineReport
from tutorial_lib.engines.recording import Recording

__all__ = [
    "Call",
    "EngineProcessError",
    "EngineReport",
    "EnginesUnavailable",
    "FunctionReport",
    "Recording",
    "preview",
    "previews",
    "run_inside",
]
