"""Figures from a sweep's results. No pyplot: each function returns a ``Figure`` that belongs to nobody else.

Margins are set in inches, not by matplotlib's constrained layout, which draws a figure several times:
an interactive redraw is then over before it is noticed.
"""

import io
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from textwrap import fill, shorten
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from tutorial_lib.checks.agreement import TOLERATED
from tutorial_lib.measure.sweep import EAGER, Sweep

STYLES: dict[str, dict[str, Any]] = {
    EAGER: {"color": "#444444", "marker": "x", "linestyle": "--"},
    "jit": {"color": "#0072B2", "marker": "o"},
    "input": {"color": "#D55E00", "marker": "s"},
    "export": {"color": "#009E73", "marker": "^"},
}
"""Colours that are told apart by colour-blind readers (Okabe and Ito), and a marker for each path."""
OTHER: dict[str, Any] = {"color": "#CC79A7", "marker": "D"}
OPT = "#B87400"
FAINT: dict[str, Any] = {"alpha": 0.45, "linewidth": 1, "markersize": 3, "zorder": 1.5}
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1, 2)))
"""Earlier runs, told apart by their lines, in the order in which they are given."""
SIZE = (7.5, 4.2)
"""Inches; legible at the width of a notebook."""
WIDE = (12.5, 4.2)
GREY = "#444444"
LEGEND: dict[str, Any] = dict(fontsize=9, frameon=False, borderpad=0, borderaxespad=0, labelspacing=0.35)
LATER = "measured after the last build"
LEFT, RIGHT, APART = 0.85, 0.15, 0.95
"""Inches left and right of the axes and between two of them, with room for the labels of the vertical axis."""
AXIS, ROW, CHARACTER, DIGIT = 0.52, 0.22, 0.07, 0.09
"""Inches for the labels of the horizontal axis, a row of the legend, a character there, a digit at a tick."""
LABELLED = ((0.5, range(1, 10)), (1.2, (1, 2, 3, 5, 7)), (3, (1, 2, 5)), (math.inf, (1,)))
"""First digits that are labelled on a logarithmic axis of fewer than so many decades."""

Behind = Sequence[tuple[str, Sweep]]
"""Earlier runs with their labels, drawn behind the present one."""
Draw = Callable[[Axes, Sweep, Behind], None]

_SVG: dict[Any, Any] = {"svg.fonttype": "path", "svg.hashsalt": "tutorial_lib"}
_rendering = threading.Lock()  # matplotlib shares fonts and settings between threads


def latency(sweep: Sweep, behind: Behind = ()) -> Figure:
    """Median latency over the batch, with a ribbon from the 10th to the 90th percentile."""
    return _figure(sweep, behind, "Latency", draw_latency)


def speedup(sweep: Sweep, behind: Behind = ()) -> Figure:
    """How many times faster than eager each path is, over the batch."""
    return _figure(sweep, behind, "Speedup over eager", draw_speedup)


def throughput(sweep: Sweep, behind: Behind = ()) -> Figure:
    """Samples per second over the batch."""
    return _figure(sweep, behind, "Throughput", draw_throughput)


def agreement(sweep: Sweep, behind: Behind = ()) -> Figure:
    """Error against float64 over the batch, with the tolerance and eager's own error."""
    return _figure(sweep, behind, "Agreement with float64", draw_agreement)


def build_time(sweep: Sweep, behind: Behind = ()) -> Figure:
    """Seconds that each path took to build, and what it built."""
    return _figure(sweep, behind, "Build time", draw_build_time, size=(SIZE[0], 2.8))


def overview(sweep: Sweep) -> Figure:
    """All four figures on one page."""
    draws: dict[str, Draw] = {"Latency": draw_latency, "Speedup over eager": draw_speedup}
    draws |= {"Agreement with float64": draw_agreement, "Build time": draw_build_time}
    return _page(sweep, (), draws, size=(WIDE[0], 8.2), rows=2)


