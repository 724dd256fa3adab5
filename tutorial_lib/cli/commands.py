"""The tutorial from a shell: ``python -m tutorial_lib compare --help``."""

import argparse
import shlex
import sys
import time
from collections.abc import Collection, Sequence
from concurrent.futures import BrokenExecutor
from itertools import product
from pathlib import Path
from typing import Any

import torch

from tutorial_lib import paths
from tutorial_lib.advisor import Traffic
from tutorial_lib.advisor import advise as ask_advisor
from tutorial_lib.advisor.advice import OBJECTIVES
from tutorial_lib.builds import backends
from tutorial_lib.builds.job import BuildError
from tutorial_lib.builds.program import Recompile
from tutorial_lib.cli import doctor, engines_command
from tutorial_lib.cli.engines_command import BAD_INPUT, FAILED, INTERRUPTED
from tutorial_lib.core import files as _files
from tutorial_lib.core import models, precision
from tutorial_lib.core.model_source import ModelSourceError, load_case
from tutorial_lib.core.models import Case
from tutorial_lib.core.progress import Progress
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.experiments import recordings, results_file
from tutorial_lib.experiments.campaign import build_ahead, run_all
from tutorial_lib.experiments.recordings import RecordedError
from tutorial_lib.experiments.result import Result
from tutorial_lib.experiments.results_file import JournalError
from tutorial_lib.experiments.run import BUILDING, run
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.sweep import Sweep

GPU_BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
QUICK_MODELS = ("perceptron", "expand-reshape")


class UsageError(ValueError):
    """Something typed on the command line that cannot be used."""


BAD_INPUT_ERRORS = (
    UsageError,
    ModelSourceError,
    _files.FolderError,
    JournalError,
    ShapeError,
    backends.BackendUnavailable,
    backends.OptionError,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one sentence on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["preview"]:
        return _say("the command preview is called engines now: TensorRT really builds what it shows.", BAD_INPUT)
    args = _parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except BAD_INPUT_ERRORS as error:
        return _say(error, BAD_INPUT)
    except (BuildError, Recompile, RecordedError, BrokenExecutor, OSError) as error:
        return _say(error, FAILED)
    except KeyboardInterrupt:
        return _say("interrupted; nothing was written.", INTERRUPTED)


def compare(args: argparse.Namespace) -> int:
    """Build the paths, compare them over the batches, print the table, write the files."""
    from tutorial_lib.figures import plots  # here, so that the doctor can say that matplotlib is missing

    case = load_case(args.model, args.min, args.opt, args.max).to(backends.as_device(args.device))
    setting = _compared(args, case).settled(case)
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

    result = run(setting, case, progress=_tell, show=show, min_seconds=args.min_seconds, rows=True).sweep
    assert result is not None  # what fails is raised
    print(f"\n{plots.subtitle(result)}\nrule: {result.provenance['tolerance']}\n")
    print(result.summary().to_string(index=False))
    print(f"\n{result.verdict}")
    if out:
        for path in _write(result, out, plots.png(plots.overview(result))):
            print(f"wrote {path}")
    return 0 if result.agrees else FAILED


def _compared(args: argparse.Namespace, case: Case) -> Setting:
    """What to compare. A model of one's own stays in the dtype that it has."""
    return Setting(
        case.name,
        tuple(case.dims.values()),
        args.backend,
        "fp32" if args.model in models.MODELS else None,
        tuple(_paths(args.paths)),
        tuple(args.batches or ()),
        samples=args.min_samples,
    )


def advise(args: argparse.Namespace) -> int:
    """Say which engines to build for the sizes of a CSV file, print the table, and replay half of the requests."""
    from tutorial_lib.advisor import figure
    from tutorial_lib.figures import plots

    case = load_case(args.model, args.min, args.opt, args.max).to(backends.as_device(args.device))
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
        progress=_progress,
    )
    if args.replay:
        _progress("building and replaying ...")
        replayed = advice.replay(held_out)
        advice = advice.after(replayed)
        print(f"{replayed.summary().to_string(index=False)}\n{replayed}\n{replayed.verdict}\n")
    print(f"{advice.summary().to_string(index=False)}\n\n{advice.recommendation}")
    print("\n".join(advice.notes))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        stem = out / f"{case.name}-advice"
        _files.save(stem.with_suffix(".csv"), advice.table.to_csv(index=False))
        _files.save(stem.with_suffix(".py"), advice.code())
        _files.save(stem.with_suffix(".png"), plots.png(figure.costs(advice)))
        print("\n".join(f"wrote {stem.with_suffix(suffix)}" for suffix in (".csv", ".py", ".png")))
    return 0 if advice.meets(advice.best) else FAILED


