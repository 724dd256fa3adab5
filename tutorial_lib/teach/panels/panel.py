"""What panels share: controls, what is made of them each time that one moves, and where engines come from."""

import contextlib
import io
from typing import Any

import ipywidgets as w
from matplotlib.figure import Figure

from tutorial_lib.core.models import Case
from tutorial_lib.engines import EngineReport, Recording
from tutorial_lib.teach.pictures import picture
from tutorial_lib.teach.shown import Shown


class Panel(Shown):
    """Controls above a sentence and a figure; ``_update`` of a subclass reads the controls, and returns what it shows.

    Parameters
    ----------
    *controls : Widget
        Each has a value, and updates the panel when it moves.
    text : str
        As of :class:`Shown`.
    """

    def __init__(self, *controls: w.Widget, text: str) -> None:
        self.told, self.figure = w.HTML(), w.HTML()
        self._moving = False
        for control in controls:
            control.observe(lambda _: None if self._moving else self._update(), "value")
        super().__init__(w.VBox(controls), self.told, self.figure, text=text)
        self._update()

    def _update(self) -> Any:
        raise NotImplementedError

    def _move(self, **values: Any) -> Any:
        """Give the controls of these names their values: one answer, after all have moved."""
        self._moving = True
        for name, value in values.items():
            getattr(self, name).value = value
        self._moving = False
        return self._update()

    def _show(self, figure: Figure, alt: str) -> None:
        self.figure.value = picture(figure, alt)


def built(recording: Recording, case: Case, *args: Any, **keywords: Any) -> tuple[tuple[EngineReport, ...], str]:
    """What :meth:`Recording.build_all` returns, and the words that it prints where the answer is a recorded one."""
    note = io.StringIO()
    with contextlib.redirect_stdout(note):
        reports = recording.build_all(case, *args, **keywords)
    return reports, note.getvalue()
