"""Errors told in one sentence."""


def first_line(error: BaseException) -> str:
    r"""The first line of an error's message that is not empty, else the error's type.

    >>> first_line(ValueError("wrong\nat many places")), first_line(KeyboardInterrupt())
    ('wrong', 'KeyboardInterrupt')
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def sentence(error: BaseException) -> str:
    """An error in one sentence: the message if it is an error of this package, else its type and its first line.

    >>> sentence(ValueError("wrong"))
    'ValueError: wrong'
    """
    ours = type(error).__module__.startswith("tutorial_lib")
    return str(error) if ours else f"{type(error).__name__}: {first_line(error)}"


def system_reason(error: BaseException) -> str:
    """Why the system refused, in its own words; the first line of an error that is not the system's.

    >>> system_reason(OSError(28, "No space left on device")), system_reason(ValueError("embedded null byte"))
    ('No space left on device', 'embedded null byte')
    """
    return getattr(error, "strerror", None) or first_line(error)