def panel(sweep: Sweep, behind: Behind = ()) -> Figure:
    """Latency and agreement side by side: is it faster, and is it right?"""
    return _page(sweep, behind, {"Latency": draw_latency, "Agreement with float64": draw_agreement})


def panel_more(sweep: Sweep, behind: Behind = ()) -> Figure:
    """Speedup (throughput, where nothing is compiled) and build time side by side: what is it worth?"""
    compiled = set(sweep.table["path"]) != {EAGER}
    draws: dict[str, Draw] = {"Speedup over eager": draw_speedup} if compiled else {"Throughput": draw_throughput}
    return _page(sweep, behind, draws | {"Build time": draw_build_time})


def subtitle(sweep: Sweep) -> str:
    """What ran, with what, on what: stands under the title of every figure."""
    about = sweep.provenance
    ranges = ", ".join(f"{d['name']} {d['min']}/{d['opt']}/{d['max']}" for d in about["dims"])
    precision = about.get("precision", "fp32")
    cast = "" if precision in ("fp32", "float32") else f", {precision}"
    ranges = ", ".join([f"{ranges} (min/opt/max)", *(f"{name} {size}" for name, size in sweep.held.items())])
    return f"{about['case']}, {ranges} · backend {about['backend']}{cast} · {about.get('recorded', about['device'])}"


def _figure(sweep: Sweep, behind: Behind, title: str, draw: Draw, size: tuple[float, float] = SIZE) -> Figure:
    figure, (axes,) = _grid(size, 1, 1)
    behind = _on_the_same_axis(sweep, behind)
    draw(axes, sweep, behind)
    about = fill(subtitle(sweep), 108)
    _finish(figure, behind, top=0.6 + 0.14 * about.count("\n"))
    figure.suptitle(
        title, x=0.01, y=1 - 0.08 / figure.get_figheight(), ha="left", va="top", fontsize=12, fontweight="bold"
    )
    axes.set_title(about, loc="left", y=1, fontsize=8, color=GREY, parse_math=False)
    return figure


def _page(
    sweep: Sweep, behind: Behind, draws: dict[str, Draw], size: tuple[float, float] = WIDE, rows: int = 1
) -> Figure:
    figure, grid = _grid(size, rows, 2)
    behind = _on_the_same_axis(sweep, behind)
    for axes, (title, draw) in zip(grid, draws.items(), strict=True):
        draw(axes, sweep, behind)
        axes.set_title(title, loc="left", y=1, fontsize=11, fontweight="bold")  # y: else it takes a drawing to find
    about = fill(subtitle(sweep), 170)
    _finish(figure, behind, top=0.65 + 0.17 * about.count("\n"))
    figure.suptitle(about, y=1 - 0.1 / figure.get_figheight(), va="top", fontsize=10, color=GREY, parse_math=False)
    return figure


def _on_the_same_axis(sweep: Sweep, behind: Behind) -> Behind:
    """Without the runs whose sizes are of another dimension: they have no place on the axis."""
    name = sweep.provenance["dims"][0]["name"]
    return [(label, run) for label, run in behind if run.provenance["dims"][0]["name"] == name]


def draw_latency(axes: Axes, sweep: Sweep, behind: Behind = ()) -> None:
    """Draw the latency curves on `axes`."""
    _draw_behind(axes, behind, "median_ms")
    for name, rows in _curves(sweep):
        style = STYLES.get(name, OTHER)
        axes.fill_between(rows["size"], rows["p10_ms"], rows["p90_ms"], color=style["color"], alpha=0.15, linewidth=0)
        axes.plot(rows["size"], rows["median_ms"], label=name, markersize=5, **style)
    _log_axis(axes)
    axes.set_ylabel("median latency of one call (ms)\nribbon: 10th to 90th percentile")
    _batch_axis(axes, sweep, behind)


