"""PyTorch's own compiler, just in time and ahead of time: settings, packages, what the code calls."""

import contextlib
import functools
import importlib
import json
import re
import shutil
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch._dynamo.utils
import torch._inductor.config as config
from torch.utils import _pytree as pytree

from tutorial_lib.builds import report
from tutorial_lib.builds.backends.cpp_compiler import compiler
from tutorial_lib.checks.results import UncomparableResult
from tutorial_lib.core.files import remembered

PACKING_GAIN = 1.2
"""How many times faster packed weights must be than PyTorch's own product before they are used."""
NUMBERS = "tutorial_lib.numbers"
"""Key of a package's metadata that says which values of the result are Python numbers."""


def settings(device: torch.device, options: Mapping[str, Any]) -> dict[str, Any]:
    """Every Inductor setting of a build: the reader's `options` over the defaults of this tutorial.

    The defaults make builds short without changing the kernels: the compiler of
    :func:`tutorial_lib.builds.backends.cpp_compiler.compiler`, no precompiled headers (ahead of time they cost 10 s
    once and save 1 s a build), no optimization of the wrapper around the kernels, and no test compile of the vector
    instructions (CPUID is still asked). On a CPU, ``freezing`` is on where packed weights measure faster
    (:func:`packing_gain`): weights are then constants of the engine, and a product may round differently from eager's.
    """
    defaults: dict[str, Any] = {
        "cpp.cxx": (None, compiler()),
        "cpp.vec_isa_ok": True,
        "cpp_cache_precompile_headers": False,
        "aot_inductor.precompile_headers": False,
        "aot_inductor.compile_wrapper_opt_level": "O0",
        "max_autotune_report_choices_stats": False,
    }
    if device.type == "cpu" and "freezing" not in options:
        defaults["freezing"] = packing_gain(torch.get_num_threads()) >= PACKING_GAIN
    existing = option_names()
    return {**{name: value for name, value in defaults.items() if name in existing}, **options}


@functools.cache
def option_names() -> frozenset[str]:
    """Names of all Inductor settings of the installed torch."""
    return frozenset(torch._inductor.list_options())


@functools.cache
def switches() -> frozenset[str]:
    """Names of those Inductor settings that are True or False."""
    current: dict[str, Any] = config.get_config_copy()  # type: ignore[attr-defined]
    return frozenset(name for name, value in current.items() if isinstance(value, bool))


@contextlib.contextmanager
def patched(values: Mapping[str, Any]) -> Iterator[None]:
    """Inductor's configuration with `values`, for the length of a ``with`` block, and no tables on stderr."""
    with contextlib.ExitStack() as stack:
        if values.get("max_autotune"):
            algorithms = importlib.import_module("torch._inductor.select_algorithm")
            stack.enter_context(mock.patch.object(algorithms, "PRINT_AUTOTUNE", False))
        stack.enter_context(config.patch(dict(values)))
        yield


def cache_hits() -> int:
    """Graphs whose code was found in Inductor's cache on disk, so far in this process."""
    return int(torch._dynamo.utils.counters["inductor"]["fxgraph_cache_hit"])


@functools.cache
def packing_gain(threads: int) -> float:
    """How many times faster oneDNN's packed linear is than PyTorch's linear on this CPU.

    Measured once and stored on disk, so that every kernel on a machine decides alike. The product is that of the
    tutorial's first model at batch 4 (788 x 768 x 2304, float32). Which of the two libraries wins depends on the maker
    of the CPU. Returns 0.0 where oneDNN is missing.
    """
    if not torch.backends.mkldnn.is_available():
        return 0.0
    key = f"{report.device_name(torch.device('cpu'))}, {threads} threads, torch {torch.__version__}"
    gain = remembered("packing.json", key, _measured_gain)
    return gain if isinstance(gain, float) else _measured_gain()  # somebody wrote into the file


def _measured_gain() -> float:
    x, weight, bias = torch.randn(788, 768), torch.randn(2304, 768), torch.randn(2304)
    plain_ns, packed_ns = [], []
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        for _ in range(15):
            plain_ns.append(_second_call_ns(lambda: torch.nn.functional.linear(x, weight, bias)))
            packed_ns.append(
                _second_call_ns(lambda: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], ""))
            )
    except (RuntimeError, AttributeError):  # an operator that this build of torch lacks
        return 0.0
    # On a busy machine either ratio alone can mislead, so the smaller one counts.
    return min(min(plain_ns) / min(packed_ns), statistics.median(plain_ns) / statistics.median(packed_ns))


