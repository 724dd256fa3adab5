"""A figure of engine reports: the range that was typed, and the profile and memory of every engine.

Show it with :func:`tutorial_lib.figures.plots.show`.
"""

from collections.abc import Sequence
from textwrap import fill
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tutorial_lib.builds.plan import show_activation
from tutorial_lib.builds.report import Engine, EngineInput
from tutorial_lib.engines.report import BUILDER, FRONT_END, GRAPH, Call, EngineReport, shape
from tutorial_lib.figures.plots import OTHER, STYLES, label_sizes

TYPED_COLOR = "#8C8C8C"
BAR_HEIGHT = 0.5
TITLE_WIDTH = 80
"""Characters of a line of the title."""
OPT: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 6}
REFUSED: dict[str, Any] = {"marker": "x", "color": "black", "markersize": 7, "markeredgewidth": 1.8}


class DynamicAxis(NamedTuple):
    """A dynamic axis of an input, and the name of its dimension where the calls of the report tell it."""

    input_name: str
    axis: int
    dim: str | None = None

    def sizes(self, inputs: Sequence[EngineInput]) -> tuple[int, int, int] | None:
        """Min, opt and max of this axis; None if it is not among the inputs of an engine."""
        for each in inputs:
            if each.name == self.input_name and self.axis < len(each.min):
                low, opt, high = (corner[self.axis] for corner in (each.min, each.opt, each.max))
                if low is not None and opt is not None and high is not None:
                    return low, opt, high
        return None


