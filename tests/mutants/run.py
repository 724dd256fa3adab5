"""Checks the tests with hand-made faults: each one must make the tests that are named beside it fail.

``python tests/mutants/run.py [room ...]`` reads ``tests/mutants/<room>.toml``, all rooms by default. An entry is::

    [[mutant]]
    file = "tutorial_lib/core/shapes.py"
    old = "min <= opt <= max"          # text that occurs once in the file
    new = "min <= max"
    tests = "tests/core/test_shapes.py -k opt"

All runs are in a temporary copy of the tree. The tests must pass there without the fault, and fail with it; an error
of collection or of usage does not count. The exit code is 1 unless every fault is caught.
"""

import argparse
import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
SECONDS = 300
"""Time limit of one run of the tests."""
TESTS_PASSED, TESTS_FAILED = 0, 1
"""Exit codes of pytest; all others mean that no test was judged."""


def main(rooms: list[str]) -> int:
    """Print what became of every fault; returns the exit code."""
    available = sorted(path.stem for path in FOLDER.glob("*.toml"))
    if unknown := sorted(set(rooms) - set(available)):
        print(f"error: no faults for {', '.join(unknown)}; there are some for {', '.join(available)}", file=sys.stderr)
        return 2
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        copy_tree(Path(folder))
        for room in rooms or available:
            mutants = tomllib.loads((FOLDER / f"{room}.toml").read_text())["mutant"]
            for number, mutant in enumerate(mutants, start=1):
                start = time.monotonic()
                outcomes.append(judge(Path(folder), **mutant))
                seconds = time.monotonic() - start
                print(f"{room:<12} {number:>2}  {mutant['file']:<42} {seconds:5.1f} s  {outcomes[-1]}", flush=True)
    caught = outcomes.count("caught")
    print(f"{caught} of {len(outcomes)} caught")
    return int(caught < len(outcomes))


def copy_tree(target: Path) -> None:
    """Copy the files that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def judge(copy: Path, file: str, old: str, new: str, tests: str) -> str:
    """``caught``, ``SURVIVED``, or why the fault could not be judged."""
    path = copy / file
    original = path.read_text()
    if (count := original.count(old)) != 1:
        return f"BROKEN: {old!r} occurs {count} times"
    if (code := exit_code(copy, tests)) != TESTS_PASSED:
        return f"BROKEN: without the fault, pytest ends with {code}"
    path.write_text(original.replace(old, new))
    try:
        code = run_tests(copy, tests)
    finally:
        path.write_text(original)
    return {TESTS_FAILED: "caught", TESTS_PASSED: "SURVIVED"}.get(code, f"BROKEN: pytest ends with {code}")


def run_tests(copy: Path, tests: str) -> int | str:
    """Pytest's exit code, or that it took too long."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *shlex.split(tests)]
    # No bytecode: a fault of the same length, written within the same second, would not be noticed.
    environment = {**os.environ, "PYTHONPATH": os.fspath(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(
            command, cwd=copy, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SECONDS
        ).returncode
    except subprocess.TimeoutExpired:
        return f"nothing after {SECONDS} s"


@functools.cache
def exit_code(copy: Path, tests: str) -> int | str:
    """What :func:`run_tests` says of the tree without faults: several faults may name the same tests."""
    return run_tests(copy, tests)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check the tests with hand-made faults.")
    parser.add_argument("rooms", nargs="*", help="such as core; all by default")
    sys.exit(main(parser.parse_args().rooms))
