"""Which engines does TensorRT really build for each min / opt / max, on each path? Built without a GPU, not run.

    python benchmarks/engines_over_ranges.py --json benchmarks/recorded/engines_over_ranges.json

Every range whose ends and opt are among the sizes is built along all three paths, and the real profile, memory and
layers of each engine are written down, without times. The page of the documentation where one drags min, opt and max
shows this file. A file that is there already is gone on with, so an interrupted run loses nothing.
"""

import argparse
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

from tutorial_lib import MODELS, PATHS, engines
from tutorial_lib.core.files import save
from tutorial_lib.engines.report import EngineReport

SIZES = (1, 2, 4, 8, 16, 32, 64)
ONE_DIMENSION = ("expand-reshape", "perceptron", "vit")
"""The models with a single dynamic dimension."""
EVERY_FILES = 10
"""The file is written again after so many ranges."""


def ranges(sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Every (min, opt, max) of `sizes`, by max: a run that is stopped leaves a grid up to some size."""
    return sorted(itertools.combinations_with_replacement(sorted(sizes), 3), key=lambda each: each[::-1])


def engine_rows(report: EngineReport, layers: list[list[str]]) -> dict[str, Any]:
    """What is kept of a report; `layers` has every list of layers so far, and engines name theirs by its index."""
    rows = []
    for engine in report.engines:
        plan = engine.plan
        assert plan is not None
        names = [re.sub(r"^__mye\d+", "__mye", layer.name) for layer in plan.layers]  # their numbers say nothing
        if names not in layers:
            layers.append(names)
        rows.append(
            {
                "inputs": {each.name: [each.min[0], each.opt[0], each.max[0]] for each in engine.data},
                "opt_source": engine.opt_source,
                "activation_bytes": plan.activation_bytes,
                "plan_bytes": plan.plan_bytes,
                "network_layers": plan.network_layers,
                "layers": layers.index(names),
            }
        )
    return {"engines": rows, "notes": list(report.notes), "failed": report.failed}


def write(file: Path, content: dict[str, Any]) -> None:
    """One line for each range, which keeps the file small and its differences readable."""
    about = json.dumps({name: value for name, value in content.items() if name != "models_over_ranges"}, indent=1)
    parts = []
    for model, entry in content["models_over_ranges"].items():
        lines = ",\n".join(
            f"   {json.dumps(name)}: {json.dumps(row, separators=(',', ':'))}" for name, row in entry["ranges"].items()
        )
        rest = {name: value for name, value in entry.items() if name != "ranges"}
        text = json.dumps(rest, separators=(",", ":"))[:-1]
        parts.append(f'  {json.dumps(model)}: {text},"ranges":{{\n{lines}\n  }}}}')
    joined = ",\n".join(parts)
    save(file, f'{about[:-2]},\n "models_over_ranges": {{\n{joined}\n }}\n}}\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(ONE_DIMENSION), choices=ONE_DIMENSION)
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where to keep what was built")
    args = parser.parse_args()
    content: dict[str, Any] = json.loads(args.json.read_text()) if args.json.exists() else {"models_over_ranges": {}}
    content["command"] = f"python benchmarks/engines_over_ranges.py --json {args.json}"
    for model in args.models:
        case = MODELS[model]()
        (dim,) = case.dims
        entry = content["models_over_ranges"].setdefault(model, {"dimension": dim, "layers": [], "ranges": {}})
        missing = [each for each in ranges(tuple(args.sizes)) if "/".join(map(str, each)) not in entry["ranges"]]
        for number, triple in enumerate(missing, start=1):
            reports = engines.build_all(case.with_ranges(**{dim: triple}))
            content["versions"] = reports[0].versions
            rows = {report.path: engine_rows(report, entry["layers"]) for report in reports}
            assert set(rows) == set(PATHS)
            entry["ranges"]["/".join(map(str, triple))] = rows
            print(f"{model} {'/'.join(map(str, triple))}: {number} of {len(missing)}", file=sys.stderr)
            if number % EVERY_FILES == 0 or number == len(missing):
                write(args.json, content)


if __name__ == "__main__":
    main()
