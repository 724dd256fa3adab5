"""Heat maps of a sweep over two dimensions, numbers in the cells: what each size costs, and what padding would.

As in :mod:`tutorial_lib.figures.plots`, each function returns a ``Figure`` of its own; ``plots.show``, ``plots.png``
and ``plots.svg`` render it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tutorial_lib.figures.plots import GREY, OPT, subtitle
from tutorial_lib.measure.sweep import Sweep

COST = "cividis"
"""Colours that colour-blind readers can tell apart, from little to much."""
MISSING = "#EEEEEE"
CELL = (0.78, 0.42)
"""Inches of a cell: width and height."""
LABELS = (1.3, 1.9)
"""Inches beside and above the cells of a map, for what is written there."""
LEAST_WIDTH = 3.3
"""Inches of the cells of a map together at least, so that its title has room."""
CHARACTERS = 15
"""Characters of the caption on an inch."""


@dataclass(frozen=True)
class Map:
    """One heat map: a value for each row and column of `cells`, NaN where nothing was measured."""

    title: str
    cells: pd.DataFrame
    unit: str = ""


def latency(sweep: Sweep, path: str) -> Figure:
    """Median latency of one call, and of one sample, over two dimensions.

    Samples are counted along the first dynamic dimension of the case.

    Raises
    ------
    ValueError
        If the sweep has no such path, or not two dimensions to draw.
    """
    rows = _rows(sweep, path)
    rows = rows.assign(sample_ms=1000 / rows["samples_per_second"])
    maps = [
        Map("one call (ms)", _cells(sweep, rows, "median_ms")),
        Map("one sample (ms)", _cells(sweep, rows, "sample_ms")),
    ]
    return _figure(sweep, f"Median latency of {path}", "Dark: fast, light: slow", maps)


def padding(sweep: Sweep, path: str) -> Figure:
    """How many times as long a call takes if its inputs are padded to the largest measured size, over two dimensions.

    Both calls are of the same program, and both were measured. A program built for the largest size alone may be
    somewhat faster there.

    Raises
    ------
    ValueError
        As :func:`latency`.
    """
    cells = padded(sweep, path)
    to = ", ".join(f"{axis.name} {axis.max()}" for axis in (cells.index, cells.columns))
    maps = [Map(f"times as long, padded to {to}", cells, "x")]
    return _figure(sweep, f"What padding costs on {path}", "Dark: little, light: much", maps)


def padded(sweep: Sweep, path: str) -> pd.DataFrame:
    """The numbers of :func:`padding`: the first dimension down, the second across."""
    cells = _cells(sweep, _rows(sweep, path), "median_ms")
    return cells.iloc[-1, -1] / cells


def _rows(sweep: Sweep, path: str) -> pd.DataFrame:
    paths = list(dict.fromkeys(sweep.table["path"]))
    if path not in paths:
        raise ValueError(f"{path!r} was not measured; use {', '.join(map(repr, paths))}.")
    return sweep.table[sweep.table["path"] == path]


def _axes(sweep: Sweep) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two dimensions that are drawn, down and across: those that vary, if two do, else the first ones."""
    dims = sweep.provenance["dims"]
    if len(dims) < 2:
        raise ValueError(
            f"{dims[0]['name']} is the only dynamic dimension here; draw the curves of tutorial_lib.figures.plots."
        )
    varying = [dim for dim in dims if sweep.table[dim["name"]].nunique() > 1]
    if len(varying) > 2:
        names = [dim["name"] for dim in varying]
        fixed = ", ".join(f"{name}=..." for name in names[2:])
        raise ValueError(f"{', '.join(names)} vary, and a map has two dimensions; draw sweep.at({fixed}).")
    down, across = varying if len(varying) == 2 else dims[:2]
    return down, across


def _cells(sweep: Sweep, rows: pd.DataFrame, column: str) -> pd.DataFrame:
    down, across = _axes(sweep)
    return rows.pivot(index=down["name"], columns=across["name"], values=column)


