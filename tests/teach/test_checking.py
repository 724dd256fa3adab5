"""Exercises: whatever the answer is, `check` says a sentence and does not raise."""

import importlib
import pkgutil
import sys

import numpy as np
import pandas as pd
import pytest

from tutorial_lib.core.shapes import DynamicDim
from tutorial_lib.teach import Feedback, check, checking, exercises, hint

for module in pkgutil.iter_modules(exercises.__path__):
    importlib.import_module(f"{exercises.__name__}.{module.name}")


class Awkward:
    """What a learner may have left in a variable."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __eq__(self, other):
        raise RuntimeError("no ==")

    __hash__ = None


NOT_AN_ANSWER = {
    "nothing": None,
    "ellipsis": ...,
    "tuple of ellipses": (..., ..., ...),
    "empty text": "",
    "text": "batch",
    "zero": 0,
    "negative": -1,
    "huge": 10**30,
    "nan": float("nan"),
    "true": True,
    "empty list": [],
    "empty dict": {},
    "nested": [[1, 2], [3]],
    "nothing, four times": [None] * 4,
    "negative range": (-3, -2, -1),
    "huge range": (1, 10**30, 10**31),
    "text in a range": ("1", "4", "32"),
    "dict of nothing": {"jit": None, "input": None, "export": None},
    "array": np.zeros(3),
    "class": dict,
    "function": lambda *_: None,
    "function that raises": lambda *_: 1 / 0,
    "function that ends Python": lambda *_: sys.exit(),
    "function that is unsolved": lambda *_: ...,
    "awkward": Awkward(),
}


@pytest.mark.parametrize("key", sorted(checking.EXERCISES))
def test_no_exercise_raises_or_calls_nonsense_right_and_each_has_a_hint(key):
    for name, answer in NOT_AN_ANSWER.items():
        feedback = check(key, answer)
        assert repr(feedback).startswith("Not yet: "), name
        assert len(feedback.sentence) > 10, name
    assert "`" not in check(key, ...)._repr_html_()
    assert "`" not in hint(key)._repr_html_()
    assert repr(hint(key)).startswith("Hint: ")
    assert len(hint(key)) > 20


@pytest.mark.parametrize("key", ["04.no-such", "99.any", "no key"])
def test_an_exercise_that_is_not_there_is_named(key):
    for ask in (hint, lambda key: check(key, 1)):
        with pytest.raises(KeyError, match=key):
            ask(key)


def test_a_feedback_shows_its_table_with_code_between_backticks_and_what_was_typed_as_text():
    table = pd.DataFrame({"what": ["`x < 1` or " + 60 * "y", "one ` alone"]})
    shown = Feedback(False, "put `<b>1</b>` in place of the `...`; one ` alone", table)._repr_html_()
    assert "put <code>&lt;b&gt;1&lt;/b&gt;</code> in place of the <code>...</code>; one ` alone" in shown
    assert "<td><code>x &lt; 1</code> or " + 60 * "y" + "</td>" in shown
    assert "<td>one ` alone</td>" in shown
    assert "`..." in repr(Feedback(False, "in place of the `...`"))


def divide(a, b):
    return a / b


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: checking.a_range((1, 64, 32)), "opt is 64, above max 32"),
        (lambda: checking.a_range((1, 4)), "three sizes"),
        (lambda: checking.a_range((1, 4, 10_000)), "up to 4096"),
        (lambda: checking.a_range((1.0, 4, 32)), "whole numbers"),
        (lambda: checking.call(divide, 1, 0), r"divide\(1, 0\) raised ZeroDivisionError"),
        (lambda: checking.call(lambda: [1, ..., 3]), "still returns"),
        (lambda: checking.a_mapping({"jit": (..., ...)}, ("jit",)), "put your answer for 'jit'"),
        (lambda: checking.a_mapping({"jit": 1}, ("jit", "export")), "nothing about 'export'"),
    ],
)
def test_what_cannot_be_judged_is_told(ask, said):
    with pytest.raises(checking.NotYet, match=said):
        ask()


def test_a_range_is_three_whole_numbers_in_order():
    assert checking.a_range([1, 4, 32]) == DynamicDim("batch", 1, 4, 32)


@pytest.mark.parametrize("answer", [..., (..., ..., ...), [1, ..., 3]], ids=["alone", "tuple", "list"])
def test_what_still_has_an_ellipsis_is_unsolved(answer):
    assert "put your answer in place" in check("00.range", answer).sentence
