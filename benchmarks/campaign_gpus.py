"""A campaign over all GPUs of one machine, one process each: what it gains, what it does to latencies, what it loses.

    python benchmarks/campaign_gpus.py [--repeats 2] [--json FILE]

The same settings run on the first GPU alone, `--repeats` times, then on all GPUs, then on all GPUs once more while one
process is killed in the middle of its work. Every run starts with empty caches. Printed are seconds, the settings that
are lost or there twice (there should be none), and for each latency what it is beside the other GPUs, as a multiple of
that alone. Where the runs alone differ by more than 3 % among themselves, nothing can be said, and it is listed.
"""

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import options
import pandas as pd
import torch
from matplotlib.figure import Figure
from recording import keep

from tutorial_lib import DynamicDim
from tutorial_lib.builds import report
from tutorial_lib.experiments.campaign import run_all, table
from tutorial_lib.experiments.processes import Processes, one_per_device
from tutorial_lib.experiments.setting import Setting

WITHIN = 0.03
"""How far repeats, and then latencies beside other GPUs, may be from the median of those alone."""
BATCH, LENGTH = DynamicDim("batch", 1, 64, 512), DynamicDim("length", 8, 128, 256)
MODELS = [
    ("expand-reshape", (BATCH,), (8, 64, 512)),
    ("vit", (DynamicDim("batch", 1, 32, 256),), (8, 32, 256)),
    ("text-encoder", (BATCH, LENGTH), (8, 64, 512)),
    ("perceptron", (DynamicDim("tokens", 1, 4096, 65536),), (256, 4096, 65536)),
]
SETTINGS = [
    Setting(model, ranges, "inductor", precision, ("jit",), sizes, samples=15)
    for model, ranges, sizes in MODELS
    for precision in ("fp32", "bf16")
]
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME")
Run = dict[str, Any]


def campaign(gpus: int, kill: bool = False) -> Run:
    """Run all settings on the first so many GPUs; the latencies, seconds, and what was lost or there twice."""
    with tempfile.TemporaryDirectory(prefix="tutorial_lib-") as folder:
        caches = {name: f"{folder}/{name}" for name in CACHES}  # where nothing is compiled yet
        file = Path(folder, "campaign.jsonl")
        start = time.perf_counter()
        with Processes([environment | caches for environment in one_per_device()[:gpus]]) as executor:
            killed: list[int] = []
            killer = threading.Thread(target=kill_one, args=(file, killed), daemon=True)
            if kill:
                killer.start()
            rows = run_all(SETTINGS, file, executor, device="cuda", min_seconds=0.2)
            seconds = time.perf_counter() - start
        lines = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    keys = [line["key"] for line in lines]
    latencies = rows.assign(size=rows[["batch", "tokens"]].bfill(axis=1).iloc[:, 0])
    return {
        "gpus": gpus,
        "seconds": round(seconds, 1),
        "killed": len(killed),
        "lost": len(SETTINGS) - len(set(keys)),
        "twice": len(keys) - len(set(keys)),
        "failed": [error for error in rows["error"].dropna()],
        "median_ms": {name(row): round(row.median_ms, 5) for row in latencies.itertuples()},
    }


def name(row: Any) -> str:
    """Which latency a row of the table is."""
    return f"{row.model} {row.precision}, {row.path}, {int(row.size)}"


def kill_one(file: Path, killed: list[int]) -> None:
    """Once a quarter of the settings is done, end one of the processes as a failing machine would."""
    while not file.exists() or len(table(file)) == 0 or table(file)["setting"].nunique() < len(SETTINGS) / 4:
        time.sleep(0.2)
    child = multiprocessing.active_children()[-1]
    os.kill(child.pid or 0, signal.SIGKILL)
    killed.append(1)


def compared(alone: list[Run], beside: Run) -> pd.DataFrame:
    """For each latency: the spread of the runs alone, and that beside the other GPUs as a multiple of their median."""
    frame = pd.DataFrame({number: run["median_ms"] for number, run in enumerate(alone)})
    spread, ratio = frame.max(axis=1) / frame.min(axis=1) - 1, pd.Series(beside["median_ms"]) / frame.median(axis=1)
    stays = (ratio - 1).abs() <= WITHIN
    return pd.DataFrame({"spread": spread, "ratio": ratio, "repeats": spread <= WITHIN, "stays": stays})


