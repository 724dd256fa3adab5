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
from functools import partial
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


def look(name):
    check = doctor.CHECKS[name](name)
    assert_useful(check)
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
    assert project["requires-python"] == ">=3.11,<3.13"
    assert doctor.PYTHONS == ("3.11", "3.12")
    assert "torch>=2.11,<2.15" in project["dependencies"]
    assert doctor.TORCHES == ("2.11", "2.12", "2.13", "2.14")
    assert set(tensorrt.TENSORRT) == {"standard", "rtx"}
    for minor in doctor.TORCHES:
        pins = install.pins(ROOT / ("constraints-2.14.txt" if minor == "2.14" else "constraints.txt"))
        if pins["torch"].startswith(f"{minor}."):
            assert pins["tensorrt"].startswith(f"{tensorrt.TENSORRT['standard'][minor]}.")
            assert pins["tensorrt-rtx"].startswith(f"{tensorrt.TENSORRT['rtx'][minor]}.")
        builder = Path(install.__file__).with_name(f"requirements-{minor}.txt")
        if builder.is_file():
            assert install.pins(builder)["tensorrt-rtx-cu13"].startswith(f"{tensorrt.TENSORRT['rtx'][minor]}.")


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
    assert checks["C++ compiler"]["found"] == "no C++ compiler was found on the PATH"
    assert checks["C++ compiler"]["state"] == ABSENT
    assert checks["C++ compiler"]["fix"].startswith("for the backend inductor, install g++ ")
    assert checks["openvino"]["state"] == OK
    assert checks["openvino"]["found"].endswith("its telemetry is off")
    assert "openvino and eager on cpu" in report["verdict"]
    assert all(len(line) <= 110 for line in text.splitlines())


def test_without_a_compiler_and_openvino_nothing_compiles_and_the_verdict_begins_with_the_compiler(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(openvino.importlib.util, "find_spec", lambda name: None)
    report = diagnose()
    assert states(report)["C++ compiler"] == NOT_OK
    assert re.search(r"NOT OK\. First, for C\+\+ compiler: install g\+\+ ", report.verdict)
    assert "these work here: eager on " in report.verdict


def test_openvino_is_absent_or_broken_or_reports_to_its_makers(versions, monkeypatch):
    versions(openvino=None)
    assert look("openvino").state == ABSENT
    versions(openvino="2026.4.1")
    with monkeypatch.context() as patch:
        patch.setattr(openvino, "why_not", lambda device: "openvino is installed but cannot be used (why); `pip`.")
        broken = look("openvino")
        assert (broken.state, broken.found) == (NOT_OK, "openvino is installed but cannot be used (why)")
    monkeypatch.setattr(openvino, "why_not", lambda device: None)
    monkeypatch.setattr(openvino, "precisions", lambda: ("fp32", "bf16"))
    assert look("openvino") == Check("openvino", OK, "2026.4.1, computes in fp32, bf16; its telemetry is off")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", types.ModuleType("openvino_telemetry"))
    reporting = look("openvino")
    assert reporting.state == BUT
    assert "telemetry is on" in reporting.found


@pytest.fixture
def choice(monkeypatch, tmp_path):
    """A machine on which inductor and openvino work, and nothing was measured."""
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path))
    monkeypatch.delenv(preference.VARIABLE, raising=False)
    monkeypatch.setattr(doctor.backends, "status", lambda name, device: Status(name, device, True, "works."))


def test_what_auto_takes_on_the_cpu_is_told_with_its_numbers(choice, monkeypatch):
    unmeasured = look("auto on the CPU")
    assert unmeasured.state == BUT
    line = Report((unmeasured,), ()).summary().splitlines()[-1]
    assert line.startswith("- auto on the CPU: ")
    assert "until then `auto` takes inductor" in line
    preference.remember(preference.Comparison(1.31, 1.25, 1.38, "expand-reshape, batch 4", "2026-11-01"))
    assert look("auto on the CPU") == Check(
        "auto on the CPU",
        OK,
        "openvino: openvino is 1.31 times as fast as inductor (1.25 to 1.38) on expand-reshape, batch 4, measured "
        "here on 2026-11-01",
    )
    monkeypatch.setenv(preference.VARIABLE, "eager")
    assert look("auto on the CPU").found == "eager, since TUTORIAL_LIB_BACKEND says so"
    monkeypatch.delenv(preference.VARIABLE)
    monkeypatch.setattr(doctor.backends, "status", lambda name, device: Status(name, device, name != "inductor", "no."))
    assert look("auto on the CPU").state == UNNEEDED


