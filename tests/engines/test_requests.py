"""What a request for a build's graphs and profiles is answered, and what is refused before a process is asked."""

import subprocess
import sys

import inside_package as ours
import pytest
import torch
import upstream

from tutorial_lib import PATHS, OptionError, ShapeError, expand_reshape
from tutorial_lib.builds.backends import as_device
from tutorial_lib.engines import EnginesUnavailable, build, build_all, run_inside
from tutorial_lib.engines.errors import TargetError

AHEAD = ("input", "export")


@pytest.fixture(scope="module")
def reports(installed):
    """The tutorial's first model, small: batch 2/4/32, then calls at 1, 4, 32 and 33; by path."""
    case = expand_reshape(batch=(2, 4, 32), embed_dim=24, tokens=7)
    return {report.path: report for report in build_all(case, calls=(1, 4, 32, 33), mode="graph")}


def profiles(report):
    return [(e.data[0].min[0], e.data[0].opt[0], e.data[0].max[0]) for e in report.engines]


def graphs(path, *arguments):
    """The report on the graphs of one of the small cases."""
    name, batch, calls, options = (*arguments, None)[:4]
    return build(ours.case(name, batch).to("cpu"), path, calls, options, mode="graph")


def test_jit_builds_further_engines_for_batch_1_and_33(reports):
    assert profiles(reports["jit"]) == [(1, 4, 32), (1, 1, 1), (1, 33, upstream.UNBOUNDED)]
    calls = reports["jit"].calls
    assert [(c.sizes["batch"], c.outcome, c.ran, c.built) for c in calls] == [
        (1, "built", (2,), (2,)),
        (4, "served", (1,), ()),
        (32, "served", (1,), ()),
        (33, "built", (3,), (3,)),
    ]


@upstream.before_2_14
@pytest.mark.parametrize("path", AHEAD)
def test_ahead_of_time_the_profile_is_not_the_range_that_was_typed_and_refuses_batch_33(reports, path):
    report = reports[path]
    assert [(i.min[0], i.opt[0], i.max[0]) for i in report.requested] == [(2, 4, 32)]
    assert profiles(report) == [(1, 4, 32)]
    *served, refused = report.calls
    assert [c.outcome for c in served] == ["served"] * 3
    assert (refused.outcome, refused.by) == ("refused", "the optimization profile of engine 1")
    assert refused.words == "x has size 33 in dim 0, and the optimization profile holds 1 to 32"


def test_each_call_says_what_the_range_check_would_do(reports, path):
    below, *inside, above = (c.range_check for c in reports[path].calls)
    assert inside == [None, None]
    assert below.startswith("batch is 1 on x; this program was built for 2 to 32")
    assert above.startswith("batch is 33 on x")


@upstream.before_2_14
def test_notes_say_what_differs_and_why_and_the_source_of_opt_is_named(reports):
    assert "engine 1, batch: min is 1, not 2 (Torch-TensorRT turns a lower bound of 2 into 1)" in reports["input"].notes
    assert reports["jit"].notes[-1] == (
        f"engine 3, batch: max is {upstream.UNBOUNDED}, not 32 (Torch-TensorRT's own, where Dynamo has no upper bound)"
    )
    sources = {path: [e.opt_source for e in report.engines] for path, report in reports.items()}
    assert sources["input"] == ["opt_shape, the size of the traced example"]
    assert sources["export"] == ["the size of the exported example"]
    assert sources["jit"] == ["the size of the first call", *["the size of the call that triggered it"] * 2]


def test_without_a_build_nothing_is_said_to_be_built(reports, path):
    report = reports[path]
    assert (report.plans, report.activation_bytes) == ((), None)
    assert "built by TensorRT" not in str(report)


