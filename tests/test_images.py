"""The Dockerfile, the dev container, Binder: their steps, as far as they can be run without a container."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tutorial_lib.cli import main, setup

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STEPS = re.findall(
    r"^(\w+) ((?:.*\\\n)*.*)$", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE), flags=re.MULTILINE
)


def test_images_leave_out_what_may_not_be_given_to_others_unless_its_owner_decides():
    assert ("ARG", "ENGINES=0") in STEPS
    assert "--engines $ENGINES" in DOCKERFILE
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert container["build"]["args"] == {"ENGINES": "0"}
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert "engines" not in re.sub(r"#.*", "", (ROOT / ".binder/postBuild").read_text())


def test_what_is_installed_and_run_is_run_by_a_user_without_rights():
    user = STEPS.index(("USER", "learner"))
    assert all("tutorial_lib" not in words for name, words in STEPS[:user] if name == "RUN")
    command = json.loads(next(words for name, words in STEPS[user:] if name == "CMD"))
    assert "--allow-root" not in command
    assert not any("token" in word for word in command)


def test_the_setup_in_the_image_is_one_that_setup_understands(tmp_path, monkeypatch):
    (words,) = (words for name, words in STEPS if name == "RUN" and "tutorial_lib" in words)
    line = shlex.split(words.split("&&")[0].replace("\\\n", " ").replace("$ENGINES", "0"))
    assert line[:3] == ["python", "-m", "tutorial_lib"]
    seen = []
    monkeypatch.setattr(setup.Environment, "_run", lambda environment, command: seen.append(list(map(str, command))))
    monkeypatch.setattr(setup, "look", lambda: setup.Machine(False, (), True, "uv"))
    assert main([*line[3:], "--venv", str(tmp_path)]) == 0
    assert seen[0][:2] == ["uv", "venv"]
    assert not any("tutorial_lib.engines" in command for command in seen)


def test_nothing_of_a_working_copy_gets_into_the_image():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".venv", "build", "wheelhouse", ".git"} <= set(ignored)


@pytest.mark.slow
def test_the_last_step_makes_the_course_that_the_image_opens(tmp_path):
    command = json.loads(next(words for name, words in STEPS if name == "CMD"))
    (folder,) = (word.split("=")[1] for word in command if word.startswith("--notebook-dir="))
    assert f"tools/course.py {folder}" in DOCKERFILE
    assert f"tools/course.py {folder}" in (ROOT / ".binder/postBuild").read_text()
    subprocess.run([sys.executable, ROOT / "tools/course.py", tmp_path / folder], check=True, timeout=60)
    assert (tmp_path / folder / "notebooks/00_start_here.ipynb").is_file()
