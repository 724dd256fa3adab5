"""``python -m tutorial_lib setup``: what it decides and says; what it installs is in tests/test_project.py too."""

import os
import shlex
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from tutorial_lib.cli import setup
from tutorial_lib.cli.setup import Choices, Environment, Machine, SetupError

ROOT = Path(__file__).parents[2]
LAPTOP = Machine(has_gpu=False, cards=(), is_linux_x86=True, uv=None)


class Recorded(Environment):
    """An environment that notes the commands and installs nothing."""

    def __init__(self, *args):
        super().__init__(*args)
        self.commands = []

    def _run(self, command):
        self.commands.append(" ".join(map(str, command)))


def test_it_runs_where_nothing_is_installed():
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tutorial_lib.cli import main; main(['setup', '--help'])"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--wheelhouse" in done.stdout


def test_what_ended_well_is_remembered_until_a_pin_or_a_choice_changes(tmp_path, monkeypatch):
    environment = Recorded(tmp_path, LAPTOP)
    environment.install(Choices(engines=False))
    assert environment.remembered() == Choices(engines=False)
    assert environment.is_ready(Choices(engines=False))
    assert not environment.is_ready(Choices(engines=True))
    monkeypatch.setattr(Environment, "_content", staticmethod(lambda choices: {"choices": {}, "inputs": "others"}))
    assert not environment.is_ready(Choices(engines=False))


def test_torch_2_14_has_pins_of_its_own_over_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "the CPU build's, which has no 2.14")
    monkeypatch.setattr(setup.sys, "platform", "linux")
    environment = Recorded(tmp_path, Machine(True, ("8.9",), True, None))
    environment.install(Choices(tensorrt="rtx", torch="2.14"))
    assert environment.remembered().torch == "2.14"
    pins = (tmp_path / "constraints.txt").read_text().splitlines()
    assert "torch==2.14.1" in pins
    assert "torch==2.13.0" not in pins
    assert "numpy==2.4.6" in pins
    installs = [command for command in environment.commands if f" -c {tmp_path / 'constraints.txt'} " in command]
    assert [command.rpartition("constraints.txt ")[2] for command in installs] == [
        "-e . --group dev",
        "torch-tensorrt-rtx tensorrt-rtx",
    ]


def test_an_installation_that_broke_off_is_not_ready(tmp_path, monkeypatch):
    environment = Recorded(tmp_path, LAPTOP)
    environment.install(Choices())

    def full(command):
        raise SetupError("the disk is full.")

    monkeypatch.setattr(environment, "_run", full)
    with pytest.raises(SetupError):
        environment.install(Choices(engines=False))
    assert not environment.is_ready(Choices())


