"""Figures from a sweep's results. No pyplot: each function returns a ``Figure`` that belongs to nobody else."""

import io
import math
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from tutorial_lib.agreement import TOLERATED
from tutorial_lib.sweep import EAGER, Sweep

STYLES: dict[str, dict[str, Any]] = {
    EAGER: {"color": "#444444", "marker": "x", "linestyle": "--"},
    "jit": {"color": "#0072B2", "marker": "o"},
    "input": {"color": "#D55E00", "marker": "s"},
    "export": {"color": "#009E73", "marker": "^"},
}
"""Colours that are told apart by colour-blind readers (Okabe and Ito), and a marker for each path."""
OTHER: dict[str, Any] = {"color": "#CC79A7", "marker": "D"}
SIZE = (7.5, 4.2)
"""Inches; legible at the width of a notebook."""


def latency(sweep: Sweep) -> Figure:
    """Median latency over the batch, with a ribbon from the 10th to the 90th percentile."""
    return _figure(sweep, "Latency", draw_latency)


def speedup(sweep: Sweep) -> Figure:
    """How many times faster than eager each path is, over the batch."""
    return _figure(sweep, "Speedup over eager", draw_speedup)


def agreement(sweep: Sweep) -> Figure:
    """Error against float64 over the batch, with the tolerance and eager's own error."""
    return _figure(sweep, "Agreement with float64", draw_agreement)


def build_time(sweep: Sweep) -> Figure:
    """Seconds that each path took to build, and what it built."""
    return _figure(sweep, "Build time", draw_build_time, size=(SIZE[0], 2.8))


def overview(sweep: Sweep) -> Figure:
    """All four figures on one page."""
    figure = Figure(figsize=(12.5, 8.2), layout="constrained")
    draws = (draw_latency, draw_speedup, draw_agreement, draw_build_time)
    titles = ("Latency", "Speedup over eager", "Agreement with float64", "Build time")
    for axes, draw, title in zip(figure.subplots(2, 2).flat, draws, titles, strict=True):
        draw(axes, sweep)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    figure.suptitle(subtitle(sweep), fontsize=10, color="#444444")
    return figure


def subtitle(sweep: Sweep) -> str:
    """What ran, with what, on what: stands under the title of every figure."""
    about = sweep.provenance
    ranges = ", ".join(f"{d['name']} {d['min']}/{d['opt']}/{d['max']}" for d in about["dims"])
    return f"{about['case']}, {ranges} (min/opt/max) · backend {about['backend']} · {about['device']}"


def _figure(sweep: Sweep, title: str, draw: Callable[[Axes, Sweep], None], size: tuple[float, float] = SIZE) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    draw(axes, sweep)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    axes.set_title(subtitle(sweep), loc="left", fontsize=8, color="#444444")
    return figure


def draw_latency(axes: Axes, sweep: Sweep) -> None:
    """Draw the latency curves on `axes`."""
    for name, rows in _curves(sweep):
        style = STYLES.get(name, OTHER)
        axes.fill_between(rows["size"], rows["p10_ms"], rows["p90_ms"], color=style["color"], alpha=0.15, linewidth=0)
        axes.plot(rows["size"], rows["median_ms"], label=name, markersize=5, **style)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(_minor_label))
    axes.tick_params(axis="y", which="both", labelsize=9)
    axes.set_ylabel("median latency of one call (ms)\nribbon: 10th to 90th percentile")
    _batch_axis(axes, sweep)
    _legend(axes)


def draw_speedup(axes: Axes, sweep: Sweep) -> None:
    """Draw the speedup curves on `axes`."""
    axes.axhline(1, color=STYLES[EAGER]["color"], linestyle="--", linewidth=1, label=EAGER)
    for name, rows in _curves(sweep):
        if name != EAGER:
            axes.plot(rows["size"], rows["speedup"], label=name, markersize=5, **STYLES.get(name, OTHER))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 1.2))
    axes.set_ylabel("times as fast as eager\n(median over rounds)")
    _batch_axis(axes, sweep)
    _legend(axes)


