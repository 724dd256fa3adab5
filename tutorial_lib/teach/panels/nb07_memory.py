"""Notebook 7: max, opt and a card's memory: what one engine wants, and how many fit."""

from pathlib import Path

import ipywidgets as w

from tutorial_lib.builds.plan import show_bytes
from tutorial_lib.core.models import expand_reshape
from tutorial_lib.engines import EngineReport, EnginesUnavailable, Recording
from tutorial_lib.figures import engine_memory, plots
from tutorial_lib.teach.panels.recorded import built
from tutorial_lib.teach.shown import Shown, says

SIZES = (8, 32, 128, 256)
SMALL = 4


class MemoryPanel(Shown):
    """Choose max and opt of `expand-reshape`; each click builds an engine. :meth:`build` does what a click does."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._reports: dict[tuple[int, int], EngineReport] = {}
        self.max = w.SelectionSlider(options=SIZES, value=32, description="max", continuous_update=False)
        self.opt = w.ToggleButtons(options=[("opt 4", False), ("opt = max", True)], tooltips=["small", "large"])
        self.card = w.Dropdown(options=[("8 GB", 8), ("24 GB", 24), ("80 GB", 80)], description="card")
        self.told, self.image = w.HTML(), w.Image(format="png", layout={"max_width": "800px"})
        self._moving = False
        controls = (self.max, self.opt, self.card)
        for control in controls:
            control.observe(lambda _: None if self._moving else self._update(), "value")
        super().__init__(w.VBox(controls), self.told, self.image, text="A panel: what max and opt cost in memory.")
        self._update()

    def build(self, max: int = 32, at_max: bool = False, card: int = 8) -> str:
        """Build an engine, tuned for 4 or for its max; returns what is said of it."""
        self._moving = True
        self.max.value, self.opt.value, self.card.value = max, at_max, card
        self._moving = False
        return self._update()

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
        self.image.value = plots.png(engine_memory.memory(shown, "batch", current=[report]))
        self.image.alt = sentence
        return sentence


def memory(recording: str | Path = "07_what_a_range_costs.json") -> MemoryPanel:
    """The panel; `recording` has engines for machines that can build none."""
    return MemoryPanel(Recording(recording))
