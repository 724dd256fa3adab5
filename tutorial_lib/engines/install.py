"""Finds and installs what builds TensorRT engines without a GPU.

That is two packages: TensorRT for RTX, NVIDIA's own library, and the Python part of Torch-TensorRT for it. They are in
a folder of their own, which only the process that builds engines has on its path. In the reader's environment they
would do harm: ``import torch_tensorrt`` fails there without CUDA, a machine with a GPU may have the same module for
data-centre TensorRT, and packages that look for either would find half of it.

The folder is beside the environment (``share/tutorial_lib``) where that can be written, so that it comes and goes with
the environment and everyone who uses the environment has it; else in the user's cache. It appears whole or not at all:
everything is installed in a scratch folder beside it, which is then renamed.
"""

import argparse
import compileall
import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import torch

from tutorial_lib.core.files import cache_folder
from tutorial_lib.engines.errors import EnginesUnavailable

COMMAND = "python -m tutorial_lib.engines install"
LATER = f"no engine can be built without it, everything else works. Later, run `{COMMAND}`."
NATIVE = ("lib", "bin", "include")
"""Parts of torch_tensorrt that need PyTorch's CUDA libraries; ``lib`` alone would switch them on."""
DOWNLOAD_MB, DISK_MB = 100, 220
SCRATCH_MB = 450
"""Disk space while installing: the download, and what is unpacked from it."""
SCRATCH = "installing-"
INTERRUPTED = 130


@dataclass(frozen=True)
class Frontend:
    """What builds engines, installed: its folder and the versions in it."""

    folder: Path
    pins: dict[str, str]

    @property
    def torch_tensorrt(self) -> str:
        """Version of Torch-TensorRT."""
        return self.pins["torch-tensorrt-rtx"]

    @property
    def tensorrt_rtx(self) -> str:
        """Version of TensorRT for RTX."""
        return self.pins["tensorrt-rtx-cu13"]

    def __str__(self) -> str:
        return f"TensorRT for RTX {self.tensorrt_rtx} and Torch-TensorRT {self.torch_tensorrt} in {self.folder}"


def torch_minor() -> str:
    """The first two numbers of torch's version, which Torch-TensorRT's must equal."""
    return ".".join(torch.__version__.split(".")[:2])


def has_wheels() -> bool:
    """Whether TensorRT for RTX has wheels that this project uses on this platform."""
    return (sys.platform, platform.machine()) == ("linux", "x86_64")


def requirements() -> Path:
    """The file of pins for the installed torch.

    Raises
    ------
    EnginesUnavailable
        If there is none, or TensorRT for RTX has no wheels for this platform.
    """
    if not has_wheels():
        raise EnginesUnavailable(
            f"engines are built on Linux x86-64 only, and this is {sys.platform} on {platform.machine()}."
        )
    path = Path(__file__).with_name(f"requirements-{torch_minor()}.txt")
    if not path.is_file():
        *others, last = sorted(file.stem.removeprefix("requirements-") for file in path.parent.glob("requirements-*"))
        raise EnginesUnavailable(
            f"engines are built with torch {', '.join(others)} or {last}, and this is torch {torch.__version__}."
        )
    return path


