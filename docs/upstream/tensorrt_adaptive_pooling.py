"""Adaptive pooling cannot be converted where height and width vary, though its converter says that it can."""

import torch
import torch_tensorrt
from torch.export import Dim

device = "cuda" if torch.cuda.is_available() else "cpu"
x = torch.randn(2, 3, 64, 64, device=device)
shapes = ({2: Dim("height", min=32, max=128), 3: Dim("width", min=32, max=128)},)
exported = torch.export.export(torch.nn.AdaptiveAvgPool2d((3, 3)), (x,), dynamic_shapes=shapes)
try:
    torch_tensorrt.dynamo.compile(exported, inputs=[x], min_block_size=1)
except Exception as error:  # its class differs between versions
    if "can't be dynamic" not in str(error):
        raise
    raise SystemExit(f"still there: {str(error).splitlines()[0]}") from None
print("not there")
