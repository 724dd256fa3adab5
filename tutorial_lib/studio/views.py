"""Results as figures, HTML and sentences, without widgets. Values are prepared here; ``views.html.jinja`` has the HTML.

A result and the pinned ones stand side by side everywhere: in the figure as faint lines, in the table as faint rows.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from tutorial_lib.builds.plan import show_activation, show_bytes
from tutorial_lib.builds.report import Build, Engine
from tutorial_lib.engines.report import shape
from tutorial_lib.experiments.result import Result
from tutorial_lib.figures import plots
from tutorial_lib.measure.sweep import EAGER, Sweep
from tutorial_lib.studio.cached_runs import Answer

Pinned = Sequence[tuple[str, Result]]
"""Earlier results, each with its label."""
Draw = Callable[[Sweep, Sequence[tuple[str, Sweep]]], Figure]
Rows = dict[str, dict[int, Mapping[str, Any]]]
"""Rows of a sweep by path and size."""

FOLDER = Path(__file__).parent
STYLE = (FOLDER / "style.css").read_text()
"""The style sheet; put what it styles into an element of class ``tl-studio``."""
TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.globals["LATER"] = plots.LATER
HTML: Any = TEMPLATES.get_template("views.html.jinja").module
"""A function for each macro of the template."""
READY = "Ready: press Build, or Enter in an entry."
EMPTY = '<p class="tl-empty">Nothing is built yet. Choose min, opt and max, and press Build.</p>'
VERY_WIDE = 4.0
"""Upper over lower end of an interval above which its numbers say nothing: two rounds that differ, for instance."""
TEXTS = ("input", "typed", "real min/opt/max", "opt from", "when")
"""Columns of the table of engines that are aligned to the left."""


def figure(result: Result, pinned: Pinned = ()) -> Figure | None:
    """Latency and agreement, with the pinned results behind; None if nothing could be measured."""
    return plots.panel(result.sweep, _sweeps(pinned)) if result.sweep else None


def charts(result: Result, pinned: Pinned = ()) -> list[Figure]:
    """The same as two figures, which stand below each other where the page is narrow."""
    return _each((plots.latency, plots.agreement), result, pinned)


def more(result: Result, pinned: Pinned = ()) -> list[Figure]:
    """Speedup (throughput, where nothing is compiled) and build time, with the pinned results behind."""
    compiled = result.sweep is not None and set(result.sweep.table["path"]) != {EAGER}
    return _each((plots.speedup if compiled else plots.throughput, plots.build_time), result, pinned)


def _each(draws: Sequence[Draw], result: Result, pinned: Pinned) -> list[Figure]:
    return [draw(result.sweep, _sweeps(pinned)) for draw in draws] if result.sweep else []


def _sweeps(pinned: Pinned) -> list[tuple[str, Sweep]]:
    return [(label, result.sweep) for label, result in pinned if result.sweep]


def image(figure: Figure, alt: str) -> str:
    """A figure as an ``<img>`` that needs no other file."""
    content = base64.b64encode(plots.svg(figure).encode()).decode()
    return str(HTML.image(content, alt, round(96 * figure.get_figwidth())))


def images(figures: Sequence[Figure], alt: str) -> str:
    """Figures side by side, or below each other where there is no room; `alt` is the text of the first."""
    texts = [alt, *map(plots.describe, figures[1:])]
    return str(HTML.charts([image(figure, text) for figure, text in zip(figures, texts, strict=False)]))


def alt(result: Result) -> str:
    """What the figure shows, in words and numbers."""
    if result.sweep is None:
        return f"Nothing is measured of {result.setting}."
    table, name = result.sweep.table, _dim(result.sweep)["name"]
    text = f"Latency and agreement over {name} of {plots.subtitle(result.sweep)}."
    compiled = table[table["path"] != EAGER]
    if compiled.empty:
        return text
    best = compiled.loc[compiled["speedup"].idxmax()]
    text += f" Best speedup over eager: {best['speedup']:.2f} times, {best['path']} at {name} {best[name]}"
    errors = compiled["ratio"].astype(float).dropna()
    if errors.empty:
        return f"{text}; agreement is {plots.LATER}."
    worst = compiled.loc[errors.idxmax()]
    return f"{text}; largest error: {worst['ratio']:.2f} times eager's own, {worst['path']} at {name} {worst[name]}."


def table(result: Result, pinned: Pinned = ()) -> str:
    """All numbers of the figure: a row for each size, and a faint one for each pinned result that has it."""
    if result.sweep is None:
        yet = "" if result.final else " yet"
        return f'<p class="tl-status">Nothing is measured{yet}.</p>{_failures(result)}'
    dim, rows = _dim(result.sweep), _rows(result.sweep)
    behind = [
        (label, run, _rows(run.sweep)) for label, run in pinned if run.sweep and _dim(run.sweep)["name"] == dim["name"]
    ]
    everything = [rows, *(pinned_rows for _, _, pinned_rows in behind)]
    paths = list(dict.fromkeys(path for each in everything for path in each if path != EAGER))
    lines = []
    for size in sorted({size for each in everything for size in each[EAGER]}):
        if size in rows[EAGER]:
            lines.append(_line(f"{size} (opt)" if size == dim["opt"] else f"{size}", rows, size, paths))
        for label, run, pinned_rows in behind:
            if size in pinned_rows[EAGER]:
                letter = label.partition(": ")[0]  # the caption has the whole label
                short = f"{letter}, recorded" if run.recorded else letter
                newer = rows if run.setting.model == result.setting.model else {}
                text = short if size in rows[EAGER] else f"{size} · {short}"
                lines.append(_line(text, pinned_rows, size, paths, newer) | {"pinned": True})
    caption = _caption(result, [label for label, *_ in behind])
    return str(HTML.numbers(dim["name"], caption, paths, lines)) + _failures(result)


def _dim(sweep: Sweep) -> dict[str, Any]:
    return sweep.provenance["dims"][0]


def _rows(sweep: Sweep) -> Rows:
    name, rows = _dim(sweep)["name"], Rows()
    for row in sweep.table.to_dict("records"):
        rows.setdefault(row["path"], {})[int(row[name])] = row
    return rows


def _caption(result: Result, behind: Sequence[str]) -> str:
    assert result.sweep is not None
    text = f"{plots.subtitle(result.sweep)}. Medians in ms; point at one for its 10th to 90th percentile."
    if certainty := result.sweep.certainty:
        text += f" Under medians and speedups stands between which values the true one lies. {certainty}"
    if not result.final:
        text += " Measuring goes on." if certainty else " A first look, until all is built: one sample of each."
    if result.sweep.table["warning"].map(bool, na_action="ignore").any():
        text += " A * marks one to distrust; pointing says why."
    if behind:
        text += f" Faint rows are other results ({'; '.join(behind)}); bold, such as 0.52x, is the time above over"
        text += " theirs, each as a multiple of eager's in its own run."
    return text


def _line(label: str, rows: Rows, size: int, paths: Sequence[str], newer: Rows | None = None) -> dict[str, Any]:
    """One row of the table; with a ratio to the same cell of `newer`, where there is one."""
    cells = []
    for path in (EAGER, *paths):
        row, new = rows.get(path, {}).get(size), (newer or {}).get(path, {}).get(size)
        cells.append(None if row is None else _cell(row, new))
    return {"label": label, "pinned": False, "eager": cells[0], "compiled": cells[1:]}


def _cell(row: Mapping[str, Any], newer: Mapping[str, Any] | None) -> dict[str, Any]:
    warning = row["warning"] if isinstance(row.get("warning"), str) else ""
    title, ratio = f"{_ms(row['p10_ms'])} to {_ms(row['p90_ms'])} ms", ""
    if newer and row["path"] != EAGER:
        # Both in units of eager's time beside them: the machine may have become slower between the two runs.
        ratio = f"{row['speedup'] / newer['speedup']:.2f}x"
    return {
        "interval": _interval(row, "low_ms", "high_ms", _ms),
        "speedup_interval": _interval(row, "speedup_low", "speedup_high", "{:.2f}".format),
        "median": f"{_ms(row['median_ms'])}*" if warning else _ms(row["median_ms"]),
        "title": f"{title}; {warning}" if warning else title,
        "ratio": ratio,
        "speedup": f"{row['speedup']:.2f}x",
        "error": "" if pd.isna(row["ratio"]) else f"{row['ratio']:.2f}x",
        "agrees": row["agrees"],
    }


def _interval(row: Mapping[str, Any], low: str, high: str, write: Callable[[float], str]) -> str:
    """The interval of a median; empty where there is none: after one round, and in files that have none."""
    if pd.isna(row.get(low)):
        return ""
    if row[high] > VERY_WIDE * row[low]:
        return "very wide"
    return f"{write(row[low])} – {write(row[high])}"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3f}" if milliseconds < 100 else f"{milliseconds:.1f}"


def _failures(result: Result) -> str:
    return "".join(str(HTML.failure(path, why)) for path, why in result.failures.items())


def built(result: Result) -> str:
    """What was really built, path by path: engines with their real ranges, and notes."""
    html = "".join(_build(build) for build in result.builds) + _failures(result)
    return html or '<p class="tl-status">Nothing is built.</p>'


def _build(build: Build) -> str:
    count = f"{len(build.engines)} engine{'s' if len(build.engines) != 1 else ''}"
    head = f"{build.path}: {count} by {build.backend} in {build.seconds:.1f} s"
    if build.artefact_bytes is not None:
        head += f", {_mb(build.artefact_bytes)}"
    facts = [f"note: {note}" for note in build.notes]
    if build.left_to_pytorch:
        facts.insert(0, f"left to PyTorch: {', '.join(build.left_to_pytorch)}")
    if build.reused:
        facts.insert(0, f"reused: {build.reused}")
    rows, columns = engine_rows(build.engines, {})
    return str(HTML.engines(head, columns, rows, facts))


def engine_rows(engines: Sequence[Engine], typed: Mapping[str, str]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """A row for each input that is no weight, the model's own first; and the columns with the side they are aligned to.

    `typed` has the range that was typed for an input. Empty columns are left out.
    """
    rows: list[dict[str, str]] = []
    for number, engine in enumerate(engines, start=1):
        inputs = sorted((each for each in engine.inputs if each.kind != "weight"), key=lambda each: each.kind != "data")
        weights = len(engine.inputs) - len(inputs)
        of_engine = {
            "activation memory": show_activation(engine.plan) if engine.plan else "",
            "weights in the plan": show_bytes(engine.plan.weight_bytes) if engine.plan else "",
            "plan": show_bytes(engine.plan.plan_bytes) if engine.plan else "",
            "opt from": engine.opt_source,
            "operators": str(engine.operators),
            "seconds": f"{engine.seconds:.2f}" if engine.seconds else "",
            "size": "" if engine.engine_bytes is None or engine.plan else _mb(engine.engine_bytes),
            "weights as inputs": str(weights) if weights else "",
            "when": "after the build, by a call" if engine.after_build else "",
        }
        for each in inputs:
            of_input = {
                "engine": str(number),
                "input": each.name if each.kind == "data" else f"{each.name} ({each.kind})",
                "typed": typed.get(each.name, ""),
                "real min/opt/max": f"{shape(each)} {each.dtype}",
            }
            rows.append(of_input | (of_engine if each is inputs[0] else dict.fromkeys(of_engine, "")))
    names = [name for name in (rows[0] if rows else ()) if any(row[name] for row in rows)]
    return rows, {name: "text" if name in TEXTS else "number" for name in names}


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def seconds(result: Result) -> str:
    """Where the time went, on one line."""
    reused = {f"build {build.path}": f" (reused: {build.reused})" for build in result.builds if build.reused}
    parts = [f"{name} {_s(value)}{reused.get(name, '')}" for name, value in result.seconds.items()]
    total = f"; total {_s(math.fsum(result.seconds.values()))}" if parts else ""
    return escape(", ".join(parts) + total, quote=False)


def _s(value: float) -> str:
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def answers(questions: Sequence[Sequence[Answer]]) -> str:
    """What the paths did with the sizes that they were asked for, the latest question first."""
    return str(HTML.answers(questions))


def status(
    text: str, share: float | None = None, seconds: float | None = None, details: str = "", aloud: bool = True
) -> str:
    """The status line: what is being done, which share of it is done, and for how long; details on demand.

    A screen reader reads the text out, never the clock; with `aloud` False, where only the clock is new, nothing.
    """
    return str(HTML.status(text, share, seconds, details, aloud))


def problem(sentence: str) -> str:
    """What is wrong with the setting, as a sentence that a screen reader reads out."""
    return str(HTML.problem(sentence)).strip()


def stale(result: Result, running: bool) -> str:
    """The mark of results that belong to another setting than the one in the panel."""
    return str(HTML.stale(result.label, running))
