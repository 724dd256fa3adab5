"""The small panels of the notebooks, each loaded when it is first used: ``teach.panels.profiles()``."""

from importlib import import_module
from typing import Any

_MODULES = {
    "memory_over_max": "nb00_memory_over_max",
    "profiles": "nb02_profiles",
    "request": "nb04_request",
    "recompile": "nb04_recompile",
    "tolerance": "nb05_tolerance",
    "heatmap": "nb06_heatmap",
    "memory": "nb07_memory",
    "traffic": "nb10_traffic",
    "recordings": "nb11_recordings",
}
"""The module of each panel, which has a function of the panel's name."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"there is no panel {name!r}; there are {', '.join(_MODULES)}.")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
