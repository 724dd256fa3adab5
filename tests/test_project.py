"""The project's own files: pins, layers, notebooks, and what the README and the docs say exists."""

import ast
import contextlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tutorial_lib.builds.backends import tensorrt
from tutorial_lib.cli import setup
from tutorial_lib.cli.setup import LAB, Environment, Machine, SetupError
from tutorial_lib.engines.recording import why_not

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def cells_of(notebook):
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def pins(file):
    """Exact versions by name, those in comments too."""
    return dict(re.findall(r"^[\s#-]*([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / file).read_text(), flags=re.MULTILINE))


def test_conda_users_get_the_same_versions():
    ours, conda = pins("constraints.txt"), pins("environment.yml")
    assert {name: ours.get(name) for name in conda} == conda
    tensorrt = ("torch-tensorrt", "tensorrt", "torch-tensorrt-rtx", "tensorrt-rtx")
    for asked_for in ("torch", *tensorrt, "jupyterlab", "ipywidgets", "matplotlib", "nbval"):
        assert asked_for in conda


def test_every_direct_dependency_is_pinned_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"].values()
    asked = project["project"]["dependencies"] + [line for group in groups for line in group if isinstance(line, str)]
    names = {re.match(r"[A-Za-z0-9_-]+", line).group() for line in asked}
    assert names <= pins("constraints.txt").keys()


def test_the_constraints_for_torch_2_14_replace_pins_of_the_others():
    ours, newer = pins("constraints.txt"), pins("constraints-2.14.txt")
    assert newer.keys() <= ours.keys()
    assert not newer.items() & ours.items()
    assert newer["torch"].startswith("2.14.")


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-2.14.txt"])
def test_torch_both_flavours_of_tensorrt_and_what_builds_engines_are_of_one_release(file):
    ours = pins(file)
    minor = ".".join(ours["torch"].split(".")[:2])
    assert ours["torch-tensorrt"].startswith(f"{minor}.")
    assert ours["torch-tensorrt-rtx"].startswith(f"{minor}.")
    builder = pins(f"tutorial_lib/engines/requirements-{minor}.txt")
    assert builder["torch-tensorrt-rtx"] == ours["torch-tensorrt-rtx"]
    assert builder["tensorrt-rtx-cu13"] == ours["tensorrt-rtx"]


@pytest.mark.parametrize("flavour", ["", "-rtx"])
def test_the_requirements_of_both_flavours_get_their_versions_from_the_constraints(flavour):
    lines = (ROOT / f"requirements-tensorrt{flavour}.txt").read_text().splitlines()
    names = [line for line in lines if line and not line.startswith(("#", "-c constraints.txt"))]
    assert names == [f"torch-tensorrt{flavour}", f"tensorrt{flavour}"]
    assert set(names) <= pins("constraints.txt").keys()


@each_notebook
def test_notebooks_are_committed_as_they_ran(notebook):
    content = json.loads(notebook.read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    shown = [cell for cell in code if "hidden-test" not in cell["metadata"].get("tags", ())]
    assert len(shown) <= 35
    assert "widgets" not in content["metadata"]
    outputs = json.dumps([cell["outputs"] for cell in code])
    assert not re.search(r"(?<![\w.~/])/(home|root|work|tmp|Users)/", outputs), "a folder of the machine that made it"
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


@each_notebook
def test_every_link_inside_a_notebook_leads_somewhere(notebook):
    text = "".join("".join(cell["source"]) for cell in cells_of(notebook))
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


@pytest.mark.slow
def test_the_python_examples_of_the_readme_and_the_docs_run(tmp_path):
    text = "\n".join(file.read_text() for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    if why_not():  # nothing builds engines here
        blocks = [block for block in blocks if "engines.build(" not in block]
    examples = "\n".join(blocks)
    for theirs, quick in {'"inductor"': '"eager"', "reshape(batch": "reshape(embed_dim=48, tokens=7, batch"}.items():
        assert theirs in examples
        examples = examples.replace(theirs, quick)
    command = [sys.executable, "-c", examples]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=here())
    assert done.returncode == 0, done.stderr
    assert "All paths agree" in done.stdout
    assert (tmp_path / "model.dynpt").exists()


def here():
    """The environment of a process that imports this checkout."""
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


# ---- which TensorRT a machine gets ------------------------------------------------------------------------------

STANDARD, RTX = {"torch_tensorrt", "tensorrt"}, {"torch_tensorrt_rtx", "tensorrt_rtx"}
REQUIREMENTS = {"requirements-tensorrt.txt": STANDARD, "requirements-tensorrt-rtx.txt": RTX}


class Setup:
    """``setup`` on a machine with `cards`, over installers that note what they are asked and install nothing."""

    def __init__(self, folder, monkeypatch, cards):
        self.folder, self.asked, self.unavailable = folder, [], ()
        monkeypatch.setattr(setup, "look", lambda: Machine(bool(cards), cards, is_linux_x86=True, uv=None))
        monkeypatch.setattr(Environment, "_run", lambda environment, command: self._installer(list(map(str, command))))

    def __call__(self, *words):
        self.asked = []
        return setup.main(["--venv", str(self.folder), "--no-lab", *words])

    def _installer(self, command):
        """Keep a folder of what pip would have installed."""
        self.asked.append(" ".join(command))
        site = self.folder / "lib/python3.11/site-packages"
        if command[-1] in self.unavailable:
            raise SetupError("it cannot be had.")
        if "uninstall" in command:
            for name in command:
                shutil.rmtree(site / f"{name.replace('-', '_')}-1.dist-info", ignore_errors=True)
        for name in REQUIREMENTS.get(command[-1], ()):
            (site / f"{name}-1.dist-info").mkdir(parents=True)

    @property
    def installed(self):
        return {path.name.removesuffix("-1.dist-info") for path in self.folder.glob("lib/python3*/site-packages/*")}


@pytest.fixture
def setup_with(tmp_path, monkeypatch):
    return lambda *cards: Setup(tmp_path / "venv", monkeypatch, cards)


def test_make_hands_the_choices_to_setup():
    command = ["make", "--no-print-directory", "-n", "VENV=here", "TENSORRT=rtx", "ENGINES=0", "here/.ready"]
    recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    assert " ".join(recipe.split()).endswith(" setup --venv here --tensorrt rtx --engines 0 --no-lab")


def test_the_engine_builder_comes_and_is_left_out_where_that_is_asked(setup_with):
    run, asks_for_engines = setup_with(), "-m tutorial_lib.engines install --optional"
    assert run() == 0
    assert asks_for_engines in run.asked[-1]
    assert not run.installed
    assert run() == 0
    assert not run.asked, "nothing changed, and it was done again"
    run("--engines", "0")
    assert not any(asks_for_engines in command for command in run.asked)
    run()
    assert not run.asked, "the choice was forgotten"
    run("--engines", "1")
    assert asks_for_engines in run.asked[-1]


def test_data_centre_tensorrt_comes_by_default_and_one_can_switch_back_and_forth(setup_with):
    run = setup_with("8.9")
    run()
    assert run.installed == STANDARD
    run("--tensorrt", "rtx")
    assert run.installed == RTX
    (number,) = (number for number, command in enumerate(run.asked) if "uninstall" in command)
    assert {"torch-tensorrt", "torch-tensorrt-rtx"} <= {*run.asked[number].split()}, "files of the two would stay mixed"
    assert run.asked[number + 1].endswith("requirements-tensorrt-rtx.txt")
    run()
    assert not run.asked, "the choice was forgotten"
    run("--tensorrt", "standard")
    assert run.installed == STANDARD


def test_a_card_that_tensorrt_for_rtx_does_not_run_on_is_refused_and_nothing_is_changed(setup_with, capsys):
    run = setup_with("9.0")
    run()
    assert run("--tensorrt", "rtx") == 1
    said = capsys.readouterr().err
    assert "TensorRT for RTX does not run on compute capability 9.0" in said
    assert "make lab TENSORRT=standard" in said
    assert run.installed == STANDARD
    run()
    assert not run.asked, "a choice that was refused was remembered"


@pytest.mark.parametrize(
    ("card", "unavailable", "installed"),
    [("8.9", [*REQUIREMENTS][:1], RTX), ("9.0", [*REQUIREMENTS][:1], set()), ("8.9", [*REQUIREMENTS], set())],
)
def test_where_standard_tensorrt_cannot_be_had_rtx_comes_instead_or_it_works_without(
    setup_with, capsys, card, unavailable, installed
):
    run = setup_with(card)
    run.unavailable = unavailable
    assert run() == 0
    assert run.installed == installed
    assert ("everything but the backend tensorrt works" in capsys.readouterr().err) == (not installed)


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0), (12, 1)])
def test_the_installation_and_the_backend_agree_on_the_cards(capability):
    machine = Machine(has_gpu=True, cards=("{}.{}".format(*capability),), is_linux_x86=True, uv=None)
    assert machine.runs_rtx == tensorrt.rtx_runs_on(capability)


