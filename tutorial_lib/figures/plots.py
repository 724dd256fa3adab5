"""Figures from a sweep's results. No pyplot: each function returns a ``Figure`` that belongs to nobody else."""

import io
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from textwrap import fill, wrap
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from tutorial_lib.checks.agreement import TOLERATED
from tutorial_lib.measure.sweep import EAGER, Sweep

STYLES: dict[str, dict[str, Any]] = {
    EAGER: {"color": "#444444", "marker": "x", "linestyle": "--"},
    "jit": {"color": "#0072B2", "marker": "o"},
    "input": {"color": "#D55E00", "marker": "s"},
    "export": {"color": "#009E73", "marker": "^"},
}
"""Colours that colour-blind readers can tell apart (Okabe and Ito), and a marker for each path."""
OTHER: dict[str, Any] = {"color": "#CC79A7", "marker": "D"}
OPT = "#B87400"
GREY = "#444444"
FAINT: dict[str, Any] = {"alpha": 0.45, "linewidth": 1, "markersize": 3, "zorder": 1.5}
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1, 2)))
"""Line styles of earlier runs, in the order in which these are given."""
SIZE, WIDE = (7.5, 4.2), (12.5, 4.2)
"""Inches: of a single figure, and of two side by side; legible at the width of a notebook."""
ROW, CHARACTER = 0.22, 0.07
"""Inches: height of a row of a legend, and width of a character in it."""
LEGEND: dict[str, Any] = dict(fontsize=9, frameon=False, borderpad=0, borderaxespad=0, labelspacing=0.35)
LATER = "measured after the last build"
APART = 0.07
"""Labels of sizes are at least this share of the axis apart, so that they do not overlap."""
DIGITS_BY_DECADES = ((0.5, range(1, 10)), (1.2, (1, 2, 3, 5, 7)), (3, (1, 2, 5)), (math.inf, (1,)))
"""First digits that are labelled on a logarithmic axis that spans fewer decades than this."""

Behind = Sequence[tuple[str, Sweep]]
"""Earlier runs with their labels, drawn behind the present one."""
Draw = Callable[[Axes, Sweep, Behind], None]

_SVG: dict[Any, Any] = {"svg.fonttype": "path", "svg.hashsalt": "tutorial_lib"}
_rendering = threading.Lock()  # matplotlib shares fonts and settings between threads


def latency(sweep: Sweep, behind: Behind = ()) -> Figure:
    """Median latency over the batch, with a ribbon from the 10th to the 90th percentile."""
    return _figure(sweep, behind, "Latency", draw_latency)


def speedup(sweep: Sweep, behind: Behind = ()) -> Figure:
    """How many times as fast as eager each path is, over the batch."""
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
    """Latency, speedup, agreement and build time on one page."""
    draws: dict[str, Draw] = {
        "Latency": draw_latency,
        "Speedup over eager": draw_speedup,
        "Agreement with float64": draw_agreement,
        "Build time": draw_build_time,
    }
    return _page(sweep, (), draws, rows=2)


def panel(sweep: Sweep, behind: Behind = ()) -> Figure:
    """Latency and agreement side by side: is it faster, and is it right?"""
    return _page(sweep, behind, {"Latency": draw_latency, "Agreement with float64": draw_agreement})


def subtitle(sweep: Sweep) -> str:
    """What ran, with which backend, on which device: part of every figure."""
    metadata = sweep.provenance
    ranges = ", ".join(f"{dim['name']} {dim['min']}/{dim['opt']}/{dim['max']}" for dim in metadata["dims"])
    held = "".join(f", {name} {size}" for name, size in sweep.held.items())
    precision = metadata.get("precision", "fp32")
    cast = "" if precision in ("fp32", "float32") else f", {precision}"
    where = metadata.get("recorded", metadata["device"])
    return f"{metadata['case']}, {ranges} (min/opt/max){held} · backend {metadata['backend']}{cast} · {where}"


