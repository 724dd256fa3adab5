import pytest
from torch import nn

from tutorial_lib import Case, DynamicDim, TensorSpec
from tutorial_lib.checks.sizes_taken import explain_range


def kernel_of_five(low, step=1):
    width = DynamicDim("width", low, 16, 32, step=step)
    return Case("kernel of 5", nn.Conv1d(3, 4, 5), (TensorSpec("input", (2, 3, width)),))


@pytest.mark.parametrize(("low", "step", "nearest"), [(2, 1, 5), (4, 2, 6)])
def test_the_nearest_size_that_the_model_takes_is_told(low, step, nearest):
    explanation = explain_range(kernel_of_five(low, step))
    assert explanation.kind == "range"
    assert f"width {low}, the min" in explanation.cause
    assert f"min of {nearest}," in explanation.fix


class Skip(nn.Module):
    def forward(self, x, y):
        return x + y


def test_a_size_that_belongs_to_another_is_told_to_be_an_expression():
    inputs = (TensorSpec(name, (DynamicDim(f"length_of_{name}", 2, 8, 12),)) for name in ("x", "y"))
    assert "length_of_x + 1" in explain_range(Case("skip", Skip(), tuple(inputs))).fix


def test_a_model_whose_least_size_is_opt_is_told_that():
    width = DynamicDim("width", 2, 5, 32)
    case = Case("kernel of 5", nn.Conv1d(3, 4, 5), (TensorSpec("input", (DynamicDim("batch", 1, 2, 4), 3, width)),))
    assert "min of 5," in explain_range(case).fix
