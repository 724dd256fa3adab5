"""What can keep a preview from being made."""


class PreviewUnavailable(RuntimeError):
    """The preview cannot run on this machine; the message says what is missing and how to get it."""


class PreviewError(RuntimeError):
    """The preview's process ended without an answer: it crashed, was killed, or took too long."""
