"""A figure of engine reports: the activation memory of every engine over its max.

TensorRT says how much memory a plan needs for intermediate results when it builds the plan, so nothing has to run.
Show the figure with :func:`tutorial_lib.figures.plots.show`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from tutorial_lib.builds.plan import show_activation, show_bytes
from tutorial_lib.engines.report import BUILDER, EngineReport
from tutorial_lib.figures.engine_profiles import DynamicAxis, dynamic_axes
from tutorial_lib.figures.plots import DASHES, OTHER, STYLES, label_sizes

SIZE = (8.0, 4.8)
"""Inches; legible at the width of a notebook."""
ROOM_ABOVE, ROOM_BELOW, ROOM_BESIDE = 3.0, 2.5, 1.8
"""Factors by which the axes extend beyond the data, so that labels have room."""
LINEAR_BELOW = 1000
"""Bytes below which the axis is linear where an engine needs no memory, which has no logarithm."""
HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markersize": 8, "markeredgewidth": 1.6}
ABOVE: dict[str, Any] = {"textcoords": "offset points", "xytext": (-7, 5), "ha": "right", "va": "bottom", "fontsize": 9}
BELOW: dict[str, Any] = {"textcoords": "offset points", "xytext": (7, -5), "ha": "left", "va": "top", "fontsize": 9}
"""Places of labels: above the line that ends highest, below the others."""
RING: dict[str, Any] = {"marker": "o", "markersize": 14, "markerfacecolor": "none", "markeredgewidth": 1.4}
"""Round the engines of the current setting."""
WEIGHTS: dict[str, Any] = {"marker": "_", "markersize": 9, "linewidth": 1.0, "linestyle": ":"}


@dataclass(frozen=True)
class Point:
    """One engine: its range of sizes, its activation memory in bytes and as text, and the weights inside its plan.

    `weight_bytes` is None where the weights are inputs.
    """

    min: int
    opt: int
    max: int
    activation_bytes: int
    memory: str
    weight_bytes: int | None
    built_by_a_call: bool

    def lies_on(self, other: "Point") -> bool:
        """Whether both have the same marker."""
        return replace(self, opt=other.opt, weight_bytes=other.weight_bytes) == other

    @property
    def alone(self) -> bool:
        """Whether it is on no line: a call built it, or it takes a single size."""
        return self.built_by_a_call or self.min == self.max


def memory(
    reports: Sequence[EngineReport],
    name: str,
    axis: tuple[str, int] | None = None,
    current: Sequence[EngineReport] = (),
) -> Figure:
    """Activation memory of every engine over the largest size that it takes.

    Both axes are logarithmic; where an engine needs none, the one of memory is linear from 0 to :data:`LINEAR_BELOW`.

    One line for each model and path, in the colour of the path. An engine for a single size, and one that a call built
    (hollow), stand alone. Where engines of one line have the same max, their label tells what opt does to their memory.

    Parameters
    ----------
    reports : sequence of EngineReport
        Those of the same model and path make one line.
    name : str
        What the dynamic dimension is called, such as ``batch``.
    axis : (str, int), optional
        Where it is: an input and its axis. Default: the only dynamic one that the model has.
    current : sequence of EngineReport
        Some of the reports. Their engines are ringed, and dotted lines show the weights in the plans of their paths.

    Raises
    ------
    ValueError
        If TensorRT built none of the engines, or `axis` is left out and a model has not exactly one that is dynamic.
    """
    lines: dict[tuple[str, str], list[Point]] = {}
    for report in reports:
        lines.setdefault((report.case, report.path), []).extend(_points(report, axis))
    lines = {key: line for key, line in lines.items() if line}
    if not lines:
        raise ValueError("TensorRT built none of these engines, so there is no memory to show.")
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    highest = max(lines, key=lambda key: max((amount for _, amount in _line(lines[key])), default=0))
    cases = list(dict.fromkeys(case for case, _ in lines))
    labelled: set[tuple[int, int]] = set()  # engines of two paths often need the same memory
    for (case, path), points in lines.items():
        style = {**STYLES.get(path, OTHER), "linestyle": DASHES[cases.index(case) % len(DASHES)]}
        _draw(axes, points, style)
        side = ABOVE if (case, path) == highest else BELOW
        same = [each for of, each in lines if of == case and _line(lines[of, each]) == _line(points)]
        labels = [(point, text, side) for point, text in _line_labels(points, f"{case}, {_and(same)}")]
        for point in points:
            if point.alone:
                same = [each for of, each in lines if of == case and any(map(point.lies_on, lines[of, each]))]
                labels.append((point, *_lone_label(point, f"{case}, {_and(same)}")))
        for point, text, place in labels:
            marker = point.max, point.activation_bytes
            if marker not in labelled:
                labelled.add(marker)
                axes.annotate("\n".join(text), marker, color=style["color"], **place)
    points = [point for line in lines.values() for point in line]
    amounts = [point.activation_bytes for point in points]
    amounts += _mark(axes, lines, current, axis)
    _scale(axes, sorted({point.max for point in points}), amounts)
    axes.set_xlabel(f"max of the {name}")
    axes.set_ylabel("GPU memory" if current else "activation memory of the engine")
    version = next(report.versions[BUILDER] for report in reports if report.plans)
    title = f"{_finding(list(lines.values()), name)}\nEngines built by TensorRT for RTX {version}, not run"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _finding(lines: Sequence[Sequence[Point]], name: str) -> str:
    """What the lines say of memory and max."""
    if not any(point.activation_bytes for line in lines for point in line):
        return "None of these engines needs activation memory"
    ordered = [sorted((point.max, point.activation_bytes) for point in line if not point.alone) for line in lines]
    if all(len({size for size, _ in line}) < 2 for line in ordered):
        return f"Activation memory at one max of the {name}"
    if any(line[-1][1] > line[0][1] for line in ordered if line):
        return f"Activation memory grows with the max of the {name}"
    return f"Activation memory does not grow with the max of the {name}"


def _points(report: EngineReport, axis: tuple[str, int] | None) -> list[Point]:
    """The engines of one report that TensorRT built and that have the input of `axis`."""
    dynamic = dynamic_axes(report)
    if axis is None and len(dynamic) != 1:
        raise ValueError(f"{report.case} has {len(dynamic)} dynamic dimensions, and this figure is for one.")
    x_axis = DynamicAxis(*axis) if axis else dynamic[0]
    points = []
    for engine in report.engines:
        sizes = x_axis.sizes(engine.data)
        if engine.plan and sizes:
            activation, text = engine.plan.activation_bytes, show_activation(engine.plan)
            weights_are_inputs = any(each.kind == "weight" for each in engine.inputs)
            weights = None if weights_are_inputs else engine.plan.weight_bytes
            points.append(Point(*sizes, activation, text, weights, engine.after_build))
    return points


def _line(points: Sequence[Point]) -> set[tuple[int, int]]:
    """What is on the line through `points`: max and memory."""
    return {(point.max, point.activation_bytes) for point in points if not point.alone}


def _mark(
    axes: Axes,
    lines: Mapping[tuple[str, str], Sequence[Point]],
    current: Sequence[EngineReport],
    axis: tuple[str, int] | None,
) -> list[int]:
    """Ring the engines of the current setting, and draw the weights of their paths; returns the bytes of these."""
    amounts: list[int] = []
    for report in current:
        color = STYLES.get(report.path, OTHER)["color"]
        for point in _points(report, axis):
            axes.plot(point.max, point.activation_bytes, color=color, linestyle="", **RING)
        by_max = {
            point.max: point.weight_bytes
            for point in lines.get((report.case, report.path), ())
            if point.weight_bytes and not point.alone
        }
        is_new = by_max and not set(by_max.values()) <= set(amounts)
        sizes = sorted(by_max)
        axes.plot(sizes, [by_max[size] for size in sizes], color=color, **WEIGHTS)
        if is_new:
            end = (sizes[-1], by_max[sizes[-1]])
            text = f"weights\n{show_bytes(end[1])}"
            axes.annotate(text, end, color=color, **BELOW)
        amounts += by_max.values()
    return amounts


def _draw(axes: Axes, points: Sequence[Point], style: dict[str, Any]) -> None:
    """One model and path: a line through the first engine of each max, and a marker for every other one."""
    first_of_max: dict[int, Point] = {}
    for point in points:
        if not point.alone:
            first_of_max.setdefault(point.max, point)
    line = [first_of_max[size] for size in sorted(first_of_max)]
    axes.plot([point.max for point in line], [point.activation_bytes for point in line], markersize=6, **style)
    for point in points:
        if point not in line:
            marker = HOLLOW if point.built_by_a_call else {}
            axes.plot(point.max, point.activation_bytes, **{**style, "linestyle": "", **marker})


def _line_labels(points: Sequence[Point], name: str) -> Iterator[tuple[Point, list[str]]]:
    """The memory at each max, and the name of the line at its end."""
    line = sorted((point for point in points if not point.alone), key=lambda point: point.max)
    for size, group in groupby(line, key=lambda point: point.max):
        engines = list(group)
        end = [name] if size == line[-1].max else []
        yield engines[0], [*end, *_memory_by_opt(engines)]


def _lone_label(point: Point, name: str) -> tuple[list[str], dict[str, Any]]:
    """What an engine is that stands alone, and where that is written."""
    if point.built_by_a_call:
        return [f"{name}: built by a call out of range", point.memory], ABOVE
    return [f"{name}: only {point.max}", point.memory], BELOW


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if words[1:] else words[0]


def _memory_by_opt(engines: Sequence[Point]) -> list[str]:
    """One line for each amount of memory; with the opts that need it, where there are several."""
    opts: dict[str, list[int]] = {}
    for engine in engines:
        opts.setdefault(engine.memory, []).append(engine.opt)
    if len({engine.opt for engine in engines}) == 1:
        return list(opts)
    return [f"opt {' and '.join(map(str, of))}: {amount}" for amount, of in opts.items()]


def _scale(axes: Axes, sizes: Sequence[int], amounts: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / ROOM_BESIDE, sizes[-1] * ROOM_BESIDE)
    if min(amounts) > 0:
        least_label = 0
        axes.set_yscale("log")
        axes.set_ylim(min(amounts) / ROOM_BELOW, max(amounts) * ROOM_ABOVE)
    else:
        least_label = LINEAR_BELOW
        axes.set_yscale("symlog", linthresh=LINEAR_BELOW)
        axes.set_ylim(-LINEAR_BELOW / 4, max(*amounts, LINEAR_BELOW) * ROOM_ABOVE)
    label_sizes(axes, sizes)
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: "" if 0 < value < least_label else show_bytes(int(value)))
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(True, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
