"""Attention cannot be converted where the number of heads is left over by a reshape, as in decoders."""

import torch
import torch_tensorrt
from torch.export import Dim


class Attention(torch.nn.Module):
    """Keys and values are reshaped as a decoder reshapes its cache."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def forward(self, q, k, v):
        batch, _, length, width = k.shape
        k, v = (part.reshape(batch, self.heads, length, width) for part in (k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def build(heads):
    x = torch.randn(2, 4, 8, 16, device="cuda" if torch.cuda.is_available() else "cpu")
    sizes = {0: Dim("batch", min=1, max=4), 2: Dim("length", min=4, max=64)}
    exported = torch.export.export(Attention(heads), (x, x.clone(), x.clone()), dynamic_shapes=(sizes,) * 3)
    torch_tensorrt.dynamo.compile(exported, inputs=[x, x, x], min_block_size=1)


build(4)
try:
    build(-1)
except Exception as error:  # its class differs between versions
    raise SystemExit(f"still there: {str(error).splitlines()[0]}") from None
print("not there")
