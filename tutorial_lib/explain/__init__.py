"""An upstream error as its cause and the way to mend it."""

from tutorial_lib.explain.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
