"""Models that keep state are refused by name, and no build changes the model it is given."""

import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, BuildError, Case, DynamicDim, TensorSpec
from tutorial_lib.checks.agreement import NotRepeatable
from tutorial_lib.checks.state import WritesState, refuse_state, refuse_writes, unchanged


class Keeps(nn.Module):
    """A linear layer, plus what a function gives of the model, which holds state, and x."""

    def __init__(self, compute):
        super().__init__()
        self.compute = compute
        self.linear = nn.Linear(6, 6)
        self.register_buffer("seen", torch.zeros(6))
        self.register_buffer("spread", torch.ones(6))
        self.register_buffer("unused", torch.full((3,), torch.nan))
        self.plain = torch.zeros(6)
        self.calls = 0
        self.table = None

    def forward(self, x):
        return self.linear(x) + self.compute(self, x)


def adds_up(model, x):
    return model.seen.add_(1)


def writes_a_slice(model, x):
    model.seen[1:3] = x[0, :2]  # the same at every equal call
    return model.seen


def replaces(model, x):
    model.seen = model.seen + 1
    return model.seen


def trains_its_norm(model, x):
    return nn.functional.batch_norm(x, model.seen, model.spread, training=True)


def writes_a_plain_tensor(model, x):
    return model.plain.add_(1)


def counts(model, x):
    model.calls += 1
    return x * model.calls


def decays(model, x):
    return model.linear.weight.mul_(0.9).sum()


def counts_for_itself(model, x):
    model.calls += 1
    return x


def makes_its_table(model, x):
    if model.table is None:
        model.table = torch.ones(6)
    return model.table


def only_reads(model, x):
    return model.seen


IN_A_GRAPH = {
    adds_up: "buffer seen",
    writes_a_slice: "buffer seen",
    replaces: "buffer seen",
    trains_its_norm: "buffer seen",
    decays: "parameter linear.weight",
}
STATE = {**IN_A_GRAPH, writes_a_plain_tensor: "attribute plain", counts: "attribute calls"}


def case_of(compute, batch=(2, 4, 16)):
    return Case("keeper", Keeps(compute), (TensorSpec("x", (DynamicDim("batch", *batch), 6)),))


@pytest.mark.parametrize("compute", STATE)
def test_a_model_with_state_is_refused_by_the_name_of_what_it_writes(compute):
    case = case_of(compute)
    before = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    with pytest.raises(WritesState, match=f"keeper .* its {STATE[compute]},.* pass it in"):
        refuse_state(case.name, case.model, case.example())
    for name, tensor in case.model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)
    assert case.model.calls == 0


@pytest.mark.parametrize("compute", IN_A_GRAPH)
def test_the_graph_of_an_exported_model_tells_too(compute):
    case = case_of(compute)
    dims = {"x": {0: torch.export.Dim("batch", min=2, max=16)}}
    with torch.no_grad():
        exported = torch.export.export(case.model, case.example(), dynamic_shapes=dims)
    with pytest.raises(WritesState, match=STATE[compute]):
        refuse_writes(case.name, exported)


@pytest.mark.parametrize("compute", [counts_for_itself, makes_its_table, only_reads])
def test_what_no_result_depends_on_is_no_state(compute):
    case = case_of(compute)
    refuse_state(case.name, case.model, case.example())
    if compute is only_reads:
        with torch.no_grad():
            refuse_writes(case.name, torch.export.export(case.model, case.example()))


def at_one_row(model, x):
    return model.seen.add_(1) if x.shape[0] == 1 else model.seen


@pytest.mark.parametrize(("compute", "batch"), [(adds_up, (2, 4, 16)), (at_one_row, (1, 4, 16))])
def test_every_path_refuses_it_and_leaves_the_model_as_it_was(path, compute, batch):
    case = case_of(compute, batch)
    with pytest.raises(BuildError, match="writes into its buffer seen") as refused:
        PATHS[path](case, "eager")
    assert compute is at_one_row or refused.value.engines == ()
    assert not case.model.seen.any()


def test_what_was_written_is_put_back():
    model = Keeps(only_reads)
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
