"""The widgets of the studio and where they stand, of core ipywidgets only. What they do is in ``app``."""

import html
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as w

from tutorial_lib.builds import backends
from tutorial_lib.core import precision
from tutorial_lib.core.shapes import LARGEST, DynamicDim
from tutorial_lib.paths import PATHS
from tutorial_lib.studio import engine_views, views
from tutorial_lib.teach.shown import style

TABS = ("Results", "Speed-up and build", "What was built", "TensorRT engine", "Ask for a size", "Take it with you")
SHOWN = ""
"""Stands for what is shown among the letters of the pinned results."""
OUTSIDE = {"refuse it": "raise", "build another engine (jit)": "recompile", "run it in PyTorch": "eager"}
AUTO = "auto"
BUDGET = 3.0
"""Seconds of measuring (:attr:`tutorial_lib.experiments.setting.Setting.budget`)."""


def _entry(description: str, width: str = "11em", **more: Any) -> w.IntText:
    auto = {"description_width": "auto"}
    return w.IntText(description=description, layout={"width": width}, style=auto, continuous_update=True, **more)


def _button(text: str, tip: str, style: str = "") -> w.Button:
    return w.Button(description=text, tooltip=tip, button_style=style, layout={"width": "auto"})


def _row(*children: w.Widget) -> w.HBox:
    return w.HBox(children, layout={"flex_flow": "row wrap", "align_items": "center", "grid_gap": "2px 12px"})


class RangeControls:
    """Entries for min, opt and max of one dimension, and a slider for opt beside them."""

    def __init__(self, dim: DynamicDim) -> None:
        self.name = dim.name
        ends = {"min": dim.min, "opt": dim.opt, "max": dim.max}
        self.entries = {end: _entry(f"{dim.name} {end}", value=value) for end, value in ends.items()}
        self.slider = w.IntSlider(
            value=dim.opt,
            min=dim.min,
            max=max(dim.max, dim.min + 1),
            description=f"slide {dim.name} opt",
            continuous_update=False,
            readout=False,
            layout={"width": "24em"},
            style={"description_width": "auto"},
        )
        self.row = _row(*self.entries.values(), self.slider)

    @property
    def values(self) -> tuple[int, int, int]:
        """Min, opt and max as they are typed."""
        low, opt, high = (entry.value for entry in self.entries.values())
        return low, opt, high

    def write(self, values: Sequence[int]) -> None:
        """Put these into the entries."""
        for entry, value in zip(self.entries.values(), values, strict=True):
            entry.value = value

    def follow(self) -> None:
        """Move the slider where the entries are, if they make a range."""
        low, opt, high = self.values
        if 1 <= low <= opt <= high <= LARGEST:
            self.slider.min = min(low, self.slider.min)  # never above its max, not even between these lines
            self.slider.max = max(high, low + 1)
            self.slider.min = low
            self.slider.value = opt


