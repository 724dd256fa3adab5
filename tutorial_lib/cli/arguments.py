"""What the commands share: arguments and their types, exit codes, errors, and the line that shows progress."""

import argparse
import sys
import time
from collections.abc import Callable, Collection

from tutorial_lib.builds.backends import as_device
from tutorial_lib.core.model_source import HOW, load_case
from tutorial_lib.core.models import MODELS, Case

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes: the command did not succeed; something typed cannot be used; the user stopped it."""
LARGEST = 1e6
"""No number of seconds or rounds that somebody means is larger."""


class UsageError(ValueError):
    """Something typed on the command line that cannot be used."""


def error(message: object, code: int) -> int:
    """Print one sentence to stderr, and return the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code


def show_progress(text: str) -> None:
    """Replace the last line on a terminal; elsewhere, such as in a log, add a line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text[:110]}", end="", file=sys.stderr, flush=True)
    else:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def clear_progress() -> None:
    """Remove the line of :func:`show_progress` from a terminal."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def add_range(command: argparse.ArgumentParser) -> None:
    """The arguments that :func:`tutorial_lib.core.model_source.load_case` takes, for every command with a model."""
    command.add_argument(
        "--model", default="expand-reshape", metavar="MODEL", help=f"{', '.join(sorted(MODELS))}; {HOW}"
    )
    for name in ("min", "opt", "max"):
        text = f"{name} of the first dynamic dimension (default: the model's)"
        command.add_argument(f"--{name}", type=int, metavar="SIZE", help=text)


def add_device(command: argparse.ArgumentParser) -> None:
    """The argument that :func:`load` takes beside those of :func:`add_range`."""
    command.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")


def load(args: argparse.Namespace) -> Case:
    """The model that was typed, on its device."""
    return load_case(args.model, args.min, args.opt, args.max).to(as_device(args.device))


def number(kind: type[int] | type[float], least: float) -> Callable[[str], float]:
    """The type of an argument that is a number from `least` to :data:`LARGEST`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= LARGEST:
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {what} from {least:g} to {LARGEST:g}")
        return value

    return parse


def sizes(text: str) -> list[int]:
    """The type of an argument such as ``1,4,32``."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of sizes; use commas, as in 1,4,32") from None


def names(text: str, allowed: Collection[str], what: str) -> list[str]:
    """The names in a comma separated list, each once.

    Raises
    ------
    UsageError
        If one is not among the `allowed` ones.
    """
    selected = [name.strip() for name in text.split(",") if name.strip()]
    for name in selected:
        if name not in allowed:
            raise UsageError(f"there is no {what} {name!r}; use {', '.join(allowed)}.")
    return list(dict.fromkeys(selected))
