"""The compilers: which ones work on this machine, and why the others do not.

========  ======================================  ==========================================================
backend   runs on                                 what it is
========  ======================================  ==========================================================
tensorrt  NVIDIA GPU with TensorRT installed      Torch-TensorRT and real engines, of data-centre TensorRT or of
                                                  TensorRT for RTX, whichever is installed
inductor  CPU with a C++ compiler, NVIDIA GPU     PyTorch's own compiler
openvino  CPU                                     OpenVINO, which builds in about a second without a C++ compiler
eager     anywhere                                the same capture, range checks and ranges, no code generated
========  ======================================  ==========================================================
"""

import difflib
import importlib.util
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tutorial_lib.builds import compat
from tutorial_lib.builds.backends import inductor, openvino, preference, tensorrt
from tutorial_lib.builds.backends.cpp_compiler import NoCompiler, compiler

BACKENDS = ("tensorrt", "inductor", "openvino", "eager")
"""In the order in which ``auto`` tries them, but for what was measured here (:func:`order`)."""


class BackendUnavailable(RuntimeError):
    """The backend asked for does not work on this machine; the message says what is missing."""


class OptionError(ValueError):
    """An option that the backend does not have."""


@dataclass(frozen=True)
class Status:
    """Whether a backend works here for one device, and why not."""

    name: str
    device: str
    works: bool
    reason: str


def status(name: str, device: str | torch.device | None = None) -> Status:
    """Whether backend `name` works on this machine, in one sentence.

    Parameters
    ----------
    name : str
        ``tensorrt``, ``inductor``, ``openvino`` or ``eager``.
    device : str or torch.device, optional
        Default: the GPU if PyTorch sees one, else the CPU.
    """
    if name not in BACKENDS:
        raise BackendUnavailable(f"there is no backend {name!r}; use {', '.join(BACKENDS)} or auto.")
    device = as_device(device)
    why_not = {"tensorrt": tensorrt.why_not, "inductor": _why_not_inductor, "openvino": openvino.why_not}
    reason = compat.too_new() or (why_not[name](device) if name in why_not else None)
    return Status(name, str(device), reason is None, reason or f"works on {device}.")


def statuses(device: str | torch.device | None = None) -> tuple[Status, ...]:
    """The status of every backend, in the order in which ``auto`` tries them."""
    return tuple(status(name, device) for name in order(as_device(device)))


def order(device: torch.device) -> tuple[str, ...]:
    """The backends as ``auto`` tries them: openvino before inductor on a CPU where it was measured to be faster."""
    comparison = preference.comparison_here() if device.type == "cpu" else None
    if comparison and comparison.faster == "openvino":
        return ("tensorrt", "openvino", "inductor", "eager")
    return BACKENDS


def choose(name: str = "auto", device: str | torch.device | None = None) -> tuple[str, tuple[str, ...]]:
    """The backend to use, and a sentence for each one that ``auto`` passed over.

    Raises
    ------
    BackendUnavailable
        If the one asked for does not work here, or the one that the environment names for ``auto``.
    """
    if reason := compat.too_new():
        raise BackendUnavailable(reason)
    if name == "auto" and (wanted := preference.requested()) not in (None, "auto"):
        try:
            return choose(wanted, device)
        except BackendUnavailable as error:
            raise BackendUnavailable(f"{preference.VARIABLE}={wanted}: {error}") from None
    if name == "auto":
        return _first_that_works(device)
    requested = status(name, device)
    if not requested.works:
        raise BackendUnavailable(f"backend {name}: {requested.reason}")
    return name, ()


def _first_that_works(device: str | torch.device | None) -> tuple[str, tuple[str, ...]]:
    passed: list[str] = []
    candidates = statuses(device)
    for candidate in candidates:
        if candidate.works:
            break
        passed.append(f"{candidate.name} was passed over: {candidate.reason}")
    if candidate.name == "openvino" and any(other.name == "inductor" and other.works for other in candidates):
        passed.append(f"inductor was passed over: {preference.comparison_here()}.")
    return candidate.name, tuple(passed)


def settings(
    name: str, device: torch.device, options: Mapping[str, Any] | None, precision: str | None = None
) -> dict[str, Any]:
    """All settings of a build with backend `name`: checked `options` over the backend's defaults.

    `precision` is the case's; of the backends, only OpenVINO has to be told.

    Raises
    ------
    OptionError
        If the installed version does not know an option: it would ignore it, or fail with an obscure error.
    """
    if not isinstance(options, Mapping | None):
        raise OptionError(f"options is {options!r}; give a dictionary of option names and values.")
    options = dict(options or {})
    names: dict[str, Callable[[], Collection[str]]] = {
        "tensorrt": tensorrt.option_names,
        "inductor": inductor.option_names,
        "openvino": openvino.option_names,
    }
    existing = names[name]() if name in names else frozenset()
    for option in options:
        if option not in existing:
            raise OptionError(_no_such_option(name, option, existing))
    if name == "tensorrt":
        return tensorrt.settings(options)
    if name == "openvino":
        return openvino.settings(options, precision)
    if name == "eager":
        return options
    switches = inductor.switches()
    for option, value in options.items():
        if option in switches and type(value) is not bool:
            raise OptionError(f"{option} is {value!r}; use True or False.")
    if options.get("triton.cudagraphs"):
        raise OptionError(
            "triton.cudagraphs gives results that the next call overwrites, and does nothing ahead of time; "
            "build without it, and wrap the program in tutorial_lib.builds.cuda_graphs.Graphed."
        )
    return inductor.settings(device, options)


def _no_such_option(backend: str, option: str, existing: Collection[str]) -> str:
    if backend == "tensorrt" and option in tensorrt.RTX_LACKS:
        return f"TensorRT for RTX, which is installed here, has no option {option!r}; leave it out."
    hint = "see its documentation." if existing else "it has none."
    if close := difflib.get_close_matches(str(option), existing, n=1):
        hint = f"did you mean {close[0]!r}?"
    return f"{backend} has no option {option!r} in the installed version; {hint}"


def as_device(device: str | torch.device | None = None) -> torch.device:
    """`device`, or the default one: the GPU if PyTorch sees one, else the CPU.

    Raises
    ------
    BackendUnavailable
        If there is no such device here.
    """
    if device is None or device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        torch_device = torch.device(device)
    except (RuntimeError, TypeError):
        raise BackendUnavailable(f"there is no device {device!r}; use 'cpu' or 'cuda'.") from None
    if torch_device.type not in ("cpu", "cuda"):
        raise BackendUnavailable(f"device {device!r} is not supported; use 'cpu' or 'cuda'.")
    if torch_device.type == "cuda" and (torch_device.index or 0) >= torch.cuda.device_count():
        raise BackendUnavailable(f"device {device!r}: PyTorch sees {torch.cuda.device_count()} NVIDIA GPUs here.")
    return torch.device("cuda", torch_device.index or 0) if torch_device.type == "cuda" else torch.device("cpu")


def _why_not_inductor(device: torch.device) -> str | None:
    try:
        compiler()
    except NoCompiler as error:
        return str(error)
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            return "Inductor needs the package triton on a GPU, and it is not installed; `pip install triton`."
        major, minor = torch.cuda.get_device_capability(device)
        if major < 7:
            return f"Triton needs an NVIDIA GPU of compute capability 7.0 or newer, and this one has {major}.{minor}."
    return None
