"""What TensorRT is really asked to build, without TensorRT.

The range that a reader types is often not the optimization profile that TensorRT gets, and a call
may build another engine unseen. :func:`preview` runs Torch-TensorRT's real front end on a compile
path, up to the engine build, and reports every engine that TensorRT would be asked for. It runs
in a process of its own; what it reports is a preview, never a TensorRT result.
"""

from tutorial_lib.preview.errors import PreviewError, PreviewUnavailable
from tutorial_lib.preview.process import preview, previews
from tutorial_lib.preview.record import Call, Preview

__all__ = ["Call", "Preview", "PreviewError", "PreviewUnavailable", "preview", "previews"]
