"""The notebooks in a real JupyterLab, seen and clicked through a real browser."""

import json
import os
import random
import re
import shutil
import time

import nbformat
import pytest
from test_project import ROOT, serve

from tutorial_lib.engines import install

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET = {  # nothing pops up, and cells outside the window are drawn too
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
IDLE = "window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'"
SMALL = """
from tutorial_lib import expand_reshape
from tutorial_lib.studio import Studio

studio = Studio(expand_reshape(batch=(1, 2, 4), embed_dim=48, tokens=7))
studio.set(backend="eager", samples=1, budget=0)
studio
"""
ENDED = re.compile(r"Done in|Reused")


def quiet_lab(folder, notebooks):
    """Serve `notebooks` in a JupyterLab with settings of its own, kept in `folder`; what it yields says where."""
    for name, value in QUIET.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
    places = {f"JUPYTERLAB_{kind.upper()}_DIR": str(folder / kind) for kind in ("settings", "workspaces")}
    options = ["--ip=127.0.0.1", f"--notebook-dir={notebooks}", "--LabApp.expose_app_in_browser=True"]
    return serve(folder, options, places)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    small = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SMALL.strip())])
    small.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(small, folder / "notebooks" / "small.ipynb")
    studio = nbformat.read(folder / "notebooks" / "03_shape_studio.ipynb", 4)  # nbval runs it whole
    last = max(i for i, cell in enumerate(studio.cells) if cell.source.endswith("studio = Studio()\nstudio"))
    del studio.cells[last + 1 :]
    nbformat.write(studio, folder / "notebooks" / "03_shape_studio.ipynb")
    with quiet_lab(folder, folder / "notebooks") as about:
        yield about


@pytest.fixture
def page():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; install it, or set CHROMIUM to its path")
    playwright.expect.set_options(timeout=60_000)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1280, "height": 1000})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(60_000)
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
        assert not errors


@pytest.fixture
def expect(page):
    from playwright.sync_api import expect

    return expect


def open_notebook(page, lab, name):
    page.goto(f"{lab['url']}doc/tree/{name}.ipynb?token={lab['token']}")
    page.wait_for_function(IDLE)


def no_complaint(page):
    """Neither a traceback nor anything on stderr in the whole notebook."""
    for mime in ("application/vnd.jupyter.stderr", "application/vnd.jupyter.error"):
        assert page.locator(f'[data-mime-type="{mime}"]').all_inner_texts() == []


def watch_for_progress(page):
    """From now on, note whether a progress bar is shown, however short: ``window.progressWasShown``."""
    page.evaluate(
        """() => {
            window.progressWasShown = false;
            new MutationObserver(() => {
                if (document.querySelector('.tl-studio progress')?.offsetParent) window.progressWasShown = true;
            }).observe(document.body, {subtree: true, childList: true, attributes: true});
        }"""
    )


def type_range(panel, low, opt, high, dim="batch"):
    for end, size in (("min", low), ("opt", opt), ("max", high)):
        panel.get_by_label(f"{dim} {end}", exact=True).fill(str(size))


@pytest.mark.slow
def test_the_first_notebook_opens_with_its_figures_and_runs(page, lab):
    open_notebook(page, lab, "01_three_compile_paths")
    figures = page.locator(".jp-RenderedImage img")
    figures.nth(3).wait_for()
    for figure in figures.all():
        assert figure.evaluate("image => image.naturalWidth") > 500
    first = page.locator(".jp-CodeCell").first
    first.locator(".cm-content").click()
    page.evaluate("jupyterapp.commands.execute('notebook:run-cell')")
    page.wait_for_function(IDLE)
    first.locator(".jp-OutputArea-output").get_by_text("This run: backend").wait_for()
    no_complaint(page)