def draw_throughput(axes: Axes, sweep: Sweep, behind: Behind = ()) -> None:
    """Draw samples per second on `axes`."""
    _draw_behind(axes, behind, "samples_per_second")
    for name, rows in _curves(sweep):
        axes.plot(rows["size"], rows["samples_per_second"], label=name, markersize=5, **STYLES.get(name, OTHER))
    _log_axis(axes)
    axes.set_ylabel("throughput (samples/s)")
    _batch_axis(axes, sweep, behind)


def draw_speedup(axes: Axes, sweep: Sweep, behind: Behind = ()) -> None:
    """Draw the speedup curves on `axes`."""
    _draw_behind(axes, behind, "speedup", without=EAGER)
    axes.axhline(1, color=STYLES[EAGER]["color"], linestyle="--", linewidth=1, label=EAGER)
    for name, rows in _curves(sweep):
        if name != EAGER:
            axes.plot(rows["size"], rows["speedup"], label=name, markersize=5, **STYLES.get(name, OTHER))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 1.2))
    axes.set_ylabel("times as fast as eager\n(median over rounds)")
    _batch_axis(axes, sweep, behind)


def draw_agreement(axes: Axes, sweep: Sweep, behind: Behind = ()) -> None:
    """Draw the error curves, the tolerance line and eager's own error on `axes`, once they are known."""
    _draw_behind(axes, behind, "rms", without=EAGER)
    for number, (_, run) in enumerate(behind):
        sizes, _, tolerance = _floor(run)
        axes.plot(sizes, tolerance, color="#000000", **_faint(number))
    for name, rows in _curves(sweep):
        if name != EAGER and rows["rms"].notna().any():
            axes.plot(rows["size"], rows["rms"], label=name, markersize=5, **STYLES.get(name, OTHER))
    sizes, floor, tolerance = _floor(sweep)
    if floor.notna().any():
        axes.plot(sizes, floor, label="eager's own error", **STYLES[EAGER])
        axes.plot(sizes, tolerance, color="#000000", linewidth=1.2, label=f"tolerance: {TOLERATED:g} x")
    else:
        _say(axes, LATER)
    _decades_axis(axes)
    axes.set_ylabel("rms error against float64")
    _batch_axis(axes, sweep, behind)


def draw_build_time(axes: Axes, sweep: Sweep, behind: Behind = ()) -> None:
    """Draw one bar for each build on `axes`, with the number and size of its engines."""
    builds = sweep.builds[::-1]
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("build time (s)")
    if not builds:
        _say(axes, "nothing is built")
        axes.set(xticks=[], yticks=[])
        return
    longest = max(build["seconds"] for build in builds)
    for place, build in enumerate(builds):
        color = STYLES.get(build["path"], OTHER)["color"]
        axes.barh(place, build["seconds"], color=color, height=0.5)
        axes.text(build["seconds"], place, _built(build), va="center", fontsize=9)
        for number, (_, run) in enumerate(behind):
            before = [earlier["seconds"] for earlier in run.builds if earlier["path"] == build["path"]]
            if before:
                height = place - 0.31 - 0.1 * number
                axes.plot([0, before[0]], [height, height], color=color, **{**_faint(number), "marker": "|"})
                longest = max(longest, before[0])
    axes.set_yticks(range(len(builds)), [build["path"] for build in builds])
    axes.set_ylim(-0.45 - 0.1 * len(behind), len(builds) - 0.5)
    axes.set_xlim(0, longest * 1.5 + 1e-9)


def _built(build: dict[str, Any]) -> str:
    engines = len(build["engines"])
    text = f" {build['seconds']:.1f} s · {engines} engine{'s' if engines != 1 else ''}"
    if build.get("artefact_bytes"):
        text += f" · {build['artefact_bytes'] / 1e6:.1f} MB"
    return text + (" · reused" if build.get("reused") else "")


