"""A folder for Inductor's cache that can be used: PyTorch makes it while it is imported, and fails where it cannot."""

import os
import tempfile
from pathlib import Path

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
_problem: str | None = None


def prepare() -> None:
    """Set another cache folder for this process if the one in the environment cannot be used; call it before Dynamo."""
    global _problem
    folder = os.environ.get(VARIABLE)
    reason = _why_not(Path(folder)) if folder else None
    if reason:
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="tutorial_lib-inductor-")
        _problem = (
            f"Inductor's cache folder {folder} cannot be used ({reason}); this process uses {os.environ[VARIABLE]}. "
            f"Set {VARIABLE} to a folder that can be written, without a space in its path."
        )


def problem() -> str | None:
    """Why the folder in the environment was not used, in one sentence; None if it was."""
    return _problem


def _why_not(folder: Path) -> str | None:
    if any(character.isspace() for character in str(folder)):
        return "a space in its path splits the C++ compiler's command"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)
