"""Predict before you look: a question, your guess, *Check*, and then *Reveal*."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import ipywidgets as w

from tutorial_lib.core.markup import with_code
from tutorial_lib.teach.shown import Shown, says

Answer = float | str
KEY = re.compile(r"(\d\d)\.([\w-]+)")
"""The name of a question or an exercise: the notebook's number, a dot, a word."""


@dataclass(frozen=True)
class Question:
    """A question with its answer.

    Parameters
    ----------
    text : str
        One or two sentences; ```code``` stands between backticks.
    answer : int, float or str
        A number, or one of `choices`.
    why : str
        What *Reveal* shows.
    choices : sequence of str
        To choose from; without them, the reader types a number.
    unit : str
        Of a number, such as ``"MB"``.
    tolerance : float
        How far from the answer a number may be, as a share of it.
    """

    text: str
    answer: Answer
    why: str = ""
    choices: Sequence[str] = ()
    unit: str = ""
    tolerance: float = 0.0


class Prediction(Shown):
    """A question with its widgets. :meth:`answer` and :meth:`reveal` do what the buttons do."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._first: str | None = None
        text = w.HTML(f'<div class="tl-question"><b>Predict.</b> {with_code(question.text)}</div>')
        if question.choices:
            options = [(choice, choice) for choice in question.choices]
            self.field: Any = w.RadioButtons(options=options, index=None, layout={"width": "auto"})
        else:
            self.field = w.Text(placeholder=f"a number{f' of {question.unit}' if question.unit else ''}")
            self.field.continuous_update = False  # so that Enter checks
            self.field.observe(lambda _: self._clicked(), "value")
        self.field.tooltip = "your prediction"
        self.check_button = w.Button(description="Check", tooltip="Compare your prediction", layout={"width": "auto"})
        self.reveal_button = w.Button(description="Reveal", tooltip="Show the answer", layout={"width": "auto"})
        self.reveal_button.disabled = True
        self.told, self.why = w.HTML(), w.HTML()
        self.check_button.on_click(lambda _: self._clicked())
        self.reveal_button.on_click(lambda _: self.reveal())
        box = w.VBox([text, self.field, w.HBox([self.check_button, self.reveal_button]), self.told, self.why])
        box.add_class("tl-predict")
        super().__init__(box, text=f"Predict: {question.text.replace('`', '')}")

    def answer(self, value: Any) -> str:
        """What *Check* says to `value`: a number, or one of the choices."""
        sentence, good = self._judge(value)
        if good is not None:
            self._first = self._first or str(value).strip()
            self.reveal_button.disabled = False
        self.told.value = says(sentence, good)
        return sentence

    def reveal(self) -> str:
        """The answer and the reason for it, after a first guess."""
        if self._first is None:
            return "Predict first: a wrong guess is what you will remember."
        sentence = f"{self._show(self._question.answer)}. {self._question.why}".strip()
        first = f'"{self._first}"' if self._question.choices else self._first
        self.why.value = says(f"You said {first}. The answer: {sentence}")
        return sentence

    def _clicked(self) -> None:
        self.answer(self.field.value)

    def _judge(self, value: Any) -> tuple[str, bool | None]:
        """A sentence, and whether the guess is right; None if it is no guess."""
        question, right = self._question, self._question.answer
        if question.choices:
            if value not in question.choices:
                return f"Choose one: {', '.join(question.choices)}.", None
            return (f"Yes: {value}.", True) if value == right else (f'No, not "{value}".', False)
        number = as_number(value, question.unit)
        if number is None:
            return f"Type a number{f' of {question.unit}' if question.unit else ''}, such as 12.", None
        assert not isinstance(right, str)
        if math.isclose(number, right, rel_tol=max(question.tolerance, 1e-9)):
            return f"Yes: {self._show(right)}.", True
        return f"No: {self._show(number)} is too {'small' if number < right else 'large'}.", False

    def _show(self, value: Answer) -> str:
        return value if isinstance(value, str) else f"{value:,.10g} {self._question.unit}".strip()


def predict(key: str) -> Prediction:
    """Ask the reader before a cell answers; the question has a `key`, so that the cell does not hold the answer.

    Raises
    ------
    KeyError
        If there is no such question.
    """
    match = KEY.fullmatch(key)
    if match is None:
        raise KeyError(f"{key!r} is no key of a question; give one such as '04.batch-one'.")
    try:
        questions: dict[str, Question] = import_module(f"tutorial_lib.teach.questions.nb{match[1]}").QUESTIONS
        return Prediction(questions[match[2]])
    except (ModuleNotFoundError, KeyError):
        raise KeyError(f"there is no question {key!r}.") from None


def as_number(value: Any, unit: str = "") -> float | None:
    """What is typed as a finite number, with or without its unit; None if it is none."""
    if isinstance(value, str):
        value = value.strip().removesuffix(unit).strip().replace(",", "").replace("_", "")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and not isinstance(value, bool) else None
