"""Results as figures, tables and sentences: pure functions to HTML, without widgets.

A result and the earlier ones that are pinned stand side by side everywhere: in the figure as faint lines, in the
table as faint rows. All that comes from a user or a library is escaped.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from tutorial_lib.builds.report import Build, Engine
from tutorial_lib.engines import EngineReport
from tutorial_lib.engines.report import plan_lines, shape
from tutorial_lib.experiments.result import Failure, Result
from tutorial_lib.figures import plots
from tutorial_lib.measure.sweep import EAGER, Sweep

Pinned = Sequence[tuple[str, Result]]
"""Earlier results with the labels that they were pinned under."""
Cells = dict[str, dict[int, Mapping[str, Any]]]
"""Rows of a sweep by path and size."""

MISSING = "–"
NUMBERS = {"engine", "operators", "seconds", "size", "weights as inputs"}
LATER = f'<span title="{plots.LATER}">…</span>'

STYLE = """
.tl-studio { color: var(--jp-ui-font-color1, #222); font-size: 13px; line-height: 1.4; }
.tl-studio img { display: block; height: auto; background: #fff; border-radius: 3px; }
.tl-studio img.tl-stale, .tl-studio .tl-stale img { filter: grayscale(1); opacity: 0.45; }
.tl-studio .tl-scroll { overflow-x: auto; }
.tl-studio table.tl-table { border-collapse: collapse; font-size: 12px; margin: 4px 0 8px; color: inherit; }
.tl-studio .tl-table caption { text-align: left; padding: 2px 0 4px; color: var(--jp-ui-font-color2, #555); }
.tl-studio .tl-table tr { background: transparent; }
.tl-studio .tl-table th, .tl-studio .tl-table td {
  padding: 2px 4px; text-align: right; vertical-align: baseline; white-space: nowrap;
  font-variant-numeric: tabular-nums; border: 0; border-bottom: 1px solid var(--jp-border-color2, #ddd); }
.tl-studio .tl-table th { font-weight: 600; }
.tl-studio .tl-table thead th { vertical-align: bottom; white-space: normal; }
.tl-studio .tl-table thead th[scope=colgroup] { text-align: center; }
.tl-studio .tl-table .tl-first { border-left: 1px solid var(--jp-border-color1, #bbb); }
.tl-studio .tl-table .tl-text { text-align: left; white-space: normal; }
.tl-studio .tl-table .tl-number { text-align: right; }
.tl-studio .tl-answers th, .tl-studio .tl-answers td { text-align: left; white-space: normal; }
.tl-studio .tl-table tr.tl-pin th, .tl-studio .tl-table tr.tl-pin td {
  color: var(--jp-ui-font-color2, #666); font-size: 11px; font-weight: 400; }
.tl-studio .tl-table tr.tl-pin th { white-space: normal; min-width: 105px; }
.tl-studio .tl-ratio { display: block; color: var(--jp-ui-font-color1, #222); font-weight: 600; }
.tl-studio .tl-no { font-weight: 700; color: var(--jp-error-color0, #b00020); }
.tl-studio h4.tl-head { font-size: 13px; margin: 10px 0 2px; color: inherit; }
.tl-studio ul.tl-list { margin: 0 0 6px; padding-left: 20px; }
.tl-studio .tl-problem { border-left: 4px solid var(--jp-warn-color1, #c77700); padding: 2px 8px; margin: 4px 0; }
.tl-studio .tl-failed { border-left-color: var(--jp-error-color1, #c62828); }
.tl-studio .tl-status { color: var(--jp-ui-font-color1, #222); font-variant-numeric: tabular-nums; }
.tl-studio .tl-stale-note, .tl-studio .tl-empty { font-style: italic; color: var(--jp-ui-font-color2, #555); }
.tl-studio pre.tl-traceback { max-height: 260px; overflow: auto; font-size: 11px; white-space: pre-wrap; }
"""
"""The style sheet, with JupyterLab's colours where there are any; put what it styles into class ``tl-studio``."""


def figure(result: Result, pinned: Pinned = ()) -> Figure | None:
    """Latency and agreement, with the pinned results behind; None if nothing could be measured."""
    return None if result.sweep is None else plots.panel(result.sweep, _behind(pinned))


def more(result: Result, pinned: Pinned = ()) -> Figure | None:
    """Speedup and build time, with the pinned results behind; None if nothing could be measured."""
    return None if result.sweep is None else plots.panel_more(result.sweep, _behind(pinned))


def _behind(pinned: Pinned) -> list[tuple[str, Sweep]]:
    return [(label, result.sweep) for label, result in pinned if result.sweep is not None]


def alt(result: Result) -> str:
    """What the figure shows, in words and numbers."""
    if result.sweep is None:
        return f"Nothing is measured of {result.setting}."
    table, about = result.sweep.table, plots.subtitle(result.sweep)
    name = result.sweep.provenance["dims"][0]["name"]
    compiled = table[table["path"] != EAGER]
    said = [f"Latency and agreement over {name} of {about}."]
    if len(compiled):
        best = compiled.loc[compiled["speedup"].idxmax()]
        said.append(f"Best speedup over eager: {best['speedup']:.2f} times, {best['path']} at {name} {best[name]}")
    ratios = compiled["ratio"].astype(float).dropna()
    if len(ratios):
        worst = compiled.loc[ratios.idxmax()]
        said[-1] += f"; largest error: {worst['ratio']:.2f} times eager's own, {worst['path']} at {name} {worst[name]}"
    elif len(compiled):
        said[-1] += f"; agreement is {plots.LATER}"
    return " ".join(said) + ("" if said[-1].endswith(".") else ".")


def image(figure: Figure, alt: str, stale: bool = False) -> str:
    """A figure as an ``<img>`` that needs nothing else, greyed if it is of an earlier setting."""
    content = base64.b64encode(plots.svg(figure).encode()).decode()
    width = round(96 * figure.get_figwidth())
    return (
        f'<img alt="{escape(alt)}" class="{"tl-stale" if stale else "tl-figure"}" '
        f'style="width: 100%; max-width: {width}px" src="data:image/svg+xml;base64,{content}">'
    )


def table(result: Result, pinned: Pinned = ()) -> str:
    """All numbers of the figure, one row for each size, and a faint one below it for each pinned result."""
    return _numbers(result, pinned) + "".join(_failed(path, why) for path, why in result.failures.items())


def _numbers(result: Result, pinned: Pinned) -> str:
    if result.sweep is None:
        return '<p class="tl-status">Nothing is measured.</p>'
    dim = result.sweep.provenance["dims"][0]
    behind = [(label, run, _cells(run.sweep)) for label, run in pinned if _comparable(result, run) and run.sweep]
    cells = _cells(result.sweep)
    paths = [p for p in dict.fromkeys(p for found in (cells, *(c for *_, c in behind)) for p in found) if p != EAGER]
    body = []
    for size in sorted({size for found in (cells, *(c for *_, c in behind)) for size in found[EAGER]}):
        here = size in cells[EAGER]
        body += [_row(f"{size}{' (opt)' * (size == dim['opt'])}", cells, size, paths)] if here else []
        for label, run, found in behind:
            if size in found[EAGER]:
                now = cells if run.setting.model == result.setting.model else {}
                short = label.partition(": ")[0] + ", recorded" * bool(run.recorded)  # the caption has the rest
                body.append(_row(short if here else f"{size} · {short}", found, size, paths, now, pin=True))
    return (
        f'<div class="tl-scroll"><table class="tl-table">{_caption(result, [label for label, *_ in behind])}'
        f"{_head(dim['name'], paths)}<tbody>{''.join(body)}</tbody></table></div>"
    )


def _comparable(result: Result, run: Result) -> bool:
    names = [one.sweep.provenance["dims"][0]["name"] for one in (result, run) if one.sweep]
    return len(names) == 2 and names[0] == names[1]


def _cells(sweep: Sweep | None) -> Cells:
    found: Cells = {EAGER: {}}
    if sweep is not None:
        name = sweep.provenance["dims"][0]["name"]
        for row in sweep.table.to_dict("records"):
            found.setdefault(row["path"], {})[int(row[name])] = row
    return found


def _caption(result: Result, behind: Sequence[str]) -> str:
    assert result.sweep is not None
    text = f"{plots.subtitle(result.sweep)}. Medians in ms; point at one for its 10th to 90th percentile."
    text += "" if result.final else " A first look, until all is built: one sample of each."
    if result.sweep.table["warning"].map(bool, na_action="ignore").any():
        text += " A * marks one to distrust; pointing says why."
    if behind:
        text += f" Faint rows are pinned results ({'; '.join(behind)}); bold, such as 0.52x, is the time above over"
        text += " theirs, each as a multiple of eager's in its own run."
    return f"<caption>{escape(text)}</caption>"


def _head(dim: str, paths: Sequence[str]) -> str:
    groups = "".join(f'<th scope="colgroup" colspan="4" class="tl-first">{escape(path)}</th>' for path in paths)
    each = '<th scope="col" class="tl-first">ms</th><th scope="col">speed&shy;up</th>'
    each += '<th scope="col">error / eager’s</th><th scope="col">agrees</th>'
    return (
        f'<thead><tr><th scope="col" rowspan="2">{escape(dim)}</th>'
        f'<th scope="col" rowspan="2" class="tl-first">eager ms</th>{groups}</tr><tr>{each * len(paths)}</tr></thead>'
    )


def _row(label: str, cells: Cells, size: int, paths: Sequence[str], now: Cells | None = None, pin: bool = False) -> str:
    found = [cells.get(path, {}).get(size) for path in (EAGER, *paths)]
    newer = [(now or {}).get(path, {}).get(size) for path in (EAGER, *paths)]
    parts = [f'<th scope="row">{escape(label)}</th>']
    for number, (row, new) in enumerate(zip(found, newer, strict=True)):
        parts.append(_median(row, new))
        if number:
            parts += [f"<td>{text}</td>" for text in _judged(row)]
    return f'<tr class="tl-pin">{"".join(parts)}</tr>' if pin else f"<tr>{''.join(parts)}</tr>"


def _median(row: Mapping[str, Any] | None, newer: Mapping[str, Any] | None) -> str:
    if row is None:
        return f'<td class="tl-first">{MISSING}</td>'
    title = f"{_ms(row['p10_ms'])} to {_ms(row['p90_ms'])} ms"
    warning = row.get("warning")
    warned = isinstance(warning, str) and bool(warning)
    title += f"; {warning}" if warned else ""
    # Both in units of eager's time beside them: the machine may have become slower between the two runs.
    ratio = ""
    if newer and row["path"] != EAGER:
        ratio = f'<span class="tl-ratio">{row["speedup"] / newer["speedup"]:.2f}x</span>'
    text = f"{_ms(row['median_ms'])}{'*' if warned else ''}"
    return f'<td class="tl-first" title="{escape(title)}">{text}{ratio}</td>'


def _judged(row: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if row is None:
        return MISSING, MISSING, MISSING
    if pd.isna(row["ratio"]):
        return f"{row['speedup']:.2f}x", LATER, LATER
    agrees = "yes" if row["agrees"] else '<strong class="tl-no">NO</strong>'
    return f"{row['speedup']:.2f}x", f"{row['ratio']:.2f}x", agrees


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 100 else f"{value:.1f}"


def _failed(path: str, why: Failure) -> str:
    return (
        f'<div class="tl-problem tl-failed"><strong>{escape(path)} was not built:</strong> {escape(why.sentence)}'
        f'<details><summary>Traceback</summary><pre class="tl-traceback">{escape(why.details)}</pre></details></div>'
    )


def built(result: Result) -> str:
    """What was really built, path by path: engines with their real ranges, and what else there is to know."""
    blocks = [_build(build) for build in result.builds]
    blocks += [_failed(path, why) for path, why in result.failures.items()]
    return "".join(blocks) or '<p class="tl-status">Nothing is built.</p>'


def _build(build: Build) -> str:
    count = f"{len(build.engines)} engine{'s' if len(build.engines) != 1 else ''}"
    head = f"{build.path}: {count} by {build.backend} in {build.seconds:.1f} s"
    head += "" if build.artefact_bytes is None else f", {_mb(build.artefact_bytes)}"
    facts = [f"reused: {build.reused}"] if build.reused else []
    facts += [f"left to PyTorch: {', '.join(build.left_to_pytorch)}"] if build.left_to_pytorch else []
    return _block(head, build.engines, [*facts, *(f"note: {note}" for note in build.notes)])


def engine_reports(reports: Iterable[EngineReport]) -> str:
    """The engines that TensorRT for RTX built, in the same form."""
    return "".join(_engine_report(report) for report in reports)


def _engine_report(report: EngineReport) -> str:
    facts = [f"the build failed: {report.failed}"] if report.failed else []
    facts += [f"TensorRT's log: {line}" for line in report.log if line not in (report.failed or "")]
    for number, engine in enumerate(report.engines, start=1):
        facts += [f"engine {number}: {line}" for line in plan_lines(engine.plan)] if engine.plan else []
    facts += [f"left to PyTorch: {', '.join(report.left_to_pytorch)}"] if report.left_to_pytorch else []
    facts += [*(f"call {call}" for call in report.calls), *(f"note: {note}" for note in report.notes)]
    typed = {i.name: shape(i) for i in report.requested}
    return _block(report.title, report.engines, facts, typed)


def _block(head: str, engines: Sequence[Engine], facts: Sequence[str], typed: Mapping[str, str] | None = None) -> str:
    listed = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    listed = f'<ul class="tl-list">{listed}</ul>' if listed else ""
    return f'<h4 class="tl-head">{escape(head)}</h4>{_engines(head, engines, typed or {})}{listed}'


def _engines(head: str, engines: Sequence[Engine], typed: Mapping[str, str]) -> str:
    """One row for each input that is not a weight, the model's own first; columns without content are left out."""
    rows: list[dict[str, str]] = []
    for number, engine in enumerate(engines, start=1):
        inputs = sorted((one for one in engine.inputs if one.kind != "weight"), key=lambda one: one.kind != "data")
        weights = len(engine.inputs) - len(inputs)
        whole = {
            "opt from": engine.opt_source,
            "operators": str(engine.operators),
            "seconds": f"{engine.seconds:.2f}" if engine.seconds else "",
            "size": "" if engine.engine_bytes is None else _mb(engine.engine_bytes),
            "weights as inputs": str(weights) if weights else "",
            "when": "after the build, by a call" if engine.after_build else "",
        }
        for place, one in enumerate(inputs):
            kind = "" if one.kind == "data" else f" ({one.kind})"
            own = {"engine": str(number), "input": f"{one.name}{kind}", "typed": typed.get(one.name, "")}
            own["real min/opt/max"] = f"{shape(one)} {one.dtype}"
            rows.append({**own, **(whole if place == 0 else {})})
    return _plain_table(head, rows)


def _plain_table(label: str, rows: Sequence[Mapping[str, str]]) -> str:
    columns = [name for name in dict.fromkeys(n for row in rows for n in row) if any(row.get(name) for row in rows)]
    if not columns:
        return ""
    side = {name: "tl-number" if name in NUMBERS else "tl-text" for name in columns}
    head = "".join(f'<th scope="col" class="{side[name]}">{escape(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f'<td class="{side[name]}">{escape(row.get(name, ""))}</td>' for name in columns) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="tl-scroll"><table class="tl-table" aria-label="{escape(label)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


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
