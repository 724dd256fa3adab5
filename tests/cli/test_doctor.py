import argparse
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
import types
from pathlib import Path

import jupyter_core.paths
import pytest
import torch

from tutorial_lib import BackendUnavailable, Status, status
from tutorial_lib.builds.backends import openvino, preference, tensorrt
from tutorial_lib.cli import compare_backends, doctor
from tutorial_lib.cli.doctor import ABSENT, BUT, NOT_OK, OK, UNNEEDED, Check, Report, diagnose
from tutorial_lib.engines import install

ROOT = Path(__file__).parents[2]
MINOR = install.torch_minor()
H100 = "NVIDIA H100 80GB HBM3, compute capability 9.0, driver 580.159.04"
NEEDED = {flavour: tensorrt.TENSORRT[flavour][MINOR] for flavour in ("standard", "rtx")}
VERSIONS = {"torch-tensorrt": f"{MINOR}.0", "tensorrt": f"{NEEDED['standard']}.0.114", "torch-tensorrt-rtx": None}
RTX = {"torch-tensorrt": None, "torch-tensorrt-rtx": f"{MINOR}.0", "tensorrt-rtx": f"{NEEDED['rtx']}.0.114"}
NEITHER = {"torch-tensorrt": None, "torch-tensorrt-rtx": None}
L4 = "NVIDIA L4, compute capability 8.9, driver 580.159.04"
GTX1080 = "NVIDIA GeForce GTX 1080, compute capability 6.1, driver 580.159.04"

on_cpu_machine = pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without an NVIDIA GPU")
on_posix = pytest.mark.skipif(os.name != "posix", reason="uses scripts and file modes of POSIX")


def look(name, state=None, found="", fix=""):
    """The check of this name; with a state, it has to be in that, and say these words."""
    check = doctor.CHECKS[name](name)
    assert_useful(check)
    if state:
        assert check.state == state
    assert found in check.found
    assert fix in check.fix
    return check


def assert_useful(check):
    assert check.found
    assert "Traceback" not in check.found + check.fix
    if check.state in (OK, UNNEEDED):
        assert not check.fix
    else:
        assert re.search(r"`[^`]+`", check.fix), f"no command in: {check.fix}"
        assert check.fix.endswith(".")


def states(report):
    return {check.name: check.state for check in report.checks}


@pytest.fixture
def versions(monkeypatch):
    """``versions(ipywidgets="7.8")``: what is installed; None for what is not."""

    def pretend(**changed):
        changed = {name.replace("_", "-"): version for name, version in changed.items()}
        real = importlib.metadata.distributions

        def distributions(name):
            if name.replace("_", "-") not in changed:
                return list(real(name=name))
            version = changed[name.replace("_", "-")]
            return [types.SimpleNamespace(version=version, locate_file=lambda _: "here")] if version else []

        monkeypatch.setattr(doctor.importlib.metadata, "distributions", distributions)

    return pretend


