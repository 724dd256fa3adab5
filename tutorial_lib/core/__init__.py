"""The values that every package speaks of.

shapes          DynamicDim, sizes that follow from others, TensorSpec     models, nets   Case, and the tutorial's models
model_source    a case from what is typed on a command line               precision      fp32, tf32, bf16, fp16
files           whole files, cache folders, answers kept on disk          plain_values   JSON into dataclasses
inductor_cache  a cache folder that can be used                           progress       stages, and cancelling
"""

from tutorial_lib.core.models import MODELS, Case, make_case
from tutorial_lib.core.precision import PrecisionError
from tutorial_lib.core.progress import Cancelled
from tutorial_lib.core.shapes import DynamicDim, ShapeError, TensorSpec

__all__ = ["MODELS", "Cancelled", "Case", "DynamicDim", "PrecisionError", "ShapeError", "TensorSpec", "make_case"]
