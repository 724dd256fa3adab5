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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch

from tutorial_lib.builds.job import first_line
from tutorial_lib.builds.plan import Plan, PlanTensor, show_bytes
from tutorial_lib.core import files, plain_values
from tutorial_lib.engines.errors import PlanError

SCHEMA = 1
"""Goes up when a reader of the old description would misread the new one."""

LARGEST_DESCRIPTION = 1 << 26
"""Bytes of a description that are read at most."""

KINDS = ("data", "intermediate", "weight", "shape", "")
"""What an input can be, see :class:`tutorial_lib.builds.plan.PlanTensor`."""


class HasPlan(Protocol):
    """An engine: :class:`tutorial_lib.builds.report.Engine`."""

    @property
    def plan(self) -> Plan | None:
        """What TensorRT built; None where nothing was built."""


@dataclass(frozen=True)
class PlanFile:
    """A plan that was read from a file, not run.

    Attributes
    ----------
    path : Path
        The file of the plan.
    saved : str
        When it was saved, with the offset from UTC.
    sha256 : str
        Digest of the plan, 64 hexadecimal digits.
    plan : Plan
        Everything that the description says, with the bytes in ``plan.data``.
    """

    path: Path
    saved: str
    sha256: str
    plan: Plan = field(repr=False)


def description_of(file: str | Path) -> Path:
    """The file of the description beside the plan `file`."""
    path = Path(file)
    if not path.name:
        raise PlanError(f"{str(file)!r} is no name of a file; give one such as model.plan.")
    return path.with_name(f"{path.name}.json")


def save(engine: HasPlan | Plan, file: str | Path, *, overwrite: bool = False) -> PlanFile:
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
    plan, path = engine if isinstance(engine, Plan) else engine.plan, Path(file)
    if plan is None:
        raise PlanError("the engine has no plan, because TensorRT was not asked to build it; build it first.")
    if plan.data is None:
        raise PlanError("the engine's plan was not kept; build it again and ask for the plan.")
    if problem := _problem(plan) or _unreadable(plan):
        raise PlanError(f"the plan cannot be saved, because {problem}.")
    description = description_of(path)
    for each in (path, description):
        _check_writable(each, overwrite)
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    digest = hashlib.sha256(plan.data).hexdigest()
    content = {"tutorial_lib": "plan", "schema": SCHEMA, "saved": now, "sha256": digest, "plan": plan.to_dict()}
    text = json.dumps(content, indent=1, allow_nan=False).encode()
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
            f"{path} could not be written ({error.strerror or error}); choose another folder or make room."
        ) from error
    return PlanFile(path, now, digest, plan)


def _unreadable(plan: Plan) -> str | None:
    """Why a description of the plan could not be read again; None if it could."""
    try:
        Plan.from_dict(plan.to_dict())
    except ValueError as error:
        return first_line(error)
    return None


def _check_writable(path: Path, overwrite: bool) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise PlanError(f"{path} cannot be written, because there is no folder {path.parent}; make it.") from None
        return
    except (OSError, ValueError) as error:
        raise PlanError(f"{path} cannot be written ({_reason(error)}); choose another name.") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "no ordinary file"
        raise PlanError(f"{path} is {what} and will not be replaced; give another name.")
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


@dataclass(frozen=True)
class _Note:
    """A description, apart from the plan."""

    tutorial_lib: str
    schema: int
    saved: str
    sha256: str


def read(file: str | Path) -> PlanFile:
    """Read a plan and its description; nothing of it runs.

    Raises
    ------
    PlanError
        If a file is missing, is no such file, or is damaged.
    """
    path = Path(file)
    note, plan = _described(description_of(path))
    data = _content(path, "the plan")
    if len(data) != plan.plan_bytes or hashlib.sha256(data).hexdigest() != note.sha256:
        raise PlanError(
            f"{path} is not the plan that {description_of(path).name} describes (its digest differs); "
            "copy both files again, or save the plan again."
        )
    return PlanFile(path, note.saved, note.sha256, replace(plan, data=data))


def _described(path: Path) -> tuple[_Note, Plan]:
    text = _content(path, "the description of the plan")
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} is damaged ({first_line(error)}); copy it again, or save the plan again.") from error
    if not isinstance(content, dict) or content.get("tutorial_lib") != "plan":
        raise PlanError(f"{path} does not describe a plan; give a file that engines.save wrote.")
    if content.get("schema") != SCHEMA:
        raise PlanError(
            f"{path} has schema {content.get('schema')!r}, and this version of tutorial_lib reads schema {SCHEMA}; "
            "read it with the version that saved it."
        )
    try:
        plan = Plan.from_dict(content.pop("plan", None))
        note = plain_values.read(_Note, content)
        if not re.fullmatch("[0-9a-f]{64}", note.sha256):
            raise ValueError("sha256 is no digest")
        if problem := _problem(plan):
            raise ValueError(problem)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} is damaged ({first_line(error)}); copy it again, or save the plan again.") from error
    return note, plan


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
        raise PlanError(f"{path} cannot be read ({_reason(error)}).") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _problem(plan: Plan) -> str | None:
    """What contradicts itself in a plan, after "because"; None if nothing does."""
    if plan.data is not None and len(plan.data) != plan.plan_bytes:
        return f"it has {len(plan.data)} bytes and says {plan.plan_bytes}"
    if not plan.tensorrt_version:
        return 'the version of TensorRT for RTX is missing in it (versions["tensorrt-rtx"])'
    if not plan.targets or not all(re.fullmatch(r"sm\d{2,3}", target) for target in plan.targets):
        return f"its targets are {', '.join(map(repr, plan.targets)) or 'missing'}"
    names = [tensor.name for tensor in (*plan.inputs, *plan.outputs)]
    if len(set(names)) < len(names) or not all(names):
        return "two of its inputs and outputs have the same name, or one has none"
    if not plan.outputs:
        return "it has no outputs"
    if len({len(tensor.profiles) for tensor in plan.inputs}) > 1 or not all(tensor.profiles for tensor in plan.inputs):
        return "the profiles of its inputs are missing, or not as many for each"
    return next(filter(None, map(_tensor_problem, (*plan.inputs, *plan.outputs))), None)


def _tensor_problem(tensor: PlanTensor) -> str | None:
    if not isinstance(getattr(torch, tensor.dtype, None), torch.dtype):
        return f"{tensor.name} has the unknown dtype {tensor.dtype!r}"
    if tensor.kind not in KINDS:
        return f"{tensor.name} is of the unknown kind {tensor.kind!r}"
    for low, opt, high in tensor.profiles:
        ordered = all(least <= middle <= most for least, middle, most in zip(low, opt, high, strict=False))
        if not len(low) == len(opt) == len(high) or not ordered:
            return f"the profile of {tensor.name} is not min <= opt <= max"
        if not tensor.is_shape_tensor and any(size < 0 for size in low):
            return f"the profile of {tensor.name} has a negative size"
    return None


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


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
