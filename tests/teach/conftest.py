"""How answers are judged, and a machine that builds none of TensorRT's engines."""

import pytest

from tutorial_lib.teach import check


@pytest.fixture
def judged():
    """``judged(key, answer, said)``: the feedback, which is right where nothing is `said`, and says so otherwise."""

    def judge(key, answer, said=None):
        feedback = check(key, answer)
        assert feedback.right == (said is None), feedback.sentence
        assert said is None or said in feedback.sentence
        return feedback

    return judge


@pytest.fixture
def nothing_can_be_built(without_builder):
    without_builder("TensorRT for RTX is not installed here.")
