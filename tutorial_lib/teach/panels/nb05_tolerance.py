"""What a fixed tolerance says of a correct program and of a wrong one, and what the rule says."""

from typing import Any

import ipywidgets as w
import torch
from matplotlib.figure import Figure
from torch import Tensor

from tutorial_lib.checks.agreement import compare
from tutorial_lib.core.models import expand_reshape
from tutorial_lib.figures import plots
from tutorial_lib.teach.lessons.nb05 import layer, planted
from tutorial_lib.teach.panels.panel import Panel
from tutorial_lib.teach.shown import says


class TolerancePanel(Panel):
    """An output, the unit of the inputs and a tolerance; :meth:`set` does what the controls do."""

    def __init__(self) -> None:
        self._layer = layer(expand_reshape(batch=(1, 4, 32), embed_dim=192).in_precision("fp32"))
        cast = self._layer.case.in_precision("fp16")
        self._outputs = planted(self._layer) | {"computed in fp16": cast.eager(self._layer.x.half()).float()}
        self.output = w.Dropdown(options=list(self._outputs), description="output", layout={"width": "360px"})
        self.scale = w.SelectionSlider(
            options=[0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0], value=1.0, description="unit"
        )
        self.atol = w.FloatLogSlider(1e-5, base=10, min=-9, max=1, step=0.25, description="atol", readout_format=".1e")
        self.atol.continuous_update = False
        controls = (self.output, self.scale, self.atol)
        super().__init__(*controls, text="A panel: move a tolerance, and see what it lets through.")

    def set(self, output: str | None = None, scale: float | None = None, atol: float | None = None) -> dict[str, Any]:
        """Move the controls that are given, and return ``passes`` (allclose), ``agrees`` (the rule) and ``ratio``."""
        given = {"output": output, "scale": scale, "atol": atol}
        return self._move(**{name: value for name, value in given.items() if value is not None})

    def _update(self) -> dict[str, Any]:
        scale, atol = self.scale.value, self.atol.value
        output = scale * self._outputs[self.output.value]
        plain, exact = scale * self._layer.plain, scale * self._layer.exact
        result = compare(output, plain, exact)
        passes = torch.allclose(output, plain, rtol=0, atol=atol)
        rule = f"{'agrees' if result.agrees else 'DIFFERS'}: {result.ratio:,.2f} times eager's error"
        sentence = f"allclose(atol={atol:.1e}) says {'equal' if passes else 'not equal'}. The rule: {rule}."
        self.told.value = says(sentence, passes == result.agrees)
        figure = self._draw(output, plain, exact, atol)
        self._show(figure, figure.get_suptitle())
        return {"passes": passes, "agrees": result.agrees, "ratio": result.ratio}

    def _draw(self, output: Tensor, plain: Tensor, exact: Tensor, atol: float) -> Figure:
        """How often each size of error occurs, of eager and of the output, with the tolerance as a line."""
        figure = Figure(figsize=(7.6, 3.2), layout="constrained")
        axes = figure.subplots()
        edges = torch.logspace(-13, 4, 120).tolist()
        for label, tensor, color in (("eager", plain, plots.GREY), ("this output", output, plots.OTHER["color"])):
            errors = (tensor.double() - exact).abs().flatten().clamp(min=1e-13).numpy()
            axes.hist(errors, edges, histtype="step", color=color, label=label, linewidth=1.5)
        axes.axvline(atol, color="black", linestyle="--", label="atol")
        axes.set(xscale="log", xlim=(1e-13, 1e4), xlabel="error against float64", ylabel="results")
        axes.legend(fontsize=9, loc="upper right")
        axes.grid(alpha=0.3)
        figure.suptitle(f"Errors of eager and of '{self.output.value}' at unit {self.scale.value:g}", fontsize=10)
        return figure
