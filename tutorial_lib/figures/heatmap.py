"""Heat maps of a sweep over two dimensions, numbers in the cells: what each size costs, and what padding would.

As in :mod:`tutorial_lib.figures.plots`, each function returns a ``Figure`` of its own; ``plots.show``, ``plots.png``
and ``plots.svg`` render it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tutorial_lib.figures.plots import GREY, OPT, subtitle
from tutorial_lib.measure.sweep import Sweep

COST, RATIO = "cividis", "PuOr"
"""Colours that colour-blind readers tell apart: from little to much, and both ways from 1."""
MISSING = "#EEEEEE"
CELL, LEAST = (0.78, 0.42), (3.3, 0.84)
"""Inches of a cell, and of a map at least: width and height."""
LEFT, RIGHT, APART, TOP, BOTTOM = 0.85, 0.2, 0.95, 0.55, 0.85
LINE, LETTER, LARGER = 0.14, 0.062, 0.08
"""Inches of a line of small text, of one letter in it, and of one in the title of a map."""


@dataclass(frozen=True)
class Map:
    """One heat map: a value for each row and column of `cells`, NaN where nothing was measured."""

    title: str
    cells: pd.DataFrame
    unit: str = ""
    diverging: bool = False


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


def speedup(sweep: Sweep, path: str) -> Figure:
    """How many times as fast as eager a path is, over two dimensions.

    Raises
    ------
    ValueError
        As :func:`latency`.
    """
    cells = _cells(sweep, _rows(sweep, path), "speedup")
    maps = [Map("times as fast as eager (median over rounds)", cells, "x", diverging=True)]
    return _figure(sweep, f"Speedup of {path} over eager", "Purple: faster than eager, orange: slower", maps)


def padding(sweep: Sweep, path: str, dims: Sequence[str] | None = None) -> Figure:
    """How many times as long a call takes if its inputs are padded to the largest size, over two dimensions.

    Both calls are of the same program, and both were measured. One that was built for the largest size alone
    may be somewhat faster there.

    Parameters
    ----------
    sweep : Sweep
        Of a grid. The largest size that was measured of a dimension is what is padded to.
    path : str
        Name of a path.
    dims : sequence of str, optional
        The dimensions that are padded; without it, both.

    Raises
    ------
    ValueError
        As :func:`latency`, and if `dims` names another dimension.
    """
    cells = padded(sweep, path, dims)
    sizes = {axis.name: axis.max() for axis in (cells.index, cells.columns)}
    to = ", ".join(f"{name} {sizes[name]}" for name in dims or sizes)
    maps = [Map(f"times as long, padded to {to}", cells, "x")]
    return _figure(sweep, f"What padding costs on {path}", "Dark: little, light: much", maps)


def padded(sweep: Sweep, path: str, dims: Sequence[str] | None = None) -> pd.DataFrame:
    """The numbers of :func:`padding`: the first dimension down, the second across."""
    cells = _cells(sweep, _rows(sweep, path), "median_ms")
    down, across = cells.index.name, cells.columns.name
    for name in dims or ():
        if name not in (down, across):
            raise ValueError(f"{name!r} is not one of the two dimensions here; pad {down} or {across}.")
    rows = [cells.index[-1]] * len(cells.index) if down in (dims or [down]) else cells.index
    columns = [cells.columns[-1]] * len(cells.columns) if across in (dims or [across]) else cells.columns
    return cells.loc[rows, columns].set_axis(cells.index).set_axis(cells.columns, axis=1) / cells


def _rows(sweep: Sweep, path: str) -> pd.DataFrame:
    known = list(dict.fromkeys(sweep.table["path"]))
    if path not in known:
        raise ValueError(f"{path!r} was not measured; use {', '.join(map(repr, known))}.")
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
        one = ", ".join(f"{name}=..." for name in names[2:])
        raise ValueError(f"{', '.join(names)} vary, and a map has two dimensions; draw sweep.at({one}).")
    down, across = varying if len(varying) == 2 else dims[:2]
    return down, across


def _cells(sweep: Sweep, rows: pd.DataFrame, column: str) -> pd.DataFrame:
    down, across = _axes(sweep)
    return rows.pivot(index=down["name"], columns=across["name"], values=column)


def _figure(sweep: Sweep, title: str, colours: str, maps: Sequence[Map]) -> Figure:
    rows, columns = maps[0].cells.shape
    each, tall = max(CELL[0] * columns, LEAST[0]), max(CELL[1] * rows, LEAST[1])
    width = LEFT + each * len(maps) + APART * (len(maps) - 1) + RIGHT
    letters = int((width - RIGHT) / LETTER)
    above = wrap(subtitle(sweep), letters)
    below = wrap(f"{colours} (logarithmic). {_marks(sweep)}", letters)
    titles = [wrap(one.title, int(each / LARGER)) for one in maps]
    top = TOP + LINE * (len(above) + 1.2 * max(map(len, titles)))
    height = top + tall + BOTTOM + LINE * len(below)
    figure = Figure(figsize=(width, height))
    bottom = BOTTOM - 0.2 + LINE * len(below)
    for place, one in enumerate(maps):
        left = LEFT + place * (each + APART)
        axes = figure.add_axes((left / width, bottom / height, each / width, tall / height))
        axes.set_title("\n".join(titles[place]), loc="left", fontsize=10, y=1)
        _draw(axes, one, sweep)
    edge = 0.1 / width
    place_of_title: dict[str, Any] = {"x": edge, "y": 1 - 0.08 / height, "ha": "left", "va": "top"}
    figure.suptitle(title, **place_of_title, fontsize=12, fontweight="bold", parse_math=False)
    small: dict[str, Any] = {"fontsize": 8, "color": GREY, "parse_math": False}
    figure.text(edge, 1 - 0.36 / height, "\n".join(above), va="top", **small)
    figure.text(edge, 0.1 / height, "\n".join(below), **small)
    return figure


def _draw(axes: Axes, one: Map, sweep: Sweep) -> None:
    """One map: a coloured cell with its number for each value, the built range outlined, opt framed."""
    colours, norm = matplotlib.colormaps[RATIO if one.diverging else COST], _norm(one)
    for row, values in enumerate(one.cells.to_numpy()):
        for column, value in enumerate(values):
            known = math.isfinite(value)
            colour = to_rgb(colours(norm(value))) if known else MISSING
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="white"))
            text = f"{_number(value)}{one.unit}" if known else "–"
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=readable(to_rgb(colour)))
    down, across = _axes(sweep)
    sizes = {down["name"]: list(one.cells.index), across["name"]: list(one.cells.columns)}
    axes.set_xlabel(across["name"])
    axes.set_ylabel(down["name"])
    axes.set_xticks(range(len(one.cells.columns)), map(str, one.cells.columns), fontsize=9)
    axes.set_yticks(range(len(one.cells.index)), map(str, one.cells.index), fontsize=9)
    axes.set(xlim=(-0.55, len(one.cells.columns) - 0.45), ylim=(len(one.cells.index) - 0.45, -0.55))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    inside = [[at for at, size in enumerate(sizes[d["name"]]) if d["min"] <= size <= d["max"]] for d in (across, down)]
    opt = [[at for at, size in enumerate(sizes[d["name"]]) if size == d["opt"]] for d in (across, down)]
    _frame(axes, *inside, color="black", linewidth=1.2)
    _frame(axes, *opt, color="white", linewidth=5)  # without it, opt is lost in cells of its own colour
    _frame(axes, *opt, color=OPT, linewidth=2.6)


def _frame(axes: Axes, columns: Sequence[int], rows: Sequence[int], **style: Any) -> None:
    if columns and rows:
        corner = columns[0] - 0.5, rows[0] - 0.5
        size = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
        axes.add_patch(Rectangle(corner, *size, fill=False, clip_on=False, **style))


def _marks(sweep: Sweep) -> str:
    dims = _axes(sweep)
    built = ", ".join(f"{dim['name']} {dim['min']} to {dim['max']}" for dim in dims)
    opt = ", ".join(f"{dim['name']} {dim['opt']}" for dim in dims)
    measured = all((sweep.table[dim["name"]] == dim["opt"]).any() for dim in dims)
    return f"Outlined: built for {built}. " + (
        f"Framed: opt ({opt})." if measured else f"Opt ({opt}) was not measured."
    )


def _norm(one: Map) -> LogNorm:
    values = [value for value in one.cells.to_numpy().ravel() if math.isfinite(value)]
    low, high = min(values), max(values)
    if one.diverging:
        high = max(high, 1 / low, 2.0)  # differences of a few per cent stay pale
        return LogNorm(1 / high, high)
    return LogNorm(low / 1.02, high * 1.02)


def _number(value: float) -> str:
    """Three digits: 0.0123, 1.23, 12.3, 123, 1230."""
    digits = 2 - math.floor(math.log10(value))
    return f"{value:.{max(digits, 0)}f}"


def readable(colour: tuple[float, float, float]) -> str:
    """Black or white, whichever has more contrast with `colour` (https://www.w3.org/TR/WCAG21, "contrast ratio")."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"
