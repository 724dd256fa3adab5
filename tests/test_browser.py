"""The first notebook in a real JupyterLab, seen through a real browser."""

import json
import os
import shutil

import pytest
from test_project import ROOT, serve

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET = {  # nothing pops up, and cells outside the window are drawn too
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
IDLE = "window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name, value in QUIET.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
    places = {f"JUPYTERLAB_{kind.upper()}_DIR": str(folder / kind) for kind in ("settings", "workspaces")}
    options = ["--ip=127.0.0.1", f"--notebook-dir={folder / 'notebooks'}", "--LabApp.expose_app_in_browser=True"]
    with serve(folder, options, places) as about:
        yield about


@pytest.fixture
def page():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; install it, or set CHROMIUM to its path")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
        assert not errors


def test_the_first_notebook_opens_with_its_figures_and_runs(page, lab):
    page.goto(f"{lab['url']}doc/tree/01_three_compile_paths.ipynb?token={lab['token']}")
    figures = page.locator(".jp-RenderedImage img")
    figures.nth(3).wait_for()
    for figure in figures.all():
        assert figure.evaluate("image => image.naturalWidth") > 500
    page.wait_for_function(IDLE)
    first = page.locator(".jp-CodeCell").first
    first.locator(".cm-content").click()
    page.evaluate("jupyterapp.commands.execute('notebook:run-cell')")
    page.wait_for_function(IDLE)
    first.locator(".jp-OutputArea-output").get_by_text("This run: backend").wait_for()
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
