import itertools
import math

import numpy as np
import pytest
from advising import ALIKE, AXIS, TUNED, measurement
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tutorial_lib import DynamicDim
from tutorial_lib.advisor.latency_model import PADDING, WEIGHTS, Curves
from tutorial_lib.advisor.policies import EAGER, Policy, Search, partition, predict
from tutorial_lib.advisor.traffic import Traffic

DIMS = {"batch": DynamicDim("batch", 1, 4, 64)}


def search(traffic, formulas=TUNED, percent=None):
    return Search(Traffic.of(traffic), Curves(measurement(formulas), draws=5), DIMS, percent)


def cost(policy, found, percent=None):
    values = predict(policy, found.curves, found.traffic.table, point=True)
    if percent is None:
        return float(WEIGHTS @ values @ found.traffic.shares)
    ordered = sorted(zip(values[0], found.traffic.shares, strict=True))
    reached = itertools.accumulate(share for _, share in ordered)
    return next(ms for (ms, _), share in zip(ordered, reached, strict=True) if share >= percent / 100 - 1e-9)


@given(arrays(float, (6, 6), elements=st.floats(0, 9) | st.just(math.inf)), st.integers(1, 6))
def test_the_dynamic_programme_finds_what_brute_force_finds(costs, groups):
    cuts = [(0, *inner, 6) for inner in itertools.combinations(range(1, 6), groups - 1)]
    best = min(sum(costs[a, b - 1] for a, b in itertools.pairwise(cut)) for cut in cuts)
    total, found = partition(costs, groups)
    assert total == pytest.approx(best)
    if math.isfinite(best):
        assert sum(costs[group] for group in found) == pytest.approx(best)
        assert [found[0][0], found[-1][1]] == [0, 5]
        assert all(right[0] == left[1] + 1 for left, right in itertools.pairwise(found))
    else:
        assert found == []


TRAFFIC = st.dictionaries(st.integers(1, 64), st.integers(1, 50), min_size=1, max_size=7)


@given(TRAFFIC, st.sampled_from([None, 80, 99]))
def test_no_other_boundary_is_better_for_two_buckets(traffic, percent):
    found = search(traffic, percent=percent)
    chosen = next((one for one in found.all(2, pad=False) if one.name == "2 buckets"), None)
    others = [
        Policy("other", ("batch",), (((1, 2, end),), ((end + 1, 64, 64),))) for end in sorted(traffic) if 2 <= end < 64
    ]
    if chosen is None:  # nothing to cut: one size, or a first bucket without an opt that was measured
        assert not others or len(traffic) == 1 or max(list(sorted(traffic))[:-1]) < 2
        return
    best = min((cost(one, found, percent) for one in others[: len(traffic)]), default=math.inf)
    assert cost(chosen, found, percent) <= best + 1e-9


@given(TRAFFIC, st.sampled_from([None, 80, 99]))
def test_no_other_sizes_are_better_to_pad_to(traffic, percent):
    found = search(traffic, percent=percent)
    chosen = [one for one in found.all(2, pad=True) if one.name == "2 fixed sizes"]
    others = [
        Policy("other", ("batch",), (((end, end, end),), ((64, 64, 64),)), padded=True) for end in traffic if end < 64
    ]
    if len(traffic) > 1:
        best = min(cost(one, found, percent) for one in others if one.engines[0][0][1] != max(traffic))
        assert cost(chosen[0], found, percent) <= best + 1e-9


def test_buckets_meet_where_the_curves_do():
    (chosen,) = [one for one in search(range(1, 65)).all(2, pad=False) if one.name == "2 buckets"]
    assert chosen.engines[0][0][:2] == (1, 2)
    assert chosen.engines[1][0][1:] == (64, 64)
    assert 6 <= chosen.engines[0][0][2] <= 10  # interpolated, they meet a little beside 8
    assert chosen.engines[1][0][0] == chosen.engines[0][0][2] + 1


def test_every_engine_has_an_opt_that_was_measured_or_is_fixed():
    for policy in search(range(1, 65)).all(3, pad=True):
        for ((low, opt, high),) in policy.engines:
            assert low <= opt <= high
            assert opt in (2, 64) or low == high or opt == 32  # 32: baseline (b), the median
    assert not [
        p for p in search([1, 2, 3], {None: TUNED[None], (64,): TUNED[64,]}).all(3, False) if "buckets" in p.name
    ]


