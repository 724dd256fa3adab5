"""Torch-TensorRT over TensorRT for RTX, in a process without a GPU.

:func:`load` is for the engines' own process: it changes ``torch.cuda`` and torch_tensorrt for good. Tracing,
lowering, converter look-up, partitioning, profiles, conversion and the build are Torch-TensorRT's and TensorRT's
own. Left out is one step, the deserialization of the plan, which needs a driver.

Known differences from a machine with a supported card:

- Calls run the graph in PyTorch, behind a check of the profile (:mod:`tutorial_lib.engines.stand_in`), so their
  results and times say nothing about the engine, and the words of a refusal are not TensorRT's.
- Choices that PyTorch makes for CPU tensors are replaced by those of a GPU
  (:mod:`tutorial_lib.engines.as_on_gpu`).
- ``torch.cuda`` describes a graphics card that does not exist (:data:`CARD`).
"""

import contextlib
import io
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tutorial_lib.engines.as_on_gpu import as_on_gpu
from tutorial_lib.engines.install import Frontend

CARD = types.SimpleNamespace(
    name="no GPU (engines are built, not run)",
    major=9,
    minor=0,
    total_memory=80 << 30,
    multi_processor_count=132,
    uuid="none",
    warp_size=32,
    max_threads_per_multi_processor=2048,
    regs_per_multiprocessor=65536,
    gcnArchName="",
)
"""What Torch-TensorRT sees where it asks for the GPU; none of it changes a profile or a plan."""

HIDDEN = {"CUDA_VISIBLE_DEVICES": ""}
"""What hides a GPU from a process. PyTorch counts GPUs once, so it has to be there when the process starts."""


def load(frontend: Frontend) -> None:
    """Import Torch-TensorRT in this process.

    A GPU that is here has to be hidden from this process from its start (:data:`HIDDEN`).
    """
    if torch.cuda.is_available():
        raise RuntimeError(f"this process sees a GPU; start it with {HIDDEN} in its environment.")
    sys.path.insert(0, str(frontend.folder))
    _without_gpu()
    with quiet():
        import torch_tensorrt
    torch_tensorrt.Device.to = lambda self, kind: torch.device("cpu")
    as_on_gpu()
    from tutorial_lib.builds.backends import tensorrt

    tensorrt.why_not = lambda device: None


def set_engine_build(build: Callable[..., Any]) -> None:
    """Let `build` make every engine from here on.

    It has the signature of ``torch_tensorrt.dynamo._compiler.convert_module``, which all three paths call once
    for each engine.
    """
    import torch_tensorrt.dynamo._compiler as compiler

    compiler.convert_module = build


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what an import prints and warns about optional packages."""
    logging.disable(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _without_gpu() -> None:
    """Let ``torch.cuda`` answer the questions that Torch-TensorRT asks while importing and compiling."""
    answers: dict[str, Any] = {
        "current_device": 0,
        "get_device_properties": CARD,
        "get_device_capability": (CARD.major, CARD.minor),
        "get_device_name": CARD.name,
        "mem_get_info": (CARD.total_memory, CARD.total_memory),
        "empty_cache": None,
        "synchronize": None,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *args, answer=answer, **kwargs: answer)
    if not hasattr(torch._C, "_CudaDeviceProperties"):  # a CPU build; named in annotations
        setattr(torch._C, "_CudaDeviceProperties", types.SimpleNamespace)  # noqa: B010, for mypy
