"""Every file, function, option and command that the README, the docs or a notebook names exists."""

import contextlib
import importlib.util
import json
import re
import types
from pathlib import Path

import pytest
import torch

import tutorial_lib
from tutorial_lib import cli
from tutorial_lib.builds import report
from tutorial_lib.engines import install
from tutorial_lib.studio import Studio

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "notebooks").glob("*.ipynb"))]
PINS = (ROOT / "constraints.txt").read_text().splitlines()
each_text = pytest.mark.parametrize("file", TEXTS, ids=lambda path: path.stem)

# What the texts call the things that a reader holds.
OBJECTS = {
    "torch": torch,
    "tutorial_lib": tutorial_lib,
    "studio": Studio,
    "program": tutorial_lib.Compiled,
    "case": tutorial_lib.Case,
    "build": report.Build,
}


def prose(file):
    """What a reader reads, without the code of the cells."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return text


def spans(file):
    """The words in `code` font."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", prose(file), flags=re.DOTALL)))


def commands(file):
    """The commands that a reader is told to type."""
    fenced = re.findall(r"```\n(.*?)```", prose(file), flags=re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in fenced for line in block.splitlines()]
    return [line for line in [*lines, *spans(file)] if re.match(r"(make|python)( |$)", line)]


def test_the_texts_name_enough_to_make_these_tests_worth_running():
    assert len([name for file in TEXTS for name in spans(file) if is_file(name)]) > 30
    assert len([name for file in TEXTS for name in spans(file) if name.split(".")[0] in OBJECTS]) > 30
    assert len([line for file in TEXTS for line in commands(file)]) > 8


def is_file(name):
    return re.fullmatch(r"[\w./-]+\.(py|txt|toml|yml|md|ipynb|png|json|pt2)", name)


@each_text
def test_every_link_leads_to_a_file(file):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", prose(file)):
        assert (file.parent / link).exists(), link


@each_text
def test_every_file_exists_here_or_upstream(file):
    here = [ROOT, ROOT / "tutorial_lib", ROOT / "notebooks", Path(torch.__file__).parent.parent]
    upstream, missing = None, "Torch-TensorRT is not installed"
    with contextlib.suppress(tutorial_lib.engines.EnginesUnavailable):
        found = install.located()
        if f"torch-tensorrt-rtx=={found.torch_tensorrt}" in PINS:
            upstream = [found.folder, found.folder / "torch_tensorrt"]
        missing = "the notebooks name files of another Torch-TensorRT than the one that is installed"
    inside_an_archive = {"about.json", "program.pt2"}
    for name in set(filter(is_file, spans(file))) - inside_an_archive:
        if any((folder / name).exists() for folder in here):
            continue
        if upstream is None:
            pytest.skip(missing)
        assert any((folder / name).exists() for folder in upstream), name


def owner(first, file):
    """What a reader takes the word before the first dot for; None for what is neither ours nor PyTorch's."""
    if first in OBJECTS:
        return OBJECTS[first]
    text = file.read_text(encoding="utf-8")
    for package in re.findall(rf"from (tutorial_lib[\w.]*) import [^\\\n]*\b{first}\b", text):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(f"{package}.{first}")
    return None


@each_text
def test_every_function_and_attribute_exists(file):
    for name in spans(file):
        dotted = re.match(r"(\w+)\.([\w.]+)", name)
        if not dotted or is_file(name):
            continue
        found = owner(dotted[1], file)
        for step in dotted[2].split("."):
            if found is None:
                break
            if isinstance(found, types.ModuleType) and hasattr(found, "__path__"):
                with contextlib.suppress(ModuleNotFoundError):
                    importlib.import_module(f"{found.__name__}.{step}")
            assert hasattr(found, step) or step in getattr(found, "__annotations__", {}), name
            found = getattr(found, step, None)


@each_text
def test_every_command_and_option_exists(file, capsys):
    targets = (ROOT / "Makefile").read_text()
    for line in commands(file):
        words = line.split()
        if words[0] == "make":
            for target in (word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)):
                assert f"\n{target}:" in targets, line
        elif words[1:3] == ["-m", "tutorial_lib"]:
            with pytest.raises(SystemExit) as left:
                cli.main([words[3], "--help"])
            assert left.value.code == 0, line
            told = capsys.readouterr().out
            assert all(word in told for word in words if word.startswith("--")), line
        elif words[1] == "-m":
            assert importlib.util.find_spec(words[2]), line
        else:
            assert (ROOT / words[1]).exists(), line