def record(args: argparse.Namespace) -> int:
    """Measure all that was asked for, and keep it as one file with all that is needed to trust it.

    Stopped early, the same command goes on where it was.
    """
    device = backends.as_device(args.device)
    settings, min_seconds, command = _settings(args, device)
    out = Path(args.out)
    if out.suffix != ".json":
        raise UsageError(f"--out {out} is not the name of a recording; give one that ends in .json.")
    _files.out_folder(str(out.parent))
    kept = out.with_suffix(".jsonl")

    def tell(done: int, total: int, text: str) -> None:
        print(f"[{done}/{total}] {text}", flush=True)

    limit = None if args.minutes is None else 60 * args.minutes
    print(f"{len(settings)} settings on {device}, kept in {kept} until all are done", flush=True)
    wanted = [results_file.key(setting, args.device, min_seconds) for setting in settings]
    if args.ahead:
        lines = results_file.read(kept) if kept.exists() else {}
        todo = [s for s, name in zip(settings, wanted, strict=True) if name not in lines and s.backend != "eager"]
        build_ahead(todo, args.ahead, device=args.device, tell=tell)
    reuse = args.ahead is not None
    try:
        run_all(settings, kept, device=args.device, min_seconds=min_seconds, seconds=limit, reuse=reuse, tell=tell)
    except KeyboardInterrupt:
        return _say(f"interrupted; what is done is in {kept}, and the same command goes on with the rest.", INTERRUPTED)
    lines = results_file.read(kept)
    runs = [lines[name] for name in wanted if name in lines]
    left = len(settings) - len(runs)
    notes = [f"{left} of {len(settings)} settings were not reached in {args.minutes:g} minutes."] if left else []
    if args.ahead:
        notes.append(f"All was built beforehand, {args.ahead} at a time: build times are of warm caches.")
    found = recordings.of(runs, command, [*args.note, *notes])
    found.save(out)
    if not left:
        kept.unlink()
    print(f"wrote {out}: {found.label}")
    for sentence in found.warnings:
        print(f"note: {sentence}")
    table = found.table
    for _, row in table[table["error"].notna()].iterrows():
        print(f"failed: {row['model']} {row['path']} {row['backend']} {row['precision']}: {row['error']}")
    if left:
        print(f"The same command goes on with the {left} settings that are left.")
    return 0 if table["error"].isna().all() and table["agrees"].astype(bool).all() else FAILED


def _settings(args: argparse.Namespace, device: torch.device) -> tuple[list[Setting], float, str]:
    """What to record, precision by precision, for how long each call, and the command that records it again."""
    quick = args.quick
    names = _chosen(args.models, models.MODELS, "model") or list(QUICK_MODELS if quick else models.MODELS)
    working = [found.name for found in backends.statuses(device) if found.works]
    compilers = _chosen(args.backends, backends.BACKENDS, "backend") or working
    possible = [name for name in precision.DTYPES if precision.why_not(name, device) is None]
    formats = _chosen(args.precision, precision.DTYPES, "precision") or (["fp32"] if quick else possible)
    chosen = _paths(args.paths)
    samples = args.samples or (3 if quick else 10)
    min_seconds = args.min_seconds or (0.005 if quick else 0.1)
    batches = args.batches or ([1, 4] if quick else GPU_BATCHES if device.type == "cuda" else [])
    settings = []
    for name, compiler, model in product(formats, compilers, names):
        dims = models.make_case(model).dims
        most = max([next(iter(dims.values())).max, *batches])
        ranges = tuple(models.make_case(model, high=most).dims.values())
        settings.append(Setting(model, ranges, compiler, name, tuple(chosen), tuple(batches), (), samples))
    words = ["--models", ",".join(names), "--backends", ",".join(compilers), "--precision", ",".join(formats)]
    words += ["--paths", ",".join(chosen), "--samples", str(samples), "--min-seconds", f"{min_seconds:g}"]
    words += ["--batches", ",".join(map(str, batches))] if batches else []
    words += ["--ahead", str(args.ahead)] if args.ahead else []
    words += ["--device", args.device, "--out", args.out]
    return settings, min_seconds, shlex.join(["python", "-m", "tutorial_lib", "record", *words])


