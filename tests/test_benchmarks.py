"""What the README says of the benchmarks is what they found, as benchmarks/recorded/ keeps it."""

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


def test_what_the_readme_concludes_follows_from_what_was_recorded():
    text = " ".join(README.split())

    def behind(programs, among=("expand-reshape", "vit")):
        worst = max(
            row[program] / min(row["ONNX Runtime"], row["OpenVINO"])
            for (file, model, _), row in MEASURED.items()
            for program in programs
            if file == "cpu.json" and model in among
        )
        return f"{100 * (worst - 1):.0f} %"

    assert f"ahead-of-time paths take up to {behind(['input', 'export'])} longer by default" in text
    assert f"`jit` up to {behind(['jit'])}" in text
    assert f"*Tuned* has both and is up to {behind(['tuned'], ['vit'])} behind" in text
    build = RECORDED["cpu.json"]["models"][1]["build_seconds"]
    assert f"({build['tuned']} s, not {build['export']} s)" in text

    gpu = {batch: MEASURED["h100_tuned.json", "expand-reshape", batch] for batch in (1, 16, 64, 256)}
    assert {f"{gpu[batch][path]:.2f}" for batch in (16, 64, 256) for path in ("jit", "input", "export")} == {"1.03"}
    assert "our paths take 3 % longer than the product alone" in text
    assert min(gpu[1]["jit"], gpu[1]["torch.compile"]) > 1.5 * gpu[1]["eager"]
    vit = MEASURED["h100.json", "vit", 1]
    assert f"takes {vit['export']:.2f} of the time of static `torch.compile`" in text
    assert f"({vit['graph']:.2f} for `vit`)" in text
    for found in (vit, gpu[1]):
        assert found["graph"] == min(value for name, value in found.items() if name != "limit, ms")
    large = gpu[256]
    assert f"({100 * (large['graph'] / large['export'] - 1):.0f} % for `expand-reshape` at 256)" in text
    on_cpu = MEASURED["cpu.json", "expand-reshape", 32]
    assert f"takes {100 * (on_cpu['tuned'] / on_cpu['export'] - 1):.0f} % longer than with plain `export`" in text
    assert f"{100 * (large['tuned'] / large['export'] - 1):.0f} % longer at 256 on the H100" in text
    guards = [RECORDED[file]["guard_us"] for file in ("cpu.json", "h100_tuned.json")]
    assert f"takes {guards[0]:.1f} microseconds for a call on this CPU, and {guards[1]:.1f} on the H100" in text
