"""A report's text, rows and JSON, without a builder: the values are made up."""

import json
from dataclasses import replace

import pytest
from plans import PLAN

from tutorial_lib import expand_reshape
from tutorial_lib.builds.plan import show_bytes
from tutorial_lib.builds.report import Engine, EngineInput
from tutorial_lib.core import plain_values
from tutorial_lib.engines.report import Call, EngineReport, FunctionReport, differences

X = EngineInput("x", "float32", (1, 8), (4, 8), (32, 8))
STATIC = EngineInput("x", "float32", (1, 8), (1, 8), (1, 8))
WEIGHT = EngineInput("weight", "float32", (8, 8), (8, 8), (8, 8), "weight")
VERSIONS = {"torch-tensorrt-rtx": "2.13.0", "tensorrt-rtx": "1.5.0.114"}
SMALL = replace(PLAN, activation_bytes=10_612_736, network_layers=28, shape_layers=18)
REPORT = EngineReport(
    case="seed",
    path="jit",
    mode="build",
    target=None,
    requested=(replace(X, min=(2, 8)),),
    engines=(
        Engine((X, WEIGHT), "the size of the first call", 5, 0.5, PLAN.plan_bytes, plan=PLAN),
        Engine((STATIC, WEIGHT), "its only size", 5, 0.5, SMALL.plan_bytes, after_build=True, plan=SMALL),
    ),
    calls=(
        Call({"batch": 1}, "built", "engine 2", None, (2,), (2,), None),
        Call({"batch": 33}, "refused", "the optimization profile of engine 1", "x has size 33", (1,), (), "no"),
    ),
    left_to_pytorch=("aten.sort.default",),
    notes=("engine 1, batch: min is 1, not 2",),
    versions=VERSIONS,
    options={"min_block_size": 1},
    seconds=2.0,
    tracing_seconds=1.0,
)
FAILED = replace(REPORT, engines=(), calls=(), failed="TensorRT refused it.", log=("FP32 GEMM is not supported",))


def test_the_title_says_that_it_was_built_by_what_and_not_run():
    assert REPORT.title == "seed, jit: built by TensorRT for RTX 1.5.0.114, not run (Torch-TensorRT 2.13.0)"
    assert " for sm89, not run" in replace(REPORT, target="sm89").title
    assert FAILED.title == "seed, jit: not built by TensorRT for RTX 1.5.0.114 (Torch-TensorRT 2.13.0)"
    assert replace(REPORT, mode="graph").title.endswith("what Torch-TensorRT 2.13.0 asks for; TensorRT built nothing")


@pytest.mark.parametrize(
    ("profile", "after_build", "note"),
    [
        ((2, 4, 32), False, None),
        ((1, 4, 32), False, "min is 1, not 2 (Torch-TensorRT turns a lower bound of 2 into 1)"),
        ((2, 5, 32), False, "opt is 5, not 4 (the first call)"),
        ((2, 4, 64), False, "max is 64, not 32"),
        ((1, 33, 4096), True, "max is 4096, not 32 (Torch-TensorRT's own, where Dynamo has no upper bound)"),
        ((4, 4, 4), False, "its only size is 4, not 2 to 32"),
        ((4, 4, 4), True, None),
        ((1, 1, 1), False, None),
    ],
)
def test_every_bound_that_is_not_as_typed_is_noted(profile, after_build, note):
    case = expand_reshape(batch=(2, 4, 32), embed_dim=24, tokens=7)
    x = EngineInput("x", "float32", *((size, 7, 24) for size in profile))
    notes = differences(case, (Engine((x,), "the first call", 1, 0.0, after_build=after_build),), "2.13.0")
    assert (f"engine 1, batch: {note}" in notes) if note else notes == ()


def several(low, high):
    """A case of two profiles, and an engine whose plan has `low` and `high` as theirs."""
    case = expand_reshape(embed_dim=24, tokens=7).with_profiles({"batch": (1, 2, 4)}, {"batch": (4, 8, 16)})
    ranges = tuple(tuple((size, 7, 24) for size in triple) for triple in (low, high))
    tensor = replace(PLAN.inputs[0], name="arg0_1", argument="x", profiles=ranges)
    layers = (*PLAN.layers, replace(PLAN.layers[0], profile=1))
    plan = replace(PLAN, inputs=(tensor,), layers=layers, activation_by_profile=(17_900_000, 163_000_000))
    whole = EngineInput("x", "float32", (1, 7, 24), (2, 7, 24), (16, 7, 24))
    return case, Engine((whole,), "the traced example", 5, 0.5, plan=plan)