def measured(monkeypatch, compare):
    module = types.SimpleNamespace(compare_backends=compare)
    monkeypatch.setitem(sys.modules, "tutorial_lib.cli.compare_backends", module)
    return doctor.run(argparse.Namespace(measure=True, plan=None, json=False, one_line=False))


def test_measuring_keeps_what_was_found_and_the_report_shows_it(choice, monkeypatch, capsys):
    comparison = preference.Comparison(0.8, 0.7, 0.9, "expand-reshape, batch 4", "2026-11-01")
    measured(monkeypatch, lambda: comparison)
    assert preference.comparison_here() == comparison
    assert "inductor: openvino is 0.80 times as fast" in " ".join(capsys.readouterr().out.split())


def test_what_cannot_be_measured_or_kept_is_one_sentence(choice, monkeypatch, capsys, tmp_path):
    def refuse():
        raise BackendUnavailable("backend openvino: the package openvino is not installed; `pip install openvino`.")

    assert measured(monkeypatch, refuse) == 1
    assert capsys.readouterr().err == (
        "error: inductor and openvino cannot be compared here: backend openvino: the package openvino is not "
        "installed; `pip install openvino`.\n"
    )
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "file" / "cache"))
    comparison = preference.Comparison(0.8, 0.7, 0.9, "expand-reshape, batch 4", "2026-11-01")
    assert measured(monkeypatch, lambda: comparison) == 1
    assert "the result could not be kept (Not a directory); set TUTORIAL_LIB_CACHE" in capsys.readouterr().err


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


def test_a_cache_that_cannot_be_written_is_not_ok(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("mine")
    for variable, name in (("TUTORIAL_LIB_CACHE", "tutorial"), ("TORCHINDUCTOR_CACHE_DIR", "Inductor")):
        monkeypatch.setenv(variable, str(tmp_path / "file" / "cache"))  # refused to root too
        check = look(f"cache of the {name}" if name == "tutorial" else f"cache of {name}")
        assert check.state == NOT_OK
        assert "cannot be written" in check.found
        assert f"export {variable}=" in check.fix


@on_posix
@pytest.mark.parametrize(("mode", "tutorial", "inductor"), [(0o775, NOT_OK, BUT), (0o777, NOT_OK, NOT_OK)])
def test_a_cache_that_others_may_write_to_is_said(monkeypatch, tmp_path, mode, tutorial, inductor):
    shared = tmp_path / "a folder"
    shared.mkdir()
    shared.chmod(mode)
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(shared))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(shared))
    assert look("cache of the tutorial").state == tutorial
    check = look("cache of Inductor")
    assert check.state == inductor
    assert f"chmod go-w '{shared}'" in check.fix


@on_posix
def test_a_cache_of_another_user_is_not_ok(monkeypatch, tmp_path):
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    check = look("cache of the tutorial")
    assert check.state == NOT_OK
    assert "belongs to another user" in check.found


def test_a_disk_that_is_nearly_full_is_said_and_nothing_is_broken(monkeypatch, tmp_path):
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2**29))
    check = look("cache of the tutorial")
    assert check.state == BUT
    assert "0.5 GB free" in check.found


@on_posix
def test_inductors_cache_is_made_so_that_only_this_user_may_write(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "new"))
    assert look("cache of Inductor").state == OK
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("name", "version", "state"),
    [
        ("jupyterlab", "4.6.6", OK),
        ("jupyterlab", "3.6.8", NOT_OK),
        ("jupyterlab", None, NOT_OK),
        ("ipywidgets", "7.8.5", NOT_OK),
        ("jupyterlab_widgets", "1.1.11", NOT_OK),
        ("matplotlib", None, NOT_OK),
        ("nbval", None, ABSENT),
    ],
)
def test_a_package_that_is_missing_or_of_another_major_version_is_said(versions, name, version, state):
    versions(**{name: version})
    check = look(name)
    assert check.state == state
    assert (version or "not installed") in check.found


