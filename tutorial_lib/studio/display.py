"""What the panel shows of the results: drawn from them, and kept as long as they are."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines import EngineReport
from tutorial_lib.experiments.result import Result
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.studio import take, views
from tutorial_lib.studio.bench import Answer, Bench, Recent
from tutorial_lib.studio.form import WRONG
from tutorial_lib.studio.panel import EMPTY, Panel, answers, problem, stale
from tutorial_lib.upstream.exported_script import script

PINS = 5
ASKED = 6
"""Questions whose answers stay in view."""
MORE_TAB, TAKE_TAB = 1, 4
"""Tabs that are only drawn when they are looked at."""


class Display:
    """The results in view: the last one, or what streams in, and the pinned ones behind it."""

    def __init__(self, panel: Panel, bench: Bench) -> None:
        self._panel, self._bench = panel, bench
        self.result: Result | None = None
        self.shown: Result | None = None
        self.pins: dict[str, Result] = {}
        self.drawn_at = 0.0
        self._answers: list[tuple[Answer, ...]] = []
        self._images: Recent[Any, tuple[Result, str]] = Recent(16)

    def needed(self) -> Result:
        """The last result."""
        if self.result is None:
            raise ShapeError("there is no result yet; press Build, or call build(), first.")
        return self.result

    def pinned(self, letter: str) -> Result:
        """The result that is pinned as `letter`."""
        if letter not in self.pins:
            raise ShapeError(f"nothing is pinned as {letter!r}; there are {', '.join(self.pins) or 'no pins'}.")
        return self.pins[letter]

    def pin(self, result: Result | None = None) -> str:
        """Pin a result, or else the last one; returns its letter."""
        result = result or self.needed()
        for letter, pinned in self.pins.items():
            if pinned is result:
                return letter
        if len(self.pins) >= PINS:
            raise ShapeError(f"{PINS} results are pinned; unpin one first.")
        letter = next(letter for letter in "ABCDEFGH" if letter not in self.pins)
        self.pins[letter] = result
        return letter

    def behind(self) -> list[tuple[str, Result]]:
        """The pinned results with their labels, without the one that is shown."""
        return [
            (f"{letter}: {pinned.label}", pinned) for letter, pinned in self.pins.items() if pinned is not self.shown
        ]

    def mark(self, setting: Setting | None, running: bool) -> None:
        """Mark what is shown as stale if it is not the result of `setting`."""
        panel, shown = self._panel, self.shown
        other = shown is not None and shown.setting != setting
        panel.stale.value = stale(shown, running) if shown and other else ""
        (panel.tabs.add_class if other else panel.tabs.remove_class)("tl-stale")

    def answered(self, told: tuple[Answer, ...]) -> None:
        """Show the answers to a question above those to the ones before."""
        self._answers = [told, *self._answers][:ASKED]
        self._panel.answers.value = answers(self._answers)

    def show_engines(self, reports: Sequence[EngineReport]) -> None:
        """Show the engines that TensorRT built."""
        self._panel.engine_reports.value = views.engine_reports(reports)

    def redraw(self) -> None:
        """Draw again what is shown."""
        self.draw(None if self.shown is None or self.shown.final else self.shown)

    def draw(self, streaming: Result | None = None) -> None:
        """Show the result that streams in, or else the last complete one."""
        self.shown = result = streaming or self.result
        panel, behind = self._panel, self.behind()
        if result is None:
            panel.figure.value = EMPTY
            panel.table.value = panel.more.value = panel.built.value = panel.links.value = panel.script.value = ""
            return
        panel.figure.value = self._image(views.figure, result, behind)
        panel.table.value = views.table(result, behind)
        panel.seconds.value = views.seconds(result)
        panel.built.value = views.built(result)
        if panel.tabs.selected_index == MORE_TAB:
            panel.more.value = self._image(views.more, result, behind)
        if streaming is None and panel.tabs.selected_index == TAKE_TAB:
            self._take(result)
        self.drawn_at = time.monotonic()

    def _image(self, draw: Callable[..., Any], result: Result, behind: Sequence[tuple[str, Result]]) -> str:
        key = draw.__name__, result.setting, tuple(label for label, _ in behind)
        known = self._images.recall(key)
        if known and known[0] is result:
            return known[1]
        figure = draw(result, behind)
        image = views.image(figure, views.alt(result)) if figure else ""
        if result.final:
            self._images.keep(key, (result, image))
        return image

    def _take(self, result: Result) -> None:
        panel = self._panel
        try:
            panel.script.value = take.copyable(script(self._bench.base(result.setting.model), result.setting))
        except WRONG as error:
            panel.script.value = problem(str(error))
        panel.links.value = take.links(result, views.figure(result, self.behind()))
