"""From the click on Build to all curves: how long does the studio take, and what for?

    python benchmarks/studio.py [--model perceptron]

Three paths at 6 batch sizes, in three states: **cold**, with empty caches in a process of its own;
**warm**, in a new process that finds what the first one left on disk; **reused**, a second click in that
process. The clock starts when ``Build`` is asked for and stops when the last curve is in the panel;
starting Python and importing the package are not part of it.
"""

import argparse
import json
import time

from fresh_process import processes


def clicks(model: str) -> list[dict[str, float]]:
    """Seconds of two builds of the same setting, in this process."""
    from tutorial_lib.studio import Studio

    studio = Studio()
    if studio.setting.model != model:
        studio.set(model=model)
    found = []
    for _ in range(2):
        start = time.perf_counter()
        result = studio.build()
        seconds = time.perf_counter() - start
        found.append({"all": seconds, **(result.seconds if not found else {})})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="expand-reshape")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(clicks(args.model)))
        return
    with processes(__file__) as (_, again):
        runs = [again("--inside", "--model", args.model) for _ in range(2)]
    states = {"cold": runs[0][0], "warm": runs[1][0], "reused": runs[1][1]}
    for state, seconds in states.items():
        parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "all")
        print(f"{state:7} {seconds['all']:6.2f} s   {parts}")


if __name__ == "__main__":
    main()
