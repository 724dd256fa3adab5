"""The exercises of notebook 0: right answers, and wrong ones with what is said to them."""

import pytest

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
