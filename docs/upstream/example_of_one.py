"""A range from 1 cannot be exported with an example of size 1, so opt = min = 1 is refused."""

import torch
from torch.export import Dim

try:
    torch.export.export(torch.nn.Linear(3, 3), (torch.randn(1, 3),), dynamic_shapes=({0: Dim("batch", min=1, max=32)},))
except torch._dynamo.exc.UserError as error:
    raise SystemExit(f"still there: {str(error).splitlines()[1]}") from None
print("not there")
