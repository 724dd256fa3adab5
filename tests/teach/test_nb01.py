"""The exercises of notebook 1: right answers, and wrong ones with what is said to them."""

import pytest
import torch

from tutorial_lib import PATHS, Case, DynamicDim, ExpandReshapeModel, TensorSpec, expand_reshape, gated_norm


def marked(axis=0, **bounds):
    def my_jit(model, x, backend):
        torch._dynamo.mark_dynamic(x, axis, **bounds)
        return torch.compile(model, backend=backend)

    return my_jit


def test_a_marked_batch_is_answered_by_one_graph_for_the_whole_range(judged):
    feedback = judged("01.mark", marked(min=2, max=32))
    assert list(feedback.table["batch"]) == [4, 8, 2, 32, 33, 1]
    assert list(feedback.table["graphs so far"]) == [1, 1, 1, 1, 2, 3]
    assert "2/4/32" in feedback.table["the graph that answered"][0]


@pytest.mark.parametrize(
    ("my_jit", "said"),
    [
        (marked(1), "batch 8 compiled another graph, because the first is for a batch of 4 alone"),
        (marked(min=4, max=32), "batch 2 compiled another graph, because the first is for batches from 4 to 32"),
        (marked(min=2, max=64), "goes on to 64"),
        (marked(), "it takes 33 as well"),
        (lambda model, x, backend: model, "nothing was compiled"),
        (lambda model, x, backend: torch.compile(lambda x: model(x) + 1, backend=backend), "not the model's"),
        (lambda model, x, backend: lambda x: x, "comes back a tensor (4, 3, 24)"),
        (lambda model, x, backend: lambda x: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda model, x, backend: 3, "returns a int"),
    ],
)
def test_a_batch_that_is_marked_otherwise_is_told_what_was_compiled(my_jit, said, judged):
    judged("01.mark", my_jit, said)


def test_the_exercise_does_not_take_the_graphs_of_the_notebooks_model(judged):
    case = expand_reshape(batch=(2, 4, 32), embed_dim=24, tokens=3)
    program = PATHS["jit"](case, "eager")
    judged("01.mark", marked(min=2, max=32))
    program(*case.example(8))
    assert len(program.build.engines) == 1


def pads(program, x):
    return program(x) if x.shape[0] > 1 else program(torch.cat([x, torch.zeros_like(x)]))[:1]


def opts(build):
    return [engine.data[0].opt[0] for engine in build.engines]


def patches(low, high, batch=(1, 4, 32)):
    dims = DynamicDim("batch", *batch), DynamicDim("patches", low, 196, high)
    return Case("any patches", ExpandReshapeModel(24), (TensorSpec("x", (*dims, 24)),))


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("01.serve-one", lambda program, x: program(x), "with 1 images raised OutOfRange"),
        ("01.serve-one", lambda program, x: program(torch.cat([x, x]))[: len(x)], "you padded them nevertheless"),
        ("01.serve-one", lambda program, x: program(torch.cat([x, x]) if len(x) == 1 else x), "should come back"),
        ("01.serve-one", lambda program, x: pads(program, x) * 0, "not the model's"),
        ("01.serve-one", lambda program, x: None, "returns a NoneType"),
        ("01.opt-one", lambda build: tuple(opts(build)), None),
        ("01.opt-one", lambda build: [2, 1], "for 1 / 4 / 32 on jit the build has opt [4, 1], and yours is [2, 1]"),
        ("01.opt-one", lambda build: opts(build)[0], "yours is 4."),
        ("01.patches", patches(49, 256), None),
        ("01.patches", patches(64, 256), "does not take 49"),
        ("01.patches", patches(49, 200), "does not take 256"),
        ("01.patches", expand_reshape(), "only batch varies"),
        ("01.patches", gated_norm(), "take an ExpandReshapeModel"),
        ("01.patches", patches(49, 256, batch=(2, 4, 32)), "1 images of 49 patches are refused"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged):
    judged(key, answer, said)


def test_a_function_that_pads_one_image_serves_every_batch(judged):
    assert list(judged("01.serve-one", pads).table["batch that the program saw"]) == ["4", "2", "32"]


def test_a_function_that_reads_the_opts_of_a_build_shows_that_nobody_gets_1(judged):
    table = judged("01.opt-one", opts).table
    table = table[table["asked for"] == "1 / 1 / 32"]
    assert dict(zip(table["path"], table["yours"], strict=True)) == {"jit": "[2, 1]", "input": "[2]", "export": "[2]"}
