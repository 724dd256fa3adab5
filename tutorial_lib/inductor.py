"""PyTorch's own compiler, just in time and ahead of time: settings, packages, what the code calls."""

import functools
import re
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config as config

from tutorial_lib._compiler import compiler

PACKING_GAIN = 1.2
"""Packed weights have to be this much faster than PyTorch's own product before they are chosen."""


def settings(device: torch.device, options: Mapping[str, Any]) -> dict[str, Any]:
    """Every Inductor setting of a build: the reader's `options` over the defaults of this tutorial.

    The defaults make builds short without changing the code that is built: the compiler that
    :func:`tutorial_lib._compiler.compiler` found, no precompiled headers (they pay back after about
    five builds) and no test compile of the vector instructions (CPUID is still asked). On a CPU,
    ``freezing`` is on where packed weights measure faster (:func:`packing_gain`): weights then are
    constants of the engine, and a product may round differently from eager's.
    """
    chosen: dict[str, Any] = {
        "cpp.cxx": (None, compiler()),
        "cpp.vec_isa_ok": True,
        "cpp_cache_precompile_headers": False,
    }
    if device.type == "cpu" and "freezing" not in options:
        chosen["freezing"] = packing_gain(torch.get_num_threads()) >= PACKING_GAIN
    return {**{k: v for k, v in chosen.items() if k in option_names()}, **options}


@functools.cache
def option_names() -> frozenset[str]:
    """Names of all Inductor settings of the installed torch."""
    return frozenset(torch._inductor.list_options())


def patched(values: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Inductor's configuration with `values`, for the length of a ``with`` block."""
    return config.patch(dict(values))


@functools.cache
def packing_gain(threads: int) -> float:
    """How many times faster oneDNN's packed linear is than PyTorch's linear on this CPU, measured once.

    The product is that of the tutorial's first model at batch 4 (788 x 768 x 2304, float32). Which of
    the two libraries wins depends on the maker of the CPU. Returns 0.0 where oneDNN is missing.
    """
    if not torch.backends.mkldnn.is_available():
        return 0.0
    x, weight, bias = torch.randn(788, 768), torch.randn(2304, 768), torch.randn(2304)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        calls: list[Callable[[], Any]] = [
            lambda: torch.nn.functional.linear(x, weight, bias),
            lambda: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], ""),
        ]
        times: list[list[int]] = [[], []]
        for _ in range(15):
            for call, seen in zip(calls, times, strict=True):
                call()
                start = time.perf_counter_ns()
                call()
                seen.append(time.perf_counter_ns() - start)
    except (RuntimeError, AttributeError):  # an operator that this build of torch lacks
        return 0.0
    return min(times[0]) / min(times[1])  # of what may disturb a run, nothing makes it faster


def package(exported: torch.export.ExportedProgram, path: Path, values: Mapping[str, Any]) -> Callable[..., Any]:
    """Compile `exported` ahead of time into the file `path` (``.pt2``) and load it.

    The loaded program checks nothing: a wrong shape reads past the buffer. Call it only through
    :class:`tutorial_lib.compiled.Compiled`.
    """
    with patched(values):
        torch._inductor.aoti_compile_and_package(exported, package_path=str(path))
    return torch._inductor.aoti_load_package(str(path))


def library_calls(path: Path) -> tuple[str, ...]:
    """Operators that the code in a ``.pt2`` file calls in PyTorch's libraries, read from its C++ source."""
    found: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("wrapper.cpp"):
                source = archive.read(name).decode()
                found.update(re.findall(r"aoti_torch_(?:cpu|cuda)_(\w+)\(", source))
                if "aoti_torch_proxy_executor_call_function(" in source:
                    found.add("operators without a C interface, through the proxy executor")
    return tuple(sorted(name.strip("_") for name in found))