def _chosen(text: str | None, known: Collection[str], what: str) -> list[str]:
    chosen = [name.strip() for name in (text or "").split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise UsageError(f"there is no {what} {name!r}; use {', '.join(known)}.")
    return list(dict.fromkeys(chosen))


def _write(result: Sweep, out: Path, figure: bytes) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"{result.provenance['case']}-{result.provenance['backend']}"
    files = [stem.with_suffix(suffix) for suffix in (".json", ".csv", ".png")]
    result.to_json(files[0])
    result.to_csv(files[1])
    _files.save(files[2], figure)
    return files


def _paths(text: str) -> list[str]:
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    for name in chosen:
        if name not in paths.PATHS:
            raise UsageError(f"there is no path {name!r}; use {', '.join(paths.PATHS)}.")
    if not chosen:
        raise UsageError(f"--paths is empty; use {', '.join(paths.PATHS)}.")
    return list(dict.fromkeys(chosen))


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of sizes; use commas, as in 1,4,32") from None
    return list(dict.fromkeys(sizes))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes; use at least 1")
    return int(text)


def _tell(step: Progress) -> None:
    """Show every step on a terminal, and those of builds elsewhere, too."""
    if sys.stderr.isatty() or step.stage == BUILDING:
        _progress(step.text)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _say(message: object, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tutorial_lib", description=__doc__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "compare", help="build a model along the paths, compare latency and agreement", description=compare.__doc__
    )
    command.set_defaults(run=compare)
    engines_command.add_range(command)
    command.add_argument("--backend", choices=["auto", *backends.BACKENDS], default="auto")
    command.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    command.add_argument("--paths", default=",".join(paths.PATHS), help="comma separated (default: %(default)s)")
    command.add_argument("--batches", type=_sizes, metavar="1,4,32", help="sizes to run at (default: powers of two)")
    command.add_argument("--out", metavar="FOLDER", help="write JSON, CSV and PNG there")
    command.add_argument("--min-samples", type=int, default=10, help="samples of each latency (default: %(default)s)")
    command.add_argument("--min-seconds", type=float, default=0.2, help="seconds of each (default: %(default)s)")
    _add_advise(commands)
    command = commands.add_parser("record", help="measure models, and keep it as one file", description=record.__doc__)
    command.set_defaults(run=record)
    command.add_argument("--out", required=True, metavar="FILE", help=f"such as {recordings.FOLDER / 'NAME.json'}")
    command.add_argument("--models", metavar="NAMES", help="comma separated (default: all)")
    command.add_argument("--backends", metavar="NAMES", help="comma separated (default: all that work here)")
    command.add_argument("--precision", metavar="NAMES", help="comma separated (default: all that the device has)")
    command.add_argument("--paths", default=",".join(paths.PATHS), help="comma separated (default: %(default)s)")
    command.add_argument("--batches", type=_sizes, metavar="1,4,32", help="sizes (default: on a GPU 1 to 256)")
    command.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    command.add_argument("--samples", type=int, help="rounds of measuring (default: 10)")
    command.add_argument("--min-seconds", type=float, help="measured time of each call (default: 0.1)")
    command.add_argument("--minutes", type=float, help="stop after so long; the same command then goes on")
    command.add_argument("--ahead", type=_count, metavar="N", help="build all first, N at a time, and then measure")
    command.add_argument("--note", action="append", default=[], help="a sentence to keep with it; may be repeated")
    command.add_argument("--quick", action="store_true", help="two models, fp32, few sizes and rounds, to try it")
    engines_command.add_parser(commands)
    doctor.add_parser(commands)
    return parser


def _add_advise(commands: Any) -> None:
    command = commands.add_parser("advise", help="which engines to build for your traffic", description=advise.__doc__)
    command.set_defaults(run=advise)
    engines_command.add_range(command)
    command.add_argument(
        "--traffic", required=True, metavar="FILE", help="CSV: a column of sizes for each dimension, and perhaps count"
    )
    command.add_argument("--objective", choices=list(OBJECTIVES), default="mean")
    command.add_argument("--p99-at-most-ms", type=float, metavar="MS", help="a bound that has to be met")
    command.add_argument("--backend", choices=["auto", *backends.BACKENDS], default="auto")
    command.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    command.add_argument("--path", choices=list(paths.PATHS), default="export")
    command.add_argument("--seconds", type=float, default=3.0, help="time to measure, besides builds (default: 3)")
    command.add_argument("--replay", action="store_true", help="hold half of the requests out, build, and serve them")
    command.add_argument("--out", metavar="FOLDER", help="write the table, the code and the figure there")
