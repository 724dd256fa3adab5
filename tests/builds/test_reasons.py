"""What is said of models that cannot be built for their ranges, and what is built all the same."""

import contextlib
import dataclasses
import functools
import io
import itertools
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, BuildError, Case, DynamicDim, OptionError, Recompile, ShapeError, TensorSpec, perceptron
from tutorial_lib.builds import compat, saving
from tutorial_lib.checks.sizes_taken import explain_range

WIDTH = DynamicDim("width", 6, 18, 60)


class Computes(nn.Module):
    """The function `compute` as a model."""

    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, x):
        return self.compute(x)


def of(model, *specs):
    """A case of a model, or of a function of x, that takes x, x1, ... of these shapes."""
    inputs = tuple(TensorSpec(f"x{index or ''}", spec) for index, spec in enumerate(specs))
    return Case("model", model if isinstance(model, nn.Module) else Computes(model), inputs)


def refused(path, case, backend="eager"):
    with pytest.raises(BuildError) as caught:
        PATHS[path](case, backend)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def thirds(x):
    first, second, third = x.chunk(3, dim=-1)
    return first * second + third


def skip(x):
    """Half the size and back: the skip connection fits for even sizes only."""
    return x + nn.functional.avg_pool1d(x, 2).repeat_interleave(2, dim=-1)


def groups(x):
    return x.reshape(x.shape[0], x.shape[1] // 6, 6).sum(-1)


@pytest.mark.parametrize(("model", "step", "rank"), [(thirds, 3, 2), (skip, 2, 3), (groups, 6, 2)])
def test_a_model_that_takes_multiples_only_is_told_so_and_export_takes_the_step(path, model, step, rank):
    shape = (2, 3)[: rank - 1]
    message = refused(path, of(model, (*shape, WIDTH)))
    assert f"multiples of {step} in width" in message
    assert f"step={step}" in message
    in_steps = DynamicDim("width", 2 * step, 3 * step, 9 * step, step=step)
    assert PATHS["export"](of(model, (*shape, in_steps)), "eager").build.checked


@pytest.mark.parametrize("name", ["jit", "input"])
@pytest.mark.parametrize("model", [thirds, groups])
def test_paths_that_cannot_be_told_of_a_step_say_so(name, model):
    in_steps = DynamicDim("width", 12, 18, 60, step=6)
    assert "width is in steps of 6" in refused(name, of(model, (2, in_steps)))


@pytest.mark.parametrize("model", [nn.Linear(8, 4), nn.Sequential(nn.ReLU())])
def test_nothing_is_said_of_a_model_that_takes_every_size(model):
    assert explain_range(of(model, (DynamicDim("batch", 1, 4, 64), 8))) is None


def test_an_end_that_the_model_itself_does_not_take_is_named(path):
    reflect = functools.partial(nn.functional.pad, pad=(5, 5), mode="reflect")
    message = refused(path, of(reflect, (2, 3, DynamicDim("width", 3, 12, 40))))
    assert "model itself cannot run at width 3, the min of the range" in message


class Shifted(nn.Module):
    def forward(self, x, x1):
        return x * (x1[1:] - x1[:-1])


def test_sizes_that_belong_together_are_told_in_the_words_of_this_package(path):
    words = "follows from another" if path == "jit" else "write n + 1 for m"
    message = refused(path, of(Shifted(), (DynamicDim("n", 2, 6, 12),), (DynamicDim("m", 3, 7, 13),)))
    assert words in message
    assert "dynamic_shapes" not in message


@pytest.mark.parametrize("name", ["input", "export"])
def test_an_input_of_another_name_than_forwards_argument_is_told(name):
    case = Case("layer", nn.Linear(4, 2), (TensorSpec("x", (DynamicDim("batch", 1, 2, 4), 4)),))
    message = refused(name, case)
    assert "called x, and the arguments of the model's forward input" in message


class Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer(4, 6, batch_first=True)

    def forward(self, x):
        return self.layer(x)[0]


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_recurrent_layers_are_built_for_every_batch(path, layer):
    program = PATHS[path](of(Recurrent(layer), (DynamicDim("batch", 1, 3, 7), 5, 4)), "eager")
    assert not program.build.not_checked
    assert program(torch.randn(6, 5, 4)).shape == (6, 5, 6)


def test_steps_that_vary_are_told_as_what_they_are():
    message = refused("export", of(Recurrent(nn.GRU), (2, DynamicDim("steps", 2, 5, 9), 4)))
    assert "nn.GRU is unrolled step by step" in message


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]


@pytest.mark.parametrize("name", ["jit", "export"])
def test_packed_sequences_are_refused_with_what_to_do(name):
    batch = DynamicDim("batch", 1, 3, 7)
    lengths = TensorSpec("lengths", (batch,), torch.int64, high=5)
    examples = lambda sizes: (torch.randn(sizes["batch"], 5, 4), torch.randint(1, 6, (sizes["batch"],)))  # noqa: E731
    case = Case("packed", Packed(), (TensorSpec("x", (batch, 5, 4)), lengths), examples=examples)
    assert "padded batch" in refused(name, case)


def breaks_half_way(x):
    """A print cuts the graph in two, and nobody marks the tensor between the pieces."""
    y = x * 2
    print("half way")
    return (y + 1).relu()


def breaks_at_once(x):
    """Nothing is computed before the break, so there are no more graphs than without it."""
    print("begins")
    return (2 * x + 1).relu()


@pytest.mark.parametrize("compute", [breaks_half_way, breaks_at_once])
def test_what_a_program_with_a_graph_break_serves_does_not_depend_on_earlier_builds(compute):
    case = of(compute, (DynamicDim("batch", 1, 3, 9), 4))
    for _ in range(2):
        with contextlib.redirect_stdout(io.StringIO()):
            program = PATHS["jit"](case, "eager")
            for size in range(1, 10):
                (x,) = case.example(size)
                assert torch.equal(program(x), (2 * x + 1).relu())


