"""Runs a benchmark's own script again, in a process of its own, with caches that are empty at first."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Again = Callable[..., Any]
"""Called with the words of a command line, once for each process; returns what it prints last, as JSON."""


@contextlib.contextmanager
def processes(script: str) -> Iterator[tuple[Path, Again]]:
    """A folder for this while, and what runs `script` in processes that share the caches in it."""
    with tempfile.TemporaryDirectory(prefix="tutorial_lib-") as folder:
        caches = {"TUTORIAL_LIB_CACHE": f"{folder}/tutorial", "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}

        def again(*words: str) -> Any:
            command = [sys.executable, script, *words]
            done = subprocess.run(command, env={**os.environ, **caches}, stdout=subprocess.PIPE, check=True)
            return json.loads(done.stdout.splitlines()[-1])

        yield Path(folder), again
