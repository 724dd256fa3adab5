"""What every widget of the course shares: its style, and what stands in its place where no kernel runs."""

import html
from pathlib import Path
from typing import Any

import ipywidgets as w

STYLE = (Path(__file__).parent / "style.css").read_text()
"""For what stands in an element of class ``tl-live``."""


class Shown:
    """A panel that the last line of a cell shows.

    Parameters
    ----------
    *children : Widget
        From above.
    text : str
        Stands in the notebook file, for readers and tests without a kernel.
    """

    def __init__(self, *children: w.Widget, text: str) -> None:
        style = w.HTML(f"<style>{STYLE}</style>", layout={"display": "none"})
        self.root = w.VBox([style, *children])
        self.root.add_class("tl-live")
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        text = f"{self._text} (Run this cell to use it.)"
        place = f"<p><em>{html.escape(text, quote=False)}</em></p>"
        return {**self.root._repr_mimebundle_(), "text/plain": text, "text/html": place}


def says(sentence: str, good: bool | None = None) -> str:
    """A sentence as HTML that a screen reader reads out; with a mark where it is `good` or not."""
    if not sentence:
        return ""
    mark = {True: "tl-good", False: "tl-notyet", None: "tl-plain"}[good]
    return f'<div class="tl-says {mark}" role="status">{html.escape(sentence, quote=False)}</div>'
