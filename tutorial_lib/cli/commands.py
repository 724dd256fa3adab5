"""The tutorial from a shell: ``python -m tutorial_lib compare --help``."""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor
from itertools import product
from pathlib import Path
from typing import Any

import torch

from tutorial_lib.advisor import Traffic
from tutorial_lib.advisor import advise as ask_advisor
from tutorial_lib.advisor.advice import OBJECTIVES
from tutorial_lib.builds import backends
from tutorial_lib.builds.job import BuildError
from tutorial_lib.builds.program import Recompile
from tutorial_lib.cli import doctor, engines_command, setup
from tutorial_lib.cli.arguments import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    UsageError,
    add_device,
    add_range,
    clear_progress,
    error,
    load,
    names,
    number,
    show_progress,
    sizes,
)
from tutorial_lib.core import files as _files
from tutorial_lib.core import models, precision
from tutorial_lib.core.model_source import ModelSourceError
from tutorial_lib.core.models import Case
from tutorial_lib.core.progress import Progress
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines.errors import EnginesUnavailable, PlanError, TargetError
from tutorial_lib.experiments import examination, recordings, results_file
from tutorial_lib.experiments.campaign import build_ahead, run_all
from tutorial_lib.experiments.recordings import RecordedError
from tutorial_lib.experiments.result import Result
from tutorial_lib.experiments.results_file import ResultsFileError
from tutorial_lib.experiments.run import BUILDING, run
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.paths import PATHS

GPU_BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
QUICK_MODELS = ("perceptron", "expand-reshape")
BAD_INPUT_ERRORS = (
    UsageError,
    ModelSourceError,
    TargetError,
    ResultsFileError,
    ShapeError,
    _files.FolderError,
    backends.BackendUnavailable,
    backends.OptionError,
)
FAILURES = (BuildError, Recompile, RecordedError, EnginesUnavailable, PlanError, BrokenExecutor, OSError)


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are one sentence on stderr."""
    if arguments[:1] == ["preview"]:
        return error("the command preview is called engines now: TensorRT really builds what it shows.", BAD_INPUT)
    args = _parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except BAD_INPUT_ERRORS as problem:
        return error(problem, BAD_INPUT)
    except FAILURES as problem:
        return error(problem, FAILED)
    except KeyboardInterrupt:
        return error("interrupted; nothing was written.", INTERRUPTED)


def compare(args: argparse.Namespace) -> int:
    """Build the paths, compare them over the batches, print the table, write the files."""
    from tutorial_lib.figures import plots  # here, so that the doctor can say that matplotlib is missing

    case = load(args)
    setting = _compare_setting(args, case).settled(case)
    out = _files.out_folder(args.out) if args.out else None
    for sentence in backends.choose(args.backend, case.device)[1]:
        print(sentence)
    printed = 0

    def show(result: Result) -> None:
        nonlocal printed
        for build in result.builds[printed:]:
            print(build, flush=True)
        printed = len(result.builds)
        for failure in result.failures.values():
            raise BuildError(failure.sentence)

    sweep = run(setting, case, progress=_show_step, show=show, min_seconds=args.min_seconds, rows=True).sweep
    assert sweep is not None  # a failure raised in `show`
    clear_progress()
    print(f"\n{plots.subtitle(sweep)}\nrule: {sweep.provenance['tolerance']}\n")
    print(sweep.summary().to_string(index=False))
    print(f"\n{sweep.verdict}\n{sweep.certainty}")
    if out:
        stem = out / f"{case.name}-{sweep.provenance['backend']}"
        table, figure = sweep.table.to_csv(index=False), plots.png(plots.overview(sweep))
        _write(stem, {".json": sweep.json(), ".csv": table, ".png": figure})
    return 0 if sweep.agrees else FAILED


def _compare_setting(args: argparse.Namespace, case: Case) -> Setting:
    """What to compare. A model of one's own stays in the dtype that it has."""
    return Setting(
        case.name,
        tuple(case.dims.values()),
        args.backend,
        "fp32" if args.model in models.MODELS else None,
        _paths(args.paths),
        tuple(dict.fromkeys(args.batches)),
        samples=args.min_samples,
        budget=args.budget,
    )


