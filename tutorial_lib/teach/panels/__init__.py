"""The small panels of the notebooks, each loaded when it is first used: ``teach.panels.profiles()``."""

from importlib import import_module
from typing import Any

_PANELS = {
    "memory_over_max": ("nb00_memory_over_max", "MemoryOverMax"),
    "profiles": ("nb02_profiles", "Profiles"),
    "request": ("nb04_request", "RequestPanel"),
    "recompile": ("nb04_recompile", "RecompilePanel"),
    "tolerance": ("nb05_tolerance", "TolerancePanel"),
    "heatmap": ("nb06_heatmap", "HeatMap"),
    "memory": ("nb07_memory", "MemoryPanel"),
    "traffic": ("nb10_traffic", "TrafficPanel"),
    "recordings": ("nb11_recordings", "RecordingsPanel"),
}
"""The module and the class of each panel."""


def __getattr__(name: str) -> Any:
    if name not in _PANELS:
        raise AttributeError(f"there is no panel {name!r}; there are {', '.join(_PANELS)}.")
    module, panel = _PANELS[name]
    return getattr(import_module(f"{__name__}.{module}"), panel)
