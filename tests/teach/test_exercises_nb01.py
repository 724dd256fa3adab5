"""The exercises of notebook 1: right answers, and wrong ones with what is said to them."""

import pytest
import torch

from tutorial_lib import PATHS, Case, DynamicDim, ExpandReshapeModel, TensorSpec, expand_reshape, gated_norm
from tutorial_lib.teach import check
from tutorial_lib.teach.exercises.nb01 import REAL_OPTS


def said(key, answer):
    feedback = check(key, answer)
    assert not feedback.right
    return feedback.sentence


def test_a_range_from_2_has_one_engine_on_jit():
    assert check("01.one-engine", (2, 4, 32)).right
    assert "gives 2 engines" in said("01.one-engine", (1, 4, 32))
    assert "does not include batch 32" in said("01.one-engine", (2, 4, 31))


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


def test_the_opts_of_the_key_are_those_of_real_builds():
    asked = expand_reshape(batch=(1, 1, 32), embed_dim=24, tokens=3)
    engines = {path: build(asked, "eager").build.engines for path, build in PATHS.items()}
    assert {path: [each.data[0].opt[0] for each in built] for path, built in engines.items()} == REAL_OPTS
    assert check("01.opt-one", REAL_OPTS).right
    assert check("01.opt-one", {"jit": (2, 1), "input": 2, "export": [2]}).right


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"jit": [1, 1], "input": [2], "export": [2]}, "for jit, [1, 1]"),
        ({"jit": [2], "input": [2], "export": [2]}, "jit does not have 1 engine:"),
        ({"jit": [2, 1], "input": [2]}, "nothing about 'export'"),
        ({"jit": [2, 1], "input": "2", "export": [2]}, "for input, give a list"),
    ],
)
def test_the_first_wrong_opt_is_named(answer, sentence):
    assert sentence in said("01.opt-one", answer)


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
