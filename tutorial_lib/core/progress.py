"""What a build or a sweep is doing, told to whoever started it, who may stop it there."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@dataclass(frozen=True)
class Progress:
    """How far some work is.

    Attributes
    ----------
    stage : str
        What is being done, in one word or two. A build of TensorRT's engines is ``starting``, ``tracing``,
        ``converting``, ``building`` or ``calling``; a sweep ``comparing``, ``warming up`` or ``measuring``; the
        stages of a run are those of :mod:`tutorial_lib.experiments.run`.
    done, total : int, int or None
        Steps of this stage; `total` is None where nobody knows how many there are.
    text : str
        The same for people.
    """

    stage: str
    done: int
    total: int | None
    text: str


Listener = Callable[[Progress], None]
"""Called whenever there is progress. What it raises, such as :class:`Cancelled`, ends the work."""


class Cancelled(BaseException):
    """The work was stopped on request. Not an ``Exception``, so that no compiler takes it for a failure of its own."""


@contextlib.contextmanager
def listening(tell: Callable[[str], None]) -> Iterator[None]:
    """Have `tell` called with every stage that this thread enters inside the ``with`` block.

    It may raise :class:`Cancelled`: the work then ends at that stage, and leaves no lock or setting behind.
    """
    token = _listener.set(tell)
    try:
        yield
    finally:
        _listener.reset(token)


def stage(text: str) -> None:
    """Say that the next stage begins, such as ``tracing``; stages that cannot be stopped tell only their start."""
    tell = _listener.get()
    if tell:
        tell(text)
