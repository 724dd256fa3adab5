"""An upstream error as its cause and the way to mend it, and a recompile as the guard that failed."""

from tutorial_lib.explain.explanation import Explanation, explain
from tutorial_lib.explain.recompiles import Recompiles, recompiles

__all__ = ["Explanation", "Recompiles", "explain", "recompiles"]
