"""``python -m tutorial_lib engines``: numbers for machines, one sentence for what cannot be, and its exit code."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tutorial_lib.cli import main
from tutorial_lib.engines.worker import ProcessEnded, Worker

ROOT = Path(__file__).parents[2]
SMALL = ["--model", "perceptron", "--path", "export", "--min", "1", "--opt", "2", "--max", "4"]
GOOD = """
from torch import nn
from tutorial_lib import Case, DynamicDim, TensorSpec

def case():
    return Case("mine", nn.Linear(8, 8), (TensorSpec("input", (DynamicDim("batch", 1, 2, 4), 8)),))
"""


@pytest.fixture
def model_file(tmp_path):
    file = tmp_path / "my_net.py"
    file.write_text(GOOD)
    return file


def engines(*arguments):
    return main(["engines", *map(str, arguments)])


def one_sentence(capsys):
    """What was said on the error stream, which has to be one line, with nothing on the other stream."""
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    return printed.err


# ---- numbers


def test_json_has_the_memory_of_every_engine_what_was_asked_for_and_the_versions(installed, capsys):
    assert engines(*SMALL, "--target", "sm89", "--option", "optimization_level=1", "--json") == 0
    printed = capsys.readouterr()
    (report,) = json.loads(printed.out)
    (engine,) = report["engines"]
    assert engine["plan"]["activation_bytes"] > 0
    assert engine["plan"]["targets"] == ["sm89"]
    assert "data" not in engine["plan"]
    assert report["options"]["optimization_level"] == "1"
    assert report["versions"]["tensorrt-rtx"] == installed.tensorrt_rtx
    assert printed.err == ""


def test_text_has_engines_calls_and_their_layers_and_plans_are_written(installed, capsys, tmp_path):
    folder = tmp_path / "new" / "folder"
    assert engines(*SMALL, "--calls", "1,5", "--layers", "--out", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("perceptron, export: built by TensorRT for RTX ")
    assert "    x [1/2/4, 256] float32" in lines
    assert "  call tokens 1: served by engine 1" in lines
    assert any(line.startswith("  call tokens 5: refused by the optimization profile of engine 1") for line in lines)
    assert any(line.startswith("  layers of the plan of engine 1 (plan ") for line in lines)
    assert any(line.startswith("        from ") and "MATRIX_MULTIPLY" in line for line in lines)
    plan, summary = folder / "perceptron-export-1.plan", folder / "perceptron-engines.json"
    assert f"wrote {plan}" in lines
    (report,) = json.loads(summary.read_text())
    assert plan.stat().st_size == report["engines"][0]["plan"]["plan_bytes"]


# ---- models of one's own


@pytest.mark.parametrize("source", ["{file}::case", "my_net:case"])
def test_a_function_of_a_file_or_a_module_is_a_model(installed, model_file, monkeypatch, capsys, source):
    monkeypatch.syspath_prepend(str(model_file.parent))
    assert engines("--model", source.format(file=model_file), "--max", 16, "--path", "export", "--json") == 0
    (report,) = json.loads(capsys.readouterr().out)
    inputs = [engine_input for engine in report["engines"] for engine_input in engine["inputs"]]
    assert [(each["name"], each["min"], each["max"]) for each in inputs] == [("input", [1, 8], [16, 8])]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{file}::nothing", "has no function 'nothing'"),
        ("{folder}/syntax.py::case", "SyntaxError"),
        ("{folder}/text.txt::case", "is not a Python file"),
        ("gpt", "there is no model 'gpt'"),
    ],
)
def test_a_model_that_does_not_load_is_one_sentence_and_exit_code_2(no_process, model_file, capsys, source, words):
    (model_file.parent / "syntax.py").write_text("def case(:\n")
    (model_file.parent / "text.txt").write_text("nothing")
    assert engines("--model", source.format(file=model_file, folder=model_file.parent)) == 2
    assert words in one_sentence(capsys)


# ---- what cannot be


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--min", "5", "--opt", "4"], "opt is 4, below min 5"),
        (["--target", "sm90"], "sm90 (compute capability 9.0)"),
        (["--calls", "0"], "batch is 0"),
        (["--out", __file__], "is a file; give a folder"),
        (["--out", f"{__file__}/folder"], "is a file; give a folder"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_exit_code_2(no_process, capsys, arguments, words):
    assert engines(*arguments) == 2
    assert words in one_sentence(capsys)


@pytest.mark.parametrize(
    "arguments", [["--calls", "1;2"], ["--path", "both"], ["--option", "optimization_level"], ["--min", "one"]]
)
def test_arguments_that_cannot_be_read_are_exit_code_2(no_process, capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        engines(*arguments)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_misspelt_option_is_one_sentence_and_exit_code_2(installed, capsys):
    assert engines(*SMALL, "--option", "optimisation_level=1") == 2
    assert "did you mean 'optimization_level'" in one_sentence(capsys)


def test_a_build_that_takes_too_long_is_one_sentence_and_exit_code_1(installed, monkeypatch, capsys):
    def ask(worker, payload, seconds, listener):
        raise ProcessEnded(f"took longer than {seconds:g} s")

    monkeypatch.setattr(Worker, "ask", ask)
    assert engines(*SMALL, "--seconds", "0.001") == 1
    printed = capsys.readouterr()
    assert printed.err == "error: the process that built export took longer than 0.001 s.\n"
    assert "not built by TensorRT for RTX" in printed.out


def test_without_the_builder_it_says_what_to_type_and_ends_with_1(without_builder, no_process, capsys):
    without_builder()
    assert engines() == 1
    assert one_sentence(capsys) == "error: no builder on this machine.\n"


def test_the_former_command_says_its_new_name(capsys):
    assert main(["preview", "--model", "vit"]) == 2
    assert "is called engines now" in one_sentence(capsys)


@pytest.mark.slow
def test_an_interrupt_ends_the_command_without_a_traceback_or_a_file(installed, tmp_path):
    command = [sys.executable, "-m", "tutorial_lib", "engines", "--model", "vit", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while not children.read_text().split():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode in (130, -signal.SIGINT)
    assert said == "error: interrupted; nothing was written.\n"
    assert not (tmp_path / "out").exists()
