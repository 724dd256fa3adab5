"""The exercises of notebook 0: right answers, and wrong ones with what is said to them."""

import pytest

from tutorial_lib import expand_reshape, gated_norm
from tutorial_lib.core.shapes import DynamicDim
from tutorial_lib.teach import check


@pytest.mark.parametrize("answer", [(1, 8, 100), [1, 8, 4096], DynamicDim("batch", 1, 8, 128)])
def test_a_range_that_holds_1_and_100_and_is_tuned_for_8_is_right(answer):
    assert check("00.range", answer).right


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((2, 8, 100), "refuses a batch of 1:"),
        ((1, 8, 99), "refuses a batch of 100"),
        ((1, 4, 100), "tuned for 4"),
        ((8, 1, 100), "opt is 1"),
    ],
)
def test_the_first_thing_that_is_wrong_is_named(answer, said):
    feedback = check("00.range", answer)
    assert not feedback.right
    assert said in feedback.sentence


@pytest.mark.parametrize(("answer", "drawn"), [((2, 8, 100), "1 is refused"), ((1, 8, 100), "1 is served")])
def test_a_range_is_drawn_with_the_batches_that_come(answer, drawn):
    feedback = check("00.range", answer)
    texts = [text.get_text() for text in feedback.figure.axes[0].texts]
    assert texts == ["opt 8", drawn, "100 is served"]
    assert f'alt="A range from {answer[0]} to 100, and the batches that come"' in feedback._repr_html_()


def small(low, opt, high):
    return gated_norm(batch=(low, opt, high), tokens=3, width=16)


def test_a_case_without_batch_1_has_one_engine_on_every_path():
    feedback = check("00.case", small(2, 4, 16))
    assert feedback.right
    assert list(feedback.table["engines"]) == [1, 1, 1]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((2, 4, 16), "is a tuple; give a Case"),
        (small(1, 4, 16), "jit has 2 engines"),
        (small(2, 4, 8), "refuses a batch of 16"),
        (small(3, 4, 16), "refuses a batch of 2"),
        (expand_reshape((2, 4, 16)), "this is expand-reshape"),
        (gated_norm((2, 4, 4000)), "too much memory"),
        (gated_norm((2, 4, 10**9)), "up to 4096"),
    ],
)
def test_another_case_is_told_what_is_wrong(answer, said):
    feedback = check("00.case", answer)
    assert not feedback.right
    assert said in feedback.sentence
