"""The package's door: what it names is there, is loaded when it is used, and costs nothing before."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tutorial_lib

DOOR = Path(tutorial_lib.__file__)


def test_the_types_that_an_editor_sees_are_the_names_that_python_finds():
    tree = ast.parse(DOOR.read_text())
    (for_editors,) = [node for node in tree.body if isinstance(node, ast.If) and "not" not in ast.unparse(node.test)]
    seen = {
        (node.module.removeprefix("tutorial_lib").lstrip("."), alias.name)
        for node in for_editors.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {(module, name) for module, names in tutorial_lib._NAMES.items() for name in names}
    assert sorted(name for _, name in seen) == sorted(tutorial_lib.__all__)


def test_every_name_of_the_door_is_there_and_no_other():
    for name in tutorial_lib.__all__:
        assert getattr(tutorial_lib, name) is not None
        assert name in dir(tutorial_lib)
    with pytest.raises(AttributeError, match="no attribute 'expand_shape'"):
        _ = tutorial_lib.expand_shape
    with pytest.raises(ImportError, match="expand_shape"):
        exec("from tutorial_lib import expand_shape")


IMPORTS = {
    "import tutorial_lib": {"pandas", "matplotlib", "ipywidgets", "torch._dynamo"},
    "from tutorial_lib import Case, DynamicDim, paths": {"pandas", "matplotlib", "ipywidgets"},
    "from tutorial_lib import sweep, advise, engines": {"matplotlib", "ipywidgets"},
}
"""What is not loaded after each import, one after the other in one process."""


def test_importing_loads_only_what_it_takes():
    checks = [f"{code}; print(*{not_loaded} & sys.modules.keys(), end='')" for code, not_loaded in IMPORTS.items()]
    code = "; ".join(["import sys, torch", *checks])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=DOOR.parent.parent)
    assert done.returncode == 0, done.stderr
    assert not done.stdout
