"""``engines`` from a shell."""

import argparse
import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tutorial_lib.cli.arguments import FAILED, add_range, clear_progress, error, number, show_progress, sizes
from tutorial_lib.core import files as _files
from tutorial_lib.core.model_source import load_case
from tutorial_lib.core.profiles import read_text
from tutorial_lib.core.progress import Progress
from tutorial_lib.engines import files
from tutorial_lib.engines.report import EngineReport, plan_lines
from tutorial_lib.engines.requests import build
from tutorial_lib.engines.targets import TARGETS
from tutorial_lib.engines.worker import SECONDS
from tutorial_lib.paths import PATHS


def add_parser(commands: Any) -> None:
    """Add ``engines`` to a parser's commands."""
    command = commands.add_parser(
        "engines",
        help="build TensorRT's engines with TensorRT for RTX (no GPU needed)",
        description="Lets TensorRT for RTX build the engines of each compile path, and prints their profiles, memory "
        "and layers. They are built, not run.",
    )
    command.set_defaults(run=run)
    add_range(command)
    command.add_argument(
        "--profiles",
        metavar="RANGES",
        help="several profiles, each a range for every dynamic dimension: 'batch 1/1/4, length 8/16/32; batch ...'",
    )
    command.add_argument(
        "--calls", type=sizes, default=[], metavar="1,4,32", help="sizes to call the model with, in order"
    )
    command.add_argument("--path", choices=[*PATHS, "all"], default="all")
    command.add_argument("--target", metavar="SM", help=f"{', '.join(TARGETS)} (default: TensorRT's portable default)")
    command.add_argument(
        "--option", action="append", default=[], type=_option, metavar="NAME=VALUE", help="a Torch-TensorRT setting"
    )
    command.add_argument(
        "--seconds", type=number(float, 0.001), default=SECONDS, help="time limit per path (default: %(default)s)"
    )
    command.add_argument("--out", metavar="FOLDER", help="write the plans and the reports there")
    command.add_argument("--layers", action="store_true", help="print the layers of every plan")
    command.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Build the engines of every path and print them; the exit code is 0 if all were built."""
    case = load_case(args.model, args.min, args.opt, args.max)
    if args.profiles:
        case = case.with_profiles(*read_text(args.profiles))
    out = _files.out_folder(args.out) if args.out else None
    reports = []
    for path in PATHS if args.path == "all" else [args.path]:

        def show(step: Progress, path: str = path) -> None:
            if sys.stderr.isatty():
                show_progress(f"{path}: {step.text}")

        report = build(
            case,
            path,
            args.calls,
            dict(args.option),
            target=args.target,
            keep_plans=out is not None,
            seconds=args.seconds,
            progress=show,
        )
        reports.append(report)
    clear_progress()
    written = list(_write(reports, out)) if out else []
    if args.json:
        print(json.dumps([report.to_dict() for report in reports], indent=2))
    else:
        print("\n\n".join(_text(report, args.layers) for report in reports))
        for file in written:
            print(f"wrote {file}")
    failures = [report.failed for report in reports if report.failed]
    for failure in failures:
        error(failure, FAILED)
    return FAILED if failures else 0


def _text(report: EngineReport, layers: bool) -> str:
    lines = [str(report)]
    for index, engine in enumerate(report.engines, start=1):
        if layers and engine.plan:
            lines.append(f"  layers of the plan of engine {index} ({next(plan_lines(engine.plan))}):")
            for layer in engine.plan.layers:
                lines.append(f"    {layer.type:12} {', '.join(layer.outputs) or '-':32} {layer.name}")
                lines += [f"        from {source}" for source in layer.sources]
    return "\n".join(lines)


def _write(reports: list[EngineReport], out: Path) -> Iterator[Path]:
    """Write a plan for each engine that was built, and the reports."""
    out.mkdir(parents=True, exist_ok=True)
    for report in reports:
        for index, engine in enumerate(report.engines, start=1):
            if engine.plan:
                file = out / f"{report.case}-{report.path}-{index}.plan"
                files.save(engine, file, overwrite=True)
                yield file
    summary = out / f"{reports[0].case}-engines.json"
    _files.save(summary, json.dumps([report.to_dict() for report in reports], indent=2) + "\n")
    yield summary


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
