"""Running a plan from a file on a card that TensorRT for RTX supports, after every check that needs no TensorRT.

This was never run on such a card, because none was available. The checks of :func:`run` are tested with real plans.
Deserialization is tested up to TensorRT's refusal on a machine without a driver, and the calls after it with a stand-in
that has the names and arguments of TensorRT's Python API.
"""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import torch

from tutorial_lib.builds.plan import Plan, PlanTensor, Profile
from tutorial_lib.checks.range_check import OutOfRange, refuse_unusual, refuse_views
from tutorial_lib.core.errors import first_line
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines import install, targets
from tutorial_lib.engines.errors import EnginesUnavailable, PlanError
from tutorial_lib.engines.files import fits, read
from tutorial_lib.engines.log import collector, dtype_name

ALIGNMENT = 256
"""Bytes, as TensorRT's documentation of ``setTensorAddress`` asks. Torch's allocations on a GPU have it, views of them
need not, so inputs that begin elsewhere are copied."""


def check_inputs(
    plan: Plan, inputs: Sequence[Any] | Mapping[str, Any], device: torch.device
) -> tuple[int, dict[str, torch.Tensor]]:
    """Check inputs against the profiles of a plan.

    Parameters
    ----------
    plan : Plan
        What TensorRT built.
    inputs : sequence or mapping
        Tensors on `device`, by the plan's names or the model's. One input alone needs no name; several do, since
        TensorRT's order need not be the model's, and so do weights and sizes that the plan takes as inputs. A size is
        an int, a sequence of ints, or a tensor of these on the CPU.
    device : torch.device
        The GPU that the plan will run on.

    Returns
    -------
    int
        Index of the first optimization profile that holds all inputs.
    dict
        A tensor for each input, in binding order; sizes as a tensor of one dimension on the CPU.

    Raises
    ------
    OutOfRange
        If only sizes or values are outside every profile.
    ShapeError
        If an input is missing, unknown, or anything else is wrong with one.
    """
    named = _named(plan, inputs)
    ready = {tensor.name: _checked(tensor, named[tensor.name], device) for tensor in plan.inputs}
    problems = []
    for index in range(max((len(tensor.profiles) for tensor in plan.inputs), default=1)):
        outside = [_outside(tensor, tensor.profiles[index], ready[tensor.name]) for tensor in plan.inputs]
        if not any(outside):
            return index, ready
        problems.append(next(filter(None, outside)))
    if len(problems) == 1:
        raise OutOfRange(f"{problems[0]}: stay in that range, or build it again with a wider one.")
    listed = "; ".join(f"profile {index}: {problem}" for index, problem in enumerate(problems))
    raise OutOfRange(f"no optimization profile of the plan holds these inputs ({listed}).")


def _named(plan: Plan, inputs: Any) -> Mapping[str, Any]:
    """The inputs by the plan's names."""
    names = [tensor.name for tensor in plan.inputs]
    if not isinstance(inputs, Mapping):
        if isinstance(inputs, str | bytes | torch.Tensor) or not isinstance(inputs, Sequence):
            kind = type(inputs).__name__
            raise ShapeError(f"the inputs are a {kind}; give a list of tensors, or a dictionary by name.")
        if len(names) > 1 or not all(map(_is_data, plan.inputs)):  # whose order may not be the model's
            raise ShapeError(f"the plan takes {_kinds(plan, names)}; give them by name, in a dictionary.")
        if len(inputs) != len(names):
            raise ShapeError(f"{len(inputs)} inputs were given; the plan takes {len(names)} ({_list(names)}).")
        return dict(zip(names, inputs, strict=True))
    names_of_plan = {tensor.argument: tensor.name for tensor in plan.inputs if tensor.argument}
    renamed = [str(names_of_plan.get(name, name)) for name in inputs]
    if twice := [name for name in names if renamed.count(name) > 1]:
        raise ShapeError(f"{_list(twice)} was given twice, by the plan's name and the model's; give it once.")
    if unknown := [name for name in renamed if name not in names]:
        raise ShapeError(f"{_list(unknown)} is no input of the plan; it takes {_list(names)}.")
    if missing := [name for name in names if name not in renamed]:
        raise ShapeError(f"the plan also takes {_kinds(plan, missing)}; give all inputs by name.")
    return dict(zip(renamed, inputs.values(), strict=True))


def _is_data(tensor: PlanTensor) -> bool:
    return tensor.kind not in ("weight", "shape") and not tensor.is_shape_tensor


def _kinds(plan: Plan, names: Sequence[str]) -> str:
    """``the inputs x; the weights w, v; the sizes s``."""
    groups: dict[str, list[str]] = {}
    for tensor in plan.inputs:
        if tensor.name in names:
            kind = "inputs" if _is_data(tensor) else "weights" if tensor.kind == "weight" else "sizes"
            groups.setdefault(kind, []).append(tensor.name)
    return " and ".join(f"the {kind} {_list(members)}" for kind, members in groups.items())


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:7])} and {len(names) - 7} more"