def test_ipywidgets_without_its_part_in_jupyterlab_is_not_ok(monkeypatch, tmp_path):
    monkeypatch.setattr(jupyter_core.paths, "jupyter_path", lambda kind: [str(tmp_path / kind)])
    assert look("widgets in JupyterLab").state == NOT_OK
    extension = tmp_path / "labextensions" / "@jupyter-widgets" / "jupyterlab-manager"
    extension.mkdir(parents=True)
    assert look("widgets in JupyterLab").state == NOT_OK
    (extension / "package.json").write_text("{}")
    assert look("widgets in JupyterLab").state == OK


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
    check = look("kernel python3")
    assert check.state == NOT_OK
    assert f"starts {other}" in check.found
    assert f"this process runs {sys.executable}" in check.found
    assert str(folder) in check.fix
    kernelspec(tmp_path / "removed" / "python")
    assert look("kernel python3").state == NOT_OK


@on_posix
def test_a_link_to_the_same_python_from_another_environment_is_another_python(kernelspec, tmp_path):
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin" / "python"
    link.symlink_to(sys.executable)
    kernelspec(link)
    assert look("kernel python3").state == NOT_OK


@pytest.mark.parametrize("program", ["python", "python3", sys.executable])
def test_a_kernel_of_this_environment_is_ok(kernelspec, program):
    kernelspec(program)
    assert look("kernel python3").state == OK


def test_without_a_kernelspec_jupyterlab_starts_its_own_python(monkeypatch):
    monkeypatch.setattr(jupyter_core.paths, "jupyter_path", lambda kind: [])
    assert look("kernel python3").state == OK


def test_inside_a_kernel_it_says_which_python_the_kernel_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", types.ModuleType("ipykernel.kernelapp"))
    assert f"this kernel runs {sys.executable}" in look("kernel python3").found


def test_a_kernelspec_that_cannot_be_read_is_one_sentence(kernelspec):
    (kernelspec("python") / "kernel.json").write_text("{")
    (check,) = (check for check in diagnose().checks if check.name == "kernel python3")
    assert check.state == NOT_OK
    assert "it could not be checked (" in check.found
    assert_useful(check)


def test_a_gpu_with_everything_is_ok(gpu, versions):
    gpu()
    versions(**VERSIONS)
    report = diagnose()
    found = states(report)
    for name in ("NVIDIA driver", "NVIDIA GPU", "torch-tensorrt", "tensorrt on cuda:0", "inductor on cuda:0"):
        assert found[name] == OK, name
    good = Report(tuple(check for check in report.checks if check.state == OK), report.backends)
    assert good.verdict == (
        "All three paths work here with tensorrt, inductor and eager on cuda:0; "
        "openvino does not: OpenVINO is used for CPUs here."
    )
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
    check = look("NVIDIA driver")
    assert check.state == state
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


def test_a_driver_that_is_too_old_comes_first_in_the_verdict(gpu):
    gpu("13.0", (12, 8), seen=False, why_not={"tensorrt": "TensorRT needs an NVIDIA GPU."})
    report = diagnose()
    broken = [check.name for check in report.checks if check.state == NOT_OK]
    assert broken[-2:] == ["NVIDIA driver", "NVIDIA GPU"]
    assert not report.ok


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
    check = look("NVIDIA GPU")
    assert check.state == state
    assert said in check.found


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
    check = look("NVIDIA GPU")
    assert check.state == NOT_OK
    assert said in check.found
    assert "reboot" in check.fix


@pytest.mark.parametrize(
    ("torch_tensorrt", "engine", "state"),
    [
        (VERSIONS["torch-tensorrt"], VERSIONS["tensorrt"], OK),
        ("2.9.0", VERSIONS["tensorrt"], NOT_OK),
        (VERSIONS["torch-tensorrt"], "8.6.1", NOT_OK),
        (VERSIONS["torch-tensorrt"], None, NOT_OK),
        (None, None, ABSENT),
        (None, VERSIONS["tensorrt"], ABSENT),
    ],
)
def test_torch_and_torch_tensorrt_and_tensorrt_have_to_belong_together(versions, torch_tensorrt, engine, state):
    versions(
        torch_tensorrt=torch_tensorrt, tensorrt=engine, tensorrt_cu13=None, tensorrt_cu12=None, torch_tensorrt_rtx=None
    )
    check = look("torch-tensorrt")
    assert check.state == state
    if state == NOT_OK:
        assert f"'torch-tensorrt=={MINOR}.*' 'tensorrt=={NEEDED['standard']}.*'" in check.fix


