"""What the preview needs on a machine, and what it says when something is missing."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tutorial_lib import expand_reshape
from tutorial_lib.engines import EnginesUnavailable, cli, install, preview, stub

PINS = install.pins(install.requirements())


def put(folder, name, version):
    """A package with nothing but its name and version."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder where the front end is looked for; empty."""
    place = tmp_path / "frontend"
    monkeypatch.setattr(install, "folders", lambda: iter([place]))
    return place


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A new cache folder."""
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_missing_wheel_is_one_sentence_with_the_command(folder):
    with pytest.raises(EnginesUnavailable, match=rf"which is not installed; run `{install.COMMAND}`\.$"):
        preview(expand_reshape(), "jit")


def test_a_wheel_of_another_version_is_named(folder):
    for name, version in {**PINS, "torch-tensorrt": "2.9.0"}.items():
        put(folder, name, version)
    with pytest.raises(
        EnginesUnavailable, match=r"torch-tensorrt in .* is 2\.9\.0, and torch .* needs 2\.\d+\.\d+; run"
    ):
        install.located()


def test_a_wheel_that_is_not_there_is_named(folder):
    for name in set(PINS) - {"dllist"}:
        put(folder, name, PINS[name])
    with pytest.raises(EnginesUnavailable, match=r"dllist in .* is missing"):
        install.located()


def test_another_torch_is_named(monkeypatch):
    monkeypatch.setattr(install.torch, "__version__", "2.99.0+cpu")
    with pytest.raises(EnginesUnavailable, match=r"for torch 2\.11, 2\.13, and this is torch 2\.99\.0\+cpu\.$"):
        install.located()


def test_another_system_is_named(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(EnginesUnavailable, match="runs on Linux only, and this is darwin"):
        install.located()


def test_installing_again_runs_no_installer(folder, monkeypatch):
    for name, version in PINS.items():
        put(folder, name, version)
    monkeypatch.setattr(install.subprocess, "run", None)
    assert str(folder) in install.install()


@pytest.mark.skipif(
    not (any(distributions(name="pip")) or shutil.which("uv")), reason="neither pip nor uv is here to say so"
)
def test_without_an_index_installing_says_so_and_optional_is_no_failure(folder, monkeypatch, capsys, tmp_path):
    for prefix in ("PIP", "UV"):
        monkeypatch.setenv(f"{prefix}_NO_INDEX", "1")
        monkeypatch.setenv(f"{prefix}_FIND_LINKS", str(tmp_path))
    assert cli.main(["install", "--optional"]) == 0
    message = capsys.readouterr().err
    assert message.startswith("the front end of Torch-TensorRT could not be installed (")
    assert "everything else will" in message
    assert cli.main(["install"]) == cli.FAILED
    assert not folder.exists()


def test_without_a_folder_to_write_installing_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(install, "folders", lambda: iter([tmp_path / "file" / "frontend"]))
    with pytest.raises(EnginesUnavailable, match=r"file cannot be written .*; set TUTORIAL_LIB_CACHE"):
        install.install()


def test_the_native_libraries_are_not_kept(frontend):
    package = frontend.folder / "torch_tensorrt"
    assert (package / "__init__.py").is_file()
    assert not (package / "lib").exists()
    assert not list(package.glob("*.so"))
    assert sum(f.stat().st_size for f in frontend.folder.rglob("*.py")) < 10e6


def test_a_missing_compiler_is_one_sentence(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(
        EnginesUnavailable, match=r"needs a C compiler, and there is none on the PATH; install one .*\.$"
    ):
        stub.built("11")


def test_it_crosses_from_the_previews_process_to_the_reader(frontend, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(EnginesUnavailable, match="needs a C compiler"):
        preview(expand_reshape(), "export")


def test_a_compiler_that_fails_is_quoted(cache, monkeypatch, tmp_path):
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'fatal error: no licence' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(EnginesUnavailable, match=r"cc cannot build a library \(fatal error: no licence\)"):
        stub.built("11")


def test_a_cache_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        EnginesUnavailable, match=r"cache cannot be written \(.*\); set TUTORIAL_LIB_CACHE to a folder that"
    ):
        stub.built("11")


def test_the_stub_is_built_once(cache):
    folder = stub.built("11")
    before = [f.stat().st_mtime_ns for f in sorted(folder.iterdir())]
    assert len(before) == len(stub.LIBRARIES)
    assert stub.built("11") == folder
    assert [f.stat().st_mtime_ns for f in sorted(folder.iterdir())] == before


def test_a_real_libnvinfer_is_used_and_never_shadowed(cache, tmp_path):
    # Major versions that do not exist, so that a real TensorRT on this machine changes nothing.
    real = tmp_path / "real"
    shutil.copytree(stub.built("999"), real)
    shutil.rmtree(cache)
    code = "from tutorial_lib.engines import stub; print(stub.load('999'), stub.load('998'))"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(real), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["libnvinfer.so.999", "stub"]
    assert [folder.name.split("-")[2] for folder in Path(cache).glob("stub-*")] == ["998"]


def test_installing_leaves_setuptools_usable_which_inductor_needs(tmp_path):
    code = f"""
from pathlib import Path
from tutorial_lib.engines import install
try:
    install._pip(Path("missing.txt"), Path({str(tmp_path)!r}))
except install.EnginesUnavailable:
    import setuptools
    print("usable")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "usable\n", done.stderr
