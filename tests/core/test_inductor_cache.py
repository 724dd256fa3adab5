"""Importing Dynamo makes Inductor's cache folder: one that cannot be used must not end the import."""

import json
import os
import subprocess
import sys

import pytest

CODE = "import os, tutorial_lib; tutorial_lib.BuildError; from tutorial_lib.core import inductor_cache; "
CODE += "print(inductor_cache.problem()); print(os.environ.get('TORCHINDUCTOR_CACHE_DIR'))"


def problem_with(folder):
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "reason"), [("a space", "a space in its path"), ("file/below", "Not a directory")])
def test_a_folder_that_cannot_be_used_is_replaced_for_this_process(tmp_path, name, reason):
    (tmp_path / "file").write_text("")
    problem, used = problem_with(tmp_path / name)
    assert reason in problem
    assert "TORCHINDUCTOR_CACHE_DIR" in problem
    assert used != str(tmp_path / name)


@pytest.mark.slow
def test_a_folder_that_can_be_used_stays(tmp_path):
    assert problem_with(tmp_path / "cache") == ["None", str(tmp_path / "cache")]


@pytest.mark.slow
def test_the_doctor_says_what_is_wrong_with_the_folder(tmp_path):
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "a space")}
    command = [sys.executable, "-m", "tutorial_lib", "doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    (check,) = (check for check in json.loads(done.stdout)["checks"] if check["name"] == "cache of Inductor")
    assert done.returncode == 1
    assert "a space" in check["found"]
    assert "TORCHINDUCTOR_CACHE_DIR" in check["fix"]
