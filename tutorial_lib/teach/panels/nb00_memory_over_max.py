"""Notebook 0: a slider for max, a real TensorRT engine for each stop, and the memory that it reserves."""

from pathlib import Path

import ipywidgets as w

from tutorial_lib.builds.plan import show_bytes
from tutorial_lib.core.models import expand_reshape
from tutorial_lib.engines import EngineReport, EnginesUnavailable, Recording
from tutorial_lib.figures import engine_memory
from tutorial_lib.teach.panels.panel import Panel, built
from tutorial_lib.teach.shown import says

SIZES = (8, 16, 32, 64, 128, 256)
OPT, FIRST = 4, 32


class MemoryOverMax(Panel):
    """The slider and the picture. :meth:`set_max` does what moving the slider does.

    `recording` has the engines for machines that can build none.
    """

    def __init__(self, recording: str | Path = "00_start_here.json") -> None:
        self._recording = Recording(recording)
        self.reports: dict[int, EngineReport] = {}
        self.slider = w.SelectionSlider(
            options=[(str(size), size) for size in SIZES],
            value=FIRST,
            description="max of the batch",
            continuous_update=False,
            style={"description_width": "auto"},
            layout={"width": "28em"},
        )
        text = (
            "Move the slider: TensorRT builds an engine for batches up to this max, and says how much memory it needs."
        )
        super().__init__(self.slider, text=text)

    def set_max(self, size: int) -> str:
        """Build the engine for batches from 1 to `size`, one of the slider's; returns what is said of it."""
        return self._move(slider=size)

    def _update(self) -> str:
        size, before = self.slider.value, self.reports.get(FIRST)
        self.told.value = says(f"TensorRT builds an engine for batches up to {size} ...")
        note = ""
        try:
            if size not in self.reports:
                case = expand_reshape(batch=(1, OPT, size))
                (self.reports[size],), note = built(self._recording, case, ["export"])
        except EnginesUnavailable as error:
            sentence = f"No engine for {size}: {error}"
            self.told.value = says(sentence, False)
            return sentence
        report = self.reports[size]
        memory = report.activation_bytes or 0
        sentence = f"An engine for batches from 1 to {size} reserves {show_bytes(memory)} for intermediate results"
        if before and before is not report:
            sentence += f": {memory / (before.activation_bytes or 1):.1f} times what the one for {FIRST} takes"
        sentence = f"{sentence}, whatever batch you call it with. {note}".strip()
        self.told.value = says(sentence, True)
        shown = [self.reports[each] for each in sorted(self.reports)]
        self._show(engine_memory.memory(shown, "batch", current=[report]), sentence)
        return sentence