def draw_agreement(axes: Axes, sweep: Sweep) -> None:
    """Draw the error curves, the tolerance line and eager's own error on `axes`."""
    curves = dict(_curves(sweep))
    floor = curves[EAGER]
    for name, rows in curves.items():
        if name != EAGER:
            axes.plot(rows["size"], rows["rms"], label=name, markersize=5, **STYLES.get(name, OTHER))
    axes.plot(floor["size"], floor["floor_rms"], label="eager's own error", **STYLES[EAGER])
    axes.plot(
        floor["size"],
        TOLERATED * floor["floor_rms"],
        color="#000000",
        linewidth=1.2,
        label=f"tolerance: {TOLERATED:g} x",
    )
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    axes.set_ylim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)))  # whole decades
    axes.set_ylabel("rms error against float64")
    _batch_axis(axes, sweep)
    _legend(axes)


def draw_build_time(axes: Axes, sweep: Sweep) -> None:
    """Draw one bar for each build on `axes`, with the number and size of its engines."""
    builds = sweep.builds[::-1]
    for place, build in enumerate(builds):
        engines = len(build["engines"])
        text = f" {build['seconds']:.1f} s · {engines} engine{'s' if engines != 1 else ''}"
        if build["artefact_bytes"]:
            text += f" · {build['artefact_bytes'] / 1e6:.1f} MB"
        axes.barh(place, build["seconds"], color=STYLES.get(build["path"], OTHER)["color"], height=0.6)
        axes.text(build["seconds"], place, text, va="center", fontsize=9)
    axes.set_yticks(range(len(builds)), [build["path"] for build in builds])
    axes.set_xlim(0, max(build["seconds"] for build in builds) * 1.45 + 1e-9)
    axes.set_xlabel("build time (s)")
    axes.spines[["top", "right"]].set_visible(False)


def _curves(sweep: Sweep) -> Iterable[tuple[str, pd.DataFrame]]:
    dims = [dim["name"] for dim in sweep.provenance["dims"]]
    if len(dims) > 1 and sweep.table[dims[1:]].nunique().max() > 1:
        raise ValueError(f"{', '.join(dims[1:])} vary as well as {dims[0]}; plot one size of each at a time.")
    table = sweep.table.rename(columns={dims[0]: "size"})
    for name in dict.fromkeys(table["path"]):
        yield name, table[table["path"] == name].sort_values("size")


def _batch_axis(axes: Axes, sweep: Sweep) -> None:
    """The horizontal axis: real sizes as ticks, the built range shaded, opt marked."""
    dim: dict[str, Any] = sweep.provenance["dims"][0]
    sizes = sorted(set(sweep.table[dim["name"]]))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axvspan(dim["min"], dim["max"], color="#56B4E9", alpha=0.10, linewidth=0, zorder=0)
    axes.axvline(dim["opt"], color="#E69F00", linewidth=1.5, linestyle=":", zorder=1, label=f"opt = {dim['opt']}")
    axes.set_xlim(min(sizes[0], dim["min"]) / 1.15, max(sizes[-1], dim["max"]) * 1.15)
    axes.set_xlabel(f"{dim['name']} (shaded: built for {dim['min']} to {dim['max']})")
    axes.grid(True, which="major", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _minor_label(value: float, _: int) -> str:
    """Label 2 and 5 of each decade, so that a log axis over less than a decade still has numbers."""
    first = f"{value:.0e}"[0]
    return f"{value:g}" if first in "25" else ""


def _legend(axes: Axes) -> None:
    axes.legend(fontsize=8, frameon=True, framealpha=0.85, edgecolor="none")


def png(figure: Figure, dpi: int = 120) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def show(figure: Figure) -> Any:
    """A figure as an ``IPython.display.Image``, with its title as alternative text."""
    from IPython.display import Image  # in notebooks only

    return Image(
        png(figure), format="png", embed=True, alt=figure.get_suptitle(), width=int(figure.get_figwidth() * 100)
    )
