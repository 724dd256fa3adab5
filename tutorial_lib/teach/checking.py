"""Exercises: `check` judges an answer and never raises, `hint` says more. Each notebook's are in ``exercises/``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from tutorial_lib.core.markup import code_marked, with_code
from tutorial_lib.core.shapes import DynamicDim, ShapeError
from tutorial_lib.teach.pictures import picture
from tutorial_lib.teach.prediction import KEY, as_number

LARGEST_SIZE = 4096
"""A range of an exercise goes no further, so that no answer, however absurd, fills the memory."""


@dataclass(frozen=True)
class Feedback:
    """What `check` says to an answer, with a table or a picture where that helps.

    Attributes
    ----------
    right : bool
        Whether the answer is right.
    sentence : str
        Why, or the first thing that is wrong, in the learner's own values; ```code``` stands between backticks.
    table : DataFrame, optional
        Shown below the sentence.
    figure : Figure, optional
        Shown below that; its title is its alternative text.
    """

    right: bool
    sentence: str
    table: pd.DataFrame | None = None
    figure: Figure | None = None

    def __repr__(self) -> str:
        text = f"{'Right' if self.right else 'Not yet'}: {self.sentence}"
        return text if self.table is None else f"{text}\n{self.table.to_string(index=False)}"

    def _repr_html_(self) -> str:
        color, mark = ("#009E73", "Right") if self.right else ("#D55E00", "Not yet")
        text = (
            f'<div role="status" style="border-left: 4px solid {color}; padding: 2px 8px">'
            f"<b>{mark}:</b> {with_code(self.sentence)}</div>"
        )
        if self.table is not None:
            with pd.option_context("display.max_colwidth", None):  # a sentence in a table is not cut
                text += code_marked(self.table.to_html(index=False, border=0))
        if self.figure is not None:
            text += picture(self.figure, self.figure.get_suptitle())
        return text


class NotYet(Exception):
    """An answer that cannot be judged further, with a sentence for the learner. Keywords as of :class:`Feedback`."""

    def __init__(self, sentence: str, **shown: Any) -> None:
        super().__init__(sentence)
        self.feedback = Feedback(False, sentence, **shown)


@dataclass(frozen=True)
class Exercise:
    """A judge of answers, with a hint for who asks.

    Where `from_panel` is set, the answer is what a panel holds: None says that nothing was built there, and the judge
    says so. Elsewhere None is an answer that nobody has given.
    """

    judge: Callable[[Any], Feedback]
    hint: str
    from_panel: bool = False


EXERCISES: dict[str, Exercise] = {}
"""By key; filled as the modules of ``exercises/`` are imported."""

Judge = Callable[[Any], Feedback]


def exercise(key: str, hint: str, from_panel: bool = False) -> Callable[[Judge], Judge]:
    """Make a function the judge of exercise `key`, such as ``"04.guard"``; `hint` is what :func:`hint` says.

    `from_panel`: see :class:`Exercise`.
    """

    def register(judge: Judge) -> Judge:
        EXERCISES[key] = Exercise(judge, hint, from_panel)
        return judge

    return register


def check(key: str, answer: Any) -> Feedback:
    """Judge `answer` to exercise `key`: right, or the first thing that is wrong with it. No answer makes it raise.

    Raises
    ------
    KeyError
        If there is no such exercise.
    """
    entry = _exercise(key)
    if _is_unsolved(answer) or (answer is None and not entry.from_panel):
        return Feedback(False, "put your answer in place of the `...`, and run this cell again.")
    try:
        return entry.judge(answer)
    except NotYet as error:
        return error.feedback
    except (Exception, SystemExit) as error:
        return Feedback(False, f"your answer ended with {type(error).__name__}: {error}")


def hint(key: str) -> str:
    """Another hint for an exercise, for who asks after the first thing that :func:`check` named."""
    return Hint(_exercise(key).hint)


class Hint(str):
    """A hint, shown without quotation marks, and with what stands between backticks as code."""

    def __repr__(self) -> str:
        return f"Hint: {self}"

    def _repr_html_(self) -> str:
        return f"<b>Hint:</b> {with_code(self)}"


def _exercise(key: str) -> Exercise:
    if key not in EXERCISES and (match := KEY.fullmatch(key)):
        name = f"tutorial_lib.teach.exercises.nb{match[1]}"
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    if key not in EXERCISES:
        raise KeyError(f"there is no exercise {key!r}.")
    return EXERCISES[key]


def _is_unsolved(answer: Any) -> bool:
    """Whether a `...` still stands where the answer belongs, alone or in a tuple or list."""
    return answer is Ellipsis or (isinstance(answer, tuple | list) and any(item is Ellipsis for item in answer))


# ---- what judges ask of an answer; each raises NotYet with a sentence


def a_number(answer: Any, what: str = "your answer") -> float:
    """The answer as a finite number."""
    number = as_number(answer)
    if number is None:
        raise NotYet(f"{what} is {_short(answer)}; give a number.")
    return number


def a_range(answer: Any, name: str = "batch", what: str = "your range") -> DynamicDim:
    """The answer as a range: three whole numbers (min, opt, max), or a ``DynamicDim``."""
    if not isinstance(answer, DynamicDim):
        if not isinstance(answer, tuple | list) or len(answer) != 3:
            raise NotYet(f"{what} is {_short(answer)}; give three sizes, (min, opt, max).")
        if any(isinstance(size, bool) or not isinstance(size, int) for size in answer):
            raise NotYet(f"{what} is {_short(answer)}; min, opt and max are whole numbers.")
        try:
            answer = DynamicDim(name, *answer)
        except ShapeError as error:
            raise NotYet(str(error)) from None
    if answer.max > LARGEST_SIZE:
        raise NotYet(f"max is {_short(answer.max)}; this exercise goes up to {LARGEST_SIZE}.")
    return answer


def a_mapping(answer: Any, keys: Sequence[str], what: str = "your answer") -> dict[str, Any]:
    """The answer as a dict with these keys, in their order."""
    if not isinstance(answer, dict):
        raise NotYet(f"{what} is {_short(answer)}; give a dict with {', '.join(map(repr, keys))}.")
    if missing := [key for key in keys if key not in answer]:
        raise NotYet(f"{what} says nothing about {missing[0]!r}.")
    if unsolved := [key for key in keys if _is_unsolved(answer[key])]:
        raise NotYet(f"put your answer for {unsolved[0]!r} in place of the `...`, and run this cell again.")
    return {key: answer[key] for key in keys}


def a_function(answer: Any, example: str) -> Callable[..., Any]:
    """The answer as a function, which `example` shows how to write."""
    if isinstance(answer, type) or not callable(answer):
        raise NotYet(f"your answer is {_short(answer)}; give a function, such as `{example}`.")
    return answer


def call(function: Callable[..., Any], *args: Any, shown: str = "") -> Any:
    """What the learner's function returns; if it raises, that is the feedback. `shown`: the call in words."""
    try:
        result = function(*args)
    except (Exception, SystemExit) as error:
        of = shown or f"{getattr(function, '__name__', 'your function')}({', '.join(map(_short, args))})"
        raise NotYet(f"{of} raised {type(error).__name__}: {error}") from None
    if _is_unsolved(result):
        raise NotYet("your function still returns `...`; put your answer there, and run this cell again.")
    return result


def by_case(table: pd.DataFrame, wrong: Sequence[str], right: str, figure: Figure | None = None) -> Feedback:
    """Feedback with a table of all cases: the first of the sentences in `wrong`, or `right` where there are none."""
    return Feedback(not wrong, wrong[0] if wrong else right, table, figure)


def _short(value: Any) -> str:
    """What a value is, on part of a line."""
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
