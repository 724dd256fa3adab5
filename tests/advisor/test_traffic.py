import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutorial_lib import DynamicDim, ShapeError
from tutorial_lib.advisor.traffic import DISTRIBUTIONS, Traffic, as_traffic

LISTS = st.lists(st.integers(1, 40), min_size=2, max_size=60)


def test_a_list_an_array_a_histogram_and_named_sizes_are_the_same_traffic():
    expected = Traffic(("batch",), ((1,), (8,)), (3, 1))
    for given_as in ([8, 1, 1, 1], np.array([1, 8, 1, 1]), np.array([1.0, 1, 1, 8]), {8: 1, 1: 3}):
        assert Traffic.of(given_as) == expected
    assert Traffic.of([(1, 5), (2, 7), (1, 5)], ("batch", "length")) == Traffic.of(
        {(2, 7): 1, (1, 5): 2}, ("batch", "length")
    )


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        ([], "the traffic is empty"),
        ({4: 0}, "the traffic is empty"),
        ([1, 2.5], "request 2: batch is 2.5"),
        ([math.nan], "request 1: batch is nan"),
        (["4"], "request 1: batch is '4'"),
        ([True], "request 1: batch is True"),
        ({1: 2, 3: -1}, "size 3 came -1 times"),
        ({1: math.nan}, "size 1 came nan times"),
        ("1,2", "'1,2' is not traffic"),
        (5, "5 is not traffic"),
        ([(1, 2)], r"request 1 has 2 sizes; give 1 \(batch\)."),
    ],
)
def test_what_is_not_traffic_is_refused(requests, said):
    with pytest.raises(ShapeError, match=said):
        Traffic.of(requests)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch\n1\n8\n1\n", {1: 2, 8: 1}),
        ("1\n8\n1\n", {1: 2, 8: 1}),
        ("\ufeffbatch,count\r\n1,2\r\n\r\n8,1\r\n", {1: 2, 8: 1}),
        ("batch,count\n1,2\n1,3\n8,0\n", {1: 5}),
    ],
)
def test_csv_with_and_without_header_and_count(text, expected, tmp_path):
    (tmp_path / "traffic.csv").write_text(text)
    assert Traffic.csv(tmp_path / "traffic.csv") == Traffic.of(expected)


