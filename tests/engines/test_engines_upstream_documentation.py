"""What Torch-TensorRT's releases 2.11 and 2.13 do otherwise than their documentation says."""

import inside
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("heads", "opts", "same"), [((12, 8), (4, 4), True), ((12, 12), (4, 16), False)])
def test_the_engine_cache_takes_two_models_for_one_and_tells_two_opts_apart(run_inside, heads, opts, same):
    first, second = run_inside(inside.cache_keys, heads, opts)
    assert (first == second) == same  # heads are an argument of reshape, and arguments are not in the key
