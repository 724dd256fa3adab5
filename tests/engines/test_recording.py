"""A function run in the engines' process, and the recording that stands in where there is none."""

import json
import os
import re
from pathlib import Path
from unittest import mock

import pytest
import torch
import upstream

from tutorial_lib import ShapeError, expand_reshape
from tutorial_lib.engines import EnginesUnavailable, Recording, requests, run_inside
from tutorial_lib.engines.recording import RECORD

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
RECORDED = [file for file in sorted(NOTEBOOKS.glob("*.ipynb")) if 'Recording(\\"' in file.read_text(encoding="utf-8")]
SECONDS = r"_seconds\": (?!0\.0\b)"


def compiled(case, low):
    import torch_tensorrt

    shapes = {f"{end}_shape": (size, 7, 24) for end, size in (("min", low), ("opt", 4), ("max", 32))}
    torch_tensorrt.compile(case.model, ir="dynamo", inputs=[torch_tensorrt.Input(**shapes)], min_block_size=1)
    return torch.is_grad_enabled()


def serialized(case):
    import torch_tensorrt

    inputs = [torch_tensorrt.Input(**spec.input_args()) for spec in case.inputs]
    program = torch_tensorrt.dynamo.trace(case.model, arg_inputs=inputs)
    return torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(program, arg_inputs=inputs)


def left_in_pytorch(case):
    import torch_tensorrt

    torch_tensorrt.compile(case.model, ir="dynamo", inputs=case.example(4))


def failing():
    raise KeyError("mine")


def seed():
    return expand_reshape(batch=(1, 4, 32), embed_dim=24, tokens=7)


@upstream.before_2_14
def test_a_function_has_its_engines_built_and_its_result_returned(installed):
    report = run_inside(compiled, seed(), 2)
    (engine,) = report.engines
    (x,) = engine.inputs
    assert (str(x), x.kind, engine.operators) == ("x [1/4/32, 7, 24] float32", "data", 5)
    assert (report.result, report.error, report.warnings) == (False, None, ())
    assert engine.plan.network_layers == 36


@upstream.before_2_14
def test_a_plan_for_use_without_pytorch_is_counted_too(installed):
    report = run_inside(serialized, seed())
    (plan,) = (engine.plan for engine in report.engines)
    assert plan.plan_bytes == len(report.result) > 0
    assert plan.inputs[0].profiles == (((1, 7, 24), (4, 7, 24), (32, 7, 24)),)
    graph = run_inside(serialized, seed(), mode="graph")
    assert ([engine.plan for engine in graph.engines], graph.result) == ([None], b"")


def test_its_errors_and_warnings_are_noted(installed):
    assert run_inside(failing, mode="graph").error == "KeyError: 'mine'"
    report = run_inside(left_in_pytorch, seed(), mode="graph")
    assert report.engines == ()
    assert "min_block_size" in report.warnings[0]


def test_what_is_no_function_or_cannot_be_sent_is_refused():
    for value in (torch.nn.ReLU(), "name"):
        with pytest.raises(ShapeError, match="is not a function; write it as a def"):
            run_inside(value)
    with pytest.raises(ShapeError, match=r"^failing cannot be sent .* \(TypeError: .*\)\.$"):
        run_inside(failing, (item for item in ()))


def test_a_recording_gives_back_what_was_built(installed, without_builder, monkeypatch, tmp_path, capsys):
    def asked():
        of_a_function = recording.run_inside(compiled, seed(), 2)
        built = recording.build_all(seed(), ["export"], calls=[33])
        return of_a_function, *built, *recording.build_all(seed(), ["export"], calls=[33], mode="graph")

    monkeypatch.setenv(RECORD, "1")
    recording = Recording(tmp_path / "recorded.json")
    of_a_function, built, graph = asked()
    assert capsys.readouterr().out == ""
    monkeypatch.delenv(RECORD)
    without_builder()
    recording = Recording(tmp_path / "recorded.json")
    again = asked()
    versions = f"Torch-TensorRT {of_a_function.version} and TensorRT for RTX {built.versions['tensorrt-rtx']}"
    assert capsys.readouterr().out == 3 * f"(recorded with {versions}; not run here)\n"
    assert [*map(str, again)] == [*map(str, (of_a_function, built, graph))]
    assert (again[0].result, again[0].engines[0].inputs) == (of_a_function.result, of_a_function.engines[0].inputs)
    assert (again[1].calls, again[1].plans[0].layers) == (built.calls, built.plans[0].layers)
    assert again[2].plans == ()


@pytest.mark.slow
def test_a_recording_holds_neither_folders_nor_seconds_and_is_the_same_when_made_again(
    installed, monkeypatch, tmp_path
):
    monkeypatch.setenv(RECORD, "1")
    texts = []
    for name in ("first.json", "second.json"):
        Recording(tmp_path / name).build_all(seed(), ["export"])
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]
    assert re.search(SECONDS, '"build_seconds": 0.5')
    assert not re.search(SECONDS, texts[0])
    assert os.path.expanduser("~") not in texts[0]


def test_without_the_builder_it_says_what_is_missing(without_builder, tmp_path):
    without_builder()
    recording = Recording(tmp_path / "nothing.json")
    assert str(recording).startswith("Nothing is built here: no builder on this machine.\n")
    with pytest.raises(EnginesUnavailable, match=r"^this was not recorded, .*: no builder on this machine\.$"):
        recording.run_inside(compiled, seed(), 5)


def test_a_recording_of_another_version_is_read_and_neither_run_nor_made_again(
    installed, monkeypatch, tmp_path, capsys
):
    file = tmp_path / "recorded.json"
    monkeypatch.setenv(RECORD, "1")
    Recording(file).build_all(seed(), ["export"], mode="graph")
    monkeypatch.delenv(RECORD)
    minor = ".".join(torch.__version__.split(".")[:2])
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    other = Recording(file, version=minor)
    assert f"Torch-TensorRT {minor} goes with torch {minor}, and here is 2.99.0." in str(other)
    (report,) = other.build_all(seed(), ["export"], mode="graph")
    assert [str(i) for i in report.engines[0].data] == ["x [1/4/32, 7, 24] float32"]
    assert capsys.readouterr().out.startswith(f"(recorded with Torch-TensorRT {minor}.")
    monkeypatch.setenv(RECORD, "1")
    with pytest.raises(EnginesUnavailable, match=rf"goes with torch {re.escape(minor)}"):
        Recording(tmp_path / "copy.json", version=minor).build_all(seed(), ["export"], mode="graph")
    assert [file.name for file in tmp_path.iterdir()] == ["recorded.json"]
    (report,) = Recording(file, version=minor).build_all(seed(), ["export"], mode="graph")  # still read, not recorded
    assert len(report.engines) == 1


def test_the_time_limit_is_that_of_the_request_and_nothing_is_written_unless_asked_for(monkeypatch, tmp_path):
    monkeypatch.delenv(RECORD, raising=False)
    asked = mock.Mock(return_value=())
    monkeypatch.setattr(requests, "build_all", asked)
    assert Recording(tmp_path / "recorded.json").build_all(seed(), ["export"], seconds=7) == ()
    assert asked.call_args.kwargs["seconds"] == 7
    assert not list(tmp_path.iterdir())


def test_every_notebook_with_a_recording_has_the_file():
    assert RECORDED
    for notebook in RECORDED:
        for name in re.findall(r'Recording\(\\"([^"\\]+)\\"', notebook.read_text(encoding="utf-8")):
            assert json.loads((NOTEBOOKS / name).read_text(encoding="utf-8")), name
