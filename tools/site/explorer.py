"""The page where one drags min, opt and max without a kernel: what was recorded, and charts that need no network.

Engines come from ``benchmarks/engines_over_ranges.py``, which has TensorRT for RTX build them; latency and agreement
from ``notebooks/recorded/h100.json``. The page holds both, and the whole of Vega, so that it works from a file.
"""

import json
from collections.abc import Collection
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).parents[2]
ENGINES = ROOT / "benchmarks/recorded/engines_over_ranges.json"
LATENCY = ROOT / "notebooks/recorded/h100.json"
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
COLORS = {"eager PyTorch": "#444444", "jit": "#0072B2", "input": "#D55E00", "export": "#009E73"}
SHAPES = {"eager PyTorch": "cross", "jit": "circle", "input": "square", "export": "triangle-up"}
PATHS = ("jit", "input", "export")
MB = 1e6


def engines() -> dict[str, Any]:
    """By model and range, the engines of each path; sentences are written once and named by their index."""
    recorded = json.loads(ENGINES.read_text(encoding="utf-8"))
    sentences: dict[str, int] = {}

    def index(sentence: str) -> int:
        return sentences.setdefault(sentence, len(sentences))

    models = {}
    for model, entry in recorded["models_over_ranges"].items():
        ranges = {}
        for name, paths in entry["ranges"].items():
            assert not any(paths[path]["failed"] for path in PATHS), (model, name)
            ranges[name] = [
                [[_engine(each) for each in paths[path]["engines"]], [*map(index, paths[path]["notes"])]]
                for path in PATHS
            ]
        layers = [[*map(index, names)] for names in entry["layers"]]
        models[model] = {
            "dimension": entry["dimension"],
            "sizes": complete_sizes(entry["ranges"]),
            "layers": layers,
            "ranges": ranges,
        }
    return {"models": models, "sentences": list(sentences), "versions": recorded["versions"]}


def complete_sizes(names: Collection[str]) -> list[int]:
    """The sizes, from the smallest on, of which every (min, opt, max) was built."""
    sizes: list[int] = []
    for size in sorted({int(size) for name in names for size in name.split("/")}):
        if all("/".join(map(str, each)) in names for each in combinations_with_replacement([*sizes, size], 3)):
            sizes.append(size)
    return sizes


def _engine(engine: dict[str, Any]) -> list[Any]:
    """Min, opt and max of the dynamic input, activation MB, plan MB, layers of the network, index of the plan's."""
    (sizes,) = engine["inputs"].values()
    megabytes = (round(engine[name] / MB, 2) for name in ("activation_bytes", "plan_bytes"))
    return [*sizes, *megabytes, engine["network_layers"], engine["layers"]]


def curves(models: dict[str, Any]) -> dict[str, Any]:
    """Median latency and agreement by model and precision, of the programs that were measured on a GPU."""
    recorded = json.loads(LATENCY.read_text(encoding="utf-8"))
    rows: dict[str, dict[str, list[Any]]] = {}
    built = {}
    for run in recorded["runs"]:
        setting = run["setting"]
        if setting["model"] not in models or setting["backend"] != "inductor":
            continue
        (dim,) = setting["ranges"]
        built[setting["model"]] = f"{dim['min']}/{dim['opt']}/{dim['max']}"
        rows.setdefault(setting["model"], {})[setting["precision"]] = [
            {
                "path": row["path"],
                "size": row[dim["name"]],
                "ms": row["median_ms"],
                "ratio": round(row["ratio"], 3),
                "allowed": round(row["tolerated"], 2),
            }
            for row in run["sweep"]["table"]
        ]
    about = recorded["about"]
    return {
        "rows": rows,
        "built": built,
        "device": about["device"],
        "torch": about["versions"]["torch"],
        "date": about["date"][:10],
    }


def _size_axis(title: str, sizes: tuple[int, ...]) -> Any:
    scale = alt.Scale(type="log", base=2, domain=[sizes[0], sizes[-1]])
    return alt.X("size:Q", title=title, scale=scale, axis=alt.Axis(values=list(sizes), format="d", grid=False))


