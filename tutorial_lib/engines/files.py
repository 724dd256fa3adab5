"""A plan in a file, with a description beside it.

===================  =========================================================================
file                 content
===================  =========================================================================
``model.plan``       the plan as TensorRT for RTX serialized it: native code for a GPU
``model.plan.json``  what it is: inputs in binding order with their profiles, outputs, targets,
                     memory, layers, versions, and the plan's size and SHA-256 digest
===================  =========================================================================

Everything that can be known of a plan is read from the description, in which nothing can run. The digest finds
damage; it does not prove who made the files. :mod:`tutorial_lib.engines.running` runs a plan.
"""

import contextlib
import datetime
import hashlib
import json
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from tutorial_lib.builds.plan import Plan, PlanTensor, show_bytes
from tutorial_lib.builds.report import Engine
from tutorial_lib.core import files, plain_values
from tutorial_lib.core.errors import first_line, system_reason
from tutorial_lib.engines.errors import PlanError

SCHEMA = 1
"""Goes up when a reader of the old description would misread the new one."""

LARGEST_DESCRIPTION = 1 << 26
"""Bytes of a description that are read at most."""

KINDS = ("data", "intermediate", "weight", "shape", "")
"""What an input can be, see :class:`tutorial_lib.builds.plan.PlanTensor`."""


@dataclass(frozen=True)
class _Header:
    """A description, apart from the plan: `saved` is when, with the offset from UTC."""

    tutorial_lib: str
    schema: int
    saved: str
    sha256: str


def description_of(file: str | Path) -> Path:
    """The file of the description beside the plan `file`."""
    path = Path(file)
    if not path.name:
        raise PlanError(f"{str(file)!r} is no name of a file; give one such as model.plan.")
    return path.with_name(f"{path.name}.json")


def save(engine: Engine | Plan, file: str | Path, *, overwrite: bool = False) -> None:
    """Write the plan of an engine to `file`, and its description beside it: both or neither.

    Parameters
    ----------
    engine : Engine or Plan
        Built with its plan kept (``plan.data``).
    file : str or Path
        Such as ``model.plan``; the description is then ``model.plan.json``.
    overwrite : bool
        Replace the two files where they are there.

    Raises
    ------
    PlanError
        If the plan was not kept or is not complete, a file is there already, or it cannot be written.
    """
    plan = engine if isinstance(engine, Plan) else engine.plan
    if plan is None:
        raise PlanError("the engine has no plan, because TensorRT was not asked to build it; build it first.")
    if plan.data is None:
        raise PlanError("the engine's plan was not kept; build it again and ask for the plan.")
    try:
        _check(Plan.from_dict(plan.to_dict()))
        if len(plan.data) != plan.plan_bytes:
            raise ValueError(f"it has {len(plan.data)} bytes and says {plan.plan_bytes}")
    except ValueError as error:
        raise PlanError(f"the plan cannot be saved, because {first_line(error)}.") from error
    path, description = Path(file), description_of(file)
    for each in (path, description):
        _check_writable(each, overwrite)
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    header = _Header("plan", SCHEMA, now, hashlib.sha256(plan.data).hexdigest())
    text = json.dumps({**asdict(header), "plan": plan.to_dict()}, indent=1, allow_nan=False).encode()
    try:
        with (
            _restored(description),
            files.replacing(path) as plan_file,
            files.replacing(description) as description_file,
        ):
            plan_file.write(plan.data)
            plan_file.flush()  # a full disk is noticed before either file gets its name
            description_file.write(text)
            description_file.flush()
    except OSError as error:
        raise PlanError(
            f"{path} could not be written ({system_reason(error)}); choose another folder or make room."
        ) from error


def _check_writable(path: Path, overwrite: bool) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise PlanError(f"{path} cannot be written, because there is no folder {path.parent}; make it.") from None
        return
    except (OSError, ValueError) as error:
        raise PlanError(f"{path} cannot be written ({system_reason(error)}); choose another name.") from error
    if not stat.S_ISREG(mode):
        raise PlanError(f"{path} is no ordinary file and will not be replaced; give another name.")
    if not overwrite:
        raise PlanError(f"{path} is there already; give another name, or overwrite=True.")


@contextlib.contextmanager
def _restored(path: Path) -> Iterator[None]:
    """Put the file `path` back as it was if the ``with`` block fails after replacing it."""
    before = path.read_bytes() if path.is_file() else None
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if before is None:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != before:
                files.save(path, before)
        raise


def read(file: str | Path) -> Plan:
    """Read a plan and its description; nothing of it runs.

    Raises
    ------
    PlanError
        If a file is missing, is no such file, or is damaged.
    """
    path = Path(file)
    header, plan = _described(description_of(path))
    data = _content(path, "the plan")
    if len(data) != plan.plan_bytes or hashlib.sha256(data).hexdigest() != header.sha256:
        raise PlanError(
            f"{path} is not the plan that {description_of(path).name} describes (its digest differs); "
            "copy both files again, or save the plan again."
        )
    return replace(plan, data=data)


