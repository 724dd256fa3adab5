"""The profile that each way of asking leads to, on Torch-TensorRT 2.11 and 2.13, with upstream's own calls.

A range is written (min, opt, max); a single number is a static shape.
"""

import inside
import pytest
import upstream
from upstream import UNBOUNDED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        upstream.MINOR not in upstream.KNOWN, reason="the rows are those of Torch-TensorRT 2.11 and 2.13"
    ),
]

JIT = {
    "min 2": ((4, {"min": 2, "max": 32}), [(1, 4, 32)]),
    "min 1, which is no different": ((4, {"min": 1, "max": 32}), [(1, 4, 32)]),
    "min 3": ((4, {"min": 3, "max": 32}), [(3, 4, 32)]),
    "no bounds": ((4, {}), [(1, 4, UNBOUNDED)]),
}


@pytest.mark.parametrize(("asked", "profiles"), JIT.values(), ids=JIT)
def test_profile_of_a_marked_dimension(run_inside, asked, profiles):
    assert run_inside(inside.jit, *asked) == profiles


# In 2.11, a second size that the graph computes with, such as tokens + 1, cuts it into two engines.
EVERY_DIMENSION = {
    0: [(1, 4, UNBOUNDED)] if upstream.SIZES_ARE_INPUTS else [(1, 4, UNBOUNDED)] * 2,
    1: [(1, 7, UNBOUNDED)] if upstream.SIZES_ARE_INPUTS else [(1, 7, UNBOUNDED), (3, 8, 3 * UNBOUNDED)],
}


@pytest.mark.parametrize(("axis", "profiles"), EVERY_DIMENSION.items())
def test_dynamic_true_makes_every_dimension_dynamic(run_inside, axis, profiles):
    assert run_inside(inside.jit, 4, None, None, (), False, True, axis) == profiles


def test_one_bound_without_the_other_is_refused(run_inside):
    with pytest.raises(inside.Upstream, match="not simple sympy type"):
        run_inside(inside.jit, 4, {"min": 2, "max": None})


def test_marking_a_batch_of_1_is_refused(run_inside):
    with pytest.raises(inside.Upstream, match=r"(?s)ConstraintViolationError.*specialized it to be a constant"):
        run_inside(inside.jit, 1, {"min": 1, "max": 32})


def test_without_a_mark_the_second_size_makes_the_engine_dynamic(run_inside):
    profiles, refusal = run_inside(inside.automatic_dynamic_then, UNBOUNDED + 1)
    assert profiles == [4, (1, 8, UNBOUNDED)]
    what = "value" if upstream.SIZES_ARE_INPUTS else "size"
    assert f"has {what} {UNBOUNDED + 1} in dim 0, and the optimization profile holds 1 to {UNBOUNDED}" in refusal


def test_two_marked_dimensions_leave_a_number_whose_min_is_not_repaired(run_inside):
    batch, tokens_and_one = ((1,), (4,), (32,)), ((3,), (6,), (65,))
    first, second = ((1, 1, 24), (4, 5, 24), (32, 64, 24)), ((1, 3, 72), (4, 6, 72), (32, 65, 72))
    assert run_inside(inside.jit_with_two_dims) == (
        [[batch, first, tokens_and_one]] if upstream.SIZES_ARE_INPUTS else [[first], [batch, second, tokens_and_one]]
    )


@upstream.unbacked_bounds
def test_the_opt_of_an_unbacked_dimension_may_be_above_its_max(run_inside):
    assert run_inside(inside.jit, 24, None, {"min": 20, "max": 32}) == [(20, 36, 32)]


INPUT = {
    (0, 4, 32): (1, 4, 32),
    (1, 4, 32): (1, 4, 32),
    (2, 4, 32): (1, 4, 32),
    (3, 4, 32): (3, 4, 32),
    (1, 32, 32): (1, 32, 32),
    (4, 4, 32): (4, 4, 32),
}


@pytest.mark.parametrize(("typed", "profile"), INPUT.items(), ids=str)
def test_profile_of_an_input_range(run_inside, typed, profile):
    assert run_inside(inside.from_input, *typed) == [profile]


def test_an_opt_of_1_is_refused_unless_sizes_are_oblivious(run_inside):
    with pytest.raises(inside.Upstream, match=r"(?s)UserError.*specialized it to be a constant"):
        run_inside(inside.from_input, 1, 1, 32)
    assert run_inside(inside.from_input, 1, 1, 32, True) == [(1, 1, 32)]


EXPORT = {
    "1 to 32": (((1, 32), 4), (1, 4, 32)),
    "2 to 32": (((2, 32), 4), (1, 4, 32)),
    "3 to 32": (((3, 32), 4), (3, 4, 32)),
    "opt is the size of the example": (((1, 32), 16), (1, 16, 32)),
    "opt_shape for dynamo.compile is ignored": (((1, 32), 4, (1, 16, 32)), (1, 4, 32)),
    "a wider Input for dynamo.compile is ignored": (((1, 32), 4, (1, 4, 64)), (1, 4, 32)),
    "Dim.AUTO": (("AUTO", 4), (1, 4, UNBOUNDED)),
    "Dim.DYNAMIC": (("DYNAMIC", 4), (1, 4, UNBOUNDED)),
}


@pytest.mark.parametrize(("asked", "profile"), EXPORT.values(), ids=EXPORT)
def test_profile_of_an_exported_range(run_inside, asked, profile):
    assert run_inside(inside.exported, *asked) == [profile]


def test_a_derived_dimension_loses_its_smallest_size(run_inside):
    profiles, promised = run_inside(inside.exported_twice_the_batch)
    assert profiles == [(4, 8, 32)]
    assert (2, 32) in promised
