"""Sizes that follow from others: a mask of ``past + 1``, row pointers of ``n + 1``, twice as many outputs."""

import pickle

import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, Case, DynamicDim, OutOfRange, ShapeError, TensorSpec, sweep
from tutorial_lib.builds import saving
from tutorial_lib.checks.range_check import Guard

PAST = DynamicDim("past", 1, 4, 7)


class Attention(nn.Module):
    """One new token over a cache: x [batch, 1, 8], cache [batch, past, 8], mask [batch, past + 1]."""

    def forward(self, x, cache, mask):
        keys = torch.cat([cache, x], 1)  # [batch, past + 1, 8]
        return nn.functional.scaled_dot_product_attention(x, keys, keys, attn_mask=mask[:, None, :])


class Rows(nn.Module):
    """x [n, 4] scaled by how far pointer [n + 1] goes at each row."""

    def forward(self, x, pointer):
        return x * (pointer[1:] - pointer[:-1])[:, None]


class Twice(nn.Module):
    """x [n, 4] and y [2 * n, 4]."""

    def forward(self, x, y):
        return x.repeat_interleave(2, 0) + y


def attention():
    batch = DynamicDim("batch", 2, 2, 4)  # from 1, jit would build twice as many engines
    mask = TensorSpec("mask", (batch, PAST + 1), torch.bool)
    return Case("kv", Attention(), (TensorSpec("x", (batch, 1, 8)), TensorSpec("cache", (batch, PAST, 8)), mask))


def rows():
    n = DynamicDim("n", 2, 6, 12)
    pointer = TensorSpec("pointer", (n + 1,), torch.int64, high=9)
    return Case("rows", Rows(), (TensorSpec("x", (n, 4)), pointer))


def twice():
    n = DynamicDim("n", 1, 6, 12)
    return Case("twice", Twice(), (TensorSpec("x", (n, 4)), TensorSpec("y", (2 * n, 4))))


@pytest.mark.parametrize("make", [attention, rows, twice])
def test_sizes_follow_on_every_path_from_min_to_max(make, path):
    case = make()
    program = PATHS[path](case, "eager")
    assert not program.build.not_checked
    name, dim = list(case.dims.items())[-1]
    result = sweep({path: program}, [{name: size} for size in (dim.min, dim.opt, dim.max)], min_seconds=0.001)
    assert result.agrees


@pytest.mark.parametrize(
    ("dim", "text", "sizes"),
    [
        (PAST + 1, "past + 1", (2, 5, 8)),
        (1 + PAST, "past + 1", (2, 5, 8)),
        (2 * PAST, "2 * past", (2, 8, 14)),
        (PAST * 3 - 1, "3 * past - 1", (2, 11, 20)),
        ((PAST + 1) * 2, "2 * past + 2", (4, 10, 16)),
    ],
)
def test_an_expression_keeps_its_base_and_has_the_sizes_that_follow(dim, text, sizes):
    assert (str(dim), dim.base, (dim.min, dim.opt, dim.max)) == (text, PAST, sizes)
    assert hash(dim) == hash(pickle.loads(pickle.dumps(dim)))
    spec = TensorSpec("x", (dim, 3))
    assert spec.shape_at({"past": 4}) == (sizes[1], 3)
    assert spec.input_args()["max_shape"] == (sizes[2], 3)


@pytest.mark.parametrize("make", [lambda: PAST - 1, lambda: 0 * PAST, lambda: PAST + 0.5, lambda: PAST * True])
def test_an_expression_that_gives_no_sizes_is_refused(make):
    with pytest.raises(ShapeError, match="past"):
        make()


def test_a_call_whose_sizes_do_not_belong_together_is_refused():
    check = Guard(twice().inputs, torch.device("cpu"))
    x = torch.zeros(4, 4)
    check((x, torch.zeros(8, 4)))
    for wrong in (7, 10):
        with pytest.raises(ShapeError, match=rf"y has size {wrong} .* give 8"):
            check((x, torch.zeros(wrong, 4)))
    with pytest.raises(OutOfRange, match="n is 13"):
        check((torch.zeros(13, 4), torch.zeros(26, 4)))


def test_a_base_that_no_input_has_is_found_from_what_follows_from_it():
    check = Guard((TensorSpec("y", (2 * PAST + 1,)),), torch.device("cpu"))
    check((torch.zeros(9),))
    with pytest.raises(ShapeError, match="no past gives that"):
        check((torch.zeros(8),))
    with pytest.raises(OutOfRange, match="past is 8"):
        check((torch.zeros(17),))


def test_another_range_moves_what_follows():
    _, cache, mask = attention().with_ranges(past=(2, 3, 20)).inputs
    assert (cache.shape[1].max, mask.shape[1].max) == (20, 21)


def test_a_file_keeps_the_expression(tmp_path):
    program = PATHS["export"](twice(), "eager")
    saving.save(program, tmp_path / "twice.dynpt")
    loaded = saving.load(tmp_path / "twice.dynpt")
    x, y = torch.randn(3, 4), torch.randn(6, 4)
    assert torch.equal(loaded(x, y), program(x, y))
    with pytest.raises(ShapeError, match="give 6"):
        loaded(x, torch.randn(5, 4))