def verdict(content: dict[str, Any]) -> str:
    """What the runs say, in sentences."""
    alone, beside, killed = content["alone"], content["beside"], content["killed"]
    one = pd.Series([run["seconds"] for run in alone]).median()
    settings = len({each.rsplit(",", 2)[0] for each in beside["median_ms"]})
    lines = [
        f"{content['device']}, {beside['gpus']} GPUs: {settings} settings took {one:.0f} s on one GPU and "
        f"{beside['seconds']:.0f} s on {beside['gpus']}: {one / beside['seconds']:.2f} times as fast.",
        f"With a process killed midway: {killed['seconds']:.0f} s.",
    ]
    for text, run in (("on all GPUs", beside), ("with a process killed", killed)):
        lines.append(f"{text}: lost {run['lost']}, twice {run['twice']}, failed {len(run['failed'])}.")
    frame = compared(alone, beside)
    told = frame[frame["repeats"]]
    lines.append(
        f"Of {len(frame)} latencies, {len(told)} repeat within {WITHIN:.0%} alone; of these, "
        f"{int(told['stays'].sum())} are within {WITHIN:.0%} beside other GPUs."
    )
    lines += [f"  not within: {each}: {row.ratio:.3f}" for each, row in told[~told["stays"]].iterrows()]
    again = frame[~frame["repeats"]]
    lines += [f"  does not repeat: {each}: {row.spread:.1%} apart alone" for each, row in again.iterrows()]
    return "\n".join(lines)


def figure(content: dict[str, Any]) -> Figure:
    """Each latency that moves or does not repeat: how far the runs alone are apart, and what it is beside others."""
    every = compared(content["alone"], content["beside"]).sort_values("ratio")
    frame = every[~(every["repeats"] & every["stays"])]
    drawn = Figure(figsize=(8, 0.25 * len(frame) + 1.4), layout="constrained")
    axes, places = drawn.subplots(), range(len(frame))
    axes.axvspan(1 - WITHIN, 1 + WITHIN, color="0.9", label=f"within {WITHIN:.0%} of those alone")
    half = (1 + frame["spread"]) ** 0.5
    axes.hlines(places, 1 / half, half, color="tab:green", linewidth=5, alpha=0.3, label="how far runs alone are apart")
    axes.plot(frame["ratio"], places, "o", color="tab:green", label="beside the other GPUs")
    axes.margins(y=0.02)
    axes.set_yticks(places, frame.index)
    axes.set_xlabel("latency / median of those alone")
    steady = f"{len(every) - len(frame)} of {len(every)} latencies repeat alone, and stay beside others"
    title = f"{content['device']}, {content['beside']['gpus']} GPUs of one host\n{steady}, within {WITHIN:.0%}"
    drawn.suptitle(f"{title}; these do not", fontsize=10)
    axes.legend(loc="lower right")
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="runs on one GPU (default: %(default)s)")
    parser.add_argument("--json", type=options.file, help="keep the runs in this file")
    parser.add_argument("--show", type=options.file, metavar="FILE", help="print what a file says, and measure nothing")
    parser.add_argument("--figure", type=options.file, metavar="PNG", help="draw what --show prints")
    args = parser.parse_args()
    if args.show:
        content = json.loads(args.show.read_text())
        print(verdict(content))
        if args.figure:
            figure(content).savefig(args.figure, dpi=110)
        return
    gpus = torch.cuda.device_count()
    if gpus < 2:
        raise SystemExit(f"error: this compares one GPU with several, and PyTorch sees {gpus} here.")
    content: dict[str, Any] = {
        "device": report.device_name(torch.device("cuda")),
        "versions": report.versions("triton"),
        "alone": [campaign(1) for _ in range(args.repeats)],
        "beside": campaign(gpus),
        "killed": campaign(gpus, kill=True),
    }
    keep(args.json, content)
    print(verdict(content))


if __name__ == "__main__":
    main()
