import numpy as np
import pytest
from advising import AXIS, TUNED, measurement
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tutorial_lib.advisor.latency_model import LEVELS, WEIGHTS, LatencyModel, mean, monotone, percentile, quiet


def column(*sizes):
    return np.array(sizes)[:, None]


def test_a_size_that_was_measured_comes_out_as_measured():
    model = LatencyModel(measurement(TUNED))
    for engine, formula in TUNED.items():
        result = model.at(engine, column(*AXIS))
        assert result.shape == (model.draws + 1, len(LEVELS), len(AXIS))
        assert result == pytest.approx(np.broadcast_to([formula(size) for size in AXIS], result.shape))


def test_between_two_sizes_latency_is_between_theirs():
    model = LatencyModel(measurement({(2,): lambda size: size**0.5, None: lambda size: size}))
    sizes = np.arange(1, 65)
    assert model.at((2,), sizes[:, None], point=True)[0] == pytest.approx(sizes**0.5)  # linear in the logarithms
    assert model.at((2,), column(100), point=True)[0, 0] == pytest.approx(8)  # never beyond what was measured


def test_two_dimensions_are_interpolated_in_both():
    axes = ((1, 4, 16), (8, 64))
    model = LatencyModel(
        measurement({(4, 8): lambda batch, length: batch * length}, axes=axes, dims=("batch", "length"))
    )
    sizes = np.array([[1, 8], [2, 8], [3, 20], [16, 64]])
    assert model.at((4, 8), sizes, point=True)[0] == pytest.approx(sizes.prod(axis=1))


@given(arrays(float, (3, 5), elements=st.floats(-3, 3)))
def test_monotone_never_falls_and_leaves_alone_what_does_not(values):
    result = monotone(values, 2)
    assert (np.diff(result, axis=0) >= 0).all()
    assert (np.diff(result, axis=1) >= 0).all()
    assert monotone(result, 2) == pytest.approx(result)
    assert (monotone(values, 1)[:, -1] >= monotone(values, 1)[:, 0]).all()


def test_an_opt_that_was_not_measured_is_somewhere_between_its_neighbours():
    model = LatencyModel(measurement(TUNED))
    assert model.around((8,)) == ((2,), (64,))
    assert model.around((64,)) == ((64,), (64,))
    assert model.around((1,)) == ((2,), (2,))
    small, large = (model.at(opt, column(1)) for opt in ((2,), (64,)))
    between = model.at((8,), column(1))
    assert (between >= small - 1e-9).all()
    assert (between <= large + 1e-9).all()
    assert between[1:, 0, 0].std() > 0.05  # each draw takes another place
    assert model.at((8,), column(1), point=True) == pytest.approx(between[0])


def test_more_rounds_make_the_draws_agree_more():
    spreads = [
        LatencyModel(measurement(TUNED, noise=0.2, rounds=rounds)).at((2,), column(16))[1:, 4, 0].std()
        for rounds in (8, 200)
    ]
    assert spreads[1] < spreads[0] / 2


def test_noise_that_a_round_has_in_common_cancels_in_a_comparison():
    model = LatencyModel(measurement({(2,): lambda size: 1.0, (64,): lambda size: 1.2}, noise=0.3, rounds=30))
    one, other = (model.at(opt, column(16))[1:, 4, 0] for opt in ((2,), (64,)))
    assert (other / one).std() < 0.7 * one.std()


def test_rounds_of_a_busy_machine_are_left_out():
    spent = np.array([1.0, 1.1, 9.0, 0.9, 1.0, 1.2, 30.0, 1.0])
    assert quiet(spent).tolist() == [True, True, False, True, True, True, False, True]
    assert quiet(np.array([1.0, 1.0, 9.0, 9.0])).all()  # too few would be left
    made = measurement(TUNED)
    for cells in made.samples.values():
        for cell in cells:
            cell[3] *= 50
    assert made.quiet.tolist() == [True] * 3 + [False] + [True] * 16
    assert LatencyModel(made).at((2,), column(1)).max() == pytest.approx(0.2)


@given(
    arrays(float, (1, len(LEVELS), 3), elements=st.floats(0.01, 9)),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.sampled_from([50, 90, 99]),
)
def test_mean_and_percentile_are_those_of_the_weighted_calls(values, counts, percent):
    shares = np.array([counts]) / sum(counts)
    copies = np.round(WEIGHTS * 200).astype(int)
    calls = np.sort(np.repeat(values[0].T, copies, axis=1).repeat(counts, axis=0).ravel())
    assert mean(values, shares)[0] == pytest.approx(calls.mean())
    assert percentile(values, shares, percent)[0] == calls[int(np.ceil(percent / 100 * len(calls) - 1e-9)) - 1]
