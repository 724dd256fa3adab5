"""Throw a request at each path, and see what comes back."""

from typing import Any

import ipywidgets as w
import pandas as pd
import torch
from torch import Tensor

from tutorial_lib import paths
from tutorial_lib.core import shapes
from tutorial_lib.teach.lessons.nb04 import send, small_case, watch
from tutorial_lib.teach.panels.panel import Panel

DTYPES = ("float32", "float64", "float16")


class RequestPanel(Panel):
    """The request is made with the controls; :meth:`send` is what a change of one does."""

    def __init__(self) -> None:
        self._case = small_case()
        with torch.no_grad():
            dims = shapes.export_dims(self._case.inputs)
            exported = torch.export.export(self._case.model, self._case.example(8), dynamic_shapes=dims)
        self._exported = exported.module()
        self._programs = {path: build(self._case, "eager") for path, build in paths.PATHS.items()}
        self.batch = w.IntSlider(8, 1, 40, description="batch", continuous_update=False)
        self.tokens = w.IntSlider(16, 8, 20, description="tokens", continuous_update=False)
        self.dtype = w.Dropdown(options=DTYPES, description="dtype")
        self.transposed = w.Checkbox(False, description="a transposed view", indent=False)
        controls = (self.batch, self.tokens, self.dtype, self.transposed)
        super().__init__(*controls, text="A panel: make a request, and see what each path answers.")

    def send(self, batch: int = 8, tokens: int = 16, dtype: str = "float32", transposed: bool = False) -> pd.DataFrame:
        """What the model, bare `torch.compile`, bare `torch.export` and the paths answer to such a request.

        Returns
        -------
        DataFrame
            By callable: ``outcome`` and ``it says``.
        """
        return self._move(batch=batch, tokens=tokens, dtype=dtype, transposed=transposed)

    def _update(self) -> pd.DataFrame:
        x = self._request()
        rows: dict[str, dict[str, Any]] = {}
        with torch.no_grad():
            watched = watch(self._case.model, *self._case.example(8), min=4, max=32)  # forgets what `jit` compiled
            self._programs["jit"] = paths.jit(self._case, "eager")
            calls: dict[str, Any] = {"the model, uncompiled": self._case.model, "bare torch.compile": watched}
            calls |= {"bare torch.export": self._exported}
            calls |= {f"path {path}, range check first": program for path, program in self._programs.items()}
            for name, call in calls.items():
                reply = send(call, self._case, x)
                rows[name] = {"outcome": reply.outcome, "it says": reply.says}
        if len(watched.graphs) > 1:
            rows["bare torch.compile"]["outcome"] += ", after compiling another graph"
        table = pd.DataFrame(rows).T
        request = f"<p>x: {list(x.shape)} {self.dtype.value}, strides {list(x.stride())}</p>"
        self.told.value = request + table.to_html(border=0)
        return table

    def _request(self) -> Tensor:
        x = torch.randn(self.batch.value, self.tokens.value, 48, generator=torch.Generator().manual_seed(0))
        x = x.to(getattr(torch, self.dtype.value))
        return x.mT.contiguous().mT if self.transposed.value else x