def _figure(sweep: Sweep, behind: Behind, title: str, draw: Draw, size: tuple[float, float] = SIZE) -> Figure:
    behind = _over_the_same_dimension(sweep, behind)
    figure, upper = _layout(size, behind)
    axes = upper.subplots()
    draw(axes, sweep, behind)
    axes.set_title(fill(subtitle(sweep), 108), loc="left", fontsize=8, color=GREY, parse_math=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    _legend(upper)
    return figure


def _page(sweep: Sweep, behind: Behind, draws: dict[str, Draw], rows: int = 1) -> Figure:
    behind = _over_the_same_dimension(sweep, behind)
    figure, upper = _layout((WIDE[0], WIDE[1] * rows), behind)
    for axes, (title, draw) in zip(upper.subplots(rows, 2, squeeze=False).flat, draws.items(), strict=True):
        draw(axes, sweep, behind)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    figure.suptitle(fill(subtitle(sweep), 170), fontsize=10, color=GREY, parse_math=False)
    _legend(upper)
    return figure


def _over_the_same_dimension(sweep: Sweep, behind: Behind) -> Behind:
    """The earlier runs that have a place on the horizontal axis of `sweep`."""
    name = sweep.provenance["dims"][0]["name"]
    return [(label, run) for label, run in behind if run.provenance["dims"][0]["name"] == name]


def _layout(size: tuple[float, float], behind: Behind) -> tuple[Figure, Figure | SubFigure]:
    """A figure, and the part of it for axes: above a legend of the earlier runs, if there are any."""
    width, height = size
    if not behind:
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure
    labels = [_folded(label, int(width / CHARACTER) - 10) for label, _ in behind]
    rows = ROW * sum(label.count("\n") + 1 for label in labels)
    figure = Figure(figsize=(width, height + rows), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(height, rows))
    upper, lower = parts
    lines = [Line2D([], [], color=GREY, **_faint(number)) for number in range(len(behind))]
    legend = lower.legend(lines, labels, loc="center", **LEGEND)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure, upper


def _folded(label: str, columns: int) -> str:
    """A label on two lines at most: a recording's names a device, a date, versions and a setting."""
    return "\n".join(wrap(label, columns, max_lines=2, placeholder=" …"))


def _legend(figure: Figure | SubFigure) -> None:
    """Under the axes, one legend of all that they show."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        inches = sum(CHARACTER * len(label) + 0.6 for label in handles)
        rows = math.ceil(inches / figure.get_figure(root=True).get_figwidth())
        style = {**LEGEND, "borderaxespad": 0.4, "ncols": math.ceil(len(handles) / rows)}
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", **style)


def draw_latency(axes: Axes, sweep: Sweep, behind: Behind = ()) -> None:
    """Draw the latency curves on `axes`."""
    for name, rows in _curves(sweep):
        color = STYLES.get(name, OTHER)["color"]
        axes.fill_between(rows["size"], rows["p10_ms"], rows["p90_ms"], color=color, alpha=0.15, linewidth=0)
    _draw_curves(axes, sweep, behind, "median_ms")
    numbered_log_axis(axes)
    bars = _draw_intervals(axes, sweep, "low_ms", "high_ms")
    axes.set_ylabel(f"median latency of one call (ms)\nribbon: 10th to 90th percentile{bars}")
    _size_axis(axes, sweep, behind)


def draw_throughput(axes: Axes, sweep: Sweep, behind: Behind = ()) -> None:
    """Draw samples per second on `axes`."""
    _draw_curves(axes, sweep, behind, "samples_per_second")
    numbered_log_axis(axes)
    axes.set_ylabel("throughput (samples/s)")
    _size_axis(axes, sweep, behind)


def draw_speedup(axes: Axes, sweep: Sweep, behind: Behind = ()) -> None:
    """Draw the speedup curves on `axes`."""
    axes.axhline(1, color=STYLES[EAGER]["color"], linestyle="--", linewidth=1, label=EAGER)
    _draw_curves(axes, sweep, behind, "speedup", eager=False)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 1.2))
    bars = _draw_intervals(axes, sweep, "speedup_low", "speedup_high", eager=False)
    axes.set_ylabel(f"times as fast as eager\nmedian over rounds{bars}")
    _size_axis(axes, sweep, behind)


def draw_agreement(axes: Axes, sweep: Sweep, behind: Behind = ()) -> None:
    """Draw the error curves, the tolerance line and eager's own error on `axes`, once they are known."""
    _draw_curves(axes, sweep, behind, "rms", eager=False)
    for number, (_, run) in enumerate(behind):
        sizes, _, tolerance = _eager_error(run)
        axes.plot(sizes, tolerance, color="black", **_faint(number))
    sizes, error, tolerance = _eager_error(sweep)
    axes.set_yscale("log")
    if error.notna().any():
        axes.plot(sizes, error, label="eager's own error", **STYLES[EAGER])
        axes.plot(sizes, tolerance, color="black", linewidth=1.2, label=f"tolerance: {TOLERATED:g} x")
    else:
        _write_across(axes, LATER)
    if math.isfinite(axes.dataLim.minposy):  # something is drawn: whole decades, so that two at least are labelled
        low, high = axes.get_ylim()
        axes.set_ylim(10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high)))
    else:
        axes.set_yticks([])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("rms error against float64")
    _size_axis(axes, sweep, behind)