def test_tensorrt_is_found_under_the_name_of_its_cuda_too(versions):
    versions(**{**VERSIONS, "tensorrt": None, "tensorrt-cu13": VERSIONS["tensorrt"]})
    assert look("torch-tensorrt").state == OK


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({}, OK),
        ({"tensorrt-rtx": None, "tensorrt-rtx-cu13": RTX["tensorrt-rtx"]}, OK),
        ({"tensorrt-rtx": "0.9.0", "tensorrt-rtx-cu13": None}, NOT_OK),
        ({"tensorrt-rtx": None, "tensorrt-rtx-cu13": None, "tensorrt-rtx-cu12": None}, NOT_OK),
        ({"torch-tensorrt-rtx": "2.9.0"}, NOT_OK),
    ],
)
def test_the_rtx_flavour_has_to_belong_together_too(versions, changed, state):
    versions(**RTX | changed)
    check = look("torch-tensorrt")
    assert check.state == state
    assert check.found.startswith("torch-tensorrt-rtx ")
    if state == NOT_OK:
        assert f"'torch-tensorrt-rtx=={MINOR}.*' 'tensorrt-rtx=={NEEDED['rtx']}.*'" in check.fix


def test_both_flavours_in_one_environment_are_not_ok(versions):
    versions(**{**VERSIONS, **RTX, "torch-tensorrt": VERSIONS["torch-tensorrt"]})
    check = look("torch-tensorrt")
    assert check.state == NOT_OK
    assert "both installed" in check.found
    assert "`make lab TENSORRT=standard`" in check.fix


