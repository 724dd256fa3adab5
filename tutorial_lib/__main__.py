"""The tutorial from a shell: ``python -m tutorial_lib compare --help``."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutorial_lib import _files, backends, doctor, models, paths, traffic
from tutorial_lib.building import BuildError
from tutorial_lib.compiled import Compiled, Recompile
from tutorial_lib.preview import cli
from tutorial_lib.preview.cli import BAD_INPUT, FAILED
from tutorial_lib.shapes import ShapeError
from tutorial_lib.sweep import Sweep, check_sizes, default_sizes, sweep

INTERRUPTED = 130
"""Exit code of a command that the user stopped."""


class UsageError(ValueError):
    """Something typed on the command line that cannot be used."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one sentence on stderr."""
    args = _parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except (UsageError, ShapeError, backends.BackendUnavailable, backends.OptionError) as error:
        return _say(error, BAD_INPUT)
    except (BuildError, Recompile, OSError) as error:
        return _say(error, FAILED)
    except KeyboardInterrupt:
        return _say("interrupted; nothing was written.", INTERRUPTED)


def compare(args: argparse.Namespace) -> int:
    """Build the paths, compare them over the batches, print the table, write the files."""
    from tutorial_lib import plots  # here, so that the doctor can say that matplotlib is missing

    case = models.make_case(args.model, args.min, args.opt, args.max).to(backends.as_device(args.device))
    chosen = _paths(args.paths)
    sizes = check_sizes(case, args.batches or default_sizes(case))
    out = _out_folder(args.out)
    backend, passed = backends.choose(args.backend, case.device)
    for sentence in passed:
        print(sentence)
    programs: dict[str, Compiled] = {}
    for name in chosen:
        _progress(f"building {name} ...")
        programs[name] = paths.PATHS[name](case, backend)
        print(programs[name].build, flush=True)
    result = sweep(
        programs,
        sizes,
        min_samples=args.min_samples,
        min_seconds=args.min_seconds,
        progress=lambda done, total, text: _progress(f"[{done}/{total}] {text}"),
    )
    print(f"\n{plots.subtitle(result)}\nrule: {result.provenance['tolerance']}\n")
    print(result.summary().to_string(index=False))
    print(f"\n{result.verdict}")
    if out:
        for path in _write(result, out, plots.png(plots.overview(result))):
            print(f"wrote {path}")
    return 0 if result.agrees else FAILED


def advise(args: argparse.Namespace) -> int:
    """Say which engines to build for the sizes of a CSV file, print the table, and replay half of the requests."""
    from tutorial_lib import advisor, advisor_figure, plots

    case = models.make_case(args.model, args.min, args.opt, args.max).to(backends.as_device(args.device))
    requests = traffic.Traffic.csv(args.traffic)
    fitted, held_out = requests.split() if args.replay else (requests, requests)
    out, settings = _out_folder(args.out), {"backend": args.backend, "path": args.path, "seconds": args.seconds}
    advice = advisor.advise(
        case, fitted, args.objective, p99_at_most_ms=args.p99_at_most_ms, progress=_progress, **settings
    )
    print(f"{advice.summary().to_string(index=False)}\n\n{advice.recommendation}")
    print("\n".join(advice.notes))
    if args.replay:
        _progress("building and replaying ...")
        replayed = advice.replay(held_out)
        print(f"\n{replayed.summary().to_string(index=False)}\n{replayed}\n{replayed.verdict}")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        stem = out / f"{case.name}-advice"
        _files.save(stem.with_suffix(".csv"), advice.table.to_csv(index=False))
        _files.save(stem.with_suffix(".py"), advice.code())
        _files.save(stem.with_suffix(".png"), plots.png(advisor_figure.costs(advice)))
        print("\n".join(f"wrote {stem.with_suffix(suffix)}" for suffix in (".csv", ".py", ".png")))
    return 0 if advice.meets(advice.best) else FAILED


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


def _out_folder(text: str | None) -> Path | None:
    if text is None:
        return None
    folder = Path(text)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UsageError(f"--out {text}: {existing} is a file; give a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"--out {text}: {existing} cannot be written to; give another folder.")
    return folder


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of sizes; use commas, as in 1,4,32") from None
    return list(dict.fromkeys(sizes))


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif not text.startswith("["):
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
    cli.add_range(command)
    command.add_argument("--backend", choices=["auto", *backends.BACKENDS], default="auto")
    command.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    command.add_argument("--paths", default=",".join(paths.PATHS), help="comma separated (default: %(default)s)")
    command.add_argument("--batches", type=_sizes, metavar="1,4,32", help="sizes to run at (default: powers of two)")
    command.add_argument("--out", metavar="FOLDER", help="write JSON, CSV and PNG there")
    command.add_argument("--min-samples", type=int, default=10, help="samples of each latency (default: %(default)s)")
    command.add_argument("--min-seconds", type=float, default=0.2, help="seconds of each (default: %(default)s)")
    _add_advise(commands)
    cli.add_parser(commands)
    doctor.add_parser(commands)
    return parser


def _add_advise(commands: Any) -> None:
    command = commands.add_parser("advise", help="which engines to build for your traffic", description=advise.__doc__)
    command.set_defaults(run=advise)
    cli.add_range(command)
    command.add_argument(
        "--traffic", required=True, metavar="FILE", help="CSV: a column of sizes for each dimension, and perhaps count"
    )
    command.add_argument("--objective", choices=["mean", "p99", "throughput", "memory", "build"], default="mean")
    command.add_argument("--p99-at-most-ms", type=float, metavar="MS", help="a bound that has to be met")
    command.add_argument("--backend", choices=["auto", *backends.BACKENDS], default="auto")
    command.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    command.add_argument("--path", choices=list(paths.PATHS), default="export")
    command.add_argument("--seconds", type=float, default=3.0, help="time to measure, besides builds (default: 3)")
    command.add_argument("--replay", action="store_true", help="hold half of the requests out, build, and serve them")
    command.add_argument("--out", metavar="FOLDER", help="write the table, the code and the figure there")


if __name__ == "__main__":
    sys.exit(main())
