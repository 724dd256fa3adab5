"""Which of upstream's routes serve batch 1 and an opt of 1 with the engines of the first build."""

import inside
import inside_package as ours
import pytest
import upstream

pytestmark = pytest.mark.slow

ALL = [1, 2, 8]
MODELS = ("seed", "vit")


@pytest.mark.parametrize("name", [*MODELS, "masked"])
@pytest.mark.parametrize(("opt", "profile"), [(4, (1, 4, 8)), (1, (1, 1, 8))])
@pytest.mark.parametrize("how", ["jit", "export"])
def test_size_oblivious_tracing_serves_all_sizes_with_one_engine(run_inside, how, opt, profile, name):
    assert run_inside(ours.served, how, name, "oblivious", opt) == ([profile], ALL)


@pytest.mark.parametrize("how", ["jit", "export"])
def test_behind_a_graph_break_too(run_inside, how):
    assert run_inside(ours.served, how, "hybrid", "oblivious", 4) == ([(1, 4, 8), (21, 84, 168)], ALL)


@upstream.unbacked_bounds
@pytest.mark.parametrize("name", MODELS)
def test_unbacked_serves_all_sizes_with_one_engine_but_chooses_opt_itself(run_inside, name):
    assert run_inside(ours.served, "jit", name, "unbacked", 4) == ([(1, 5, 8)], ALL)


@pytest.mark.parametrize("name", MODELS)
def test_jit_without_a_route_builds_a_second_engine_for_batch_1(run_inside, name):
    assert run_inside(ours.served, "jit", name, "plain", 4) == ([(1, 4, 8)], [2, 8])


@pytest.mark.parametrize("name", MODELS)
def test_ahead_of_time_no_route_is_needed_unless_opt_is_1(run_inside, name):
    assert run_inside(ours.served, "export", name, "plain", 4) == ([(1, 4, 8)], ALL)
    with pytest.raises(inside.Upstream, match=r"(?s)UserError.*specialized it to be a constant"):
        run_inside(ours.served, "export", name, "plain", 1)


@pytest.mark.parametrize("name", MODELS)
def test_tracing_at_2_serves_all_sizes_with_opt_2(run_inside, name):
    assert run_inside(ours.served, "export", name, "trace at 2", 1) == ([(1, 2, 8)], ALL)


def test_tracing_at_2_loses_batch_1_behind_a_graph_break(run_inside):
    assert run_inside(ours.served, "export", "hybrid", "trace at 2", 1) == ([(1, 2, 8), (42, 42, 168)], [2, 8])
