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


@pytest.mark.parametrize("name", tutorial_lib.__all__)
def test_every_name_of_the_door_is_there(name):
    assert getattr(tutorial_lib, name) is not None
    assert name in dir(tutorial_lib)


def test_a_name_that_is_not_there_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'expand_shape'"):
        _ = tutorial_lib.expand_shape
    with pytest.raises(ImportError, match="expand_shape"):
        exec("from tutorial_lib import expand_shape")


@pytest.mark.parametrize(
    ("code", "not_loaded"),
    [
        ("import tutorial_lib", {"pandas", "matplotlib", "ipywidgets", "torch._dynamo"}),
        ("from tutorial_lib import Case, DynamicDim, paths", {"pandas", "matplotlib", "ipywidgets"}),
        ("from tutorial_lib import sweep", {"matplotlib", "ipywidgets"}),
        ("from tutorial_lib import advise, engines", {"matplotlib", "ipywidgets"}),
    ],
)
def test_importing_loads_only_what_it_takes(code, not_loaded):
    check = f"import torch; {code}; import sys; print(*sorted({not_loaded!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=DOOR.parent.parent)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.strip()