# ---- JupyterLab and the benchmarks ------------------------------------------------------------------------------


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


@pytest.fixture
def benchmark(monkeypatch, capsys):
    """``benchmark(file, *words)``: its exit code, and what it printed and what it said of an error."""

    def started(file, *words):
        monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        monkeypatch.setattr(sys, "argv", [str(file), *words])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(file), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return started


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.stem)
def test_a_benchmark_starts_and_says_what_it_measures(benchmark, file):
    code, printed, _ = benchmark(file, "--help")
    assert code == 0
    assert ast.get_docstring(ast.parse(file.read_text())).splitlines()[0] in printed


@pytest.mark.parametrize(
    ("script", "words", "sentence"),
    [
        ("paths.py", ["--device", "tpu"], "there is no device 'tpu'"),
        ("timers.py", ["--device", "cuda:99"], "'cuda:99': PyTorch sees"),
        ("cuda_graphs.py", ["--device", "cpu"], "'cpu' is none."),
        ("paths.py", ["--json", "no/such/folder.json"], "make the folder first."),
    ],
)
def test_a_benchmark_refuses_what_it_cannot_use_before_it_measures(benchmark, script, words, sentence):
    code, _, error = benchmark(ROOT / "benchmarks" / script, *words)
    assert code == 2
    assert sentence in error.splitlines()[-1]
