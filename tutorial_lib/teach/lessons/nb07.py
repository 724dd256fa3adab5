"""Notebook 7: engines with other opts, the races that chose their kernels, and times with intervals.

Times are compared side by side and shown with intervals. Where they spread too much for a lesson, the recorded ones are
shown instead, and say so.
"""

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from tutorial_lib import paths
from tutorial_lib.core.models import Case
from tutorial_lib.measure import intervals, latency
from tutorial_lib.teach.stories import BUSY

SIZES = (2, 3, 4, 8, 16, 32, 64, 256, 1024)
FILE = "07_measured.json"
LIBRARY, GENERATED = "library", "generated"
LINES = {"opt 2": ("o", "-"), "opt 32": ("s", "--"), "opt 1024": ("^", ":")}

Call = Callable[[], Any]


@dataclass(frozen=True)
class Tuned:
    """A program, the races that chose its kernels (milliseconds by kind, one for each product), and its code."""

    program: Any
    races: tuple[dict[str, float], ...]
    code: str

    @property
    def winners(self) -> list[str]:
        """``library`` or ``generated`` for each product; empty where no race is told of."""
        return [min(race, key=lambda kind: race[kind]) for race in self.races]

    @property
    def library_calls(self) -> list[str]:
        """The functions of PyTorch and its libraries that the generated code calls."""
        _, _, call = self.code.partition("def call(")
        return sorted(set(re.findall(r"\b(?:torch\.ops|extern_kernels)\.[\w.]+(?=\()", call)))

    @property
    def buffers(self) -> list[str]:
        """Shapes of the buffers that the generated code allocates in a call, such as ``s0, 1024``."""
        return re.findall(r"= empty_strided_\w+\(\(([^)]*)\)", self.code)


def tuned(base: Case, tokens: tuple[int, int, int], backend: str) -> Tuned:
    """Build a `jit` program for a range of tokens; with Inductor, race kernels at opt and note how the race went."""
    from torch._inductor import codecache, select_algorithm

    races: list[dict[str, float]] = []

    def note(times: dict[Any, float], *rest: Any) -> None:
        race: dict[str, list[float]] = {LIBRARY: [], GENERATED: []}
        for choice, ms in times.items():
            race[LIBRARY if isinstance(choice, select_algorithm.ExternKernelCaller) else GENERATED].append(ms)
        races.append({kind: min(found) for kind, found in race.items() if found})

    options = {"max_autotune": True, "freezing": base.device.type == "cpu"} if backend == "inductor" else {}
    select_algorithm.add_feedback_saver(note)
    try:
        program = paths.jit(base.with_ranges(tokens=tokens), backend, options=options)
    finally:
        select_algorithm.clear_feedback_savers()
    sources = [Path(str(module.__file__)).read_text() for module in codecache.PyCodeCache.modules]
    code = next((source for source in reversed(sources) if "def call(" in source), "")
    return Tuned(program, tuple(races), code)


def races(engines: Mapping[str, Tuned]) -> pd.DataFrame:
    """Microseconds of the fastest kernel of each kind, and which kind won, by engine and product."""
    rows = [
        {"engine": name, "product": product, **{kind: 1000 * ms for kind, ms in race.items()}, "winner": winner}
        for name, engine in engines.items()
        for product, (race, winner) in enumerate(zip(engine.races, engine.winners, strict=True), 1)
    ]
    return pd.DataFrame(rows, columns=["engine", "product", LIBRARY, GENERATED, "winner"]).round(0)


def timed(calls: Mapping[tuple[str, int], Call], than: str, device: torch.device, **least: Any) -> pd.DataFrame:
    """Time `calls`, by (name, tokens), side by side; each is compared with the call named `than` at its size.

    Returns
    -------
    DataFrame
        ``name``, ``tokens``, ``ms`` (median) and ``ratio``: how many times as fast as `than`, from ``low`` to ``high``.
    """
    times = latency.measure(calls, device, **{"min_samples": 15, "min_seconds": 0.02, **least})
    rows = []
    for (name, tokens), found in times.items():
        baseline = times[than, tokens]
        low, high = latency.speedup_interval(baseline, found)
        ratio = latency.speedup(baseline, found)
        rows.append({"name": name, "tokens": tokens, "ms": found.median_ms, "ratio": ratio, "low": low, "high": high})
    return pd.DataFrame(rows)


def calls(engines: Mapping[str, Tuned], base: Case, sizes: Sequence[int] = SIZES) -> dict[tuple[str, int], Call]:
    """A call of every engine and of eager PyTorch at every size."""
    callables = {name: engine.program for name, engine in engines.items()} | {"eager": base.eager}
    return {(name, n): partial(call, *base.example(n)) for name, call in callables.items() for n in sizes}


@dataclass(frozen=True)
class Times:
    """A table of :func:`timed`, measured here or recorded; its representation says which."""

    table: pd.DataFrame
    label: str

    def __repr__(self) -> str:
        return self.label

    def wide(self) -> pd.DataFrame:
        """Milliseconds by tokens, a column for each name."""
        return self.table.pivot(index="tokens", columns="name", values="ms")


