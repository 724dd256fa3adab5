"""Where the tests find TensorRT for RTX, and how they run a script beside it."""

import importlib.util
import os
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tutorial_lib.engines import EnginesUnavailable, install

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def folder():
    """The folder to import it from: ``$TENSORRT_RTX_FOLDER``, this environment, or where engines are built from."""
    if os.environ.get("TENSORRT_RTX_FOLDER"):
        return os.environ["TENSORRT_RTX_FOLDER"]
    if spec := importlib.util.find_spec("tensorrt_rtx"):
        return os.fspath(Path(spec.origin).parent.parent)
    try:
        located = os.fspath(install.located().folder)
    except EnginesUnavailable as error:
        pytest.skip(str(error))
    if PathFinder.find_spec("tensorrt_rtx", [located]) is None:
        pytest.skip("TensorRT for RTX is not installed")
    return located


def script(name, *arguments, path=()):
    """What a script of this folder prints, with `path` in front of its imports."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, os.fspath(HERE / name), *map(os.fspath, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
