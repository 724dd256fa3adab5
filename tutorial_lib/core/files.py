"""Files that are written whole or not at all, and folders that belong to one user."""

import contextlib
import errno
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from tutorial_lib.core.errors import system_reason


def cache_folder() -> Path:
    """The tutorial's cache folder, private to this user.

    ``$TUTORIAL_LIB_CACHE`` if set, else ``$XDG_CACHE_HOME/tutorial_lib``, else ``~/.cache/tutorial_lib``, on every
    system: platformdirs would move it elsewhere on macOS and Windows.
    """
    root = os.environ.get("TUTORIAL_LIB_CACHE")
    folder = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutorial_lib"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


class FolderError(ValueError):
    """A folder for results that cannot be used, in one sentence."""


def out_folder(text: str) -> Path:
    """The folder for results that a user typed; it need not exist yet.

    Raises
    ------
    FolderError
        If it is a file, lies below one, or cannot be written to.
    """
    folder = Path(text)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise FolderError(f"--out {text}: {existing} is a file; give a folder.")
    try:
        tempfile.TemporaryDirectory(prefix=".tutorial_lib-", dir=existing).cleanup()
    except OSError as error:
        why = system_reason(error)
        raise FolderError(f"--out {text}: {existing} cannot be written to ({why}); give another folder.") from None
    return folder


def with_floats(value: Any, change: Callable[[float], Any]) -> Any:
    """`value`, made of plain values for JSON, with `change` applied to every float in it."""
    if isinstance(value, dict):
        return {key: with_floats(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_floats(item, change) for item in value]
    return change(value) if isinstance(value, float) else value


def save(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write a whole file: readers of `path` see the old content or the new, never half of it."""
    with replacing(path, mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Give a file to write, which becomes `path` at the end of the ``with`` block, or vanishes if that raises.

    As for any new file, the umask takes permissions away from `mode`.

    Raises
    ------
    OSError
        If it cannot be written, or `path` is a device, a pipe or a socket, which a file would replace.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "a device, a pipe or a socket, not a file")
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remembered(name: str, key: str, compute: Callable[[], Any]) -> Any:
    """What `compute` returned for `key` the first time, stored in the JSON file `name` of the cache folder.

    Processes that ask at the same time wait for the first of them and get its answer.
    """
    memo = cache_folder() / name
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NotImplementedError):  # a folder or a file system that takes no locks
            stack.enter_context(FileLock(memo.with_suffix(".lock")))
        try:
            answers = dict(json.loads(memo.read_text()))
        except (OSError, TypeError, ValueError):
            answers = {}
        if key not in answers:
            answers[key] = compute()
            with contextlib.suppress(OSError):  # without a cache folder it is computed again next time
                save(memo, json.dumps(answers, indent=1))
        return answers[key]
