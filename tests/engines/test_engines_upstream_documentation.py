"""Sentences and samples in Torch-TensorRT's documentation that its releases 2.11 and 2.13 contradict."""

import inside
import pytest
import upstream

pytestmark = pytest.mark.slow


def test_dynamic_shapes_page_marks_a_batch_of_1_which_is_refused(run_inside):
    with pytest.raises(inside.Upstream, match=r"(?s)ConstraintViolationError.*specialized it to be a constant \(1\)"):
        run_inside(inside.jit, 1, {"min": 1, "max": 8})


def test_dynamic_shapes_page_promises_no_recompilation_in_1_to_8_but_1_recompiles(run_inside):
    assert run_inside(inside.jit, 2, {"min": 1, "max": 8}, None, (8, 1)) == [(1, 2, 8), 1]


def test_contributors_and_saving_pages_imply_opt_8_but_it_is_the_exported_2(run_inside):
    assert run_inside(inside.exported, (1, 16), 2, (1, 8, 16)) == [(1, 2, 16)]


def test_performance_page_caches_engines_with_immutable_weights_but_none_is_cached(run_inside):
    stored, messages = run_inside(inside.cached_engines, {})
    assert stored == 0
    assert any("weights are immutable, so the engine will not be cached" in m for m in messages)


def test_with_mutable_weights_the_engine_is_cached(run_inside):
    assert run_inside(inside.cached_engines, {"immutable_weights": False}) == (1, [])


def test_performance_page_reads_a_size_of_streamable_weights_that_does_not_exist(run_inside):
    assert run_inside(inside.weight_streaming_attributes) == ["total_device_budget"]


def test_troubleshooting_page_recommends_debug_which_is_deprecated(run_inside):
    found = run_inside(inside.warnings_of_compiling_with, {"debug": True})
    assert any(kind == "DeprecationWarning" and text.startswith("`debug` is deprecated") for kind, text in found)


@upstream.since_2_13
def test_multiple_profiles_page_passes_enabled_precisions_which_is_no_setting_any_more(run_inside):
    assert "enabled_precisions" not in run_inside(inside.settings_fields)
    assert run_inside(inside.upstream_engines, "ahead of time", {"min_block_size": 1, "enabled_precisions": 5}) == (
        1,
        [],
    )


def test_the_engine_cache_takes_two_models_for_one(run_inside):
    twelve, eight = run_inside(inside.cache_keys, (12, 8), (4, 4))
    assert twelve == eight  # heads are an argument of reshape, and arguments are not in the key


def test_the_engine_cache_tells_two_opts_apart(run_inside):
    four, sixteen = run_inside(inside.cache_keys, (12, 12), (4, 16))
    assert four != sixteen
