"""OpenVINO on a CPU: settings, a compiled model as a function of tensors, what was built, ``torch.compile``.

It builds in about a second and needs no C++ compiler. Written for OpenVINO 2026.4; what follows was seen with that
version and torch 2.13 (``tests/builds/test_openvino.py``).

- ``ov.convert_model`` of an exported program loses the sizes that were declared for its inputs, the fixed ones too:
  ``[?,?,768]``. ``reshape`` puts them back.
- ``ov.convert_model`` of a model traces it with ``torch.jit.trace``, which keeps what Python decided for the example.
  Every program is compared with eager at the ends of its range, which shows a decision on a size. One on values would
  not be seen, so a model that makes one is refused (:func:`refuse_values_read`).
- There is no opt: OpenVINO takes min and max, and fits its code to each new size at the first call with it.
- On a CPU that has bfloat16, its default is to compute float32 models in it, so the precision is always set. Where
  float16 is asked for and the CPU has none, it would take bfloat16, which is less exact; this package takes float32.
- float64 is cast to float32 and whole numbers of 64 bits to 32 without a word: models in float64 are refused, inputs
  beyond 32 bits too.
- Its own backend for ``torch.compile`` fails on marked dimensions, goes on in PyTorch and tells nobody
  (``docs/upstream.md``). :func:`compile_graph` stands in.
- A converted model shares memory with the weights of the model. bfloat16 weights it does not even keep alive: once
  PyTorch frees them, the numbers are wrong without a word. :func:`weights_copied` gives it copies.
- On its first import it reports that, and later every conversion, to its makers, and keeps files in the user's home.
  That is the work of the package ``openvino-telemetry``, without which OpenVINO works as well. ``tutorial_lib`` hides
  it from its process.
"""

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import io
import json
import operator
import sys
import threading
import weakref
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch.utils import _pytree as pytree

from tutorial_lib.builds.report import EngineInput, dtype_name
from tutorial_lib.checks.results import UncomparableResult
from tutorial_lib.checks.without_numbers import reads_values
from tutorial_lib.core.errors import first_line
from tutorial_lib.core.models import Case

HOW_TO_GET_IT = "`pip install openvino`"
PACKAGES = ("openvino",)
"""Packages whose versions decide what is built."""
HELD = 2
"""Results of so many calls of a program may be in use at a time without a copy. OpenVINO writes results into memory of
the request that computes them, so each of these needs a request of its own; a further one copies its results."""
HINTS = {"bf16": ("BF16", "bf16"), "fp16": ("FP16", "f16")}
"""By precision: the capability that a CPU needs for it, and OpenVINO's name for it."""
PYTHON_NUMBERS: dict[str, Callable[[Any], Any]] = {"bool": bool, "int": int, "float": float, "complex": complex}
INT32 = torch.iinfo(torch.int32)


class CannotBuild(ValueError):
    """A model that OpenVINO would compile into one that computes something else, and why."""


def why_not(device: torch.device) -> str | None:
    """Why OpenVINO cannot be used for models on `device`, as a sentence; None if it can."""
    if device.type != "cpu":
        return f"OpenVINO is used for CPUs here, and the model is on {device}; use device 'cpu'."
    if importlib.util.find_spec("openvino") is None:
        return f"the package openvino is not installed; {HOW_TO_GET_IT}."
    try:
        if "CPU" not in _core().available_devices:
            return "OpenVINO is installed without its plugin for CPUs; install the package openvino again."
    except Exception as error:  # an ImportError where a system library is missing
        return f"openvino is installed but cannot be used ({first_line(error)[:300]}); {HOW_TO_GET_IT}."
    return None


def telemetry_is_off() -> bool:
    """Whether nothing in this process can report to the makers of OpenVINO: not so if it was imported before this."""
    return sys.modules.get("openvino_telemetry") is None


