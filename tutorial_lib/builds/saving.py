"""A program that was compiled ahead of time, as one file that another process can load and call.

The file is a zip archive of three members, none of them compressed:

==============  ======================================================================================
member          content
==============  ======================================================================================
program.pt2     the backend's own artefact, below
about.json      inputs with their ranges, precision, device, the report of the build, and the machine
SHA256SUMS      digests of the other two, in the format of the command ``sha256sum``
==============  ======================================================================================

========  ===========================  =====================================================================
backend   program.pt2                  what loading it may run
========  ===========================  =====================================================================
inductor  AOTInductor's package        native code
openvino  a zip of OpenVINO's blob     OpenVINO's reader of its own format; no Python
          and how the result is made
eager     ``torch.export.save``        ``torch.export.load`` reads weights as they are, but evaluates
                                       expressions, and unpickles what it finds pickled
tensorrt  ``torch_tensorrt.save``      the same, and it always unpickles: the engine is kept in a pickle that
                                       holds another one with the compiler's settings
========  ===========================  =====================================================================

So load only what you trust. All that can be checked beforehand is checked before any of that runs, from
``about.json`` alone, which holds no code. The digests find damage; they do not prove who wrote the file.

Loading in another process is tested with inductor and eager, on a CPU and an NVIDIA GPU, and with openvino on a CPU.
With tensorrt, saving and loading is tested in one process, through Torch-TensorRT 2.13, without an engine: no real
engine was saved yet.
"""

import contextlib
import datetime
import hashlib
import json
import platform
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tutorial_lib.builds import compat, report, routed
from tutorial_lib.builds.backends import inductor, openvino, tensorrt
from tutorial_lib.builds.job import NotSerializable
from tutorial_lib.builds.program import LOCK, Compiled, Program
from tutorial_lib.builds.report import Build
from tutorial_lib.core import plain_values, precision
from tutorial_lib.core.errors import first_line, system_reason
from tutorial_lib.core.files import replacing
from tutorial_lib.core.profiles import Profile, read_profiles
from tutorial_lib.core.shapes import DerivedDim, DynamicDim, TensorSpec, named_dims

FIRST_SCHEMA, SCHEMA = 1, 2
"""Versions of ``about.json``: an older reader would misread several profiles, and only they need the second."""

PROGRAM, METADATA, SUMS = "program.pt2", "about.json", "SHA256SUMS"
LARGEST_TEXT = 1 << 24
"""Largest size of ``about.json`` in bytes."""
GIVE = "give a file that saving.save wrote"

SAME_VERSIONS = {
    "eager": ("torch",),
    "inductor": ("torch",),
    "openvino": ("torch", *openvino.PACKAGES),
    "tensorrt": ("torch", *tensorrt.PACKAGES),
}
"""Packages whose releases must be equal: none promises to read what another release wrote."""


class ArtefactError(RuntimeError):
    """A program that cannot be saved, or a file that cannot be loaded here; nothing was written or loaded."""


class Loaded(Program):
    """A program from a file. It has no model to fall back on, so a call outside the range always raises."""

    @property
    def dims(self) -> dict[str, DynamicDim]:
        """The dynamic dimensions by name."""
        return named_dims(self.inputs)

    def __repr__(self) -> str:
        ranges = "".join(f", {dim}" for dim in self.dims.values())
        return f"<Loaded {self.build.case}: {self.build.path} with {self.build.backend}{ranges}>"


def save(program: Compiled, path: str | Path) -> None:
    """Write a program of the input or the export path to the file `path`, or leave `path` as it was.

    Parameters
    ----------
    program : Compiled
        What one of the two paths built, with any backend.
    path : str or Path
        Any name; ``.dynpt`` says what it is.

    Raises
    ------
    ArtefactError
        If the program is one that cannot be saved, or the file cannot be written.
    """
    path = Path(path)
    if not isinstance(program, Compiled):
        instead = "copy the file that it came from" if isinstance(program, Loaded) else "give what a path returned"
        raise ArtefactError(f"a {type(program).__name__} cannot be saved; {instead}.")
    build = program.build
    if program.serialize is None:
        raise ArtefactError(
            f"what the {build.path} path built cannot be saved, because its guards and graphs live in the Python "
            "process that traced it; build with paths.export or paths.input, or start from Inductor's warm cache."
        )
    try:
        with replacing(path) as file:
            try:
                with _alone():
                    content = program.serialize()
            except NotSerializable as error:
                raise ArtefactError(f"{build.case} cannot be saved: {error}.") from None
            except Exception as error:
                reason = f"{type(error).__name__}: {first_line(error)}"
                raise ArtefactError(f"{build.case} could not be saved by {build.backend} ({reason}).") from error
            metadata = json.dumps(Metadata.of(program).to_dict(), indent=1).encode()
            sums = "".join(_sum(name, data) for name, data in ((METADATA, metadata), (PROGRAM, content)))
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(METADATA, metadata)  # first, because load() tells an artefact by it
                archive.writestr(SUMS, sums)
                archive.writestr(PROGRAM, content)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise ArtefactError(
            f"{path} could not be written ({system_reason(error)}); choose another place or make room."
        ) from error


