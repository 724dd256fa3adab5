"""``engines`` from a shell."""

import argparse
import ast
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tutorial_lib.builds.backends import BackendUnavailable, OptionError
from tutorial_lib.core import files as _files
from tutorial_lib.core.model_source import HOW, ModelSourceError, load_case
from tutorial_lib.core.models import MODELS
from tutorial_lib.core.progress import Progress
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines import files
from tutorial_lib.engines.errors import EnginesUnavailable, PlanError, TargetError
from tutorial_lib.engines.report import EngineReport, plan_lines
from tutorial_lib.engines.requests import build
from tutorial_lib.engines.targets import TARGETS
from tutorial_lib.engines.worker import SECONDS
from tutorial_lib.paths import PATHS

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes of every command: it did not succeed; something typed cannot be used; the user stopped it."""
BAR = 24
"""Characters of the progress bar."""


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
        "--calls", type=_sizes, default=[], metavar="1,4,32", help="sizes to call the model with, in order"
    )
    command.add_argument("--path", choices=[*PATHS, "all"], default="all")
    command.add_argument("--target", metavar="SM", help=f"{', '.join(TARGETS)} (default: TensorRT's portable default)")
    command.add_argument(
        "--option", action="append", default=[], type=_option, metavar="NAME=VALUE", help="a Torch-TensorRT setting"
    )
    command.add_argument("--seconds", type=_seconds, default=SECONDS, help="time limit per path (default: %(default)s)")
    command.add_argument("--out", metavar="FOLDER", help="write the plans and the reports there")
    command.add_argument("--layers", action="store_true", help="print the layers of every plan")
    command.add_argument("--json", action="store_true", help="print JSON")


def add_range(command: argparse.ArgumentParser) -> None:
    """The arguments that :func:`tutorial_lib.core.model_source.load_case` takes, for every command with a model."""
    command.add_argument(
        "--model", default="expand-reshape", metavar="MODEL", help=f"{', '.join(sorted(MODELS))}; {HOW}"
    )
    for name in ("min", "opt", "max"):
        text = f"{name} of the first dynamic dimension (default: the model's)"
        command.add_argument(f"--{name}", type=int, metavar="SIZE", help=text)


def run(args: argparse.Namespace) -> int:
    """Build the engines of every path and print them; the exit code is 0 if all were built."""
    try:
        case = load_case(args.model, args.min, args.opt, args.max)
        out = _files.out_folder(args.out) if args.out else None
        chosen = list(PATHS) if args.path == "all" else [args.path]
        reports = []
        with _Bar(sys.stderr) as bar:
            for path in chosen:
                bar.label = path
                reports.append(
                    build(
                        case,
                        path,
                        args.calls,
                        dict(args.option),
                        target=args.target,
                        keep_plans=out is not None,
                        seconds=args.seconds,
                        report=bar.show,
                    )
                )
        written = list(_write(reports, out)) if out else []
    except (ShapeError, OptionError, BackendUnavailable, TargetError, ModelSourceError, _files.FolderError) as error:
        return _say(error, BAD_INPUT)
    except (EnginesUnavailable, PlanError, OSError) as error:
        return _say(error, FAILED)
    except KeyboardInterrupt:
        return _say("interrupted; nothing was written.", INTERRUPTED)
    if args.json:
        print(json.dumps([report.to_dict() for report in reports], indent=2))
    else:
        print("\n\n".join(_text(report, args.layers) for report in reports))
        print("\n".join(f"wrote {path}" for path in written), end="\n" if written else "")
    for report in reports:
        if report.failed:
            _say(report.failed, FAILED)
    return FAILED if any(report.failed for report in reports) else 0


def _text(report: EngineReport, layers: bool) -> str:
    lines = [str(report)]
    for number, engine in enumerate(report.engines, start=1):
        if layers and engine.plan:
            lines.append(f"  layers of the plan of engine {number} ({next(plan_lines(engine.plan))}):")
            for layer in engine.plan.layers:
                lines.append(f"    {layer.type:12} {', '.join(layer.outputs) or '-':32} {layer.name}")
                lines += [f"        from {source}" for source in layer.sources]
    return "\n".join(lines)


def _write(reports: list[EngineReport], out: Path) -> Iterator[Path]:
    """Write a plan for each engine that was built, and the reports."""
    out.mkdir(parents=True, exist_ok=True)
    for report in reports:
        for number, engine in enumerate(report.engines, start=1):
            if engine.plan:
                file = out / f"{report.case}-{report.path}-{number}.plan"
                files.save(engine, file, overwrite=True)
                yield file
    summary = out / f"{reports[0].case}-engines.json"
    _files.save(summary, json.dumps([report.to_dict() for report in reports], indent=2) + "\n")
    yield summary


class _Bar:
    """A line on a terminal that shows progress; nothing where the stream is no terminal."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._shows, self._last = stream, stream.isatty(), 0.0
        self.label = ""

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shows:
            print("\r\033[K", end="", file=self._stream, flush=True)

    def show(self, progress: Progress) -> None:
        """Draw the line anew."""
        if self._shows and time.monotonic() - self._last > 0.05:
            self._last = time.monotonic()
            full = int(BAR * progress.done / progress.total) if progress.total else 0
            line = f"{self.label:6} [{'#' * full}{' ' * (BAR - full)}] {progress.text}"
            print(f"\r\033[K{line[:110]}", end="", file=self._stream, flush=True)


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of sizes such as 1,4,32") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no time limit; give seconds, such as 120")
    return seconds


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _say(message: object, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