@pytest.mark.parametrize("percent", [None, 99])
def test_all_sizes_of_the_range_are_served_whatever_came(percent):
    for policy in search({3: 5, 9: 2, 10: 1}, percent=percent).all(3, pad=True):
        engines, sizes = policy.route(np.arange(1, 65)[:, None])
        assert ((engines != EAGER) | policy.eager).all()
        assert (sizes[:, 0] >= np.arange(1, 65)).all()
        assert policy.padded or (sizes[:, 0] == np.arange(1, 65)).all()
        assert (engines == EAGER).all() or policy.engines


def test_no_policy_is_there_twice_and_the_baselines_are_first():
    found = search({2: 3, 64: 1}).all(3, pad=True)
    assert [policy.name for policy in found[:2]] == ["padded to max", "one engine, opt 2"]
    assert len({(policy.engines, policy.eager) for policy in found}) == len(found)


def test_a_request_goes_to_its_engine():
    policy = Policy("p", ("batch",), (((4, 4, 4),), ((8, 8, 8),)), eager=True, padded=True)
    engines, sizes = policy.route(np.array([[1], [4], [5], [8], [9]]))
    assert engines.tolist() == [0, 0, 1, 1, EAGER]
    assert sizes[:, 0].tolist() == [4, 4, 8, 8, 9]
    boxes = Policy("p", ("batch", "length"), (((1, 2, 4), (1, 8, 16)), ((1, 2, 4), (1, 8, 64))))
    assert boxes.route(np.array([[4, 16], [1, 17]]))[0].tolist() == [0, 1]
    assert str(boxes) == "p (batch x length 1/2/4 x 1/8/16, then 1/2/4 x 1/8/64)"


def test_padding_costs_the_larger_size_and_the_padding():
    curves = Curves(measurement(TUNED | {PADDING: lambda size: 0.01 * size}), draws=3)
    padded = Policy("p", ("batch",), (((64, 64, 64),),), padded=True)
    found = predict(padded, curves, np.array([[1], [64]]), point=True)[0]
    assert found == pytest.approx([0.5 + 64 * 0.05 + 0.64, 0.5 + 64 * 0.05])


def test_eager_beyond_a_size_is_offered_where_requests_are_beyond_it():
    names = {policy.name for policy in search({1: 90, 2: 8, 60: 2}).all(2, pad=False)}
    assert "eager beyond batch 1" not in names
    assert "eager beyond batch 60" in names
    assert not any("beyond" in policy.name for policy in search([64] * 5).all(2, pad=False))


def test_two_dimensions_are_cut_along_the_better_one():
    dims = {"batch": DynamicDim("batch", 1, 4, 16), "length": DynamicDim("length", 8, 16, 64)}
    axes = ((1, 4, 16), (8, 64))
    formulas = {
        (1, 8): lambda batch, length: 1 + 0.1 * length,
        (1, 64): lambda batch, length: 4 + 0.05 * length,
        None: lambda batch, length: 2 + 0.2 * length,
    }
    curves = Curves(measurement(formulas, axes=axes, dims=("batch", "length")), draws=3)
    traffic = Traffic.of([(1, 8), (2, 8), (16, 8), (1, 64), (16, 64)], ("batch", "length"))
    found = {policy.name: policy for policy in Search(traffic, curves, dims, None).all(2, pad=True)}
    assert found["2 buckets of length"].engines == (((1, 1, 16), (8, 8, 60)), ((1, 1, 16), (61, 64, 64)))
    assert found["2 fixed sizes of length"].engines == (((1, 2, 16), (8, 8, 8)), ((1, 2, 16), (64, 64, 64)))
    assert found["padded to max"].engines == (((16, 16, 16), (64, 64, 64)),)


def test_the_simplest_has_fewest_engines_then_no_padding_then_opt_at_the_median():
    found = sorted(search(range(1, 65), ALIKE).all(3, pad=True), key=lambda policy: policy.simplicity((32,)))
    assert [policy.name for policy in found[:3]] == ["eager", "one engine, opt 32", "one engine, opt 64"]
    assert len(found[-1].engines) == 3
    assert AXIS[-1] == DIMS["batch"].max
