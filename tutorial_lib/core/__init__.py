"""What everything else speaks of: ranges and specs, models and cases, precision, progress, files."""

from tutorial_lib.core.models import MODELS, Case, make_case
from tutorial_lib.core.precision import PrecisionError
from tutorial_lib.core.progress import Cancelled
from tutorial_lib.core.shapes import DynamicDim, ShapeError, TensorSpec

__all__ = ["MODELS", "Cancelled", "Case", "DynamicDim", "PrecisionError", "ShapeError", "TensorSpec", "make_case"]
