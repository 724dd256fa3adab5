"""An interactive tutorial on compiling PyTorch models with dynamic input shapes.

The names that a notebook uses are here; each package says what it is for.
Each is loaded when it is first used.
"""

from __future__ import annotations  # Python 3.8 gets as far as `setup`, which names its version

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

# As if it were not installed: OpenVINO would report its use to its makers from its first import on, and keep files in
# the user's home (builds/backends/openvino.py).
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:  # for editors and mypy; `_NAMES` says the same to Python
    from tutorial_lib import engines, paths, teach
    from tutorial_lib.advisor import Advice, Traffic, advise
    from tutorial_lib.builds.backends import BackendUnavailable, OptionError, Status, choose, status, statuses
    from tutorial_lib.builds.job import BuildError
    from tutorial_lib.builds.program import Compiled, Recompile
    from tutorial_lib.builds.report import Build, Engine, EngineInput
    from tutorial_lib.checks.agreement import Agreement, Reference
    from tutorial_lib.checks.range_check import OutOfRange
    from tutorial_lib.core.models import (
        MODELS,
        Case,
        decoder,
        expand_reshape,
        gated_norm,
        perceptron,
        prefill,
        text_encoder,
        vit,
        vit_any_size,
    )
    from tutorial_lib.core.nets import (
        AnySizeVisionTransformer,
        Decoder,
        ExpandReshapeModel,
        GatedNorm,
        Perceptron,
        TextEncoder,
        VisionTransformer,
    )
    from tutorial_lib.core.precision import PrecisionError
    from tutorial_lib.core.shapes import DynamicDim, ShapeError, TensorSpec
    from tutorial_lib.experiments.examination import examine
    from tutorial_lib.explain import recompiles
    from tutorial_lib.measure.sweep import Sweep, grid, sweep
    from tutorial_lib.paths import PATHS
    from tutorial_lib.studio import Studio

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
    "Decoder",
    "DynamicDim",
    "Engine",
    "EngineInput",
    "ExpandReshapeModel",
    "GatedNorm",
    "OptionError",
    "OutOfRange",
    "Perceptron",
    "PrecisionError",
    "Recompile",
    "Reference",
    "ShapeError",
    "Status",
    "Studio",
    "Sweep",
    "TensorSpec",
    "TextEncoder",
    "Traffic",
    "VisionTransformer",
    "advise",
    "choose",
    "decoder",
    "engines",
    "examine",
    "expand_reshape",
    "gated_norm",
    "grid",
    "paths",
    "perceptron",
    "prefill",
    "recompiles",
    "status",
    "statuses",
    "sweep",
    "teach",
    "text_encoder",
    "vit",
    "vit_any_size",
]

_NAMES: dict[str, tuple[str, ...]] = {
    "": ("engines", "paths", "teach"),
    "advisor": ("Advice", "Traffic", "advise"),
    "builds.backends": ("BackendUnavailable", "OptionError", "Status", "choose", "status", "statuses"),
    "builds.job": ("BuildError",),
    "builds.program": ("Compiled", "Recompile"),
    "builds.report": ("Build", "Engine", "EngineInput"),
    "checks.agreement": ("Agreement", "Reference"),
    "checks.range_check": ("OutOfRange",),
    "core.models": (
        "MODELS",
        "Case",
        "decoder",
        "expand_reshape",
        "gated_norm",
        "perceptron",
        "prefill",
        "text_encoder",
        "vit",
        "vit_any_size",
    ),
    "core.nets": (
        "AnySizeVisionTransformer",
        "Decoder",
        "ExpandReshapeModel",
        "GatedNorm",
        "Perceptron",
        "TextEncoder",
        "VisionTransformer",
    ),
    "core.precision": ("PrecisionError",),
    "core.shapes": ("DynamicDim", "ShapeError", "TensorSpec"),
    "experiments.examination": ("examine",),
    "explain": ("recompiles",),
    "measure.sweep": ("Sweep", "grid", "sweep"),
    "paths": ("PATHS",),
    "studio": ("Studio",),
}
"""The names by the module that has them, below this package; those of "" are its own packages and modules."""

if not TYPE_CHECKING:  # or mypy would take every name for one that is there

    def __getattr__(name: str) -> Any:
        for module, names in _NAMES.items():
            if name in names:
                home = f"{__name__}.{module}".rstrip(".")
                value = getattr(import_module(home), name) if module else import_module(f"{home}.{name}")
                globals()[name] = value  # the next use does not come here
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
