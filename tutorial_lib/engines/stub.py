"""Libraries with the names of TensorRT's, and nothing in them: see ``stub.c``."""

import contextlib
import ctypes
import hashlib
import importlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from tutorial_lib._files import cache_folder
from tutorial_lib.engines.errors import EnginesUnavailable

SOURCE = Path(__file__).with_name("stub.c")
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
"""What the bindings are linked against, in the order in which they are loaded."""
SECONDS = 60
ADVICE = "install one (Debian, Ubuntu: `sudo apt install gcc`), or set CC to one"


def real_library(major: str) -> str | None:
    """Load the real ``libnvinfer`` of this `major` version into this process; its name, or None if there is none.

    It is looked for where the bindings themselves would find it: in the package ``tensorrt_libs``,
    and by the dynamic linker.
    """
    with contextlib.suppress(ImportError, OSError):  # then the dynamic linker decides alone
        importlib.import_module("tensorrt_libs")
    name = f"libnvinfer.so.{major}"
    try:
        ctypes.CDLL(name)
    except OSError:
        return None
    return name


def load(major: str) -> str:
    """Make ``libnvinfer`` available to the bindings in this process: the real one, or else the stub.

    Returns the name of the real library, or ``stub``. A library that is already loaded satisfies the
    bindings by its name, so the search path of the dynamic linker stays as it is.
    """
    real = real_library(major)
    if real is None:
        folder = built(major)
        for name in LIBRARIES:
            ctypes.CDLL(str(folder / f"lib{name}.so.{major}"), mode=ctypes.RTLD_GLOBAL)
    return real or "stub"


def built(major: str) -> Path:
    """The folder with the stub libraries, built now if this user's cache does not have them yet.

    Raises
    ------
    EnginesUnavailable
        If there is no C compiler, or the cache folder cannot be written.
    """
    key = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / f"stub-libnvinfer-{major}-{platform.machine()}-{key}"
    if folder.is_dir():
        return folder
    compiler = next(filter(None, map(shutil.which, filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")))), None)
    if compiler is None:
        raise EnginesUnavailable(f"the preview needs a C compiler, and there is none on the PATH; {ADVICE}.")
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="stub-") as scratch:
            made = Path(scratch, "made")
            made.mkdir()
            for name in LIBRARIES:
                _compile(compiler, made, f"lib{name}.so.{major}")
            if not folder.is_dir():  # another process may have been faster
                made.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise EnginesUnavailable(
                f"the cache folder {folder.parent} cannot be written ({error.strerror}); "
                f"set TUTORIAL_LIB_CACHE to a folder that can."
            ) from None
    return folder


def _compile(compiler: str, folder: Path, library: str) -> None:
    command = [compiler, "-shared", "-fPIC", "-O1", f"-Wl,-soname,{library}", str(SOURCE), "-o", str(folder / library)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        problem = done.stderr if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem or not (folder / library).is_file():
        lines = [line for line in problem.splitlines() if line.strip()] or ["it wrote no library"]
        line = next((line for line in lines if "error" in line), lines[0])
        raise EnginesUnavailable(
            f"the C compiler {compiler} cannot build a library ({line.strip()[:200]}); {ADVICE} that works."
        )
