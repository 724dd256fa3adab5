"""Getting what builds engines onto a machine: what is kept, and what is said when something is in the way."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path
from unittest import mock

import pytest

from tutorial_lib.engines import EnginesUnavailable, install

try:
    PINS = install.pins(install.requirements())
except EnginesUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)
try:
    MISSING = None if install.located() else ""
except EnginesUnavailable as error:
    MISSING = str(error)


def dist_info(name, version):
    return f"{name.replace('-', '_')}-{version}.dist-info"


def put(folder, name, version):
    """A package with nothing but its name and version."""
    info = folder / dist_info(name, version)
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def put_all(folder, **others):
    for name, version in {**PINS, **others}.items():
        put(folder, name, version)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder where the packages are looked for; it does not exist yet."""
    parent = tmp_path / "share"
    monkeypatch.setattr(install, "_parents", lambda: iter([parent]))
    return next(install.folders())


@pytest.fixture
def pip(monkeypatch):
    """Stands in for pip: writes what pip would, then calls ``pip.then()``."""
    stand_in = types.SimpleNamespace(then=lambda: None, runs=0)

    def run(path, target, scratch):
        stand_in.runs += 1
        put_all(target)
        (target / "torch_tensorrt" / "lib").mkdir(parents=True)
        (target / "torch_tensorrt" / "__init__.py").write_text("lib = 'is gone'\n")
        stand_in.then()

    monkeypatch.setattr(install, "_pip", run)
    return stand_in


def wheel(folder, name, version, **files):
    """Write a wheel that pip installs, with `files` by their path."""
    info = dist_info(name, version)
    files |= {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)


def is_one_sentence(text):
    return "\n" not in text.strip() and text.strip().endswith(".") and "Traceback" not in text


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        (dict.fromkeys(PINS), "not installed"),
        ({"torch-tensorrt-rtx": "2.9.0"}, r"torch-tensorrt-rtx in .* is 2\.9\.0, and torch .* needs 2\.\d+\.\d+"),
        ({"tensorrt-rtx-cu13-libs": None}, "tensorrt-rtx-cu13-libs in .* is missing"),
    ],
)
def test_what_is_missing_or_of_another_version_is_named_with_the_command(folder, versions, words):
    for name, version in {**PINS, **versions}.items():
        if version:
            put(folder, name, version)
    with pytest.raises(EnginesUnavailable, match=rf"{words}.*; run `{install.COMMAND}`\.$"):
        install.located()


@pytest.mark.parametrize(
    ("torch", "platform", "words"),
    [
        ("2.99.0+cpu", ("linux", "x86_64"), "torch 2.11, 2.13 or 2.14, and this is torch 2.99.0+cpu."),
        ("2.13.0", ("darwin", "arm64"), "this is darwin on arm64."),
        ("2.13.0", ("linux", "aarch64"), "this is linux on aarch64."),
    ],
)
def test_another_torch_or_platform_is_one_sentence_and_nothing_is_tried(
    monkeypatch, pip, capsys, torch, platform, words
):
    monkeypatch.setattr(install.torch, "__version__", torch)
    monkeypatch.setattr(sys, "platform", platform[0])
    monkeypatch.setattr(install.platform, "machine", lambda: platform[1])
    assert install.main(["--optional"]) == 0
    printed = capsys.readouterr()
    assert printed.err.endswith(f"{words}\n")
    assert is_one_sentence(printed.err)
    assert not printed.out
    assert not pip.runs


@pytest.mark.parametrize("minor", ["2.11", "2.13", "2.14"])
def test_every_supported_torch_has_a_pair_that_belongs_to_it(monkeypatch, minor):
    monkeypatch.setattr(install.torch, "__version__", f"{minor}.0")
    pinned = install.pins(install.requirements())
    assert pinned["torch-tensorrt-rtx"].startswith(f"{minor}.")
    rtx = {pinned[f"tensorrt-rtx-cu13{part}"] for part in ("", "-libs", "-bindings")}
    assert len(rtx) == 1
    frontend = install.Frontend(Path("folder"), pinned)
    assert {frontend.tensorrt_rtx} == rtx
    assert frontend.torch_tensorrt == pinned["torch-tensorrt-rtx"]


