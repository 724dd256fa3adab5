"""What upstream's programs do with an input that they were not compiled for, as far as no engine is needed.

The words of a refusal by a profile are the stand-in's; whose turn it is to refuse is upstream's.
"""

import inside
import pytest
from upstream import SIZES_ARE_INPUTS, UNBOUNDED

pytestmark = pytest.mark.slow

AHEAD = ("input", "export")


def test_jit_recompiles_above_max_without_a_word(run_inside):
    assert run_inside(inside.jit, 4, {"min": 2, "max": 32}, None, (33,)) == [(1, 4, 32), (1, 33, UNBOUNDED)]


def test_fail_on_recompile_says_which_range_was_left(run_inside):
    words = run_inside(inside.marked_to_refuse, 33, "fail_on_recompile")
    assert "Detected recompile when torch.compile stance is 'fail_on_recompile'" in words
    assert "0/0: 2 <= x.size()[0] <= 32" in words


def test_eager_on_recompile_builds_no_further_engine(run_inside):
    assert run_inside(inside.marked_to_refuse, 33, "eager_on_recompile") == [(1, 4, 32)]


def test_after_eight_engines_jit_runs_in_pytorch_without_a_word(run_inside):
    assert run_inside(inside.static_sizes_up_to, 11) == (8, True)


JIT = {
    "tokens": (2 if SIZES_ARE_INPUTS else 3, None),  # in 2.11, two dynamic dimensions cut the model in two
    "dtype": (2, "must have the same dtype"),  # the model's own error, which eager raises as well
    "empty": (1, "cannot reshape tensor of 0 elements"),
    "arity": (1, "TypeError: "),
}


@pytest.mark.parametrize("change", JIT)
def test_jit_recompiles_for_another_fixed_size_and_dtype_and_refuses_what_the_model_does(run_inside, change):
    engines, error = run_inside(inside.jit_called_with, change)
    count, words = JIT[change]
    assert engines == count
    assert (error is None) if words is None else (words in error)


AT_THE_PROFILE = {
    "above": "has size 33 in dim 0, and the optimization profile holds 1 to 32",
    "empty": "has size 0 in dim 0, and the optimization profile holds 1 to 32",
    "tokens": "has size 9 in dim 1, and the optimization profile holds 7",
    "rank": "has 2 dimensions, and the engine takes 3",
    "dtype": "is torch.float16, and the engine takes torch.float32",
}


@pytest.mark.parametrize("change", AT_THE_PROFILE)
@pytest.mark.parametrize("path", AHEAD)
def test_ahead_of_time_nothing_refuses_before_the_engine(run_inside, path, change):
    answer = run_inside(inside.ahead_of_time_called_with, path, change)
    assert answer == f"ProfileRefusal: input 0 {AT_THE_PROFILE[change]}"


@pytest.mark.parametrize("path", AHEAD)
def test_ahead_of_time_batch_1_and_max_are_served_and_a_wrong_number_of_inputs_is_a_type_error(run_inside, path):
    assert run_inside(inside.ahead_of_time_called_with, path, "one")[0] == 1
    assert run_inside(inside.ahead_of_time_called_with, path, "max")[0] == 32
    assert run_inside(inside.ahead_of_time_called_with, path, "arity").startswith("TypeError: forward() takes 2")


def test_the_exported_program_had_a_guard_that_compiling_drops_and_takes_a_dtype_that_the_engine_refuses(run_inside):
    words = run_inside(inside.ahead_of_time_called_with, "program", "above")
    assert words == "AssertionError: Guard failed: x.size()[0] <= 32"
    assert run_inside(inside.ahead_of_time_called_with, "program", "dtype")[0] == 4
