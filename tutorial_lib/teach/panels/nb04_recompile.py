"""Call a compiled model, change one thing, and read why it compiles again."""

from contextlib import nullcontext
from typing import Any

import ipywidgets as w
import torch
from torch import nn

from tutorial_lib.core.markup import with_code
from tutorial_lib.explain import recompiles
from tutorial_lib.explain.recompiles import Compile, forget
from tutorial_lib.teach.shown import Shown, says

DTYPES = ("float32", "bfloat16")


class Scaled(nn.Module):
    """A model with one of everything that a guard may be on: a tensor, a number, a mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(8, 8), nn.Dropout()

    def forward(self, x: torch.Tensor, times: int = 1) -> torch.Tensor:
        """X [batch, 8] -> [batch, 8]."""
        return self.dropout(self.linear(x.float())) * times


class RecompilePanel(Shown):
    """Bare ``torch.compile`` behind controls; :meth:`call` is what *Call it* does."""

    def __init__(self) -> None:
        self.batch = w.IntSlider(4, 1, 16, description="batch")
        self.times = w.IntSlider(1, 1, 4, description="times")
        self.dtype = w.ToggleButtons(options=DTYPES, description="dtype", style={"button_width": "auto"})
        self.transposed = w.Checkbox(False, description="a transposed view", indent=False)
        self.gradients = w.Checkbox(False, description="with gradients", indent=False)
        self.training = w.Checkbox(False, description="in training mode", indent=False)
        self.call_button = w.Button(description="Call it", button_style="primary")
        self.forget_button = w.Button(description="Forget all graphs")
        self.told, self.history = w.HTML(), w.HTML()
        self.call_button.on_click(lambda _: self._called())
        self.forget_button.on_click(lambda _: self.forget())
        switches = w.HBox([self.transposed, self.gradients, self.training])
        buttons = w.HBox([self.call_button, self.forget_button])
        controls = [self.batch, self.times, self.dtype, switches, buttons]
        super().__init__(*controls, self.told, self.history, text="A panel: call it, and read why it compiles again.")
        self.forget()

    def forget(self) -> None:
        """Begin again, without a graph."""
        self._model = Scaled()
        self._program = torch.compile(self._model, backend="eager")
        self._lines: list[str] = []
        self._over_the_limit = False
        forget(self._model)
        self.told.value = says("Nothing is compiled yet.")
        self.history.value = ""

    def call(self, **controls: Any) -> str:
        """Make a call: any of ``batch``, ``times``, ``dtype``, ``transposed``, ``gradients``, ``training``.

        Returns
        -------
        str
            Whether it compiled, and why.
        """
        for name, value in controls.items():
            getattr(self, name).value = value
        return self._called()

    def _called(self) -> str:
        batch, dtype = self.batch.value, getattr(torch, self.dtype.value)
        x = torch.ones(8, batch, dtype=dtype).T if self.transposed.value else torch.ones(batch, 8, dtype=dtype)
        self._model.train(self.training.value)
        with recompiles() as seen, nullcontext() if self.gradients.value else torch.no_grad():
            self._program(x, self.times.value)
        self._over_the_limit |= any(each.failure for each in seen.compiles)
        sentence = _sentence(seen.compiles, self._over_the_limit)
        self.told.value = says(sentence)
        switched_on = [box.description for box in (self.transposed, self.gradients, self.training) if box.value]
        what = ", ".join([f"batch {batch}, times {self.times.value}, {self.dtype.value}", *switched_on])
        self._lines.append(f"<li>{what}: {with_code(seen.compiles[-1].why if seen.compiles else 'no compile')}</li>")
        self.history.value = f"<ol>{''.join(self._lines)}</ol>"
        return sentence


def _sentence(compiles: list[Compile], over_the_limit: bool) -> str:
    if not compiles and over_the_limit:
        return "Nothing was compiled: a graph that fits serves this call, and without one it ran uncompiled."
    if not compiles:
        return "A graph that is there served this call: nothing was compiled."
    last = compiles[-1]
    if last.failure:
        return f"{last.failure}. Press 'Forget all graphs'."
    if not last.refusals:
        return f"Compiled graph {last.number}, the first one."
    nearest = last.refusals[0]
    return f"Compiled graph {last.number}, as {nearest.graph} did not fit. {nearest.reason.cause} {nearest.reason.fix}"
