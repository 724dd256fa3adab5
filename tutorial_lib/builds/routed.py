"""Several profiles where an engine has one range: a program for each, and the first that holds the sizes runs a call.

Torch-TensorRT 2.14 puts several profiles into one engine, ahead of time. Nothing else here can, so what this makes
says in its report that it is several programs; each of them has weights of its own.
"""

import contextlib
import functools
import io
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tutorial_lib.builds.program import Compiled
from tutorial_lib.checks.range_check import OutOfRange
from tutorial_lib.core.models import Case
from tutorial_lib.core.profiles import Profile, holding, none_takes
from tutorial_lib.core.shapes import TensorSpec, sizes_of


def routed(case: Case, programs: Sequence[Compiled]) -> Compiled:
    """One program out of `programs`, which were built for the profiles of `case`, in that order."""
    builds = [program.build for program in programs]
    first = builds[0]
    sizes = [build.artefact_bytes for build in builds]
    left = [build.left_to_pytorch for build in builds]
    why = "just in time there are no profiles" if first.path == "jit" else f"{first.backend} has no profiles"
    notes = [f"{why}: this is {len(programs)} programs, one for each, and a call runs the first that holds its sizes"]
    for number, build in enumerate(builds):
        notes += [note if note in first.notes else f"profile {number}: {note}" for note in build.notes]
    build = replace(
        first,
        seconds=sum(build.seconds for build in builds),
        artefact_bytes=None if None in sizes else sum(size for size in sizes if size is not None),
        left_to_pytorch=None if None in left else tuple(sorted({name for names in left for name in names or ()})),
        notes=tuple(dict.fromkeys(notes)),
        reused="; ".join(dict.fromkeys(build.reused for build in builds if build.reused)) or None,
        checked=tuple(sizes for build in builds for sizes in build.checked),
        not_checked=tuple(sizes for build in builds for sizes in build.not_checked),
    )
    engines = [engine for build in builds for engine in build.engines]
    run = router(case.inputs, case.profiles, [_without_check(program) for program in programs])
    serialize = None if first.path == "jit" else functools.partial(_together, programs)
    return Compiled(case, run, build, engines, contextlib.nullcontext, serialize)


def _without_check(program: Compiled) -> Callable[..., Any]:
    """A call of `program` past its own range check: the one in front of all programs has run."""
    return lambda *inputs: program._call(inputs)


def router(
    specs: Sequence[TensorSpec], profiles: Sequence[Profile], programs: Sequence[Callable[..., Any]]
) -> Callable[..., Any]:
    """A call that goes to the program of the first profile that holds its sizes; OutOfRange where none does."""

    def run(*inputs: torch.Tensor) -> Any:
        sizes = sizes_of(specs, inputs)
        number = holding(profiles, sizes)
        if number is None:
            raise OutOfRange(none_takes(profiles, sizes))
        return programs[number](*inputs)

    return run


def _together(programs: Sequence[Compiled]) -> bytes:
    """The files of several programs as one zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for number, program in enumerate(programs):
            assert program.serialize
            archive.writestr(_member(number), program.serialize())
    return buffer.getvalue()


def apart(file: Path, count: int) -> list[Path]:
    """The files of `count` programs, unpacked beside the archive `file` that holds them."""
    files = [file.with_name(_member(number)) for number in range(count)]
    with zipfile.ZipFile(file) as archive:
        for target in files:
            with archive.open(target.name) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    return files


def _member(number: int) -> str:
    return f"profile_{number}.pt2"
