"""What every widget of the course shares: its style, and what stands in its place where no kernel runs."""

import html
from pathlib import Path
from typing import Any

import ipywidgets as w

from tutorial_lib.core.markup import with_code

STYLE = (Path(__file__).parent / "style.css").read_text()
"""For what stands in an element of class ``tl-live``."""
KEYS = """
const root = this.closest('.tl-live');
root.addEventListener('keydown', event => {
  if (event.key !== 'Enter' || !event.target.matches('input[type=number], input[type=text]')) return;
  const ask = event.target.closest('.tl-ask');
  (ask ? ask.querySelector('button') : root.querySelector('.tl-build'))?.click();
}, true);  // before the entry, which keeps the key to itself
root.addEventListener('focusin', event => {
  if (!event.target.matches('.noUi-handle')) return;
  const label = event.target.closest('.widget-inline-hbox').querySelector('label');
  event.target.setAttribute('aria-label', label.textContent);
});
"""
"""Enter in an entry does what the button beside it does, and sliders have a name: core widgets have neither."""


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
        self.root = w.VBox([style(), *children])
        self.root.add_class("tl-live")
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        text = f"{self._text} (Run this cell to use it.)"
        place = f"<p><em>{html.escape(text, quote=False)}</em></p>"
        return {**self.root._repr_mimebundle_(), "text/plain": text, "text/html": place}


def style(more: str = "") -> w.HTML:
    """The style and the keys of a panel, whose root has the class ``tl-live``, with `more` rules."""
    text = f'<style onload="{html.escape(KEYS)}">{STYLE}{more}</style>'
    return w.HTML(text, layout={"display": "none"})


def says(sentence: str, good: bool | None = None) -> str:
    """A sentence as HTML that a screen reader reads out; with a mark where it is `good` or not."""
    if not sentence:
        return ""
    mark = {True: "tl-good", False: "tl-notyet", None: "tl-plain"}[good]
    return f'<div class="tl-says {mark}" role="status">{with_code(sentence)}</div>'