def _curves(sweep: Sweep) -> Iterator[tuple[str, pd.DataFrame]]:
    dims = [dim["name"] for dim in sweep.provenance["dims"]]
    if free := [name for name in dims[1:] if name not in sweep.held]:
        raise ValueError(f"{', '.join(free)} vary too; plot sweep.at({'=..., '.join(free)}=...), or a heatmap.")
    table = sweep.table.rename(columns={dims[0]: "size"})
    yield from table.sort_values("size", kind="stable").groupby("path", sort=False)


def _floor(sweep: Sweep) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Sizes, with eager's own error and the tolerance at each: NaN where they are not known yet."""
    rows = dict(_curves(sweep))[EAGER].astype({"floor_rms": float, "tolerated": float})
    return rows["size"], rows["floor_rms"], rows["floor_rms"] * rows["tolerated"]


def _draw_behind(axes: Axes, behind: Behind, column: str, without: str | None = None) -> None:
    for number, (_, run) in enumerate(behind):
        for name, rows in _curves(run):
            if name != without:
                style = {**STYLES.get(name, OTHER), **_faint(number)}
                axes.plot(rows["size"], rows[column], **style)


def _faint(number: int) -> dict[str, Any]:
    return {**FAINT, "linestyle": DASHES[number % len(DASHES)]}


def _say(axes: Axes, text: str) -> None:
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none"}
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=10, color=GREY, bbox=box)


