"""Predictions: what Check and Reveal say, without a browser."""

import importlib
import pkgutil

import pytest

from tutorial_lib.teach import Prediction, predict, questions
from tutorial_lib.teach.prediction import Question


@pytest.fixture
def engines():
    return Prediction(Question("How many engines does `jit` build?", answer=2, why="Batch 1 has its own: `jit`."))


def test_a_number_is_right_however_it_is_typed_and_a_wrong_one_is_told_its_side_and_nothing_more(engines):
    for typed in (2, 2.0, "2", " 2 "):
        assert engines.answer(typed).startswith("Yes")
    assert engines.answer(1) == "No: 1 is too small."
    assert engines.answer("1_000") == "No: 1,000 is too large."


def test_what_is_no_number_is_no_guess(engines):
    for value in (None, ..., "", "  ", "many", [], {}, object(), float("nan"), float("inf"), True, lambda: 2):
        assert engines.answer(value).startswith("Type a number"), value
        assert engines.reveal_button.disabled
        assert "2" not in engines.reveal()


def test_the_answer_is_revealed_after_a_guess_beside_the_first_one(engines):
    assert engines.why.value == ""
    engines.answer(5)
    engines.answer(2)
    assert engines.reveal() == "2. Batch 1 has its own: `jit`."
    assert "You said 5." in engines.why.value


def test_the_buttons_and_enter_do_the_same_as_the_methods(engines):
    engines.field.value = "3"
    assert "too large" in engines.told.value
    engines.field.value = "2"
    engines.check_button.click()
    assert "Yes" in engines.told.value
    engines.reveal_button.click()
    assert "Batch 1 has its own: <code>jit</code>." in engines.why.value


def test_a_choice_is_one_of_the_choices():
    path = Prediction(Question("Which path?", choices=["jit", "export"], answer="export"))
    assert path.field.value is None, "nothing is chosen for the reader"
    assert path.answer(None).startswith("Choose one")
    assert path.answer(["export"]).startswith("Choose one")
    assert path.answer("jit") == 'No, not "jit".'
    assert path.answer("export") == "Yes: export."


def test_a_number_may_have_a_unit_and_a_tolerance():
    memory = Prediction(Question("How much?", answer=100, unit="MB", tolerance=0.1))
    assert memory.answer("93 MB") == "Yes: 100 MB."
    assert memory.answer("80 MB").startswith("No: 80 MB")


def test_what_a_notebook_file_keeps_has_the_question_and_not_the_answer(engines):
    bundle = engines._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == "Predict: How many engines does jit build? (Run this cell to use it.)"
    assert "Batch 1" not in str(bundle)


def test_markup_of_a_question_and_its_reason_is_text():
    asked = Prediction(Question("Is `x` <b>?", answer=1, why="Since `x < 2` <b>."))
    asked.answer(2)
    asked.reveal()
    assert "Is <code>x</code> &lt;b&gt;?" in asked.root.children[1].children[0].value
    assert "Since <code>x &lt; 2</code> &lt;b&gt;." in asked.why.value


@pytest.mark.parametrize("key", ["04.no-such-question", "99.any", "no key"])
def test_a_question_that_is_not_there_is_named(key):
    with pytest.raises(KeyError, match=key):
        predict(key)


def every_question():
    for module in pkgutil.iter_modules(questions.__path__):
        for name in importlib.import_module(f"{questions.__name__}.{module.name}").QUESTIONS:
            yield f"{module.name.removeprefix('nb')}.{name}"


@pytest.mark.parametrize("key", list(every_question()))
def test_every_question_is_answered_by_its_own_answer_and_tells_why(key):
    prediction = predict(key)
    assert not prediction.answer("neither a number nor a choice").startswith("Yes")
    assert prediction.answer(prediction._question.answer).startswith("Yes")
    assert len(prediction.reveal()) > 30
