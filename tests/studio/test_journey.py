"""Notebooks 0 to 3 as a learner goes through them, in a real browser: predictions, panels, exercises."""

import re
import subprocess
import sys

import pytest
from test_browser import ENDED, expect, open_notebook, page, quiet_lab, type_range  # noqa: F401
from test_project import ROOT

pytestmark = pytest.mark.slow
BEGIN = re.compile(r"import .*\bteach\b|teach\.predict|teach\.panels|studio = Studio")
"""Cells that a learner needs for the rest: predictions and panels, and what they import."""
JIT = """def my_jit(model, x, backend):
    {}
    return torch.compile(model, backend=backend)


"""
TOOK_PART = """def took_part(report):
    return {}


"""
MEMORY = """def my_memory(largest):
    return {}


"""
EXERCISES = {  # what is written above the line with check, and what is checked: wrong, then right
    "00.range": [("", "(2, 8, 100)"), ("", "(1, 8, 100)")],
    "01.mark": [
        (JIT.format("torch._dynamo.mark_dynamic(x, 0)"), "my_jit"),
        (JIT.format("torch._dynamo.mark_dynamic(x, 0, min=2, max=32)"), "my_jit"),
    ],
    "02.took-part": [
        (TOOK_PART.format("report.result"), "took_part"),
        (TOOK_PART.format("len(report.engines) > 0 and report.result is True"), "took_part"),
    ],
    "03.memory": [
        (MEMORY.format("27.6 / 8 * largest"), "my_memory"),
        (MEMORY.format("27.6 + (163.1 - 27.6) / 56 * (largest - 8)"), "my_memory"),
    ],
}


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    folder = tmp_path_factory.mktemp("students")
    command = [sys.executable, ROOT / "tools/course.py", folder / "course", "--student"]
    subprocess.run(command, check=True)
    with quiet_lab(folder, folder / "course") as about:
        yield about


class Learner:
    """A notebook in a browser: its code cells are run one by one, as with Shift + Enter."""

    def __init__(self, page, about, name):  # noqa: F811
        self.page = page
        page.set_default_timeout(120_000)
        open_notebook(page, about, f"notebooks/{name}")  # alone: other tabs have predictions, too
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        self.sources = page.evaluate(
            "window.jupyterapp.shell.currentWidget.content.widgets.map(w => w.model.type === 'code' ? "
            "w.model.sharedModel.getSource() : '')"
        )

    def run(self, index, source=None):
        """Run a cell, with another source if one is given; returns its output, a locator."""
        self.page.evaluate(
            """async ([index, source]) => {
                const app = window.jupyterapp, notebook = app.shell.currentWidget.content;
                notebook.activeCellIndex = index;
                notebook.deselectAll();
                if (source !== null) notebook.activeCell.model.sharedModel.setSource(source);
                await app.commands.execute('notebook:run-cell');
            }""",
            [index, source],
        )
        output = self._output(index)
        assert "Traceback" not in (output.inner_text() if output.count() else "")
        return output

    def cells(self, pattern):
        return [index for index, source in enumerate(self.sources) if re.search(pattern, source)]

    def output(self, pattern):
        """The output of the one cell that matches, which has run."""
        (index,) = self.cells(pattern)
        return self._output(index)

    def _output(self, index):
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-OutputArea")

    def begin(self):
        for index in self.cells(BEGIN):
            self.run(index)

    def predict(self):
        """Guess the answer to the first question, and let it be revealed."""
        prediction = self.page.locator(".tl-predict").filter(has_text="Predict.").first
        prediction.get_by_role("button", name="Reveal").wait_for()
        assert prediction.get_by_role("button", name="Reveal").is_disabled()
        radio, field = prediction.locator("input[type=radio]"), prediction.locator("input[type=text]")
        if radio.count():
            radio.last.check()
            prediction.get_by_role("button", name="Check").click()
        else:
            field.fill("1e9")
            field.press("Enter")
        prediction.locator(".tl-says").first.wait_for()
        prediction.get_by_role("button", name="Reveal").click()
        prediction.get_by_text("The answer:").wait_for()

    def do(self, key):
        """Answer an exercise wrongly, then rightly."""
        (cell,) = self.cells(rf'teach\.check\("{key}"')
        for verdict, (written, answer) in zip(("Not yet:", "Right:"), EXERCISES[key], strict=True):
            self.run(cell, f'{written}teach.check("{key}", {answer})').get_by_text(verdict).wait_for()


def begun(page, students, name, key):  # noqa: F811
    """A learner who has made a prediction and done an exercise."""
    learner = Learner(page, students, name)
    learner.begin()
    learner.predict()
    learner.do(key)
    return learner


def test_notebook_0_and_its_first_control_which_moves_something_large(page, students):  # noqa: F811
    begun(page, students, "00_start_here", "00.range")
    page.get_by_text("1 to 32 reserves 85.7 MB").wait_for()
    handle = page.locator(".noUi-handle").first
    handle.focus()
    assert handle.get_attribute("aria-label") == "max of the batch"
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.get_by_text("1 to 256 reserves 628 MB").wait_for()


def test_notebook_1(page, students):  # noqa: F811
    begun(page, students, "01_three_compile_paths", "01.mark")


def test_notebook_2_and_its_panel_which_builds_what_is_typed_and_says_what_cannot_be(page, students, expect):  # noqa: F811
    learner = begun(page, students, "02_what_tensorrt_really_gets", "02.took-part")
    panel = learner.output(r"teach\.panels")
    panel.get_by_text("Typed 2 / 4 / 32. ").wait_for()
    type_range(panel, 8, 4, 64)
    panel.get_by_role("button", name="Build").click()
    panel.get_by_text("Not built: ").wait_for()
    type_range(panel, 3, 8, 64)
    panel.get_by_role("button", name="Build").click()
    panel.get_by_text("Typed 3 / 8 / 64. ").wait_for()
    expect(panel.locator("img")).to_have_attribute("alt", re.compile(r"^Typed 3 / 8 / 64\."))


def test_notebook_3_and_an_experiment_which_is_set_built_and_judged_in_the_panel(page, students, expect):  # noqa: F811
    learner = begun(page, students, "03_shape_studio", "03.memory")
    panel = learner.output("studio = Studio")
    check = learner.cells(r'teach\.check\("03.one-engine"')
    learner.run(*check).get_by_text("Not yet: build something").wait_for()
    learner.run(*learner.cells("from_2 = studio.experiment")).get_by_role("button", name="Set it and build").click()
    panel.get_by_role("status").filter(has_text="Done in").wait_for()
    assert panel.get_by_label("batch min", exact=True).input_value() == "2"
    learner.run(*check).get_by_text("refuses batch 1").wait_for()
    panel.get_by_label("sizes to measure", exact=True).fill("1")
    type_range(panel, 1, 1, 1)
    expect(panel.get_by_text("Stale:")).to_be_visible()
    panel.get_by_role("button", name="Build", exact=True).click()
    expect(panel.get_by_text("Stale:")).to_have_count(0)  # a first look is there, and the result once it has ended
    expect(panel.get_by_role("status").first).to_contain_text(ENDED)
    learner.run(*check).get_by_text("Right:").wait_for()