def test_installing_again_runs_no_installer_and_prints_no_licence(folder, pip, capsys):
    put_all(folder)
    assert str(folder) in install.install()
    assert not pip.runs
    assert not capsys.readouterr().out


def test_the_folder_appears_whole_and_alone_after_the_size_and_the_licence_were_told(folder, pip, capsys):
    seen = []
    pip.then = lambda: seen.extend([capsys.readouterr().out, folder.exists()])
    install.install()
    said, existed = seen
    for part in ("100 MB to download, 220 MB on disk", "NVIDIA's licence for TensorRT for RTX applies", "ENGINES=0"):
        assert part in said
    assert str(folder / dist_info("tensorrt-rtx-cu13", PINS["tensorrt-rtx-cu13"])) in said
    assert not existed
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert install.located().folder == folder
    assert not (folder / "torch_tensorrt" / "lib").exists()
    (compiled,) = folder.rglob("*.pyc")
    assert str(folder / "torch_tensorrt" / "__init__.py").encode() in compiled.read_bytes()


def test_a_folder_of_other_versions_is_replaced(folder, pip):
    put_all(folder, **{"tensorrt-rtx-cu13": "1.3.0.0"})
    (folder / "left_over.py").touch()
    install.install()
    assert install.located().folder == folder
    assert not (folder / "left_over.py").exists()


def test_two_installs_at_once_both_succeed_and_leave_one_folder(folder, pip):
    pip.then = threading.Barrier(2, timeout=20).wait  # both are about to put their folder in its place
    with ThreadPoolExecutor() as pool:
        for each in [pool.submit(install.install) for _ in range(2)]:
            assert each.result(30)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert install.located().folder == folder


def test_an_install_that_finds_the_folder_put_there_meanwhile_leaves_it_alone(folder, pip):
    def another_process():
        put_all(folder)
        (folder / "in_use").touch()

    pip.then = another_process
    install.install()
    assert (folder / "in_use").exists()


def test_an_interrupt_or_a_full_disk_while_the_folder_is_made_is_one_sentence_and_leaves_nothing(folder, pip, capsys):
    for error, code in ((KeyboardInterrupt(), install.INTERRUPTED), (OSError(errno.ENOSPC, "No space left"), 0)):
        pip.then = mock.Mock(side_effect=error)
        assert install.main(["--optional"]) == code
        printed = capsys.readouterr().err
        assert is_one_sentence(printed)
        assert ("No space left" in printed) == (code == 0)
        assert not list(folder.parent.iterdir())


def test_what_a_killed_install_left_is_removed_a_day_later(folder, pip):
    old, new = (folder.parent / f"{install.SCRATCH}{name}" for name in ("old", "new"))
    for path in (old, new):
        (path / "made").mkdir(parents=True)
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    install.install()
    assert not old.exists()
    assert new.exists(), "another install may be using it"


def test_where_a_folder_cannot_be_written_the_next_is_taken(tmp_path, monkeypatch, pip):
    (tmp_path / "file").touch()
    parents = [tmp_path / "file" / "share"]
    monkeypatch.setattr(install, "_parents", lambda: iter(parents))
    with pytest.raises(EnginesUnavailable, match=r"share cannot be written .*; set TUTORIAL_LIB_CACHE"):
        install.install()
    assert not pip.runs
    parents.append(tmp_path / "cache")
    install.install()
    assert install.located().folder.parent == tmp_path / "cache"


def test_too_little_space_is_said_before_the_download(folder, pip, monkeypatch):
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=12e6))
    with pytest.raises(EnginesUnavailable, match="12 MB free, and installing takes 450"):
        install.install()
    assert not pip.runs


@pytest.fixture
def installer(monkeypatch):
    """What the installer is called with, and what it answers: ``installer.returncode``, ``installer.stderr``."""
    answer = types.SimpleNamespace(returncode=1, stderr="", command=None, env=None, streams=None)

    def run(command, env, stdout, stderr, text):
        answer.command, answer.env, answer.streams = command, env, (stdout, stderr)
        Path(env["TMPDIR"], "half").touch()
        return answer

    monkeypatch.setattr(install.subprocess, "run", run)
    return answer