@pytest.mark.parametrize(
    ("gpus", "installed", "state", "found", "fix"),
    [
        (
            [H100],
            VERSIONS,
            OK,
            "data-centre TensorRT, on compute capability 9.0; data-centre TensorRT is installed",
            "",
        ),
        ([H100], NEITHER, ABSENT, "data-centre TensorRT, on compute capability 9.0", "`make lab TENSORRT=standard`"),
        ([H100], RTX, NOT_OK, "9.0; TensorRT for RTX is installed", "`make lab TENSORRT=standard`"),
        ([L4], VERSIONS, OK, "data-centre TensorRT or TensorRT for RTX, on compute capability 8.9", ""),
        ([L4], RTX, OK, "TensorRT for RTX is installed", ""),
        ([L4, H100], RTX, OK, "on compute capability 8.9", ""),
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
    check = look("TensorRT for the GPU")
    assert check.state == state
    assert found in check.found
    assert fix in check.fix
    assert ("TENSORRT=rtx" in check.fix) == (gpus == [L4] and installed is NEITHER), "offered where it does not run"


def test_tensorrt_for_rtx_is_not_offered_where_it_has_no_wheels(gpu, versions, monkeypatch):
    monkeypatch.setattr(install, "has_wheels", lambda: False)
    gpu(gpus=[L4])
    versions(**NEITHER)
    check = look("TensorRT for the GPU")
    assert "RTX" not in check.found + check.fix


def test_a_gpu_that_gives_no_answer_is_reported_once(monkeypatch):
    def fails():
        raise RuntimeError("nvidia-smi says: no")

    monkeypatch.setattr(doctor, "_gpus", fails)
    assert look("TensorRT for the GPU").state == UNNEEDED
    assert look("NVIDIA GPU").state == NOT_OK


NOT_LOADED = "torch_tensorrt is installed but cannot be imported (no libnvinfer.so.11); on a Linux machine ..."


@pytest.mark.parametrize(
    ("backend", "reason", "installed", "state", "problem", "fix"),
    [
        (
            "tensorrt",
            "TensorRT for RTX does not run on compute capability 9.0; use data-centre TensorRT: `make lab`.",
            RTX,
            NOT_OK,
            "TensorRT for RTX does not run on compute capability 9.0",
            "use data-centre TensorRT: `make lab`.",
        ),
        ("tensorrt", NOT_LOADED, VERSIONS, NOT_OK, "libnvinfer.so.11", "-r requirements-tensorrt.txt`"),
        ("tensorrt", NOT_LOADED, RTX, NOT_OK, "libnvinfer.so.11", "-r requirements-tensorrt-rtx.txt`"),
        (
            "tensorrt",
            f"the package torch-tensorrt is not installed; {tensorrt.HOW_TO_GET_IT}.",
            NEITHER,
            ABSENT,
            "not installed",
            "`make lab` installs it",
        ),
        (
            "inductor",
            "Inductor needs the package triton on a GPU, and it is not installed; `pip install triton`.",
            NEITHER,
            NOT_OK,
            "needs the package triton",
            "`pip install triton`",
        ),
        ("inductor", "Triton needs a newer GPU.", NEITHER, NOT_OK, "a newer GPU", "`export CUDA_VISIBLE_DEVICES=`"),
    ],
)
def test_a_backend_that_does_not_work_on_the_gpu_says_why(
    gpu, versions, backend, reason, installed, state, problem, fix
):
    gpu(why_not={backend: reason})
    versions(**installed)
    (check,) = (check for check in diagnose().checks if check.name == f"{backend} on cuda:0")
    assert_useful(check)
    assert check.state == state
    assert problem in check.found
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
    assert look("cores and memory").state == BUT


def test_an_engine_builder_that_is_not_installed_is_absent_and_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(install, "folders", lambda: iter([tmp_path / "nowhere"]))
    monkeypatch.setattr(install, "has_wheels", lambda: True)
    check = look("engine builder")
    assert check.state == ABSENT
    assert "100 MB" in check.found
    assert "`python -m tutorial_lib.engines install`" in check.fix
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    check = look("engine builder")
    assert check.state == ABSENT
    assert "Linux x86-64 only" in check.found


def test_an_engine_builder_is_named_with_its_versions(monkeypatch, tmp_path):
    pins = {"torch-tensorrt-rtx": f"{MINOR}.0", "tensorrt-rtx-cu13": "1.2.3"}
    monkeypatch.setattr(install, "located", lambda: install.Frontend(tmp_path, pins))
    monkeypatch.setitem(doctor.CHECKS, "engine builder", partial(doctor._ready, look=install.located, missing=ABSENT))
    check = look("engine builder")
    assert check.state == OK
    assert check.found == f"TensorRT for RTX 1.2.3 and Torch-TensorRT {MINOR}.0 in {tmp_path}"


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
    assert "a &lt;b&gt;" in page
    assert page.count('scope="col"') == 3
    assert page.count('scope="row"') == len(EXAMPLE.checks)
    assert "<caption" in page
    assert "<code>rm -r" in page
    assert NOT_OK in page
    assert "tensorrt does not: it needs &lt;a GPU&gt;." in page


@pytest.mark.parametrize(("states", "code"), [([OK, ABSENT, BUT, UNNEEDED], 0), ([OK, NOT_OK], 1)])
def test_the_exit_code_is_one_if_anything_is_not_ok(monkeypatch, capsys, states, code):
    checks = tuple(Check(f"thing {n}", state, "found", "`do` it.") for n, state in enumerate(states))
    report = Report(checks, EXAMPLE.backends)
    monkeypatch.setattr(doctor, "diagnose", lambda: report)
    parser = argparse.ArgumentParser()
    doctor.add_parser(parser.add_subparsers())
    args = parser.parse_args(["doctor", "--json"])
    assert args.run(args) == code
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(report.to_dict()))
    assert printed["ok"] is (code == 0)
    args = parser.parse_args(["doctor"])
    assert args.run(args) == code
    assert capsys.readouterr().out == f"{report}\n"


def test_a_class_is_one_line_for_each_machine(monkeypatch, capsys):
    checks = (Check("Python", NOT_OK, "3.9", "install 3.12."), Check("engine builder", OK, "here"))
    monkeypatch.setattr(doctor, "diagnose", lambda: Report(checks, EXAMPLE.backends))
    monkeypatch.setattr(doctor.platform, "node", lambda: "seat-7")
    parser = argparse.ArgumentParser()
    doctor.add_parser(parser.add_subparsers())
    args = parser.parse_args(["doctor", "--class"])
    assert args.run(args) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "seat-7: NOT OK, Python: install 3.12. | backends: eager | TensorRT engines are built"
    monkeypatch.setattr(doctor, "diagnose", lambda: Report((Check("Python", OK, "3.12"),), ()))
    assert args.run(args) == 0
    assert capsys.readouterr().out == "seat-7: ready | backends: none | TensorRT engines are shown as recorded\n"