def draw_build_time(axes: Axes, sweep: Sweep, behind: Behind = ()) -> None:
    """Draw one bar for each build on `axes`, with the number and size of its engines."""
    builds = sweep.builds[::-1]
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("build time (s)")
    if not builds:
        _write_across(axes, "nothing is built")
        axes.set(xticks=[], yticks=[])
        return
    colors = [STYLES.get(build["path"], OTHER)["color"] for build in builds]
    bars = axes.barh(range(len(builds)), [build["seconds"] for build in builds], color=colors, height=0.5)
    axes.bar_label(bars, [_describe(build) for build in builds], padding=4, fontsize=9)
    for row, build in enumerate(builds):
        for number, (_, run) in enumerate(behind):
            height = row - 0.31 - 0.1 * number
            for earlier in run.builds:
                if earlier["path"] == build["path"]:
                    style = {**_faint(number), "marker": "|"}
                    axes.plot([0, earlier["seconds"]], [height, height], color=colors[row], **style)
    axes.set_yticks(range(len(builds)), [build["path"] for build in builds])
    axes.set_ylim(-0.45 - 0.1 * len(behind), len(builds) - 0.5)
    axes.margins(x=0.5)  # room for the labels


def _describe(build: dict[str, Any]) -> str:
    engines = len(build["engines"])
    text = f"{build['seconds']:.1f} s · {engines} engine{'' if engines == 1 else 's'}"
    if build.get("artefact_bytes"):
        text += f" · {build['artefact_bytes'] / 1e6:.1f} MB"
    return text + (" · reused" if build.get("reused") else "")


def _curves(sweep: Sweep) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each path, with the first dimension as column `size`."""
    first, *others = [dim["name"] for dim in sweep.provenance["dims"]]
    if free := [name for name in others if name not in sweep.held]:
        raise ValueError(f"{', '.join(free)} vary too; plot sweep.at({'=..., '.join(free)}=...), or a heatmap.")
    table = sweep.table.rename(columns={first: "size"})
    yield from table.sort_values("size", kind="stable").groupby("path", sort=False)


def _draw_curves(axes: Axes, sweep: Sweep, behind: Behind, column: str, eager: bool = True) -> None:
    """One line for each path, with or without eager's; those of earlier runs are faint."""
    for number, (_, run) in enumerate(behind):
        for name, rows in _curves(run):
            if eager or name != EAGER:
                axes.plot(rows["size"], rows[column], **{**STYLES.get(name, OTHER), **_faint(number)})
    for name, rows in _curves(sweep):
        if (eager or name != EAGER) and rows[column].notna().any():
            axes.plot(rows["size"], rows[column], label=name, markersize=5, **STYLES.get(name, OTHER))
    # A path that only earlier runs have would be a colour without a name in the legend.
    for name in dict.fromkeys(name for _, run in behind for name in run.table["path"]):
        if name not in set(sweep.table["path"]):
            axes.plot([], [], label=name, **{**STYLES.get(name, OTHER), **FAINT})


def _draw_intervals(axes: Axes, sweep: Sweep, low: str, high: str, eager: bool = True) -> str:
    """A bar for the interval of each median, if there are any; returns words for the label of the axis.

    The axis keeps its limits: in the first rounds intervals may be many times as wide as all the curves.
    """
    limits, words = axes.get_ylim(), ""
    for name, rows in _curves(sweep):
        if (eager or name != EAGER) and low in rows and rows[low].notna().any():
            color = STYLES.get(name, OTHER)["color"]
            axes.vlines(rows["size"], rows[low], rows[high], color=color, linewidth=4, alpha=0.35)
            words = "\nbars: interval of the median"
    axes.set_ylim(limits)
    return words


def _eager_error(sweep: Sweep) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Sizes, with eager's own error and the tolerance at each: NaN where they are not known yet."""
    rows = dict(_curves(sweep))[EAGER].astype({"floor_rms": float, "tolerated": float})
    return rows["size"], rows["floor_rms"], rows["floor_rms"] * rows["tolerated"]


