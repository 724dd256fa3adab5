"""The exercises of notebook 1: right answers, and wrong ones with what is said to them."""

import pytest
import torch

from tutorial_lib import PATHS, Case, DynamicDim, ExpandReshapeModel, TensorSpec, expand_reshape, gated_norm
from tutorial_lib.teach import check


def said(key, answer):
    feedback = check(key, answer)
    assert not feedback.right
    return feedback.sentence


def marked(axis=0, **bounds):
    def my_jit(model, x, backend):
        torch._dynamo.mark_dynamic(x, axis, **bounds)
        return torch.compile(model, backend=backend)

    return my_jit


def test_a_marked_batch_is_answered_by_one_graph_for_the_whole_range():
    feedback = check("01.mark", marked(min=2, max=32))
    assert feedback.right
    assert list(feedback.table["batch"]) == [4, 8, 2, 32, 33, 1]
    assert list(feedback.table["graphs so far"]) == [1, 1, 1, 1, 2, 3]
    assert "2/4/32" in feedback.table["the graph that answered"][0]


@pytest.mark.parametrize(
    ("my_jit", "sentence"),
    [
        (lambda model, x, backend: torch.compile(model, backend=backend), "batch 8 compiled another graph, because"),
        (marked(1), "the first is for a batch of 4 alone"),
        (marked(min=4, max=32), "batch 2 compiled another graph, because the first is for batches from 4 to 32"),
        (marked(min=2, max=16), "batch 32 compiled another graph"),
        (marked(min=2, max=64), "goes on to 64"),
        (marked(), "it takes 33 as well"),
        (lambda model, x, backend: torch.compile(model, backend=backend, dynamic=True), "it takes 33 as well"),
        (lambda model, x, backend: model, "nothing was compiled"),
        (lambda model, x, backend: torch.compile(lambda x: model(x) + 1, backend=backend), "not the model's"),
        (lambda model, x, backend: lambda x: x, "comes back a tensor (4, 3, 24)"),
        (lambda model, x, backend: lambda x: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda model, x, backend: ..., "still returns `...`"),
        (lambda model, x, backend: 3, "returns a int"),
        (lambda model: model, "raised TypeError"),
    ],
)
def test_a_batch_that_is_marked_otherwise_is_told_what_was_compiled(my_jit, sentence):
    assert sentence in said("01.mark", my_jit)


def test_the_exercise_does_not_take_the_graphs_of_the_notebooks_model():
    case = expand_reshape(batch=(2, 4, 32), embed_dim=24, tokens=3)
    program = PATHS["jit"](case, "eager")
    assert check("01.mark", marked(min=2, max=32)).right
    program(*case.example(8))
    assert len(program.build.engines) == 1


def test_a_function_that_pads_one_image_serves_every_batch():
    def serve(program, x):
        return program(x) if x.shape[0] > 1 else program(torch.cat([x, torch.zeros_like(x)]))[:1]

    feedback = check("01.serve-one", serve)
    assert feedback.right
    assert list(feedback.table["batch that the program saw"]) == ["4", "2", "32"]


@pytest.mark.parametrize(
    ("serve", "sentence"),
    [
        (lambda program, x: program(x), "with 1 images raised OutOfRange"),
        (lambda program, x: program(torch.cat([x, x]))[: len(x)], "you padded them nevertheless"),
        (lambda program, x: program(x) if len(x) > 1 else program(torch.cat([x, x])), r"(1, 4, 3, 12, 2) should come"),
        (lambda program, x: program(x) if len(x) > 1 else program(torch.zeros(2, *x.shape[1:]))[:1], "not the model's"),
        (lambda program, x: program(x) * 0, "not the model's"),
        (lambda program, x: None, "returns a NoneType"),
        (lambda x: x, "raised TypeError"),
    ],
)
def test_a_function_that_serves_wrongly_is_told_where(serve, sentence):
    assert sentence in said("01.serve-one", serve)


def opts(build):
    return [engine.data[0].opt[0] for engine in build.engines]


def test_a_function_that_reads_the_opts_of_a_build_shows_that_nobody_gets_1():
    feedback = check("01.opt-one", opts)
    assert feedback.right
    table = feedback.table[feedback.table["asked for"] == "1 / 1 / 32"]
    assert dict(zip(table["path"], table["yours"], strict=True)) == {"jit": "[2, 1]", "input": "[2]", "export": "[2]"}
    assert check("01.opt-one", lambda build: tuple(opts(build))).right


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        (lambda build: [2, 1], "for 1 / 4 / 32 on jit the build has opt [4, 1], and yours is [2, 1]"),
        (lambda build: opts(build)[0], "yours is 4."),
        (lambda build: [engine.data[0].opt for engine in build.engines], "yours is [(4, 3, 24), (1, 3, 24)]"),
        (lambda build: [engine.data[0].min[0] for engine in build.engines], "yours is [2, 1]"),
        (lambda build: build.opt, "raised AttributeError"),
        (lambda build: None, "yours is None"),
    ],
)
def test_a_function_that_reads_something_else_is_told_for_which_build(read, sentence):
    assert sentence in said("01.opt-one", read)


def patches(low, high, batch=(1, 4, 32), width=24, model=None):
    dims = DynamicDim("batch", *batch), DynamicDim("patches", low, 196, high)
    return Case("any patches", model or ExpandReshapeModel(width), (TensorSpec("x", (*dims, width)),))


def test_a_case_with_dynamic_patches_takes_images_of_any_size():
    assert check("01.patches", patches(49, 256)).right
    assert "does not take 49" in said("01.patches", patches(64, 256))
    assert "does not take 256" in said("01.patches", patches(49, 200))
    assert "only batch varies" in said("01.patches", expand_reshape())
    assert "take an ExpandReshapeModel" in said("01.patches", gated_norm())
    assert "1 images of 49 patches are refused" in said("01.patches", patches(49, 256, batch=(2, 4, 32)))
