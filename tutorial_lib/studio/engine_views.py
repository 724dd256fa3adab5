"""TensorRT's engines as HTML and a figure, without widgets. ``engine_views.html.jinja`` has the HTML.

All of it was built by TensorRT for RTX and not run, and says so.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from matplotlib.figure import Figure

from tutorial_lib.builds.plan import Plan, PlanLayer, show_activation, show_bytes
from tutorial_lib.builds.report import Engine
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import DynamicDim
from tutorial_lib.engines import EngineReport
from tutorial_lib.engines.comparison import layer_changes
from tutorial_lib.engines.report import shape
from tutorial_lib.experiments.result import Result
from tutorial_lib.figures.engine_memory import memory
from tutorial_lib.studio import views

NOTHING_YET = '<p class="tl-empty">No engine is built yet. Press Build.</p>'
NOT_ASKED = (
    '<p class="tl-empty">TensorRT’s engines are not asked for. Tick <b>TensorRT’s engines</b> above, '
    "and press Build.</p>"
)
SOURCE_HEIGHT, LAYER_HEIGHT, GAP = 16, 36, 8
"""Pixels of a layer of the network, of one of the plan, and between those that have nothing to do with each other."""
SOURCE_LETTERS, LAYER_LETTERS = 52, 44
"""Letters that fit into the columns of the graph."""


def engines(result: Result) -> str:
    """What TensorRT built for each path: profiles, memory, layers, its own words, and what is still to be built."""
    if not result.setting.engines:
        return NOT_ASKED
    html = "".join(_report(report) for report in result.engines)
    waiting = result.setting.paths[len(result.engines) :]
    return html + str(HTML.waiting(waiting))


def unavailable(sentence: str) -> str:
    """Why no engine can be built here, and how to get what is missing."""
    return str(HTML.unavailable(sentence))


def _report(report: EngineReport) -> str:
    rows, columns = views.engine_rows(report.engines, {each.name: shape(each) for each in report.requested})
    facts = [f"call {call}" for call in report.calls]
    facts += [f"note: {note}" for note in report.notes]
    if report.left_to_pytorch:
        facts.insert(0, f"left to PyTorch: {', '.join(report.left_to_pytorch)}")
    words = [line for line in report.log if line not in (report.failed or "")]
    plans = [
        {"name": _name(number, report.engines), "plan": engine.plan, "graph": graph(engine.plan)}
        for number, engine in enumerate(report.engines, start=1)
        if engine.plan
    ]
    return str(HTML.report(report, rows, columns, facts, words, plans))


def _name(number: int, engines: Sequence[Engine]) -> str:
    return f"engine {number}" if engines[1:] else "the engine"


# ---- memory over max


def axis_of(case: Case, dim: str) -> tuple[str, int] | None:
    """The first input that has a dimension, and where; None if inputs have it in sums and products only."""
    places = (
        (spec.name, axis)
        for spec in case.inputs
        for axis, each in enumerate(spec.shape)
        if isinstance(each, DynamicDim) and each.name == dim
    )
    return next(places, None)


def memory_figure(
    reports: Sequence[EngineReport], current: Sequence[EngineReport], dim: str, axis: tuple[str, int]
) -> Figure | None:
    """Memory over max of `dim`, with the engines of the current setting ringed; None if there is no engine."""
    drawn = [report for report in reports if any(_sizes(report, axis))]
    return memory(drawn, dim, axis, [report for report in current if report in drawn]) if drawn else None


def memory_alt(reports: Sequence[EngineReport], dim: str, axis: tuple[str, int]) -> str:
    """The figure of memory in words and numbers."""
    by_path: dict[str, dict[int, str]] = {}
    for report in reports:
        for size, plan in _sizes(report, axis):
            by_path.setdefault(report.path, {})[size] = f"{show_activation(plan)} at {size}"
    lines = [f"{path}: {', '.join(text for _, text in sorted(sizes.items()))}" for path, sizes in by_path.items()]
    return f"Activation memory of TensorRT's engines, built and not run, over max of {dim}. {'; '.join(lines)}."


def _sizes(report: EngineReport, axis: tuple[str, int]) -> Iterator[tuple[int, Plan]]:
    """Max and plan of every engine that has this input."""
    name, number = axis
    for engine in report.engines:
        for each in engine.data:
            if engine.plan and each.name == name:
                yield int(each.max[number] or 0), engine.plan


# ---- network -> plan


@dataclass(frozen=True)
class Box:
    """A layer in the graph: its middle in pixels from above, its text, and the whole of it."""

    y: float
    text: str
    below: str
    title: str


@dataclass(frozen=True)
class Graph:
    """Layers of the network on the left, those of the plan on the right, and who was made from whom."""

    sources: tuple[Box, ...]
    layers: tuple[Box, ...]
    links: tuple[tuple[float, float], ...]
    height: int


def graph(plan: Plan) -> Graph:
    """Which layers of the network each layer of a plan was made from, from above in the order of the plan.

    A layer of the network stands once, beside the first that was made from it.
    """
    sources: dict[str, float] = {}
    layers, links = [], []
    y = 0.0
    for number, layer in enumerate(plan.layers, start=1):
        new = [source for source in layer.sources if source not in sources]
        height = max(LAYER_HEIGHT, SOURCE_HEIGHT * len(new)) + GAP
        middle = y + height / 2
        first = middle - SOURCE_HEIGHT * (len(new) - 1) / 2
        for index, source in enumerate(new):
            sources[source] = first + index * SOURCE_HEIGHT
        text = _shortened(f"{number}  {layer_name(layer)}", LAYER_LETTERS)
        tensors = _shortened(", ".join(layer.outputs), LAYER_LETTERS)
        layers.append(
            Box(middle, text, tensors, f"{layer.name}: {', '.join(layer.inputs)} → {', '.join(layer.outputs)}")
        )
        links += [(sources[source], middle) for source in layer.sources]
        y += height
    boxes = [Box(at, _shortened(source_name(source), SOURCE_LETTERS), "", source) for source, at in sources.items()]
    return Graph(tuple(boxes), tuple(layers), tuple(links), round(y))


def source_name(source: str) -> str:
    """``[MATRIX_MULTIPLY]-[aten_ops.linear.default]-[qkv/linear_mm]`` as ``MATRIX_MULTIPLY qkv/linear_mm``."""
    match = re.fullmatch(r"\[(.+?)\]-\[.+?\]-\[(.+)\]", source)
    return f"{match[1]} {match[2]}" if match else source


def layer_name(layer: PlanLayer) -> str:
    """Type of a layer of a plan, and what TensorRT's name of a generated kernel says that it does."""
    match = re.match(r"__myl_([A-Za-z]+)_", layer.name)
    return f"{layer.type} {match[1]}" if match else layer.type


