"""A folder for Inductor's cache that can be used: PyTorch makes it while it is imported, and fails where it cannot."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tutorial_lib.core.errors import system_reason

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


@dataclass(frozen=True)
class Problem:
    """Why the folder in the environment was not used, and what to do."""

    cause: str
    fix: str

    def __str__(self) -> str:
        return f"{self.cause}. {self.fix}"


_problem: Problem | None = None


def prepare() -> None:
    """Set another cache folder for this process if the one in the environment cannot be used; call it before Dynamo."""
    global _problem
    folder = os.environ.get(VARIABLE)
    why_not = _why_not(Path(folder)) if folder else None
    if why_not:
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="tutorial_lib-inductor-")
        _problem = Problem(
            f"Inductor's cache folder {folder} cannot be used ({why_not}); this process uses {os.environ[VARIABLE]}",
            f"Set {VARIABLE} to a folder that can be written, without a space in its path.",
        )


def problem() -> Problem | None:
    """What was wrong with the folder in the environment; None if it is used."""
    return _problem


def _why_not(folder: Path) -> str | None:
    if any(character.isspace() for character in str(folder)):
        return "a space in its path splits the C++ compiler's command"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return system_reason(error)
