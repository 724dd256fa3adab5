"""An engine for batches 2 to 32 is built for 1 to 32."""

import torch
import torch_tensorrt

device = "cuda" if torch.cuda.is_available() else "cpu"
program = torch_tensorrt.compile(
    torch.nn.Linear(3, 3).eval().to(device),
    ir="dynamo",
    inputs=[torch_tensorrt.Input(min_shape=(2, 3), opt_shape=(4, 3), max_shape=(32, 3))],
    min_block_size=1,
)
try:
    program(torch.randn(1, 3, device=device))
except RuntimeError:
    print("not there")
else:
    raise SystemExit("still there: batch 1 was taken")
