"""Progress of a build or a sweep, told to a listener, which may cancel the work."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@dataclass(frozen=True)
class Progress:
    """How far a piece of work has come.

    Attributes
    ----------
    stage : str
        What is being done, in one word or two. A build of TensorRT's engines is ``starting``, ``tracing``,
        ``converting``, ``building`` or ``calling``; a sweep ``comparing``, ``warming up`` or ``measuring``; the
        stages of a run are those of :mod:`tutorial_lib.experiments.run`.
    done, total : int, int or None
        Steps of this stage; `total` is None where their number is not known.
    text : str
        The same as a sentence for people.
    """

    stage: str
    done: int
    total: int | None
    text: str


Listener = Callable[[Progress], None]
"""Called whenever there is progress. What it raises, such as :class:`Cancelled`, ends the work."""


class Cancelled(BaseException):
    """The work was stopped on request. Not an ``Exception``, so compilers do not take it for their own failure."""


@contextlib.contextmanager
def listening(tell: Callable[[str], None]) -> Iterator[None]:
    """Call `tell` with every stage that this thread enters inside the ``with`` block.

    It may raise :class:`Cancelled`: the work then ends at that stage and leaves no lock or setting behind.
    """
    token = _listener.set(tell)
    try:
        yield
    finally:
        _listener.reset(token)


def stage(text: str) -> None:
    """Announce that the next stage begins, such as ``tracing``. The work can be cancelled only here."""
    tell = _listener.get()
    if tell:
        tell(text)
