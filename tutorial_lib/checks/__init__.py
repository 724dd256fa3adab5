"""What is checked of a call: its sizes before it, and its results after it."""

from tutorial_lib.checks.agreement import Agreement, Reference
from tutorial_lib.checks.range_check import Guard, OutOfRange

__all__ = ["Agreement", "Guard", "OutOfRange", "Reference"]
