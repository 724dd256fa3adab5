"""The project's own files: pins, layers, notebooks, and what the README and the docs say exists."""

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tutorial_lib.builds.backends import tensorrt
from tutorial_lib.cli.setup import LAB
from tutorial_lib.engines.recording import why_not

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells_of(notebook):
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def pins(text):
    """Exact versions by name, those in comments too."""
    return dict(re.findall(r"^[\s#-]*([A-Za-z0-9_.-]+)==(\S+)$", text, flags=re.MULTILINE))


def test_conda_users_get_the_same_versions():
    ours, conda = pins((ROOT / "constraints.txt").read_text()), pins((ROOT / "environment.yml").read_text())
    assert conda
    assert {name: ours.get(name) for name in conda} == conda
    tensorrt = ("torch-tensorrt", "tensorrt", "torch-tensorrt-rtx", "tensorrt-rtx")
    for asked_for in ("torch", *tensorrt, "jupyterlab", "ipywidgets", "matplotlib", "nbval"):
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
    assert torch == "torch>=2.11,<2.15"


def test_the_constraints_for_torch_2_14_replace_pins_of_the_others():
    ours, newer = (pins((ROOT / f"constraints{which}.txt").read_text()) for which in ("", "-2.14"))
    assert newer.keys() <= ours.keys()
    assert not newer.items() & ours.items()
    assert newer["torch"].startswith("2.14.")


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-2.14.txt"])
def test_torch_and_torch_tensorrt_belong_together(file):
    ours = pins((ROOT / file).read_text())
    for package in ("torch-tensorrt", "torch-tensorrt-rtx"):
        assert ours["torch"].split(".")[:2] == ours[package].split(".")[:2]


