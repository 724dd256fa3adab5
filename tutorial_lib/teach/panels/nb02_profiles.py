"""Notebook 2: type a range, and see it beside the profiles that TensorRT gets."""

from pathlib import Path

import ipywidgets as w

from tutorial_lib.core.models import expand_reshape
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines import EngineReport, EnginesUnavailable, Recording
from tutorial_lib.figures import engine_profiles
from tutorial_lib.teach.lessons.nb02 import asked_for
from tutorial_lib.teach.panels.panel import built
from tutorial_lib.teach.pictures import picture
from tutorial_lib.teach.shown import Shown, says

EXAMPLES = ((2, 4, 32), (1, 4, 32), (1, 1, 32), (3, 8, 64), (4, 4, 4))
"""Ranges that the recording has, for machines that can build no engine."""
LARGEST = 1024


class Profiles(Shown):
    """Three entries, a button, and the picture. :meth:`build` does what the button does.

    `recording` has the engines of a few ranges for machines that can build none.

    Attributes
    ----------
    reports : dict
        What TensorRT built last, by path.
    """

    def __init__(self, recording: str | Path = "02_what_tensorrt_really_gets.json") -> None:
        self._recording = Recording(recording)
        self.reports: dict[str, EngineReport] = {}
        auto = {"description_width": "auto"}
        first = EXAMPLES[0]
        self.entries = [
            w.IntText(description=f"batch {name}", value=value, style=auto, layout={"width": "10em"})
            for name, value in zip(("min", "opt", "max"), first, strict=True)
        ]
        options = [(" / ".join(map(str, each)), each) for each in EXAMPLES]
        self.example = w.Dropdown(options=options, value=first, description="for example", style=auto)
        self.example.layout.width = "16em"
        self.build_button = w.Button(description="Build", button_style="primary", layout={"width": "auto"})
        self.build_button.add_class("tl-build")
        self._drawn: tuple[int, ...] = first
        self.told, self.figure = w.HTML(), w.HTML()
        wrap = {"flex_flow": "row wrap", "align_items": "center", "grid_gap": "2px 12px"}
        text = "Type min, opt and max, and press Build: TensorRT's profiles appear beside what was typed."
        row = w.HBox([*self.entries, self.example, self.build_button], layout=wrap)
        super().__init__(row, self.told, self.figure, text=text)
        self.build(*first)
        self.example.observe(lambda change: self.type(*change["new"]), "value")
        self.build_button.on_click(lambda _: self.build(*(entry.value for entry in self.entries)))
        for entry in self.entries:
            entry.observe(lambda _: self._mark(), "value")

    def type(self, *sizes: int) -> None:
        """Put min, opt and max into the entries."""
        for entry, size in zip(self.entries, sizes, strict=True):
            entry.value = size

    def build(self, low: int, opt: int, high: int) -> str:
        """Let TensorRT build the engines of all paths; returns what is said of them."""
        self.type(low, opt, high)
        try:
            if high > LARGEST:
                raise ShapeError(f"max is {high}; this panel goes up to {LARGEST}.")
            case = expand_reshape(batch=(low, opt, high))
            self.told.value = says(f"TensorRT builds engines for {low} / {opt} / {high} ...")
            reports, note = built(self._recording, case, calls=[1, high + 1])
        except (ShapeError, EnginesUnavailable) as error:
            self.told.value = says(f"Not built: {error}", False)
            return f"Not built: {error}"
        self.reports = {report.path: report for report in reports}
        sentence = f"Typed {low} / {opt} / {high}. {_got(reports)} {note}".strip()
        self.told.value = says(sentence, True)
        dynamic = low < high  # a single size has no axis to draw
        self.figure.value = picture(engine_profiles.profiles(list(reports)), sentence) if dynamic else ""
        self._drawn = low, opt, high
        self._mark()
        return sentence

    def _mark(self) -> None:
        """Grey the picture while the entries are not what it shows."""
        if tuple(entry.value for entry in self.entries) == self._drawn:
            self.figure.remove_class("tl-stale")
        else:
            self.figure.add_class("tl-stale")


def _got(reports: tuple[EngineReport, ...]) -> str:
    parts = []
    for report in reports:
        first = " and ".join(
            " / ".join(map(str, asked_for(engine))) for engine in report.engines if not engine.after_build
        )
        later = [call.sizes for call in report.calls if call.outcome == "built"]
        text = f"{report.path} got {first}"
        if later:
            text += f", and calls at {' and '.join(_size(sizes) for sizes in later)} built further engines"
        parts.append(text)
    return "; ".join(parts) + "."


def _size(sizes: object) -> str:
    return ", ".join(map(str, sizes.values())) if isinstance(sizes, dict) else str(sizes)
