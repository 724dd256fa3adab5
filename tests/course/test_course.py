"""The course as learners get it: copies to work in, and student versions, which run unsolved."""

import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import venv

import nbformat
import pytest
from test_project import NOTEBOOKS, ROOT, here

from tutorial_lib.engines.recording import RECORD

COURSE = runpy.run_path(str(ROOT / "tools" / "course.py"))
write = COURSE["write"]


def notebook(*cells):
    return nbformat.writes(nbformat.v4.new_notebook(cells=list(cells)))


def code(source, *tags):
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}, execution_count=1)


@pytest.fixture
def checkout(tmp_path):
    """A checkout with one notebook, what it reads, and a page that it links to."""
    source = tmp_path / "checkout"
    cells = [
        nbformat.v4.new_markdown_cell(
            "# A\n\n<details><summary>Solution</summary>\n\n`42`\n</details>\n\n**2.** More."
        ),
        code("open('recorded/data.json').read()"),
        code("assert answer == 42", "solution"),
        code("assert True", "hidden-test"),
    ]
    files = {
        "notebooks/00_a.ipynb": notebook(*cells),
        "notebooks/recorded/data.json": "{}",
        "notebooks/.ipynb_checkpoints/00_a.ipynb": "{}",
        "docs/page.md": "# Page",
        "tests/test_a.py": "",
    }
    for name, content in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    return source


def cells_of(path):
    return nbformat.read(path, as_version=4).cells


def test_a_copy_has_what_the_notebooks_read_and_link_to(checkout, tmp_path):
    assert write(checkout, tmp_path / "course") == []
    files = {str(file.relative_to(tmp_path / "course")) for file in (tmp_path / "course").rglob("*") if file.is_file()}
    assert files == {"notebooks/00_a.ipynb", "notebooks/recorded/data.json", "docs/page.md", ".written.json"}
    assert len(cells_of(tmp_path / "course/notebooks/00_a.ipynb")) == 4


def test_students_get_neither_solutions_nor_tests_nor_outputs(checkout, tmp_path):
    write(checkout, tmp_path / "student", for_students=True)
    text, data = cells_of(tmp_path / "student/notebooks/00_a.ipynb")
    assert text.source == "# A\n\n**2.** More."
    assert (data.source, data.outputs, data.execution_count) == ("open('recorded/data.json').read()", [], None)


def test_a_notebook_that_somebody_worked_in_stays_until_it_is_to_be_fresh(checkout, tmp_path):
    course = tmp_path / "course"
    copy = course / "notebooks/00_a.ipynb"
    write(checkout, course)
    (checkout / "notebooks/00_a.ipynb").write_text(notebook(code("newer")))
    assert write(checkout, course) == []
    assert cells_of(copy)[0].source == "newer", "a copy that nobody touched follows the checkout"
    copy.write_text(notebook(code("my own work")))
    assert write(checkout, course) == [copy]
    assert cells_of(copy)[0].source == "my own work"
    assert write(checkout, course, fresh=True) == []
    assert cells_of(copy)[0].source == "newer"


def names_of(source):
    """The names that code uses, and those that it stores."""
    nodes = list(ast.walk(ast.parse(source)))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    stored |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    stored |= {node.name for node in nodes if isinstance(node, ast.ExceptHandler) and node.name}
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    stored |= {alias.asname or alias.name for node in imports for alias in node.names}
    return {node.id for node in nodes if isinstance(node, ast.Name)}, stored


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_students_get_needs_nothing_that_they_do_not_get(path):
    given, kept = set(), set()
    for cell in (cell for cell in cells_of(path) if cell.cell_type == "code"):
        names, stored = names_of(cell.source)
        if COURSE["HIDDEN"] & set(cell.metadata.get("tags", ())):
            given |= stored
        else:
            assert not (given - kept) & (names - stored)
            kept |= stored


@pytest.fixture(scope="module")
def student_folder(tmp_path_factory):
    """The student versions, made from the files that git has, as in a clean checkout."""
    folder = tmp_path_factory.mktemp("clean")
    tracked = subprocess.run(["git", "ls-files", "-z", *COURSE["FOLDERS"], "tools"], cwd=ROOT, capture_output=True)
    if tracked.returncode:
        pytest.skip("this is no git checkout")
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    command = [sys.executable, folder / "tools/course.py", folder / "build/student", "--student"]
    subprocess.run(command, check=True, cwd=folder)
    return folder / "build/student/notebooks"


@pytest.fixture(scope="module")
def without_engines(tmp_path_factory):
    """A Python with the packages of this one, but for what builds TensorRT's engines."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages / "real.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in packages))
    return folder / "bin/python"


BRIEF = ("00", "02", "05")
"""Notebooks whose student versions `make test-slow` runs; they have recordings. Those of all others are `long`."""


def student_version(notebook):
    marks = [pytest.mark.slow] if notebook.stem.startswith(BRIEF) else [pytest.mark.slow, pytest.mark.long]
    return pytest.param(notebook.stem, marks=marks)


@pytest.mark.parametrize("name", [student_version(notebook) for notebook in NOTEBOOKS])
def test_a_student_version_runs_unsolved_and_says_not_yet(student_folder, without_engines, name):
    """The whole notebooks run with the engines of this machine; here, those that have recordings run from them."""
    file = student_folder / f"{name}.ipynb"
    text = file.read_text(encoding="utf-8")
    assert "Solution</summary>" not in text
    command = ["nbconvert", "--to", "notebook", "--execute", "--inplace", "--ExecutePreprocessor.timeout=600", file]
    env = {
        **here(),
        "JUPYTER_PATH": os.pathsep.join([f"{sys.prefix}/share/jupyter", os.environ.get("JUPYTER_PATH", "")]),
        "CUDA_VISIBLE_DEVICES": "",
    }
    env.pop(RECORD, None)
    is_recorded = 'Recording(\\"' in text
    python = without_engines if is_recorded else sys.executable
    done = subprocess.run([python, "-m", *command], cwd=file.parent, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    if is_recorded:
        ran = file.read_text(encoding="utf-8")
        assert "not run here)" in ran
        assert "Nothing is built here: " in ran
    exercises = [cell for cell in cells_of(file) if cell.cell_type == "code" and "teach.check(" in cell.source]
    for cell in exercises:
        assert re.search("Not yet", json.dumps(cell.outputs)), cell.source
