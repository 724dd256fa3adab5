"""``python -m tutorial_lib examine``: what may stand in the way of compiling a model."""

import argparse
from typing import Any

from tutorial_lib.builds import backends
from tutorial_lib.cli.arguments import FAILED, add_range
from tutorial_lib.core.model_source import load_case
from tutorial_lib.experiments.examination import examine


def run(args: argparse.Namespace) -> int:
    """Look at a model before a real build: is it a function of its inputs, and can its graph be captured?"""
    case = load_case(args.model, args.min, args.opt, args.max).to(backends.as_device(args.device))
    examination = examine(case)
    print(examination)
    return FAILED if examination.findings else 0


def add_parser(commands: Any) -> None:
    """Add the command to those of the program."""
    command = commands.add_parser(
        "examine", help="what may stand in the way of compiling a model", description=run.__doc__
    )
    command.set_defaults(run=run)
    add_range(command)
    command.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