@pytest.mark.slow
def test_the_studio_from_a_typed_range_to_a_copied_script(page, lab, expect):
    open_notebook(page, lab, "03_shape_studio")
    expect(page.get_by_text("The shape studio is shown here while its kernel runs").first).to_be_visible()
    assert page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')") is not False
    page.wait_for_function(IDLE)
    no_complaint(page)

    panel = page.locator(".tl-studio").filter(has=page.get_by_role("button", name="Build", exact=True)).first
    build, cancel = (panel.get_by_role("button", name=name, exact=True) for name in ("Build", "Cancel"))
    status = panel.get_by_role("status").first
    figure = panel.get_by_role("img").first

    panel.get_by_label("model", exact=True).select_option("expand-reshape")
    panel.get_by_label("backend", exact=True).select_option("eager")
    panel.get_by_label("precision", exact=True).select_option("fp32")
    panel.get_by_label("options", exact=True).fill("")
    panel.get_by_label("sizes to measure", exact=True).fill("")
    type_range(panel, 9, 2, 7)
    expect(panel.get_by_role("alert")).to_contain_text("batch: min is 9, above max 7; use 1 <= min <= opt <= max.")
    expect(build).to_be_disabled()

    type_range(panel, 1, 3, 7)
    expect(panel.get_by_role("alert")).to_have_count(0)
    expect(figure).to_have_count(0)
    watch_for_progress(page)
    build.click()
    expect(figure).to_be_visible()  # the first look at eager, while the paths are built
    expect(status).to_contain_text("Done in")
    assert page.evaluate("window.progressWasShown")
    assert "batch 1/3/7" in figure.get_attribute("alt")
    expect(panel.get_by_role("rowheader", name="7", exact=True)).to_be_visible()
    expect(panel.get_by_role("rowheader", name="3 (opt)")).to_be_visible()

    panel.get_by_role("button", name="Pin", exact=True).click()
    expect(panel.get_by_role("button", name="Back to A")).to_be_visible()
    type_range(panel, 1, 5, 9)
    expect(panel.get_by_text("Stale: these results are for 1 / 3 / 7")).to_be_visible()
    before = figure.get_attribute("src")
    panel.get_by_role("button", name="Build from scratch").click()
    expect(cancel).to_be_enabled()
    cancel.click()
    expect(status).to_contain_text("Cancelled.", timeout=5_000)
    expect(panel.get_by_text("Stale: these results are for 1 / 3 / 7")).to_be_visible()
    assert "batch 1/3/7" in figure.get_attribute("alt")

    panel.get_by_label("seconds", exact=True).fill("0")
    build.click()
    expect(figure).not_to_have_attribute("src", before)
    expect(panel.get_by_text("Stale:")).to_have_count(0)
    expect(status).to_contain_text(ENDED)
    expect(panel.get_by_role("rowheader", name="A", exact=True).first).to_be_visible()

    panel.get_by_role("tab", name="Ask for a size").click()
    panel.get_by_label("size", exact=True).fill("33")
    panel.get_by_role("button", name="Ask", exact=True).click()
    refused = panel.get_by_role("row").filter(has_text="batch is 33 on x; this program was built for 1 to 9")
    expect(refused).to_have_count(3)

    panel.get_by_role("tab", name="Take it with you").click()
    panel.get_by_role("button", name="Copy as script").click()
    expect(panel.get_by_text("Copied.")).to_be_visible()
    script = page.evaluate("navigator.clipboard.readText()")
    compile(script, "script", "exec")
    assert "import torch" in script
    assert "tutorial_lib" not in script

    panel.get_by_role("button", name="Back to A").click()
    expect(panel.get_by_label("batch opt", exact=True)).to_have_value("3")
    expect(status).to_contain_text("Reused")
    no_complaint(page)