def test_csv_of_two_dimensions_and_of_a_chosen_column(tmp_path):
    (tmp_path / "two.csv").write_text("batch, length,count\n1, 5,2\n2,7,1\n")
    assert Traffic.csv(tmp_path / "two.csv") == Traffic.of({(1, 5): 2, (2, 7): 1}, ("batch", "length"))
    assert Traffic.csv(tmp_path / "two.csv", "length") == Traffic.of({5: 2, 7: 1}, "length")
    (tmp_path / "one.csv").write_text("3\n4\n")
    assert Traffic.csv(tmp_path / "one.csv", "rows").dims == ("rows",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("batch\n", "the traffic is empty"),
        ("batch\n1\nabc\n", "line 3: batch is 'abc'"),
        ("batch\n1\n2.5\n", r"line 3: batch is 2\.5"),
        ("batch\n1\n2,3\n", "line 3 has 2 columns; batch makes 1"),
        ("batch,count\n1,x\n", "line 2 came 'x' times"),
        ("a,b,c\n1,2,3\n", "traffic has a, b, c; give one or two names"),
        ("batch,count\n1,1e30\n", r"1e\+30 requests"),
        ("batch\n\udcff\n", "cannot be read"),  # no UTF-8
    ],
)
def test_a_csv_line_that_cannot_be_read_is_named(text, said, tmp_path):
    (tmp_path / "traffic.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(ShapeError, match=said):
        Traffic.csv(tmp_path / "traffic.csv")


def test_a_csv_that_is_not_there_or_has_other_columns(tmp_path):
    with pytest.raises(ShapeError, match=r"none\.csv cannot be read \(No such file"):
        Traffic.csv(tmp_path / "none.csv")
    (tmp_path / "traffic.csv").write_text("batch\n1\n")
    with pytest.raises(ShapeError, match="no column 'rows'; it has batch"):
        Traffic.csv(tmp_path / "traffic.csv", "rows")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_named_traffic_is_the_same_every_time_and_within_its_max(name):
    traffic = Traffic.named(name, 64, requests=500)
    assert traffic == Traffic.named(name, 64, requests=500)
    assert traffic.requests == 500
    assert 1 <= traffic.sizes[0][0] <= traffic.sizes[-1][0] <= 64
    assert Traffic.named(name, 1).sizes == ((1,),)


def test_named_traffic_has_the_shape_that_its_name_says():
    interactive, batch, bimodal = (Traffic.named(name, 1024) for name in ("interactive", "batch", "bimodal"))
    assert interactive.quantile(0.5) <= 2 < 100 < interactive.quantile(0.99)
    assert batch.quantile(0.5) == 1024
    assert bimodal.quantile(0.8) < 20 < 200 < bimodal.quantile(0.95)
    with pytest.raises(ShapeError, match="'bursty'; use interactive, batch, bimodal"):
        Traffic.named("bursty", 8)


@given(LISTS, st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_split_loses_and_invents_no_request(sizes, fraction, seed):
    traffic = Traffic.of(sizes)
    count = round(fraction * len(sizes))
    if not 0 < count < len(sizes):
        with pytest.raises(ShapeError, match="leaves one part empty"):
            traffic.split(fraction, seed)
        return
    fitted, held_out = traffic.split(fraction, seed)
    assert fitted.requests == count
    assert Traffic.of([*fitted.sample(10**6).tolist(), *held_out.sample(10**6).tolist()]) == traffic


@given(LISTS, st.floats(0, 1))
def test_a_quantile_is_the_smallest_size_that_reaches_the_share(sizes, share):
    reaching = [size for size in sorted(set(sizes)) if sum(n <= size for n in sizes) / len(sizes) >= share - 1e-12]
    assert Traffic.of(sizes).quantile(share) == reaching[0]


@given(LISTS, st.integers(1, 8))
def test_thinning_keeps_the_requests_and_moves_sizes_only_to_sizes_that_came(sizes, most):
    traffic = Traffic.of(sizes)
    thin = traffic.thinned(most)
    assert thin.requests == traffic.requests
    assert len(thin.sizes) <= most or len(traffic.sizes) <= most
    assert set(thin.sizes) <= set(traffic.sizes)


def test_sizes_that_the_model_does_not_take_are_refused():
    dims = {"batch": DynamicDim("batch", 2, 4, 32), "height": DynamicDim("height", 32, 32, 320, step=16)}
    Traffic.of([2, 32]).check(dims)
    with pytest.raises(ShapeError, match="batch 40, and the range is 2 to 32"):
        Traffic.of([2, 33, 40]).check(dims)
    with pytest.raises(ShapeError, match="batch 1, and"):
        Traffic.of([1, 4]).check(dims)
    with pytest.raises(ShapeError, match="'rows', and the model has batch, height"):
        Traffic.of([2], "rows").check(dims)
    with pytest.raises(ShapeError, match="height 40, which is not a multiple of 16"):
        Traffic.of([32, 40], "height").check(dims)


def test_bare_sizes_are_those_of_the_dimensions_that_vary():
    dims = {"fixed": DynamicDim("fixed", 2, 2, 2), "rows": DynamicDim("rows", 1, 4, 32)}
    assert as_traffic([1, 4], dims) == Traffic.of([1, 4], "rows")
    assert as_traffic({4: 3}, dims) == Traffic.of({4: 3}, "rows")
    two = {**dims, "length": DynamicDim("length", 1, 4, 32)}
    assert as_traffic([(1, 4)], two) == Traffic.of([(1, 4)], ("rows", "length"))
    with pytest.raises(ShapeError, match="is not traffic"):
        as_traffic("x", dims)


def test_traffic_is_told_in_one_line():
    assert str(Traffic.of([(1, 4)], ("a", "b"))).endswith("; b 4 to 4: half up to 4, 99 % up to 4")


def test_a_quantile_of_another_dimension_and_of_no_share_is_refused():
    with pytest.raises(ShapeError, match="no dimension 'c'; it has batch"):
        Traffic.of([1]).quantile(0.5, "c")
    with pytest.raises(ShapeError, match=r"1\.5 is not a share"):
        Traffic.of([1]).quantile(1.5)