@pytest.mark.parametrize(
    ("is_linux_x86", "engines", "built"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_the_engine_builder_comes_where_it_has_wheels_and_is_wanted(tmp_path, is_linux_x86, engines, built):
    environment = Recorded(tmp_path, Machine(False, (), is_linux_x86, None))
    environment.install(Choices(engines=engines))
    assert any("tutorial_lib.engines install" in command for command in environment.commands) == built


def test_a_python_that_does_not_fit_is_named_and_another_one_on_the_machine_is_taken(tmp_path, monkeypatch):
    environment = Recorded(tmp_path, LAPTOP)
    monkeypatch.setattr(setup.sys, "version_info", (3, 13, 1))
    monkeypatch.setattr(setup, "_lines", lambda *command: [])
    with pytest.raises(SetupError, match=r"this is Python 3\.13, and the tutorial needs 3\.11 or 3\.12: install"):
        environment.install(Choices())
    assert not environment.commands
    monkeypatch.setattr(setup, "_lines", lambda *command: ["ok"] if command[:2] == ("py", "-3.12") else [])
    environment.install(Choices())
    assert environment.commands[0] == f"py -3.12 -m venv {tmp_path}"


def test_uv_is_used_where_it_is_and_brings_the_small_build_and_a_python(tmp_path, monkeypatch):
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS", "UV_TORCH_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(setup, "find_python", lambda: None)
    environment = Recorded(tmp_path, Machine(False, (), False, "uv"))
    environment.install(Choices())
    assert environment.commands[0].startswith("uv venv --quiet --allow-existing --python 3.12")
    assert all(command.startswith("uv ") for command in environment.commands)
    assert environment._env["UV_TORCH_BACKEND"] == "cpu"
    assert "UV_TORCH_BACKEND" not in Recorded(tmp_path, Machine(True, ("8.9",), True, "uv"))._env


def test_a_wheelhouse_takes_the_place_of_the_network(tmp_path):
    environment = Recorded(tmp_path / "venv", Machine(False, (), False, "uv"), tmp_path)
    environment.install(Choices())
    assert environment._env["PIP_NO_INDEX"] == "1"
    assert environment._env["PIP_FIND_LINKS"] == str(tmp_path)
    assert not any(command.startswith("uv ") for command in environment.commands)


@pytest.mark.parametrize(
    ("words", "course"),
    [([], "course"), (["--student"], "student --student"), (["--student", "--fresh"], "student --student --fresh")],
)
def test_it_opens_a_copy_of_the_course(tmp_path, monkeypatch, words, course):
    environment, opened = Recorded(tmp_path, LAPTOP), []
    monkeypatch.setattr(subprocess, "call", lambda command, cwd: opened.append(command) or 0)
    assert environment.lab(["--port=9000"], "--student" in words, "--fresh" in words) == 0
    assert environment.commands == [f"{environment.python} tools/course.py {ROOT}/build/{course}"]
    assert f"--notebook-dir={ROOT}/build/{course.split()[0]}" in opened[0]
    assert opened[0][-1] == "--port=9000"


def test_make_lab_is_setup_with_the_same_choices():
    command = ["make", "--no-print-directory", "-n", "lab", "STUDENT=1", "FRESH=1", "LAB=--port=9000", "TORCH=2.14"]
    recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    words = shlex.split(recipe.strip().splitlines()[-1].split("tutorial_lib setup", 1)[1])
    assert words == ["--venv", ".venv", "--torch", "2.14", "--student", "--fresh", "--", "--port=9000"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_an_interrupt_is_left_to_jupyterlab(tmp_path):
    asks = "import os, signal, time; signal.signal(signal.SIGINT, lambda *_: (time.sleep(1), os._exit(7))); "
    asks += "os.kill(os.getppid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT); time.sleep(20)"
    environment = Recorded(tmp_path, LAPTOP)
    environment.python = tmp_path / "python"
    environment.python.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{asks}'\n")
    environment.python.chmod(0o755)
    assert environment.lab([]) == 7, "it was given the time to ask"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--tensorrt", "dx"], "TENSORRT is 'dx'"),
        (["--torch", "2.15"], "TORCH is '2.15'"),
        (["--offline", "no-such-folder"], "there is no folder no-such-folder"),
        (["--with", "uv"], "uv is not installed here"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(words, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(setup, "look", lambda: LAPTOP)
    assert setup.main(["--venv", str(tmp_path / "venv"), *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {sentence}")
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(("torch", "free", "needed"), [("2.13", 1.5e9, 4), ("2.14", 6e9, 12)])
def test_too_little_space_is_said_before_anything_is_downloaded(tmp_path, monkeypatch, torch, free, needed):
    monkeypatch.setattr(setup.sys, "platform", "linux")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: namedtuple("usage", "free")(free))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "the CPU build's, which has no 2.14")
    environment = Recorded(tmp_path, LAPTOP)
    with pytest.raises(SetupError, match=rf"{free / 1e9} GB are free in .* takes {needed} GB"):
        environment.install(Choices(torch=torch))
    assert not environment.commands


def test_pip_that_would_bring_cuda_to_a_laptop_is_named_first(tmp_path, monkeypatch, capsys):
    for name in setup.INDEXES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(setup.sys, "platform", "linux")
    Recorded(tmp_path / "a", LAPTOP).install(Choices())
    assert "set PIP_EXTRA_INDEX_URL" in capsys.readouterr().err
    Recorded(tmp_path / "b", Machine(True, ("8.9",), True, None)).install(Choices())
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "the CPU build's")
    Recorded(tmp_path / "c", LAPTOP).install(Choices())
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("Tunnel connection failed: 407 Proxy Authentication Required", "the proxy refused"),
        ("Failed to establish a new connection: [Errno -3] Temporary failure in name resolution", "cannot be reached"),
        ("ERROR: Could not find a version of torch (from versions: none)", "cannot be reached"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "certificate"),
        ("error: something else", "its own message is above"),
    ],
)
def test_an_installer_that_fails_is_explained(words, sentence):
    assert sentence in setup.explain(words)


def test_a_command_that_fails_shows_its_own_words_and_what_to_do(tmp_path, capfd):
    code = "import sys; print('[Errno 28] No space left on device', file=sys.stderr); sys.exit(1)"
    with pytest.raises(SetupError, match="the installation stopped: the disk is full"):
        Environment(tmp_path, LAPTOP)._run([sys.executable, "-c", code])
    assert "[Errno 28]" in capfd.readouterr().err
    with pytest.raises(SetupError, match="no-such-program cannot be run"):
        Environment(tmp_path, LAPTOP)._run(["no-such-program"])