def test_memory_and_layers_are_told_by_profile_and_each_is_compared_with_what_was_typed():
    case, engine = several((1, 2, 4), (4, 8, 16))
    report = EngineReport.of(case, "export", (engine,), VERSIONS, mode="build", target=None)
    lines = str(report).splitlines()
    assert "  typed: profile 1: batch 4/8/16" in lines
    assert "    profile 0: x [1/2/4, 7, 24]: activation 17.9 MB, 1 layer of the plan" in lines
    assert "    profile 1: x [4/8/16, 7, 24]: activation 163 MB, 1 layer of the plan" in lines
    assert report.notes == ()
    case, other = several((1, 2, 4), (1, 4, 16))
    assert differences(case, (other,), "2.14.0") == (
        "engine 1, profile 1, batch: min is 1, not 4",
        "engine 1, profile 1, batch: opt is 4, not 8 (the traced example)",
    )


def test_an_engine_for_each_profile_is_compared_with_its_own():
    case, _ = several((1, 2, 4), (4, 8, 16))
    engines = [EngineInput("x", "float32", *((size, 7, 24) for size in ends)) for ends in [(1, 2, 4), (4, 8, 12)]]
    notes = differences(case, tuple(Engine((x,), "the first call", 5, 0.5) for x in engines), "2.14.0")
    assert notes == ("engine 2, batch: max is 12, not 16",)


def test_the_text_has_every_engine_with_its_memory_and_every_call():
    lines = str(REPORT).splitlines()
    assert lines[0] == REPORT.title
    refusal = "refused by the optimization profile of engine 1: x has size 33"
    for line in (
        "  typed: x [2/4/32, 8] float32",
        "  engine 2: 5 operators, opt from its only size, built by a call",
        "    plan 11 bytes; memory: activation 85.7 MB, weights 7.09 MB",
        "    28 layers of the network, 18 of them for shapes -> 1 layer of the plan",
        "  call batch 1: built engine 2, which served it",
        f"  call batch 33: {refusal} (through tutorial_lib: refused first, by its range check)",
        "  left to PyTorch: aten.sort.default",
        "  note: engine 1, batch: min is 1, not 2",
    ):
        assert line in lines
    assert lines.count("    1 weight as an input") == 2


def test_a_failed_build_gives_the_reason_and_tensorrts_log():
    *_, reason, log, _ = str(FAILED).splitlines()
    assert (reason, log) == (
        "  the build failed: TensorRT refused it.",
        "  TensorRT's log: FP32 GEMM is not supported",
    )


def test_activation_memory_is_that_of_the_engine_that_needs_most():
    assert (REPORT.activation_bytes, FAILED.activation_bytes) == (85_655_552, None)


def test_rows_are_the_inputs_of_all_engines_beside_what_was_typed():
    rows = list(REPORT.rows())
    assert [(row["engine"], row["input"], row["kind"], row["typed"], row["real"]) for row in rows] == [
        (1, "x", "data", "[2/4/32, 8]", "[1/4/32, 8]"),
        (1, "weight", "weight", "", "[8, 8]"),
        (2, "x", "data", "[2/4/32, 8]", "[1, 8]"),
        (2, "weight", "weight", "", "[8, 8]"),
    ]
    assert [row["built by a call"] for row in rows] == [False, False, True, True]


def test_json_has_the_numbers_and_not_the_plan_itself():
    plain = json.loads(json.dumps(REPORT.to_dict()))
    assert plain["title"] == REPORT.title
    assert [engine["plan"]["activation_bytes"] for engine in plain["engines"]] == [85_655_552, 10_612_736]
    assert all("data" not in engine["plan"] for engine in plain["engines"])
    assert plain["options"] == {"min_block_size": "1"}
    assert plain["calls"][0]["built"] == [2]
    assert plain_values.read(tuple[Engine, ...], plain["engines"]) == REPORT.engines
    (without_plan,) = replace(REPORT, engines=(replace(REPORT.engines[0], plan=None),)).to_dict()["engines"]
    assert plain_values.read(Engine, json.loads(json.dumps(without_plan))).plan is None


def test_bytes_are_said_in_the_largest_unit_that_fits():
    counts = 0, 294_772, 999_499, 999_999, 85_655_552, 9_920_000_000, 5_432_100_000_000
    assert [*map(show_bytes, counts)] == ["0 bytes", "295 kB", "999 kB", "1 MB", "85.7 MB", "9.92 GB", "5432 GB"]


def test_a_functions_report_tells_engines_warnings_and_errors():
    report = FunctionReport(REPORT.engines[:1], None, "KeyError: 'mine'", ("beware",), "2.13.0", "build")
    lines = str(report).splitlines()
    assert lines[0] == "Torch-TensorRT 2.13.0 had TensorRT build 1 engine"
    assert "    x [1/4/32, 8] float32" in lines
    assert lines[-2:] == ["  warning: beware", "  error: KeyError: 'mine'"]
    assert str(replace(report, mode="graph", engines=())).startswith(
        "Torch-TensorRT 2.13.0 asked for (nothing was built): 0 engines"
    )
