"""The number format that a model computes in: fp32, TF32, bf16 or fp16.

========  ==============  =======================================================================
name      weights and     how it is set
          inputs
========  ==============  =======================================================================
fp32      float32         TF32 off for matrix products and convolutions
tf32      float32         TF32 on: a GPU then keeps 10 of float32's 23 mantissa bits in products
bf16      bfloat16        the model is cast
fp16      float16         the model is cast
========  ==============  =======================================================================

The precision is set by casting the model, not by a compiler option: TensorRT 11 is strongly typed and takes the
precision from the network (https://docs.nvidia.com/deeplearning/tensorrt, "Strongly Typed Networks"), and the baseline
in eager PyTorch computes in the same format.
"""

import contextlib
import copy
from collections.abc import Iterator

import torch

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The dtype of weights and inputs for each precision."""


class PrecisionError(ValueError):
    """A precision that does not exist, or that this device does not have."""


def why_not(name: str, device: torch.device) -> str | None:
    """Why `device` does not have precision `name`, as a sentence; None if it does."""
    if name not in DTYPES:
        return f"there is no precision {name!r}; use {', '.join(DTYPES)}."
    if name == "tf32":
        if device.type != "cuda":
            return f"TF32 is a mode of NVIDIA GPUs, and the model is on {device}; use fp32."
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            return f"TF32 needs compute capability 8.0 (Ampere) or newer, and this GPU has {major}.{minor}; use fp32."
    return None


def cast(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """A copy of `model` with its floating-point tensors in `dtype`.

    Complex tensors stay as they are: ``model.to(torch.bfloat16)`` would drop their imaginary parts.
    """
    return copy.deepcopy(model)._apply(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def allows_tf32(name: str | None, device: torch.device) -> bool | None:
    """Whether products on `device` may use TF32 under precision `name`; None to leave PyTorch as it is set."""
    if name is None or device.type != "cuda":
        return None
    return name == "tf32"


def in_force(allowed: bool | None) -> bool:
    """Whether PyTorch's TF32 switches already are as :func:`tf32` would set them."""
    return allowed is None or torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == allowed


@contextlib.contextmanager
def tf32(allowed: bool | None) -> Iterator[None]:
    """PyTorch's TF32 switches set to `allowed` inside the ``with`` block, for all threads; None leaves them.

    Compiled code depends on them when it runs, as well as when it is built.
    """
    if in_force(allowed):
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(allowed)
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
