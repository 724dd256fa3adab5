"""What TensorRT is really asked to build, without TensorRT.

The range that a reader types is often not the optimization profile that TensorRT gets, and a call
may build another engine unseen. :func:`preview` runs Torch-TensorRT's real front end on a compile
path, up to the engine build, and reports every engine that TensorRT would be asked for;
:func:`run_inside` does the same with calls of the reader's own. Both run in a process of their own;
what they report is a preview, never a TensorRT result. :mod:`tutorial_lib.preview.figure` draws it.
"""

from tutorial_lib.preview.bare import Asked, run_inside
from tutorial_lib.preview.errors import PreviewError, PreviewUnavailable
from tutorial_lib.preview.process import preview, previews
from tutorial_lib.preview.record import Call, Preview
from tutorial_lib.preview.recording import Recording

__all__ = [
    "Asked",
    "Call",
    "Preview",
    "PreviewError",
    "PreviewUnavailable",
    "Recording",
    "preview",
    "previews",
    "run_inside",
]
