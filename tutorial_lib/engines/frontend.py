"""Torch-TensorRT's real front end, cut off right before the engine build.

:func:`load` is for a process of the preview's own: it changes ``torch.cuda`` and torch_tensorrt for
good. Up to one function everything that runs is Torch-TensorRT: tracing, lowering, converter
look-up, partitioning, and the optimization profile of every engine. That function is
``torch_tensorrt.dynamo._compiler.convert_module``, which all three paths call once per engine; a
:class:`StandIn` takes the engine's place, runs the same graph in PyTorch, and refuses what the
profile does not hold.

Known differences from a machine with TensorRT:

- An engine that TensorRT fails to build, or builds wrong, looks like one that works.
- The words of a refusal are the stand-in's, not TensorRT's.
- Attention: just-in-time tracing resolves it to a kernel of the device. On a CPU that kernel has no
  converter and would cut the model into pieces, so CUDA's kernels take its place
  (:mod:`tutorial_lib.engines.attention`).
- ``torch.cuda`` describes a graphics card that does not exist (:data:`CARD`).

The last two do not hold with ``device="cuda"``, which the tests use on a machine with a GPU.
"""

import contextlib
import io
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from tutorial_lib.engines import attention, stub
from tutorial_lib.engines.install import Frontend

CARD = types.SimpleNamespace(
    name="no GPU (preview)",
    major=9,
    minor=0,
    total_memory=80 << 30,
    multi_processor_count=132,
    uuid="preview",
    warp_size=32,
    max_threads_per_multi_processor=2048,
    regs_per_multiprocessor=65536,
    gcnArchName="",
)
"""What Torch-TensorRT sees where it asks for the GPU; none of it changes a profile."""

HIDDEN = {"CUDA_VISIBLE_DEVICES": ""}
"""What hides a GPU from a process. PyTorch counts GPUs once, so it has to be there when the process starts."""


class ProfileRefusal(RuntimeError):
    """Inputs that an engine's optimization profile does not hold.

    `place` is the input's number, counted from 0, `reason` the sentence without a name in front.
    """

    def __init__(self, place: int, reason: str) -> None:
        super().__init__(f"input {place} {reason}")
        self.place, self.reason = place, reason


class StandIn(torch.nn.Module):
    """Takes an engine's place: the same graph in PyTorch, behind the same profile.

    Parameters
    ----------
    graph : torch.fx.GraphModule
        What TensorRT would have been asked to build.
    inputs : sequence of torch_tensorrt.Input
        The profile: a range, or one shape, for each input of the graph.
    """

    def __init__(self, graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> None:
        super().__init__()
        self.graph = graph
        self.profile = [profile(spec) for spec in inputs]

    def forward(self, *inputs: Any) -> Any:
        """Run the graph.

        Raises
        ------
        ProfileRefusal
            If an input is outside the profile, or not of its dtype.
        """
        for place, (profile, value) in enumerate(zip(self.profile, inputs, strict=True)):
            refuse(place, *profile, value)
        return self.graph(*inputs)

    def set_output_tensors_as_unowned(self, unowned: bool) -> None:
        """Called by the compiler on the last engine of a graph."""

    def setup_engine(self) -> None:
        """Called by the compiler with ``lazy_engine_init``."""


def profile(spec: Any) -> tuple[torch.dtype, tuple[int, ...], tuple[int, ...], bool]:
    """Dtype, smallest and largest shape of one engine input, and whether it is a number (a shape tensor)."""
    dynamic = isinstance(spec.shape, dict)
    low = tuple(spec.shape["min_shape"] if dynamic else spec.shape)
    high = tuple(spec.shape["max_shape"] if dynamic else spec.shape)
    is_number = bool(getattr(spec, "is_shape_tensor", False))
    return spec.dtype.to(torch.dtype, use_default=True), low, high, is_number


def refuse(
    place: int, dtype: torch.dtype, low: tuple[int, ...], high: tuple[int, ...], is_number: bool, value: Any
) -> None:
    """Raise :class:`ProfileRefusal` if `value` is not in the profile, else return."""
    if is_number:
        sizes, what = (int(value),), "value"
    else:
        if value.dtype != dtype:
            raise ProfileRefusal(place, f"is {value.dtype}, and the engine takes {dtype}")
        sizes, what = tuple(value.shape), "size"
    if len(sizes) != len(low):
        raise ProfileRefusal(place, f"has {len(sizes)} dimensions, and the engine takes {len(low)}")
    for axis, (size, smallest, largest) in enumerate(zip(sizes, low, high, strict=True)):
        if not smallest <= size <= largest:
            allowed = str(smallest) if smallest == largest else f"{smallest} to {largest}"
            raise ProfileRefusal(
                place, f"has {what} {size} in dim {axis}, and the optimization profile holds {allowed}"
            )


def load(frontend: Frontend, device: str = "cpu") -> str:
    """Import Torch-TensorRT in this process and replace its engine build.

    Returns what the bindings were imported over: ``stub``, or the name of the real ``libnvinfer``,
    which is always preferred. A GPU that is here has to be hidden from this process from its start (:data:`HIDDEN`),
    unless `device` is ``cuda``: then everything but the engines is on it, as it would be with TensorRT.
    """
    hidden = device != "cuda"
    if hidden and torch.cuda.is_available():
        raise RuntimeError(f"this process sees a GPU; start it with {HIDDEN} in its environment.")
    sys.path.insert(0, str(frontend.folder))
    library = stub.load(frontend.tensorrt_major)
    if hidden:
        _without_gpu()
    with _quiet():
        import torch_tensorrt
    if hidden:
        torch_tensorrt.Device.to = lambda self, kind: torch.device("cpu")
        attention.as_on_cuda()
    set_engine_build(stand_in)
    from tutorial_lib import tensorrt

    tensorrt.why_not = lambda device: None
    return library


def stand_in(module: torch.fx.GraphModule, inputs: Sequence[Any], *args: Any, **kwargs: Any) -> StandIn:
    """What replaces ``convert_module``."""
    return StandIn(module, inputs)


def set_engine_build(build: Callable[..., Any]) -> None:
    """Let `build` make every engine from here on; it has the signature of ``convert_module``."""
    import torch_tensorrt.dynamo._compiler as compiler

    compiler.convert_module = build


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The import prints and warns about optional packages that have nothing to do with the preview.
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