def _chart(layers: list[Any], title: str) -> dict[str, Any]:
    """A chart as wide as its place, of layers whose data the page puts in."""
    chart = alt.layer(*layers).properties(width="container", height=210, title=title)
    chart = chart.configure_title(anchor="start", fontSize=13, fontWeight=600).configure_view(strokeOpacity=0)
    chart = chart.configure_legend(orient="bottom", title=None, symbolOpacity=1, columns=2).configure_axisY(tickCount=4)
    return chart.configure_axis(titleFontWeight=400).to_dict()


def charts(sizes: tuple[int, ...]) -> dict[str, Any]:
    """Memory over max, latency and agreement over the size, as Vega-Lite, each with the range behind it."""
    x = _size_axis("size", sizes)
    milliseconds = alt.Y("ms:Q", title="median latency, ms", scale=alt.Scale(type="log"))
    error = alt.Y("ratio:Q", title="error, times eager's", scale=alt.Scale(domainMin=0))
    memory = alt.Y("mb:Q", title="activation memory, MB", scale=alt.Scale(type="log"))
    range_data, curves_data = alt.Chart(alt.NamedData("range")), alt.Chart(alt.NamedData("curves"))
    behind = [
        range_data.mark_rect(color="#56B4E9", opacity=0.14).encode(x="min:Q", x2="max:Q"),
        range_data.mark_rule(color="#B87400", strokeDash=[4, 3]).encode(x="opt:Q"),
    ]
    largest = curves_data.mark_line(strokeDash=[2, 2], color="#B00020").encode(x=x, y="allowed:Q")
    allowed = alt.Tooltip("allowed:Q", title="allowed")
    max_axis = _size_axis("max", sizes)
    return {
        "memory": _chart(
            _curves(alt.Chart(alt.NamedData("memory")), max_axis, memory, PATHS), "TensorRT's activation memory"
        ),
        "latency": _chart([*behind, *_curves(curves_data, x, milliseconds, tuple(COLORS))], "Latency on the GPU"),
        "agreement": _chart(
            [*behind, largest, *_curves(curves_data, x, error, tuple(COLORS), allowed)], "Error against float64"
        ),
    }


def _curves(data: Any, x: Any, y: Any, paths: tuple[str, ...], *further: Any) -> list[Any]:
    """A line and a mark at each size for each path, pale outside the range."""
    color = alt.Color("path:N", scale=alt.Scale(domain=list(paths), range=[COLORS[path] for path in paths]))
    shape = alt.Shape("path:N", scale=alt.Scale(domain=list(paths), range=[SHAPES[path] for path in paths]))
    tooltip = [
        alt.Tooltip("path:N"),
        *(alt.Tooltip(axis["shorthand"], title=axis["title"]) for axis in (x, y)),
        *further,
    ]
    return [
        data.mark_line(opacity=0.3).encode(x=x, y=y, color=color),
        data.mark_point(size=70, strokeWidth=1.8).encode(
            x=x,
            y=y,
            color=color,
            shape=shape,
            opacity=alt.condition("datum.inside", alt.value(1.0), alt.value(0.22)),
            tooltip=tooltip,
        ),
    ]


def fragment() -> str:
    """The explorer as a part of a page, with everything inside."""
    recorded = engines()
    models = recorded["models"]
    measured = curves(models)
    sizes = sorted({row["size"] for model in measured["rows"].values() for rows in model.values() for row in rows})
    data = {"engines": recorded, "curves": measured, "charts": charts(tuple(sizes)), "paths": PATHS}
    return TEMPLATES.get_template("explorer.html.jinja").render(
        data=json.dumps(data, separators=(",", ":")).replace("</", "<\\/"),
        vega=vl_convert.javascript_bundle(),
        models=list(models),
        precisions=list(next(iter(measured["rows"].values()))),
    )


def page() -> str:
    """The explorer as a file of its own."""
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Drag min, opt and max</title>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1"></head>'
    return (
        f'{head}{view}<body style="margin:0;padding:1rem;font-family:system-ui,sans-serif">{fragment()}</body></html>\n'
    )
