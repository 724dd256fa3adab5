"""Compiles every model of the zoo along every path with every backend, and judges what comes out.

``python tests/zoo/run_zoo.py [--models NAME ...] [--paths ...] [--backends eager inductor tensorrt]``. Each line of the
results file is one model, path and backend; what is there already is not run again, so a stopped run goes on. Each
model and backend has a process of its own, with a time limit. Backend ``tensorrt`` stands for TensorRT's engines,
which are built and not run, where `tutorial_lib.engines` can build them. The exit code is 1 unless
everything works or is refused by its build.
"""

import argparse
import collections
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch
from judge import CRASHED, LATE, RAW_ERROR, REFUSED, UNFINISHED, VERDICTS, WORKS, WRONG, refusal, verdict_of
from models import MODELS

from tutorial_lib import PATHS, engines

BACKENDS = ("eager", "openvino", "inductor", "tensorrt")
SECONDS = 300
"""Time limit for one model with one backend, on all paths."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME", choices=list(MODELS))
    parser.add_argument("--paths", nargs="+", default=list(PATHS), choices=list(PATHS))
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--results", type=Path, default=Path("results/zoo.jsonl"))
    arguments = parser.parse_args()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    sys.path.append(str(Path(__file__).parent / "for_engines"))  # the engines' process imports from where this one does
    for backend in arguments.backends:
        for name in arguments.models:
            judge_in_a_process(name, arguments.paths, backend, arguments.results)
    lines = [line for line in read(arguments.results) if is_requested(line, arguments)]
    report(lines)
    return int(any(line["verdict"] not in (WORKS, REFUSED) for line in lines))


def is_requested(line, arguments):
    return (
        line["model"] in arguments.models and line["path"] in arguments.paths and line["backend"] in arguments.backends
    )


def judge_in_a_process(name, paths, backend, results):
    """Start processes until every path has a line; one that ends or hangs costs the path that it was on."""
    while missing_paths(name, paths, backend, results):
        process = multiprocessing.get_context("fork").Process(target=judge_here, args=(name, paths, backend, results))
        process.start()
        process.join(SECONDS)
        verdict, problem = CRASHED, f"the process ended with code {process.exitcode}"
        if process.is_alive():
            process.kill()
            process.join()
            verdict, problem = UNFINISHED, f"it took more than {SECONDS} s"
        left = missing_paths(name, paths, backend, results)
        if left:
            write(results, name, left[0], backend, verdict, problem, 0.0)


def missing_paths(name, paths, backend, results):
    done = {r["path"] for r in read(results) if (r["model"], r["backend"]) == (name, backend)}
    return [path for path in paths if path not in done]


def judge_here(name, paths, backend, results):
    with results.with_suffix(".log").open("a") as log:  # for what compilers print, and a fault's last words
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    torch.set_num_threads(1)
    for path in missing_paths(name, paths, backend, results):
        start = time.perf_counter()
        verdict, reason = judged(MODELS[name](), path, backend)
        write(results, name, path, backend, verdict, reason, time.perf_counter() - start)


def judged(case, path, backend):
    """The verdict on one model, path and backend, and the reason, or the notes of a build that is right."""
    if backend == "tensorrt":
        return built(case, path)
    return verdict_of(lambda case: PATHS[path](case, backend), case)


def built(case, path):
    """Whether TensorRT builds the engines of a case."""
    try:
        result = engines.build(case, path)
    except Exception as error:
        return refusal(error), str(error)
    if result.failed is None:
        outside = ", ".join(result.left_to_pytorch) or "nothing"
        return WORKS, f"engines: {len(result.engines)}; left to PyTorch: {outside}"
    return (CRASHED if RAW_ERROR.search(result.failed) else REFUSED), result.failed


def write(results, name, path, backend, verdict, reason, seconds):
    line = {
        "model": name,
        "path": path,
        "backend": backend,
        "verdict": verdict,
        "reason": reason,
        "seconds": round(seconds, 1),
        "torch": torch.__version__,
    }
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")


def read(results):
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def report(lines):
    """Print counts by verdict, then all that is not right with the reason."""
    for backend in BACKENDS:
        counts = collections.Counter(line["verdict"] for line in lines if line["backend"] == backend)
        if counts:
            print(f"{backend}: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS))
    for verdict in (WRONG, CRASHED, UNFINISHED, LATE, REFUSED):
        for line in lines:
            if line["verdict"] == verdict:
                print(f"{verdict}: {line['model']}, {line['path']} with {line['backend']}: {line['reason']}")


if __name__ == "__main__":
    sys.exit(main())
