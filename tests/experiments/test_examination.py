import pytest
import torch
from torch import nn

from tutorial_lib import Case, DynamicDim, TensorSpec, examine
from tutorial_lib.cli.commands import main


class Mean(nn.Module):
    """x [batch, 4] -> [batch], each row by itself."""

    def forward(self, x):
        return x.mean(1)


class Mixed(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Random(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


class Writes(nn.Module):
    def forward(self, x):
        x -= 1
        return x * 2


class Stays(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.weights = torch.ones(4)

    def forward(self, x):
        return self.layer(x) * self.weights


class Decides(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum(1)[0] > 0 else x - 1


class Several(nn.Module):
    """A dict with a number in it, and a result that has no rows."""

    def forward(self, x):
        return {"rows": x * 2, "size": x.shape[0], "all": x.sum()}


def case_of(model):
    return Case(type(model).__name__.lower(), model, (TensorSpec("x", (DynamicDim("batch", 1, 3, 6), 4)),))


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (Mixed(), "a row depends on the other rows of its batch"),
        (Random(), "two calls with the same inputs differ"),
        (Writes(), "it writes into its input"),
        (Stays(), "part of it stays behind when it moves to another device"),
        (Decides(), "export refuses it (data-dependent)"),
    ],
)
def test_a_problem_is_found(model, problem):
    examination = examine(case_of(model))
    assert problem in examination.problems
    assert problem in str(examination)


@pytest.mark.parametrize("model", [Mean(), Several()])
def test_nothing_is_found_where_nothing_is_wrong(model):
    examination = examine(case_of(model))
    assert examination.problems == []
    assert str(examination).endswith("nothing found")


def test_the_command_examines_a_model_of_ones_own_and_fails_if_something_is_found(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "from tutorial_lib import Case, DynamicDim, TensorSpec\n\n"
        "BATCH = DynamicDim('batch', 1, 2, 4)\n\n\n"
        "class Mixed(nn.Module):\n    def forward(self, x):\n        return x - x.mean(0)\n\n\n"
        'def rows():\n    return Case("rows", nn.ReLU(), (TensorSpec("input", (BATCH, 3)),))\n\n\n'
        'def mixed():\n    return Case("mixed", Mixed(), (TensorSpec("x", (BATCH, 3)),))\n'
    )
    assert main(["examine", "--model", f"{file}::rows", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "rows: nothing found\n"
    assert main(["examine", "--model", f"{file}::mixed", "--device", "cpu"]) == 1
    assert "other rows" in capsys.readouterr().out
    assert main(["examine", "--model", f"{file}::missing"]) == 2
