"""Notebook 10: the panel and the exercises."""

import pytest

from tutorial_lib.teach import panels
from tutorial_lib.teach.lessons.nb10 import MAX


def test_policies_change_places_with_the_traffic():
    panel = panels.traffic()
    assert len(panel.set(share=10).ranked[0].engines) == 2
    assert str(panel.set(share=0).ranked[0]) == "one engine, opt 1 (rows 1/1/4096)"
    assert "one engine, opt 1" in panel.told.value
    assert "data:image/png;base64," in panel.figure.value
    panel.objective.value = "memory"  # a click
    assert "eager" in panel.told.value


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("10.boundary", 39, None),
        ("10.boundary", 1024, "times that of the best cut"),
        ("10.boundary", 0.5, "whole number"),
        ("10.policy", [(1, 1, 39), (40, MAX, MAX)], None),
        ("10.policy", [(1, 8, MAX)], "times that of the best policy"),
        ("10.policy", [(1, 1, 39)], "above 39"),
        ("10.policy", [(1, 1, 39), (41, MAX, MAX)], "requests of 40 rows"),
        ("10.policy", [(9, 1, 39)], "opt is 1"),
        ("10.traffic", [MAX] * 10, None),
        ("10.traffic", [1] * 10, "times as long"),
        ("10.traffic", [MAX], "at least 10"),
        ("10.traffic", ["many"] * 10, "whole number"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged):
    judged(key, answer, said)
