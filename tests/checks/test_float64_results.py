"""A float64 reference is run once for a model and its inputs, and again as soon as either may be another one."""

import gc

import pytest
import torch
from cachetools import LRUCache
from torch import nn

from tutorial_lib import Case, DynamicDim, Reference, TensorSpec, paths, sweep
from tutorial_lib.checks import float64, float64_results


class Scaled(nn.Module):
    """A linear layer and a factor that is no tensor."""

    def __init__(self):
        super().__init__()
        self.linear, self.factor = nn.Linear(8, 6), 2.0
        self.register_buffer("shift", torch.zeros(6))

    def forward(self, x):
        return self.linear(x) * self.factor + self.shift


@pytest.fixture(autouse=True)
def results(monkeypatch):
    """An empty store."""
    monkeypatch.setattr(float64_results, "_results", LRUCache(float64_results.BYTES, getsizeof=float64_results._bytes))
    return lambda: float64_results._results


@pytest.fixture
def runs(monkeypatch):
    """The sizes of all runs in float64."""
    sizes, run = [], float64.run

    def counted(model, inputs):
        sizes.append(inputs[0].shape[0])
        return run(model, inputs)

    monkeypatch.setattr(float64, "run", counted)
    return sizes


@pytest.fixture
def case():
    torch.manual_seed(0)
    return Case("scaled", Scaled(), (TensorSpec("x", (DynamicDim("batch", 1, 3, 6), 8)),))


def double(case, inputs):
    reference = Reference(case)
    return reference.double_or_none(inputs, reference.eager(inputs))


def exact(case, x):
    """What the model gives in float64 now, without any of this package."""
    model = case.model
    weight, bias = model.linear.weight.double(), model.linear.bias.double()
    return (x.double() @ weight.T + bias) * model.factor + model.shift.double()


def test_one_run_serves_every_comparison_of_the_same_model_and_inputs(case, runs):
    first, again = double(case, case.example(4)), double(case, case.example(4))
    assert again is first
    wider = case.with_ranges(batch=(1, 4, 5))  # another setting of the same model
    assert double(wider, wider.example(4)) is first
    assert runs == [4]


CHANGES = {
    "a weight, by an optimizer": lambda model: model.linear.weight.add_(1e-3),
    "one weight, past PyTorch's counting": lambda model: model.linear.weight.data[2, 3].add_(1e-3),
    "a new parameter": lambda model: setattr(model.linear, "bias", nn.Parameter(model.linear.bias * 2)),
    "a buffer": lambda model: model.shift.fill_(0.5),
    "an attribute that is no tensor": lambda model: setattr(model, "factor", 3.0),
    "new weights in the same memory": lambda model: model.load_state_dict(Scaled().state_dict()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_was_changed_has_another_reference(change, case, runs):
    inputs = case.example(4)
    before = double(case, inputs)
    with torch.no_grad():
        CHANGES[change](case.model)
    after = double(case, inputs)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, exact(case, *inputs), rtol=1e-12, atol=1e-12)
    assert runs == [4, 4]


def test_a_change_that_eager_cannot_see_is_seen_by_the_count_of_writes(case, runs):
    inputs = (torch.zeros(4, 8),)
    double(case, inputs)
    with torch.no_grad():
        case.model.linear.weight.add_(1)
    double(case, inputs)
    assert runs == [4, 4]


def test_other_inputs_of_the_same_size_have_another_reference(case, runs):
    results = [double(case, case.example(4, seed=seed)) for seed in (0, 1, 0)]
    assert results[0] is results[2]
    assert not torch.equal(results[0], results[1])
    swapped = (case.example(4)[0].flip(0),)
    torch.testing.assert_close(double(case, swapped), exact(case, *swapped), rtol=1e-12, atol=1e-12)
    assert runs == [4, 4, 4]


def test_two_models_of_equal_weights_do_not_share(case, runs):
    double(case, case.example(4))
    copied = case.to("cpu")
    double(copied, copied.example(4))
    assert runs == [4, 4]


def test_the_oldest_results_go_when_the_memory_for_them_is_full_and_too_large_ones_are_not_kept(
    case, runs, results, monkeypatch
):
    row = 6 * 8  # bytes of a row of the result
    monkeypatch.setattr(float64_results, "BYTES", 8 * row)
    monkeypatch.setattr(float64_results, "_results", LRUCache(8 * row, getsizeof=float64_results._bytes))
    for size in (3, 4, 3, 5, 3):  # 4 goes for 5
        double(case, case.example(size))
    assert runs == [3, 4, 5]
    double(case, case.example(4))
    assert runs == [3, 4, 5, 4]
    assert results().currsize <= 8 * row
    double(case, case.example(9))
    assert results().currsize <= 8 * row


def test_results_of_a_model_that_is_gone_are_dropped(case, results):
    other = case.to("cpu")
    double(other, other.example(4))
    assert len(results()) == 1
    del other
    gc.collect()
    double(case, case.example(4))
    assert len(results()) == 1


def test_builds_and_sweeps_of_a_model_run_the_reference_once_for_each_size(case, runs):
    for ranges in ((1, 3, 6), (1, 4, 6)):
        ranged = case.with_ranges(batch=ranges)
        programs = {name: paths.PATHS[name](ranged, "eager") for name in ("input", "export")}
        assert sweep(programs, [1, 3, 6], min_samples=1, min_seconds=0).agrees
    assert sorted(runs) == [1, 3, 6]


def test_no_reference_runs_while_calls_are_timed(case, runs):
    program, stages = paths.export(case, "eager"), []
    sweep(
        {"export": program},
        [1, 6],
        min_samples=2,
        min_seconds=0,
        progress=lambda s: stages.append((s.stage, len(runs))),
    )
    measuring = {count for stage, count in stages if stage == "measuring"}
    assert measuring == {len(runs)}
    assert len(runs) >= 2
