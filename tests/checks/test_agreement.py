import math

import pytest
import torch
from torch import nn

from tutorial_lib import Case, DynamicDim, Reference, TensorSpec
from tutorial_lib.builds.backends import as_device
from tutorial_lib.checks.agreement import TOLERATED, NotRepeatable, apart, compare, row_spread, tolerated


@pytest.fixture(scope="module")
def reference(seed):
    return Reference(seed)


@pytest.fixture
def inputs(seed):
    return seed.example(4)


def test_eager_agrees_with_itself_at_a_ratio_of_one_beside_the_same_model_in_float64(reference, inputs):
    eager, true = reference.eager(inputs), reference.double(inputs)
    assert true.dtype == torch.float64
    assert next(reference.case.model.parameters()).dtype == torch.float32
    assert 0 < float((eager - true).norm() / true.norm()) < 1e-6
    found = reference.compare(eager, inputs)
    assert found.agrees
    assert found.ratio == pytest.approx(1)
    assert found.tolerance_abs == found.tolerance_rel == 0


def test_the_order_in_which_float32_is_summed_makes_no_difference(reference, seed, inputs):
    # the same product, its columns in another order: as a correct compiler may do it
    model, (x,) = seed.model, inputs
    order = torch.randperm(48, generator=torch.Generator().manual_seed(0)).to(seed.device)
    with torch.no_grad():
        tokens = torch.cat([model.cls_token.expand(4, -1, -1), x], dim=1)
        parts = [tokens[..., i] @ model.qkv_proj.weight[:, i].T for i in order.split(7)]
        output = (sum(parts) + model.qkv_proj.bias).reshape(4, 8, 3, 12, 4)
    found = reference.compare(output, inputs)
    assert found.tolerance_abs > 0
    assert found.agrees


@pytest.mark.parametrize("size", [1e-3, 1])
def test_one_wrong_element_is_found_and_pointed_to(reference, inputs, size):
    output = reference.eager(inputs).clone()
    place = (3, 7, 2, 11, 1)
    output[place] += size
    found = reference.compare(output, inputs)
    assert not found.agrees
    assert found.worst_index == place
    assert found.worst_value == float(output[place])
    assert found.worst_reference == pytest.approx(float(reference.double(inputs)[place]))
    assert found.max_abs == pytest.approx(size, rel=0.1)
    assert found.tolerance_abs == pytest.approx(size, rel=0.1)


