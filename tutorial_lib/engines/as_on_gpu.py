"""What PyTorch traces for a GPU, in a process whose tensors are on the CPU.

Some operators are not traced as they are written: PyTorch looks at the device and at the sizes, chooses a kernel, and
traces that. On a CPU such a choice gives the compiler another graph than on a GPU, or a narrower range of sizes,
because what was asked of a dynamic size becomes a guard. :func:`as_on_gpu` lets this process choose as a GPU does:

- **Convolutions.** The CPU's kernel is chosen by ``batch < 16`` and by the number of elements. A GPU asks nothing of
  the sizes, and its results are in channels-last format if the input or the weight is.
- **Attention** (:mod:`tutorial_lib.engines.attention`).

Operators, strides of convolutions and guards of 238 small models were compared with those that an H200 gets (torch
2.11, cuDNN's attention off). Not as on a GPU are:

- ``LSTMCell`` and ``GRUCell``: one fused operator on a GPU, which Torch-TensorRT has no converter for. Here they
  become products and activations, which it converts.
- Products of integers, which a GPU refuses.
- Without consequence for engines: bicubic interpolation (the same sums in another order), group normalization of
  channels-last tensors (a copy more on a GPU), the strides of Fourier transforms.
- Cards of compute capability 9 and 10, which prefer cuDNN's attention.
"""

import functools
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from tutorial_lib.builds import convolutions
from tutorial_lib.engines import attention


@functools.cache
def as_on_gpu() -> None:
    """Trace in this process, from here on, what a GPU would get. Calling it again changes nothing.

    For a process of its own: nothing of it can be undone, and compilers for the CPU rely on the CPU's choices.
    Running a graph is not changed.
    """
    functions: Any = torch._C
    functions._select_conv_backend = functools.partial(_convolution_kernel, functions._select_conv_backend)
    attention.as_on_gpu()


def _convolution_kernel(
    choose: convolutions.Choose, input: torch.Tensor, weight: torch.Tensor, **arguments: Any
) -> Any:
    """The kernel for a traced convolution, from which torch takes the strides of the result.

    cuDNN decides on strides as oneDNN does (``cudnn_conv_suggest_memory_format`` and
    ``mkldnn_conv_use_channels_last`` in ``ATen/native/ConvUtils.h``), and a build of torch without CUDA has an answer
    for the latter alone.
    """
    if not isinstance(input, FakeTensor):
        return choose(input, weight, **arguments)
    return convolutions.kernel_without_a_choice(choose, input, weight, **arguments)
