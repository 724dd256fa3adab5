"""How long calls take, how much memory, over which sizes, and in what state the device was."""

from tutorial_lib.measure.device_conditions import Conditions
from tutorial_lib.measure.sweep import EAGER, Sweep, grid, sweep

__all__ = ["EAGER", "Conditions", "Sweep", "grid", "sweep"]