@pytest.fixture
def gpu(monkeypatch):
    """A machine with an NVIDIA GPU, as the probes would find it."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def pretend(cuda="13.0", driver=(13, 0), gpus=(H100,), seen=True, why_not=None):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
        monkeypatch.setattr(doctor, "_driver_cuda", lambda: driver)
        monkeypatch.setattr(doctor, "_gpus", lambda: list(gpus))
        device = "cuda:0" if seen else "cpu"
        why_not = {"openvino": "OpenVINO is used for CPUs here; use device 'cpu'."} | (why_not or {})
        found = (Status(n, device, n not in why_not, why_not.get(n, "works.")) for n in doctor.backends.BACKENDS)
        answer = tuple(found)
        monkeypatch.setattr(doctor, "_statuses", lambda: answer)

    return pretend


@pytest.fixture
def program(monkeypatch, tmp_path):
    """``program("nvidia-smi", script)`` is the only program on the PATH."""

    def put(name, script):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent))
        return str(path)

    return put


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """What a process finds whose PATH is empty, whose cache is new, and which has imported nothing else."""
    code = (
        "import json, sys; from tutorial_lib.cli.doctor import diagnose; found = diagnose();"
        "print(json.dumps([found.to_dict(), str(found), sorted(sys.modules)]))"
    )
    folder = tmp_path_factory.mktemp("bare")
    env = {name: value for name, value in os.environ.items() if name not in ("CXX", "CC", "CHROMIUM")}
    env |= {"PATH": str(folder), "TUTORIAL_LIB_CACHE": str(folder / "cache")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT, timeout=120)
    assert not done.stderr
    return json.loads(done.stdout)


def test_what_is_supported_is_what_the_project_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["requires-python"], doctor.PYTHONS) == (">=3.11,<3.13", ("3.11", "3.12"))
    assert "torch>=2.11,<2.15" in project["dependencies"]
    assert doctor.TORCHES == ("2.11", "2.12", "2.13", "2.14")
    for minor in doctor.TORCHES:
        rtx = f"{tensorrt.TENSORRT['rtx'][minor]}."
        pins = install.pins(ROOT / ("constraints-2.14.txt" if minor == "2.14" else "constraints.txt"))
        if pins["torch"].startswith(f"{minor}."):
            assert pins["tensorrt"].startswith(f"{tensorrt.TENSORRT['standard'][minor]}.")
            assert pins["tensorrt-rtx"].startswith(rtx)
        builder = Path(install.__file__).with_name(f"requirements-{minor}.txt")
        assert not builder.is_file() or install.pins(builder)["tensorrt-rtx-cu13"].startswith(rtx)


@on_cpu_machine
def test_a_machine_without_a_gpu_is_ok_and_says_that_tensorrt_is_absent(inductor):
    report = diagnose()
    for check in report.checks:
        assert_useful(check)
    found = states(report)
    assert {found[name] for name in ("Python", "torch", "C++ compiler", "jupyterlab", "kernel python3")} == {OK}
    assert found["torch-tensorrt"] == ABSENT
    assert report.ok
    working = "inductor, openvino and eager" if found["openvino"] == OK else "inductor and eager"
    assert report.verdict.startswith(f"All three paths work here with {working} on cpu; tensorrt does not: ")
    assert "NVIDIA GPU" in report.verdict


@on_cpu_machine
def test_without_a_compiler_openvino_compiles_and_the_compiler_is_absent_not_missing(bare):
    report, text, _ = bare
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["C++ compiler"]["state"] == ABSENT
    assert checks["C++ compiler"]["fix"].startswith("for the backend inductor, install g++ ")
    assert checks["openvino"]["state"] == OK
    assert checks["openvino"]["found"].endswith("its telemetry is off")
    assert "openvino and eager on cpu" in report["verdict"]
    assert all(len(line) <= 110 for line in text.splitlines())


def test_openvino_is_absent_or_broken_or_reports_to_its_makers(versions, monkeypatch):
    versions(openvino=None)
    look("openvino", ABSENT)
    versions(openvino="2026.4.1")
    with monkeypatch.context() as patch:
        patch.setattr(openvino, "why_not", lambda device: "openvino is installed but cannot be used (why); `pip`.")
        look("openvino", NOT_OK, found="openvino is installed but cannot be used (why)")
    monkeypatch.setattr(openvino, "why_not", lambda device: None)
    monkeypatch.setattr(openvino, "precisions", lambda: ("fp32", "bf16"))
    look("openvino", OK, found="2026.4.1, computes in fp32, bf16; its telemetry is off")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", types.ModuleType("openvino_telemetry"))
    look("openvino", BUT, found="telemetry is on")


@pytest.fixture
def choice(monkeypatch, tmp_path):
    """A machine on which inductor and openvino work, and nothing was measured."""
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path))
    monkeypatch.delenv(preference.VARIABLE, raising=False)
    monkeypatch.setattr(doctor.backends, "status", lambda name, device: Status(name, device, True, "works."))


FASTER = preference.Comparison(1.31, 1.25, 1.38, "expand-reshape, batch 4", "2026-11-01")


def measured(monkeypatch, compare):
    module = types.SimpleNamespace(compare_backends=compare)
    monkeypatch.setitem(sys.modules, "tutorial_lib.cli.compare_backends", module)
    return doctor.run(argparse.Namespace(measure=True, plan=None, json=False, one_line=False))


def test_what_auto_takes_on_the_cpu_is_told_with_the_numbers_that_measuring_kept(choice, monkeypatch, capsys):
    unmeasured = look("auto on the CPU", BUT)
    assert "until then `auto` takes inductor" in Report((unmeasured,), ()).summary().splitlines()[-1]
    measured(monkeypatch, lambda: FASTER)
    look("auto on the CPU", OK, found="openvino: openvino is 1.31 times as fast as inductor (1.25 to 1.38)")
    assert "openvino: openvino is 1.31 times as fast" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setenv(preference.VARIABLE, "eager")
    look("auto on the CPU", OK, found="eager, since TUTORIAL_LIB_BACKEND says so")
    monkeypatch.delenv(preference.VARIABLE)
    monkeypatch.setattr(doctor.backends, "status", lambda name, device: Status(name, device, name != "inductor", "no."))
    look("auto on the CPU", UNNEEDED)


def test_what_cannot_be_measured_or_kept_is_one_sentence(choice, monkeypatch, capsys, tmp_path):
    def refuse():
        raise BackendUnavailable("backend openvino: the package openvino is not installed; `pip install openvino`.")

    assert measured(monkeypatch, refuse) == 1
    assert "cannot be compared here: backend openvino: the package openvino is not" in capsys.readouterr().err
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "file" / "cache"))
    assert measured(monkeypatch, lambda: FASTER) == 1
    assert "could not be kept (Not a directory); set TUTORIAL_LIB_CACHE" in capsys.readouterr().err


@pytest.mark.slow
def test_a_comparison_builds_both_and_times_them_beside_each_other(inductor, monkeypatch):
    if not status("openvino", "cpu").works:
        pytest.skip(status("openvino", "cpu").reason)
    monkeypatch.setattr(compare_backends, "SECONDS", 0.0)
    found = compare_backends.compare_backends()
    assert 0 < found.low <= found.speedup <= found.high
    assert found.model == "expand-reshape, batch 4"


def test_the_doctor_imports_neither_widgets_nor_plots(bare):
    assert not {"matplotlib", "pandas", "ipywidgets", "IPython", "torch_tensorrt"} & set(bare[2])


def test_every_fix_names_a_command_also_where_nothing_is_installed(monkeypatch, versions, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "cache"))
    for variable in ("CXX", "CC", "CHROMIUM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(doctor.importlib.metadata, "distributions", lambda name: [])
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.14.0")
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    monkeypatch.setattr(jupyter_core.paths, "jupyter_path", lambda kind: [])
    monkeypatch.setattr(install, "folders", lambda: iter(()))
    monkeypatch.setattr(openvino, "why_not", lambda device: "the package openvino is not installed; `pip install`.")
    report = diagnose()
    for check in report.checks:
        assert_useful(check)
    broken = {name for name, state in states(report).items() if state == NOT_OK}
    assert {"Python", "torch", "C++ compiler", "jupyterlab", "ipywidgets", "widgets in JupyterLab"} <= broken
    assert report.verdict.split(". ")[1].startswith("First, for Python: install Python 3.12")
    assert "these work here: eager on " in report.verdict


CACHES = {"cache of the tutorial": "TUTORIAL_LIB_CACHE", "cache of Inductor": "TORCHINDUCTOR_CACHE_DIR"}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_that_cannot_be_written_is_not_ok(monkeypatch, tmp_path, name):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv(CACHES[name], str(tmp_path / "file" / "cache"))  # refused to root too
    look(name, NOT_OK, found="cannot be written", fix=f"export {CACHES[name]}=")


@on_posix
@pytest.mark.parametrize(("mode", "tutorial", "inductor"), [(0o775, NOT_OK, BUT), (0o777, NOT_OK, NOT_OK)])
def test_a_cache_that_others_may_write_to_is_said(monkeypatch, tmp_path, mode, tutorial, inductor):
    shared = tmp_path / "a folder"
    shared.mkdir()
    shared.chmod(mode)
    for name, state in zip(CACHES, (tutorial, inductor), strict=True):
        monkeypatch.setenv(CACHES[name], str(shared))
        look(name, state, fix=f"chmod go-w '{shared}'")


@on_posix
def test_a_cache_of_another_user_is_not_ok(monkeypatch, tmp_path):
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    look("cache of the tutorial", NOT_OK, found="belongs to another user")


def test_a_disk_that_is_nearly_full_is_said_and_nothing_is_broken(monkeypatch, tmp_path):
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2**29))
    look("cache of the tutorial", BUT, found="0.5 GB free")


@on_posix
def test_inductors_cache_is_made_so_that_only_this_user_may_write(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "new"))
    look("cache of Inductor", OK)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("name", "version", "state"),
    [
        ("jupyterlab", "4.6.6", OK),
        ("jupyterlab", "3.6.8", NOT_OK),
        ("ipywidgets", "7.8.5", NOT_OK),
        ("jupyterlab_widgets", "1.1.11", NOT_OK),
        ("matplotlib", None, NOT_OK),
        ("nbval", None, ABSENT),
    ],
)
def test_a_package_that_is_missing_or_of_another_major_version_is_said(versions, name, version, state):
    versions(**{name: version})
    look(name, state, found=version or "not installed")


def test_ipywidgets_without_its_part_in_jupyterlab_is_not_ok(monkeypatch, tmp_path):
    monkeypatch.setattr(jupyter_core.paths, "jupyter_path", lambda kind: [str(tmp_path / kind)])
    look("widgets in JupyterLab", NOT_OK)
    extension = tmp_path / "labextensions" / "@jupyter-widgets" / "jupyterlab-manager"
    extension.mkdir(parents=True)
    look("widgets in JupyterLab", NOT_OK)
    (extension / "package.json").write_text("{}")
    look("widgets in JupyterLab", OK)


@pytest.fixture
def kernelspec(monkeypatch, tmp_path):
    """``kernelspec(program)``: JupyterLab finds a kernel ``python3`` that starts `program`."""

    def write(program):
        folder = tmp_path / "kernels" / "python3"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kernel.json").write_text(json.dumps({"argv": [str(program), "-m", "ipykernel_launcher"]}))
        monkeypatch.setattr(jupyter_core.paths, "jupyter_path", lambda kind: [str(tmp_path / kind)])
        return folder

    return write


def test_a_kernel_that_starts_another_python_is_not_ok(kernelspec, program, tmp_path):
    other = program("python-of-another-project", "exit 0")
    folder = kernelspec(other)
    check = look("kernel python3", NOT_OK, found=f"starts {other}")
    assert f"this process runs {sys.executable}" in check.found
    assert str(folder) in check.fix
    kernelspec(tmp_path / "removed" / "python")
    look("kernel python3", NOT_OK)


@on_posix
def test_a_link_to_the_same_python_from_another_environment_is_another_python(kernelspec, tmp_path):
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    kernelspec(link)
    look("kernel python3", NOT_OK)


def test_a_kernel_of_this_environment_is_ok_and_so_is_none(kernelspec, monkeypatch):
    for command in ("python", "python3", sys.executable):
        kernelspec(command)
        look("kernel python3", OK)
    monkeypatch.setattr(jupyter_core.paths, "jupyter_path", lambda kind: [])
    look("kernel python3", OK)


def test_inside_a_kernel_it_says_which_python_the_kernel_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", types.ModuleType("ipykernel.kernelapp"))
    look("kernel python3", found=f"this kernel runs {sys.executable}")


def test_a_gpu_with_everything_is_ok(gpu, versions):
    gpu()
    versions(**VERSIONS)
    report = diagnose()
    found = states(report)
    for name in ("NVIDIA driver", "NVIDIA GPU", "torch-tensorrt", "tensorrt on cuda:0", "inductor on cuda:0"):
        assert found[name] == OK, name
    assert "tensorrt, inductor and eager on cuda:0; openvino does not: " in report.verdict
    assert found["openvino on cuda:0"] == UNNEEDED


@pytest.mark.parametrize(
    ("driver", "cuda", "state"),
    [
        ((13, 0), "13.0", OK),
        ((13, 1), "12.8", OK),
        ((12, 4), "12.8", OK),  # compatible within a first number
        ((12, 8), "13.0", NOT_OK),
        ((13, 0), None, UNNEEDED),
        (None, "13.0", ABSENT),
        (None, None, ABSENT),
    ],
)
def test_a_driver_has_to_run_the_cuda_that_torch_is_built_for(gpu, driver, cuda, state):
    gpu(cuda, driver)
    check = look("NVIDIA driver", state)
    if state == NOT_OK:
        assert "CUDA up to 12.8" in check.found
        assert "13.0" in check.found
        assert "update the driver" in check.fix


def test_the_driver_is_asked_without_starting_cuda(monkeypatch):
    def set_version(pointer):
        pointer._obj.value = 12040
        return 0

    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda name: types.SimpleNamespace(cuDriverGetVersion=set_version))
    assert doctor._driver_cuda() == (12, 4)
    assert not torch.cuda.is_initialized() or torch.cuda.is_available()


@pytest.mark.parametrize(
    ("cuda", "seen", "gpus", "hidden", "state", "said"),
    [
        ("13.0", True, [H100], None, OK, "compute capability 9.0"),
        ("13.0", True, [], None, OK, "seen by torch"),
        ("13.0", False, [], None, ABSENT, "none"),
        (None, False, [H100], None, ABSENT, "CPU build"),
        ("13.0", False, [H100], "", ABSENT, "CUDA_VISIBLE_DEVICES hides it"),
        ("13.0", False, [H100], None, NOT_OK, "cannot use it"),
    ],
)
def test_a_gpu_that_torch_cannot_use_says_why(monkeypatch, gpu, cuda, seen, gpus, hidden, state, said):
    gpu(cuda, gpus=gpus, seen=seen)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    look("NVIDIA GPU", state, found=said)


@on_posix
def test_nvidia_smi_is_read(program):
    program("nvidia-smi", "echo 'NVIDIA H100 80GB HBM3, 9.0, 580.159.04'")
    assert doctor._gpus() == [H100]
    program("nvidia-smi", "echo 'No devices were found'; exit 6")
    assert doctor._gpus() == []


@on_posix
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "version mismatch"),
        ("exec /bin/sleep 30", "timed out"),
    ],
)
def test_a_driver_that_fails_or_hangs_is_not_ok(monkeypatch, program, script, said):
    monkeypatch.setattr(doctor, "SMI_SECONDS", 0.2)
    program("nvidia-smi", script)
    look("NVIDIA GPU", NOT_OK, found=said, fix="reboot")
    look("TensorRT for the GPU", UNNEEDED)


@pytest.mark.parametrize(
    ("flavour", "changed", "state"),
    [
        ("standard", {}, OK),
        ("standard", {"torch-tensorrt": "2.9.0"}, NOT_OK),
        ("standard", {"tensorrt": "8.6.1"}, NOT_OK),
        ("standard", {"tensorrt": None}, NOT_OK),
        ("standard", {"tensorrt": None, "tensorrt-cu13": VERSIONS["tensorrt"]}, OK),  # as some wheels are called
        ("standard", {"torch-tensorrt": None}, ABSENT),
        ("rtx", {}, OK),
        ("rtx", {"torch-tensorrt-rtx": "2.9.0"}, NOT_OK),
        ("rtx", {"tensorrt-rtx": "0.9.0"}, NOT_OK),
        ("rtx", {"tensorrt-rtx": None}, NOT_OK),
        ("rtx", {"tensorrt-rtx": None, "tensorrt-rtx-cu13": RTX["tensorrt-rtx"]}, OK),
    ],
)
def test_torch_and_torch_tensorrt_and_tensorrt_have_to_belong_together(versions, flavour, changed, state):
    library = "tensorrt-rtx" if flavour == "rtx" else "tensorrt"
    others = {f"{library}-cu13": None, f"{library}-cu12": None}
    versions(**(RTX if flavour == "rtx" else VERSIONS) | others | changed)
    check = look("torch-tensorrt", state)
    if state == NOT_OK:
        assert f"'torch-{library}=={MINOR}.*' '{library}=={NEEDED[flavour]}.*'" in check.fix


def test_both_flavours_in_one_environment_are_not_ok(versions):
    versions(**{**VERSIONS, **RTX, "torch-tensorrt": VERSIONS["torch-tensorrt"]})
    look("torch-tensorrt", NOT_OK, found="both installed", fix="`make lab TENSORRT=standard`")


@pytest.mark.parametrize(
    ("gpus", "installed", "state", "found", "fix"),
    [
        ([H100], VERSIONS, OK, "9.0; data-centre TensorRT is installed", ""),
        ([H100], NEITHER, ABSENT, "data-centre TensorRT, on compute capability 9.0", "`make lab TENSORRT=standard`"),
        ([H100], RTX, NOT_OK, "9.0; TensorRT for RTX is installed", "`make lab TENSORRT=standard`"),
        ([L4], VERSIONS, OK, "data-centre TensorRT or TensorRT for RTX, on compute capability 8.9", ""),
        ([L4, H100], RTX, OK, "on compute capability 8.9; TensorRT for RTX is installed", ""),
        ([L4], NEITHER, ABSENT, "not installed", "`make lab TENSORRT=rtx` for TensorRT for RTX"),
        ([GTX1080], NEITHER, UNNEEDED, "none runs on compute capability 6.1", ""),
        ([], NEITHER, UNNEEDED, "none, without an NVIDIA GPU", ""),
    ],
)
def test_it_says_which_tensorrt_runs_on_the_card_and_what_to_type(
    gpu, versions, monkeypatch, gpus, installed, state, found, fix
):
    monkeypatch.setattr(install, "has_wheels", lambda: True)
    gpu(gpus=gpus)
    versions(**installed)
    check = look("TensorRT for the GPU", state, found=found, fix=fix)
    assert ("TENSORRT=rtx" in check.fix) == (gpus == [L4] and installed is NEITHER), "offered where it does not run"


def test_tensorrt_for_rtx_is_not_offered_where_it_has_no_wheels(gpu, versions, monkeypatch):
    monkeypatch.setattr(install, "has_wheels", lambda: False)
    gpu(gpus=[L4])
    versions(**NEITHER)
    check = look("TensorRT for the GPU")
    assert "RTX" not in check.found + check.fix


RTX_ON_H100 = "TensorRT for RTX does not run on compute capability 9.0; use data-centre TensorRT: `make lab`."
NOT_LOADED = "torch_tensorrt is installed but cannot be imported (no libnvinfer.so.11); on a Linux machine ..."
NOT_THERE = f"the package torch-tensorrt is not installed; {tensorrt.HOW_TO_GET_IT}."
NO_TRITON = "Inductor needs the package triton on a GPU, and it is not installed; `pip install triton`."


@pytest.mark.parametrize(
    ("reason", "installed", "state", "fix"),
    [
        (RTX_ON_H100, RTX, NOT_OK, "use data-centre TensorRT: `make lab`."),
        (NOT_LOADED, VERSIONS, NOT_OK, "-r requirements-tensorrt.txt`"),
        (NOT_LOADED, RTX, NOT_OK, "-r requirements-tensorrt-rtx.txt`"),
        (NOT_THERE, NEITHER, ABSENT, "`make lab` installs it"),
        (NO_TRITON, NEITHER, NOT_OK, "`pip install triton`"),
        ("Inductor needs a newer GPU.", NEITHER, NOT_OK, "`export CUDA_VISIBLE_DEVICES=`"),
    ],
)
def test_a_backend_that_does_not_work_on_the_gpu_says_why(gpu, versions, reason, installed, state, fix):
    backend = "inductor" if reason.startswith("Inductor") else "tensorrt"
    gpu(why_not={backend: reason})
    versions(**installed)
    (check,) = (check for check in diagnose().checks if check.name == f"{backend} on cuda:0")
    assert_useful(check)
    assert check.state == state
    assert reason.startswith(check.found)
    assert fix in check.fix


@pytest.fixture
def child(monkeypatch, versions, tmp_path):
    """``child(code)``: what ``import tutorial_lib`` does in the process that imports Torch-TensorRT."""

    def write(code):
        (tmp_path / "tutorial_lib.py").write_text(code)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(doctor, "environment", lambda: {**os.environ, "PYTHONPATH": str(tmp_path)})
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        versions(**VERSIONS)

    return write


def test_what_torch_tensorrt_prints_is_kept_out_of_the_report(child, capfd):
    child("class S: pass\ns = S(); s.__dict__ = dict(name='eager', device='cuda:0', works=True, reason='works.')\n"
          "def statuses():\n    print('noise', end='')\n    return [s]\n")  # fmt: skip
    assert doctor._statuses() == (Status("eager", "cuda:0", True, "works."),)
    assert not capfd.readouterr().out


def test_a_crash_while_importing_torch_tensorrt_leaves_the_other_checks_alone(child):
    child("import os; os.abort()")
    report = diagnose()
    assert len(report.checks) == len(doctor.CHECKS) + 1
    assert report.checks[-1].name == "backends"
    assert_useful(report.checks[-1])
    assert "exit code -6" in report.checks[-1].found
    assert "could not be found out" in report.verdict


def test_a_check_that_raises_or_hangs_does_not_stop_the_others(monkeypatch):
    def raises(name):
        raise RuntimeError("the disk\nis on fire")

    forever = threading.Event()
    monkeypatch.setattr(doctor, "SECONDS", 0.3)
    few = {"one": raises, "two": lambda name: forever.wait(20), "Python": doctor.CHECKS["Python"]}
    monkeypatch.setattr(doctor, "CHECKS", few)
    monkeypatch.setattr(doctor, "_statuses", lambda: (Status("eager", "cpu", True, "works on cpu."),))
    try:
        report = diagnose()
    finally:
        forever.set()
    assert [check.state for check in report.checks] == [NOT_OK, NOT_OK, OK]
    assert report.checks[0].found == "it could not be checked (the disk is on fire)"
    assert report.checks[1].found == "it could not be checked (no answer in time)"
    for check in report.checks:
        assert_useful(check)
    assert report.verdict.startswith("2 things are NOT OK. First, for one: run `")


def test_more_threads_than_cores_are_said(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4096)
    look("cores and memory", BUT)


def test_an_engine_builder_that_is_not_installed_is_absent_and_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(install, "folders", lambda: iter([tmp_path / "nowhere"]))
    monkeypatch.setattr(install, "has_wheels", lambda: True)
    look("engine builder", ABSENT, found="100 MB", fix="`python -m tutorial_lib.engines install`")
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    look("engine builder", ABSENT, found="Linux x86-64 only")


def test_an_engine_builder_is_named_with_its_versions(tmp_path):
    builder = install.Frontend(tmp_path, {"torch-tensorrt-rtx": f"{MINOR}.0", "tensorrt-rtx-cu13": "1.2.3"})
    check = doctor._ready("engine builder", lambda: builder, ABSENT)
    assert (check.state, check.found) == (OK, f"TensorRT for RTX 1.2.3 and Torch-TensorRT {MINOR}.0 in {tmp_path}")


EXAMPLE = Report(
    (
        Check("a <b>", OK, "1 & 2 " * 40),
        Check("longer name", NOT_OK, "x" * 300, "`rm -r /" + "y" * 120 + " --no-deps` & <script>."),
    ),
    (Status("tensorrt", "cpu", False, "it needs <a GPU>; use one."), Status("eager", "cpu", True, "works on cpu.")),
)


def test_the_table_fits_its_width_and_ends_with_the_verdict():
    lines = str(EXAMPLE).splitlines()
    assert max(map(len, lines)) <= 110
    assert lines[0].startswith("OK      a <b>")
    assert " ".join(lines[lines.index("") + 1 :]).endswith("eager on cpu; tensorrt does not: it needs <a GPU>.")


def test_the_html_is_escaped_and_says_what_its_rows_and_columns_are():
    page = EXAMPLE._repr_html_()
    assert "<b>" not in page
    assert "<script>" not in page
    assert page.count('scope="col"') == 3
    assert page.count('scope="row"') == len(EXAMPLE.checks)
    for part in ("a &lt;b&gt;", "<caption", "<code>rm -r", NOT_OK, "tensorrt does not: it needs &lt;a GPU&gt;."):
        assert part in page


@pytest.fixture
def typed(monkeypatch, capsys):
    """``typed(report, option)``: the exit code of the command, and what it prints where it finds `report`."""
    parser = argparse.ArgumentParser()
    doctor.add_parser(parser.add_subparsers())

    def call(report, *options):
        monkeypatch.setattr(doctor, "diagnose", lambda: report)
        args = parser.parse_args(["doctor", *options])
        return args.run(args), capsys.readouterr().out

    return call


@pytest.mark.parametrize(("states", "code"), [([OK, ABSENT, BUT, UNNEEDED], 0), ([OK, NOT_OK], 1)])
def test_the_exit_code_is_one_if_anything_is_not_ok(typed, states, code):
    checks = tuple(Check(f"thing {n}", state, "found", "`do` it.") for n, state in enumerate(states))
    report = Report(checks, EXAMPLE.backends)
    assert typed(report) == (code, f"{report}\n")
    as_json = typed(report, "--json")
    assert as_json == (code, json.dumps(report.to_dict(), indent=2) + "\n")
    assert json.loads(as_json[1])["ok"] is (code == 0)


def test_a_class_is_one_line_for_each_machine(typed, monkeypatch):
    monkeypatch.setattr(doctor.platform, "node", lambda: "seat-7")
    checks = (Check("Python", NOT_OK, "3.9", "install 3.12."), Check("engine builder", OK, "here"))
    broken = "seat-7: NOT OK, Python: install 3.12. | backends: eager | TensorRT engines are built\n"
    assert typed(Report(checks, EXAMPLE.backends), "--class") == (1, broken)
    ready = "seat-7: ready | backends: none | TensorRT engines are shown as recorded\n"
    assert typed(Report((Check("Python", OK, "3.12"),), ()), "--class") == (0, ready)
