"""Files that are written whole or not at all, and folders that belong to one user."""

import contextlib
import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """The tutorial's cache folder, private to this user.

    ``$TUTORIAL_LIB_CACHE`` if set, else ``$XDG_CACHE_HOME/tutorial_lib``, else ``~/.cache/tutorial_lib``.
    """
    root = os.environ.get("TUTORIAL_LIB_CACHE")
    folder = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutorial_lib"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def write_whole(path: Path, content: str | bytes) -> bool:
    """Write a small cache file so that no reader ever sees half of it; False if the folder refuses."""
    data = content.encode() if isinstance(content, str) else content
    name = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            name = file.name
            file.write(data)
        os.replace(name, path)
    except OSError:
        if name:
            with contextlib.suppress(OSError):
                os.unlink(name)
        return False
    return True
