"""What can keep a preview from being made."""


class EnginesUnavailable(RuntimeError):
    """The preview cannot run on this machine; the message says what is missing and how to get it."""


class EngineProcessError(RuntimeError):
    """The preview's process ended without an answer: it crashed, was killed, or took too long."""
