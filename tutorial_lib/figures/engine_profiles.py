"""A figure of engine reports: the range that was typed, and the profile and memory of every engine.

A module of its own, because it needs matplotlib and building engines does not. Colours and
manners are those of :mod:`tutorial_lib.figures.plots`; show the figure with :func:`tutorial_lib.figures.plots.show`.
"""

from collections.abc import Sequence
from math import log2
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from tutorial_lib.builds.plan import show_activation
from tutorial_lib.builds.report import EngineInput
from tutorial_lib.engines.report import BUILDER, ENDS, FRONT_END, GRAPH, Call, EngineReport, shape
from tutorial_lib.figures.plots import OTHER, STYLES

GREY = "#8C8C8C"
HEIGHT = 0.5
APART = 0.08
"""Sizes on the horizontal axis closer than this share of its length would run into each other."""
CHARACTERS = 80
"""What one line of the title has room for."""
OPT: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 6}
REFUSED: dict[str, Any] = {"marker": "x", "color": "black", "markersize": 7, "markeredgewidth": 1.8}


def profiles(reports: Sequence[EngineReport]) -> Figure:
    """The range that was typed against the real optimization profile of every engine, path by path.

    One row of panels for each path, one column for each dynamic axis. Engines that a call built are
    hatched and name the call; a cross marks a size that was refused. Where TensorRT built an engine, its activation
    memory stands beside its range.

    Parameters
    ----------
    reports : sequence of EngineReport
        Of one case, such as :func:`~tutorial_lib.engines.build_all` returns.
    """
    dynamic = _dynamic(reports[0])
    rows = [1 + max(1, len(one.engines)) for one in reports]
    figure = Figure(figsize=(3 + 4.5 * len(dynamic), 1.7 + 0.29 * sum(rows) + 0.25 * len(rows)), layout="constrained")
    grid = figure.subplots(len(reports), len(dynamic), sharex="col", squeeze=False, height_ratios=rows)
    for column, place in enumerate(dynamic):
        for axes, one in zip(grid[:, column], reports, strict=True):
            _draw(axes, one, *place, name=dynamic[place], memory=column == len(dynamic) - 1)
            axes.tick_params(axis="y", length=0, labelleft=column == 0)
            _scale(axes, _ticks(reports, *place))
        label = "{}, dim {}".format(*place)
        grid[-1, column].set_xlabel(f"{dynamic[place]} ({label})" if dynamic[place] else label)
    figure.suptitle(_title(reports[0]), x=0.01, ha="left", fontsize=11, fontweight="bold")
    legend = [
        Line2D([], [], linestyle="", label="opt", **OPT),
        Patch(facecolor="white", edgecolor="black", hatch="////", label="built by a call"),
        Line2D([], [], linestyle="", label="a call that was refused", **REFUSED),
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def _title(one: EngineReport) -> str:
    version = one.versions.get(FRONT_END, "?")
    typed = f"{one.case}, typed: {', '.join(f'{i.name} {shape(i)}' for i in one.requested)} (min/opt/max)"
    typed = fill(typed, CHARACTERS)
    if one.mode == GRAPH:
        return f"What Torch-TensorRT {version} asks for. TensorRT built nothing.\n{typed}"
    built = f"Engines built by TensorRT for RTX {one.versions[BUILDER]}, not run; beside each: activation memory"
    return f"{built}\n{typed}"


def _dynamic(one: EngineReport) -> dict[tuple[str, int], str | None]:
    """The dynamic axes as (input, axis), each with the name of its dimension where the calls tell it."""
    places = [
        (i.name, axis)
        for i in one.requested
        for axis, (low, high) in enumerate(zip(i.min, i.max, strict=True))
        if low != high
    ]
    names = list(one.calls[0].sizes) if one.calls else []
    return dict(zip(places, names if len(names) == len(places) else [None] * len(places), strict=True))


def _draw(axes: Axes, one: EngineReport, name_of_input: str, axis: int, name: str | None, memory: bool) -> None:
    """One path, one axis: the typed range on top, an engine in each row below, with its `memory` or without."""
    color = STYLES.get(one.path, OTHER)["color"]
    labels = ["typed"]
    _bar(axes, 0, _find(one.requested, name_of_input), axis, GREY, late=False)
    for number, engine in enumerate(one.engines, start=1):
        call = next((c for c in one.calls if number in c.built), None)
        by = f", built at {', '.join(f'{n} {s}' for n, s in call.sizes.items())}" if call else ""
        labels.append(f"engine {number}{by}")
        activation = f", {show_activation(engine.plan)}" if memory and engine.plan else ""
        _bar(axes, number, _find(engine.data, name_of_input), axis, color, engine.after_build, activation)
    if not one.engines:
        labels.append("no engine")
    for call in one.calls:
        if name and name in _to_blame(one, call):
            axes.plot(call.sizes[name], min(1, len(one.engines)), linestyle="", **REFUSED)
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    failed = ": the build failed" if one.failed else ""
    axes.set_title(one.path + failed, loc="left", fontsize=10, fontweight="bold", color=color)
    axes.grid(True, axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _to_blame(one: EngineReport, call: Call) -> set[str | None]:
    """The dimensions of a refused call that engine 1 does not hold; all of them if it holds every one."""
    if call.outcome != "refused":
        return set()
    outside: set[str | None] = set()
    for (name_of_input, axis), name in _dynamic(one).items():
        found = _find(one.engines[0].data, name_of_input) if one.engines else None
        if found and name and not (found.min[axis] or 0) <= call.sizes[name] <= (found.max[axis] or call.sizes[name]):
            outside.add(name)
    return outside or set(call.sizes)


def _bar(axes: Axes, row: int, found: EngineInput | None, axis: int, color: str, late: bool, memory: str = "") -> None:
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 9}
    if found is None or axis >= len(found.min):
        axes.text(1.02, row, f"not an input here{memory}", **beside)
        return
    low, opt, high = (getattr(found, end)[axis] for end in ENDS)
    style: dict[str, Any] = {"facecolor": "white", "hatch": "////"} if late else {"facecolor": color}
    axes.barh(row, high - low, left=low, height=HEIGHT, edgecolor=color, linewidth=1.5, **style)
    axes.plot(opt, row, linestyle="", **OPT)
    sizes = f"only {low}" if low == high else f"{low} / {opt} / {high}"
    axes.text(1.02, row, f"{sizes}{memory}", **beside)


def _find(inputs: Sequence[EngineInput], name: str) -> EngineInput | None:
    return next((i for i in inputs if i.name == name), None)


def _scale(axes: Axes, ticks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    margin = (ticks[-1] / ticks[0]) ** 0.04
    axes.set_xlim(ticks[0] / margin, ticks[-1] * margin)


def _ticks(reports: Sequence[EngineReport], name_of_input: str, axis: int) -> list[int]:
    """Sizes that really occur, as many as a logarithmic axis has room for: what is left out stands beside its bar."""
    inputs = [i for one in reports for i in one.requested]
    inputs += [i for one in reports for engine in one.engines for i in engine.data]
    ends: set[int] = set()
    opts: set[int] = set()
    for found in inputs:
        if found.name == name_of_input and axis < len(found.min):
            ends |= {size for size in (found.min[axis], found.max[axis]) if size}
            opts |= {size for size in (found.opt[axis],) if size}
    room = APART * log2(max(ends) / min(ends))
    ticks: list[int] = []
    for size in [min(ends), max(ends), *sorted(ends), *sorted(opts)]:
        if all(abs(log2(size / other)) > room for other in ticks):
            ticks.append(size)
    return sorted(ticks)
