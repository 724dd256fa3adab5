"""The panel that calls a compiled model and says why it compiles again."""

import pytest
import torch

from tutorial_lib.teach import panels


@pytest.fixture
def panel():
    return panels.recompile()


def test_each_control_gives_its_reason_and_the_same_call_none(panel):
    reasons = [
        ({}, "the first one"),
        ({}, "nothing was compiled"),
        ({"batch": 5}, "x has 5 in dimension 0"),
        ({"batch": 9}, "nothing was compiled"),
        ({"dtype": "bfloat16"}, "the dtype BFloat16"),
        ({"dtype": "float32", "transposed": True}, "stride"),
        ({"transposed": False, "times": 2}, "The argument times was 1"),
        ({"gradients": True}, "another mode (grad_mode)"),
        ({"gradients": False, "training": True}, "training was False"),
    ]
    for controls, says in reasons:
        assert says in panel.call(**controls)
    assert panel.history.value.count("<li>") == len(reasons)
    assert "times 1, float32, a transposed view: layout" in panel.history.value


def test_the_limit_is_said_and_forgetting_begins_again(panel):
    with torch._dynamo.config.patch(recompile_limit=2):
        said = [panel.call(dtype=dtype, gradients=on) for dtype in ("float32", "bfloat16") for on in (True, False)]
    assert "recompile_limit" in said[2]
    assert "without one it ran uncompiled" in said[3]
    panel.forget_button.click()
    assert "the first one" in panel.call()
