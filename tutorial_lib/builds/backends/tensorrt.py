"""Torch-TensorRT: whether it is here, its settings, and the engines it was asked to build.

Written for Torch-TensorRT 2.11 to 2.14. Everything up to running an engine is tested with 2.11, 2.13 and 2.14 on a CPU
(:mod:`tutorial_lib.engines`); no engine was run on a GPU. docs/verified.md lists what was verified on what.

Two flavours
------------
The module ``torch_tensorrt`` comes in two packages, and an environment holds one of them: ``torch-tensorrt``, for
data-centre TensorRT (``standard``), and ``torch-tensorrt-rtx``, for TensorRT for RTX (``rtx``). :func:`flavour` tells
which is installed. TensorRT for RTX leaves the choice of kernels to the card at run time, so it has no timing cache,
its plans run on every supported card without ``hardware_compatible``, and it runs on fewer kinds of cards
(:data:`RTX_CAPABILITIES`).

Batch 1 and an opt of 1
-----------------------
torch specializes sizes 0 and 1, and Torch-TensorRT turns a lower bound of 2 into 1. What follows from
the two, and the ways round it, on this tutorial's models (``tests/engines/test_engines_batch_one.py``):

==================================  =======================================  ================================
route                               jit                                      input, export
==================================  =======================================  ================================
none (what the paths do)            a second, static engine for batch 1      one engine 1..max, unless the
                                                                             model is cut: then from 2
trace at 2 (the paths, for opt 1)   as above, opt is 2                       one engine 1..max, opt is 2
``mark_unbacked``                   one engine 1..max; opt is min + max / 2  (has no such mark)
                                    whatever was traced, possibly above max
``backed_size_oblivious``           one engine 1..max, real opt, 1 included  the same, also if the model is cut
==================================  =======================================  ================================

Recommended: on jit, keep the two engines, which need no private setting and are both built before
the first request; ahead of time, nothing is needed. Where one engine has to
serve 1..max on jit, where opt has to be 1, or where a model that is cut has to take batch 1, build
inside ``torch.fx.experimental._config.patch(backed_size_oblivious=True)``; calls need it no more. The
price: it is a private setting of torch, and with other backends some models fail or are cached
wrongly under it. Avoid ``mark_unbacked``: opt is not yours to choose, and torch 2.11 takes no bounds for it.

On 2.11, jit cuts a model in two where it computes with a second dynamic size, such as tokens + 1; the
engine behind the cut then starts at tokens 2 (``tests/engines/test_engines_profiles.py``).
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from tutorial_lib.builds import compat, report
from tutorial_lib.builds.plan import PlanTensor
from tutorial_lib.builds.report import Engine, EngineInput, call_functions, operator_names
from tutorial_lib.core.files import cache_folder
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import DerivedDim, ShapeError, TensorSpec, export_dims

HOW_TO_GET_IT = (
    "on a Linux machine with an NVIDIA GPU, `make lab` installs it (`pip install -r requirements-tensorrt.txt` by hand)"
)
SWITCH = {"standard": "`make lab TENSORRT=standard`", "rtx": "`make lab TENSORRT=rtx`"}
"""What to type to get a flavour."""
NAMES = {"standard": "data-centre TensorRT", "rtx": "TensorRT for RTX"}
PACKAGES = ("torch-tensorrt", "tensorrt", "torch-tensorrt-rtx", "tensorrt-rtx-cu13")
"""Packages whose versions decide what is built; which of them are installed tells the flavour."""
TENSORRT = {
    "standard": {"2.11": "10.15", "2.12": "10.16", "2.13": "11.0", "2.14": "11.1"},
    "rtx": {"2.11": "1.4", "2.12": "1.4", "2.13": "1.5", "2.14": "1.6"},
}
"""By flavour and torch: the TensorRT that belongs to its Torch-TensorRT."""
RTX_CAPABILITIES = ("7.5", "8.x", "12.x")
"""Compute capabilities that TensorRT for RTX runs on: not Hopper (9.0), not Blackwell's data-centre cards (10.x)."""
STANDARD_CAPABILITY = (7, 5)
"""The oldest compute capability that data-centre TensorRT runs on (TensorRT 10.5 dropped 7.0)."""
RTX_LACKS = frozenset({"hardware_compatible", "timing_cache_path"})
"""Options that Torch-TensorRT takes and TensorRT for RTX ignores (``_settings.py``, and TensorRT's own warning)."""
CACHE_OPTIONS = frozenset({"engine_cache_dir", "engine_cache_size", "custom_engine_cache"})
"""Accepted by ``compile`` beside the fields of ``CompilationSettings``."""


