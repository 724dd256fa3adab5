"""With freezing, Inductor cannot compile interpolation by a fraction where the size varies."""

import torch
from torch import nn
from torch.export import Dim


class Enlarged(nn.Module):
    """Enlarges an image, then convolves it."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(2, 3, 3)

    def forward(self, x):
        return self.mix(nn.functional.interpolate(x, scale_factor=2.5))


with torch.no_grad():
    program = torch.export.export(Enlarged(), (torch.randn(1, 2, 8, 8),), dynamic_shapes=({2: Dim("size", max=24)},))
    try:
        torch._inductor.aoti_compile_and_package(program, inductor_configs={"freezing": True})
    except torch.fx.proxy.TraceError as error:
        raise SystemExit(f"still there: TraceError: {str(error).splitlines()[0]}") from None
print("not there")
