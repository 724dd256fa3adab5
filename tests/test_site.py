"""The documentation as a site, and its page where one drags min, opt and max without a kernel."""

import itertools
import json
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SITE = ROOT / "tools/site"
RECORDED = json.loads((ROOT / "benchmarks/recorded/engines_over_ranges.json").read_text())["models_over_ranges"]


def test_every_recorded_range_has_three_paths_and_what_the_course_says_of_them():
    for model, entry in RECORDED.items():
        for name, paths in entry["ranges"].items():
            assert list(paths) == ["jit", "input", "export"]
            for path in paths.values():
                assert path["failed"] is None
                (sizes,) = path["engines"][0]["inputs"].values()
                assert sizes[0] <= sizes[1] <= sizes[2] == int(name.split("/")[2]), (model, name)
                further = [engine["inputs"] for engine in path["engines"][1:]]
                assert all(sizes == [1, 1, 1] for inputs in further for sizes in inputs.values())
    memory = {name: paths["export"]["engines"][0]["activation_bytes"] for name, paths in reshape().items()}
    assert round(memory["1/4/32"] / 1e6, 1) == 85.7
    by_max = {name.split("/")[2]: bytes_ for name, bytes_ in memory.items() if name.startswith("1/4/")}
    assert sorted(by_max.values()) == [by_max[size] for size in sorted(by_max, key=int)]
    assert reshape()["2/4/32"]["export"]["engines"][0]["inputs"]["x"] == [1, 4, 32]


def reshape():
    return RECORDED["expand-reshape"]["ranges"]


def test_the_instructors_table_has_every_notebook():
    page = (ROOT / "docs/instructor.md").read_text()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"| [{notebook.stem}](../notebooks/{notebook.name}) |" in page, "run `python tools/minutes.py`"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, without a network as far as a proxy that leads nowhere takes it away."""
    for package in ("altair", "furo", "myst_nb", "vl_convert"):
        pytest.importorskip(package, reason="the group `docs` is not installed")
    folder = tmp_path_factory.mktemp("site") / "docs"
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    environment = {**os.environ, **nowhere, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, SITE / "build.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("href", "src") and value]


@pytest.mark.slow
def test_the_site_has_every_page_and_its_links_lead_somewhere(site):
    pages = {file.relative_to(site).with_suffix("").as_posix() for file in site.rglob("*.html")}
    ours = [*(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    assert {file.relative_to(ROOT).with_suffix("").as_posix() for file in ours} | {"index", "api", "explorer"} <= pages
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for link in Links(re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)).links:
            target = link.split("#")[0].split("?")[0]
            if not target or re.match(r"[a-z]+:", target):
                continue
            assert (page.parent / target).exists(), f"{page.relative_to(site)}: {link}"


@pytest.mark.slow
def test_dead_links_inside_fail(site, tmp_path):
    dead = "[dead](nowhere.md) [dead](other.md#no-such-heading) [dead](#nor-this-heading)"
    (tmp_path / "index.md").write_text(f"# Page\n\n{dead}\n\n```{{toctree}}\nother\n```\n")
    (tmp_path / "other.md").write_text("# Other\n\n[alive](index.md#page)\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", SITE, tmp_path, tmp_path / "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode != 0
    assert all(link in done.stderr for link in ("nowhere.md", "no-such-heading", "nor-this-heading"))
    assert "#page" not in done.stderr


@pytest.mark.slow
def test_only_sizes_with_every_range_can_be_set(site, monkeypatch):
    monkeypatch.syspath_prepend(SITE)
    complete_sizes = runpy.run_path(str(SITE / "explorer.py"))["complete_sizes"]
    names = {"/".join(map(str, each)) for each in itertools.combinations_with_replacement([1, 2, 4], 3)}
    assert complete_sizes(names) == [1, 2, 4]
    assert complete_sizes(names - {"1/2/4"}) == [1, 2]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        try:
            browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        except playwright.Error:
            pytest.skip("Chromium is not installed")
        yield browser
        browser.close()


def shown(page):
    """The rows of the table of engines: path, range and activation memory."""
    rows = page.locator(".explorer tbody tr").all_inner_texts()
    return [tuple(row.split("\t")[i] for i in (0, 2, 3)) for row in rows]


def expected(model, name):
    """The same from the recording."""
    rows = []
    for path, built in RECORDED[model]["ranges"][name].items():
        for number, engine in enumerate(built["engines"]):
            ((low, opt, high),) = engine["inputs"].values()
            sizes = f"{low} only" if low == high else f"{low} / {opt} / {high}"
            rows.append(("" if number else path, sizes, round(engine["activation_bytes"] / 1e6, 2)))
    return rows


def assert_shows(page, model, name):
    for seen, recorded in zip(shown(page), expected(model, name), strict=True):
        assert seen[:2] == recorded[:2]
        assert float(seen[2].removesuffix(" MB").replace(",", "")) == pytest.approx(recorded[2], rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["explorer.html", "index.html"])
def test_min_opt_and_max_can_be_dragged_in_a_file_without_a_network(site, browser, width, name):
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    problems, asked = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / name).as_uri())
    page.wait_for_function("document.querySelectorAll('.explorer svg.marks').length === 3")
    assert_shows(page, "expand-reshape", "2/4/32")
    handle, track = page.locator(".handle[data-end=max]"), page.locator(".explorer .track").bounding_box()
    handle.scroll_into_view_if_needed()
    box, track = handle.bounding_box(), page.locator(".explorer .track").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] / 6, box["y"] + 3, steps=6)  # to 2, which pushes opt along
    page.mouse.up()
    assert_shows(page, "expand-reshape", "2/2/2")
    page.locator(".handle[data-end=min]").press("ArrowLeft")
    page.locator(".handle[data-end=max]").press("ArrowRight")
    assert_shows(page, "expand-reshape", "1/2/4")
    page.locator("[data-choice=model]").select_option("perceptron")
    assert_shows(page, "perceptron", "1/2/4")
    assert "not run" in page.locator(".explorer .about").inner_text()
    assert "tokens" in page.locator(".explorer .about").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not problems
    assert all(url.startswith("file:") for url in asked)
    context.close()


@pytest.mark.slow
def test_the_explorer_is_one_file_of_about_a_megabyte(site):
    assert (site / "explorer.html").stat().st_size < 1.3e6
