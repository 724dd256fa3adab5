"""What do building, building again, saving, loading and importing take?

    python benchmarks/builds.py [--model perceptron]

Each state is a new process: **cold** with empty caches, **again** with what PyTorch keeps on disk, **reused** with the
packages that the tutorial keeps as well. Then a program is saved and, in another process, loaded and called. Last, the
seconds to import torch, and what the package and its studio add, as medians of five processes each.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fresh_process import processes


def build(model: str, policy: str, file: str) -> dict[str, float]:
    """Seconds that each path takes in this process; the last program is saved to `file`."""
    from tutorial_lib import MODELS, paths
    from tutorial_lib.builds import package_cache, saving

    seconds = {}
    for name, path in paths.PATHS.items():
        start = time.perf_counter()
        with package_cache.policy(policy):
            program = path(MODELS[model](), "inductor")
        seconds[name] = time.perf_counter() - start
    start = time.perf_counter()
    saving.save(program, file)
    return {**seconds, "save": time.perf_counter() - start, "megabytes": Path(file).stat().st_size / 1e6}


def load(model: str, file: str) -> dict[str, float]:
    """Seconds to load a saved program, and for its first call."""
    from tutorial_lib import MODELS
    from tutorial_lib.builds import saving

    inputs = MODELS[model]().example()
    start = time.perf_counter()
    program = saving.load(file)
    loaded = time.perf_counter() - start
    start = time.perf_counter()
    program(*inputs)
    return {"load": loaded, "first call": time.perf_counter() - start}


def imported(statement: str) -> float:
    """Seconds to import, as the median of five processes."""
    code = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    return statistics.median(float(run.stdout) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="expand-reshape")
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        state, file = args.inside
        print(json.dumps(load(args.model, file) if state == "load" else build(args.model, state, file)))
        return
    with processes(__file__) as (folder, again):
        states = {"cold": "off", "again": "off", "kept": "reuse", "reused": "reuse", "saved file": "load"}
        for state, policy in states.items():
            parts = again("--model", args.model, "--inside", policy, str(folder / "model.dynpt"))
            print(f"{state:11}" + "   ".join(f"{name} {value:.2f}" for name, value in parts.items()), flush=True)
    torch, ours = imported("import torch"), imported("import tutorial_lib")
    studio = imported("import tutorial_lib.studio")
    print(f"import     torch {torch:.2f} s   tutorial_lib {ours:.2f} s   tutorial_lib.studio {studio:.2f} s")


if __name__ == "__main__":
    main()
