"""Results as matplotlib figures, each returned and none shown."""

from tutorial_lib.figures.plots import overview, png, show

__all__ = ["overview", "png", "show"]
