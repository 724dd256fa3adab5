"""Writes the tables of docs/benchmarks.md again from benchmarks/recorded/.

    python benchmarks/tables.py

Each table stands between two comments that name the files it is made of. A model that several of them have is taken
from the first.
"""

import argparse
import json
import re
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/benchmarks.md"
TABLE = re.compile(r"(<!-- table of (.+) -->\n).*?(<!-- end of \2 -->)", flags=re.DOTALL)
OURS = ("jit", "input", "export", "tuned", "export with openvino", "graph")
PEERS = ("ONNX Runtime", "OpenVINO")
PROGRAMS = ("eager", "torch.compile", *OURS, *PEERS)
CODE = {"torch.compile", "jit", "input", "export"}
STATES, STEPS = ("cold", "new setting", "reused", "new kernel"), ("engines", "first curve", "done")


def paths_table(contents: list[dict[str, Any]]) -> str:
    """What ``paths.py`` recorded: median latency as a multiple of the limit, by model and batch.

    Where peers were measured, the last column has the best of our paths as a multiple of the best of what is not ours.
    """
    models: dict[str, list[dict[str, Any]]] = {}
    for content in contents:
        for entry in content["models"]:
            models.setdefault(entry["model"], entry["rows"])
    measured = {name for rows in models.values() for row in rows for name in row["ratios"]}
    names = [name for name in PROGRAMS if name in measured]
    heads = [f"`{name}`" if name in CODE else name for name in names]
    compared = bool(measured.intersection(PEERS))
    heads += ["best of ours / best of theirs"] if compared else []
    lines = [f"| model | batch | limit, ms | {' | '.join(heads)} |", "|---" * (3 + len(heads)) + "|"]
    for model, rows in models.items():
        for row in rows:
            ratios = [f"{row['ratios'][name]:.2f}" if name in row["ratios"] else "" for name in names]
            ratios += [f"{_behind(row['ratios']):.2f}"] if compared else []
            lines.append(f"| {model} | {row['batch']} | {row['limit_ms']:.3f} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def _behind(ratios: dict[str, float]) -> float:
    ours = min(ratios[name] for name in OURS if name in ratios)
    return ours / min(ratios[name] for name in ("eager", "torch.compile", *PEERS) if name in ratios)


def studio_table(contents: list[dict[str, Any]]) -> str:
    """What ``studio.py`` recorded: medians of all repeats, in seconds."""
    lines = [f"| model | backend | state | {' | '.join(f'{step}, s' for step in STEPS)} | peak MB |"]
    lines.append("|---" * (4 + len(STEPS)) + "|")
    for case in (case for content in contents for case in content["cases"]):
        for state in STATES:
            cells = [case["model"], case["backend"], state]
            for step in STEPS:
                values = [run[state][step] for run in case["runs"] if step in run[state]]
                cells.append(f"{statistics.median(values):.1f}" if values else "")
            peak = statistics.median(run["peak_mb"] for run in case["runs"])
            cells.append(f"{peak:.0f}" if state == STATES[0] else "")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def layouts_table(contents: list[dict[str, Any]]) -> str:
    """What ``layouts.py`` recorded: memory as TensorRT built it, and mean latencies, predicted and replayed."""
    heads = ("layout", "ranges", "memory MB", "plans MB", "predicted ms", "replayed ms", "verdict")
    lines = [f"| traffic | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for each in (each for content in contents for each in content["traffics"]):
        for row in each["layouts"]:
            lines.append(f"| {each['model']}: {each['traffic']} | {' | '.join(str(row[head]) for head in heads)} |")
    return "\n".join(lines)


TABLES = {"models": paths_table, "cases": studio_table, "traffics": layouts_table}
"""By the key of a file that the table is made of."""


def with_tables(text: str) -> str:
    """`text` with every table made of its files again."""

    def write(table: re.Match[str]) -> str:
        contents = [json.loads((ROOT / file).read_text()) for file in table[2].split()]
        (make,) = (table for key, table in TABLES.items() if key in contents[0])
        return f"{table[1]}{make(contents)}\n{table[3]}"

    return TABLE.sub(write, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
