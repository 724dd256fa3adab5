"""What does a second worker give a campaign, and what does it do to the timings?

    python benchmarks/campaign.py [--repeats 2] [--dask]

Runs the same settings with one worker process and with two, each of one thread and with empty caches of its
own, and prints the seconds of both. Workers on one CPU share its memory bus, and where there are fewer cores than
threads, those too. So it also prints what the latencies of two workers are as a multiple of those of one: only
what does not move may be measured beside other work.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import pandas as pd

from tutorial_lib import DynamicDim
from tutorial_lib.builds import report
from tutorial_lib.builds.backends import as_device
from tutorial_lib.experiments.campaign import run_all
from tutorial_lib.experiments.processes import Processes
from tutorial_lib.experiments.setting import Setting

LENGTH = DynamicDim("length", 8, 64, 256)
MODELS = [
    ("text-encoder", (DynamicDim("batch", 1, 4, 16), LENGTH), (1, 8)),
    ("expand-reshape", (DynamicDim("batch", 1, 4, 16),), (1, 8)),
    ("perceptron", (DynamicDim("tokens", 1, 64, 1024),), (1, 64, 1024)),
]
SETTINGS = [
    Setting(model, ranges, "inductor", precision, ("jit",), sizes, samples=10)
    for model, ranges, sizes in MODELS
    for precision in ("fp32", "bf16")
]
"""No two of which compile the same code: the second would find it in Inductor's cache, and not be work to share."""


@contextlib.contextmanager
def workers(count: int, folder: Path, dask: bool) -> Iterator[Executor]:
    """`count` processes of one thread, with caches in `folder`."""
    threads = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    if not dask:
        with Processes([threads | caches] * count) as executor:
            yield executor
        return
    import dask.config
    from distributed import Client, Nanny, SpecCluster
    from distributed.scheduler import Scheduler

    options = {"nthreads": 1, "env": caches, "local_directory": str(folder), "silence_logs": 40}
    spec = {number: {"cls": Nanny, "options": options} for number in range(count)}
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard": False}}
    # A worker imports this script before it sets what Nanny's `env` has, and torch reads these two when imported.
    before = dask.config.set({"distributed.nanny.pre-spawn-environ": threads})
    with before, SpecCluster(spec, scheduler, silence_logs=40) as cluster, Client(cluster) as client:
        yield client.get_executor()


def run(count: int, dask: bool) -> tuple[float, pd.DataFrame]:
    """Seconds from the start of the workers to the last result, and the results."""
    with tempfile.TemporaryDirectory(prefix="tutorial_lib-") as folder:
        start = time.perf_counter()
        with workers(count, Path(folder), dask) as executor:
            rows = run_all(SETTINGS, Path(folder, "campaign.jsonl"), executor, device="cpu", min_seconds=0.1)
        seconds = time.perf_counter() - start
    if rows["error"].notna().any():
        raise SystemExit(f"error: {rows['error'].dropna().iloc[0]}")
    return seconds, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="runs of each, alternating (default: %(default)s)")
    parser.add_argument("--dask", action="store_true", help="workers of a local Dask cluster")
    args = parser.parse_args()
    seconds: dict[int, list[float]] = {1: [], 2: []}
    medians: dict[int, list[pd.Series]] = {1: [], 2: []}
    for _ in range(args.repeats):
        for count in (1, 2):
            spent, rows = run(count, args.dask)
            seconds[count].append(spent)
            medians[count].append(rows.set_index(["setting", "path", "tokens", "batch"])["median_ms"])
            print(
                f"{count} worker{'s' * (count > 1)} of one thread: {spent:.1f} s for {len(SETTINGS)} settings",
                flush=True,
            )
    one, two = (statistics.median(seconds[count]) for count in (1, 2))
    device = report.device_name(as_device("cpu"))
    print(f"{device}: two workers are {one / two:.2f} times as fast as one (medians of {args.repeats} runs)")
    alone, beside = (pd.concat(medians[count], axis=1).median(axis=1) for count in (1, 2))
    ratio = beside / alone
    print(
        f"latencies beside another worker, as a multiple of those alone: median {ratio.median():.2f}, "
        f"from {ratio.min():.2f} to {ratio.max():.2f}"
    )


if __name__ == "__main__":
    main()