def _checked(expected: PlanTensor, value: Any, device: torch.device) -> torch.Tensor:
    """An input as TensorRT needs it, whatever its sizes and values."""
    if expected.is_shape_tensor:
        return _sizes(expected, value)
    name, dtype = expected.name, getattr(torch, expected.dtype)
    refuse_unusual(name, value)
    if value.dtype != dtype:
        raise ShapeError(f"{name} is {value.dtype}; the plan takes {dtype}: convert it with {name}.to({dtype}).")
    if value.device != device:
        raise ShapeError(f"{name} is on {value.device}; the plan runs on {device}: pass {name}.to({str(device)!r}).")
    refuse_views(name, value)
    if value.requires_grad and expected.kind != "weight":
        raise ShapeError(f"{name} requires grad, and a plan computes no gradients: pass {name}.detach().")
    return value.detach()


def _sizes(expected: PlanTensor, value: Any) -> torch.Tensor:
    """Sizes that are passed as numbers, as a tensor on the CPU, which is where TensorRT reads them."""
    if isinstance(value, torch.Tensor):
        if value.device.type != "cpu":
            raise ShapeError(f"{expected.name} is on {value.device}, and TensorRT reads sizes on the CPU: pass ints.")
        value = value.tolist()
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise ShapeError(f"{expected.name} is {value!r}; give one whole number or a list of them.")
    try:
        return torch.tensor(numbers, dtype=getattr(torch, expected.dtype))
    except (RuntimeError, ValueError, OverflowError):
        raise ShapeError(f"{expected.name} is {value!r}, which {expected.dtype} does not hold.") from None


def _outside(expected: PlanTensor, profile: Profile, tensor: torch.Tensor) -> str | None:
    """What an input has that a profile does not hold; None if nothing."""
    low, _, high = profile
    name, is_values = expected.name, expected.is_shape_tensor
    given = tensor.tolist() if is_values else tuple(tensor.shape)
    if len(given) != len(low):
        shown = ", ".join(_range(least, most) for least, most in zip(low, high, strict=True))
        has = f"{len(given)} values" if is_values else f"{len(given)} dimensions, shape {given}"
        raise ShapeError(f"{name} has {has}; give {len(low)}: [{shown}].")
    for axis, (number, least, most) in enumerate(zip(given, low, high, strict=True)):
        if not least <= number <= most:
            what = f"value {number} at index {axis}" if is_values else f"size {number} in dim {axis}"
            return f"{name} has {what}, and the plan was built for {_range(least, most)}"
    return None


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def run(
    file: str | Path, inputs: Sequence[Any] | Mapping[str, Any], *, trust: bool = False
) -> tuple[torch.Tensor, ...]:
    """Load a plan that :func:`tutorial_lib.engines.files.save` wrote and run it once on torch's current CUDA stream.

    Never run by us on a card that TensorRT for RTX supports (see the module). Before the plan is deserialized, these
    are checked in this order: `trust`, description, digest, GPU, target, version of TensorRT for RTX, inputs, and free
    memory, without what the plan allocates at run time.

    Parameters
    ----------
    file : str or Path
        The plan, with its description beside it.
    inputs : sequence or mapping
        As for :func:`check_inputs`; tensors on one GPU.
    trust : bool
        A plan is native code. Say True if you know where it comes from.

    Returns
    -------
    tuple of torch.Tensor
        The outputs in binding order, on the GPU, complete when this returns.

    Raises
    ------
    PlanError
        If it may not or cannot run here.
    OutOfRange, ShapeError
        If the inputs do not fit the profiles.
    EnginesUnavailable
        If TensorRT for RTX is not installed.
    """
    if not trust:
        raise PlanError(
            f"{file} holds native code, which can do on this machine whatever you can: run it only if you know where "
            "it comes from, with trust=True."
        )
    plan = read(file)
    device = _device(inputs)
    if problem := targets.why_not_on(torch.cuda.get_device_capability(device), plan.targets):
        raise PlanError(f"{file} cannot run on {torch.cuda.get_device_name(device)}: {problem}")
    target = "sm75" if "sm75" in plan.targets else None
    made_by = plan.versions.get("torch-tensorrt-rtx")
    if problem := targets.refusal_after_build(target, plan.is_dynamic, made_by):
        raise PlanError(f"{file} is refused: {problem}")
    trt = _tensorrt_rtx()
    if trt.__version__ != plan.tensorrt_version:
        raise PlanError(
            f"{file} was built by TensorRT for RTX {plan.tensorrt_version}, and {trt.__version__} is installed here; "
            "plans are not portable between releases: build it again."
        )
    profile, tensors = check_inputs(plan, inputs, device)
    if fits(plan, torch.cuda.mem_get_info(device)[0], at_max=False) or plan.allocates_at_run_time:
        torch.cuda.empty_cache()  # what torch holds and does not use is not free for TensorRT
    if problem := fits(plan, torch.cuda.mem_get_info(device)[0], at_max=False):
        raise PlanError(f"{file} does not fit on {torch.cuda.get_device_name(device)}: {problem}")
    with torch.cuda.device(device), torch.no_grad():
        return _execute(trt, plan, profile, tensors, device)


