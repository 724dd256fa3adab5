"""A convolution on a CPU cannot be compiled for batches 2 to 32: the choice of its kernel becomes a guard."""

import torch

x = torch.randn(4, 3, 32, 32)
torch._dynamo.mark_dynamic(x, 0, min=2, max=32)
try:
    torch.compile(torch.nn.Conv2d(3, 8, 3), backend="eager")(x)
except torch.fx.experimental.symbolic_shapes.ConstraintViolationError as error:
    raise SystemExit(f"still there: {str(error).splitlines()[1]}") from None
print("not there")
