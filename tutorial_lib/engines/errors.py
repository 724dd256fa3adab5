"""What can keep a preview from being made."""


class EnginesUnavailable(RuntimeError):
    """The preview cannot run on this machine; the message says what is missing and how to get it."""


class EngineProcessError(RuntimeError):
    """The preview's process ended without an answer: it crashed, was killed, or took too long."""


class TargetError(ValueError):
    """A compute capability that TensorRT for RTX cannot build for; the message names those that it can."""


class PlanError(RuntimeError):
    """A plan that cannot be saved, read or run here; nothing was written or run."""
