"""How answers are judged, and machines that build TensorRT's engines or do not."""

import pytest

from tutorial_lib.engines import EnginesUnavailable, install
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
def nothing_can_be_built(monkeypatch):
    def located():
        raise EnginesUnavailable("TensorRT for RTX is not installed here.")

    monkeypatch.setattr(install, "located", located)


@pytest.fixture
def builder():
    """TensorRT for RTX, or no test."""
    try:
        return install.located()
    except EnginesUnavailable as error:
        pytest.skip(str(error))