def _device(inputs: Any) -> torch.device:
    """The GPU that the inputs are on, else torch's current one."""
    if not torch.cuda.is_available():
        built = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch sees none here"
        raise PlanError(f"a plan runs on an NVIDIA GPU, and {built}; it can be read and compared here, not run.")
    values = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, Sequence) else ()
    for value in values:
        if isinstance(value, torch.Tensor) and value.device.type == "cuda":
            return value.device
    return torch.device("cuda", torch.cuda.current_device())


def _tensorrt_rtx() -> Any:
    """The module ``tensorrt_rtx`` of the reader's environment, else of the folder that engines are built from."""
    with contextlib.ExitStack() as stack:
        if "tensorrt_rtx" not in sys.modules and importlib.util.find_spec("tensorrt_rtx") is None:
            folder = install.located().folder
            if PathFinder.find_spec("tensorrt_rtx", [str(folder)]) is None:
                raise EnginesUnavailable(f"TensorRT for RTX is not in {folder}; run `{install.COMMAND}`.")
            stack.enter_context(_only_tensorrt_rtx_from(folder))
        try:
            return importlib.import_module("tensorrt_rtx")
        except (ImportError, OSError) as error:
            raise PlanError(f"TensorRT for RTX is installed and cannot be imported ({first_line(error)}).") from error


@contextlib.contextmanager
def _only_tensorrt_rtx_from(folder: Path) -> Iterator[None]:
    """Let the packages ``tensorrt_rtx*`` be imported from `folder`, and none of the others that are in it."""

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
            return PathFinder.find_spec(name, path or [str(folder)]) if name.startswith("tensorrt_rtx") else None

    sys.meta_path.append(Finder)
    try:
        yield
    finally:
        sys.meta_path.remove(Finder)


def _execute(
    trt: Any, plan: Plan, profile: int, tensors: Mapping[str, torch.Tensor], device: torch.device
) -> tuple[torch.Tensor, ...]:
    """Deserialize a plan and run it. Nothing checks `tensors` any more."""
    log = collector(trt)
    engine = trt.Runtime(log).deserialize_cuda_engine(plan.data)
    if engine is None:
        raise PlanError(f"TensorRT for RTX refused the plan ({log.reason()}).")
    _compare(engine, plan)
    context = engine.create_execution_context()
    if context is None:
        raise PlanError(f"TensorRT for RTX could not prepare the plan to run ({log.reason()}).")
    stream = torch.cuda.current_stream(device)
    if profile and not context.set_optimization_profile_async(profile, stream.cuda_stream):
        raise PlanError(f"TensorRT for RTX refused optimization profile {profile} ({log.reason()}).")
    alive = []  # memory that TensorRT uses until the stream has been waited for
    for expected in plan.inputs:
        tensor = tensors[expected.name]
        if not expected.is_shape_tensor:
            tensor = tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor
            if not context.set_input_shape(expected.name, tuple(tensor.shape)):
                raise PlanError(f"TensorRT for RTX refused the shape of {expected.name} ({log.reason()}).")
        _bind(context, expected.name, tensor, log)
        alive.append(tensor)
    if incomplete := context.infer_shapes():
        raise PlanError(f"TensorRT for RTX cannot tell the shapes that follow from {', '.join(incomplete)}.")
    outputs = []
    for expected in plan.outputs:
        shape = tuple(context.get_tensor_shape(expected.name))
        if any(size < 0 for size in shape):
            raise PlanError(f"the shape of {expected.name} depends on values, {shape}, which this cannot run.")
        is_on_cpu = engine.get_tensor_location(expected.name) == trt.TensorLocation.HOST
        output_device = torch.device("cpu") if is_on_cpu else device
        output = torch.empty(shape, dtype=getattr(torch, expected.dtype), device=output_device)
        _bind(context, expected.name, output, log)
        outputs.append(output)
    if not context.execute_async_v3(stream.cuda_stream):
        needs_more = "; it allocates memory at run time: free some, or give smaller inputs"
        hint = needs_more if plan.allocates_at_run_time else ""
        raise PlanError(f"TensorRT for RTX could not run the plan ({log.reason()}){hint}.")
    stream.synchronize()
    return tuple(outputs)


def _compare(engine: Any, plan: Plan) -> None:
    """Refuse a plan whose own inputs and outputs are not those of its description."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    expected = {tensor.name: tensor.dtype for tensor in (*plan.inputs, *plan.outputs)}
    if {name: dtype_name(engine.get_tensor_dtype(name).name) for name in names} != expected:
        raise PlanError("the plan has other inputs and outputs than its description says; save it again.")


def _bind(context: Any, name: str, tensor: torch.Tensor, log: Any) -> None:
    if not context.set_tensor_address(name, tensor.data_ptr()):
        raise PlanError(f"TensorRT for RTX refused the memory of {name} ({log.reason()}).")
