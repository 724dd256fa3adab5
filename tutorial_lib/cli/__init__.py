"""The commands of ``python -m tutorial_lib``, in ``commands`` or one module each, and their ``arguments``."""

from __future__ import annotations  # an old Python has to get as far as `setup`, which names its version

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one sentence on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["setup"]:
        from tutorial_lib.cli import setup  # which runs where nothing is installed yet

        return setup.main(arguments[1:])
    from tutorial_lib.cli import commands  # here, so that `doctor` can be imported where what others need is missing

    return commands.main(arguments)
