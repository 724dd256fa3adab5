"""Notebook 10: two made-up engines that cross, for exercises and a panel in which everybody sees the same numbers."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tutorial_lib.advisor import router
from tutorial_lib.advisor.latency_model import Measurement
from tutorial_lib.advisor.measuring import MeasuredCase
from tutorial_lib.advisor.traffic import Array
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import DynamicDim, TensorSpec

MAX = 4096
SIZES = (1, 4, 16, 64, 256, 1024, MAX)
FORMULAS: dict[tuple[int, ...] | None, Callable[[int], float]] = {
    (1,): lambda rows: 0.02 + 0.004 * rows,
    (MAX,): lambda rows: 0.10 + 0.002 * rows,
    None: lambda rows: 0.2 + 0.006 * rows,
}
"""Milliseconds for so many rows: of an engine tuned for 1, of one tuned for `MAX`, and of eager PyTorch. Made up."""


class RowByRow(nn.Module):
    """Features [rows, 64] -> the same shape; no row looks at another, so padding is allowed."""

    def forward(self, x: Tensor) -> Tensor:
        """Bend every number."""
        return torch.tanh(x)


def row_case() -> Case:
    """A small model for 1 to `MAX` rows."""
    return Case("made-up curves", RowByRow(), (TensorSpec("x", (DynamicDim("rows", 1, 64, MAX), 64)),))


def invented(case: Case | None = None) -> MeasuredCase:
    """Samples of `FORMULAS` with 5 % of noise, as if an engine for each had been measured on `case`."""
    noise = np.random.default_rng(0).lognormal(0, 0.05, (30, 3))
    samples: dict[tuple[int, ...] | None, list[Array]] = {
        engine: [formula(size) * noise for size in SIZES] for engine, formula in FORMULAS.items()
    }
    about = {"case": "made-up curves", "path": "no path", "backend": "no backend", "device": "no device"}
    builds: dict[tuple[int, ...] | None, float] = {(1,): 1.0, (MAX,): 1.0}
    measurement = Measurement(("rows",), (SIZES,), samples, builds, 1_000_000, about)
    return MeasuredCase(case or row_case(), router.builder("jit", "eager", None), measurement, "jit", "eager", {})


def medians(measurement: Measurement) -> pd.DataFrame:
    """Milliseconds by rows, a column for each engine, of the rounds that nothing disturbed."""
    columns = {
        "eager" if engine is None else f"opt {engine[0]}": [
            np.median(cell[measurement.quiet]) for cell in measurement.samples[engine]
        ]
        for engine in (*measurement.opts, None)
    }
    return pd.DataFrame(columns, index=pd.Index(measurement.axes[0], name="rows")).round(4)
