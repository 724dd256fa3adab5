"""``python -m tutorial_lib record``: one command, one file, and a stopped one goes on."""

import json
import shlex

import pytest
import torch

from tutorial_lib import MODELS, PATHS
from tutorial_lib.builds.backends import Status
from tutorial_lib.cli import commands
from tutorial_lib.cli.commands import main
from tutorial_lib.core import precision
from tutorial_lib.experiments import recordings, results_file
from tutorial_lib.experiments.campaign import measured

QUICK = ["--quick", "--models", "perceptron", "--backends", "eager", "--paths", "export", "--device", "cpu"]


def run(*arguments):
    return main(["record", *arguments])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--models", "gpt"], "there is no model 'gpt'; use expand-reshape"),
        (["--backends", "xla"], "there is no backend 'xla'"),
        (["--precision", "fp8"], "there is no precision 'fp8'"),
        (["--paths", "aot"], "there is no path 'aot'"),
        (["--device", "tpu"], "there is no device 'tpu'"),
        (["--out", "run.txt"], "give one that ends in .json"),
        (["--out", f"{__file__}/run.json"], "is a file; give a folder"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_exit_code_two(arguments, said, tmp_path, capsys):
    assert run("--out", str(tmp_path / "run.json"), "--models", "perceptron", *arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_something_else_beside_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "run.jsonl").write_text("notes\n")
    assert run("--out", str(tmp_path / "run.json"), *QUICK) == 2
    assert "is no file of a campaign" in capsys.readouterr().err
    assert (tmp_path / "run.jsonl").read_text() == "notes\n"


def test_a_file_that_another_campaign_writes_to_or_that_is_damaged_is_one_sentence(tmp_path, capsys):
    kept = tmp_path / "run.jsonl"
    with results_file.opened(kept):
        assert run("--out", str(tmp_path / "run.json"), *QUICK) == 2
    assert "is being written to by another campaign" in capsys.readouterr().err
    with kept.open("a") as file:
        file.write("no json\n")
    before = kept.read_bytes()
    assert run("--out", str(tmp_path / "run.json"), *QUICK) == 2
    assert "line 2 of" in capsys.readouterr().err
    assert kept.read_bytes() == before


def settings(*arguments, device="cpu"):
    args = commands._parser().parse_args(["record", "--out", "run.json", *arguments])
    recorded, _, command = commands._record_settings(args, torch.device(device))
    return recorded, command


def test_on_a_gpu_all_models_precisions_and_batches_and_the_backends_that_work_are_recorded(monkeypatch):
    works = [Status(name, "cuda", name != "inductor", "") for name in ("tensorrt", "inductor", "eager")]
    monkeypatch.setattr(commands.backends, "statuses", lambda device: works)
    monkeypatch.setattr(precision, "why_not", lambda name, device: None)
    recorded, command = settings(device="cuda")
    assert len(recorded) == len(MODELS) * 2 * 4
    assert {setting.backend for setting in recorded} == {"tensorrt", "eager"}
    assert [setting.precision for setting in recorded[:: 2 * len(MODELS)]] == ["fp32", "tf32", "bf16", "fp16"]
    assert all(setting.paths == tuple(PATHS) for setting in recorded)
    assert all(setting.sizes == (1, 2, 4, 8, 16, 32, 64, 128, 256) for setting in recorded)
    assert all(setting.ranges[0].max >= 256 for setting in recorded)
    again, same = settings(*shlex.split(command)[4:], device="cuda")
    assert (again, same) == (recorded, command)


def test_a_cpu_has_no_tf32_and_the_ranges_of_the_models():
    recorded, _ = settings("--backends", "eager")
    assert {setting.precision for setting in recorded} == {"fp32", "bf16", "fp16"}
    assert all(setting.sizes == () for setting in recorded)
    assert next(setting for setting in recorded if setting.model == "perceptron").ranges[0].max == 1024


@pytest.mark.slow
def test_a_recording_is_one_file_that_says_how_it_was_made_and_goes_on_where_time_was_up(tmp_path, capsys):
    out = tmp_path / "new" / "run.json"
    assert run("--out", str(out), *QUICK, "--minutes", "0.001") == 1
    assert "nothing to record" in capsys.readouterr().err
    assert [file.name for file in out.parent.iterdir()] == ["run.jsonl"]
    assert run("--out", str(out), *QUICK, "--note", "Only a try.") == 0
    printed = capsys.readouterr().out
    assert [file.name for file in out.parent.iterdir()] == ["run.json"]
    recording = recordings.load(out)
    assert f"wrote {out}: {recording.label}" in printed
    assert "note: Only a try." in printed
    assert recording.table["path"].tolist() == ["eager PyTorch", "export"] * 2
    assert recording.metadata.conditions["samples"] >= 4
    args = commands._parser().parse_args(shlex.split(recording.metadata.command)[3:])
    (again,), *_ = commands._record_settings(args, torch.device("cpu"))
    assert str(again) == str(recording.runs[0].result.setting)


def test_a_recording_of_not_all_settings_says_so_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    def run_all(settings, file, *, device, min_seconds, **_):
        with results_file.opened(file) as results:
            result = measured(MODELS["perceptron"], settings[0], device, min_seconds)
            results.append(results_file.Line(results_file.key(settings[0], device, min_seconds), 1, result))

    monkeypatch.setattr(commands, "run_all", run_all)
    out = tmp_path / "run.json"
    assert run("--out", str(out), *QUICK, "--precision", "fp32,bf16", "--minutes", "5") == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.json", "run.jsonl"]
    assert recordings.load(out).warnings == ("1 of 2 settings were not reached in 5 minutes.",)
    assert "The same command goes on with the 1 settings that are left." in capsys.readouterr().out


@pytest.mark.slow
def test_all_can_be_built_before_anything_is_measured_and_the_file_says_so(tmp_path, monkeypatch, capsys):
    built = []
    monkeypatch.setattr(commands, "build_ahead", lambda settings, processes, **_: built.append((settings, processes)))
    out = tmp_path / "run.json"
    assert run("--out", str(out), *QUICK, "--backends", "eager,inductor", "--ahead", "3", "--minutes", "0.001") == 1
    ((settings, processes),) = built
    assert ([setting.backend for setting in settings], processes) == (["inductor"], 3)
    assert run("--out", str(out), *QUICK, "--ahead", "3") == 0
    recording = recordings.load(out)
    assert "All was built beforehand, 3 at a time: build times are of warm caches." in recording.warnings
    assert "--ahead 3" in recording.metadata.command
    capsys.readouterr()


@pytest.mark.slow
def test_what_fails_is_printed_and_exit_code_one(tmp_path, capsys):
    out = tmp_path / "run.json"
    assert run("--out", str(out), *QUICK, "--precision", "fp32,tf32") == 1
    assert "failed: perceptron export eager tf32: precision tf32: TF32 is a mode" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["runs"]) == 2
