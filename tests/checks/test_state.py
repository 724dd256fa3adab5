"""Models that keep state are refused by name, and no build changes the model it is given."""

import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, BuildError, Case, DynamicDim, TensorSpec
from tutorial_lib.checks.agreement import NotRepeatable
from tutorial_lib.checks.state import WritesState, refuse_state, refuse_writes, unchanged


class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("seen", torch.zeros(6))
        self.register_buffer("spread", torch.ones(6))
        self.plain = torch.zeros(6)
        self.calls = 0
        self.table = None


class AddsUp(Keeps):
    def forward(self, x):
        self.seen += 1
        return self.linear(x) + self.seen


class WritesASlice(Keeps):
    def forward(self, x):
        self.seen[1:3] = x[0, :2]  # the same at every equal call
        return self.linear(x) + self.seen


class Replaces(Keeps):
    def forward(self, x):
        self.seen = self.seen + 1
        return self.linear(x) + self.seen


class TrainsItsNorm(Keeps):
    def forward(self, x):
        return nn.functional.batch_norm(self.linear(x), self.seen, self.spread, training=True)


class PlainTensor(Keeps):
    def forward(self, x):
        self.plain.add_(1)
        return self.linear(x) + self.plain


class Counts(Keeps):
    def forward(self, x):
        self.calls += 1
        return self.linear(x) * self.calls


class Decays(Keeps):
    def forward(self, x):
        self.linear.weight.mul_(0.9)
        return self.linear(x)


STATE = {
    AddsUp: "buffer seen",
    WritesASlice: "buffer seen",
    Replaces: "buffer seen",
    TrainsItsNorm: "buffer seen",
    PlainTensor: "attribute plain",
    Counts: "attribute calls",
    Decays: "parameter linear.weight",
}


class CountsForItself(Keeps):
    def forward(self, x):
        self.calls += 1
        return self.linear(x)


class MakesItsTable(Keeps):
    def forward(self, x):
        if self.table is None:
            self.table = torch.ones(6)
        return self.linear(x) + self.table


class OnlyReads(Keeps):
    def __init__(self):
        super().__init__()
        self.register_buffer("unused", torch.full((3,), torch.nan))

    def forward(self, x):
        return self.linear(x) + self.seen


def case_of(model_class):
    return Case("keeper", model_class(), (TensorSpec("x", (DynamicDim("batch", 2, 4, 16), 6)),))


@pytest.mark.parametrize("model_class", STATE)
def test_a_model_with_state_is_refused_by_the_name_of_what_it_writes(model_class):
    case = case_of(model_class)
    before = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    with pytest.raises(WritesState, match=f"keeper .* its {STATE[model_class]},.* pass it in"):
        refuse_state(case.name, case.model, case.example())
    assert all(torch.equal(before[name], tensor) for name, tensor in case.model.state_dict().items())
    assert case.model.calls == 0


@pytest.mark.parametrize("model_class", [AddsUp, WritesASlice, Replaces, TrainsItsNorm, Decays])
def test_the_graph_of_an_exported_model_tells_too(model_class):
    case = case_of(model_class)
    dims = {"x": {0: torch.export.Dim("batch", min=2, max=16)}}
    with torch.no_grad():
        exported = torch.export.export(case.model, case.example(), dynamic_shapes=dims)
    with pytest.raises(WritesState, match=STATE[model_class]):
        refuse_writes(case.name, exported)


@pytest.mark.parametrize("model_class", [CountsForItself, MakesItsTable, OnlyReads])
def test_what_no_result_depends_on_is_no_state(model_class):
    case = case_of(model_class)
    refuse_state(case.name, case.model, case.example())
    with torch.no_grad():
        exported = torch.export.export(OnlyReads().eval(), case.example())
    refuse_writes(case.name, exported)


@pytest.mark.parametrize("model_class", [AddsUp, TrainsItsNorm])
def test_every_path_refuses_it_before_anything_is_built(path, model_class):
    case = case_of(model_class)
    with pytest.raises(BuildError, match="writes into its buffer seen") as refused:
        PATHS[path](case, "eager")
    assert refused.value.engines == ()
    assert not case.model.seen.any()


def test_a_build_leaves_the_model_as_it_was(path):
    class AtOneRow(Keeps):
        def forward(self, x):
            if x.shape[0] == 1:
                self.seen.add_(1)
            return self.linear(x) + self.seen

    case = Case("at one row", AtOneRow(), (TensorSpec("x", (DynamicDim("batch", 1, 4, 16), 6)),))
    with pytest.raises(BuildError, match="writes into its buffer seen"):
        PATHS[path](case, "eager")
    assert not case.model.seen.any()


def test_what_was_written_is_put_back():
    model = OnlyReads()
    with pytest.raises(WritesState, match="buffer seen at some sizes"), unchanged("m", model):
        model.seen.add_(3)
    assert not model.seen.any()
    with unchanged("m", model), torch.no_grad():
        model(torch.zeros(2, 6))


@pytest.mark.parametrize("random", [torch.rand_like, nn.functional.dropout])
def test_a_model_that_is_random_is_refused_before_anything_is_built(random):
    class Random(nn.Module):
        def forward(self, x):
            return x + random(x)

    inputs = (torch.ones(4, 8),)
    with pytest.raises(NotRepeatable, match="another result each time"):
        refuse_state("random", Random(), inputs)

    class DrawsForNothing(nn.Module):
        def forward(self, x):
            random(x)
            return x

    refuse_state("draws", DrawsForNothing(), inputs)