def pins(path: Path) -> dict[str, str]:
    """The exact versions in a requirements file, by name."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), flags=re.MULTILINE))


def folders() -> Iterator[Path]:
    """Where the packages may be, in the order in which they are looked for."""
    name = f"tensorrt-rtx-torch-{torch_minor()}-{sys.implementation.cache_tag}"
    for parent in _parents():
        yield parent / name


def _parents() -> Iterator[Path]:
    yield Path(sys.prefix, "share", "tutorial_lib")
    yield cache_folder()


def located() -> Frontend:
    """The installed packages that belong to this torch.

    Raises
    ------
    EnginesUnavailable
        If they are missing, or are of other versions.
    """
    pinned = pins(requirements())
    for folder in folders():
        if folder.is_dir():
            difference = _difference(folder, pinned)
            if difference:
                raise EnginesUnavailable(f"{difference}; run `{COMMAND}`.")
            return Frontend(folder, pinned)
    raise EnginesUnavailable(
        f"engines are built by TensorRT for RTX (about {DOWNLOAD_MB} MB to download, no GPU needed), "
        f"which is not installed; run `{COMMAND}`."
    )


def _difference(folder: Path, pinned: Mapping[str, str]) -> str | None:
    """In what `folder` differs from the pins; None if it does not."""
    packages = distributions(path=[os.fspath(folder)])
    installed = {re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower(): package.version for package in packages}
    for name, version in pinned.items():
        actual = installed.get(name, "missing")
        if actual != version:
            return f"{name} in {folder} is {actual}, and torch {torch.__version__} needs {version}"
    return None


def install() -> str:
    """Install the packages unless they are there already; returns a sentence that says what was done.

    Before the download it prints what is coming and under which licence. Runs pip, which honours its usual settings
    (``PIP_INDEX_URL``, ``PIP_FIND_LINKS``, ``PIP_NO_INDEX``, ...), or uv where there is no pip.

    Raises
    ------
    EnginesUnavailable
        If the packages cannot be had, or no folder can hold them. Nothing is left behind then.
    """
    path = requirements()
    pinned = pins(path)
    for folder in folders():
        if folder.is_dir() and _difference(folder, pinned) is None:
            return f"{Frontend(folder, pinned)} is installed."
    problems = []
    for folder in folders():
        try:
            _install_into(folder, path, pinned)
        except OSError as error:
            problems.append(f"{folder.parent} cannot be written ({error.strerror or error})")
        else:
            return f"installed {Frontend(folder, pinned)}."
    raise EnginesUnavailable(f"{' and '.join(dict.fromkeys(problems))}; set TUTORIAL_LIB_CACHE to a folder that can.")


def _install_into(folder: Path, path: Path, pinned: dict[str, str]) -> None:
    """Install the pins of the file `path` as `folder`; an OSError means that `folder` cannot hold them."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    free = shutil.disk_usage(folder.parent).free / 1e6
    if free < SCRATCH_MB:
        raise OSError(f"{free:.0f} MB free, and installing takes {SCRATCH_MB}")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=SCRATCH, ignore_cleanup_errors=True) as scratch:
        made = Path(scratch, "made")
        print(_announcement(folder, pinned), flush=True)
        _pip(path, made, Path(scratch))
        _strip(made)
        with warnings.catch_warnings(action="ignore"):  # Python 3.12 warns about some of this code
            compileall.compile_dir(made, ddir=os.fspath(folder), quiet=2, workers=1)
        try:
            if folder.is_dir() and _difference(folder, pinned):
                folder.rename(Path(scratch, "replaced"))
            made.rename(folder)
        except OSError:
            if not folder.is_dir() or _difference(folder, pinned):  # else another process was faster
                raise


def _announcement(folder: Path, pinned: Mapping[str, str]) -> str:
    version = pinned["tensorrt-rtx-cu13"]
    return (
        f"Installing TensorRT for RTX {version}, which builds engines without a GPU: "
        f"about {DOWNLOAD_MB} MB to download, {DISK_MB} MB on disk.\n"
        f"NVIDIA's licence for TensorRT for RTX applies; it comes with the package, in {folder}/"
        f"tensorrt_rtx_cu13-{version}.dist-info. `make lab ENGINES=0` leaves all of this out."
    )


def _remove_abandoned(parent: Path) -> None:
    """Remove scratch folders of installs that were killed; none takes a day."""
    for folder in parent.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > 24 * 3600:
                shutil.rmtree(folder, ignore_errors=True)


