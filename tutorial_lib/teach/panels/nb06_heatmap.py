"""Notebook 6: a heat map to point at: what a size costs, and what padding it would."""

import ipywidgets as w
import matplotlib
from matplotlib.colors import LogNorm, to_hex

from tutorial_lib.measure.sweep import Sweep
from tutorial_lib.teach.shown import Shown, says


class HeatMap(Shown):
    """A button for each size of a sweep over two dimensions, for one path; :meth:`point` does what a click does."""

    def __init__(self, sweep: Sweep, path: str) -> None:
        table = sweep.table[sweep.table["path"] == path]
        self.names = [dim["name"] for dim in sweep.provenance["dims"]]
        self._ms = table.set_index(self.names)["median_ms"]
        rows, columns = (sorted(set(table[name])) for name in self.names)
        norm, colours = LogNorm(self._ms.min(), self._ms.max()), matplotlib.colormaps["viridis"]
        self.buttons: dict[tuple[int, int], w.Button] = {}
        cells: list[w.Widget] = [w.Label(f"{self.names[0]} ↓  {self.names[1]} →")]
        cells += [w.Label(str(column)) for column in columns]
        for row in rows:
            cells.append(w.Label(str(row)))
            for column in columns:
                shade = float(norm(self._ms[row, column]))
                button = w.Button(description=f"{self._ms[row, column]:.3g}", layout={"width": "auto"})
                button.style = {
                    "button_color": to_hex(colours(shade)),
                    "text_color": "white" if shade < 0.6 else "black",
                }
                button.tooltip = f"{self.names[0]} {row}, {self.names[1]} {column}"
                button.on_click(lambda _, row=row, column=column: self.point(row, column))
                self.buttons[row, column] = button
                cells.append(button)
        template = f"150px repeat({len(columns)}, minmax(60px, 100px))"
        grid = w.GridBox(cells, layout={"grid_template_columns": template, "grid_gap": "3px"})
        self.told = w.HTML(says(f"Median milliseconds of {path}. Point at a size."))
        super().__init__(grid, self.told, text="A heat map to point at.")

    def point(self, first: int, second: int) -> str:
        """What is said of one size: its latency, that of a sample, and how it compares with the largest size."""
        if (first, second) not in self.buttons:
            return f"{first} x {second} was not measured; point at one of the map."
        ms, largest = float(self._ms[first, second]), max(self._ms.index)
        size = f"{self.names[0]} {first}, {self.names[1]} {second}"
        sentence = f"{size}: {ms:.3g} ms a call, {ms / first:.3g} ms a sample. "
        if (first, second) == largest:
            sentence += "Everything that is padded to the largest size costs this."
        else:
            times = float(self._ms[largest]) / ms
            sentence += f"Padded to {largest[0]} x {largest[1]} it would take {times:.1f} times as long."
        self.told.value = says(sentence)
        return sentence
