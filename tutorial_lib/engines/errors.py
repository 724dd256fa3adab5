"""What can keep an engine from being built here, and what a builder's refusal is."""

from tutorial_lib.explain import Explanation


class EnginesUnavailable(RuntimeError):
    """Engines cannot be built on this machine; the message says what is missing and how to get it."""


class EngineProcessError(RuntimeError):
    """The process that builds engines ended without an answer: it crashed, was killed, or took too long."""


class EngineRefused(RuntimeError):
    """Torch-TensorRT's converters or TensorRT's builder refused a graph.

    Attributes
    ----------
    log : tuple of str
        TensorRT's own errors, where the reason often stands alone.
    explanation : Explanation or None
        Cause and fix, where the refusal is known.
    """

    explanation: Explanation | None = None

    def __init__(self, message: str, log: tuple[str, ...]) -> None:
        super().__init__(message)
        self.log = log


class TargetError(ValueError):
    """A compute capability that TensorRT for RTX cannot build for; the message names those that it can."""


class PlanError(RuntimeError):
    """A plan that cannot be saved, read or run here; nothing was written or run."""