def _write(stem: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write a file for each suffix."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix, content in contents.items():
        _files.save(stem.with_suffix(suffix), content)
    print("\n".join(f"wrote {stem.with_suffix(suffix)}" for suffix in contents))


def advise(args: argparse.Namespace) -> int:
    """Say which engines to build for the sizes of a CSV file, print the table, and replay half of the requests."""
    from tutorial_lib.advisor import figure
    from tutorial_lib.figures import plots

    case = load(args)
    requests = Traffic.csv(args.traffic)
    fitted, held_out = requests.split() if args.replay else (requests, requests)
    out = _files.out_folder(args.out) if args.out else None
    advice = ask_advisor(
        case,
        fitted,
        args.objective,
        p99_at_most_ms=args.p99_at_most_ms,
        backend=args.backend,
        path=args.path,
        seconds=args.seconds,
        progress=show_progress,
    )
    if args.replay:
        show_progress("building and replaying ...")
        replayed = advice.replay(held_out)
        advice = advice.after(replayed)
        clear_progress()
        print(f"{replayed.summary().to_string(index=False)}\n{replayed}\n{replayed.verdict}\n")
    clear_progress()
    print(f"{advice.summary().to_string(index=False)}\n\n{advice.recommendation}")
    print("\n".join(advice.notes))
    if args.layouts:
        print(f"\n{advice.layouts(args.layouts)}")
    if out:
        table, drawn = advice.table.to_csv(index=False), plots.png(figure.costs(advice))
        _write(out / f"{case.name}-advice", {".csv": table, ".py": advice.code(), ".png": drawn})
    return 0 if advice.meets(advice.best) else FAILED


def examine(args: argparse.Namespace) -> int:
    """Look at a model before a real build: is it a function of its inputs, and can its graph be captured?"""
    result = examination.examine(load(args))
    print(result)
    return FAILED if result.findings else 0


def record(args: argparse.Namespace) -> int:
    """Measure all that was asked for, and save it as one file with all that is needed to trust it.

    Stopped early, the same command goes on where it was.
    """
    device = backends.as_device(args.device)
    settings, min_seconds, command = _record_settings(args, device)
    out = Path(args.out)
    if out.suffix != ".json":
        raise UsageError(f"--out {out} is not the name of a recording; give one that ends in .json.")
    _files.out_folder(str(out.parent))
    unfinished = out.with_suffix(".jsonl")

    def tell(done: int, total: int, text: str) -> None:
        print(f"[{done}/{total}] {text}", flush=True)

    print(f"{len(settings)} settings on {device}, in {unfinished} until all are done", flush=True)
    keys = [results_file.key(setting, args.device, min_seconds) for setting in settings]
    if args.ahead:
        lines = results_file.read(unfinished) if unfinished.exists() else {}
        missing = [setting for setting, key in zip(settings, keys, strict=True) if key not in lines]
        with_compiler = [setting for setting in missing if setting.backend != "eager"]
        build_ahead(with_compiler, args.ahead, device=args.device, tell=tell)
    try:
        run_all(
            settings,
            unfinished,
            device=args.device,
            min_seconds=min_seconds,
            seconds=None if args.minutes is None else 60 * args.minutes,
            reuse=args.ahead is not None,
            tell=tell,
        )
    except KeyboardInterrupt:
        text = f"interrupted; what is done is in {unfinished}, and the same command goes on with the rest."
        return error(text, INTERRUPTED)
    lines = results_file.read(unfinished)
    runs = [lines[key] for key in keys if key in lines]
    left, notes = len(settings) - len(runs), list(args.note)
    if left:
        notes.append(f"{left} of {len(settings)} settings were not reached in {args.minutes:g} minutes.")
    if args.ahead:
        notes.append(f"All was built beforehand, {args.ahead} at a time: build times are of warm caches.")
    recording = recordings.of(runs, command, notes)
    recording.save(out)
    print(f"wrote {out}: {recording.label}")
    for sentence in recording.warnings:
        print(f"note: {sentence}")
    table = recording.table
    for _, row in table[table["error"].notna()].iterrows():
        print(f"failed: {row['model']} {row['path']} {row['backend']} {row['precision']}: {row['error']}")
    if left:
        print(f"The same command goes on with the {left} settings that are left.")
    else:
        unfinished.unlink()
    return 0 if table["error"].isna().all() and table["agrees"].astype(bool).all() else FAILED


def _record_settings(args: argparse.Namespace, device: torch.device) -> tuple[list[Setting], float, str]:
    """What to record, precision by precision; the least measured seconds of each call; the command that repeats it."""
    quick = args.quick
    model_names = names(args.models, models.MODELS, "model") or list(QUICK_MODELS if quick else models.MODELS)
    working = [status.name for status in backends.statuses(device) if status.works]
    backend_names = names(args.backends, backends.BACKENDS, "backend") or working
    possible = [name for name in precision.DTYPES if precision.why_not(name, device) is None]
    precisions = names(args.precision, precision.DTYPES, "precision") or (["fp32"] if quick else possible)
    paths = _paths(args.paths)
    samples = args.samples or (3 if quick else 10)
    min_seconds = args.min_seconds if args.min_seconds is not None else (0.005 if quick else 0.1)
    batches = list(dict.fromkeys(args.batches))
    if not batches and quick:
        batches = [1, 4]
    elif not batches and device.type == "cuda":
        batches = GPU_BATCHES
    settings = []
    for form, backend, model in product(precisions, backend_names, model_names):
        dims = models.make_case(model).dims
        largest = max([next(iter(dims.values())).max, *batches])
        ranges = tuple(models.make_case(model, high=largest).dims.values())
        settings.append(Setting(model, ranges, backend, form, paths, tuple(batches), samples=samples))
    words = ["--models", ",".join(model_names), "--backends", ",".join(backend_names)]
    words += ["--precision", ",".join(precisions), "--paths", ",".join(paths)]
    words += ["--samples", str(samples), "--min-seconds", f"{min_seconds:g}"]
    if batches:
        words += ["--batches", ",".join(map(str, batches))]
    if args.ahead:
        words += ["--ahead", str(args.ahead)]
    words += ["--device", args.device, "--out", args.out]
    return settings, min_seconds, shlex.join(["python", "-m", "tutorial_lib", "record", *words])


def _paths(text: str) -> tuple[str, ...]:
    paths = names(text, PATHS, "path")
    if not paths:
        raise UsageError(f"--paths is empty; use {', '.join(PATHS)}.")
    return tuple(paths)


def _show_step(step: Progress) -> None:
    """Show every step on a terminal; elsewhere, only those of builds."""
    if sys.stderr.isatty() or step.stage == BUILDING:
        show_progress(step.text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tutorial_lib", description=__doc__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_compare(commands)
    _add_advise(commands)
    _add_record(commands)
    _add_examine(commands)
    engines_command.add_parser(commands)
    doctor.add_parser(commands)
    setup.add_parser(commands)
    return parser


def _add_compare(commands: Any) -> None:
    command = commands.add_parser(
        "compare", help="build a model along the paths, compare latency and agreement", description=compare.__doc__
    )
    command.set_defaults(run=compare)
    add_range(command)
    command.add_argument("--backend", choices=["auto", *backends.BACKENDS], default="auto")
    _add_device_and_paths(command)
    command.add_argument("--out", metavar="FOLDER", help="write JSON, CSV and PNG there")
    command.add_argument(
        "--min-samples", type=number(int, 1), default=10, help="samples of each latency (default: %(default)s)"
    )
    command.add_argument(
        "--min-seconds", type=number(float, 0), default=0.2, help="seconds of each (default: %(default)s)"
    )
    command.add_argument(
        "--budget",
        type=number(float, 0),
        default=0.0,
        metavar="SECONDS",
        help="go on until the paths are told apart, but for no more seconds of measuring (default: the samples alone)",
    )


def _add_advise(commands: Any) -> None:
    command = commands.add_parser("advise", help="which engines to build for your traffic", description=advise.__doc__)
    command.set_defaults(run=advise)
    add_range(command)
    command.add_argument(
        "--traffic", required=True, metavar="FILE", help="CSV: a column of sizes for each dimension, and perhaps count"
    )
    command.add_argument("--objective", choices=list(OBJECTIVES), default="mean")
    command.add_argument("--p99-at-most-ms", type=float, metavar="MS", help="a bound that has to be met")
    command.add_argument("--backend", choices=["auto", *backends.BACKENDS], default="auto")
    add_device(command)
    command.add_argument("--path", choices=list(PATHS), default="export")
    command.add_argument(
        "--seconds", type=number(float, 0), default=3.0, help="time to measure, besides builds (default: 3)"
    )
    command.add_argument(
        "--layouts",
        type=int,
        metavar="N",
        help="compare N profiles in one engine with N engines and with padding, by TensorRT's memory (built, not run)",
    )
    command.add_argument("--replay", action="store_true", help="hold half of the requests out, build, and serve them")
    command.add_argument("--out", metavar="FOLDER", help="write the table, the code and the figure there")


def _add_record(commands: Any) -> None:
    command = commands.add_parser("record", help="measure models, and save it as one file", description=record.__doc__)
    command.set_defaults(run=record)
    command.add_argument("--out", required=True, metavar="FILE", help=f"such as {recordings.FOLDER / 'NAME.json'}")
    command.add_argument("--models", default="", metavar="NAMES", help="comma separated (default: all)")
    command.add_argument("--backends", default="", metavar="NAMES", help="comma separated (default: all that work)")
    command.add_argument(
        "--precision", default="", metavar="NAMES", help="comma separated (default: all that the device has)"
    )
    _add_device_and_paths(command)
    command.add_argument("--samples", type=number(int, 1), help="rounds of measuring (default: 10)")
    command.add_argument("--min-seconds", type=number(float, 0), help="measured time of each call (default: 0.1)")
    command.add_argument("--minutes", type=number(float, 0), help="stop after so long; the same command then goes on")
    command.add_argument("--ahead", type=number(int, 1), metavar="N", help="build all first, N at a time, then measure")
    command.add_argument("--note", action="append", default=[], help="a sentence to save with it; may be repeated")
    command.add_argument("--quick", action="store_true", help="two models, fp32, few sizes and rounds, to try it")


def _add_examine(commands: Any) -> None:
    command = commands.add_parser(
        "examine", help="what may stand in the way of compiling a model", description=examine.__doc__
    )
    command.set_defaults(run=examine)
    add_range(command)
    add_device(command)


def _add_device_and_paths(command: argparse.ArgumentParser) -> None:
    add_device(command)
    command.add_argument("--paths", default=",".join(PATHS), help="comma separated (default: %(default)s)")
    command.add_argument(
        "--batches", type=sizes, default=[], metavar="1,4,32", help="sizes to run at (default: depends on the model)"
    )