@pytest.mark.parametrize("flavour", ["", "-rtx"])
def test_the_requirements_of_both_flavours_get_their_versions_from_the_constraints(flavour):
    lines = (ROOT / f"requirements-tensorrt{flavour}.txt").read_text().splitlines()
    names = [line for line in lines if line and not line.startswith(("#", "-c constraints.txt"))]
    assert names == [f"torch-tensorrt{flavour}", f"tensorrt{flavour}"]
    assert set(names) <= set(pins((ROOT / "constraints.txt").read_text()))


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-2.14.txt"])
def test_what_builds_engines_is_the_same_release_as_the_backend(file):
    ours = pins((ROOT / file).read_text())
    minor = ".".join(ours["torch"].split(".")[:2])
    builder = pins((ROOT / "tutorial_lib" / "engines" / f"requirements-{minor}.txt").read_text())
    assert builder["torch-tensorrt-rtx"] == ours["torch-tensorrt-rtx"]
    assert builder["tensorrt-rtx-cu13"] == ours["tensorrt-rtx"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_as_they_ran(notebook):
    content = json.loads(notebook.read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    shown = [cell for cell in code if "hidden-test" not in cell["metadata"].get("tags", ())]
    assert len(shown) <= 35
    assert "widgets" not in content["metadata"]
    for cell in code:
        source = "".join(cell["source"])
        assert cell["execution_count"], "a cell that never ran is never compared by nbval"
        assert not any(output["output_type"] == "error" for output in cell["outputs"]), source
        assert not any(output.get("name") == "stderr" for output in cell["outputs"]), source
        assert not re.search(r"^\s*[%!]", source, flags=re.MULTILINE), "magics hide failures from nbval"
        if "NBVAL_CHECK_OUTPUT" in source:
            assert cell["outputs"], "there is nothing to compare with"


def test_the_map_of_the_course_has_every_notebook_under_its_title():
    text = "".join("".join(cell["source"]) for cell in cells_of(NOTEBOOKS[0]))
    titles = {notebook.name: cells_of(notebook)[0]["source"] for notebook in NOTEBOOKS}
    listed = re.findall(r"^\| \[(.+?)\]\((\w+\.ipynb)\) \|", text, flags=re.MULTILINE)
    assert [name for _, name in listed] == [notebook.name for notebook in NOTEBOOKS]
    for title, name in listed:
        assert f"# {title}\n" in "".join(titles[name])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_link_inside_a_notebook_leads_somewhere(notebook):
    text = "".join("".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"])
    for anchor in re.findall(r"\]\(#([\w-]+)\)", text):
        assert f'<a id="{anchor}"></a>' in text


def test_the_docs_list_every_package():
    text = (ROOT / "docs/architecture.md").read_text()
    listed = re.search(r"```\ntutorial_lib/\n(.*?)```", text, flags=re.DOTALL).group(1)
    packages = {file.parent.name for file in (ROOT / "tutorial_lib").glob("*/**/__init__.py")}
    assert set(re.findall(r"(\w+)/ ", listed)) == packages
    assert re.findall(r"(\w+)\.py", listed) == ["paths"]


@pytest.mark.parametrize("package", ["advisor", "studio", "teach"])
def test_a_package_lists_its_modules(package):
    folder = ROOT / "tutorial_lib" / package
    listed = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    for file in folder.glob("[!_]*.py"):
        assert re.search(rf"^(.*  )?{file.stem}  ", listed, flags=re.MULTILINE), file.stem


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_names_a_folder_of_the_machine_that_made_it(notebook):
    outputs = json.dumps([cell.get("outputs") for cell in cells_of(notebook)])
    assert not re.search(r"(?<![\w.~/])/(home|root|work|tmp|Users)/", outputs)


@pytest.mark.slow
def test_the_python_examples_of_the_readme_and_the_docs_run(tmp_path):
    text = "\n".join(file.read_text() for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    if why_not():  # nothing builds engines here
        blocks = [block for block in blocks if "engines.build(" not in block]
    examples = "\n".join(blocks).replace('"inductor"', '"eager"')
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


FAKE_PYTHON = """#!/bin/sh
# Stands in for the environment's Python: notes what it is asked, and keeps a folder of what pip would have installed.
# Only the decisions of `setup` are made for real, by the Python of the tests.
case "$*" in
  "-m tutorial_lib setup "*) shift 2
    program='import sys; sys.executable = sys.argv.pop(1); from tutorial_lib.cli import main; sys.exit(main())'
    exec "$REAL" -c "$program" "$0" "$@";;
esac
echo "$@" >> "$LOG"
site="$SITE/lib/python3.11/site-packages"
put() { mkdir -p "$site/$1-1.dist-info"; }
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python";;
  *uninstall*) for name in "$@"; do rm -rf "$site/$(echo "$name" | tr - _)-1.dist-info"; done;;
  *requirements-tensorrt.txt) [ -z "$NO_STANDARD" ] || exit 1; put torch_tensorrt; put tensorrt;;
  *requirements-tensorrt-rtx.txt) [ -z "$NO_RTX" ] || exit 1; put torch_tensorrt_rtx; put tensorrt_rtx;;
esac
"""


class Make:
    """``make`` of this project over a Python that installs nothing, on a machine with the card that is asked for."""

    def __init__(self, folder, capability):
        self.folder, self.venv, self.log = folder, folder / "venv", folder / "log"
        programs = folder / "bin"
        programs.mkdir()
        self.python = self._program(programs / "python", FAKE_PYTHON)
        gpu = f"echo '{capability}'" if capability else "exit 1"
        self._program(programs / "nvidia-smi", f"#!/bin/sh\n{gpu}\n")
        self.path = os.pathsep.join([str(programs), os.environ["PATH"]])

    @staticmethod
    def _program(path, text):
        path.write_text(text)
        path.chmod(0o755)
        return path

    def __call__(self, *choices, **environment):
        """The requests that reached Python, and the exit code, output and errors of make."""
        self.log.write_text("")
        places = {"LOG": str(self.log), "SITE": str(self.venv), "PATH": self.path, "REAL": sys.executable}
        env = {
            name: value
            for name, value in os.environ.items()
            if name not in ("TENSORRT", "ENGINES", "TORCH", "MAKEFLAGS")
        }
        command = ["make", f"VENV={self.venv}", f"PYTHON={self.python}", "WITH=pip", *choices, f"{self.venv}/.ready"]
        done = subprocess.run(
            command, cwd=ROOT, env={**env, **places, **environment}, capture_output=True, text=True, timeout=60
        )
        return self.log.read_text(), done

    @property
    def installed(self):
        return {path.name.removesuffix("-1.dist-info") for path in self.venv.glob("lib/python3*/site-packages/*")}


STANDARD, RTX = {"torch_tensorrt", "tensorrt"}, {"torch_tensorrt_rtx", "tensorrt_rtx"}


@pytest.fixture
def make(tmp_path):
    return lambda capability: Make(tmp_path, capability)


def test_make_installs_the_engine_builder_and_leaves_it_out_where_that_is_asked(make):
    run = make(None)
    log, done = run()
    assert done.returncode == 0, done.stderr
    assert "-m tutorial_lib.engines install --optional" in log
    assert not run.installed
    assert run()[0] == "", "nothing changed, and it was done again"
    assert "engines install" not in run("ENGINES=0")[0]
    assert run()[0] == "", "the choice was forgotten"
    assert "-m tutorial_lib.engines install --optional" in run("ENGINES=1")[0]


def test_make_installs_data_centre_tensorrt_by_default_and_switches_back_and_forth(make):
    run = make("8.9")
    run()
    assert run.installed == STANDARD
    log, _ = run("TENSORRT=rtx")
    assert run.installed == RTX
    assert log.index("uninstall") < log.index("requirements-tensorrt-rtx.txt")
    removed = next(line for line in log.splitlines() if "uninstall" in line).split()
    assert "torch-tensorrt" in removed
    assert "torch-tensorrt-rtx" in removed, "files of the two would stay mixed"
    assert run()[0] == "", "the choice was forgotten"
    assert run.installed == RTX
    run("TENSORRT=standard")
    assert run.installed == STANDARD


def test_a_card_that_tensorrt_for_rtx_does_not_run_on_is_refused_and_nothing_is_changed(make):
    run = make("9.0")
    run()
    log, done = run("TENSORRT=rtx")
    assert done.returncode != 0
    assert not log
    assert "TensorRT for RTX does not run on compute capability 9.0" in done.stderr
    assert "make lab TENSORRT=standard" in done.stderr
    assert run.installed == STANDARD
    assert run()[0] == "", "a choice that was refused was remembered"


@pytest.mark.parametrize(("capability", "installed"), [("8.9", RTX), ("9.0", set()), ("10.0", set())])
def test_tensorrt_for_rtx_comes_by_itself_where_the_standard_libraries_cannot_and_the_card_runs_it(
    make, capability, installed
):
    run = make(capability)
    _, done = run(NO_STANDARD="1")
    assert done.returncode == 0
    assert run.installed == installed
    assert ("TensorRT could not be installed; everything but" in done.stderr) == (not installed)
    assert ("comes instead" in done.stderr) == bool(installed)


def test_a_machine_that_gets_no_tensorrt_is_told_and_works_otherwise(make):
    run = make("8.9")
    _, done = run(NO_STANDARD="1", NO_RTX="1")
    assert done.returncode == 0
    assert "everything but the backend tensorrt works" in done.stderr
    assert not run.installed


@pytest.mark.parametrize("capability", ["7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0", "12.1"])
def test_the_makefile_and_the_backend_agree_on_the_cards(make, capability):
    runs = tensorrt.rtx_runs_on(tuple(map(int, capability.split("."))))
    assert (make(capability)("TENSORRT=rtx")[1].returncode == 0) == runs


def test_a_flavour_that_does_not_exist_is_refused(make):
    _, done = make("8.9")("TENSORRT=dx")
    assert done.returncode != 0
    assert "TENSORRT is 'dx'; use standard or rtx" in done.stderr


def test_jupyterlab_opens_the_first_notebook_on_loopback_only_and_asks_for_its_token(tmp_path):
    course = tmp_path / "course"
    subprocess.run([sys.executable, ROOT / "tools" / "course.py", course], check=True)
    assert "--ip=127.0.0.1" in LAB
    assert not any("token" in option for option in LAB)
    with serve(tmp_path, [f"--notebook-dir={course}", *LAB]) as about:
        assert about["hostname"] == "127.0.0.1"
        assert about["token"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(about["url"] + "api/contents", timeout=10)
        assert refused.value.code == 403
        headers = {"Authorization": f"token {about['token']}"}

        def get(path):
            return urllib.request.urlopen(urllib.request.Request(about["url"] + path, headers=headers), timeout=30)

        assert get("").url.endswith("/lab/tree/notebooks/00_start_here.ipynb")
        names = {item["name"] for item in json.load(get("api/contents/notebooks"))["content"]}
        assert names == {notebook.name for notebook in NOTEBOOKS}, "what is no notebook is in the way"


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


@pytest.mark.slow
@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.stem)
def test_a_benchmark_starts_and_says_what_it_measures(file):
    done = subprocess.run([sys.executable, file, "--help"], capture_output=True, text=True, timeout=300, env=here())
    assert done.returncode == 0, done.stderr
    question = ast.get_docstring(ast.parse(file.read_text())).splitlines()[0]
    assert question in done.stdout


@pytest.mark.slow
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
