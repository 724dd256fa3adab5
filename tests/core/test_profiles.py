"""Several profiles: what is accepted, what is refused and how, and which of them serves a call."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutorial_lib import Case, DynamicDim, ShapeError, TensorSpec
from tutorial_lib.core.profiles import envelope, holding, read_profiles, read_text, show
from tutorial_lib.core.shapes import sizes_of

BATCH, NEW = DynamicDim("batch", 1, 2, 64), DynamicDim("new", 1, 8, 64, limit=512)
DIMS = {"batch": BATCH, "new": NEW}
PREFILL = {"batch": (1, 1, 4), "new": (2, 64, 512)}
DECODE = {"batch": (1, 8, 16), "new": (1, 1, 1)}

triple = st.lists(st.integers(1, 12), min_size=3, max_size=3).map(sorted).map(tuple)
two_dims = st.lists(st.fixed_dictionaries({"batch": triple, "new": triple}), min_size=1, max_size=4)


def case(*profiles):
    return Case("net", torch.nn.Linear(3, 2), (TensorSpec("x", (BATCH, NEW, 3)),), profiles=profiles)


def message(*profiles, dims=DIMS):
    with pytest.raises(ShapeError) as refusal:
        read_profiles("net", dims, profiles)
    return str(refusal.value)


@given(two_dims)
def test_a_set_of_profiles_is_refused_in_one_sentence_or_serves_every_size_that_it_promises(profiles):
    try:
        read = read_profiles("net", DIMS, profiles)
    except ShapeError as error:
        sentences = str(error).splitlines()
        assert [line[:5] for line in sentences] == ["net: "]
        return
    held = [holding(read, {"batch": batch, "new": new}) for batch, new in itertools.product(range(1, 14), repeat=2)]
    assert set(held) - {None} == set(range(len(profiles)))  # each of them serves some call
    for name, dim in envelope(read).items():
        assert dim.opt == profiles[0][name][1]
        for size in range(dim.min, dim.max + 1):
            assert any(profile[name][0] <= size <= profile[name][2] for profile in profiles)


@given(two_dims, st.integers(1, 13), st.integers(1, 13))
def test_a_call_is_held_by_the_first_profile_whose_ranges_all_hold_it(profiles, batch, new):
    boxes = [tuple(DynamicDim(name, *ends) for name, ends in profile.items()) for profile in profiles]
    sizes = {"batch": batch, "new": new}
    fits = [all(low <= sizes[name] <= high for name, (low, _, high) in profile.items()) for profile in profiles]
    assert holding(boxes, sizes) == (fits.index(True) if any(fits) else None)


@given(two_dims)
def test_the_order_of_the_names_and_the_way_of_writing_make_no_difference(profiles):
    try:
        read = read_profiles("net", DIMS, profiles)
    except ShapeError:
        return
    turned = [dict(reversed(profile.items())) for profile in profiles]
    assert read_profiles("net", DIMS, turned) == read == read_profiles("net", DIMS, read)
    assert len({read, read_profiles("net", DIMS, turned)}) == 1  # a value, which can be a key


@given(two_dims)
def test_profiles_are_read_as_they_are_shown(profiles):
    shown = [show(tuple(DynamicDim(name, *ends) for name, ends in profile.items())) for profile in profiles]
    assert list(read_text("; ".join(shown))) == list(read_text("\n".join(shown))) == profiles


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, f"'{text}' in the profiles is no range") for text in ("batch", "batch 1/2", "1/2/3", "batch 1/2/x")),
        ("batch -1/2/3", "'batch -1/2/3' in the profiles is no range"),
        ("batch 1/2/3, batch 4/5/6", "'batch 4/5/6' in the profiles is there twice"),
    ],
)
def test_what_is_typed_and_is_no_range_is_quoted(text, said):
    with pytest.raises(ShapeError, match=f"^{said}"):
        read_text(text)


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        ([PREFILL, {"batch": (1, 2, 4)}], "profile 1 has no range for new"),
        ([{**PREFILL, "past": (1, 2, 3)}], "profile 0 has a range for 'past'"),
        ([{**PREFILL, "new": (8, 4, 16)}], "profile 0: new: opt is 4, below min 8"),
        ([{**PREFILL, "new": (8, 16)}], "profile 0: new: (8, 16) is not a range"),
        ([{**PREFILL, "new": (1, 4, 513)}], "profile 0: new: max is 513, and the model takes 512 at most"),
        ([{**PREFILL, "new": (0, 4, 8)}], "profile 0: new: min is 0"),
        ([3], "profile 0 is 3; give a dictionary"),
        ([PREFILL, PREFILL], "profile 1 (batch 1/1/4, new 2/64/512) lies inside profile 0"),
        ([PREFILL, {"batch": (2, 2, 3), "new": (2, 8, 9)}], "profile 1 (batch 2/2/3, new 2/8/9) lies inside profile 0"),
        (
            [PREFILL, {"batch": (7, 8, 9), "new": (1, 1, 1)}],
            "batch 5 to 6 is in no profile; begin profile 1 at 5",
        ),
        ([{**PREFILL, "new": (3, 8, 9)}, DECODE], "new 2 is in no profile; begin profile 0 at 2"),
    ],
)
def test_what_is_wrong_with_a_set_of_profiles_is_told_in_one_sentence(profiles, said):
    assert message(*profiles).startswith(f"net: {said}")


def test_profiles_may_adjoin_overlap_and_come_in_any_order():
    ranges = [(9, 9, 12), (1, 2, 5), (5, 6, 8)]
    read = read_profiles("net", {"batch": BATCH}, [{"batch": triple} for triple in ranges])
    assert [holding(read, {"batch": size}) for size in (4, 5, 6, 9)] == [1, 1, 2, 0]


@pytest.mark.parametrize(
    ("batch", "profiles", "said"),
    [(BATCH, {"batch": (1, 2, 3)}, "give a list"), (2, [{"batch": (1, 2, 3)}], "no dynamic dimension")],
)
def test_profiles_need_a_list_and_a_dynamic_dimension(batch, profiles, said):
    with pytest.raises(ShapeError, match=f"^net.* {said}"):
        Case("net", torch.nn.Linear(3, 2), (TensorSpec("x", (batch, 3)),), profiles=profiles)


def test_all_profiles_keep_the_steps_of_the_model():
    dims = {"height": DynamicDim("height", 32, 64, 128, step=16)}
    assert "height: max is 100, which is no multiple of 16" in message({"height": (32, 48, 100)}, dims=dims)
    coarse = (DynamicDim("height", 64, 64, 128, step=32),)
    assert "height is in steps of 32; use 16" in message(coarse, dims=dims)
    adjoining = read_profiles("net", dims, [{"height": (32, 48, 64)}, {"height": (80, 80, 128)}])
    assert envelope(adjoining)["height"] == DynamicDim("height", 32, 48, 128, step=16)
    gap = message({"height": (32, 48, 64)}, {"height": (96, 96, 128)}, dims=dims)
    assert "height 80 is in no profile; begin profile 1 at 80" in gap


def test_a_case_has_the_range_that_holds_its_profiles_and_gives_it_up_for_one_range():
    both = case(PREFILL, DECODE)
    assert [str(dim) for dim in both.dims.values()] == ["batch 1/1/16", "new 1/64/512"]
    assert both.traced == {"batch": 2, "new": 64}  # as for any opt of 1
    assert both.sizes(8) == {"batch": 8, "new": 1}  # which only the second profile takes
    assert both.sizes({"new": 5}) == {"batch": 1, "new": 5}
    assert both.at_profile(1).dims == {
        name: DynamicDim(name, *ends, limit=DIMS[name].limit) for name, ends in DECODE.items()
    }
    assert both.with_ranges(batch=(1, 2, 3)).profiles == both.at_profile(0).profiles == ()
    assert both.with_profiles().profiles == ()
    assert case(PREFILL).profiles == ()  # a single one is the range
    assert case(PREFILL).dims["new"] == DynamicDim("new", 2, 64, 512, limit=512)


def test_sizes_are_read_from_tensors_also_where_one_follows_from_another():
    past = DynamicDim("past", 1, 4, 8)
    specs = (TensorSpec("mask", (2 * past + 1, 3)), TensorSpec("x", (BATCH, 3)))
    assert sizes_of(specs, (torch.empty(11, 3), torch.empty(7, 3))) == {"past": 5, "batch": 7}
