"""docs/upstream.md: every script of its table runs here, and says of the installed versions what the table says."""

import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tutorial_lib import status
from tutorial_lib.engines import EnginesUnavailable, install

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "upstream.md").read_text()
VERSION = ".".join(torch.__version__.split(".")[:2])
VERSIONS, *ROWS = ([cell.strip() for cell in row.split("|")[2:-1]] for row in re.findall(r"^\|[^-].*\|$", PAGE, re.M))
SCRIPTS = re.findall(r"^\| \[`(\w+)`\]\(upstream/\1\.py\)", PAGE, re.M)
STATED = {name: dict(zip(VERSIONS, row, strict=True)) for name, row in zip(SCRIPTS, ROWS, strict=True)}
SIGNALS = {"openvino_signal_stack": signal.SIGSEGV}
"""A fault that ends the process, and how."""
COMPILED = {"cache_without_the_range", "freezing_of_interpolate", "package_reads_strides_wrongly"}
SECONDS = 300
UNKNOWN = "—"


def seen(name, tmp_path, monkeypatch):
    """``there`` or ``not there``, in a process and with caches of its own; else the test fails with what it said."""
    command = [sys.executable, str(ROOT / "docs" / "upstream" / f"{name}.py")]
    if name.startswith("tensorrt_"):
        try:
            install.located()
        except EnginesUnavailable as error:
            pytest.skip(str(error))
        command.insert(1, str(Path(__file__).with_name("without_gpu.py")))
    for variable, value in {
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "TORCHINDUCTOR_VEC_ISA_OK": "1",  # or g++ tries the processor's instructions out first
    }.items():
        monkeypatch.setenv(variable, value)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode == 0 and done.stdout.endswith("not there\n"):
        return "not there"
    said = re.search(r"^still there: ", done.stderr, re.M)
    if (done.returncode == 1 and said) or (name in SIGNALS and done.returncode == -SIGNALS[name]):
        return "there"
    return pytest.fail(f"{name} cannot tell ({done.returncode}): {done.stderr[-2000:]}")


@pytest.mark.slow
@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the page speaks of Linux on x86-64"
)
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_installed_versions_have_the_faults_that_the_page_says(name, tmp_path, monkeypatch):
    if name.startswith("openvino_"):
        pytest.importorskip("openvino")
    if name in COMPILED and not status("inductor", "cpu").works:
        pytest.skip(status("inductor", "cpu").reason)
    stated = STATED[name].get(VERSION, UNKNOWN)
    if stated == UNKNOWN:
        pytest.skip(f"the page says nothing of torch {VERSION}")
    found = seen(name, tmp_path, monkeypatch)
    assert found == stated, (
        f"{name} is {found} in the installed versions, and docs/upstream.md says of torch {VERSION}: {stated}. Correct "
        "the page, and look whether this package still has to work around it."
    )


def test_the_page_has_a_section_for_every_script():
    assert sorted(SCRIPTS) == sorted(file.stem for file in (ROOT / "docs" / "upstream").glob("*.py"))
    assert all(f"\n### {name}\n" in PAGE for name in SCRIPTS)
    assert {stated for row in STATED.values() for stated in row.values()} <= {"there", "not there", UNKNOWN}