def branch(x):
    return x * 2 if x.sum() > 0 else x - 1


def test_a_branch_that_no_call_of_the_build_took_is_told_with_what_to_do():
    turns = itertools.count()

    def both_ways(sizes):
        return (torch.ones(sizes["batch"], 4) * (-1) ** next(turns),)

    case = of(branch, (DynamicDim("batch", 1, 4, 20), 4))
    one_way = dataclasses.replace(case, examples=lambda sizes: (torch.ones(sizes["batch"], 4),))
    with pytest.raises(Recompile, match=r"no call of the build took, .*torch\.where, or give the Case examples"):
        PATHS["jit"](one_way, "eager")(-torch.ones(3, 4))
    program = PATHS["jit"](dataclasses.replace(case, examples=both_ways), "eager")
    for x in (torch.ones(3, 4), -torch.ones(7, 4)):
        assert torch.equal(program(x), branch(x))


SAYS = """
from torch import nn
from tutorial_lib import PATHS, BuildError, Case, DynamicDim, TensorSpec
class Model(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 12) if {path!r} == "jit" else x * 2 if x.sum() > 0 else x - 1
try:
    PATHS[{path!r}](Case("m", Model(), (TensorSpec("x", (DynamicDim("batch", 1, 3, 8), 4)),)), "eager")
except BuildError as error:
    print(*getattr(error.__cause__, "__notes__", ["nothing kept"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "said", "logs"),
    [
        ("jit", "Error while creating guard", None),
        ("jit", "Error while creating guard", "+dynamic"),
        ("export", "aten.gt.Scalar", None),
    ],
)
def test_what_torch_says_of_a_failed_build_is_kept_with_the_error_unless_its_logs_are_asked_for(path, said, logs):
    environment = {**os.environ, **({"TORCH_LOGS": logs} if logs else {})}
    command = [sys.executable, "-c", SAYS.format(path=path)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert (said in ran.stdout) == (logs is None)
    assert (said in ran.stderr) == (logs is not None)
    assert logs or not ran.stderr


class Column(nn.Module):
    def forward(self, x, place):
        return x[:, place]


def test_a_number_as_an_index_is_told_where_it_becomes_a_constant():
    batch = DynamicDim("batch", 1, 4, 20)
    place = TensorSpec("place", (), torch.int64, high=5)
    case = Case("column", Column(), (TensorSpec("x", (batch, 5, 3)), place))
    assert "makes a constant of the value of place" in refused("jit", case)
    if compat.TORCH < (2, 13):
        assert "values are not known" in refused("export", case)
        return
    program = PATHS["export"](case, "eager")
    x = torch.randn(7, 5, 3)
    for index in range(5):
        assert torch.equal(program(x, torch.tensor(index)), x[:, index])


@pytest.mark.slow
def test_a_number_as_an_index_is_told_where_the_backend_refuses_it():
    place = TensorSpec("place", (), torch.int64, high=5)
    case = Case("column", Column(), (TensorSpec("x", (DynamicDim("batch", 1, 4, 20), 5, 3)), place))
    assert "reads a number from a tensor" in refused("jit", case, "inductor")


class Routed(nn.Module):
    """A loop with a size in it that the data decide, which Dynamo leaves to Python as a whole."""

    def forward(self, x):
        result = torch.zeros_like(x)
        for index in range(2):
            mine = ((x[:, 0] > 0) == bool(index)).nonzero().squeeze(1)
            result = result.index_add(0, mine, x[mine])
        return result


def test_a_model_that_is_left_to_python_as_a_whole_is_refused_with_the_break():
    assert "values are not known while tracing" in refused("jit", of(Routed(), (DynamicDim("batch", 2, 4, 8), 3)))


def test_guards_are_told_with_the_names_of_the_dimensions(path):
    case = of(lambda x: x.topk(x.shape[1] // 2, dim=1), (2, DynamicDim("length", 2, 6, 20)))
    assert "(length // 2) <= length" in refused(path, case)


class Upsampled(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x):
        return self.mix(nn.functional.interpolate(x, scale_factor=2.5, mode="nearest"))


@pytest.mark.slow
@pytest.mark.skipif(compat.TORCH < (2, 13), reason="torch 2.11 freezes this model")
def test_where_freezing_fails_a_build_goes_without_and_says_so(inductor, monkeypatch):
    monkeypatch.setattr("tutorial_lib.builds.backends.inductor.packing_gain", lambda threads: 9.0)
    size = DynamicDim("size", 4, 8, 24)
    case = of(Upsampled(), (DynamicDim("batch", 1, 2, 4), 2, size, 8))
    program = PATHS["export"](case, "inductor")
    assert program.build.options["freezing"] is False
    assert any("freezing is off" in note for note in program.build.notes)


@pytest.mark.parametrize(
    ("call", "kind", "word"),
    [
        (lambda case, folder: PATHS["export"](case.model, "eager"), ShapeError, "give it a Case"),
        (lambda case, folder: PATHS["export"](case, "inductor", {"freezing": "yes"}), OptionError, "True or False"),
        (
            lambda case, folder: saving.save(PATHS["export"](case, "eager"), f"{folder}/a\0b"),
            saving.ArtefactError,
            "null",
        ),
        (lambda case, folder: saving.load(f"{folder}/a\0b"), saving.ArtefactError, "null"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(call, kind, word, tmp_path):
    case = perceptron(tokens=(1, 4, 8), width=16)
    with pytest.raises(kind, match=word) as caught:
        call(case, tmp_path)
    assert "\n" not in str(caught.value)
