"""The tables of docs/benchmarks.md are what the benchmarks found, as benchmarks/recorded/ keeps it."""

import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tutorial_lib import Studio

ROOT = Path(__file__).parent.parent
CONTENTS = {file.name: json.loads(file.read_text()) for file in sorted((ROOT / "benchmarks/recorded").glob("*.json"))}
RECORDED = {name: content for name, content in CONTENTS.items() if "models" in content}
"""What ``benchmarks/paths.py`` recorded."""
PAGE = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")


@pytest.fixture
def script(monkeypatch):
    """``script(name)``: what is in a file of benchmarks/."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return lambda name: SimpleNamespace(**runpy.run_path(str(ROOT / f"benchmarks/{name}.py")))


@pytest.fixture
def tables(script):
    return script("tables")


def test_the_tables_of_the_page_are_what_was_recorded(tables):
    assert tables.with_tables(PAGE) == PAGE, "run `python benchmarks/tables.py`"
    marked = {file for mark in re.findall(r"<!-- table of (.+) -->", PAGE) for file in mark.split()}
    drawn = [name for name, content in CONTENTS.items() if tables.TABLES.keys() & content.keys()]
    assert marked == {f"benchmarks/recorded/{name}" for name in drawn}


def test_a_table_of_paths_takes_a_model_from_the_first_file_that_has_it(tables):
    def content(model, limit, **ratios):
        return {"models": [{"model": model, "rows": [{"batch": 1, "limit_ms": limit, "ratios": ratios}]}]}

    both = [content("vit", 1.0, jit=1.5, eager=2.0), content("vit", 9.0, jit=9.0), content("mlp", 2.0, graph=0.5)]
    head, _, *rows = tables.paths_table(both).splitlines()
    assert head == "| model | batch | limit, ms | eager | `jit` | graph |"
    assert rows == ["| vit | 1 | 1.000 | 2.00 | 1.50 |  |", "| mlp | 1 | 2.000 |  |  | 0.50 |"]


def test_beside_peers_the_best_of_ours_is_a_multiple_of_the_best_of_theirs(tables):
    ratios = {"eager": 2.0, "export": 1.5, "tuned": 1.2, "ONNX Runtime": 1.8, "OpenVINO": 1.0}
    content = {"models": [{"model": "vit", "rows": [{"batch": 1, "limit_ms": 1.0, "ratios": ratios}]}]}
    head, _, row = tables.paths_table([content]).splitlines()
    assert head.endswith("| OpenVINO | best of ours / best of theirs |")
    assert row.endswith("| 1.00 | 1.20 |")


@pytest.mark.parametrize("file", RECORDED)
def test_a_recorded_benchmark_says_what_it_was_measured_on_and_by_which_command(file):
    about = RECORDED[file]
    assert re.match(rf"python benchmarks/paths.py .*--json benchmarks/recorded/{file}$", about["command"])
    assert about["device"] == about["conditions"]["device"]
    assert about["conditions"]["samples"] >= 10
    assert {"python", "torch"} <= about["versions"].keys()
    assert ("driver" in about["conditions"]) == ("cuda" in about["versions"])
    assert "tensorrt" not in about["versions"]


# ---- the studio -------------------------------------------------------------------------------------------------


def run(seconds, engines=True):
    """A repeat in which every click took so many seconds."""
    steps = {"first curve": seconds / 2, "done": seconds, "parts": {}} | ({"engines": seconds / 4} if engines else {})
    return {**dict.fromkeys(("cold", "new setting", "reused", "new kernel"), steps), "peak_mb": 100 * seconds}


CONTENT = {
    "device": "a CPU",
    "cases": [
        {"model": "vit", "backend": "openvino", "runs": [run(8.0), run(4.0), run(40.0)]},
        {"model": "vit", "backend": "eager", "runs": [run(2.0, engines=False)]},
    ],
}


def test_the_table_of_clicks_has_medians_of_the_repeats_and_leaves_out_what_was_not_reached(tables):
    head, _, cold, *others = tables.studio_table([CONTENT]).splitlines()
    assert head == "| model | backend | state | engines, s | first curve, s | done, s | peak MB |"
    assert cold == "| vit | openvino | cold | 2.0 | 4.0 | 8.0 | 800 |"
    assert others[0] == "| vit | openvino | new setting | 2.0 | 4.0 | 8.0 |  |"
    assert others[3] == "| vit | eager | cold |  | 1.0 | 2.0 | 200 |"
    assert len(others) == 7


def test_runs_go_on_only_with_those_of_the_same_machine_and_versions(script, tmp_path):
    file, common, read = tmp_path / "a.json", {"device": "a CPU", "versions": {"torch": "2"}}, script("studio").read
    assert read(file, common) == {**common, "cases": []}
    file.write_text(json.dumps({**common, **CONTENT}))
    assert read(file, common)["cases"] == CONTENT["cases"]
    with pytest.raises(SystemExit, match="another versions"):
        read(file, {**common, "versions": {"torch": "3"}})


def test_a_click_is_timed_from_its_start_to_engines_first_curve_and_end(script):
    panel, click = Studio(), script("studio").click
    panel.set(model="perceptron", backend="eager", paths=("export",), sizes=(1, 4), samples=1, budget=0, engines=False)
    first, again = click(panel), click(panel)
    panel.close()
    assert set(first) == {"first curve", "done", "parts"}
    assert 0 < first["first curve"] <= first["done"]
    assert {"build export", "measure"} <= set(first["parts"])
    assert again["parts"] == first["parts"], "the result is there already"


@pytest.mark.parametrize("name", [name for name in CONTENTS if "cases" in CONTENTS[name]])
def test_every_recorded_click_was_repeated(name):
    assert all(len(case["runs"]) >= 5 for case in CONTENTS[name]["cases"])


def test_the_page_on_campaigns_says_what_two_gpus_gave(script):
    verdict = script("campaign_gpus").verdict(CONTENTS["campaign_gpus.json"]).splitlines()
    page = (ROOT / "docs/campaigns.md").read_text(encoding="utf-8")
    assert verdict[0].partition("GPUs: ")[2] in page
    assert next(line for line in verdict if line.startswith("Of ")) in page
    assert sum(line.endswith("lost 0, twice 0, failed 0.") for line in verdict) == 2
