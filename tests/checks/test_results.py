"""What models return: every kind of number and container is compared as what it is, or named in a sentence."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, BuildError, Case, DynamicDim, Reference, TensorSpec, paths, sweep
from tutorial_lib.checks.agreement import apart, compare, surely_agrees
from tutorial_lib.checks.results import UncomparableResult, check_form, leaves


class Boxes(NamedTuple):
    corners: torch.Tensor
    count: int


@dataclass
class Scores:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...] | None = None


class Anything:
    pass


def test_every_container_is_taken_apart_with_the_place_of_each_part():
    a, b, c = (torch.full((2,), float(i)) for i in range(3))
    value = (Boxes(a, 3), [Scores(b, (c,))], OrderedDict(z=None, y=True))
    assert [place for place, _ in leaves(value)] == [
        "[0].corners",
        "[0].count",
        "[1][0].logits",
        "[1][0].hidden[0]",
        "[2]['y']",
        "[2]['z']",
    ]


def test_a_class_of_ones_own_is_named_with_its_place():
    with pytest.raises(UncomparableResult, match=r"result\['box'\] is a Anything"):
        leaves({"box": Anything()})


def test_another_kind_than_eagers_is_named():
    tensor = torch.ones(2)
    check_form((tensor, 4), (tensor, 5))
    for given, expected, told in [
        ((tensor, torch.tensor(4)), (tensor, 4), r"result\[1\] is a tensor of whole numbers, .* a Python int"),
        ((tensor,), (tensor, tensor), r"no \[1\]"),
        (tensor > 0, tensor, "booleans"),
        (tensor, tensor.to(torch.complex64), "complex"),
        ((tensor, 1), (tensor,), r"has \[1\]"),
    ]:
        with pytest.raises(UncomparableResult, match=told):
            check_form(given, expected)


def test_whole_numbers_have_to_be_equal_also_beyond_those_of_float64():
    tensor = torch.ones(2)
    assert compare((tensor, 4), (tensor, 4), (tensor.double(), 4)).agrees
    assert not compare((tensor, 5), (tensor, 4), (tensor.double(), 4)).agrees
    eager = torch.tensor([2**60, 7])
    assert compare(eager.clone(), eager, eager).agrees
    assert not compare(eager + torch.tensor([1, 0]), eager, eager).agrees


def test_an_index_may_be_eagers_or_that_of_float64_and_no_other():
    eager, exact = torch.tensor([3, 1, 2]), torch.tensor([3, 1, 0])
    for output, agrees in (([3, 1, 2], True), ([3, 1, 0], True), ([3, 1, 1], False), ([2, 1, 2], False)):
        assert compare(torch.tensor(output), eager, exact).agrees == agrees


def test_the_imaginary_part_counts():
    true = torch.randn(3, 4, dtype=torch.complex128)
    eager = true.to(torch.complex64)
    assert compare(eager, eager, true).agrees
    wrong = eager.clone()
    wrong[1, 2] += 0.5j
    found = compare(wrong, eager, true)
    assert not found.agrees
    assert found.worst_index == (1, 2)
    assert found.max_abs == pytest.approx(0.5, rel=1e-5)
    assert not compare(eager.conj(), eager, true).agrees
    assert apart(wrong, eager) == pytest.approx((0.25 / 24) ** 0.5, rel=1e-5)
    assert not surely_agrees(eager.conj(), eager)
    with pytest.raises(ValueError, match="complex64"):
        compare(eager.real, eager, true)


def test_a_models_own_nan_and_infinity_agree_at_the_same_places_only():
    true = torch.tensor([1.0, -math.inf, math.nan, 2.0, 3.0], dtype=torch.float64)
    eager = true.float()
    assert compare(eager.clone(), eager, true).agrees
    assert surely_agrees(eager.clone(), eager)
    assert apart(eager.clone(), eager) == 0
    for place, value in ((0, math.nan), (1, 0.0), (1, math.inf), (2, 1.0), (3, 2.01), (4, -math.inf)):
        output = eager.clone()
        output[place] = value
        assert not compare(output, eager, true).agrees
        assert not surely_agrees(output, eager)


def test_a_mask_of_the_lowest_number_does_not_hide_an_error():
    true = torch.tensor([1.0, 2.0, torch.finfo(torch.float64).min], dtype=torch.float64)
    eager = torch.tensor([1.0, 2.0, torch.finfo(torch.float32).min])
    assert compare(eager.clone(), eager, true).agrees
    assert not compare(eager * torch.tensor([1.01, 1, 1]), eager, true).agrees


def test_what_surely_agrees_does_agree():
    true = torch.randn(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    eager = true.float()
    noise = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    sure = [step for step in (0.5, 1, 2, 4, 8, 64) if surely_agrees(eager + noise * step * 6e-8, eager)]
    assert sure
    assert 64 not in sure
    assert all(compare(eager + noise * step * 6e-8, eager, true).agrees for step in sure)


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        y = self.linear(x)
        return {"logits": y.masked_fill(y < -1, -math.inf), "keep": y > 0, "best": y.argmax(-1), "rows": x.shape[0]}


def test_masks_indices_and_sizes_beside_floats_are_compared(path):
    case = Case("detector", Detector(), (TensorSpec("x", (DynamicDim("batch", 1, 3, 8), 6)),))
    program = PATHS[path](case, "eager")
    (x,) = case.example(5)
    assert type(program(x)["rows"]) is int
    result = sweep({path: program}, [1, 5], min_samples=1, min_seconds=0.0)
    assert result.agrees


@pytest.mark.slow
def test_code_of_inductor_gives_sizes_back_as_python_ints_also_after_loading(inductor, tmp_path):
    from tutorial_lib.builds import saving

    case = Case("detector", Detector(), (TensorSpec("x", (DynamicDim("batch", 2, 3, 8), 6)),))
    program = paths.export(case, inductor)
    saving.save(program, tmp_path / "detector.dynpt")
    (x,) = case.example(5)
    for each in (program, saving.load(tmp_path / "detector.dynpt")):
        rows = each(x)["rows"]
        assert type(rows) is int
        assert rows == 5


def test_a_dataclass_is_compared_just_in_time():
    class Head(nn.Module):
        def forward(self, x):
            return Scores(x.exp(), (x * 2,))

    case = Case("head", Head(), (TensorSpec("x", (DynamicDim("batch", 2, 3, 8), 6)),))
    inputs, reference = case.example(), Reference(case)
    scores = PATHS["jit"](case, "eager")(*inputs)
    assert isinstance(scores, Scores)
    assert reference.compare(scores, inputs).agrees
    assert not reference.compare(Scores(scores.logits + 1, scores.hidden), inputs).agrees


def test_a_result_that_cannot_be_compared_is_one_sentence_at_the_build():
    class Wraps(nn.Module):
        def forward(self, x):
            box = Anything()
            box.x = x + 1
            return box

    case = Case("wraps", Wraps(), (TensorSpec("x", (DynamicDim("batch", 2, 3, 8), 6)),))
    with pytest.raises(BuildError, match=r"^the result is a Anything, which cannot be compared"):
        PATHS["jit"](case, "eager")
