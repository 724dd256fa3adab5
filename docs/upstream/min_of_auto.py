"""Dim.AUTO with a min of 1 is exported with a min of 2, without a word; a named Dim keeps the 1."""

import torch
from torch.export import Dim

shapes = ({0: Dim.AUTO(min=1, max=32)},)
program = torch.export.export(torch.nn.Linear(3, 3), (torch.randn(4, 3),), dynamic_shapes=shapes)
(bounds,) = program.range_constraints.values()
if bounds.lower != 1:
    raise SystemExit(f"still there: the range is {bounds.lower} to {bounds.upper}")
print("not there")
