"""``preview`` from a shell."""

import argparse
import ast
import json
import sys
from typing import Any

from tutorial_lib.backends import BackendUnavailable, OptionError
from tutorial_lib.engines import install
from tutorial_lib.engines.errors import EngineProcessError, EnginesUnavailable
from tutorial_lib.engines.process import SECONDS, previews
from tutorial_lib.models import MODELS, make_case
from tutorial_lib.paths import PATHS
from tutorial_lib.shapes import ShapeError

FAILED, BAD_INPUT = 1, 2
"""Exit codes of every command: it did not succeed; something typed cannot be used."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command ``preview`` to a parser's subcommands."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "preview",
        help="which engines TensorRT would be asked to build (no GPU needed)",
        description="Runs Torch-TensorRT's front end without TensorRT, and prints the engines that each compile "
        "path asks TensorRT to build, and what each call does.",
    )
    add_arguments(parser)
    parser.set_defaults(run=run)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``preview``."""
    add_range(parser)
    parser.add_argument(
        "--calls", type=_sizes, default=[], metavar="1,4,32", help="sizes to call the model with, in order"
    )
    parser.add_argument("--path", choices=[*PATHS, "all"], default="all")
    parser.add_argument(
        "--option", action="append", default=[], type=_option, metavar="NAME=VALUE", help="a Torch-TensorRT setting"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit per path (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_range(parser: argparse.ArgumentParser) -> None:
    """The arguments that :func:`tutorial_lib.models.make_case` takes, for every command with a model."""
    parser.add_argument("--model", choices=sorted(MODELS), default="expand-reshape")
    for name in ("min", "opt", "max"):
        text = f"{name} of the first dynamic dimension (default: the model's)"
        parser.add_argument(f"--{name}", type=int, metavar="SIZE", help=text)


def run(args: argparse.Namespace) -> int:
    """Print the preview of every path; the exit code is 0 unless none could be made."""
    try:
        case = make_case(args.model, args.min, args.opt, args.max)
        paths = list(PATHS) if args.path == "all" else [args.path]
        found = previews(case, paths, args.calls, dict(args.option), args.seconds)
    except (ShapeError, OptionError, BackendUnavailable) as error:
        return _say(error, BAD_INPUT)
    except (EngineProcessError, EnginesUnavailable) as error:
        return _say(error, FAILED)
    if args.json:
        print(json.dumps([one.to_dict() for one in found], indent=2))
    else:
        print("\n\n".join(map(str, found)))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """``python -m tutorial_lib.engines [install]``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["install"]:
        return install.main(arguments[1:])
    parser = argparse.ArgumentParser("python -m tutorial_lib.engines", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of sizes such as 1,4,32") from None


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _say(error: Exception, code: int) -> int:
    print(error if code == 0 else f"error: {error}", file=sys.stderr)
    return code
