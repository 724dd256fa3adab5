"""Object files that the C++ compiler made before in this process.

Most of a build ahead of time is g++ on generated C++, which is often the same, letter by letter: that of the paths
``input`` and ``export``, and that of another opt where the generated kernels do not depend on it. An object is taken
again only for the same command in the same folder and the same source, comments apart. Weights are no part of these
sources.
"""

import contextlib
import hashlib
import importlib
import itertools
import re
import shlex
import threading
from collections.abc import Callable, Iterator, MutableMapping
from functools import partial
from pathlib import Path
from unittest import mock

from cachetools import LRUCache

BYTES = 64 << 20
"""Memory for objects; what was used longest ago goes first."""
COMMENTS = re.compile(rb"^//.*$", flags=re.MULTILINE)

Key = tuple[str, str, bytes]
_objects: MutableMapping[Key, bytes] = LRUCache(BYTES, getsizeof=len)
_lock = threading.Lock()


@contextlib.contextmanager
def reused(tell: Callable[[], None]) -> Iterator[None]:
    """Inside the ``with`` block, Inductor's compile commands take objects of earlier such blocks; `tell` hears of each.

    Does nothing with a torch whose Inductor runs its commands in another way.
    """
    builder = importlib.import_module("torch._inductor.cpp_builder")
    run = getattr(builder, "run_compile_cmd", None)
    if run is None:
        yield
        return
    with mock.patch.object(builder, "run_compile_cmd", partial(_compile, run, tell)):
        yield


def _compile(run: Callable[[str, str], None], tell: Callable[[], None], cmd_line: str, cwd: str) -> None:
    """What stands in for Inductor's ``run_compile_cmd``, with the names of its parameters."""
    files = _source_and_object(cmd_line)
    if files is None:
        run(cmd_line, cwd)
        return
    source, output = (Path(cwd, file) for file in files)
    # Inductor adds the command to the source as a comment, once more with every build.
    code = COMMENTS.sub(b"", source.read_bytes()).strip()
    key = cmd_line, str(cwd), hashlib.sha256(code).digest()
    with _lock:
        content = _objects.get(key)
    if content is not None:
        output.write_bytes(content)
        tell()
        return
    run(cmd_line, cwd)
    content = output.read_bytes()
    with _lock:
        if len(content) <= BYTES:
            _objects[key] = content


def _source_and_object(command: str) -> tuple[str, str] | None:
    """The one C++ source that a command compiles, and the object that it makes of it; None for any other command."""
    words = shlex.split(command)
    sources = [word for word in words if word.endswith(".cpp")]
    outputs = [after for word, after in itertools.pairwise(words) if word == "-o"]
    if "-c" in words and len(sources) == len(outputs) == 1 and outputs[0].endswith(".o"):
        return sources[0], outputs[0]
    return None
