"""What calls take of a GPU's memory."""

from collections.abc import Callable
from typing import Any

import torch


def peak(call: Callable[[], Any], device: torch.device) -> tuple[Any, float | None]:
    """The result of `call`, and the most memory in MB that it held at a time on a GPU; None on other devices.

    That is what PyTorch's allocator gave out beside all that was there before, such as weights and inputs: buffers
    between operators, and the output. A library's own workspace is not in it, unless PyTorch allocates it.
    """
    if device.type != "cuda":
        return call(), None
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    result = call()
    return result, (torch.cuda.max_memory_allocated(device) - before) / 1e6
