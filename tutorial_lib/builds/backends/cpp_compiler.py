"""Which C++ compiler builds libraries that this PyTorch can load.

Ahead of time, Inductor writes C++ and PyTorch loads the library that the compiler makes of it. A
compiler that links its own static copy of the C++ standard library makes libraries that crash the
process on load: two copies of ``std::regex`` and its locale then meet in one process. Such
compilers exist (a relocated GCC without ``libstdc++.so`` beside it is one), so each candidate has
to prove itself in a process of its own before the reader's process loads anything it made.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tutorial_lib.core.files import remembered

PROBE = r"""
#include <regex>
#include <string>
extern "C" int tutorial_probe() {
  static const std::regex device("([a-z]+)(:([0-9]+))?");
  std::smatch match;
  const std::string text = "cuda:0";
  return std::regex_match(text, match, device) ? 42 : 0;
}
"""
LOAD = "import ctypes, sys, torch; sys.exit(0 if ctypes.CDLL(sys.argv[1]).tutorial_probe() == 42 else 3)"
SECONDS = 120
NO_SPACE = ("No space left on device", "Disk quota exceeded", "Read-only file system")
"""What compilers and the system say where nothing can be written, which no other compiler mends."""


class NoCompiler(RuntimeError):
    """No C++ compiler on this machine can be used; the message says what was tried and how to get one."""


def candidates() -> list[str]:
    """C++ compilers to try: ``$CXX`` first, then every g++, clang++ and c++ on the path."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else []
    folders = os.environ.get("PATH", "").split(os.pathsep)
    names += [str(Path(folder, name)) for name in ("g++", "clang++", "c++") for folder in folders if folder]
    compilers: dict[str, str] = {}
    for name in names:
        path = shutil.which(name)
        if path:
            compilers.setdefault(os.path.realpath(path), path)
    return list(compilers.values())


class _Refused(Exception):
    """Why a compiler cannot be used now, not remembered: a disk may be full for a while, or a package missing."""


def why_not(compiler: str) -> str | None:
    """Why `compiler` cannot be used, or None, which is remembered on disk for this torch version."""
    key = (
        f"{os.path.realpath(compiler)} {os.stat(compiler).st_mtime_ns} torch {torch.__version__} {sys.version_info[:2]}"
    )
    try:
        remembered("compilers.json", key, lambda: _prove(compiler))
    except _Refused as refused:
        return str(refused)
    except OSError as error:
        return f"could not be tried ({error.strerror or error}: {error.filename or 'temporary folder'})"
    return None


def _prove(compiler: str) -> None:
    with tempfile.TemporaryDirectory(prefix="tutorial_lib-") as folder:
        _build_and_load(compiler, Path(folder))


def _build_and_load(compiler: str, folder: Path) -> None:
    """Build a library and load it, or raise :class:`_Refused`."""
    source, library = folder / "probe.cpp", folder / "probe.so"
    source.write_text(PROBE)
    command = [compiler, "-shared", "-fPIC", "-std=c++17", "-O1", str(source), "-o", str(library)]
    try:
        built = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        if built.returncode:
            message = next((line for line in built.stderr.splitlines() if "error" in line), "no message")
            raise _Refused(f"cannot build a library ({message.strip()[:200]})")
        loaded = subprocess.run([sys.executable, "-c", LOAD, str(library)], capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise _Refused(f"took more than {SECONDS} s to build a small library and load it") from None
    if loaded.returncode:
        raise _Refused("makes libraries that crash PyTorch when loaded (its own copy of libstdc++ is linked in)")


@functools.lru_cache(maxsize=8)
def _compiler(path: str, cxx: str | None) -> str:  # the arguments are the environment that the answer depends on
    tried = []
    for candidate in candidates():
        reason = why_not(candidate)
        if reason is None:
            return candidate
        tried.append(f"{candidate} {reason}")
    advice = "install g++ (Debian, Ubuntu: `sudo apt install g++`; macOS: `xcode-select --install`)"
    if not tried:
        raise NoCompiler(f"no C++ compiler was found on the PATH; {advice}.")
    if any(sign in reason for reason in tried for sign in NO_SPACE):
        advice = "free some space, or set TMPDIR to a folder that has some"
    else:
        advice += ", or set CXX to one that works"
    raise NoCompiler(f"no usable C++ compiler: {'; '.join(tried)}; {advice}.")


def compiler() -> str:
    """Path of the first C++ compiler that makes libraries PyTorch can load.

    Raises
    ------
    NoCompiler
        If there is none.
    """
    return _compiler(os.environ.get("PATH", ""), os.environ.get("CXX"))