def _batch_axis(axes: Axes, sweep: Sweep, behind: Behind) -> None:
    """The horizontal axis: real sizes as ticks, the built range shaded, opt marked."""
    dim: dict[str, Any] = sweep.provenance["dims"][0]
    sizes = sorted({size for run in (sweep, *(run for _, run in behind)) for size in run.table[dim["name"]]})
    low, high = min(sizes[0], dim["min"]) / 1.15, max(sizes[-1], dim["max"]) * 1.15
    axes.set_xscale("log", base=2)
    axes.set_xlim(low, high)
    inches = axes.get_position().width * axes.get_figure(root=True).get_figwidth()  # type: ignore[union-attr]
    first = (sizes[0], sizes[-1], dim["min"], dim["max"], dim["opt"])
    shown = _legible(sizes, first, inches / math.log2(high / low))
    axes.set_xticks(shown, [str(size) for size in shown])
    axes.xaxis.set_minor_locator(FixedLocator([size for size in sizes if size not in shown]))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvspan(dim["min"], dim["max"], color="#56B4E9", alpha=0.10, linewidth=0, zorder=0)
    axes.axvline(dim["opt"], color=OPT, linewidth=1.5, linestyle=":", zorder=1, label=f"opt = {dim['opt']}")
    for number, (_, run) in enumerate(behind):
        axes.axvline(run.provenance["dims"][0]["opt"], ymax=0.06, color=OPT, **{**_faint(number), "linewidth": 2})
    axes.set_xlabel(f"{dim['name']} (shaded: built for {dim['min']} to {dim['max']})")
    axes.grid(True, which="major", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _legible(sizes: Sequence[int], first: Iterable[int], inches_per_octave: float) -> list[int]:
    """The sizes that have room for a label: `first`, then powers of two, then the others."""
    shown: list[int] = []
    for size in (*(size for size in first if size in sizes), *(s for s in sizes if s & (s - 1) == 0), *sizes):
        room = (abs(math.log2(size / other)) * inches_per_octave for other in shown)
        needed = (DIGIT * (len(str(size)) + len(str(other))) / 2 + 0.05 for other in shown)
        if all(has >= needs for has, needs in zip(room, needed, strict=True)):
            shown.append(size)
    return sorted(shown)


def _log_axis(axes: Axes) -> None:
    """A logarithmic axis with labels that are read as numbers, on less than a decade as on several."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 3 * low:
        middle = math.sqrt(low * high)
        low, high = axes.set_ylim(middle / math.sqrt(3), middle * math.sqrt(3))
    decades = math.log10(high / low)
    digits = next(digits for most, digits in LABELLED if decades < most)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    ticks = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
    axes.set_yticks(ticks, [_plain(tick) for tick in ticks], fontsize=9)
    axes.yaxis.set_minor_locator(NullLocator())


def _plain(value: float) -> str:
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= 10 * unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _decades_axis(axes: Axes) -> None:
    """A logarithmic axis of whole decades. Labels are plain text, which is drawn much faster than mathtext."""
    axes.set_yscale("log")
    powers = range(0)
    if math.isfinite(axes.dataLim.minposy):  # something is drawn
        low, high = (math.log10(end) for end in axes.get_ylim())
        powers = range(math.floor(low), math.ceil(high) + 1)
        axes.set_ylim(10.0 ** powers[0], 10.0 ** powers[-1])
        powers = powers[:: 1 + len(powers) // 12]
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    axes.set_yticks([10.0**power for power in powers], ["10" + str(power).translate(raised) for power in powers])
    axes.yaxis.set_minor_locator(NullLocator())


def _grid(size: tuple[float, float], rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size)
    each = (size[0] - LEFT - RIGHT - APART * (columns - 1)) / columns
    figure.subplots_adjust(left=LEFT / size[0], right=1 - RIGHT / size[0], wspace=APART / each, hspace=0.3)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _finish(figure: Figure, behind: Behind, top: float) -> None:
    """Under the axes, a legend of all that is drawn and one of the earlier runs; the figure grows by the latter."""
    drawn: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        drawn |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in drawn}
    runs = [Line2D([], [], color=GREY, **_faint(number)) for number in range(len(behind))]
    earlier = [shorten(label, int(figure.get_figwidth() / CHARACTER) - 10, placeholder=" …") for label, _ in behind]
    rows = _rows(earlier, figure.get_figwidth()), _rows(list(drawn), figure.get_figwidth())
    height = figure.get_figheight() + ROW * rows[0]
    figure.set_figheight(height)
    figure.subplots_adjust(bottom=(ROW * sum(rows) + AXIS) / height, top=1 - top / height)
    _legend(figure, earlier, runs, rows[0], above=0.04)
    _legend(figure, list(drawn), list(drawn.values()), rows[1], above=0.04 + ROW * rows[0])


def _rows(labels: Sequence[str], inches: float) -> int:
    """Into how many rows a legend has to be broken."""
    widths = [CHARACTER * len(label) + 0.6 for label in labels]
    for rows in range(1, len(labels)):
        if sum(max(widths[start : start + rows]) for start in range(0, len(labels), rows)) < inches:
            return rows
    return len(labels)


def _legend(figure: Figure, labels: Sequence[str], handles: Sequence[Any], rows: int, above: float) -> None:
    if labels:
        place = (0.5, above / figure.get_figheight())
        columns = math.ceil(len(labels) / rows)
        legend = figure.legend(handles, labels, loc="lower center", bbox_to_anchor=place, ncols=columns, **LEGEND)
        for text in legend.get_texts():
            text.set_parse_math(False)


def png(figure: Figure, dpi: int = 120) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    with _rendering:
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """A figure as SVG, the same every time and everywhere: letters are shapes, identifiers follow from the content."""
    buffer, settings = io.StringIO(), matplotlib.rcParams
    with _rendering:
        before: dict[Any, Any] = {name: settings[name] for name in _SVG}  # rc_context would undo all that others set
        settings.update(_SVG)
        try:
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        finally:
            settings.update(before)
    return buffer.getvalue()


def show(figure: Figure) -> Any:
    """A figure as an ``IPython.display.Image``, with its title as alternative text."""
    from IPython.display import Image  # in notebooks only

    return Image(
        png(figure), format="png", embed=True, alt=figure.get_suptitle(), width=int(figure.get_figwidth() * 100)
    )
