"""Notebook 11: choose recordings, and see them side by side."""

from pathlib import Path

import ipywidgets as w
import pandas as pd
from matplotlib.figure import Figure

from tutorial_lib.experiments.recordings import load
from tutorial_lib.figures import plots
from tutorial_lib.measure.sweep import EAGER
from tutorial_lib.teach.lessons.nb11 import MODELS, PRECISIONS, rows
from tutorial_lib.teach.panels.panel import Panel
from tutorial_lib.teach.shown import says

COLUMNS = {"milliseconds": "median_ms", "times as fast as eager": "speedup", "MB of a call": "peak_mb"}
LINES = ("-", "--", ":")


class RecordingsPanel(Panel):
    """A curve for each path of the two GPUs whose recordings are in `folder`; :meth:`choose` is what controls do."""

    def __init__(self, folder: str | Path = "recorded") -> None:
        self._machines = {name.upper(): load(Path(folder, f"{name}.json")) for name in ("h100", "h200")}
        self.model = w.Dropdown(options=MODELS, description="model")
        self.precision = w.Dropdown(options=PRECISIONS, description="precision")
        self.column = w.Dropdown(options=COLUMNS, description="show")
        names = tuple(self._machines)
        self.machines = w.SelectMultiple(options=names, value=names, rows=2, description="machines")
        controls = (self.model, self.precision, self.column, self.machines)
        super().__init__(*controls, text="A panel: choose recordings.")

    def choose(
        self,
        model: str = "expand-reshape",
        precision: str = "fp32",
        column: str = "median_ms",
        machines: tuple[str, ...] = (),
    ) -> pd.DataFrame:
        """What is drawn, by size: a column for each machine and path."""
        return self._move(model=model, precision=precision, column=column, machines=machines or tuple(self._machines))

    def _update(self) -> pd.DataFrame:
        series, warnings = {}, 0
        for machine in self.machines.value:
            for path in (EAGER, "jit", "input", "export"):
                found = rows(self._machines[machine], self.model.value, self.precision.value, path)
                series[machine, path] = found[self.column.value].astype(float)
                warnings += int(found["warning"].notna().sum())
        table = pd.DataFrame(series)
        labels = "; ".join(self._machines[machine].label for machine in self.machines.value)
        count = (
            f" {warnings} of {table.size} numbers have a warning: compare those only side by side." if warnings else ""
        )
        self.told.value = says(f"{labels}.{count}" if labels else "Choose a machine.")
        if labels:
            figure = self._draw(table)
            self._show(figure, f"{figure.get_suptitle()}. {labels}")
        return table

    def _draw(self, table: pd.DataFrame) -> Figure:
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        for machine, line in zip(self.machines.value, LINES, strict=False):
            for path, style in plots.STYLES.items():
                shown = {**style, "linestyle": line, "markersize": 4}
                axes.plot(table.index, table[machine, path], label=f"{machine}, {path}", **shown)
        axes.set_xscale("log", base=2)
        if self.column.value != "speedup":
            axes.set_yscale("log")
        axes.set_xticks(list(table.index), [str(size) for size in table.index])
        axes.minorticks_off()
        axes.set(xlabel="samples", ylabel=self.column.label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, ncols=2)
        figure.suptitle(f"{self.model.value}, {self.precision.value}, inductor, recorded", fontsize=10)
        return figure
