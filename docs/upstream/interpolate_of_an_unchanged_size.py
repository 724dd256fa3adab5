"""Nearest interpolation that leaves a size as it is: eager copies the rows, the compiled program picks others."""

import torch


def enlarged(x):
    return torch.nn.functional.interpolate(x, scale_factor=(1.3, 1.5), mode="nearest")  # 3 rows stay 3


x = torch.arange(12.0).reshape(1, 1, 3, 4)
compiled = torch.compile(enlarged, backend="aot_eager_decomp_partition")  # as Inductor takes it apart, not compiled
if not torch.equal(compiled(x), enlarged(x)):
    raise SystemExit(f"still there: {compiled(x)[0, 0, :, 0]} instead of {enlarged(x)[0, 0, :, 0]}")
print("not there")
