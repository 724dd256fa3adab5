"""What differs between the supported versions of torch and Torch-TensorRT (2.11 to 2.14), in one place.

Each function says which version needs it. When the oldest supported version moves on, this is the file to shorten.
"""

import contextlib
import functools
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import torch
import torch._inductor.config
import torch.export._trace


def release(version: str) -> tuple[int, int]:
    """Major and minor number of a version.

    >>> release("2.11.0+cu130")
    (2, 11)
    """
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


TORCH = release(torch.__version__)
NEWEST = (2, 14)
"""The newest torch that this package is tested with; there is no Torch-TensorRT for a newer one."""


def too_new() -> str | None:
    """Why nothing is compiled with a torch that is newer than :data:`NEWEST`, as a sentence; None with any other."""
    if TORCH <= NEWEST:
        return None
    newest = ".".join(map(str, NEWEST))
    return f"torch {torch.__version__} is newer than this tutorial knows, which is up to {newest}; run `make lab`."


def calls_on_cpu_may_run_beside_a_build() -> bool:
    """Whether a program on a CPU can be called while another thread builds: since torch 2.13 (``test_threads.py``)."""
    return TORCH >= (2, 13)


def set_cuda_device_guard() -> None:
    """Set the device guard that a torch with CUDA sets on its first trace where it finds no GPU.

    Set by one thread while another one works, it ends the process. torch without CUDA has no such function.
    """
    if hasattr(torch._C, "_ensureCUDADeviceGuardSet") and not torch.cuda.is_available():
        torch._C._ensureCUDADeviceGuardSet()


def padding_may_narrow_the_range(device: torch.device, options: Mapping[str, Any]) -> bool:
    """Whether Inductor's padding of matrix products can make the range of a just-in-time build smaller: in 2.11.

    For a GPU, Inductor pads the odd sizes of a matrix product where it expects a gain. In torch 2.11 that test
    computes with the symbol of a dynamic size (``is_mm_compute_bound`` in ``torch/_inductor/fx_passes/pad_mm.py``;
    2.13 computes with opt), and its answer becomes a limit of that size, which no line of the model explains.
    """
    return device.type == "cuda" and "shape_padding" not in options and bool(torch._inductor.config.shape_padding)


@contextlib.contextmanager
def torch_log_kept() -> Iterator[None]:
    """What torch logs and prints, kept from the screen: shown after the block, or a note on the error that ends it.

    torch writes pages about a guard that fails, and the graph so far of an export that does. Where ``TORCH_LOGS`` asks
    for logs, nothing is kept back.
    """
    if "TORCH_LOGS" in os.environ:
        yield
        return
    logged: list[tuple[logging.Handler, logging.LogRecord]] = []
    printed: list[str] = []
    loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith("torch")]
    with contextlib.ExitStack() as stack:
        for handler in {each for logger in loggers for each in logger.handlers if type(each) is logging.StreamHandler}:
            keep = functools.partial(_keep, logged, handler)
            handler.addFilter(keep)
            stack.callback(handler.removeFilter, keep)
        # print(error.partial_fx_graph, file=sys.stderr), since torch 2.11 at the latest
        printing = mock.patch.object(
            torch.export._trace, "print", lambda text, **_: printed.append(str(text)), create=True
        )
        stack.enter_context(printing)
        try:
            yield
        except Exception as error:
            if logged or printed:
                error.add_note("\n".join([*(handler.format(record) for handler, record in logged), *printed]))
            raise
    for shown_by, record in logged:
        shown_by.handle(record)


def _keep(logged: list[tuple[logging.Handler, logging.LogRecord]], handler: logging.Handler, record: Any) -> bool:
    """A filter that lets nothing through."""
    logged.append((handler, record))
    return False


@contextlib.contextmanager
def upstream_warnings_ignored() -> Iterator[None]:
    """Without the warnings that torch causes itself while it traces, saves and loads, for the length of a block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about its pytree module
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*TensorFloat32 tensor cores.*|dynamo_pgo force disabled.*")
        warnings.filterwarnings("ignore", message="TypedStorage is deprecated.*")  # when it freezes
        warnings.filterwarnings("ignore", message="The given buffer is not writable")  # 2.11 when it loads
        warnings.filterwarnings("ignore", message=r"The tensor attributes .*_flat_weights")  # of recurrent layers
        yield


def source_name(source: Any) -> str:
    """Where Dynamo took an input of a graph from, such as ``L['x']``; empty if it does not say.

    The name of a source is a method in torch 2.11 and a property in 2.13.
    """
    name = getattr(source, "name", "")
    return str(name() if callable(name) else name)


def sizes_are_graph_arguments(torch_tensorrt: Any) -> bool:
    """Whether sizes count among the arguments ``arg0_1``, ``arg1_1``, ... of a traced graph: since 2.12."""
    return release(torch_tensorrt.__version__) >= (2, 12)


def always_writes_a_timing_cache(torch_tensorrt: Any) -> bool:
    """Whether a timing cache is written even with TensorRT for RTX, which has none to write: in 2.11."""
    return release(torch_tensorrt.__version__) == (2, 11)


def inputs_can_share_dims(torch_tensorrt: Any) -> bool:
    """Whether ``torch_tensorrt.Input`` can say that two inputs share a dimension (``shared_dims``): since 2.13."""
    return hasattr(torch_tensorrt.Input, "shared_dims")


def inputs_can_have_profiles(torch_tensorrt: Any) -> bool:
    """Whether ``torch_tensorrt.Input`` takes several optimization profiles (``profiles``): since 2.14."""
    return hasattr(torch_tensorrt.Input, "profiles")
