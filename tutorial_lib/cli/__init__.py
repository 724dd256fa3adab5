"""The commands of ``python -m tutorial_lib``, in ``commands`` or one module each, and their ``arguments``."""

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one sentence on stderr."""
    from tutorial_lib.cli import commands  # here, so that `doctor` can be imported where what others need is missing

    return commands.main(arguments)