def _described(path: Path) -> tuple[_Header, Plan]:
    text = _content(path, "the description of the plan")
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
        if not isinstance(content, dict) or content.get("tutorial_lib") != "plan":
            raise PlanError(f"{path} does not describe a plan; give a file that engines.save wrote.")
        if content.get("schema") != SCHEMA:
            raise PlanError(
                f"{path} has schema {content.get('schema')!r}, and this version of tutorial_lib reads schema {SCHEMA}; "
                "read it with the version that saved it."
            )
        plan = Plan.from_dict(content.pop("plan", None))
        header = plain_values.read(_Header, content)
        if not re.fullmatch("[0-9a-f]{64}", header.sha256):
            raise ValueError("sha256 is no digest")
        _check(plan)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} is damaged ({first_line(error)}); copy it again, or save the plan again.") from error
    return header, plan


def _content(path: Path, what: str) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise PlanError(f"{path} is not a file; give the name of a plan that engines.save wrote.")
        if path.suffix == ".json" and path.stat().st_size > LARGEST_DESCRIPTION:
            raise PlanError(f"{path} is larger than any description of a plan; give a file that engines.save wrote.")
        return path.read_bytes()
    except FileNotFoundError:
        raise PlanError(f"{path}, {what}, is missing; keep the two files that engines.save wrote together.") from None
    except (OSError, ValueError) as error:
        raise PlanError(f"{path} cannot be read ({system_reason(error)}).") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _check(plan: Plan) -> None:
    """Raise a ValueError where a plan contradicts itself."""
    if not plan.tensorrt_version:
        raise ValueError('the version of TensorRT for RTX is missing in it (versions["tensorrt-rtx"])')
    if not plan.targets or not all(re.fullmatch(r"sm\d{2,3}", target) for target in plan.targets):
        raise ValueError(f"its targets are {', '.join(map(repr, plan.targets)) or 'missing'}")
    tensors = (*plan.inputs, *plan.outputs)
    names = {tensor.name for tensor in tensors}
    if len(names) < len(tensors) or "" in names:
        raise ValueError("two of its inputs and outputs have the same name, or one has none")
    if not plan.outputs:
        raise ValueError("it has no outputs")
    if len({len(tensor.profiles) for tensor in plan.inputs}) > 1 or not all(tensor.profiles for tensor in plan.inputs):
        raise ValueError("the profiles of its inputs are missing, or not as many for each")
    for tensor in tensors:
        _check_tensor(tensor)


def _check_tensor(tensor: PlanTensor) -> None:
    if not isinstance(getattr(torch, tensor.dtype, None), torch.dtype):
        raise ValueError(f"{tensor.name} has the unknown dtype {tensor.dtype!r}")
    if tensor.kind not in KINDS:
        raise ValueError(f"{tensor.name} is of the unknown kind {tensor.kind!r}")
    for low, opt, high in tensor.profiles:
        ordered = all(least <= middle <= most for least, middle, most in zip(low, opt, high, strict=False))
        if not len(low) == len(opt) == len(high) or not ordered:
            raise ValueError(f"the profile of {tensor.name} is not min <= opt <= max")
        if not tensor.is_shape_tensor and any(size < 0 for size in low):
            raise ValueError(f"the profile of {tensor.name} has a negative size")


def fits(plan: Plan, free_bytes: int, *, at_max: bool = True) -> str | None:
    """Why a plan does not fit into the GPU memory that is free, as a sentence; None if it may.

    It needs its weights and its activation memory, which is that of the largest shapes whatever shapes come. What it
    allocates at run time (:attr:`Plan.allocates_at_run_time`) grows with the shapes that come, and TensorRT does not
    say how much it is: at the largest shapes, at least :attr:`Plan.least_run_time_bytes`.

    Parameters
    ----------
    plan : Plan
        What TensorRT built.
    free_bytes : int
        Free memory of the card, such as ``torch.cuda.mem_get_info()[0]``.
    at_max : bool
        Whether it has to fit at its largest shapes; else what it allocates at run time is left out.
    """
    at_run_time = plan.least_run_time_bytes if at_max else 0
    if plan.activation_bytes + plan.weight_bytes + at_run_time <= free_bytes:
        return None
    more = f" and at least {show_bytes(at_run_time)} more at run time" if at_run_time else ""
    return (
        f"the plan needs {show_bytes(plan.activation_bytes)} of GPU memory for activations and "
        f"{show_bytes(plan.weight_bytes)} for weights{more}, and {show_bytes(free_bytes)} are free; "
        "build it with a smaller max, or free memory."
    )