def flavour() -> str | None:
    """Which TensorRT the installed ``torch_tensorrt`` is for: ``standard``, ``rtx``, or None if there is none.

    The name of the installed package decides, as it does upstream (``_TensorRTProxyModule.py``).
    """
    if _folders_of("torch-tensorrt-rtx"):
        return "rtx"
    return "standard" if _folders_of("torch-tensorrt") else None


def rtx_runs_on(capability: tuple[int, int]) -> bool:
    """Whether TensorRT for RTX runs on cards of this compute capability.

    >>> rtx_runs_on((8, 9)), rtx_runs_on((9, 0))
    (True, False)
    """
    major, minor = capability
    return not {f"{major}.{minor}", f"{major}.x"}.isdisjoint(RTX_CAPABILITIES)


def flavours_for(capability: tuple[int, int]) -> tuple[str, ...]:
    """The flavours that run on cards of this compute capability, the recommended one first.

    >>> flavours_for((8, 9)), flavours_for((9, 0)), flavours_for((6, 1))
    (('standard', 'rtx'), ('standard',), ())
    """
    standard = ("standard",) if capability >= STANDARD_CAPABILITY else ()
    return (*standard, "rtx") if rtx_runs_on(capability) else standard


def why_not(device: torch.device) -> str | None:
    """Why this machine cannot build TensorRT engines for `device`, as a sentence; None if it can."""
    if device.type != "cuda":
        if not torch.cuda.is_available():
            build = "is a CPU build" if torch.version.cuda is None else "sees no NVIDIA GPU (driver missing?)"
            return f"TensorRT needs an NVIDIA GPU, and torch {torch.__version__} {build}; {HOW_TO_GET_IT}."
        return f"TensorRT needs the model on a GPU, and it is on {device}; use device 'cuda'."
    installed = flavour()
    if installed is None or importlib.util.find_spec("torch_tensorrt") is None:
        return f"neither the package torch-tensorrt nor torch-tensorrt-rtx is installed; {HOW_TO_GET_IT}."
    capability = torch.cuda.get_device_capability(device)
    if installed == "rtx" and not rtx_runs_on(capability):
        instead = f"; use data-centre TensorRT there: {SWITCH['standard']}" if flavours_for(capability) else ""
        return f"TensorRT for RTX does not run on compute capability {capability[0]}.{capability[1]}{instead}."
    if problem := mixed_flavours():
        return f"{problem}; {SWITCH[installed]} leaves one."
    how = HOW_TO_GET_IT if installed == "standard" else f"{SWITCH['rtx']} installs one that does"
    try:
        version = upstream().__version__
    except Exception as error:  # a plain one without libnvinfer, an AssertionError on a driver problem
        reason = " ".join(str(error).split())[:300]
        return f"torch_tensorrt is installed but cannot be imported ({reason}); {how}."
    if compat.release(version) != compat.TORCH:
        return (
            f"torch_tensorrt {version} and torch {torch.__version__} do not belong together: "
            f"their first two numbers must be equal; {how}."
        )
    return None


def mixed_flavours() -> str | None:
    """A sentence if both flavours are installed in one folder, where ``torch_tensorrt`` is a mixture; else None."""
    standard, rtx = _folders_of("torch-tensorrt"), _folders_of("torch-tensorrt-rtx")
    if standard.isdisjoint(rtx):
        return None
    return "torch-tensorrt and torch-tensorrt-rtx are both installed, and each overwrites files of the other"


def _folders_of(package: str) -> set[str]:
    return {str(installed.locate_file("")) for installed in importlib.metadata.distributions(name=package)}


def upstream() -> ModuleType:
    """The installed ``torch_tensorrt``; call :func:`why_not` first."""
    return importlib.import_module("torch_tensorrt")


def option_names() -> frozenset[str]:
    """Options that have an effect in the installed Torch-TensorRT; it ignores any other without a word."""
    settings = importlib.import_module("torch_tensorrt.dynamo._settings").CompilationSettings
    names = frozenset(field.name for field in fields(settings)) | CACHE_OPTIONS
    return names - RTX_LACKS if flavour() == "rtx" else names


def settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Every TensorRT setting of a build: the reader's `options` over the defaults of this tutorial.

    - ``min_block_size=1``, because the default of 5 leaves small models in PyTorch without an error.
    - ``pass_through_build_failures=True``, because PyTorch would otherwise replace a failed build, with a warning.
    - ``attn_bias_is_causal=False``, because by default (2.13) a lowering pass takes any mask of a square attention on
      ``jit`` for a causal one, and the numbers are wrong without a word.
    - ``disable_tf32`` as PyTorch itself is set, so that both round alike.
    - Caches in a folder of this user and these versions, because the default is shared by all users of a host.
    """
    version = upstream().__version__
    package = "torch_tensorrt_rtx" if flavour() == "rtx" else "torch_tensorrt"
    folder = cache_folder() / f"{package}-{version}-torch-{torch.__version__}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"the cache folder {folder} cannot be written ({error.strerror}); "
            f"set TUTORIAL_LIB_CACHE to a folder that can."
        ) from None
    defaults = {
        "min_block_size": 1,
        "pass_through_build_failures": True,
        "attn_bias_is_causal": False,
        "disable_tf32": not torch.backends.cuda.matmul.allow_tf32,
        "timing_cache_path": os.fspath(folder / "timing_cache.bin"),
        "engine_cache_dir": os.fspath(folder / "engines"),
    }
    existing = option_names()
    if compat.always_writes_a_timing_cache(upstream()):  # not into the file that all users share
        existing |= {"timing_cache_path"}
    return {**{name: value for name, value in defaults.items() if name in existing}, **options}


Names = Mapping[str, tuple[str, str]]
"""For inputs of a graph, by the name that Torch-TensorRT gives them: the model's own name, and the kind."""