def _shortened(text: str, letters: int) -> str:
    if len(text) <= letters:
        return text
    return f"{text[: letters // 3]}…{text[len(text) - letters + letters // 3 + 1 :]}"


# ---- two settings side by side


def changes(old: tuple[str, Result], new: tuple[str, Result]) -> str:
    """How engines differ between two results, each with its label: profiles, memory, and which layers changed."""
    (old_label, before), (new_label, after) = old, new
    if before.setting.model != after.setting.model:
        return str(HTML.note(f"{old_label} and {new_label} are of two models; choose two settings of one."))
    olds, news = ({report.path: report for report in each.engines} for each in (before, after))
    paths = [path for path in news if path in olds]
    if not paths:
        return str(HTML.note("There is no path of which both have engines; build both with TensorRT’s engines."))
    tables = []
    for path in paths:
        pairs = zip_longest(olds[path].engines, news[path].engines)
        tables += [_pair(path, number, *pair) for number, pair in enumerate(pairs, start=1)]
    short = [label.partition(": ")[0] for label in (old_label, new_label)]
    return str(HTML.changes(old_label, new_label, short, tables))


def _pair(path: str, number: int, old: Engine | None, new: Engine | None) -> dict[str, Any]:
    """One engine of both: rows of (what, old, new, factor), and what became of its layers."""
    before, after = (engine.plan if engine else None for engine in (old, new))
    rows = [("profile", *("; ".join(map(str, engine.data)) if engine else "no engine" for engine in (old, new)), "")]
    for what, attribute in (
        ("activation memory", "activation_bytes"),
        ("weights in the plan", "weight_bytes"),
        ("plan", "plan_bytes"),
    ):
        numbers = [getattr(plan, attribute) if plan else None for plan in (before, after)]
        rows.append((what, *map(_bytes, numbers), _factor(*numbers)))
    counts = [f"{plan.network_layers} → {len(plan.layers)}" if plan else "–" for plan in (before, after)]
    rows.append(("layers, network → plan", *counts, ""))
    layers = None
    if before and after:
        layers = [
            ("other tensors" if change.shapes_only else "other layers", _lines(change.old), _lines(change.new))
            for change in layer_changes(before, after)
        ]
    return {"head": f"{path}, engine {number}", "rows": rows, "layers": layers}


def _bytes(count: int | None) -> str:
    return "–" if count is None else show_bytes(count)


def _factor(old: int | None, new: int | None) -> str:
    if not old or new is None:
        return ""
    return "the same" if old == new else f"{new / old:.2f}x"


def _lines(layers: Iterable[PlanLayer]) -> list[str]:
    return [f"{layer_name(layer)} {', '.join(layer.outputs)}".strip() for layer in layers] or ["–"]


views.TEMPLATES.globals.update(layer_name=layer_name, source_name=source_name)
HTML: Any = views.TEMPLATES.get_template("engine_views.html.jinja").module
"""A function for each macro of the template."""