def precisions() -> tuple[str, ...]:
    """The precisions that OpenVINO computes in on this CPU: ``fp32``, and ``bf16`` and ``fp16`` where it has them."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", *(name for name, (capability, _) in HINTS.items() if capability in capabilities))


def option_names() -> frozenset[str]:
    """Names of the properties that the CPU plugin of the installed OpenVINO lets one set."""
    properties = _core().get_property("CPU", "SUPPORTED_PROPERTIES")
    return frozenset(name for name, access in properties.items() if access == "RW")


def settings(options: Mapping[str, Any], precision: str | None = None) -> dict[str, Any]:
    """Every OpenVINO setting of a build: the reader's `options` over the defaults of this tutorial.

    One call at a time as fast as possible (``LATENCY``), with as many threads as PyTorch has, in the precision of the
    case, or float32 where this CPU does not have that (``HINTS``).
    """
    defaults = {
        "INFERENCE_PRECISION_HINT": HINTS[precision][1] if precision in HINTS and precision in precisions() else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    return {**defaults, **options}


# ---- before a build ---------------------------------------------------------------------------------------------


def refuse_float64(case: Case) -> None:
    """Refuse a model that computes in float64.

    Raises
    ------
    CannotBuild
        If an input, a parameter or a buffer is of that type.
    """
    tensors = [*case.model.named_parameters(), *case.model.named_buffers()]
    dtypes = {spec.name: spec.dtype for spec in case.inputs} | {name: tensor.dtype for name, tensor in tensors}
    name = next((name for name, dtype in dtypes.items() if dtype in (torch.float64, torch.complex128)), None)
    if name is not None:
        raise CannotBuild(
            f"{name} is in {dtype_name(dtypes[name])}, and OpenVINO computes in float32 at most; "
            "convert the model and its inputs with float(), or take the backend eager or inductor."
        )


def refuse_values_read(case: Case, where: str) -> None:
    """Refuse a traced model that reads values of its tensors in Python, for which tracing warned of a line.

    Parameters
    ----------
    case : Case
        The model.
    where : str
        The line that tracing warned of.

    Raises
    ------
    CannotBuild
        If it does so.
    """
    if reads_values(case):
        raise CannotBuild(
            f"{case.name} reads values of its tensors in Python, and tracing, which OpenVINO's input path does, keeps "
            f"what Python made of those of the example ({where}); replace an `if` on values by torch.where, or take "
            "the export path."
        )


@contextlib.contextmanager
def weights_copied() -> Iterator[None]:
    """Conversions inside the ``with`` block copy every weight, which ``share_weights=False`` does for traced models."""
    modules = [importlib.import_module(f"openvino.frontend.pytorch.{name}") for name in ("utils", "fx_decoder")]
    convert = modules[0].torch_tensor_to_ov_const

    def copying(tensor: torch.Tensor, shared_memory: bool = False) -> Any:
        return convert(tensor, shared_memory=False)

    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.enter_context(mock.patch.object(module, "torch_tensor_to_ov_const", copying))
        yield


# ---- a compiled model as a function of tensors -------------------------------------------------------------------


class OpenVINOModel:
    """An ``ov.CompiledModel`` that takes tensors and returns a tuple of tensors, which no later call writes into.

    Attributes
    ----------
    compiled : openvino.CompiledModel
        What OpenVINO built.
    """

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self._requests: list[Any] = []
        self._in_use: list[list[weakref.ref[Any]]] = []  # for each request the arrays of its last results
        self._lock = threading.Lock()  # OpenVINO runs one request of a program at a time

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the model on tensors of a CPU, one for each of its inputs."""
        # as they lie in memory, and kept until the call is over: an ov.Tensor does not keep its memory alive
        ordered = [tensor.detach().resolve_neg().contiguous() for tensor in inputs]
        values = [_as_openvino(tensor) for tensor in ordered]
        with self._lock:
            number = self._free_request()
            request = self._requests[number]
            for index, value in enumerate(values):
                request.set_input_tensor(index, value)
            request.infer(share_outputs=True)  # else it copies all of them into arrays that nobody takes
            found = request.output_tensors
            arrays = [tensor.data for tensor in found]
            results = tuple(map(_as_torch, found, arrays))
            if number == HELD or _share_memory(results, ordered):
                return tuple(result.clone() for result in results)
            self._in_use[number] = list(map(weakref.ref, arrays))
            return results

    def _free_request(self) -> int:
        """The number of a request whose results nobody has any more: the next call writes where they lie.

        A torch tensor on the memory of an array, and every view of that tensor, keeps the array alive.
        """
        for number, arrays in enumerate(self._in_use):
            if all(array() is None for array in arrays):
                return number
        self._requests.append(self.compiled.create_infer_request())
        self._in_use.append([])
        return len(self._requests) - 1


