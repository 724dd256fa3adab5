"""Sentences and samples in Torch-TensorRT's documentation that its releases 2.11 and 2.13 contradict."""

import inside
import pytest

pytestmark = pytest.mark.slow


def test_dynamic_shapes_page_promises_no_recompilation_in_1_to_8_but_1_recompiles(run_inside):
    assert run_inside(inside.jit, 2, {"min": 1, "max": 8}, None, (8, 1)) == [(1, 2, 8), 1]


def test_contributors_and_saving_pages_imply_opt_8_but_it_is_the_exported_2(run_inside):
    assert run_inside(inside.exported, (1, 16), 2, (1, 8, 16)) == [(1, 2, 16)]


@pytest.mark.parametrize(("options", "stored"), [({}, 0), ({"immutable_weights": False}, 1)])
def test_performance_page_caches_engines_with_immutable_weights_but_none_is_cached(run_inside, options, stored):
    count, messages = run_inside(inside.cached_engines, options)
    assert count == stored
    assert any("weights are immutable, so the engine will not be cached" in m for m in messages) == (stored == 0)


@pytest.mark.parametrize(("heads", "opts", "same"), [((12, 8), (4, 4), True), ((12, 12), (4, 16), False)])
def test_the_engine_cache_takes_two_models_for_one_and_tells_two_opts_apart(run_inside, heads, opts, same):
    first, second = run_inside(inside.cache_keys, heads, opts)
    assert (first == second) == same  # heads are an argument of reshape, and arguments are not in the key