@contextlib.contextmanager
def observed(note: Callable[[Engine], None], opt_source: str, names: Names) -> Iterator[None]:
    """Call `note` with every engine that Torch-TensorRT builds inside the ``with`` block.

    ``torch_tensorrt.dynamo._compiler.convert_module`` is called once for each engine, on all three paths. `names` is
    read at each call, so that the jit path can set it for each graph.
    """
    compiler = importlib.import_module("torch_tensorrt.dynamo._compiler")
    convert = compiler.convert_module

    def noted(module: torch.fx.GraphModule, inputs: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        engine = convert(module, inputs, *args, **kwargs)
        seconds = time.perf_counter() - start
        profile = tuple(engine_input(i, names) for i in inputs)
        data, plan = getattr(engine, "serialized_engine", None), getattr(engine, "plan", None)
        size = len(data) if data else None
        if plan:
            size = plan.plan_bytes
            by_name = dict(zip((i.name for i in inputs), profile, strict=True))
            plan = replace(plan, inputs=tuple(_as_in_the_model(tensor, by_name) for tensor in plan.inputs))
        source = report.opt_source(profile, opt_source)
        note(Engine(profile, source, call_functions(module.graph), seconds, engine_bytes=size, plan=plan))
        return engine

    with mock.patch.object(compiler, "convert_module", noted):
        yield


def _as_in_the_model(tensor: PlanTensor, inputs: Mapping[str, EngineInput]) -> PlanTensor:
    """A plan's input with the name and the kind that it has in the model."""
    match = inputs.get(tensor.name)
    return replace(tensor, kind=match.kind, argument=match.name) if match else tensor


def graph_names(inputs: Sequence[EngineInput | None]) -> dict[str, tuple[str, str]]:
    """The :data:`Names` of a graph that Dynamo captured, given all of its inputs in order.

    AOTAutograd, which the jit path traces with, calls them ``arg0_1``, ``arg1_1``, ... in that order.
    Before 2.12, sizes passed as numbers are not among them.
    """
    if not compat.sizes_are_graph_arguments(upstream()):
        inputs = [i for i in inputs if i is None or i.kind != "shape"]
    return {f"arg{index}_1": (i.name, i.kind) for index, i in enumerate(inputs) if i is not None}


def placeholder_names(inputs: Sequence[TensorSpec]) -> dict[str, tuple[str, str]]:
    """The :data:`Names` of an exported program: what ``torch.export`` and FX make of the arguments' names.

    They are in lower case (``placeholder_naming_pass`` in ``torch/_export/utils.py``) and unique, and builtins of
    Python get a number: ``input``, as the layers of torch.nn call theirs, becomes ``input_1``.
    """
    namespace = torch.fx.graph._Namespace()
    return {namespace.create_name(spec.name.lower(), None): (spec.name, "data") for spec in inputs}


def engine_input(spec: Any, names: Names) -> EngineInput:
    """The range that a ``torch_tensorrt.Input`` gives an engine's optimization profile."""
    if isinstance(spec.shape, dict):
        low, opt, high = (tuple(spec.shape[f"{corner}_shape"]) for corner in ("min", "opt", "max"))
    else:
        low = opt = high = tuple(spec.shape)
    name, kind = names.get(spec.name, (str(spec.name), "intermediate"))
    if getattr(spec, "is_shape_tensor", False):
        kind = "shape"
    dtype = report.dtype_name(spec.dtype.to(torch.dtype, use_default=True))
    return EngineInput(name, dtype, low, opt, high, kind)


def shared_dims(spec: TensorSpec) -> dict[str, dict[int, str]]:
    """Names for the dynamic axes of a ``torch_tensorrt.Input``, as keywords; none before 2.13, which lacks them.

    Axes of one name are one symbol. Without names, a model whose inputs share a dimension is refused
    ("Constraints violated").

    Raises
    ------
    ShapeError
        If an axis is derived from another one, which ``Input`` cannot say.
    """
    derived = next((dim for dim in spec.dynamic.values() if isinstance(dim, DerivedDim)), None)
    if derived is not None:
        raise ShapeError(
            f"torch_tensorrt.Input cannot say that a size of {spec.name} is {derived}; use the export path."
        )
    if not spec.dynamic or not compat.inputs_can_share_dims(upstream()):
        return {}
    return {"shared_dims": {axis: dim.name for axis, dim in spec.dynamic.items()}}


def why_no_profiles(case: Case, path: str) -> str | None:
    """Why the installed Torch-TensorRT cannot put the several profiles of `case` into one engine; None if it can."""
    if not compat.inputs_can_have_profiles(upstream()):
        return (
            f"Torch-TensorRT {upstream().__version__} builds one optimization profile for an engine; several need "
            "2.14: `make lab TORCH=2.14`."
        )
    stepped = next((dim for dim in case.dims.values() if dim.step > 1 and not dim.is_fixed), None)
    if stepped and path == "export":
        return (
            f"{stepped.name} is in steps of {stepped.step}, and Torch-TensorRT gives profiles only to sizes that "
            "torch.export has as a symbol of their own; use the input path."
        )
    single = next((dim for dim in case.profiles[0] if dim.max == 1 < case.dims[dim.name].max), None)
    if single and path == "input":
        return (
            f"profile 0 has {single.name} at 1 alone, and torch_tensorrt.Input traces the graph with profile 0, where "
            "torch makes a constant of 1; put another profile first, or use the export path."
        )
    return None


def select_profiles(program: torch.nn.Module) -> None:
    """Let every engine of `program` choose, at each call, the first profile that holds the inputs.

    Without that, upstream runs every call in profile 0. Upstream keeps the profile in force while that one holds the
    inputs. Written after ``torch_tensorrt/runtime/_optimization_profile.py`` of 2.14, and never run on a GPU.
    """
    upstream().runtime.optimization_profile(program, "auto").__enter__()


def left_to_pytorch(program: torch.fx.GraphModule) -> tuple[str, ...]:
    """Operators of a compiled graph that run outside its engines."""
    segments = [module for name, module in program.named_children() if "_run_on_gpu" in name]
    outside = [module.graph for module in (program, *segments) if isinstance(module, torch.fx.GraphModule)]
    names = set().union(*map(operator_names, outside))
    return tuple(sorted(name for name in names if "getitem" not in name))


def saved(program: torch.fx.GraphModule, case: Case) -> bytes:
    """What ``torch_tensorrt.save`` writes for a program that was compiled ahead of time, with its whole range.

    Without ``dynamic_shapes``, upstream saves a program for the size of the example alone.
    """
    buffer = io.BytesIO()  # given a file, torch's writer ends the process when the disk is full
    upstream().save(program, buffer, arg_inputs=case.example(case.traced), dynamic_shapes=export_dims(case.inputs))
    return buffer.getvalue()


def load(file: Path) -> Callable[..., Any]:
    """Load a file of what :func:`saved` gave. That unpickles part of it, so load only what you trust."""
    return upstream().load(str(file)).module()


def artefact_bytes(engines: Sequence[Engine]) -> int | None:
    """Bytes of all serialized engines together, None where they are not known."""
    sizes = [engine.engine_bytes for engine in engines if engine.engine_bytes is not None]
    return sum(sizes) if engines and len(sizes) == len(engines) else None
