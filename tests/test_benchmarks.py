"""The tables of the README are what the benchmarks found, as benchmarks/recorded/ keeps it."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RECORDED = {file.name: json.loads(file.read_text()) for file in sorted((ROOT / "benchmarks/recorded").glob("*.json"))}
MEASURED = {
    (file, found["model"], row["batch"]): {"limit, ms": row["limit_ms"], **row["ratios"]}
    for file, content in RECORDED.items()
    for found in content["models"]
    for row in found["rows"]
}
"""The limit in ms, and how many times that each program took, by file, model and batch."""
README = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Benchmarks\n")[2].partition("\n## ")[0]


def table(file: str) -> list[list[str]]:
    """The cells of the first table after the README's link to a file."""
    lines = README.partition(f"(benchmarks/recorded/{file})")[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    cells = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip(" `") for cell in line.strip("|").split("|")])
    return cells


@pytest.mark.parametrize("files", [{"": "cpu.json"}, {"": "h100_tuned.json", "vit": "h100.json"}], ids=["cpu", "h100"])
def test_the_tables_of_the_readme_are_what_was_recorded(files):
    (_, _, *names), _, *rows = table(files[""])
    assert len(rows) >= 6
    model = ""
    for first, batch, *cells in rows:
        model = first or model
        found = MEASURED[files.get(model, files[""]), model, int(batch)]
        written = {name: f"{value:.{3 if name == 'limit, ms' else 2}f}" for name, value in found.items()}
        assert cells == [written.get(name, "") for name in names]


@pytest.mark.parametrize("file", RECORDED)
def test_a_recorded_benchmark_says_what_it_was_measured_on_and_by_which_command(file):
    about = RECORDED[file]
    assert re.match(rf"python benchmarks/paths.py .*--json benchmarks/recorded/{file}$", about["command"])
    assert about["device"] == about["conditions"]["device"]
    assert about["conditions"]["samples"] >= 10
    assert {"python", "torch"} <= about["versions"].keys()
    assert ("driver" in about["conditions"]) == ("cuda" in about["versions"])
    assert "tensorrt" not in about["versions"]
