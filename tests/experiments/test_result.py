"""A result comes back from JSON as it was, and what is none is refused with the place that is wrong."""

import json
from dataclasses import replace

import pytest

from tutorial_lib import DynamicDim
from tutorial_lib.builds.plan import Plan, PlanLayer, PlanTensor
from tutorial_lib.builds.report import Engine, EngineInput
from tutorial_lib.engines import Call, EngineReport
from tutorial_lib.experiments import Result, Setting, run
from tutorial_lib.experiments.result import Failure
from tutorial_lib.explain import Explanation

TENSOR = PlanTensor("x", "float32", "data", (((1, 7), (4, 7), (8, 7)),))
PLAN = Plan(10, 20, 30, 5, 4, 1, (PlanLayer("l", "kgen", ("a",)),), (TENSOR,), (), ("sm89",), 0.5, 1.5, ("w",), {})
ENGINE = Engine((EngineInput("x", "float32", (1, 7), (4, None), (8, 7)),), "the first call", 5, 0.0, plan=PLAN)
REPORT = EngineReport(
    case="seed",
    path="jit",
    mode="build",
    target="sm89",
    requested=ENGINE.inputs,
    engines=(ENGINE,),
    calls=(Call({"batch": 9}, "refused", "the profile", "too large", (1,), (), None),),
    left_to_pytorch=None,
    failed="it failed",
    explanation=Explanation("shape", "a cause", "a fix", "a quote"),
    log=("TensorRT's",),
    notes=("min is 1, not 2",),
    versions={"tensorrt-rtx": "1.5.0.114"},
    options={"debug": True},
    seconds=1.5,
    tracing_seconds=0.5,
)


@pytest.fixture(scope="module")
def result(seed):
    setting = Setting("seed", (DynamicDim("batch", 1, 4, 8),), "eager", paths=("jit", "export"), samples=1, sizes=(1,))
    measured = run(setting, seed, min_seconds=0)
    return replace(measured, engines=(REPORT,), failures={"input": Failure("it is closed", "Traceback ...")})


def json_of(result):
    return json.loads(json.dumps(result.to_dict(), allow_nan=False))


def test_a_result_comes_back_from_json(result):
    again = Result.from_dict(json_of(result))
    assert json_of(again) == json_of(result)
    assert again.setting == result.setting
    assert again.builds[0].engines == result.builds[0].engines
    assert again.sweep.table["median_ms"].tolist() == result.sweep.table["median_ms"].tolist()
    assert again.sweep.agrees
    assert again.backend == "eager"
    assert again.final


def test_engines_come_back_with_their_plans_and_calls(result):
    (report,) = Result.from_dict(json_of(result)).engines
    assert replace(report, options={}) == replace(REPORT, options={})
    assert str(report) == str(REPORT)


def test_a_traceback_stays_on_the_machine_that_it_tells_of(result):
    assert "Traceback" not in json.dumps(json_of(result))
    assert Result.from_dict(json_of(result)).failures == {"input": Failure("it is closed")}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c.pop("where"), "r has no field 'where'"),
        (lambda c: c.update(colour=1), "r has an unknown field 'colour'"),
        (lambda c: c.update(seconds={"measure": "long"}), r"r\.seconds\.measure is 'long', not a number"),
        (lambda c: c["setting"].update(samples="3"), r"r\.setting\.samples is '3', not a whole number"),
        (lambda c: c["setting"]["ranges"][0].update(min=9), "min is 9, above max 8"),
        (lambda c: c["builds"][1].pop("path"), r"r\.builds\[1\] has no field 'path'"),
        (lambda c: c["builds"][0]["engines"][0].update(seconds=None), r"r\.builds\[0\]\.engines\[0\]\.seconds is None"),
        (lambda c: c["engines"][0]["calls"][0].update(ran="1"), r"r\.engines\[0\]\.calls\[0\]\.ran is '1', not a list"),
        (lambda c: c["sweep"].pop("pairs"), r"r\.sweep has no field 'pairs'"),
        (lambda c: c["sweep"]["provenance"].update(threads=None), r"r\.sweep\.provenance\.threads is None"),
    ],
)
def test_what_is_no_result_is_refused_with_the_place(result, edit, said):
    content = json_of(result)
    edit(content)
    with pytest.raises(ValueError, match=said):
        Result.from_dict(content, "r")
