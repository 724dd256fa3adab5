"""Inductor's cache finds the graph of another range, whose guard contradicts the range that was asked for."""

import torch

model = torch.nn.Linear(64, 64)


def compile_for_2_to(largest):
    torch._dynamo.reset()
    x = torch.randn(4, 64)
    torch._dynamo.mark_dynamic(x, 0, min=2, max=largest)
    torch.compile(model)(x)


with torch.no_grad():
    compile_for_2_to(8)
    try:
        compile_for_2_to(32)
    except torch.fx.experimental.symbolic_shapes.ConstraintViolationError:
        raise SystemExit("still there: the graph for 2 to 8 was taken from the cache for 2 to 32") from None
print("not there")
