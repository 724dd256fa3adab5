"""Bare calls in the preview's world, and the recording that stands in where there is none."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tutorial_lib import ShapeError, expand_reshape
from tutorial_lib.engines import EngineProcessError, EnginesUnavailable, Recording, bare, run_inside
from tutorial_lib.engines.recording import RECORD

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
RECORDED = [file for file in sorted(NOTEBOOKS.glob("*.ipynb")) if 'Recording(\\"' in file.read_text(encoding="utf-8")]


def compiled(case, low):
    import torch_tensorrt

    shapes = {f"{end}_shape": (size, 7, 24) for end, size in (("min", low), ("opt", 4), ("max", 32))}
    torch_tensorrt.compile(case.model, ir="dynamo", inputs=[torch_tensorrt.Input(**shapes)], min_block_size=1)
    return torch.is_grad_enabled()


def left_in_pytorch(case):
    import torch_tensorrt

    torch_tensorrt.compile(case.model, ir="dynamo", inputs=case.example(4))


def failing():
    raise KeyError("mine")


def dying():
    import os

    os._exit(3)


def hanging():
    import time

    time.sleep(60)


def seed():
    return expand_reshape(batch=(1, 4, 32), embed_dim=24, tokens=7)


def missing():
    raise EnginesUnavailable("no front end on this machine.")


@pytest.fixture
def nothing_here(monkeypatch):
    """A machine without the front end."""
    monkeypatch.setattr(bare.install, "located", missing)
    monkeypatch.setattr(bare, "_running", [])


def test_it_notes_the_engines_and_returns_the_result(frontend):
    asked = run_inside(compiled, seed(), 2)
    (engine,) = asked.engines
    (x,) = engine.inputs
    assert (str(x), x.kind, engine.operators) == ("x [1/4/32, 7, 24] float32", "data", 5)
    assert (asked.result, asked.error, asked.warnings) == (False, None, ())
    assert str(asked).startswith(f"PREVIEW: Torch-TensorRT {asked.version} asks for 1 engine\n  engine 1: 5 operators")


def test_it_notes_errors_and_warnings(frontend):
    assert run_inside(failing).error == "KeyError: 'mine'"
    asked = run_inside(left_in_pytorch, seed())
    assert asked.engines == ()
    assert "min_block_size" in asked.warnings[0]
    assert "  warning: " in str(asked)


def test_the_readers_process_is_left_alone(frontend):
    run_inside(compiled, seed(), 2)
    assert "torch_tensorrt" not in sys.modules


def test_a_crash_or_a_hang_is_one_sentence_and_the_next_call_works(frontend):
    with pytest.raises(EngineProcessError, match=r"^the preview of dying ended its process with exit code 3\.$"):
        run_inside(dying)
    with pytest.raises(EngineProcessError, match=r"^the preview of hanging took longer than 8 s and was stopped\.$"):
        run_inside(hanging, seconds=8)
    assert run_inside(failing).error == "KeyError: 'mine'"


@pytest.mark.parametrize("function", [len, lambda: None], ids=["builtin", "lambda"])
def test_what_has_no_source_of_its_own_is_refused(function):
    with pytest.raises(ShapeError, match="write it as a def"):
        run_inside(function)


def test_arguments_that_cannot_be_sent_are_refused():
    with pytest.raises(ShapeError, match="the arguments of compiled cannot be sent"):
        run_inside(compiled, lambda: None, 2)


def test_a_recording_gives_back_what_was_found(frontend, monkeypatch, tmp_path, capsys):
    file = tmp_path / "recorded.json"
    monkeypatch.setenv(RECORD, "1")
    made = Recording(file)
    asked, (found,) = made.run_inside(compiled, seed(), 2), made.previews(seed(), ["export"], calls=[33])
    assert capsys.readouterr().out == ""
    monkeypatch.delenv(RECORD)
    monkeypatch.setattr(bare.install, "located", missing)
    monkeypatch.setattr(bare, "_running", [])
    known = Recording(file)
    read, (again,) = known.run_inside(compiled, seed(), 2), known.previews(seed(), ["export"], calls=[33])
    assert capsys.readouterr().out.count(f"(recorded with Torch-TensorRT {asked.version}; not run here)\n") == 2
    assert (str(read), read.result, read.engines[0].inputs) == (str(asked), asked.result, asked.engines[0].inputs)
    assert (str(again), again.calls, list(again.rows())) == (str(found), found.calls, list(found.rows()))
    assert os.path.expanduser("~") not in file.read_text()


def test_without_the_front_end_it_says_what_is_missing(nothing_here):
    known = Recording(NOTEBOOKS / "02_what_tensorrt_really_gets.json")
    assert str(known).startswith("Nothing is run here: no front end on this machine.\n")
    with pytest.raises(EnginesUnavailable, match=r"^this was not recorded, .*: no front end on this machine\.$"):
        known.run_inside(compiled, seed(), 5)


def test_a_recording_of_another_version_is_read_and_neither_run_nor_made_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    file = NOTEBOOKS / "11_measured_on_a_gpu.json"
    other = Recording(file, version="2.11")
    assert str(other).startswith("Nothing is run here: Torch-TensorRT 2.11 goes with torch 2.11, and here is 2.13.0.")
    found = other.previews(expand_reshape(batch=(1, 4, 256)))
    assert [(one.path, len(one.engines)) for one in found] == [("jit", 2), ("input", 1), ("export", 1)]
    assert {one.versions["torch-tensorrt"] for one in found} == {"2.11.0"}
    assert capsys.readouterr().out == "(recorded with Torch-TensorRT 2.11.0; not run here)\n"
    monkeypatch.setenv(RECORD, "1")
    with pytest.raises(EnginesUnavailable, match=r"goes with torch 2\.11"):
        Recording(tmp_path / "copy.json", version="2.11").previews(expand_reshape(batch=(1, 4, 256)))
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_unless_asked_for(frontend, monkeypatch, tmp_path):
    monkeypatch.delenv(RECORD, raising=False)
    Recording(tmp_path / "recorded.json").run_inside(failing)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("nbconvert") is None, reason="nbconvert is not installed")
@pytest.mark.parametrize("notebook", RECORDED, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_recording_where_there_is_no_compiler(notebook, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("CC", "CXX", RECORD)}
    environment |= {"PATH": str(tmp_path), "TUTORIAL_LIB_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--stdout", str(notebook)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "not run here)" in done.stdout
    assert re.search(r"Nothing is run here: (the preview needs|Torch-TensorRT [0-9.]+ goes with) ", done.stdout)