def _share_memory(results: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> bool:
    """Whether a result lies in the memory of an input."""
    ends = [(x.data_ptr(), x.data_ptr() + x.nbytes) for x in inputs]
    return any(low <= result.data_ptr() < high for result in results for low, high in ends)


def _as_torch(tensor: Any, array: Any) -> torch.Tensor:
    """A torch tensor on the memory of an ``ov.Tensor``, whose data is `array`; it keeps both alive."""
    shared = torch.from_numpy(array)
    # NumPy has no bfloat16, and OpenVINO calls such an array float16
    return shared.view(torch.bfloat16) if tensor.element_type.get_type_name() == "bf16" else shared


def _as_openvino(tensor: torch.Tensor) -> Any:
    """An ``ov.Tensor`` on the memory of `tensor`."""
    ov = upstream()
    if tensor.dtype == torch.bfloat16:
        return ov.Tensor(tensor.view(torch.int16).numpy(), list(tensor.shape), ov.Type.bf16)
    if tensor.dtype == torch.int64 and tensor.numel():
        low, high = (int(end) for end in tensor.aminmax())
        if low < INT32.min or high > INT32.max:
            raise ValueError(
                f"a value of an input is {high if high > INT32.max else low}, and OpenVINO computes whole numbers in "
                f"32 bits, so from {INT32.min} to {INT32.max}."
            )
    return ov.Tensor(tensor.numpy(), shared_memory=True)


@dataclass(frozen=True)
class Structure:
    """How a result is made of the tensors that OpenVINO gives in a row.

    Attributes
    ----------
    kinds : tuple of str
        For each leaf of the result a dtype (``torch.int64``), the type of a Python number (``int``) or ``None``.
    tree : TreeSpec
        What the leaves are put into.
    """

    kinds: tuple[str, ...]
    tree: pytree.TreeSpec

    @classmethod
    def of(cls, result: Any) -> "Structure":
        """The structure of a result that eager gave.

        Raises
        ------
        UncomparableResult
            If it holds something that is neither a tensor nor a number nor None.
        """
        leaves, tree = pytree.tree_flatten(result)
        return cls(tuple(map(_kind, leaves)), tree)

    def restored(self, tensors: Sequence[torch.Tensor]) -> Any:
        """The result that holds `tensors`, which are in the order of its leaves, without those that are None."""
        expected = sum(kind != "None" for kind in self.kinds)
        if len(tensors) != expected:
            raise CannotBuild(f"OpenVINO's model returns {len(tensors)} results, and eager returns {expected}.")
        rest = iter(tensors)
        leaves = [None if kind == "None" else _as_kind(next(rest), kind) for kind in self.kinds]
        return pytree.tree_unflatten(leaves, self.tree)


def with_structure(program: Callable[..., Sequence[torch.Tensor]], structure: Structure) -> Callable[..., Any]:
    """`program`, which returns tensors in a row, with the structure, dtypes and Python numbers of eager's result."""

    def call(*inputs: torch.Tensor) -> Any:
        return structure.restored(program(*inputs))

    return call


def _kind(leaf: Any) -> str:
    if isinstance(leaf, torch.Tensor):
        return str(leaf.dtype)
    if leaf is None:
        return "None"
    number = {torch.SymInt: "int", torch.SymFloat: "float", torch.SymBool: "bool"}.get(type(leaf), type(leaf).__name__)
    if number not in PYTHON_NUMBERS:
        raise UncomparableResult(
            f"the result holds a {type(leaf).__name__}, which OpenVINO does not give back: drop it from the result."
        )
    return number


def _as_kind(tensor: torch.Tensor, kind: str) -> Any:
    if kind in PYTHON_NUMBERS:
        return PYTHON_NUMBERS[kind](tensor)
    return tensor.to(getattr(torch, kind.removeprefix("torch.")))


# ---- what was built ----------------------------------------------------------------------------------------------


def engine_inputs(compiled: Any, expected: Sequence[EngineInput]) -> tuple[EngineInput, ...]:
    """`expected`, inputs in the order of the model's arguments, with the bounds that the compiled model has.

    Raises
    ------
    CannotBuild
        If it has another number of inputs.
    """
    if len(compiled.inputs) != len(expected):
        raise CannotBuild(f"OpenVINO's model takes {len(compiled.inputs)} inputs, and the model {len(expected)}.")
    inputs = []
    for given, named in zip(compiled.inputs, expected, strict=True):
        sizes = list(given.partial_shape)
        low = tuple(size.min_length for size in sizes)
        high = tuple(size.max_length if size.max_length >= 0 else None for size in sizes)  # -1: there is no bound
        inputs.append(replace(named, min=low, max=high))
    return tuple(inputs)


def operators(compiled: Any) -> int:
    """How many operators a compiled model executes, after OpenVINO fused and folded what it could."""
    layers = compiled.get_runtime_model().get_ops()
    return sum(_layer_type(layer) not in ("Input", "Output", "Const") for layer in layers)


def _layer_type(layer: Any) -> str:
    name: str = layer.get_rt_info()["layerType"].astype(str)
    return name


def notes(compiled: Any, case: Case, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a compiled model differs from what was asked for, one sentence each.

    Raises
    ------
    CannotBuild
        If OpenVINO took another precision than it was told to.
    """
    sentences = []
    real = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    asked = options["INFERENCE_PRECISION_HINT"]
    if str(asked) != real:
        raise CannotBuild(f"INFERENCE_PRECISION_HINT is {asked}, and on this CPU OpenVINO would compute in {real}.")
    if case.precision in HINTS and real != HINTS[case.precision][1]:
        sentences.append(f"this CPU has no {case.precision}, so OpenVINO computes in {real} between input and result")
    if any(tensor.element_type.get_type_name() == "i64" for tensor in (*compiled.inputs, *compiled.outputs)):
        sentences.append(f"OpenVINO computes whole numbers in 32 bits: what goes beyond {INT32.max} comes out wrong")
    layers = compiled.get_runtime_model().get_ops()
    if any("scaled_dot_product" in layer.get_rt_info()["originalLayersNames"].astype(str) for layer in layers):
        sentences.append("where a mask leaves a row of attention nothing, OpenVINO gives NaN, and eager gives 0")
    return tuple(sentences)


# ---- files -------------------------------------------------------------------------------------------------------

BLOB, DESCRIPTION = "model.blob", "model.json"
"""Members of the zip archive that :func:`saved` makes."""


def saved(model: OpenVINOModel, structure: Structure, options: Mapping[str, Any]) -> bytes:
    """A model, the structure of its result and its settings, for :func:`load`; no code of Python's."""
    options = dict(options)
    if options["INFERENCE_NUM_THREADS"] == torch.get_num_threads():
        del options["INFERENCE_NUM_THREADS"]  # where it is loaded, PyTorch may have another number
    tree = pytree.treespec_dumps(structure.tree)
    description = {"kinds": structure.kinds, "tree": tree, "options": options}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(DESCRIPTION, json.dumps(description))
        archive.writestr(BLOB, model.compiled.export_model().getbuffer())
    return buffer.getvalue()


def load(file: Path) -> Callable[..., Any]:
    """The program in a file of what :func:`saved` gave."""
    with zipfile.ZipFile(file) as archive:
        description, blob = json.loads(archive.read(DESCRIPTION)), archive.read(BLOB)
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), **description["options"]}
    structure = Structure(tuple(description["kinds"]), pytree.treespec_loads(description["tree"]))
    with signal_stack_kept():
        return with_structure(OpenVINOModel(upstream().Core().import_model(blob, "CPU", options)), structure)