def _figure(sweep: Sweep, title: str, colours: str, maps: Sequence[Map]) -> Figure:
    rows, columns = maps[0].cells.shape
    width = len(maps) * (LABELS[0] + max(CELL[0] * columns, LEAST_WIDTH))
    figure = Figure(figsize=(width, LABELS[1] + CELL[1] * rows), layout="constrained")
    for axes, each in zip(figure.subplots(1, len(maps), squeeze=False).flat, maps, strict=True):
        axes.set_title(fill(each.title, 36), loc="left", fontsize=10)
        _draw(axes, each, sweep)
    caption = (subtitle(sweep), f"{colours} (logarithmic). {_marks(sweep)}")
    lines = "\n".join(fill(text, int(width * CHARACTERS)) for text in caption)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", parse_math=False)
    figure.supxlabel(lines, x=0.01, ha="left", fontsize=8, color=GREY, parse_math=False)
    return figure


def _draw(axes: Axes, shown: Map, sweep: Sweep) -> None:
    """One map: a coloured cell with its number for each value, the built range outlined, opt framed."""
    colours = matplotlib.colormaps[COST].with_extremes(bad=MISSING)
    cells = shown.cells.to_numpy(dtype=float)  # [sizes down, sizes across]
    norm = LogNorm(np.nanmin(cells) / 1.02, np.nanmax(cells) * 1.02)
    edges = [[index - 0.5 for index in range(length + 1)] for length in cells.shape]
    axes.pcolormesh(edges[1], edges[0], cells, cmap=colours, norm=norm, edgecolor="white", linewidth=1, clip_on=False)
    for (row, column), value in np.ndenumerate(cells):
        measured = math.isfinite(value)
        text = f"{_number(value)}{shown.unit}" if measured else "–"
        background = to_rgb(colours(norm(value)) if measured else MISSING)
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=readable(background))
    down, across = _axes(sweep)
    axes.set_xlabel(across["name"])
    axes.set_ylabel(down["name"])
    axes.set_xticks(range(len(shown.cells.columns)), map(str, shown.cells.columns), fontsize=9)
    axes.set_yticks(range(len(shown.cells.index)), map(str, shown.cells.index), fontsize=9)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    in_range = [_indices(shown.cells, dim, dim["min"], dim["max"]) for dim in (down, across)]
    at_opt = [_indices(shown.cells, dim, dim["opt"], dim["opt"]) for dim in (down, across)]
    _frame(axes, *in_range, color="black", linewidth=1.2)
    _frame(axes, *at_opt, color="white", linewidth=5)  # without it, opt is lost in cells of its own colour
    _frame(axes, *at_opt, color=OPT, linewidth=2.6)


def _indices(cells: pd.DataFrame, dim: Mapping[str, Any], low: int, high: int) -> list[int]:
    """Rows or columns of the sizes of `dim` from `low` to `high`."""
    sizes = cells.index if cells.index.name == dim["name"] else cells.columns
    return [index for index, size in enumerate(sizes) if low <= size <= high]


def _frame(axes: Axes, rows: Sequence[int], columns: Sequence[int], **style: Any) -> None:
    if rows and columns:
        corner = columns[0] - 0.5, rows[0] - 0.5
        width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
        axes.add_patch(Rectangle(corner, width, height, fill=False, clip_on=False, **style))


def _marks(sweep: Sweep) -> str:
    dims = _axes(sweep)
    built = ", ".join(f"{dim['name']} {dim['min']} to {dim['max']}" for dim in dims)
    opt = ", ".join(f"{dim['name']} {dim['opt']}" for dim in dims)
    measured = all((sweep.table[dim["name"]] == dim["opt"]).any() for dim in dims)
    return f"Outlined: built for {built}. " + (
        f"Framed: opt ({opt})." if measured else f"Opt ({opt}) was not measured."
    )


def _number(value: float) -> str:
    """Three digits: 0.0123, 1.23, 12.3, 123, 1230."""
    digits = 2 - math.floor(math.log10(value))
    return f"{value:.{max(digits, 0)}f}"


def readable(colour: tuple[float, float, float]) -> str:
    """Black or white, whichever has more contrast with `colour` (https://www.w3.org/TR/WCAG21, "contrast ratio")."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"
