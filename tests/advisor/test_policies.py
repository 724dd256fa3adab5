import itertools
import math

import numpy as np
import pytest
from advising import ALIKE, AXIS, TUNED, measurement
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tutorial_lib import DynamicDim
from tutorial_lib.advisor.latency_model import PADDING, WEIGHTS, LatencyModel
from tutorial_lib.advisor.policies import EAGER, Policy, Search, partition, predict
from tutorial_lib.advisor.traffic import Traffic

DIMS = {"batch": DynamicDim("batch", 1, 4, 64)}


def searching(traffic, formulas=TUNED, percent=None):
    return Search(Traffic.of(traffic), LatencyModel(measurement(formulas), draws=5), DIMS, percent)


def cost(policy, search, percent=None):
    latencies = predict(policy, search.model, search.traffic.table, point=True)
    if percent is None:
        return float(WEIGHTS @ latencies @ search.traffic.shares)
    ordered = sorted(zip(latencies[0], search.traffic.shares, strict=True))
    cumulative = itertools.accumulate(share for _, share in ordered)
    return next(ms for (ms, _), share in zip(ordered, cumulative, strict=True) if share >= percent / 100 - 1e-9)


@given(arrays(float, (6, 6), elements=st.floats(0, 9) | st.just(math.inf)), st.integers(1, 6))
def test_the_dynamic_programme_finds_what_brute_force_finds(costs, groups):
    cuts = [(0, *inner, 6) for inner in itertools.combinations(range(1, 6), groups - 1)]
    best = min(sum(costs[a, b - 1] for a, b in itertools.pairwise(cut)) for cut in cuts)
    total, result = partition(costs, groups)
    assert total == pytest.approx(best)
    if math.isfinite(best):
        assert sum(costs[group] for group in result) == pytest.approx(best)
        assert [result[0][0], result[-1][1]] == [0, 5]
        assert all(right[0] == left[1] + 1 for left, right in itertools.pairwise(result))
    else:
        assert result == []


TRAFFIC = st.dictionaries(st.integers(1, 64), st.integers(1, 50), min_size=1, max_size=7)


@settings(max_examples=40)
@given(TRAFFIC, st.sampled_from([None, 80, 99]))
def test_no_other_boundary_is_better_for_two_buckets(traffic, percent):
    search = searching(traffic, percent=percent)
    chosen = next((policy for policy in search.candidates(2, pad=False) if policy.name == "2 buckets"), None)
    others = [
        Policy("other", ("batch",), (((1, 2, end),), ((end + 1, 64, 64),))) for end in sorted(traffic) if 2 <= end < 64
    ]
    if chosen is None:  # nothing to cut: one size, or a first bucket without an opt that was measured
        assert not others or len(traffic) == 1 or max(list(sorted(traffic))[:-1]) < 2
        return
    best = min((cost(other, search, percent) for other in others[: len(traffic)]), default=math.inf)
    assert cost(chosen, search, percent) <= best + 1e-9


@settings(max_examples=40)
@given(TRAFFIC, st.sampled_from([None, 80, 99]))
def test_no_other_sizes_are_better_to_pad_to(traffic, percent):
    search = searching(traffic, percent=percent)
    chosen = [policy for policy in search.candidates(2, pad=True) if policy.name == "2 fixed sizes"]
    others = [
        Policy("other", ("batch",), (((end, end, end),), ((64, 64, 64),)), padded=True) for end in traffic if end < 64
    ]
    if len(traffic) > 1:
        best = min(cost(other, search, percent) for other in others if other.engines[0][0][1] != max(traffic))
        assert cost(chosen[0], search, percent) <= best + 1e-9


def test_buckets_meet_where_the_curves_do():
    (chosen,) = [policy for policy in searching(range(1, 65)).candidates(2, pad=False) if policy.name == "2 buckets"]
    assert chosen.engines[0][0][:2] == (1, 2)
    assert chosen.engines[1][0][1:] == (64, 64)
    assert 6 <= chosen.engines[0][0][2] <= 10  # interpolated, they meet a little beside 8
    assert chosen.engines[1][0][0] == chosen.engines[0][0][2] + 1


def test_every_engine_has_an_opt_that_was_measured_or_is_fixed():
    for policy in searching(range(1, 65)).candidates(3, pad=True):
        for ((low, opt, high),) in policy.engines:
            assert low <= opt <= high
            assert opt in (2, 64) or low == high or opt == 32  # 32: baseline (b), the median
    assert not [
        p
        for p in searching([1, 2, 3], {None: TUNED[None], (64,): TUNED[64,]}).candidates(3, False)
        if "buckets" in p.name
    ]


