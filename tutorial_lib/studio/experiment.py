"""An experiment: a setting to try in the panel, with buttons that set it. The panel stays as its reader left it."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import ipywidgets as w

from tutorial_lib.core.shapes import DynamicDim
from tutorial_lib.experiments.result import Result
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.studio.cached_runs import Answer
from tutorial_lib.studio.downloads import Snapshot
from tutorial_lib.studio.form import ENTRIES, INVALID
from tutorial_lib.studio.panel import BUDGET
from tutorial_lib.teach.shown import Shown, says

DEFAULTS = {field.name: field.default for field in fields(Setting) if field.name in ENTRIES}
DEFAULTS |= {"race": "", "budget": BUDGET}
"""What an experiment sets where it says nothing else, so that it does not depend on what the panel has."""


class Experiment(Shown):
    """What to set in the panel of a `studio`, shown with two buttons; :meth:`set` and :meth:`build` do what they do.

    `changes` has the names of :meth:`Studio.set`; `dims`, the model's own ranges, are for those it leaves out.
    """

    def __init__(self, studio: Any, model: str, dims: Mapping[str, DynamicDim], changes: Mapping[str, Any]) -> None:
        self._studio = studio
        ranges = {name: (dim.min, dim.opt, dim.max) for name, dim in dims.items()}
        self._setting = {"model": model, **DEFAULTS, **ranges, **changes}
        said = {"model": model, **ranges, **changes}
        words = "; ".join(f"{name} {_typed(value)}" for name, value in said.items())
        buttons = {"Set it for me": self.set, "Set it and build": self.build}
        self.told, row = w.HTML(), []
        for text, do in buttons.items():
            row.append(w.Button(description=text, layout={"width": "auto"}))
            row[-1].on_click(lambda _, do=do: do())
        box = w.VBox(
            [w.HTML(f'<div class="tl-question"><b>Set in the panel:</b> {words}</div>'), w.HBox(row), self.told]
        )
        box.add_class("tl-predict")
        super().__init__(box, text=f"Set in the panel: {words}.")

    def set(self) -> str:
        """Type it into the panel."""
        return self._try(lambda: self._studio.set(**self._setting), "The panel is set. Press Build there.")

    def build(self) -> str:
        """Type it into the panel, and press Build."""
        if (problem := self._try(lambda: self._studio.set(**self._setting), "")) != "":
            return problem
        return self._try(self._studio.start, "The panel builds it: look there.")

    def result(self) -> Result:
        """Its result: the panel's, if it was built there, and otherwise built now, beside the panel.

        Raises
        ------
        BuildError, EnginesUnavailable, ...
            As :meth:`Studio.build`.
        """
        return self._studio.run_beside(**self._setting)

    def snapshot(self, *behind: "Experiment") -> Snapshot:
        """Figure and table of its result, with those of others `behind` it as A, B and so on."""
        named = [(letter, each.result()) for letter, each in zip("ABCDE", behind, strict=False)]
        return Snapshot(self.result(), tuple((f"{letter}: {result.label}", result) for letter, result in named))

    def ask(self, size: int, outside: str = "raise") -> tuple[Answer, ...]:
        """What its programs do with `size`; the panel's tab *Ask for a size* shows it, too."""
        return self._studio.ask_beside(self._setting, size, outside)

    def _try(self, do: Callable[[], Any], done: str) -> str:
        try:
            do()
        except INVALID as error:
            self.told.value = says(str(error), False)
            return str(error)
        self.told.value = says(done, True)
        return done


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return "ticked" if value else "not ticked"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={each!r}" for name, each in value.items()) or "none"
    if isinstance(value, tuple) and len(value) == 3 and all(isinstance(each, int) for each in value):
        return " / ".join(map(str, value))
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