class Panel:
    """All widgets of one studio."""

    def __init__(self, models: Sequence[str]) -> None:
        auto = {"description_width": "auto"}
        self.model = w.Dropdown(options=list(models), description="model", style=auto, layout={"width": "auto"})
        self.backend = w.Dropdown(description="backend", style=auto, layout={"width": "16em"})
        self.race = w.Dropdown(description="beside it", style=auto, layout={"width": "12em"})
        self.race.tooltip = "Another backend, built and measured as well; the one that builds sooner comes first"
        self.precision = w.Dropdown(description="precision", style=auto, layout={"width": "13em"})
        self.paths = {
            name: w.Checkbox(value=True, description=name, indent=False, layout={"width": "auto"}) for name in PATHS
        }
        self.ranges: dict[str, RangeControls] = {}
        self.ranges_box = w.VBox()
        self.profiles = w.Text(
            description="profiles", placeholder="one range: that above", layout={"width": "36em"}, style=auto
        )
        self.profiles.tooltip = "Several, each a range for every dimension, with a semicolon between them"
        self.add_profile = _button("Add a profile", "Add the range above to the profiles")
        self.sizes = w.Text(description="sizes to measure", layout={"width": "28em"}, style=auto)
        self.rounds = _entry("rounds", "8em", value=3)
        self.budget = w.FloatText(value=BUDGET, description="seconds", layout={"width": "9em"}, style=auto)
        self.budget.tooltip = "Rounds go on for so long, or until all is told apart; 0: the rounds alone"
        self.options = w.Text(description="options", layout={"width": "28em"}, style=auto)
        self.engines = w.Checkbox(
            description="TensorRT's engines (built, not run)", indent=False, layout={"width": "auto"}
        )
        self.calls = w.Text(
            description="sizes to call them at", placeholder="for example 1, 33", layout={"width": "22em"}, style=auto
        )
        self.entries = {
            "backend": self.backend,
            "precision": self.precision,
            "sizes": self.sizes,
            "options": self.options,
            "samples": self.rounds,
            "budget": self.budget,
            "engines": self.engines,
            "calls": self.calls,
            "profiles": self.profiles,
        }
        self.problem = w.HTML()
        self.build = _button("Build", "Build what is not built yet, and measure all paths side by side", "primary")
        self.build.add_class("tl-build")
        self.cancel = _button("Cancel", "Stop as soon as the work can be stopped")
        self.scratch = _button("Build from scratch", "Build and measure again, without anything kept from before")
        self.pin = _button("Pin", "Keep this result as faint lines and rows")
        self.cancel.disabled = self.pin.disabled = True
        self.status = w.HTML()
        self.stale = w.HTML()
        self.pins = w.HBox(layout={"flex_flow": "row wrap", "grid_gap": "4px"})
        self.figure, self.table, self.seconds = w.HTML(), w.HTML(), w.HTML()
        self.more, self.built = w.HTML(), w.HTML()
        self.engine_reports, self.memory, self.memory_status = w.HTML(), w.HTML(), w.HTML()
        self.memory_dim = w.Dropdown(description="max of", style=auto, layout={"width": "auto"})
        self.memory_build = _button("Build with other sizes of max", "To see what max does to memory")
        self.compare = w.Dropdown(description="compare", style=auto, layout={"width": "22em"})
        self.compare_with = w.Dropdown(description="with", style=auto, layout={"width": "22em"})
        self.comparison = _row(self.compare, self.compare_with)
        self.engine_changes = w.HTML()
        self.ask_size = _entry("size", value=33)
        self.outside = w.Dropdown(options=list(OUTSIDE), description="outside the range", style=auto)
        self.ask = _button("Ask", "Call every path at this size")
        self.ask_row, self.answers = _row(self.ask_size, self.outside, self.ask), w.HTML()
        self.ask_row.add_class("tl-ask")
        self.links, self.script = w.HTML(), w.HTML()
        self.tabs = w.Tab(
            children=[
                w.VBox([self.figure, self.table]),
                w.VBox([self.more, self.seconds]),
                w.VBox([self.built]),
                w.VBox(
                    [
                        self.engine_reports,
                        _row(self.memory_dim, self.memory_build),
                        self.memory_status,
                        self.memory,
                        self.comparison,
                        self.engine_changes,
                    ]
                ),
                w.VBox([self.ask_row, self.answers]),
                w.VBox([self.links, self.script]),
            ],
            titles=TABS,
        )
        self.root = w.VBox(
            [
                style(views.STYLE),
                _row(self.model, self.backend, self.race, self.precision, _row(w.Label("paths"), *self.paths.values())),
                self.ranges_box,
                _row(self.profiles, self.add_profile),
                _row(self.sizes, self.rounds, self.budget, self.options),
                _row(self.engines, self.calls),
                self.problem,
                _row(self.build, self.cancel, self.scratch, self.pin),
                self.status,
                self.stale,
                self.pins,
                self.tabs,
            ]
        )
        self.root.add_class("tl-studio")
        self.root.add_class("tl-live")

    def show_ranges(self, dims: Mapping[str, DynamicDim]) -> None:
        """Controls for these dimensions, in place of those that were there."""
        self.ranges = {name: RangeControls(dim) for name, dim in dims.items()}
        self.ranges_box.children = [controls.row for controls in self.ranges.values()]
        self.memory_dim.options = list(dims)
        self.memory_dim.value = next(iter(dims), None)
        self.memory_dim.layout.display = None if len(dims) > 1 else "none"

    def show_pins(self, labels: Mapping[str, str], restore: Callable[[str], Any], unpin: Callable[[str], Any]) -> None:
        """A line for each pinned result, with buttons to go back to it and to unpin it."""
        rows = []
        for letter, label in labels.items():
            back = _button(f"Back to {letter}", f"Set the panel to {label} again")
            away = _button(f"Unpin {letter}", f"Take {label} away")
            back.on_click(restore(letter))
            away.on_click(unpin(letter))
            rows.append(_row(w.HTML(f"<b>{letter}</b> {html.escape(label)}"), back, away))
        self.pins.children = rows

    def offer_engines(self, problem: str) -> None:
        """Offer to build TensorRT's engines, unless there is a `problem`."""
        self.engines.value, self.engines.disabled = not problem, bool(problem)
        self.engine_reports.value = engine_views.unavailable(problem) if problem else engine_views.NOTHING_YET

    def offer_comparison(self, labels: Mapping[str, str]) -> None:
        """Offer to compare pinned results, by their letters, and what is shown; the first pin with it by default."""
        options = [("what is shown", SHOWN), *((f"{letter}: {label}", letter) for letter, label in labels.items())]
        letters = [letter for _, letter in options]
        for dropdown, default in ((self.compare, next(iter(labels), SHOWN)), (self.compare_with, SHOWN)):
            before = dropdown.value
            if dropdown.options != tuple(options):
                dropdown.options = options
                dropdown.value = before if before in letters[1:] else default
        self.comparison.layout.display = None if labels else "none"

    def offer(self, device: Any) -> None:
        """Offer every backend and precision; those that do not work on `device` with the reason."""
        auto, _ = backends.choose("auto", device)
        self.backend.options = [
            (f"{AUTO} ({auto})", AUTO),
            *((_labelled(s.name, None if s.works else s.reason), s.name) for s in backends.statuses(device)),
        ]
        self.precision.options = [(_labelled(name, precision.why_not(name, device)), name) for name in precision.DTYPES]
        self.race.options = [("no other", ""), *self.backend.options[1:]]
        # New options leave nothing selected.
        self.backend.value, self.race.value, self.precision.value = AUTO, "", "fp32"


def _labelled(name: str, reason: str | None) -> str:
    return name if reason is None else f"{name}, not here: {textwrap.shorten(reason, 60, placeholder=' ...')}"