@pytest.mark.parametrize("percent", [None, 99])
def test_all_sizes_of_the_range_are_served_whatever_came(percent):
    for policy in searching({3: 5, 9: 2, 10: 1}, percent=percent).candidates(3, pad=True):
        engines, sizes = policy.route(np.arange(1, 65)[:, None])
        assert ((engines != EAGER) | policy.eager).all()
        assert (sizes[:, 0] >= np.arange(1, 65)).all()
        assert policy.padded or (sizes[:, 0] == np.arange(1, 65)).all()
        assert (engines == EAGER).all() or policy.engines


def test_no_policy_is_there_twice_and_the_baselines_are_first():
    policies = searching({2: 3, 64: 1}).candidates(3, pad=True)
    assert [policy.name for policy in policies[:2]] == ["padded to max", "one engine, opt 2"]
    assert len({(policy.engines, policy.eager) for policy in policies}) == len(policies)


def test_a_request_goes_to_its_engine():
    policy = Policy("p", ("batch",), (((4, 4, 4),), ((8, 8, 8),)), eager=True, padded=True)
    engines, sizes = policy.route(np.array([[1], [4], [5], [8], [9]]))
    assert engines.tolist() == [0, 0, 1, 1, EAGER]
    assert sizes[:, 0].tolist() == [4, 4, 8, 8, 9]
    boxes = Policy("p", ("batch", "length"), (((1, 2, 4), (1, 8, 16)), ((1, 2, 4), (1, 8, 64))))
    assert boxes.route(np.array([[4, 16], [1, 17]]))[0].tolist() == [0, 1]
    assert str(boxes) == "p (batch x length 1/2/4 x 1/8/16, then 1/2/4 x 1/8/64)"


def test_padding_costs_the_larger_size_and_the_padding():
    model = LatencyModel(measurement(TUNED | {PADDING: lambda size: 0.01 * size}), draws=3)
    padded = Policy("p", ("batch",), (((64, 64, 64),),), padded=True)
    result = predict(padded, model, np.array([[1], [64]]), point=True)[0]
    assert result == pytest.approx([0.5 + 64 * 0.05 + 0.64, 0.5 + 64 * 0.05])


def test_eager_beyond_a_size_is_offered_where_requests_are_beyond_it():
    names = {policy.name for policy in searching({1: 90, 2: 8, 60: 2}).candidates(2, pad=False)}
    assert "eager beyond batch 1" not in names
    assert "eager beyond batch 60" in names
    assert not any("beyond" in policy.name for policy in searching([64] * 5).candidates(2, pad=False))


def test_two_dimensions_are_cut_along_the_better_one():
    dims = {"batch": DynamicDim("batch", 1, 4, 16), "length": DynamicDim("length", 8, 16, 64)}
    axes = ((1, 4, 16), (8, 64))
    formulas = {
        (1, 8): lambda batch, length: 1 + 0.1 * length,
        (1, 64): lambda batch, length: 4 + 0.05 * length,
        None: lambda batch, length: 2 + 0.2 * length,
    }
    model = LatencyModel(measurement(formulas, axes=axes, dims=("batch", "length")), draws=3)
    traffic = Traffic.of([(1, 8), (2, 8), (16, 8), (1, 64), (16, 64)], ("batch", "length"))
    result = {policy.name: policy for policy in Search(traffic, model, dims, None).candidates(2, pad=True)}
    assert result["2 buckets of length"].engines == (((1, 1, 16), (8, 8, 60)), ((1, 1, 16), (61, 64, 64)))
    assert result["2 fixed sizes of length"].engines == (((1, 2, 16), (8, 8, 8)), ((1, 2, 16), (64, 64, 64)))
    assert result["padded to max"].engines == (((16, 16, 16), (64, 64, 64)),)


def test_the_simplest_has_fewest_engines_then_no_padding_then_opt_at_the_median():
    result = sorted(searching(range(1, 65), ALIKE).candidates(3, pad=True), key=lambda policy: policy.complexity((32,)))
    assert [policy.name for policy in result[:3]] == ["eager", "one engine, opt 32", "one engine, opt 64"]
    assert len(result[-1].engines) == 3
    assert AXIS[-1] == DIMS["batch"].max
