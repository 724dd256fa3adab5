"""The project's own files: pins, layers, notebooks, and what the README says exists."""

import ast
import contextlib
import json
import os
import re
import runpy
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["shapes", "precision", "stages", "explain", "nets", "models", "plan", "record", "agreement", "guard"]
LAYERS += ["inductor"]
LAYERS += ["tensorrt", "backends", "store", "compiled", "building", "artefact", "paths", "graphs", "latency", "memory"]
LAYERS += ["sweep", "setting", "journal", "processes", "conditions", "campaign", "recorded", "advisor", "plots"]
LAYERS += ["heatmap", "doctor", "__main__"]
ADVISOR = ["traffic", "curves", "policies", "router", "footprint", "measuring", "replay", "advice", "figure"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


STUDENTS = runpy.run_path(str(ROOT / "notebooks" / "students.py"))


def cells_of(notebook):
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def pins(text):
    return dict(re.findall(r"^[\s-]*([A-Za-z0-9_.-]+)==(\S+)$", text, flags=re.MULTILINE))


def imports(module, package="tutorial_lib"):
    """Names that `module` (a file, or a folder of them) imports: modules of `package`, and others' top levels."""
    file = ROOT.joinpath(*package.split("."), f"{module}.py")
    found = set()
    for each in [file] if file.exists() else file.with_suffix("").glob("*.py"):
        for node in ast.walk(ast.parse(each.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package):
                inside = node.module.removeprefix(package).lstrip(".")
                found |= {inside.split(".")[0]} if inside else {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
    return found


def test_conda_users_get_the_same_versions():
    ours, conda = pins((ROOT / "constraints.txt").read_text()), pins((ROOT / "environment.yml").read_text())
    assert conda
    assert {name: ours.get(name) for name in conda} == conda
    for asked_for in ("torch", "torch-tensorrt", "tensorrt", "jupyterlab", "ipywidgets", "matplotlib", "nbval"):
        assert asked_for in conda


def test_every_direct_dependency_is_pinned_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"].values()
    asked = [
        *project["project"]["dependencies"],
        *(line for group in groups for line in group if isinstance(line, str)),
    ]
    names = {re.match(r"[A-Za-z0-9_-]+", line).group() for line in asked}
    assert names <= set(pins((ROOT / "constraints.txt").read_text()))
    torch = next(line for line in asked if line.startswith("torch"))
    assert torch == "torch>=2.11,<2.14"


def test_torch_and_torch_tensorrt_belong_together():
    ours = pins((ROOT / "constraints.txt").read_text())
    assert ours["torch"].split(".")[:2] == ours["torch-tensorrt"].split(".")[:2]


def test_the_preview_uses_the_same_torch_tensorrt():
    ours = pins((ROOT / "constraints.txt").read_text())
    minor = ".".join(ours["torch"].split(".")[:2])
    preview = pins((ROOT / "tutorial_lib" / "engines" / f"requirements-{minor}.txt").read_text())
    assert preview["torch-tensorrt"] == ours["torch-tensorrt"]
    assert preview["tensorrt-cu13-bindings"] == preview["tensorrt-cu13"] == ours["tensorrt"]


def test_tensorrt_is_not_an_extra_of_the_project():
    text = (ROOT / "pyproject.toml").read_text()
    assert "optional-dependencies" not in text


@pytest.mark.parametrize("module", LAYERS)
def test_a_module_imports_only_from_the_layers_below(module):
    below = LAYERS[: LAYERS.index(module)]
    inside = {"advisor", "plots"} if module == "advisor" else set()  # the figure of an advice draws as plots does
    assert imports(module) & set(LAYERS) <= set(below) | inside


@pytest.mark.parametrize("module", ADVISOR)
def test_a_module_of_the_advisor_imports_only_from_those_before_it(module):
    assert imports(module, "tutorial_lib.advisor") & set(ADVISOR) <= set(ADVISOR[: ADVISOR.index(module)])


def test_every_module_has_a_layer():
    modules = {file.stem for file in (ROOT / "tutorial_lib").glob("*.py")}
    assert modules - {"__init__", "_files", "_compiler", "_messages", "_plain"} == set(LAYERS) - {"advisor"}
    assert {file.stem for file in (ROOT / "tutorial_lib" / "advisor").glob("*.py")} - {"__init__"} == set(ADVISOR)


def test_the_core_imports_neither_widgets_nor_plots():
    for module in LAYERS[: LAYERS.index("advisor")]:
        assert not imports(module) & {"matplotlib", "ipywidgets", "IPython"}, module


def test_modules_are_short_enough_to_read_whole():
    for file in (ROOT / "tutorial_lib").glob("**/*.py"):
        assert len(file.read_text().splitlines()) <= 400, file.name


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_as_they_ran(notebook):
    content = json.loads(notebook.read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert len(code) <= 35
    assert "widgets" not in content["metadata"]
    for cell in code:
        source = "".join(cell["source"])
        assert cell["execution_count"], "a cell that never ran is never compared by nbval"
        assert not any(output["output_type"] == "error" for output in cell["outputs"]), source
        assert not any(output.get("name") == "stderr" for output in cell["outputs"]), source
        assert not re.search(r"^\s*[%!]", source, flags=re.MULTILINE), "magics hide failures from nbval"
        if "NBVAL_CHECK_OUTPUT" in source:
            assert cell["outputs"], "there is nothing to compare with"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_link_inside_a_notebook_leads_somewhere(notebook):
    text = "".join("".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"])
    for anchor in re.findall(r"\]\(#([\w-]+)\)", text):
        assert f'<a id="{anchor}"></a>' in text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_student_version_is_the_one_that_the_notebook_gives(notebook):
    committed = notebook.parent / "student" / notebook.name
    assert committed.read_text(encoding="utf-8") == STUDENTS["student"](notebook), "run `make students`"


def test_students_have_no_notebook_without_a_source():
    assert {file.name for file in (ROOT / "notebooks" / "student").glob("*") if file.suffix} == {
        file.name for file in NOTEBOOKS
    }


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_students_can_run_their_version_and_do_not_see_the_solutions(notebook):
    cells = cells_of(notebook)
    solutions = [cell for cell in cells if "solution" in cell["metadata"].get("tags", ())]
    assert any(cell["cell_type"] == "code" for cell in solutions), "nothing makes sure that `check` knows the solutions"
    seen = "".join("".join(cell["source"]) for cell in cells_of(notebook.parent / "student" / notebook.name))
    assert "Solution</summary>" not in seen
    assert all("".join(cell["source"]) not in seen for cell in solutions)
    given = set()
    for cell in (cell for cell in cells if cell["cell_type"] == "code"):
        nodes = list(ast.walk(ast.parse("".join(cell["source"]))))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        stored |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        stored |= {
            alias.asname or alias.name
            for node in nodes
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        if cell in solutions:
            given |= stored
        else:
            assert not given & (names - stored), "a kept cell needs what a solution defines"


def test_a_student_version_finds_the_files_beside_the_notebooks():
    for notebook in NOTEBOOKS:
        seen = "".join("".join(cell["source"]) for cell in cells_of(notebook.parent / "student" / notebook.name))
        for name in re.findall(r'"([\w./]+\.json)"', seen):
            beside = notebook.parent / Path(name).name
            assert not beside.exists() or (notebook.parent / "student" / name).resolve() == beside


def test_the_readme_lists_every_module():
    text = (ROOT / "README.md").read_text()
    listed = re.search(r"```\ntutorial_lib/\n(.*?)```", text, flags=re.DOTALL).group(1)
    modules = set(re.findall(r"(\w+)\.py", listed))
    assert modules == set(LAYERS) - {"advisor"}


@pytest.mark.parametrize("package", ["advisor", "studio"])
def test_a_package_lists_its_modules(package):
    folder = ROOT / "tutorial_lib" / package
    listed = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    for file in folder.glob("[!_]*.py"):
        assert re.search(rf"^(.*  )?{file.stem}  ", listed, flags=re.MULTILINE), file.stem


def test_the_readme_s_python_examples_run(tmp_path):
    text = (ROOT / "README.md").read_text()
    examples = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)).replace('"inductor"', '"eager"')
    done = subprocess.run(
        [sys.executable, "-c", examples], capture_output=True, text=True, timeout=300, cwd=tmp_path, env=here()
    )
    assert done.returncode == 0, done.stderr
    assert "All paths agree" in done.stdout
    assert (tmp_path / "model.dynpt").exists()


def here():
    """The environment of a process that imports this checkout."""
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def test_jupyterlab_is_served_on_loopback_only_and_asks_for_its_token(tmp_path):
    recipe = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    (line,) = [line for line in recipe.splitlines() if "jupyter lab" in line]
    assert "--ip=127.0.0.1" in line
    assert "token" not in line
    options = line.split("jupyter lab", 1)[1].split()
    with serve(tmp_path, options) as about:
        assert about["hostname"] == "127.0.0.1"
        assert about["token"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(about["url"] + "api/contents", timeout=10)
        assert refused.value.code == 403
        request = urllib.request.Request(
            about["url"] + "api/contents", headers={"Authorization": f"token {about['token']}"}
        )
        names = [item["name"] for item in json.load(urllib.request.urlopen(request, timeout=10))["content"]]
        assert {notebook.name for notebook in NOTEBOOKS} <= set(names)


@contextlib.contextmanager
def serve(folder, options, environment=None):
    """A JupyterLab of its own, on a free port, with all that it writes under `folder`."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    options = [*options, "--no-browser", "--port=0"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    places = {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        cwd=ROOT,
        env={**os.environ, **places, "IPYTHONDIR": str(folder / "ipython"), **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield wait_for(folder / "RUNTIME" / f"jpserver-{server.pid}.json", server)
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(10)


def wait_for(file, server, seconds=60):
    for _ in range(10 * seconds):
        if server.poll() is not None:
            pytest.fail("JupyterLab did not start")
        try:
            about = json.loads(file.read_text())
            urllib.request.urlopen(about["url"] + "api", timeout=5).close()
            return about
        except (OSError, ValueError):
            time.sleep(0.1)
    pytest.fail("JupyterLab did not answer in time")


BENCHMARKS = [file for file in sorted((ROOT / "benchmarks").glob("*.py")) if "__main__" in file.read_text()]


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.stem)
def test_a_benchmark_starts_and_says_what_it_measures(file):
    done = subprocess.run([sys.executable, file, "--help"], capture_output=True, text=True, timeout=300, env=here())
    assert done.returncode == 0, done.stderr
    question = ast.get_docstring(ast.parse(file.read_text())).splitlines()[0]
    assert question in done.stdout


@pytest.mark.parametrize(
    ("script", "words", "sentence"),
    [
        ("paths.py", ["--device", "tpu"], "there is no device 'tpu'; use 'cpu' or 'cuda'."),
        ("timers.py", ["--device", "cuda:99"], "device 'cuda:99': PyTorch sees"),
        ("cuda_graphs.py", ["--device", "cuda:99"], "device 'cuda:99': PyTorch sees"),
        ("cuda_graphs.py", ["--device", "cpu"], "'cpu' is none."),
        ("paths.py", ["--json", "no/such/folder.json"], "make the folder first."),
    ],
)
def test_a_benchmark_refuses_what_it_cannot_use_before_it_measures(script, words, sentence):
    command = [sys.executable, ROOT / "benchmarks" / script, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=here())
    assert done.returncode == 2
    assert sentence in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
