import pytest
import torch
from torch import nn

from tutorial_lib import Case, DynamicDim, TensorSpec, examine
from tutorial_lib.cli.commands import main


def case_of(compute):
    """x [batch, 4] -> `compute(x)`, in a model with a layer and a tensor that does not move with it."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.weights = nn.Linear(4, 4), torch.ones(4)

        def forward(self, x):
            return compute(self, x)

    return Case("mine", Model(), (TensorSpec("x", (DynamicDim("batch", 1, 3, 6), 4)),))


@pytest.mark.parametrize(
    ("compute", "problem"),
    [
        (lambda model, x: x - x.mean(0), "a row depends on the other rows of its batch"),
        (lambda model, x: nn.functional.dropout(x, 0.5), "two calls with the same inputs differ"),
        (lambda model, x: x.sub_(1) * 2, "it writes into its input"),
        (lambda model, x: model.layer(x) * model.weights, "part of it stays behind when it moves to another device"),
        (lambda model, x: x + 1 if x.sum(1)[0] > 0 else x - 1, "export refuses it (data-dependent)"),
    ],
)
def test_a_problem_is_found(compute, problem):
    examination = examine(case_of(compute))
    assert problem in examination.problems
    assert problem in str(examination)


@pytest.mark.parametrize(
    "compute", [lambda model, x: x.mean(1), lambda model, x: {"rows": x * 2, "size": x.shape[0], "all": x.sum()}]
)
def test_nothing_is_found_where_nothing_is_wrong(compute):
    examination = examine(case_of(compute))
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
