"""Where Torch-TensorRT's Python front end is, and getting it there.

It lives in a folder of its own that only the preview's process puts on its path. In the reader's
environment it would be a trap: without TensorRT, ``import torch_tensorrt`` fails, and packages that
look for it would find half of it. The folder is beside the environment (``share/tutorial_lib``)
where that can be written, so that it comes and goes with the environment and everyone who uses the
environment has it; else in the user's cache.

Only what the front end needs is kept: a few MB of Python and the bindings of TensorRT.
"""

import compileall
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import torch

from tutorial_lib._files import cache_folder
from tutorial_lib.engines.errors import EnginesUnavailable

COMMAND = "python -m tutorial_lib.engines install"
LATER = f"the preview will not work, everything else will. Later, run `{COMMAND}`."
NATIVE = ("lib", "bin", "include")
"""Parts of torch_tensorrt that only work with TensorRT's libraries; ``lib`` alone would switch them on."""


@dataclass(frozen=True)
class Frontend:
    """An installed front end: its folder and the versions in it."""

    folder: Path
    pins: dict[str, str]

    @property
    def tensorrt_major(self) -> str:
        """First number of the TensorRT version that the bindings are made for."""
        return self.pins["tensorrt-cu13-bindings"].split(".")[0]


def torch_minor() -> str:
    """The first two numbers of torch's version, which Torch-TensorRT's must equal."""
    return ".".join(torch.__version__.split(".")[:2])


def requirements() -> Path:
    """The file of pins for the installed torch.

    Raises
    ------
    EnginesUnavailable
        If there is none, or the front end has no wheels for this platform.
    """
    if sys.platform != "linux":
        raise EnginesUnavailable(f"the preview runs on Linux only, and this is {sys.platform}.")
    path = Path(__file__).with_name(f"requirements-{torch_minor()}.txt")
    if not path.is_file():
        known = sorted(p.stem.removeprefix("requirements-") for p in path.parent.glob("requirements-*.txt"))
        raise EnginesUnavailable(
            f"the preview knows Torch-TensorRT for torch {', '.join(known)}, and this is torch {torch.__version__}."
        )
    return path


def pins(path: Path) -> dict[str, str]:
    """The exact versions in a requirements file, by name."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), flags=re.MULTILINE))


def folders() -> Iterator[Path]:
    """Where the front end may be, in the order in which it is looked for."""
    name = f"frontend-torch-{torch_minor()}-{sys.implementation.cache_tag}"
    yield Path(sys.prefix, "share", "tutorial_lib", name)
    yield cache_folder() / name


def installed_versions(folder: Path) -> dict[str, str]:
    """Versions of the packages in `folder`, by normalised name."""
    found = distributions(path=[os.fspath(folder)])
    return {re.sub(r"[-_.]+", "-", d.metadata["Name"]).lower(): d.version for d in found}


def located() -> Frontend:
    """The installed front end that belongs to this torch.

    Raises
    ------
    EnginesUnavailable
        If it is missing, or is of other versions.
    """
    wanted = pins(requirements())
    for folder in folders():
        if folder.is_dir():
            wrong = _wrong(folder, wanted)
            if wrong:
                raise EnginesUnavailable(f"{wrong}; run `{COMMAND}`.")
            return Frontend(folder, wanted)
    raise EnginesUnavailable(
        f"the preview needs Torch-TensorRT's front end (a few MB, no GPU), which is not installed; run `{COMMAND}`."
    )


def _wrong(folder: Path, wanted: dict[str, str]) -> str | None:
    found = installed_versions(folder)
    for name, version in wanted.items():
        if found.get(name) != version:
            return f"{name} in {folder} is {found.get(name, 'missing')}, and torch {torch.__version__} needs {version}"
    return None


def install() -> str:
    """Install the front end unless it is there already; returns a sentence that says what was done.

    Runs pip, which honours its usual settings (``PIP_INDEX_URL``, ``PIP_FIND_LINKS``, ...).

    Raises
    ------
    EnginesUnavailable
        If pip cannot get the packages, or no folder can be written.
    """
    path = requirements()
    wanted = pins(path)
    for folder in folders():
        if folder.is_dir() and _wrong(folder, wanted) is None:
            return f"the front end of Torch-TensorRT {wanted['torch-tensorrt']} is installed in {folder}."
    for folder in folders():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="installing-") as scratch:
                made = Path(scratch, "made")
                _pip(path, made)
                _strip(made)
                shutil.rmtree(folder, ignore_errors=True)
                made.rename(folder)
        except OSError as error:
            if not (folder.is_dir() and _wrong(folder, wanted) is None):  # else another process was faster
                problem = f"{folder.parent} cannot be written ({error.strerror})"
                continue
        with warnings.catch_warnings(action="ignore"):  # Python 3.12 warns about some of this code
            compileall.compile_dir(folder, quiet=2, workers=1)  # where it stays, so that its paths are right
        return f"installed the front end of Torch-TensorRT {wanted['torch-tensorrt']} in {folder}."
    raise EnginesUnavailable(f"{problem}; set TUTORIAL_LIB_CACHE to a folder that can.")


def _pip(path: Path, target: Path) -> None:
    environment = {"PIP_RETRIES": "1", "PIP_TIMEOUT": "15", **os.environ}  # offline, say so soon
    # By its metadata: looking for the module makes setuptools give up its distutils, which Inductor then fails on.
    if any(distributions(name="pip")):
        command = [sys.executable, "-m", "pip", "install", "--no-compile", "--disable-pip-version-check"]
    elif uv := shutil.which("uv"):  # environments that uv makes have no pip
        command = [uv, "pip", "install", "--python", sys.executable]
        environment = {**_as_uv_says(environment), **environment}
    else:
        raise EnginesUnavailable(f"this environment has neither pip nor uv to install with; {LATER}")
    command += ["--quiet", "--no-deps", "--target", str(target), "-r", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise EnginesUnavailable(
            f"the front end of Torch-TensorRT could not be installed ({reason.removeprefix('ERROR: ')[:300]}); {LATER}"
        )


def _as_uv_says(environment: Mapping[str, str]) -> dict[str, str]:
    """Pip's settings in uv's words."""
    words = {"INDEX_URL": "DEFAULT_INDEX", "EXTRA_INDEX_URL": "INDEX", "FIND_LINKS": "FIND_LINKS"}
    return {f"UV_{uv}": environment[f"PIP_{pip}"] for pip, uv in words.items() if f"PIP_{pip}" in environment}


def _strip(folder: Path) -> None:
    package = folder / "torch_tensorrt"
    for name in NATIVE:
        shutil.rmtree(package / name, ignore_errors=True)
    for library in package.glob("_C*.so"):
        library.unlink()
