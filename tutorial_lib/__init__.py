"""An interactive tutorial on compiling PyTorch models with dynamic input shapes.

The names that a notebook uses are here; each module says what it is for.
"""

from tutorial_lib.advisor import Advice, Traffic, advise
from tutorial_lib.agreement import Agreement, Reference
from tutorial_lib.backends import BackendUnavailable, OptionError, Status, choose, status, statuses
from tutorial_lib.building import BuildError
from tutorial_lib.compiled import Compiled, Recompile
from tutorial_lib.guard import OutOfRange
from tutorial_lib.models import (
    MODELS,
    Case,
    expand_reshape,
    perceptron,
    text_encoder,
    vit,
    vit_any_size,
)
from tutorial_lib.nets import (
    AnySizeVisionTransformer,
    ExpandReshapeModel,
    Perceptron,
    TextEncoder,
    VisionTransformer,
)
from tutorial_lib.paths import PATHS
from tutorial_lib.precision import PrecisionError
from tutorial_lib.record import Build, Engine, EngineInput
from tutorial_lib.shapes import DynamicDim, ShapeError, TensorSpec
from tutorial_lib.sweep import Sweep, grid, sweep

__all__ = [
    "MODELS",
    "PATHS",
    "Advice",
    "Agreement",
    "AnySizeVisionTransformer",
    "BackendUnavailable",
    "Build",
    "BuildError",
    "Case",
    "Compiled",
    "DynamicDim",
    "Engine",
    "EngineInput",
    "ExpandReshapeModel",
    "OptionError",
    "OutOfRange",
    "Perceptron",
    "PrecisionError",
    "Recompile",
    "Reference",
    "ShapeError",
    "Status",
    "Sweep",
    "TensorSpec",
    "TextEncoder",
    "Traffic",
    "VisionTransformer",
    "advise",
    "choose",
    "expand_reshape",
    "grid",
    "perceptron",
    "status",
    "statuses",
    "sweep",
    "text_encoder",
    "vit",
    "vit_any_size",
]