def _pip(path: Path, target: Path, scratch: Path) -> None:
    """Install the requirements file `path` into `target`; what it needs meanwhile goes into `scratch`."""
    # Offline, it says so soon; a download that breaks off goes on where it was.
    quick = {"PIP_RETRIES": "1", "PIP_TIMEOUT": "15", "PIP_RESUME_RETRIES": "5"}
    environment = {**quick, **os.environ, "PIP_USER": "0", "TMPDIR": os.fspath(scratch)}
    shown = sys.stdout.isatty()
    # By its metadata: looking for the module makes setuptools give up its distutils, which Inductor then fails on.
    if any(distributions(name="pip")):
        command = [sys.executable, "-m", "pip", "install", "--no-compile", "--disable-pip-version-check"]
        quoted = True  # pip draws its progress on stdout
    elif uv := shutil.which("uv"):  # environments that uv makes have no pip
        command = [uv, "pip", "install", "--python", sys.executable]
        environment = {**_as_uv_says(environment), **environment}
        if environment.get("PIP_NO_INDEX", "").lower() in ("1", "true", "yes", "on"):  # uv has no variable for it
            command += ["--no-index"]
        quoted = not shown  # uv draws its progress on stderr, where its errors go too
    else:
        raise EnginesUnavailable(f"this environment has neither pip nor uv to install with; {LATER}")
    command += ["--no-deps", "--target", os.fspath(target), "-r", os.fspath(path)]
    if _setuptools_here():  # one of the packages is built from source; without this, its setuptools is downloaded
        command += ["--no-build-isolation"]
    if not shown:
        command += ["--quiet"]
    done = subprocess.run(
        command,
        stdout=None if shown else subprocess.PIPE,
        stderr=subprocess.PIPE if quoted else None,
        text=True,
        env=environment,
    )
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or "").splitlines() if line.strip()]
        lines = lines or ["its own message is above" if shown else "no message"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise EnginesUnavailable(
            f"TensorRT for RTX could not be installed ({reason.removeprefix('ERROR: ').rstrip('.')[:300]}); {LATER}"
        )


def _setuptools_here() -> bool:
    """Whether this environment's setuptools makes wheels by itself, which it does from 70.1 on."""
    versions = [package.version for package in distributions(name="setuptools")]
    return any(tuple(map(int, re.findall(r"\d+", version)[:2])) >= (70, 1) for version in versions)


def _as_uv_says(environment: Mapping[str, str]) -> dict[str, str]:
    """Pip's settings in uv's words."""
    words = {"INDEX_URL": "DEFAULT_INDEX", "EXTRA_INDEX_URL": "INDEX", "FIND_LINKS": "FIND_LINKS"}
    return {f"UV_{uv}": environment[f"PIP_{pip}"] for pip, uv in words.items() if f"PIP_{pip}" in environment}


def _strip(folder: Path) -> None:
    """Leave only what building needs: a script, and code that cannot be imported here, go."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    if not (folder / "tensorrt_rtx_bindings" / "plugin").exists():  # half of it: Torch-TensorRT 2.11 would import it
        shutil.rmtree(folder / "tensorrt_rtx" / "plugin", ignore_errors=True)
    package = folder / "torch_tensorrt"
    for name in NATIVE:
        shutil.rmtree(package / name, ignore_errors=True)
    for library in package.glob("_C*.so"):
        library.unlink()


def main(arguments: list[str]) -> int:
    """``python -m tutorial_lib.engines install``: install what builds TensorRT engines; returns the exit code."""
    parser = argparse.ArgumentParser(COMMAND, description="Install what builds TensorRT engines without a GPU.")
    parser.add_argument("--optional", action="store_true", help="exit with 0 even if it cannot be installed")
    optional = parser.parse_args(arguments).optional
    try:
        print(install())
    except EnginesUnavailable as error:
        print(error if optional else f"error: {error}", file=sys.stderr)
        return 0 if optional else 1
    except KeyboardInterrupt:
        print("interrupted: nothing was installed.", file=sys.stderr)
        return INTERRUPTED
    return 0
