"""Notebook 11: figures and tables of recordings."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from tutorial_lib.experiments.recordings import Recorded
from tutorial_lib.measure.sweep import EAGER
from tutorial_lib.teach.lessons.nb05 import COLOURS

MODELS = ("expand-reshape", "vit", "vit-any-size", "text-encoder", "perceptron")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
MARKERS = dict(zip(MODELS, "os^Dv", strict=True))
LARGEST = 256
SAME = ["model", "backend", "precision", "path", "batch", "tokens"]


def rows(recorded: Recorded, model: str, precision: str, path: str = "export") -> pd.DataFrame:
    """What was recorded of a path with `inductor`, by the size of the first dimension."""
    table = recorded.sweep(model=model, backend="inductor", precision=precision).table
    return table[table["path"] == path].set_index("tokens" if model == "perceptron" else "batch")


def over_the_batch(recorded: Recorded, model: str) -> pd.DataFrame:
    """Milliseconds, times batch 1, and samples per second, by batch, for `export` in fp32."""
    ms = rows(recorded, model, "fp32")["median_ms"]
    return pd.DataFrame({"ms": ms, "x batch 1": ms / ms[1], "samples/s": 1000 * ms.index / ms}).round(3)


def host_time(recorded: Recorded) -> pd.DataFrame:
    """What the host needs for a call at batch 1 in bf16, and the whole call, by model and path."""
    table = {
        (model, path): rows(recorded, model, "bf16", path).loc[1, ["enqueue_ms", "median_ms", "warning"]]
        for model in ("expand-reshape", "text-encoder")
        for path in (EAGER, "jit", "input", "export")
    }
    return pd.DataFrame(table).T.rename_axis(["model", "path"]).fillna("")


def gains(recorded: Recorded) -> pd.DataFrame:
    """How many times as fast as fp32 each precision is at 256 samples, by model."""
    table = {}
    for model in MODELS:
        ms = {name: rows(recorded, model, name)["median_ms"][LARGEST] for name in PRECISIONS}
        table[model] = {name: ms["fp32"] / ms[name] for name in PRECISIONS}
    return pd.DataFrame(table).T


def precision_gains(recorded: Recorded) -> Figure:
    """Bars of :func:`gains`."""
    table = gains(recorded)
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(PRECISIONS):
        positions = [x + 0.2 * place for x in range(len(MODELS))]
        bars = axes.bar(positions, table[name], 0.18, color=COLOURS[name], label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.set_xticks([x + 0.3 for x in range(len(MODELS))], list(MODELS))
    axes.set_ylabel("times as fast as fp32")
    axes.set_title(recorded.label, fontsize=9)
    axes.legend(ncols=4, frameon=False)
    figure.suptitle("256 samples, export with inductor", fontsize=11)
    return figure


def errors(recorded: Recorded) -> pd.DataFrame:
    """Rms error against float64 at 256 samples and as a multiple of eager's own, by model and precision."""
    table = {}
    for model in ("expand-reshape", "vit"):
        for name in PRECISIONS:
            compiled, eager = (rows(recorded, model, name, path)["rms"][LARGEST] for path in ("export", EAGER))
            table[model, name] = {"rms error": f"{compiled:.1e}", "x eager": round(compiled / eager, 2)}
    return pd.DataFrame(table).T.rename_axis(["model", "precision"])


def speedups(recorded: Recorded) -> pd.DataFrame:
    """How many times as fast as eager `jit` and `export` are at 1 and 256 samples, and which rows have a warning."""
    table: dict[tuple[str, str, int], dict[str, str]] = {}
    for model in MODELS:
        for name in ("fp32", "bf16"):
            for size in (1, LARGEST):
                for path in ("jit", "export"):
                    row = rows(recorded, model, name, path).loc[size]
                    note = " (warning)" if pd.notna(row["warning"]) else ""
                    table.setdefault((model, name, size), {})[path] = f"{row['speedup']:.2f}{note}"
    return pd.DataFrame(table).T.rename_axis(["model", "precision", "samples"])


def peaks(recorded: Recorded) -> pd.DataFrame:
    """MB that a call takes at 256 samples in fp32, by model and path."""
    paths = (EAGER, "jit", "export")
    table = {
        model: {path: rows(recorded, model, "fp32", path)["peak_mb"][LARGEST] for path in paths} for model in MODELS
    }
    return pd.DataFrame(table).T.round(1)


def pairs(one: Recorded, other: Recorded) -> pd.DataFrame:
    """All settings with `inductor` that both have: ``factor``, one's time over the other's, and ``trusted``.

    A row is trusted if neither recording has a warning in it.
    """
    both = one.table.merge(other.table, on=SAME, suffixes=("_one", "_other"), validate="one_to_one")
    both = both[both["backend"] == "inductor"]
    factor = both["median_ms_one"] / both["median_ms_other"]
    trusted = both["warning_one"].isna() & both["warning_other"].isna()
    return both[SAME].assign(factor=factor, trusted=trusted)


def two_machines(table: pd.DataFrame, labels: tuple[str, str]) -> Figure:
    """Every pair of :func:`pairs` over the samples; hollow where one of the two has a warning."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(1, color="#999999", linewidth=0.8)
    for place, model in enumerate(MODELS):
        some = table[table["model"] == model]
        size = some["tokens" if model == "perceptron" else "batch"] * 1.09 ** (place - 2)  # beside each other
        for trusted, face in ((False, "none"), (True, "black")):
            chosen = some["trusted"] == trusted
            style: dict[str, Any] = {"facecolors": face, "edgecolors": "black", "linewidths": 0.7}
            style |= {"marker": MARKERS[model], "alpha": 1 if trusted else 0.35}
            axes.scatter(size[chosen], some["factor"][chosen], 18, **style)
        axes.scatter([], [], 24, marker=MARKERS[model], color="black", label=model)
    axes.scatter([], [], 24, facecolors="none", edgecolors="black", label="hollow: with a warning")
    sizes = [2**power for power in range(9)]
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set(xlabel="samples", ylabel="first machine's time / second's")
    axes.set_title("\n".join(labels), fontsize=8)
    figure.legend(ncols=6, frameon=False, loc="outside lower center", fontsize=8)
    figure.suptitle("The same settings on two machines, all precisions and paths", fontsize=11)
    return figure


def record_the_smallest(folder: str | Path) -> Path:
    """Make the smallest recording there is, on the CPU, with the command that makes a whole one; takes seconds."""
    file = Path(folder, "mine.json")
    only = ["--quick", "--models", "perceptron", "--backends", "eager", "--paths", "export", "--device", "cpu"]
    command = [sys.executable, "-m", "tutorial_lib", "record", *only, "--out", str(file)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    return file
