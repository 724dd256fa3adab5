"""Notebook 7: max, opt and a card's memory: what one engine wants, and how many fit."""

from pathlib import Path

import ipywidgets as w

from tutorial_lib.builds.plan import show_bytes
from tutorial_lib.core.models import expand_reshape
from tutorial_lib.engines import EngineReport, EnginesUnavailable, Recording
from tutorial_lib.figures import engine_memory
from tutorial_lib.teach.panels.panel import Panel, built
from tutorial_lib.teach.shown import says

SIZES = (8, 32, 128, 256)
SMALL = 4


class MemoryPanel(Panel):
    """Choose max and opt of `expand-reshape`; each click builds an engine. :meth:`build` does what a click does.

    `recording` has engines for machines that can build none.
    """

    def __init__(self, recording: str | Path = "07_what_a_range_costs.json") -> None:
        self._recording = Recording(recording)
        self._reports: dict[tuple[int, int], EngineReport] = {}
        self.max = w.SelectionSlider(options=SIZES, value=32, description="max", continuous_update=False)
        self.opt = w.ToggleButtons(options=[("opt 4", False), ("opt = max", True)], tooltips=["small", "large"])
        self.card = w.Dropdown(options=[("8 GB", 8), ("24 GB", 24), ("80 GB", 80)], description="card")
        super().__init__(self.max, self.opt, self.card, text="A panel: what max and opt cost in memory.")

    def build(self, max: int = 32, at_max: bool = False, card: int = 8) -> str:
        """Build an engine, tuned for 4 or for its max; returns what is said of it."""
        return self._move(max=max, opt=at_max, card=card)

    def _update(self) -> str:
        most = self.max.value
        key = (most, most if self.opt.value else SMALL)
        note = ""
        try:
            if key not in self._reports:
                case = expand_reshape(batch=(1, key[1], most))
                (self._reports[key],), note = built(self._recording, case, ["export"])
        except EnginesUnavailable as error:
            sentence = f"No engine for max {most}: {error}"
            self.told.value = says(sentence, False)
            return sentence
        report = self._reports[key]
        memory = report.activation_bytes or 0
        fit = int(self.card.value * 1e9 // memory)
        sentence = f"1/{key[1]}/{most}: {show_bytes(memory)} of activation memory. "
        sentence += f"{fit} such engines fit into {self.card.value} GB, weights not counted. {note}".strip()
        self.told.value = says(sentence, fit > 0)
        shown = [self._reports[each] for each in sorted(self._reports)]
        self._show(engine_memory.memory(shown, "batch", current=[report]), sentence)
        return sentence
