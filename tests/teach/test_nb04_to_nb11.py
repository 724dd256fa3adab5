"""All questions and exercises of notebooks 4 to 11: what they have in common."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import tutorial_lib.teach
from tutorial_lib.teach import check, hint, predict
from tutorial_lib.teach.checking import EXERCISES

ROOM = Path(tutorial_lib.teach.__file__).parent
NUMBERS = sorted(file.stem[2:] for file in (ROOM / "exercises").glob("nb*.py") if file.stem >= "nb04")
for number in NUMBERS:
    import_module(f"tutorial_lib.teach.exercises.nb{number}")
KEYS = sorted(key for key in EXERCISES if key[:2] in NUMBERS)
QUESTIONS = [
    f"{number}.{name}"
    for number in NUMBERS
    for name in import_module(f"tutorial_lib.teach.questions.nb{number}").QUESTIONS
]
ABSURD = (
    None,
    ...,
    "",
    "yes",
    -1,
    10**30,
    float("nan"),
    [],
    [None] * 4,
    {},
    object(),
    type,
    np.zeros(3),
    lambda *_: ...,
)


@pytest.mark.parametrize("key", KEYS)
def test_whatever_is_answered_nothing_raises_and_nothing_absurd_is_right(key):
    for answer in ABSURD:
        feedback = check(key, answer)
        assert not feedback.right, answer
        assert feedback.sentence
        assert repr(feedback).startswith("Not yet: ")
    assert len(hint(key)) > 20


@pytest.mark.parametrize("key", QUESTIONS)
def test_a_question_is_answered_by_its_own_answer_and_tells_why(key):
    prediction = predict(key)
    assert not prediction.answer("neither a number nor a choice").startswith("Yes")
    assert prediction.answer(prediction._question.answer).startswith("Yes")
    assert len(prediction.reveal()) > 40
