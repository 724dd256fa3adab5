import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from tutorial_lib import PATHS, BuildError, paths
from tutorial_lib.cli import commands
from tutorial_lib.cli.commands import main

QUICK = ["--min-samples", "3", "--min-seconds", "0.001"]
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def run(*arguments):
    return main(["compare", *arguments, *QUICK])


def test_compare_prints_builds_table_and_verdict_and_writes_three_files(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert run("--backend", "eager", "--max", "8", "--batches", "1,4,8", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    for name in PATHS:
        assert f"{name} with eager" in printed
    assert "All paths agree" in printed
    assert "Of 18 comparisons of two latencies at one size, " in printed
    assert printed.index("rule:") < printed.index("All paths agree")
    assert sorted(file.suffix for file in out.iterdir()) == [".csv", ".json", ".png"]
    content = json.loads((out / "expand-reshape-eager.json").read_text())
    assert content["provenance"]["dims"] == [{"name": "batch", "min": 1, "opt": 4, "max": 8}]


def test_ranges_that_are_not_typed_follow_the_ones_that_are(capsys):
    assert run("--backend", "eager", "--paths", "export", "--max", "2") == 0
    assert "[1/2/2, 196, 768]" in capsys.readouterr().out
    assert run("--model", "perceptron", "--backend", "eager", "--paths", "export", "--min", "3", "--max", "3") == 0
    assert "x [3, 256]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--min", "8", "--max", "4"], "min is 8, above max 4"),
        (["--opt", "0"], "opt is 0"),
        (["--opt", "64", "--max", "32"], "opt is 64, above max 32"),
        (["--batches", "1,33"], "batch 33 cannot be measured: the range is 1 to 32"),
        (["--batches", "0"], "batch is 0"),
        (["--paths", "jit,aot"], "there is no path 'aot'"),
        (["--paths", ","], "--paths is empty"),
        (["--device", "tpu"], "there is no device 'tpu'"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--out", __file__], "is a file; give a folder"),
        (["--model", "gpt"], "there is no model 'gpt'; use expand-reshape, vit"),
        pytest.param(["--backend", "tensorrt"], "requirements-tensorrt.txt", marks=without_gpu),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(arguments, said, capsys):
    assert run("--backend", "eager", *arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert not printed.out


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["compare"], {"--min-samples": ["0", "-5", "1.5"], "--min-seconds": ["nan", "-1", "1e30"]}),
        (["compare"], {"--budget": ["nan", "-1"], "--batches": ["1;2"]}),
        (["advise", "--traffic", "x.csv"], {"--seconds": ["nan", "-1", "inf"]}),
        (["record", "--out", "x.json"], {"--samples": ["0"], "--min-seconds": ["nan"], "--minutes": ["-1"]}),
        (["record", "--out", "x.json"], {"--ahead": ["0", "-1", "many", "1.5"]}),
        (["engines"], {"--seconds": ["0", "nan", "soon"]}),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_loaded(command, options, capsys, monkeypatch):
    monkeypatch.setattr(commands, "load", lambda *_: pytest.fail("a model was loaded"))
    for option, values in options.items():
        for value in values:
            with pytest.raises(SystemExit) as stopped:
                main([*command, option, value])
            assert stopped.value.code == 2
            assert f"argument {option}: '{value}' is not a" in capsys.readouterr().err


def test_paths_that_differ_are_exit_code_one(monkeypatch, capsys):
    class Off:
        def __init__(self, program):
            self.case, self.build, self._program = program.case, program.build, program

        def __call__(self, *inputs):
            return self._program(*inputs) + 0.01

    export = paths.PATHS["export"]
    monkeypatch.setitem(paths.PATHS, "export", lambda *arguments: Off(export(*arguments)))
    assert run("--backend", "eager", "--max", "4", "--batches", "2") == 1
    assert "1 of 4 results differ from float64" in capsys.readouterr().out


def test_a_build_that_fails_is_one_sentence_and_leaves_no_file(monkeypatch, tmp_path, capsys):
    def fails(*_):
        raise BuildError("the compiler gave up.")

    monkeypatch.setitem(paths.PATHS, "export", fails)
    assert run("--backend", "eager", "--max", "4", "--out", str(tmp_path / "out")) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: the compiler gave up."
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_interrupting_leaves_no_file_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "tutorial_lib", "compare", "--backend", "eager", "--min-seconds", "60"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    try:
        assert process.stdout.readline().startswith("jit with eager")
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    # A shell reports 130 for both. CPython ends itself by the signal if it came while a string was run by exec().
    assert process.returncode in (130, -signal.SIGINT)
    assert "interrupted; nothing was written" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