def is_busy(table: pd.DataFrame) -> bool:
    """Whether the typical interval is too wide for a lesson."""
    widths = (table["high"] / table["low"]).replace(math.inf, math.nan)[table["low"] != table["high"]].dropna()
    return len(widths) > 0 and float(widths.median()) > BUSY


def here_or_recorded(name: str, table: pd.DataFrame, where: str, file: str | Path = FILE) -> Times:
    """`table`, or what was recorded under `name` if this machine was too busy for a lesson.

    With the environment variable ``TUTORIAL_LIB_RECORD``, a run that is not too busy replaces the recorded one.
    """
    runs = json.loads(Path(file).read_text()) if Path(file).is_file() else {}
    if not is_busy(table):
        if os.environ.get("TUTORIAL_LIB_RECORD"):
            runs[name] = {"where": where, "rows": table.to_dict("records")}
            Path(file).write_text(json.dumps(runs, indent=1) + "\n")
        return Times(table, f"Measured here, now, on {where}.")
    if name not in runs:
        return Times(table, "This machine was too busy for exact numbers, and no others are recorded: read with care.")
    label = f"This machine was too busy for exact numbers: these were recorded on {runs[name]['where']}."
    return Times(pd.DataFrame(runs[name]["rows"]), label)


def crossing(times: Times) -> str:
    """Where the engine with opt 2 is faster than that with opt 1024, where it is slower, and what follows for opt."""
    one, other = "opt 2", "opt 1024"
    faster, slower = [], []
    for tokens, rows in times.table.groupby("tokens"):
        at = rows.set_index("name")
        first, second = at.loc[one], at.loc[other]
        if first["low"] > second["high"] * intervals.EQUAL:
            faster.append(tokens)
        elif second["low"] > first["high"] * intervals.EQUAL:
            slower.append(tokens)
    if faster and slower:
        words = (
            f"The lines cross: the engine with {one} is faster than the one with {other} at {_list(faster)} tokens, "
            f"slower at {_list(slower)}."
        )
        return f"{words} Which opt is better depends on which side of that border your traffic is."
    if faster or slower:
        word, sizes = ("faster", faster) if faster else ("slower", slower)
        return (
            f"The lines do not cross here: {one} is {word} than {other} at {_list(sizes)} tokens, nowhere the reverse."
        )
    return f"Nothing here tells {one} and {other} apart: on this machine, opt changes too little to see."


def speedups(times: Times) -> Figure:
    """How many times as fast as eager each engine is, over tokens, with intervals."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, (marker, line) in LINES.items():
        rows = times.table[times.table["name"] == name].sort_values("tokens")
        axes.plot(rows["tokens"], rows["ratio"], marker=marker, linestyle=line, color="#0072B2", label=name)
        axes.fill_between(rows["tokens"], rows["low"], rows["high"], color="#0072B2", alpha=0.12, linewidth=0)
    axes.axhline(1, color="#444444", linestyle="--", linewidth=1, label="eager PyTorch")
    axes.set_xscale("log", base=2)
    axes.set(xticks=SIZES, xticklabels=[str(size) for size in SIZES])
    axes.set(xlabel="tokens", ylabel="times as fast as eager")
    axes.set_ylim(bottom=0)
    axes.set_title(times.label, fontsize=9)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    figure.suptitle("One range of tokens, three opts, path jit", fontsize=11)
    return figure


def padded(program: Callable[[Tensor], Tensor], size: int, x: Tensor, fill: float = 0.0) -> Tensor:
    """The answer to `x`, [tokens, width], of a program for exactly `size` tokens; added rows hold `fill`."""
    rows = len(x)
    return program(torch.nn.functional.pad(x, (0, 0, 0, size - rows), value=fill))[:rows]


def padding(times: Times) -> str:
    """Where padding to 32 is surely cheaper than the faster of the dynamic engines, and where it is dearer."""
    cheaper, dearer = [], []
    for tokens, rows in times.table.groupby("tokens"):
        at = rows.set_index("name")
        best = at.drop("padded")["ratio"].idxmax()
        if at.loc["padded", "low"] > at.loc[best, "high"]:
            cheaper.append(tokens)
        elif at.loc["padded", "high"] < at.loc[best, "low"]:
            dearer.append(tokens)
    words = f"Padding to 32 is cheaper than either dynamic engine at {_list(cheaper)} tokens" if cheaper else ""
    if dearer:
        words = f"{words}, and dearer" if words else "Padding to 32 is dearer"
        words += f" at {_list(dearer)}" + (" tokens" if not cheaper else "")
    return f"{words}." if words else "These numbers do not tell padding and the dynamic engines apart."


def total(engine_of: Callable[[int], str], mix: Mapping[int, int], curves: Mapping[str, Mapping[int, float]]) -> float:
    """Milliseconds for a whole mix of requests, if one of n tokens goes to the engine `engine_of(n)`."""
    return sum(count * curves[engine_of(n)][n] for n, count in mix.items())


def made_up() -> dict[str, dict[int, float]]:
    """Milliseconds of two engines that cross between 16 and 32 tokens: made up, so that all have the same numbers."""
    return {
        "opt 2": {n: 0.08 + 0.016 * n for n in SIZES},
        "opt 1024": {n: 0.21 + 0.007 * n for n in SIZES},
    }


def _list(sizes: Sequence[Any]) -> str:
    return ", ".join(map(str, sizes))
