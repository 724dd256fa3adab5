"""Results as matplotlib figures, each returned and none shown.

plots    curves over sizes, with the colours and marks of the paths    engine_memory, engine_profiles  of engines
heatmap  two dynamic dimensions
"""

from tutorial_lib.figures.plots import overview, png, show

__all__ = ["overview", "png", "show"]
