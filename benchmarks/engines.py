"""How long do real TensorRT engines take, built by TensorRT for RTX without a GPU?

    python benchmarks/engines.py [--model expand-reshape] [--repeats 7]

**Start** is a new process of engines until it answers. **Cold** is the first build of all three paths in it, **warm**
each one after that, tracing and conversion included: the median of the repeats, with the least and the most. No engine
runs.
"""

import argparse
import os
import statistics
import time

from tutorial_lib import MODELS, PATHS, engines
from tutorial_lib.engines.worker import stop


def timed(model: str) -> dict[str, float]:
    """Seconds for the engines of each path, and for all of them."""
    case, seconds, start = MODELS[model](), {}, time.perf_counter()
    for path in PATHS:
        begun = time.perf_counter()
        report = engines.build(case, path)
        if report.failed:
            raise SystemExit(f"error: {report.failed}")
        seconds[path] = time.perf_counter() - begun
    return {**seconds, "all": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="expand-reshape", choices=MODELS)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    stop()
    begun = time.perf_counter()
    engines.run_inside(os.getpid)
    print(f"start  {time.perf_counter() - begun:.2f} s")
    print("cold   " + "   ".join(f"{name} {value:.2f} s" for name, value in timed(args.model).items()))
    runs = [timed(args.model) for _ in range(max(1, args.repeats))]
    for name in runs[0]:
        values = [run[name] for run in runs]
        spread = f"{min(values):.2f} to {max(values):.2f}, {len(values)} runs"
        print(f"warm   {name:7} {statistics.median(values):.2f} s ({spread})")


if __name__ == "__main__":
    main()
