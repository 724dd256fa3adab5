"""Notebook 9: what is told of a model, and the judges of repaired ones."""

import pytest
from torch import nn

from tutorial_lib.teach.lessons import nb09


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Linear(40, 12)

    def scores(self, sound):
        return self.words(sound.mean(1))

    def forward(self, sound):
        return self.scores(sound)


def variant(forward):
    return type("Variant", (Keywords,), {"forward": forward})


def deciding(self, sound):
    return self.scores(sound if sound.max() > 3 else -sound)


def test_upstreams_line_stands_beside_cause_and_fix():
    text = repr(nb09.told("export", variant(deciding)))
    assert text.startswith("export: ")
    assert all(word in text for word in ("upstream:", "cause:", "fix:"))
    assert nb09.words_of("export", variant(deciding))[1].kind == "data-dependent"
    with pytest.raises(ValueError, match="was built on export"):
        nb09.told("export", Keywords)


def test_a_report_has_a_line_for_each_problem():
    assert nb09.report(Keywords) == "Keywords: nothing found"
    mixed = variant(lambda self, sound: self.scores(sound - sound.mean(0)))
    assert "  - a row depends on the other rows of its batch" in nb09.report(mixed)


def test_three_calls_count_what_python_does_beside_tensors():
    def prints(self, sound):
        print("frames")
        return self.scores(sound)

    assert nb09.three_calls("export", variant(prints))["printed"] == 0
    assert nb09.three_calls("jit", variant(prints))["printed"] == 3
    assert "refused" in nb09.three_calls("export", variant(deciding))


def test_spellings_are_told_by_path():
    spelled = nb09.spelled(Keywords, lambda self, sound: self.scores(sound) / len(sound))
    (kinds,) = nb09.kinds({"len": nb09.case_of(spelled)}).to_dict("records")
    assert kinds == {"jit": "built", "input": "fixed size", "export": "fixed size"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("09.chances", variant(lambda self, sound: self.scores(sound).softmax(0)), "a row depends"),
        ("09.chances", Keywords, "does not compute"),
        ("09.chances", Keywords(), "give the class"),
        ("09.spread", variant(deciding), "export refuses it"),
    ],
)
def test_wrong_answers_hear_what_is_wrong(key, answer, said, judged):
    feedback = judged(key, answer, "")
    assert said in f"{feedback.sentence} {feedback.table}"
