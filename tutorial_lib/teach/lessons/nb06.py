"""Notebook 6: small models with sizes that are tied, what `torch.export` finds out about them, and corners of a box."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutorial_lib.core.models import Case


class Model(nn.Module):
    """A function as a model, with a table of 64 positions: ``function(x, table)``, or ``function(x, y)``."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.table = function, nn.Parameter(torch.ones(64, 4))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Call the function."""
        return self.function(x, self.table if y is None else y)


following = Model(lambda x, y: x[1:] - y)
"""x [s + 1, 4] is one longer than y [s, 4]."""
pairs = Model(lambda x, y: x.reshape(-1, 8) + y)
"""Two rows of x [2 s, 4] for one of y [s, 8]."""
plain = Model(lambda x, table: 2 * x)
only_8 = Model(lambda x, table: 2 * x if x.shape[0] == 8 else x)

TIED: dict[str, Model] = {
    "an if": only_8,
    "a reshape": Model(lambda x, table: x.reshape(8, -1) + 1),
    "a table": Model(lambda x, table: x + table[: x.shape[1]]),
    "a half": Model(lambda x, table: x[:, : x.shape[1] // 2] * 1),
}
"""Models that do not keep what a range promises for x [batch, length, 4]; or that PyTorch cannot show to."""


def attempt(build: Callable[[], Any]) -> Any:
    """What `build` returns, or the error that it ends in."""
    try:
        return build()
    except Exception as error:
        return error


def upstream(error: Any, lines: int = 9) -> str:
    """The first lines of a message of upstream's, without what is the same in all of them."""
    kept = [line for line in str(error).splitlines() if line.strip() and "occurred when calling" not in line]
    return "\n".join(line.split(". If you're using")[0].split(" For more")[0][:200] for line in kept[:lines])


def corners(case: Case) -> list[dict[str, int]]:
    """Every combination of smallest and largest sizes."""
    ranges = [(dim.min, dim.max) for dim in case.dims.values()]
    return [dict(zip(case.dims, sizes, strict=True)) for sizes in itertools.product(*ranges)]


def ranges_of(kind: Any, model: nn.Module, *example: Tensor, names: Sequence[str] = ("x",)) -> tuple[Any, list[Any]]:
    """Export with every dimension of every input as `kind`, such as ``Dim.AUTO``.

    Returns
    -------
    ExportedProgram, list
        For each input, its sizes: a number, or (smallest, largest).
    """
    asked = {name: dict.fromkeys(range(tensor.dim()), kind) for name, tensor in zip(names, example, strict=True)}
    program = torch.export.export(model, example, dynamic_shapes=asked)
    nodes = {node.name: node.meta["val"].shape for node in program.graph.find_nodes(op="placeholder")}
    bounds = {
        str(size): (int(found.lower), "∞" if found.upper > 2**40 else int(found.upper))
        for size, found in program.range_constraints.items()
    }
    return program, [[bounds.get(str(size), size) for size in nodes[name]] for name in names]
