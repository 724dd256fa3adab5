"""Packages that were compiled ahead of time, stored on disk so that another kernel need not compile them again.

A package is native code, so it is only used if nobody else could have put it there: the folder has to belong to this
user and be closed to others, and the file has to have the digest that was noted when it was written. The key covers
everything that the code depends on: the exported graph with its constants, weights and ranges, the size it is tuned
for, every setting of the compiler, the versions of PyTorch and the compiler, and the processor.

TensorRT's engines are not stored: Torch-TensorRT's own engine cache leaves the arguments of operators out of its key
(``torch_tensorrt/dynamo/_engine_cache.py``), so a model with 8 heads could get the engine of one with 12.
"""

import contextlib
import datetime
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch._inductor.config

from tutorial_lib.builds import report
from tutorial_lib.core.files import cache_folder, replacing, save
from tutorial_lib.core.models import Case

POLICIES = ("off", "reuse", "fresh")
LARGEST = 1 << 30
"""Bytes of all packages together; the least recently used one is deleted first."""
ABANDONED = 3600
"""Seconds after which an unfinished file belongs to a process that died."""
PRIVATE = 0o600

_policy: ContextVar[str] = ContextVar("policy", default="off")


@contextlib.contextmanager
def policy(name: str) -> Iterator[None]:
    """What builds of this thread do with stored packages inside the ``with`` block.

    ``off`` (the default) neither stores packages nor looks for them, ``reuse`` does both, and ``fresh`` builds
    everything anew, without PyTorch's own caches either, and stores the result.
    """
    if name not in POLICIES:
        raise ValueError(f"the policy is {name!r}; use {', '.join(POLICIES)}.")
    token = _policy.set(name)
    try:
        yield
    finally:
        _policy.reset(token)


def current_policy() -> str:
    """The policy in force."""
    return _policy.get()


class CachedPackage(NamedTuple):
    """A package on disk, and when it was built in how many seconds, in words."""

    file: Path
    built: str


def key(path: str, exported: torch.export.ExportedProgram, case: Case, options: dict[str, Any]) -> str:
    """The name under which the package of one path is stored; call it with the compiler's settings in force."""
    digest = hashlib.sha256()
    settings = torch._inductor.config.save_config_portable()
    for changing in ("aot_inductor.metadata", "force_disable_caches"):  # the first is set by each build
        settings.pop(changing, None)
    modules = exported.graph_module.named_modules()  # the branches of torch.cond are modules of their own
    facts = (
        path,
        [(name, module.code) for name, module in modules if isinstance(module, torch.fx.GraphModule)],
        case.inputs,
        exported.graph_signature,
        exported.range_constraints,
        case.traced,
        case.allows_tf32,
        sorted((name, repr(value)) for name, value in {**settings, **options}.items()),
        report.versions("triton"),
        report.device_name(case.device),
        torch.backends.cpu.get_cpu_capability(),
        _compiler_version(options.get("cpp.cxx")),
    )
    digest.update(repr(facts).encode())
    for name, value in sorted({**exported.state_dict, **exported.constants}.items()):
        digest.update(f"{name} ".encode())
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)} {value.stride()}".encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()[:32]


def find(name: str) -> CachedPackage | None:
    """The package of that key, unless it is missing, damaged, or could have been put there by somebody else."""
    folder = _folder()
    file, description = folder / f"{name}.pt2", folder / f"{name}.json"
    try:
        if not all(map(_is_private, (folder, file, description))):
            return None
        metadata = json.loads(description.read_text())
        if metadata["sha256"] != _digest(file):
            return None
        os.utime(file)
        return CachedPackage(file, f"built {metadata['when']} in {metadata['seconds']:.1f} s, found on disk")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(name: str, package: Path, seconds: float) -> str | None:
    """Store a copy of `package`; returns a sentence if that was not possible."""
    folder = _folder()
    when = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(folder):
            return f"not kept for another kernel: others may write to {folder}"
        with package.open("rb") as source, replacing(folder / f"{name}.pt2", PRIVATE) as copy:
            shutil.copyfileobj(source, copy)
        metadata = {"sha256": _digest(package), "when": when, "seconds": seconds}
        save(folder / f"{name}.json", json.dumps(metadata), PRIVATE)
        _make_room(folder)
    except OSError as error:
        return f"not kept for another kernel: {error.strerror or error} ({folder})"
    return None


def _folder() -> Path:
    return cache_folder() / "packages"


def _is_private(path: Path) -> bool:
    """Whether only this user can have written to `path`."""
    status = path.lstat()
    mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return mine and not stat.S_ISLNK(status.st_mode) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _make_room(folder: Path) -> None:
    """Delete the least recently used packages, and unfinished files; several processes may do so at once."""
    packages = []
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = file.stat()
            if file.name.startswith("."):
                if time.time() - status.st_mtime > ABANDONED:
                    file.unlink()
            elif file.suffix == ".pt2":
                packages.append((status.st_mtime, status.st_size, file))
    total = sum(size for _, size, _ in packages)
    for _, size, file in sorted(packages)[:-1]:
        if total <= LARGEST:
            return
        total -= size
        file.unlink(missing_ok=True)
        file.with_suffix(".json").unlink(missing_ok=True)


def _compiler_version(compiler: Any) -> tuple[Any, ...]:
    path = shutil.which(str((compiler or (None, None))[1]))
    if path is None:
        return ()
    status = os.stat(path)
    return os.path.realpath(path), status.st_size, status.st_mtime_ns