def _faint(number: int) -> dict[str, Any]:
    return {**FAINT, "linestyle": DASHES[number % len(DASHES)]}


def _write_across(axes: Axes, text: str) -> None:
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none"}
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=10, color=GREY, bbox=box)


def _size_axis(axes: Axes, sweep: Sweep, behind: Behind) -> None:
    """The horizontal axis: real sizes as ticks, the built range shaded, opt marked."""
    dim: dict[str, Any] = sweep.provenance["dims"][0]
    sizes = sorted({size for run in (sweep, *(run for _, run in behind)) for size in run.table[dim["name"]]})
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(sizes[0], dim["min"]) / 1.15, max(sizes[-1], dim["max"]) * 1.15)
    important = [size for size in (sizes[0], sizes[-1], dim["min"], dim["max"], dim["opt"]) if size in sizes]
    powers_of_two = [size for size in sizes if size.bit_count() == 1]
    label_sizes(axes, [*important, *powers_of_two, *sizes])
    axes.axvspan(dim["min"], dim["max"], color="#56B4E9", alpha=0.10, linewidth=0, zorder=0)
    axes.axvline(dim["opt"], color=OPT, linewidth=1.5, linestyle=":", zorder=1, label=f"opt = {dim['opt']}")
    for number, (_, run) in enumerate(behind):
        axes.axvline(run.provenance["dims"][0]["opt"], ymax=0.06, color=OPT, **{**_faint(number), "linewidth": 2})
    axes.set_xlabel(f"{dim['name']} (shaded: built for {dim['min']} to {dim['max']})")
    axes.grid(True, which="major", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def label_sizes(axes: Axes, sizes: Sequence[int]) -> None:
    """Set ticks at `sizes` on a logarithmic horizontal axis, and label those that have room, earlier ones first.

    Set the limits of the axis before.
    """
    low, high = axes.get_xlim()
    apart = APART * math.log2(high / low)
    labelled: list[int] = []
    for size in sizes:
        if all(abs(math.log2(size / other)) >= apart for other in labelled):
            labelled.append(size)
    labelled.sort()
    axes.set_xticks(labelled, [str(size) for size in labelled])
    axes.xaxis.set_minor_locator(FixedLocator([size for size in sizes if size not in labelled]))
    axes.xaxis.set_minor_formatter(NullFormatter())


def numbered_log_axis(axes: Axes) -> None:
    """A logarithmic vertical axis with plain numbers as labels, whether it spans half a decade or several."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 3 * low:
        middle = math.sqrt(low * high)
        low, high = axes.set_ylim(middle / math.sqrt(3), middle * math.sqrt(3))
    decades = math.log10(high / low)
    digits = next(digits for limit, digits in DIGITS_BY_DECADES if decades < limit)
    axes.yaxis.set_major_locator(LogLocator(subs=digits))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain_number))
    axes.yaxis.set_minor_locator(NullLocator())


def _plain_number(value: float, _: int | None = None) -> str:
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= 10 * unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


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


def describe(figure: Figure) -> str:
    """What a figure shows, in words and numbers: its titles, and ends and extremes of every labelled line."""
    sentences = [figure.get_suptitle().replace("\n", ". ")]
    for axes in figure.axes:
        lines = []
        for line in axes.get_lines():
            data: Any = line.get_xydata()
            points = [(float(x), float(y)) for x, y in data if math.isfinite(y)]
            if str(line.get_label()).startswith("_") or len(points) < 2 or points[0][0] == points[-1][0]:
                continue
            ends = {points[0], points[-1], min(points, key=lambda each: each[1]), max(points, key=lambda each: each[1])}
            lines.append(f"{line.get_label()} {', '.join(f'{y:.3g} at {x:g}' for x, y in sorted(ends))}")
        if lines:
            what = (axes.get_title(loc="left") or axes.get_ylabel()).partition("\n")[0]
            sentences.append(f"{what}: {'; '.join(lines)}")
    return ". ".join(filter(None, sentences)) + "."


def show(figure: Figure, alt: str = "") -> Any:
    """A figure as an ``IPython.display.Image``, told in words by `alt` or else by :func:`describe`."""
    from IPython.display import Image  # in notebooks only

    width = int(figure.get_figwidth() * 100)
    return Image(png(figure), format="png", embed=True, alt=alt or describe(figure), width=width)