@pytest.mark.slow
def test_tensorrts_engines_are_built_drawn_over_max_cancelled_and_compared(page, lab, expect):
    if not any(folder.is_dir() for folder in install.folders()):
        pytest.skip("TensorRT for RTX is not installed")
    open_notebook(page, lab, "small")
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    panel = page.locator(".tl-studio").first
    build, cancel, pin, others = (
        panel.get_by_role("button", name=name, exact=True)
        for name in ("Build", "Cancel", "Pin", "Build with other sizes of max")
    )
    status = panel.get_by_role("status").first
    figure = panel.get_by_role("img", name="Activation memory of TensorRT's engines")
    build.wait_for()
    expect(panel.get_by_label("TensorRT's engines (built, not run)")).to_be_checked()
    panel.get_by_role("tab", name="TensorRT engine").click()
    build.click()
    expect(status).to_contain_text(ENDED)
    for path in ("jit", "input", "export"):
        expect(panel.get_by_text(re.compile(f", {path}: built by TensorRT for RTX [0-9.]+, not run"))).to_be_visible()
    panel.get_by_text("Layers of engine 1: ").click()
    expect(panel.get_by_role("img", name=re.compile("layers of the network became .* of the plan"))).to_be_visible()
    expect(figure).to_be_visible()
    assert " at 8" not in figure.get_attribute("alt")
    others.click()
    expect(cancel).to_be_enabled()
    expect(cancel).to_be_disabled()
    for size in (2, 4, 8, 16):
        assert f" at {size}" in figure.get_attribute("alt")

    pin.click()
    stale = panel.get_by_text("Stale:")
    type_range(panel, 1, 2, 64)
    expect(stale).to_be_visible()
    build.click()
    expect(stale).to_have_count(0)
    expect(status).to_contain_text(ENDED)
    assert " at 64" in figure.get_attribute("alt")
    pin.click()
    table = panel.get_by_role("table", name="export, engine 1")
    row = table.get_by_role("row").filter(has=page.get_by_role("rowheader", name="activation memory", exact=True))
    small, large, factor = row.get_by_role("cell").all_inner_texts()
    assert float(factor.removesuffix("x")) > 1, (small, large)
    expect(table.get_by_text("the same layers, made from the same layers of the network")).to_be_visible()

    type_range(panel, 1, 3, 128)
    expect(stale).to_be_visible()
    build.click()
    expect(status).to_contain_text("TensorRT")  # at work, beside the programs
    cancel.click()
    expect(status).to_contain_text("Cancelled.", timeout=5_000)
    expect(cancel).to_be_disabled()
    type_range(panel, 1, 3, 64)
    build.click()
    expect(stale).to_have_count(0)
    expect(status).to_contain_text(ENDED)
    no_complaint(page)


@pytest.mark.slow
def test_a_hundred_clicks_and_edits_in_ten_seconds_leave_the_studio_alive(page, lab, expect):
    open_notebook(page, lab, "small")
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    panel = page.locator(".tl-studio").first
    build = panel.get_by_role("button", name="Build", exact=True)
    build.wait_for()
    chance = random.Random(0)

    def edit():
        end = chance.choice(("min", "opt", "max"))
        panel.get_by_label(f"batch {end}", exact=True).fill(str(chance.randint(-1, 9)))

    def click(name):
        panel.get_by_role("button", name=name, exact=True, include_hidden=True).dispatch_event("click")

    def choose():
        label, options = chance.choice((("precision", 4), ("backend", 4)))
        panel.get_by_label(label, exact=True).select_option(index=chance.randrange(options))

    def tab():
        panel.get_by_role("tab").nth(chance.randrange(6)).click()

    names = ("Build", "Build", "Build", "Cancel", "Pin", "Build from scratch", "Ask")
    start = time.monotonic()
    for _ in range(100):
        what = chance.choice((edit, edit, choose, tab, *(lambda name=name: click(name) for name in names)))
        what()
    seconds = time.monotonic() - start
    assert seconds < 30, "the browser itself was too slow to click"

    panel.get_by_role("tab", name="Results").click()
    panel.get_by_label("backend", exact=True).select_option("eager")
    panel.get_by_label("precision", exact=True).select_option("fp32")
    type_range(panel, 1, 3, 5)
    expect(panel.get_by_role("alert")).to_have_count(0)
    build.click()
    expect(panel.get_by_role("status").first).to_contain_text(ENDED, timeout=180_000)
    expect(panel.get_by_text("Stale:")).to_have_count(0)
    assert "batch 1/3/5" in panel.get_by_role("img").first.get_attribute("alt")
    expect(panel.get_by_role("button", name="Cancel", exact=True)).to_be_disabled()
    no_complaint(page)
