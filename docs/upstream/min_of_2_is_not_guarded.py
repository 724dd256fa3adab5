"""An exported program for batches 2 to 32 takes batch 1; every other bound is guarded."""

import torch
from torch.export import Dim

shapes = ({0: Dim("batch", min=2, max=32)},)
program = torch.export.export(torch.nn.Linear(3, 3), (torch.randn(4, 3),), dynamic_shapes=shapes).module()
try:
    program(torch.randn(1, 3))
except (AssertionError, RuntimeError):
    print("not there")
else:
    raise SystemExit("still there: batch 1 was taken")
