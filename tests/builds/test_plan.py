"""A plan survives the way through JSON, and nothing that is not one is taken for one."""

import dataclasses
import json

import pytest

from tutorial_lib.builds.plan import Plan, PlanLayer, PlanTensor

X = PlanTensor("x", "float32", "data", (((1, 768), (4, 768), (32, 768)),))
SIZE = PlanTensor("sym_size", "int64", "shape", (((1,), (4,), (32,)),), True)
SCALAR = PlanTensor("scale", "float32", "weight", (((), (), ()),))
LAYER = PlanLayer("gemm", "kgen", ("linear", "relu"), ("float32 [-1,768]",), ("float32 [-1,8]",), "__myelin_CASK_STUB")
PLAN = Plan(
    plan_bytes=6,
    activation_bytes=85_655_552,
    weight_bytes=7_090_432,
    scratch_bytes=0,
    network_layers=36,
    shape_layers=26,
    layers=(LAYER,),
    inputs=(X, SIZE, SCALAR),
    outputs=(PlanTensor("y", "float32"),),
    targets=("sm80", "sm86"),
    conversion_seconds=0.25,
    build_seconds=0.5,
    messages=("a warning",),
    versions={"tensorrt-rtx": "1.5.0.114"},
    data=b"native",
)


def through_json(plan):
    return json.loads(json.dumps(plan.to_dict(), allow_nan=False))


def test_a_plan_with_results_that_are_too_large_to_reserve_allocates_them_at_run_time():
    allocate = PlanLayer("allocate_0", "allocate", (), ("float32 [-1,2304]",))
    plan = dataclasses.replace(PLAN, layers=(allocate, LAYER))
    assert (plan.allocates_at_run_time, plan.least_run_time_bytes) == (True, 4 * 2**31)
    assert (PLAN.allocates_at_run_time, PLAN.least_run_time_bytes) == (False, 0)


def test_a_plan_goes_through_json_without_its_bytes_which_are_not_printed_either():
    again = Plan.from_dict(through_json(PLAN))
    assert again == PLAN
    assert again.data is None
    assert hash(again.inputs) == hash(PLAN.inputs)
    assert "native" not in repr(PLAN)


def test_an_input_is_dynamic_if_any_profile_or_two_of_them_differ():
    fixed = ((2,), (2,), (2,)), ((3,), (3,), (3,))
    several, one = (PlanTensor("x", "float32", "data", profiles) for profiles in (fixed, fixed[:1]))
    assert [tensor.is_dynamic for tensor in (X, SIZE, several, one, SCALAR)] == [True, True, True, False, False]
    assert PLAN.is_dynamic
    assert not dataclasses.replace(PLAN, inputs=(SCALAR,)).is_dynamic


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plan_bytes": "6"}, "plan.plan_bytes is '6', not a whole number"),
        ({"plan_bytes": True}, "plan.plan_bytes is True"),
        ({"plan_bytes": -1}, "plan.plan_bytes is -1, not 0 or more"),
        ({"build_seconds": float("nan")}, "plan.build_seconds is nan, not a finite number"),
        ({"build_seconds": 10**400}, "not a finite number"),
        ({"build_seconds": "fast"}, "plan.build_seconds is 'fast', not a number"),
        ({"messages": "a text"}, "plan.messages is 'a text', not a list"),
        ({"versions": {"torch": 2}}, "plan.versions.torch is 2, not a text"),
        ({"versions": []}, "plan.versions is .., not an object"),
        ({"inputs": [{"name": "x"}]}, "has no field 'dtype'"),
        ({"inputs": [{"name": "x", "dtype": "int8", "profiles": [[[1], [2]]]}]}, "has 2 values, not 3"),
        ({"inputs": [{"name": "x", "dtype": "int8", "profiles": [[[1], [1.5], [2]]]}]}, "is 1.5, not a whole"),
        ({"latency_ms": 1.0}, "has an unknown field 'latency_ms'"),
        ({"data": None}, "JSON holds no bytes"),
    ],
)
def test_anything_else_is_refused_with_the_field_it_is_in(change, said):
    with pytest.raises(ValueError, match=said):
        Plan.from_dict({**through_json(PLAN), **change})


def test_what_is_no_object_or_lacks_a_field_is_no_plan():
    for plain in (None, [], "plan", 3):
        with pytest.raises(ValueError, match="not an object"):
            Plan.from_dict(plain)
    for field in set(through_json(PLAN)) - {"activation_by_profile"}:
        plain = through_json(PLAN)
        del plain[field]
        with pytest.raises(ValueError, match=f"no field '{field}'"):
            Plan.from_dict(plain)
