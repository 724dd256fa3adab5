"""Notebook 4: requests, numbered graphs, the panels, the exercises."""

import pytest
import torch

from tutorial_lib.teach import panels
from tutorial_lib.teach.lessons.nb04 import NOT_RUN, failed_guard, send, side_by_side, small_case, watch


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (lambda case: case.model, "right"),
        (lambda case: lambda x: case.model(x) + 1, "WRONG"),
        (lambda case: lambda x: case.model(x)[:3], "WRONG"),
        (lambda case: lambda x: 1 / 0, "refused"),
    ],
)
def test_a_reply_is_judged_by_what_the_model_answers(call, outcome):
    case = small_case()
    assert send(call(case), case, *case.example(8)).outcome == outcome


def test_an_answer_where_the_model_has_none_is_wrong():
    case = small_case()
    assert send(lambda x: torch.zeros(1), case, case.example(8)[0].double()).outcome == "WRONG"


def test_graphs_are_numbered_and_the_guard_that_failed_is_quoted():
    case = small_case()
    program = watch(case.model, *case.example(8), min=4, max=32)
    assert failed_guard(program, *case.example(8)) is None
    assert failed_guard(program, *case.example(33)) == "4 <= x.size()[0] <= 32"
    program(*case.example(33))
    program(*case.example(8))
    assert program.answered == [1, 1, 2, 2]
    assert str(program.graphs[0][0]) == "x [4/8/32, 16, 48] float32"


def test_the_panel_sends_what_its_controls_say():
    panel = panels.request()
    refused = panel.send(batch=33)
    assert list(refused["outcome"]) == ["right", "right, after compiling another graph", *["refused"] * 4]
    assert "33 on x" in refused["it says"].iloc[-1]
    panel.transposed.value = True  # a click
    assert "strides" in panel.told.value
    table = panel.send()
    assert set(table["outcome"]) == {"right"}
    shown = side_by_side({"one": table, "other": table.iloc[:2]})
    assert list(shown.data["other"]).count(NOT_RUN) == len(table) - 2, "what was not asked of all is not run"


@pytest.fixture
def compiled():
    with torch.enable_grad():
        yield panels.recompile()


def test_each_control_gives_its_reason_and_the_same_call_none(compiled):
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
        assert says in compiled.call(**controls)
    assert compiled.history.value.count("<li>") == len(reasons)
    assert "times 1, float32, a transposed view: layout" in compiled.history.value


def test_the_limit_is_said_and_forgetting_begins_again(compiled):
    with torch._dynamo.config.patch(recompile_limit=2):
        said = [compiled.call(dtype=dtype, gradients=on) for dtype in ("float32", "bfloat16") for on in (True, False)]
    assert "recompile_limit" in said[2]
    assert "without one it ran uncompiled" in said[3]
    compiled.forget_button.click()
    assert "the first one" in compiled.call()


def guard(x):
    if x.dim() != 3 or not 4 <= len(x) <= 32 or x.shape[1:] != (16, 48):
        return False
    return x.dtype == torch.float32 and x.is_contiguous()


def pad(program, x):
    return program(torch.cat([x, x]))[:1] if len(x) == 1 else program(x)


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("04.answers", [2, 3, 2, 3], None),
        ("04.answers", [2, 2, 2, 2], "batch 1."),
        ("04.split", lambda x: x.tensor_split(-(-len(x) // 32)), None),
        ("04.split", lambda x: x.split(32), "batch of 33: batch is 1 on x"),
        ("04.split", lambda x: [x[:4]], "not what came in"),
        ("04.guard", guard, None),
        ("04.guard", lambda x: guard(x.float()), "'float64'"),
        ("04.guard", lambda x: guard(x) and len(x) > 4, "'batch 4'"),
        ("04.pad", pad, None),
        ("04.pad", lambda program, x: program(x), "built for 2 to 32"),
        ("04.pad", lambda program, x: program(torch.cat([x, x])), "should be [1,"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged):
    judged(key, answer, said)
