"""Importing Dynamo makes Inductor's cache folder: one that cannot be used must not end the import."""

import os
import subprocess
import sys
import tempfile

import pytest

from tutorial_lib.core import inductor_cache

CODE = "import tutorial_lib; tutorial_lib.BuildError; from tutorial_lib.core import inductor_cache; "
CODE += "print(inductor_cache.problem())"


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    """``prepared(folder)``: what is wrong with that folder, and which one this process uses."""
    monkeypatch.setattr(inductor_cache, "_problem", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def prepare(folder):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        inductor_cache.prepare()
        return inductor_cache.problem(), os.environ["TORCHINDUCTOR_CACHE_DIR"]

    return prepare


@pytest.mark.parametrize(("name", "reason"), [("a space", "a space in its path"), ("file/below", "Not a directory")])
def test_a_folder_that_cannot_be_used_is_replaced_for_this_process(tmp_path, prepared, name, reason):
    (tmp_path / "file").write_text("")
    problem, used = prepared(tmp_path / name)
    assert reason in str(problem)
    assert "TORCHINDUCTOR_CACHE_DIR" in str(problem)
    assert os.path.isdir(used)
    assert used != str(tmp_path / name)


def test_a_folder_that_can_be_used_stays(tmp_path, prepared):
    assert prepared(tmp_path / "cache") == (None, str(tmp_path / "cache"))


@pytest.mark.slow
def test_a_folder_that_cannot_be_used_does_not_end_the_import(tmp_path):
    (tmp_path / "file").touch()
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": f"{tmp_path}/file/below"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Not a directory" in done.stdout