def test_the_worst_element_of_a_large_output_is_pointed_to():
    true = torch.randn(500, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    eager = true.float()
    for place in [(0, 0), (131, 71), (131, 72), (131, 73), (499, 999)]:  # 131_072 elements are compared at a time
        output = eager.clone()
        output[place] += 1
        found = compare(output, eager, true)
        assert found.worst_index == place
        assert found.max_abs == pytest.approx(1, rel=1e-5)
        assert not found.agrees


def test_figures_are_those_of_the_definitions():
    true = torch.tensor([1.0, -2.0, 0.0, 4.0], dtype=torch.float64)
    eager = torch.tensor([1.5, -2.0, 0.0, 4.0])
    output = torch.tensor([1.0, -3.0, 0.5, 4.0])
    found = compare(output, eager, true)
    assert (found.max_abs, found.mean_abs) == (1.0, 1.5 / 4)
    assert (found.max_rel, found.mean_rel) == (0.5, 0.5 / 3)  # the zero is left out
    assert found.rms == pytest.approx((1.25 / 4) ** 0.5)
    assert found.floor_rms == pytest.approx(0.25)
    assert (found.tolerance_abs, found.tolerance_rel) == (1.0, math.inf)
    assert found.worst_index == (1,)


def test_the_verdict_turns_at_the_tolerated_ratio():
    true = torch.zeros(1000, dtype=torch.float64)
    eager = torch.full((1000,), 1e-3)
    assert TOLERATED < tolerated(1000) < 1.1 * TOLERATED
    assert compare(eager * tolerated(1000) * 0.999, eager, true).agrees
    assert not compare(eager * tolerated(1000) * 1.001, eager, true).agrees


@pytest.mark.parametrize("numbers", [2, 12])
def test_few_numbers_do_not_differ_by_chance(numbers):
    draw = torch.Generator().manual_seed(0)
    true = torch.zeros(numbers, dtype=torch.float64)
    verdicts = [
        compare(torch.randn(numbers, generator=draw), torch.randn(numbers, generator=draw), true).agrees
        for _ in range(300)
    ]
    assert sum(verdicts) >= 298
    assert not compare(torch.full((numbers,), 100.0), torch.randn(numbers, generator=draw), true).agrees


@pytest.mark.parametrize("keep_dtype", [False, True])
def test_bfloat16_does_not_pass_for_float32(reference, seed, inputs, keep_dtype):
    (x,) = inputs
    with torch.no_grad(), torch.autocast(seed.device.type, torch.bfloat16):
        output = seed.model(x)
    assert output.dtype == torch.bfloat16
    found = reference.compare(output if keep_dtype else output.float(), inputs)
    assert found.ratio > 100 * TOLERATED
    assert not found.agrees


def test_bfloat16_passes_for_bfloat16(seed):
    case = Case("half", nn.Linear(48, 48), (TensorSpec("input", (DynamicDim("batch", 1, 4, 8), 48), torch.bfloat16),))
    case.model.bfloat16().to(seed.device)
    inputs = case.example()
    reference = Reference(case)
    with torch.no_grad():
        rounded_elsewhere = nn.functional.linear(
            inputs[0].float(), case.model.weight.float(), case.model.bias.float()
        ).bfloat16()
    assert reference.compare(rounded_elsewhere, inputs).agrees
    assert not reference.compare(rounded_elsewhere * 1.1, inputs).agrees


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_what_is_not_finite_differs(reference, inputs, bad):
    output = reference.eager(inputs).clone()
    output[1, 2, 0, 3, 1] = bad
    found = reference.compare(output, inputs)
    assert not found.finite
    assert not found.agrees
    assert found.worst_index == (1, 2, 0, 3, 1)
    assert not found.tolerance_abs < 1e300  # no tolerance makes it pass
    assert not found.max_abs < 1e300
    assert "not finite" in str(found)


def test_where_eager_is_exact_the_rounding_of_the_dtype_is_allowed_and_nothing_beside_zeros():
    true = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    eager, zeros = true.float(), torch.zeros(4)
    one_ulp = torch.nextafter(eager, torch.full_like(eager, math.inf))
    assert compare(eager, eager, true).agrees
    assert compare(one_ulp, eager, true).agrees
    assert not compare(eager * (1 + 1e-5), eager, true).agrees
    assert compare(zeros, zeros, zeros.double()).agrees
    assert not compare(zeros + 1e-30, zeros, zeros.double()).agrees


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_whole_numbers_have_to_be_equal(dtype):
    eager = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    assert compare(eager.clone(), eager, eager.clone()).agrees
    output = eager.clone()
    output[1, 1] = 1
    found = compare(output, eager, eager)
    assert not found.agrees
    assert found.worst_index == (1, 1)
    assert found.max_abs == 1


def test_every_tensor_of_a_nested_output_is_judged():
    true = torch.randn(3, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    first, second = (t.float() for t in true)
    wrong = torch.arange(5) == 2
    assert compare((first, {"scores": second}), (first, {"scores": second}), true).agrees
    found = compare((first, {"scores": second + wrong}), (first, {"scores": second}), true)
    assert (found.agrees, found.worst_index) == (False, (2,))
    found = compare((first + wrong[:4], {"scores": second}), (first, {"scores": second}), true)
    assert (found.agrees, found.worst_index[1]) == (False, 2)


def test_a_small_tensor_that_is_wrong_is_not_hidden_by_a_large_one_that_is_right():
    large = 1e6 * torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    small = torch.tensor([1e-6, 2e-6], dtype=torch.float64)
    eager = large.float(), small.float()
    found = compare((eager[0], eager[1] * 2), eager, (large, small))
    assert not found.agrees
    assert found.worst_index == (1,)
    assert compare(eager, eager, (large, small)).max_abs > found.max_abs  # though its error is smaller


def test_a_tensor_that_is_not_finite_is_the_worst_of_an_output():
    true = torch.ones(4, dtype=torch.float64)
    wrong, broken = torch.full((4,), 1e9), torch.tensor([1.0, 1.0, 1.0, math.nan])
    for output in ((wrong, broken), (broken, wrong)):
        assert not compare(output, (true.float(),) * 2, (true,) * 2).finite


def test_outputs_of_another_shape_are_refused_with_both_shapes(reference, inputs):
    output = reference.eager(inputs)
    with pytest.raises(ValueError, match=r"\(3, 8, 3, 12, 4\).*\(4, 8, 3, 12, 4\)"):
        reference.compare(output[:3], inputs)
    for results in (((output, output), output, output), (None, None, None)):
        with pytest.raises(ValueError, match="cannot be compared"):
            compare(*results)


def test_the_minimum_required_tolerance_is_required_and_enough(reference, inputs):
    eager = reference.eager(inputs)
    noise = torch.randn(eager.shape, generator=torch.Generator().manual_seed(1)).to(eager.device)
    output = eager + 1e-4 * noise
    found = reference.compare(output, inputs)
    error, magnitude = (output.double() - eager.double()).abs(), eager.double().abs()
    assert bool((error <= found.tolerance_abs).all())
    assert not bool((error <= 0.99 * found.tolerance_abs).all())
    assert bool((error <= found.tolerance_rel * magnitude * (1 + 1e-12)).all())
    assert not bool((error <= 0.99 * found.tolerance_rel * magnitude).all())


@pytest.mark.parametrize("range_", [(1, 4, 8), (4, 4, 4)])
def test_a_program_that_treats_rows_differently_has_a_row_spread(seed, masked, range_):
    case = seed.with_ranges(batch=range_)

    def last_row_is_off(x):
        output = case.model(x).clone()
        output[-1] += 0.25
        return output

    assert row_spread(last_row_is_off, case, case.sizes(4)) == pytest.approx(0.25, abs=1e-3)
    assert row_spread(case.model, case, case.sizes(4)) < 1e-5
    assert row_spread(masked.model, masked, masked.sizes(4)) < 1e-5  # both of whose inputs have rows


def test_a_single_row_or_an_output_without_rows_has_no_row_spread(seed):
    assert row_spread(seed.model, seed, seed.sizes(1)) is None
    assert row_spread(lambda x: x.sum(), seed, seed.sizes(4)) is None
    fixed = Case("fixed", nn.Linear(4, 4), (TensorSpec("input", (2, 4)),))
    assert row_spread(fixed.model, fixed, {}) is None


def test_the_record_says_rule_and_verdict(reference, inputs):
    found = reference.compare(reference.eager(inputs) * 1.01, inputs)
    record = found.to_dict()
    assert record["agrees"] is False
    assert record["ratio"] == found.ratio > record["tolerated"] == found.tolerated
    assert f"{found.tolerated:.2g} x" in record["rule"]
    assert str(found).startswith("DIFFERS")


def test_two_outputs_are_as_far_apart_as_their_root_mean_square_difference():
    assert apart(torch.zeros(2), torch.tensor([3.0, 4.0])) == pytest.approx((25 / 2) ** 0.5)
    assert apart((torch.ones(2), torch.zeros(2)), (torch.ones(2), torch.ones(2))) == 1


class Writes(nn.Module):
    def forward(self, x):
        x *= 2
        return x + 1


class Random(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


class AsManyAsItLikes(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x[: self.calls]


class InAnotherOrder(nn.Module):
    """A sum whose order changes with every call, as atomic additions on a GPU do."""

    def forward(self, x):
        return x[:, torch.randperm(x.shape[1], device=x.device)].cumsum(1)[:, -1]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (Writes(), "writes into its input x, .*clone it first"),
        (Random(), "gives another result each time .*training=self.training"),
        (AsManyAsItLikes(), "gives another result each time"),
    ],
    ids=["writes", "random", "another size"],
)
def test_a_model_whose_calls_cannot_be_compared_is_refused(model, sentence):
    case = Case("odd", model, (TensorSpec("x", (DynamicDim("batch", 1, 4, 8), 64)),)).to(as_device())
    inputs = case.example()
    before = inputs[0].clone()
    with pytest.raises(NotRepeatable, match=f"^odd {sentence}"):
        Reference(case).check_repeatable(inputs)
    assert torch.equal(inputs[0], before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_another_order_of_a_sum_is_no_other_result(precision):
    case = Case("sum", InAnotherOrder(), (TensorSpec("x", (DynamicDim("batch", 1, 4, 8), 4096)),)).to(as_device())
    case = case.in_precision(precision)
    Reference(case).check_repeatable(case.example())