def test_what_the_installer_says_last_is_the_reason(folder, installer, capsys):
    installer.stderr = "WARNING: old\nERROR: Could not install packages due to an OSError: [Errno 28] No space left\n\n"
    assert install.main([]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: TensorRT for RTX could not be installed (Could not install packages due to")
    assert is_one_sentence(message)
    assert not list(folder.parent.iterdir()), "what the installer left goes too"


@pytest.mark.parametrize("terminal", [True, False])
def test_its_progress_is_shown_on_a_terminal_only(folder, installer, monkeypatch, terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert install.main([]) == 1
    assert ("--quiet" not in installer.command) == terminal
    assert (installer.streams[0] is None) == terminal


def test_uv_gets_pips_settings_where_there_is_no_pip_and_without_either_it_says_so(folder, installer, monkeypatch):
    monkeypatch.setattr(install, "distributions", lambda **_: [])
    monkeypatch.setattr(install.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setenv("PIP_FIND_LINKS", "wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    assert install.main([]) == 1
    assert installer.command[:3] == ["/bin/uv", "pip", "install"]
    assert installer.env["UV_FIND_LINKS"] == "wheels"
    assert "--no-index" in installer.command
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    with pytest.raises(EnginesUnavailable, match="neither pip nor uv"):
        install.install()


needs_installer = pytest.mark.skipif(
    not (any(distributions(name="pip")) or shutil.which("uv")), reason="neither pip nor uv is here"
)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """A folder of wheels, and no index beside it."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for prefix in ("PIP", "UV"):
        monkeypatch.setenv(f"{prefix}_FIND_LINKS", str(wheels))
    return wheels


@needs_installer
def test_without_a_network_installing_says_so_and_optional_is_no_failure(folder, offline, capsys):
    assert install.main(["--optional"]) == 0
    message = capsys.readouterr().err
    assert message.startswith("TensorRT for RTX could not be installed (")
    assert is_one_sentence(message)
    assert not list(folder.parent.iterdir())


@needs_installer
def test_wheels_in_a_folder_are_enough(folder, offline):
    for name, version in PINS.items():
        files = {}
        if name == "torch-tensorrt-rtx":
            kept = {"torch_tensorrt/__init__.py": "", "torch_tensorrt/dynamo/__init__.py": ""}
            removed = {"torch_tensorrt/lib/libtorchtrt.so": "", "torch_tensorrt/_C.cpython-311.so": "", "bin/run": ""}
            files = kept | removed
        if name == "tensorrt-rtx-cu13":
            files = {"tensorrt_rtx/__init__.py": "", "tensorrt_rtx/plugin/__init__.py": "import absent"}
        wheel(offline, name, version, **files)
    install.install()
    assert install.located().folder == folder
    assert (folder / "tensorrt_rtx" / "__init__.py").is_file()
    assert all((folder / file).is_file() for file in kept)
    assert not any((folder / file).exists() for file in [*removed, "bin", "torch_tensorrt/lib", "tensorrt_rtx/plugin"])


@pytest.mark.slow
def test_installing_leaves_setuptools_usable_which_inductor_needs(tmp_path):
    code = f"""
from pathlib import Path
from tutorial_lib.engines import install
try:
    install._pip(Path("missing.txt"), Path({str(tmp_path)!r}), Path({str(tmp_path)!r}))
except install.EnginesUnavailable:
    import setuptools
    print("usable")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "usable\n", done.stderr


@pytest.mark.slow
@pytest.mark.skipif(MISSING is not None, reason="this environment could not get them either")
def test_the_real_packages_are_what_the_pins_and_the_announcement_say(folder):
    install.install()
    frontend = install.located()
    megabytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    assert megabytes == pytest.approx(install.DISK_MB, rel=0.15)
    (licence, *_) = folder.glob("tensorrt_rtx_cu13-*.dist-info/**/LICENSE*")
    assert "NVIDIA" in licence.read_text()
    assert not (folder / "torch_tensorrt" / "lib").exists()
    assert not list((folder / "torch_tensorrt").glob("*.so"))
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import tensorrt_rtx as trt; "
        "print(trt.__version__, trt.Builder(trt.Logger()).create_network(0).num_layers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [frontend.tensorrt_rtx, "0"], done.stderr