# ---- torch.compile -----------------------------------------------------------------------------------------------


def compile_graph(
    graph: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    inputs: Sequence[EngineInput | None],
    options: Mapping[str, Any],
) -> tuple[OpenVINOModel, Callable[..., Any], tuple[EngineInput, ...]]:
    """What a backend for ``torch.compile`` has to do: a program for a graph that Dynamo captured.

    The graph is exported, with constants for its weights, and converted as on the export path.

    Parameters
    ----------
    graph : torch.fx.GraphModule
        What Dynamo captured.
    example_inputs : sequence
        A value for each of its arguments.
    inputs : sequence of EngineInput or None
        The arguments (:func:`tutorial_lib.builds.report.graph_inputs`).
    options : dict
        As :func:`settings` gives them.

    Returns
    -------
    model : OpenVINOModel
        What OpenVINO built.
    program : callable
        Takes what the graph takes, calls the model, and returns what the graph returns.
    inputs : tuple of EngineInput
        Its inputs with their real ranges.

    Raises
    ------
    CannotBuild
        If an argument is neither a tensor nor a size of one of the tensors.
    """
    ov = upstream()
    module, taken = _with_constants(graph, example_inputs, inputs)
    expected = [item for index in taken if (item := inputs[index])]
    dynamic = [
        {axis: torch.export.Dim.DYNAMIC for axis, (low, high) in enumerate(_bounds(item)) if low != high}
        for item in expected
    ]
    examples = tuple(example_inputs[index] for index in taken)
    with torch._guards.tracing(None):  # a trace of its own: Dynamo's is not over yet
        exported = torch.export.export(module, examples, dynamic_shapes=tuple(dynamic))
        _write_sums_out(exported)
        converted = ov.convert_model(exported)
    converted.reshape({index: ov.PartialShape(_bounds(item)) for index, item in enumerate(expected)})
    with signal_stack_kept():
        model = OpenVINOModel(ov.Core().compile_model(converted, "CPU", dict(options)))
    output: Any = graph.graph.output_node().args[0]
    values = [item.meta["example_value"] if isinstance(item, torch.fx.Node) else item for item in output]
    structure = Structure.of(tuple(values))

    def program(*arguments: Any) -> Any:
        return structure.restored(model(*(arguments[index] for index in taken)))

    return model, program, engine_inputs(model.compiled, expected)


