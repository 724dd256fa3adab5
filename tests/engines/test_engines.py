"""The preview itself: what its process finds, and what the reader's process sees of it."""

import json
import sys

import inside_package as ours
import misbehaving
import pytest
import torch
import upstream
from torch import nn

from tutorial_lib import Case, OptionError, ShapeError, TensorSpec, expand_reshape
from tutorial_lib.backends import as_device
from tutorial_lib.engines import EngineProcessError, cli, preview, previews, process


@pytest.fixture(scope="module")
def found(frontend):
    """The tutorial's first model, small: batch 2/4/32, then calls at 1, 4, 32 and 33; by path."""
    case = expand_reshape(batch=(2, 4, 32), embed_dim=24, tokens=7)
    return {one.path: one for one in previews(case, calls=(1, 4, 32, 33))}


def profiles(one):
    return [(e.data[0].min[0], e.data[0].opt[0], e.data[0].max[0]) for e in one.engines]


def test_the_profile_is_not_the_range_that_was_typed(found):
    assert [(i.min[0], i.opt[0], i.max[0]) for i in found["input"].requested] == [(2, 4, 32)]
    assert profiles(found["input"]) == profiles(found["export"]) == [(1, 4, 32)]
    assert profiles(found["jit"])[0] == (1, 4, 32)


def test_jit_builds_further_engines_for_batch_1_and_33(found):
    assert profiles(found["jit"]) == [(1, 4, 32), (1, 1, 1), (1, 33, upstream.UNBOUNDED)]
    calls = found["jit"].calls
    assert [(c.sizes["batch"], c.outcome, c.ran, c.built) for c in calls] == [
        (1, "built", (2,), (2,)),
        (4, "served", (1,), ()),
        (32, "served", (1,), ()),
        (33, "built", (3,), (3,)),
    ]


@pytest.mark.parametrize("path", ["input", "export"])
def test_ahead_of_time_batch_33_is_refused_by_the_profile(found, path):
    *served, refused = found[path].calls
    assert [c.outcome for c in served] == ["served"] * 3
    assert refused.outcome == "refused"
    assert refused.by == "the optimization profile of engine 1"
    assert refused.words == "x has size 33 in dim 0, and the optimization profile holds 1 to 32"


def test_each_call_says_what_the_guard_would_do(found, path):
    guards = [c.guard for c in found[path].calls]
    assert guards[1:3] == [None, None]
    assert guards[0].startswith("batch is 1 on x; this program was built for 2 to 32")
    assert guards[3].startswith("batch is 33 on x")


def test_the_source_of_opt_is_named(found):
    sources = {path: [e.opt_source for e in one.engines] for path, one in found.items()}
    assert sources["input"] == ["opt_shape, the size of the traced example"]
    assert sources["export"] == ["the size of the exported example"]
    assert sources["jit"] == ["the size of the first call", *["the size of the call that triggered it"] * 2]


def test_notes_say_what_differs_and_why(found):
    assert "engine 1, batch: min is 1, not 2 (Torch-TensorRT turns a lower bound of 2 into 1)" in found["input"].notes
    assert found["jit"].notes[-1] == (
        f"engine 3, batch: max is {upstream.UNBOUNDED}, not 32 (Torch-TensorRT's own, where Dynamo has no upper bound)"
    )


def test_it_is_called_a_preview_and_the_stub_is_named(found, path):
    one = found[path]
    assert str(one).startswith("PREVIEW of expand-reshape")
    assert "TensorRT built nothing" in one.title
    assert (one.real, one.library) == (False, "stub")
    assert one.versions["torch-tensorrt"].startswith("2.")


def test_every_engine_and_call_is_in_the_text_the_rows_and_the_json(found, path):
    one = found[path]
    text, rows, plain = str(one), list(one.rows()), json.loads(json.dumps(one.to_dict()))
    for number in range(1, len(one.engines) + 1):
        assert f"engine {number}: " in text
    assert text.count("  call batch ") == len(plain["calls"]) == 4
    assert len(rows) == sum(len(e.inputs) for e in one.engines)
    assert rows[[r["kind"] for r in rows].index("data")]["typed"] == "[2/4/32, 7, 24]"
    assert plain["engines"][0]["operators"] == one.engines[0].operators
    assert plain["title"] == one.title


def test_the_readers_process_is_left_alone(found):
    assert "torch_tensorrt" not in sys.modules
    assert "tensorrt" not in sys.modules
    assert torch.cuda.current_device.__module__ == "torch.cuda"


def test_a_gpu_without_tensorrt_gives_the_same_preview(frontend, monkeypatch):
    case = expand_reshape(batch=(2, 4, 32), embed_dim=24, tokens=7).to(as_device())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    one = preview(case, "export", calls=(4,))
    assert (one.real, one.library, one.calls[0].outcome) == (False, "stub", "served")
    assert profiles(one) == [(1, 4, 32)]


