"""The zoo: small models of the kinds that people compile, each with the ranges that a user would give.

`MODELS` maps a name to a function that makes a :class:`tutorial_lib.Case`. A comment ``# refused: ...`` marks the
models that no compiled program can serve.
"""

import libraries
import numbers_and_results
import sequences
import vision
from registry import MODELS

__all__ = ["MODELS", "libraries", "numbers_and_results", "sequences", "vision"]