def profiles(reports: Sequence[EngineReport]) -> Figure:
    """The range that was typed against the real optimization profile of every engine, for reports of one case.

    One row of panels for each path, one column for each dynamic axis. Engines that a call built are
    hatched and name the call; a cross marks a size that was refused. Where TensorRT built an engine, its activation
    memory stands beside its range.
    """
    dynamic = dynamic_axes(reports[0])
    rows = [1 + max(1, len(report.engines)) for report in reports]
    figure = Figure(figsize=(3 + 4.5 * len(dynamic), 1.7 + 0.29 * sum(rows) + 0.25 * len(rows)), layout="constrained")
    grid = figure.subplots(len(reports), len(dynamic), sharex="col", squeeze=False, height_ratios=rows)
    for column, dynamic_axis in enumerate(dynamic):
        for axes, report in zip(grid[:, column], reports, strict=True):
            _draw(axes, report, dynamic_axis, with_memory=column == len(dynamic) - 1)
            axes.tick_params(axis="y", length=0, labelleft=column == 0)
            _scale(axes, reports, dynamic_axis)
        label = f"{dynamic_axis.input_name}, dim {dynamic_axis.axis}"
        grid[-1, column].set_xlabel(f"{dynamic_axis.dim} ({label})" if dynamic_axis.dim else label)
    figure.suptitle(_title(reports[0]), x=0.01, ha="left", fontsize=11, fontweight="bold")
    legend = [
        Line2D([], [], linestyle="", label="opt", **OPT),
        Patch(facecolor="white", edgecolor="black", hatch="////", label="built by a call"),
        Line2D([], [], linestyle="", label="a call that was refused", **REFUSED),
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def _title(report: EngineReport) -> str:
    inputs = ", ".join(f"{each.name} {shape(each)}" for each in report.requested)
    typed = fill(f"{report.case}, typed: {inputs} (min/opt/max)", TITLE_WIDTH)
    if report.mode == GRAPH:
        version = report.versions.get(FRONT_END, "?")
        return f"What Torch-TensorRT {version} asks for. TensorRT built nothing.\n{typed}"
    version = report.versions[BUILDER]
    return f"Engines built by TensorRT for RTX {version}, not run; beside each: activation memory\n{typed}"


def dynamic_axes(report: EngineReport) -> list[DynamicAxis]:
    """The axes that were typed as a range."""
    places = [
        (each.name, axis)
        for each in report.requested
        for axis, (low, high) in enumerate(zip(each.min, each.max, strict=True))
        if low != high
    ]
    names: list[str | None] = list(report.calls[0].sizes) if report.calls else []
    if len(names) != len(places):
        names = [None] * len(places)
    return [DynamicAxis(*place, name) for place, name in zip(places, names, strict=True)]


def _draw(axes: Axes, report: EngineReport, dynamic_axis: DynamicAxis, with_memory: bool) -> None:
    """One path, one axis: the typed range on top, an engine in each row below."""
    color = STYLES.get(report.path, OTHER)["color"]
    labels = ["typed"]
    _bar(axes, 0, dynamic_axis.sizes(report.requested), {"facecolor": TYPED_COLOR, "edgecolor": TYPED_COLOR})
    for number, engine in enumerate(report.engines, start=1):
        labels.append(f"engine {number}{_built_at(report, number)}")
        memory = f", {show_activation(engine.plan)}" if with_memory and engine.plan else ""
        _bar(axes, number, dynamic_axis.sizes(engine.data), _engine_style(engine, color), memory)
    if not report.engines:
        labels.append("no engine")
    for call in report.calls:
        if dynamic_axis.dim and dynamic_axis.dim in _refused_dims(report, call):
            axes.plot(call.sizes[dynamic_axis.dim], min(1, len(report.engines)), linestyle="", **REFUSED)
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    failed = ": the build failed" if report.failed else ""
    axes.set_title(report.path + failed, loc="left", fontsize=10, fontweight="bold", color=color)
    axes.grid(True, axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _built_at(report: EngineReport, number: int) -> str:
    for call in report.calls:
        if number in call.built:
            return f", built at {', '.join(f'{name} {size}' for name, size in call.sizes.items())}"
    return ""


def _engine_style(engine: Engine, color: str) -> dict[str, Any]:
    if engine.after_build:
        return {"facecolor": "white", "edgecolor": color, "hatch": "////"}
    return {"facecolor": color, "edgecolor": color}


def _refused_dims(report: EngineReport, call: Call) -> set[str]:
    """The dimensions of a refused call whose size engine 1 does not take; all of them if it takes every one."""
    if call.outcome != "refused":
        return set()
    outside = set()
    for dynamic_axis in dynamic_axes(report):
        sizes = dynamic_axis.sizes(report.engines[0].data) if report.engines else None
        if sizes and dynamic_axis.dim and not sizes[0] <= call.sizes[dynamic_axis.dim] <= sizes[2]:
            outside.add(dynamic_axis.dim)
    return outside or set(call.sizes)


def _bar(axes: Axes, row: int, sizes: tuple[int, int, int] | None, style: dict[str, Any], memory: str = "") -> None:
    text = f"not an input here{memory}"
    if sizes:
        low, opt, high = sizes
        axes.barh(row, high - low, left=low, height=BAR_HEIGHT, linewidth=1.5, **style)
        axes.plot(opt, row, linestyle="", **OPT)
        text = f"only {low}{memory}" if low == high else f"{low} / {opt} / {high}{memory}"
    axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)


def _scale(axes: Axes, reports: Sequence[EngineReport], dynamic_axis: DynamicAxis) -> None:
    """A logarithmic axis labelled with sizes that occur, ends first; what has no room stands beside its bar."""
    inputs = [report.requested for report in reports]
    inputs += [engine.data for report in reports for engine in report.engines]
    ranges = [sizes for each in inputs if (sizes := dynamic_axis.sizes(each))]
    ends = sorted({size for low, _, high in ranges for size in (low, high)})
    opts = sorted({opt for _, opt, _ in ranges})
    margin = (ends[-1] / ends[0]) ** 0.04
    axes.set_xscale("log", base=2)
    axes.set_xlim(ends[0] / margin, ends[-1] * margin)
    label_sizes(axes, [ends[0], ends[-1], *ends, *opts])
