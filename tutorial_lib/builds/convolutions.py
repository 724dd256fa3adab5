"""Convolutions compiled for every size: the choice of a kernel by size, kept out of a program's guards.

When a convolution is traced, torch asks which kernel would run, because kernels differ in the strides of their
results. For float32 on a CPU the answer depends on sizes: ``batch >= 16``, and for a batch of 1 whether there are more
than 20480 elements. Both conditions become guards, so a program for batches 1 to 32 is refused, or is compiled again
in the middle of its range. Yet the strides are almost always the same for all sizes, and the kernel that computes is
chosen anew in every call, compiled or not.
"""

import contextlib
import functools
import platform
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensor, in_kernel_invocation_manager
from torch.fx.experimental.symbolic_shapes import statically_known_true

Choose = Callable[..., Any]
"""The signature of ``torch._C._select_conv_backend``: from input, weight and other arguments to a kernel."""

MACHINES = frozenset({"x86_64", "AMD64"})
"""Where the kernels and their strides are known; Arm has others."""

_torch: Any = torch._C


@contextlib.contextmanager
def for_any_size() -> Iterator[None]:
    """Compile convolutions on a CPU without guards on the choice of a kernel, for the length of a ``with`` block.

    Guards stay where strides could depend on the choice: for three-dimensional convolutions of a single channels-last
    volume or with a kernel of size 1, on processors other than x86-64, and where oneDNN is off. The results of a
    program do not change.
    """
    choose = functools.partial(_on_cpu, _torch._select_conv_backend)
    with mock.patch.object(torch._C, "_select_conv_backend", choose):
        yield


def kernel_without_a_choice(choose: Choose, input: FakeTensor, weight: torch.Tensor, **arguments: Any) -> Any:
    """A kernel whose result has the strides of oneDNN's, after the guards that hold on every device.

    Inside a kernel invocation a fake tensor is on the meta device, for which torch chooses no kernel but checks shapes.
    """
    with in_kernel_invocation_manager(input.fake_mode):
        kernel = choose(input, weight, **arguments)
    kernels = _torch._ConvBackend
    return kernel if kernel in (kernels.Empty, kernels.MkldnnEmpty) else kernels.Mkldnn


def _on_cpu(choose: Choose, input: torch.Tensor, weight: torch.Tensor, **arguments: Any) -> Any:
    if isinstance(input, FakeTensor) and _have_strides_of_one_format(input, weight):
        return kernel_without_a_choice(choose, input, weight, **arguments)
    return choose(input, weight, **arguments)


def _have_strides_of_one_format(input: FakeTensor, weight: torch.Tensor) -> bool:
    """Whether all kernels that torch may choose here give results in one memory format, whatever the sizes.

    For float32 they are oneDNN's and ATen's own. Two-dimensional results are channels-last from both if the input or
    the weight is; three-dimensional ones only from oneDNN's, which takes every batch above 1 (for a kernel of size 1,
    only with several threads). For other dtypes the choice does not depend on sizes.
    """
    if not (
        input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and input.dim() == weight.dim()
        and torch.backends.mkldnn.is_available()
        and _torch._get_mkldnn_enabled()
        and platform.machine() in MACHINES
    ):
        return False
    if input.dim() < 5:
        return True
    of_onednn = _torch._conv_determine_backend_memory_format(input, weight, _torch._ConvBackend.Mkldnn)
    if of_onednn == torch.contiguous_format:
        return True
    return statically_known_true(input.shape[0] > 1) and any(size > 1 for size in weight.shape[2:])