def _sum(name: str, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n"


def load(path: str | Path) -> Loaded:
    """Load a program that :func:`save` wrote, behind the same range check.

    The model's class is not needed. Load only what you trust: a program is code (see the table above).

    Raises
    ------
    ArtefactError
        If the file is damaged, not one of these, or was built for another machine or other versions.
    """
    path, start = Path(path), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tutorial_lib-") as folder:  # every loader reads the whole file
        file = Path(folder) / PROGRAM
        metadata = Metadata.from_dict(_extract(path, file), path)
        build, device = metadata.build, torch.device(metadata.device)
        again = f"build it again here with paths.{build.path}(case, {build.backend!r})."
        problem = _why_not(metadata)
        if problem:
            raise ArtefactError(f"{path} was built {problem}; {again}")
        try:
            with _alone():
                if metadata.profiles and build.backend != "tensorrt":
                    files = routed.apart(file, len(metadata.profiles))
                    programs = [_loaded(each, build.backend, device) for each in files]
                    program = routed.router(metadata.inputs, metadata.profiles, programs)
                else:
                    program = _loaded(file, build.backend, device)
                    if metadata.profiles:
                        tensorrt.select_profiles(program)  # type: ignore[arg-type]
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ArtefactError(f"{path} could not be loaded by {build.backend} ({reason}); {again}") from error
    seconds = time.perf_counter() - start
    note = f"loaded from {path} in {seconds:.2f} s; built on {build.device}, saved {metadata.saved}"
    if device.type == "cuda" and report.device_name(device) != build.device:
        note += f", so not tuned for {report.device_name(device)}"
    build = replace(build, notes=(*build.notes, note))
    allows_tf32 = precision.allows_tf32(metadata.precision, device)
    return Loaded(metadata.inputs, device, program, build, allows_tf32, metadata.profiles)


def _loaded(file: Path, backend: str, device: torch.device) -> Callable[..., Any]:
    if backend == "inductor":
        return inductor.load(file, device)
    if backend == "openvino":
        return openvino.load(file)
    if backend == "tensorrt":
        return tensorrt.load(file)
    return torch.export.load(file).module()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """As for builds, because torch's writers and readers trace as well: one at a time, without gradients."""
    with LOCK, torch.no_grad(), compat.upstream_warnings_ignored():
        yield


# ---- about.json -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What native code depends on, apart from versions.

    Attributes
    ----------
    system : str
        Operating system and processor family, such as ``linux x86_64``.
    instructions : tuple of str
        The processor's instruction sets for arithmetic, all of which compilers use; its name where Linux lists none.
    compute_capability : tuple of int or None
        Of the GPU.
    """

    system: str
    instructions: tuple[str, ...]
    compute_capability: tuple[int, ...] | None

    @classmethod
    def here(cls, device: torch.device) -> "Machine":
        """The machine this runs on, with the GPU `device` if it is one."""
        capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
        return cls(f"{sys.platform} {platform.machine()}", _instructions(), capability)

    def why_not(self, here: "Machine") -> str | None:
        """Why code for this machine cannot run `here`, to follow "was built"; None if it can."""
        if self.system != here.system:
            return f"for {self.system}, and this is {here.system}"
        missing = [name for name in self.instructions if name not in here.instructions]
        if missing:
            return f"for a CPU with {', '.join(missing)}, which this one lacks"
        if self.compute_capability != here.compute_capability:
            then, now = (".".join(map(str, machine.compute_capability or ())) for machine in (self, here))
            return f"for a GPU of compute capability {then}, and this one has {now}"
        return None


def _instructions() -> tuple[str, ...]:
    with contextlib.suppress(OSError):
        flags = re.search(r"^(?:flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if flags:
            arithmetic = r"(?:s?sse|pni|avx|amx|fma|f16c|bmi|popcnt|abm|movbe|gfni|adx|asimd|sve|fphp|bf16|i8mm)\w*"
            return tuple(sorted(flag for flag in flags[1].split() if re.fullmatch(arithmetic, flag)))
    return (platform.processor() or platform.machine(),)


@dataclass(frozen=True)
class Metadata:
    """The content of ``about.json``."""

    saved: str
    inputs: tuple[TensorSpec, ...]
    precision: str | None
    device: str
    machine: Machine
    build: Build
    profiles: tuple[Profile, ...] = ()

    @classmethod
    def of(cls, program: Compiled) -> "Metadata":
        """The metadata of a program that was built here."""
        now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
        machine = Machine.here(program.device)
        return cls(
            now,
            program.inputs,
            program.case.precision,
            str(program.device),
            machine,
            program.build,
            program.profiles,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        inputs = [{**asdict(spec), "dtype": report.dtype_name(spec.dtype)} for spec in self.inputs]
        build = self.build.to_dict()
        profiles = [list(map(asdict, profile)) for profile in self.profiles]
        schema = SCHEMA if profiles else FIRST_SCHEMA
        plain = {"schema": schema, **vars(self), "inputs": inputs, "machine": asdict(self.machine), "build": build}
        return {**plain, "profiles": profiles}

    @classmethod
    def from_dict(cls, plain: dict[str, Any], path: Path) -> "Metadata":
        """The inverse of :meth:`to_dict`, except that a build's options stay their reprs."""
        try:
            inputs = tuple(_read_spec(spec) for spec in plain["inputs"])
            dims = named_dims(inputs)
            machine = plain_values.read(Machine, plain["machine"], "machine")
            build = Build.from_dict(plain["build"])
            profiles = tuple(tuple(DynamicDim(**dim) for dim in profile) for profile in plain.get("profiles", ()))
            read_profiles(build.case, dims, profiles)
            if plain["precision"] not in (None, *precision.DTYPES) or build.backend not in SAME_VERSIONS:
                raise ValueError(f"precision {plain['precision']!r}, backend {build.backend!r}")
            torch.device(plain["device"])
            return cls(str(plain["saved"]), inputs, plain["precision"], plain["device"], machine, build, profiles)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise _damaged(path, f"{METADATA} cannot be understood: {first_line(error)}") from error


def _dim(plain: int | dict[str, Any]) -> int | DynamicDim | DerivedDim:
    if isinstance(plain, int):
        return plain
    if "base" in plain:
        return DerivedDim(**{**plain, "base": DynamicDim(**plain["base"])})
    return DynamicDim(**plain)


def _read_spec(plain: dict[str, Any]) -> TensorSpec:
    shape, dtype = tuple(map(_dim, plain["shape"])), getattr(torch, plain["dtype"])
    return TensorSpec(plain["name"], shape, dtype, plain.get("high"))


# ---- what is checked before anything is loaded ------------------------------------------------------------------


def _why_not(metadata: Metadata) -> str | None:
    """Why the program cannot run here, to follow "was built"; None if it can."""
    build, device = metadata.build, torch.device(metadata.device)
    here = report.versions(*SAME_VERSIONS[build.backend])
    needed = SAME_VERSIONS[build.backend]
    if device.type == "cuda" and build.backend == "inductor":
        needed = (*needed, "cuda")
    for package in needed:
        then, now = (versions.get(package, "none").split("+")[0] for versions in (build.versions, here))
        if then != now:
            return f"with {package} {then}, and here is {now}"
    if device.type != "cpu" and (device.type != "cuda" or (device.index or 0) >= torch.cuda.device_count()):
        return f"for {device} ({build.device}), and PyTorch sees {torch.cuda.device_count()} NVIDIA GPUs here"
    why_not = {"tensorrt": tensorrt.why_not, "openvino": openvino.why_not}.get(build.backend, lambda device: None)
    if reason := why_not(device):
        return f"by {build.backend}, and here {reason.rstrip('.')}"
    return None if build.backend == "eager" else metadata.machine.why_not(Machine.here(device))


def _extract(path: Path, target: Path) -> dict[str, Any]:
    """Write the program in the file `path` to `target`, and return what ``about.json`` says; nothing of it runs."""
    try:
        file = path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise ArtefactError(f"{path} cannot be read ({system_reason(error)}); {GIVE}.") from error
    with file:
        if file.read(30 + len(METADATA))[30:] != METADATA.encode():  # the name of the first member of a zip archive
            raise ArtefactError(f"{path} is not an artefact; {GIVE}.")
        try:
            with zipfile.ZipFile(file) as archive:
                return _extract_from(archive, path, target)
        except OSError as error:
            raise ArtefactError(
                f"{path} could not be unpacked ({system_reason(error)}); make room in {tempfile.gettempdir()}."
            ) from error
        except ArtefactError:
            raise
        except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
            raise _damaged(path, first_line(error)) from error


def _extract_from(archive: zipfile.ZipFile, path: Path, target: Path) -> dict[str, Any]:
    members = archive.infolist()
    names = [member.filename for member in members]
    if METADATA not in names:  # cut off, it ends like the archive that is its last member
        raise ValueError("its end is missing")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{member.filename} is compressed")
        if member.filename != PROGRAM and member.file_size > LARGEST_TEXT:
            raise ValueError(f"{member.filename} is too large")
    text = archive.read(METADATA)
    metadata = json.loads(text)
    schema = metadata.get("schema") if isinstance(metadata, dict) else None
    if schema not in (FIRST_SCHEMA, SCHEMA):
        raise ArtefactError(
            f"{path} has schema {schema!r}, and this version of tutorial_lib reads schema {SCHEMA}; "
            "load it with the version that saved it."
        )
    if sorted(names) != sorted((METADATA, SUMS, PROGRAM)):
        raise ValueError(f"it holds {', '.join(names)}")
    with archive.open(PROGRAM) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    with target.open("rb") as copied:
        digest = hashlib.file_digest(copied, "sha256").hexdigest()
    sums = archive.read(SUMS).decode()
    for name, line in ((PROGRAM, f"{digest}  {PROGRAM}\n"), (METADATA, _sum(METADATA, text))):
        if line not in sums:
            raise ValueError(f"the digest of {name} is not the one that was noted")
    return metadata


def _damaged(path: Path, what: str) -> ArtefactError:
    return ArtefactError(f"{path} is damaged ({what}); copy it again, or save the program again.")