def _second_call_ns(call: Callable[[], Any]) -> int:
    call()
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start


def numbers_metadata(exported: torch.export.ExportedProgram) -> dict[str, Any]:
    """The setting that notes in a package which values of its result are Python numbers, for :func:`with_numbers`.

    Raises
    ------
    UncomparableResult
        If one is of a type that AOTInductor does not give back.
    """
    types = {}  # by index; AOTInductor makes tensors of them
    for index, output in enumerate(exported.graph_signature.output_specs):
        value, kind = getattr(output.arg, "value", None), type(output.arg).__name__
        if kind == "SymIntArgument" or type(value) is int:
            types[index] = "int"
        elif kind == "SymBoolArgument" or type(value) is bool:
            types[index] = "bool"
        elif kind == "SymFloatArgument" or isinstance(value, (float, str)):
            name = "str" if isinstance(value, str) else "float"
            raise UncomparableResult(
                f"value {index} of the model's result is a Python {name}, which "
                "AOTInductor does not give back: drop it from the result, or return a tensor."
            )
    return {"aot_inductor.metadata": {NUMBERS: json.dumps(types)}} if types else {}


def with_numbers(program: Any) -> Callable[..., Any]:
    """A loaded program that returns Python numbers where the model does, as its package says."""
    types = json.loads(program.loader.get_metadata().get(NUMBERS, "{}"))
    if not types:
        return program

    def call(*inputs: torch.Tensor) -> Any:
        values, tree = pytree.tree_flatten(program(*inputs))
        for index, name in types.items():
            values[int(index)] = {"int": int, "bool": bool}[name](values[int(index)])
        return pytree.tree_unflatten(values, tree)

    return call


def load(path: Path, device: torch.device) -> Callable[..., Any]:
    """Load a package for `device`. That runs the native code in it, so load only what this user built.

    On a GPU, where calls take turns (:func:`tutorial_lib.builds.program.calls_wait`), it does without AOTInductor's
    own locks and events, which would keep its calls out of CUDA graphs.

    torch unpacks it into the temporary folder and removes that with the program; `path` is no longer needed.
    """
    # torch would compile tests with g++, for many seconds, only to log whether this processor is another one.
    # (During a build it does not: the setting cpp.vec_isa_ok is in force.)
    codecache = importlib.import_module("torch._inductor.codecache")
    with (
        mock.patch.object(codecache, "get_device_information", return_value={}),
        nothing_left_by_a_failed_load(path),
    ):
        program = torch._inductor.aoti_load_package(str(path), run_single_threaded=device.type == "cuda")
    return with_numbers(program)


@contextlib.contextmanager
def nothing_left_by_a_failed_load(path: Path) -> Iterator[None]:
    """If the package `path` cannot be loaded inside the ``with`` block, remove the folder that torch leaves behind."""
    earlier = _unpacked(path)
    try:
        yield
    except RuntimeError:
        for folder in _unpacked(path) - earlier:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _unpacked(path: Path) -> set[Path]:
    """Temporary folders into which torch unpacked the package `path`; the names of its files are unique."""
    if not zipfile.is_zipfile(path):  # not there, or cut off
        return set()
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    folders = Path(tempfile.gettempdir()).glob("aotinductor_*")
    return {folder for folder in folders if any((folder / name).exists() for name in names if "aotinductor/" in name)}


def library_calls(path: Path) -> tuple[str, ...]:
    """Operators that the code in a ``.pt2`` file calls in PyTorch's libraries, read from its C++ source."""
    operators: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("wrapper.cpp"):
                source = archive.read(name).decode()
                operators.update(re.findall(r"aoti_torch_(?:cpu|cuda)_(\w+)\(", source))
                if "aoti_torch_proxy_executor_call_function(" in source:
                    operators.add("operators without a C interface, through the proxy executor")
    return tuple(sorted(name.strip("_") for name in operators))