def _bounds(item: EngineInput) -> list[tuple[int, int]]:
    """(min, max) of each size, as ``ov.PartialShape`` takes them; -1 where there is no bound."""
    return [(low or 0, -1 if high is None else high) for low, high in zip(item.min, item.max, strict=True)]


def _with_constants(
    graph: torch.fx.GraphModule, example_inputs: Sequence[Any], inputs: Sequence[EngineInput | None]
) -> tuple[torch.fx.GraphModule, list[int]]:
    """The graph with its weights inside and sizes read from its tensors; and which arguments it still takes.

    OpenVINO packs a product's weights where they are constants.
    """
    copied = torch.fx.Graph()
    copied.output(copied.graph_copy(graph.graph, {}))
    placeholders = copied.find_nodes(op="placeholder")
    constants, taken = {}, []
    for index, (node, value, item) in enumerate(zip(placeholders, example_inputs, inputs, strict=True)):
        if item is not None and item.kind == "weight":
            constants[f"constant_{index}"] = value.detach()
            with copied.inserting_before(node):
                node.replace_all_uses_with(copied.get_attr(f"constant_{index}"))
            copied.erase_node(node)
        elif item is not None and item.kind != "shape":
            taken.append(index)
        elif item is None and node.users:
            raise CannotBuild(f"the graph takes {node.name}, a {type(value).__name__}, which OpenVINO does not.")
    for index, item in enumerate(inputs):
        if item is None or item.kind == "shape":
            _read_size(copied, placeholders[index], [placeholders[other] for other in taken])
    module = torch.fx.GraphModule({**_attributes(graph), **constants}, copied)
    return module, taken


def _attributes(graph: torch.fx.GraphModule) -> dict[str, Any]:
    """What a graph reads from its module, by its dotted names."""
    names = {str(node.target) for node in graph.graph.nodes if node.op in ("get_attr", "call_module")}
    return {name: functools.reduce(getattr, name.split("."), graph) for name in names}


def _read_size(graph: torch.fx.Graph, size: torch.fx.Node, tensors: Sequence[torch.fx.Node]) -> None:
    """Replace an argument that is a size by that size of one of the tensors, and drop it."""
    if size.users:
        symbol = size.meta["example_value"].node.expr
        for tensor in tensors:
            for axis, other in enumerate(tensor.meta["example_value"].shape):
                if isinstance(other, torch.SymInt) and other.node.expr == symbol:
                    with graph.inserting_after(list(graph.find_nodes(op="placeholder"))[-1]):
                        size.replace_all_uses_with(graph.call_method("size", (tensor, axis)))
                    break
        if size.users:
            raise CannotBuild("the graph takes a size of a tensor that it does not take; take the export path.")
    graph.erase_node(size)


def _write_sums_out(exported: torch.export.ExportedProgram) -> None:
    """Write each sum of three sizes or more as sums of two: OpenVINO has no conversion for ``torch.sym_sum``."""
    graph = exported.graph
    for node in graph.find_nodes(op="call_function", target=torch.sym_sum):
        with graph.inserting_before(node):
            total = functools.reduce(lambda a, b: graph.call_function(operator.add, (a, b)), node.args[0])
        node.replace_all_uses_with(total)
        graph.erase_node(node)


def upstream() -> ModuleType:
    """The installed ``openvino``; call :func:`why_not` first."""
    return importlib.import_module("openvino")


@functools.cache
def _core() -> Any:
    return upstream().Core()


class _SignalStack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Leave the calling thread the stack for signal handlers that it has before the ``with`` block.

    Every ``Core`` loads the CPU's plugin, which gives the thread another one, and puts the one from before back when it
    goes. Of two cores the first often goes first, and the second then puts back what is freed: the next interrupt
    would end the process (``docs/upstream.md``). One core for all programs is no way out: with that, programs whose
    weights came to lie at the same place ended the process, too (openvino 2026.4.1).
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    before, sigaltstack = _SignalStack(), ctypes.CDLL(None).sigaltstack
    sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        sigaltstack(ctypes.byref(before), None)
