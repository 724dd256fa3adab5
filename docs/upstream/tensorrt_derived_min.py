"""An engine for an even number of rows, 2 to 32, is built for 4 to 32: it refuses 2 rows."""

import torch
import torch_tensorrt

device = "cuda" if torch.cuda.is_available() else "cpu"
x = torch.randn(8, 3, device=device)
shapes = ({0: 2 * torch.export.Dim("pairs", min=1, max=16)},)
exported = torch.export.export(torch.nn.Linear(3, 3).eval().to(device), (x,), dynamic_shapes=shapes)
program = torch_tensorrt.dynamo.compile(exported, inputs=[x], min_block_size=1)
program(x)
try:
    program(torch.randn(2, 3, device=device))
except RuntimeError:
    raise SystemExit("still there: 2 rows were refused") from None
print("not there")
