"""What the panel shows of the results: the last one, or what streams in, and the pinned ones behind it."""

import functools
import time
from collections.abc import Callable

from matplotlib.figure import Figure

from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.experiments.result import Result
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.sweep import Sweep
from tutorial_lib.studio import downloads, engine_views, views
from tutorial_lib.studio.cached_runs import Answer, CachedRuns
from tutorial_lib.studio.form import INVALID
from tutorial_lib.studio.panel import Panel
from tutorial_lib.upstream.exported_script import script

PINS = 5
QUESTIONS = 6
"""Questions whose answers stay in view."""
MORE_TAB, ENGINES_TAB, DOWNLOADS_TAB = 1, 3, 5
"""Tabs that are only drawn when they are looked at."""


class Display:
    """The results in view.

    Attributes
    ----------
    result : Result or None
        The last complete one.
    shown : Result or None
        The one in view: the last one, or what streams in.
    pins : dict
        Pinned results by their letter.
    race : Result or None
        That of the backend beside the last one's, or what streams in of it.
    race_setting : Setting or None
        What it is, or will be, the result of.
    """

    def __init__(self, panel: Panel, runs: CachedRuns) -> None:
        self._panel, self._runs = panel, runs
        self.result: Result | None = None
        self.shown: Result | None = None
        self.pins: dict[str, Result] = {}
        self.race: Result | None = None
        self.race_setting: Setting | None = None
        self.drawn_at = 0.0
        self._drawn_sweep: Sweep | None = None
        self._drawn_behind: tuple[tuple[str, Result], ...] = ()
        self._memory_drawn: tuple[object, ...] = ()
        self._questions: list[tuple[Answer, ...]] = []

    def last(self) -> Result:
        """The last result; an error if there is none."""
        if self.result is None:
            raise ShapeError("there is no result yet; press Build, or call build(), first.")
        return self.result

    def pinned(self, letter: str) -> Result:
        """The result that is pinned as `letter`."""
        if letter not in self.pins:
            raise ShapeError(f"nothing is pinned as {letter!r}; there are {', '.join(self.pins) or 'no pins'}.")
        return self.pins[letter]

    def pin(self, result: Result) -> str:
        """Pin a result; returns its letter."""
        for letter, pinned in self.pins.items():
            if pinned is result:
                return letter
        if len(self.pins) >= PINS:
            raise ShapeError(f"{PINS} results are pinned; unpin one first.")
        letter = next(letter for letter in "ABCDEFGH" if letter not in self.pins)
        self.pins[letter] = result
        return letter

    def behind(self) -> tuple[tuple[str, Result], ...]:
        """The result of the backend beside it and the pinned ones with their labels, without the one that is shown."""
        named = {**({self.race.backend: self.race} if self.race else {}), **self.pins}
        return tuple((f"{name}: {result.label}", result) for name, result in named.items() if result is not self.shown)

    def mark(self, setting: Setting | None, running: bool) -> None:
        """Mark what is shown as stale if it is not the result of `setting`."""
        if self.shown is not None and self.shown.setting not in (setting, self.race_setting):
            self._panel.stale.value = views.stale(self.shown, running)
            self._panel.tabs.add_class("tl-stale")
        else:
            self._panel.stale.value = ""
            self._panel.tabs.remove_class("tl-stale")

    def show_answers(self, answers: tuple[Answer, ...]) -> None:
        """Show the answers to a question above those to earlier ones."""
        self._questions = [answers, *self._questions][:QUESTIONS]
        self._panel.answers.value = views.answers(self._questions)

    def redraw(self) -> None:
        """Draw again what is shown."""
        self.draw(None if self.shown is None or self.shown.final else self.shown)

    def draw(self, streaming: Result | None = None) -> None:
        """Show the result that streams in, or else the last complete one."""
        self.shown = result = streaming or self.result
        panel, behind = self._panel, self.behind()
        self._draw_engines()
        if result is None:
            for part in (panel.figure, panel.more, panel.built, panel.links):
                part.value = views.EMPTY
            panel.table.value = panel.seconds.value = panel.script.value = ""
            self._drawn_sweep = None
            return
        is_drawn = result.sweep is self._drawn_sweep and behind == self._drawn_behind  # engines are not in the charts
        if result.sweep is None or not is_drawn:
            panel.figure.value = _images(views.charts, result, behind)
            self._drawn_sweep, self._drawn_behind = result.sweep, behind
        panel.table.value = views.table(result, behind)
        panel.seconds.value = views.seconds(result)
        panel.built.value = views.built(result)
        if panel.tabs.selected_index == MORE_TAB:
            panel.more.value = _images(views.more, result, behind)
        if streaming is None and panel.tabs.selected_index == DOWNLOADS_TAB:
            panel.script.value = self._script(result)
            panel.links.value = downloads.links(result, views.figure(result, behind))
        self.drawn_at = time.monotonic()

    def _draw_engines(self) -> None:
        """TensorRT's engines of what is shown, their memory over max, and how two settings differ; if looked at."""
        panel, result = self._panel, self.shown
        panel.offer_comparison({letter: pinned.label for letter, pinned in self.pins.items()})
        if result is None or panel.tabs.selected_index != ENGINES_TAB or panel.engines.disabled:
            return
        panel.engine_reports.value = engine_views.engines(result)
        self._draw_memory(result)
        old, new = (self._labelled(dropdown.value, result) for dropdown in (panel.compare, panel.compare_with))
        panel.engine_changes.value = "" if old[1] is new[1] else engine_views.changes(old, new)

    def _labelled(self, letter: str, shown: Result) -> tuple[str, Result]:
        """A pinned result, or the one that is shown, with its label."""
        result = self.pins.get(letter, shown)
        return f"{letter or 'shown'}: {result.label}", result

    def _draw_memory(self, result: Result) -> None:
        """Memory over max of the engines of what is shown, and of those that have another range of the dimension."""
        panel, dim = self._panel, self._panel.memory_dim.value
        axis = engine_views.axis_of(self._runs.base(result.setting.model), dim)
        if axis is None:  # or the panel already has the dimensions of another model
            panel.memory.value, self._memory_drawn = "", ()
            return
        known = self._runs.engines_over_max(result.setting, dim)
        reports = [*known, *(report for report in result.engines if report not in known)]
        drawn = dim, *map(id, (*reports, *result.engines))
        if drawn == self._memory_drawn:
            return
        self._memory_drawn = drawn
        figure = engine_views.memory_figure(reports, result.engines, dim, axis)
        panel.memory.value = views.image(figure, engine_views.memory_alt(reports, dim, axis)) if figure else ""

    def _script(self, result: Result) -> str:
        try:
            return downloads.copyable(script(self._runs.base(result.setting.model), result.setting))
        except INVALID as error:
            return views.problem(str(error))


@functools.lru_cache(maxsize=16)
def _images(
    draw: Callable[[Result, views.Pinned], list[Figure]], result: Result, behind: tuple[tuple[str, Result], ...]
) -> str:
    """Figures as HTML. A result is a key by its identity."""
    return views.images(draw(result, behind), views.alt(result))