@pytest.mark.slow
def test_the_readers_process_is_left_alone(installed):
    code = """
import sys, torch
from tutorial_lib import expand_reshape
from tutorial_lib.engines import build
print(build(expand_reshape((2, 4, 8), 24, tokens=7), "export", mode="graph").failed)
print(sorted({"torch_tensorrt", "tensorrt", "tensorrt_rtx"} & set(sys.modules)), torch.cuda.current_device.__module__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "None\n[] torch.cuda\n", done.stderr


def test_a_gpu_here_gives_the_same_report(installed, monkeypatch):
    case = expand_reshape(batch=(2, 4, 32), embed_dim=24, tokens=7).to(as_device())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    report = build(case, "export", calls=(4,), mode="graph")
    assert report.calls[0].outcome == "served"
    assert profiles(report) == [(1, 4, 32)]


def test_several_dynamic_dimensions(installed):
    report = graphs("export", "masked", (2, 4, 32), ({"batch": 3, "length": 10}, 5))
    assert [str(i) for i in report.engines[0].data] == [
        "x [1/4/32, 1/5/9, 16] float32",
        "mask [1/4/32, 1/5/9] float32",
    ]
    assert report.calls[0].words == "x has size 10 in dim 1, and the optimization profile holds 1 to 9"
    assert report.calls[1].sizes == {"batch": 5, "length": 5}


@upstream.before_2_14
@pytest.mark.parametrize("name", PATHS if upstream.SHARED_DIMS else ["jit", "export"])
def test_an_argument_has_the_models_name_whatever_the_graph_calls_it(installed, name):
    report = graphs(name, "awkward names", (2, 4, 32), (33,))
    engine = report.engines[0]
    assert {i.name: (i.min[0], i.opt[0], i.max[0]) for i in engine.data} == {"input": (1, 4, 32), "Scale": (1, 4, 32)}
    assert {row["typed"] for row in report.rows() if row["kind"] == "data"} == {"[2/4/32, 8]"}
    if name != "jit":
        assert report.calls[0].words == "input has size 33 in dim 0, and the optimization profile holds 1 to 32"


@upstream.before_2_14
@pytest.mark.parametrize("path", AHEAD)
def test_the_part_behind_a_graph_break_refuses_batch_1(installed, path):
    report = graphs(path, "hybrid", (2, 4, 32), (1, 2), ours.SORT)
    (between,) = report.engines[1].inputs
    assert (between.kind, between.min[0], between.opt[0], between.max[0]) == ("intermediate", 42, 84, 672)
    refused, served = report.calls
    assert (refused.by, refused.ran) == ("the optimization profile of engine 2", (1, 2))
    assert (served.outcome, served.ran) == ("served", (1, 2))
    assert "from another part of the model" in str(report)
    assert report.left_to_pytorch == ("aten.sort.default",)


@pytest.mark.parametrize("path", AHEAD)
def test_a_build_that_cannot_serve_batch_1_fails_with_the_reason_and_shows_its_engines(installed, path):
    report = graphs(path, "hybrid", (1, 4, 32), (1,), ours.SORT)
    assert len(report.engines) == 2
    assert "cannot run at batch 1" in report.failed
    assert "cut into 2 engines, only the first accepts it" in report.failed
    assert report.calls == ()
    assert "the build failed: " in str(report)


def test_a_call_that_would_run_in_pytorch_is_refused(installed):
    report = graphs("jit", "seed", (2, 4, 32), (1,), {"min_block_size": 8})  # 8 operators, and 7 with a batch of 1
    (call,) = report.calls
    assert (len(report.engines), call.outcome, call.by) == (1, "refused", "the build of a further engine")
    assert "would run in PyTorch" in call.words


def test_a_misspelt_option_is_refused_by_name(installed):
    with pytest.raises(OptionError, match="did you mean 'optimization_level'"):
        graphs("export", "seed", (2, 4, 32), (), {"optimisation_level": 5})


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"path": "both"}, ShapeError, "no path 'both'; use jit, input, export"),
        ({"path": "jit", "calls": [0]}, ShapeError, "batch is 0"),
        ({"path": "jit", "mode": "dry"}, ShapeError, "no mode 'dry'; use build or graph"),
        ({"path": "jit", "target": "sm90"}, TargetError, "sm90"),
    ],
)
def test_what_was_typed_is_checked_before_a_process_is_asked(no_process, arguments, error, words):
    with pytest.raises(error, match=words):
        build(expand_reshape(), **arguments)


def test_without_the_builder_a_request_says_what_is_missing(without_builder, no_process):
    without_builder()
    for ask in (lambda: build(expand_reshape(), "jit"), lambda: run_inside(sorted, [1])):
        with pytest.raises(EnginesUnavailable, match="no builder on this machine"):
            ask()