def test_several_dynamic_dimensions(run_inside):
    one = run_inside(ours.preview_here, "export", "masked", (2, 4, 32), ({"batch": 3, "length": 10}, 5))
    assert [str(i) for i in one.engines[0].data] == [
        "x [1/4/32, 1/5/9, 16] float32",
        "mask [1/4/32, 1/5/9] float32",
    ]
    assert one.calls[0].words == "x has size 10 in dim 1, and the optimization profile holds 1 to 9"
    assert one.calls[1].sizes == {"batch": 5, "length": 5}


def test_the_part_behind_a_graph_break_refuses_batch_1(run_inside):
    one = run_inside(ours.preview_here, "input", "hybrid", (2, 4, 32), (1, 2), ours.SORT)
    refused, served = one.calls
    assert refused.by == "the optimization profile of engine 2"
    assert refused.ran == (1, 2)
    assert served.ran == (1, 2)
    assert "from another part of the model" in str(one)
    assert "left to PyTorch: aten.sort.default" in str(one)


def test_a_failed_build_still_shows_its_engines(run_inside):
    one = run_inside(ours.preview_here, "export", "hybrid", (1, 4, 32), (1,), ours.SORT)
    assert len(one.engines) == 2
    assert "cut into 2 engines, only the first accepts it" in one.failed
    assert one.calls == ()
    assert "the build failed: " in str(one)


def test_a_call_that_would_run_in_pytorch_is_refused(run_inside):
    one = run_inside(ours.preview_here, "jit", "seed", (2, 4, 32), (1,), {"min_block_size": 8})
    (call,) = one.calls
    assert (call.outcome, call.by) == ("refused", "the build of a further engine")
    assert "would run in PyTorch" in call.words


def test_a_misspelt_option_is_refused_by_name(run_inside):
    with pytest.raises(OptionError, match="did you mean 'optimization_level'"):
        run_inside(ours.preview_here, "export", "seed", (2, 4, 32), (), {"optimisation_level": 5})


def test_killing_the_process_midway_is_one_sentence(frontend):
    with pytest.raises(
        EngineProcessError, match=r"^the preview of export was ended by SIGKILL .* before it could answer\.$"
    ):
        preview(misbehaving.killed(), "export")


def test_a_process_that_hangs_is_stopped_and_gone(frontend, monkeypatch):
    started = []
    popen = process.subprocess.Popen
    monkeypatch.setattr(process.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with pytest.raises(
        EngineProcessError, match=r"took longer than 0.1 s and was stopped; allow more with seconds=\.$"
    ):
        preview(expand_reshape(), "jit", seconds=0.1)
    assert started[0].returncode is not None


def test_a_process_that_cannot_start_is_one_sentence(frontend, monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(EngineProcessError, match=r"ended with exit code 3 \(no such luck\) before it could answer\.$"):
        preview(expand_reshape(), "jit")


def test_a_model_from_a_notebook_cannot_be_sent(frontend):
    model = type("Mine", (nn.Identity,), {"__module__": "__main__"})()
    with pytest.raises(ShapeError, match="Mine is defined in this notebook or script"):
        preview(Case("mine", model, (TensorSpec("x", (2, 3)),)), "jit")


@pytest.mark.parametrize(
    ("arguments", "words"), [({"path": "both"}, "there is no path"), ({"path": "jit", "calls": [0]}, "batch is 0")]
)
def test_what_was_typed_is_checked_before_a_process_starts(monkeypatch, arguments, words):
    monkeypatch.setattr(process.subprocess, "Popen", None)
    with pytest.raises(ShapeError, match=words):
        preview(expand_reshape(), **arguments)


def test_the_command_prints_every_path(found, monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr(cli, "previews", lambda *args: asked.update(args=args) or tuple(found.values()))
    assert (
        cli.main(
            ["--min", "2", "--opt", "4", "--max", "32", "--calls", "1,4,32,33", "--option", "optimization_level=5"]
        )
        == 0
    )
    case, paths, calls, options, _ = asked["args"]
    assert (str(case.dims["batch"]), paths, calls, options) == (
        "batch 2/4/32",
        ["jit", "input", "export"],
        [1, 4, 32, 33],
        {"optimization_level": 5},
    )
    assert capsys.readouterr().out == "\n\n".join(map(str, found.values())) + "\n"


def test_the_command_prints_json_for_machines(found, monkeypatch, capsys):
    monkeypatch.setattr(cli, "previews", lambda *args: tuple(found.values()))
    assert cli.main(["--json"]) == 0
    assert [one["path"] for one in json.loads(capsys.readouterr().out)] == list(found)


def test_a_range_that_is_none_is_one_sentence(capsys):
    assert cli.main(["--min", "8", "--max", "4"]) == cli.BAD_INPUT
    assert capsys.readouterr().err.startswith("error: batch: min is 8, above max 4")
