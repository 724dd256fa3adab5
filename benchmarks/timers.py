"""Our latency against PyTorch's and Triton's: do they find the same, does each repeat itself, what does it cost?

    python benchmarks/timers.py [--device cpu] [--repeats 9]

One call is timed again and again by each timer, in turns: ``tutorial_lib.measure.latency.measure``,
``torch.utils.benchmark`` (``blocked_autorange``) and, on a GPU, ``triton.testing.do_bench``. Given are the median of
what a timer found, the spread of that (largest over smallest), and the median of the seconds it took.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import options
import torch
from torch.utils import benchmark

from tutorial_lib import expand_reshape
from tutorial_lib.builds import report
from tutorial_lib.measure import latency


def ours(call: Callable[[], Any], device: torch.device) -> float:
    return latency.measure({0: call}, device)[0].median_ms


def torch_timer(call: Callable[[], Any], device: torch.device) -> float:
    timer = benchmark.Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return 1000 * timer.blocked_autorange(min_run_time=latency.MIN_SECONDS).median


def triton_timer(call: Callable[[], Any], device: torch.device) -> float:
    from triton.testing import do_bench

    return do_bench(call, return_mode="median")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=options.device, default="auto")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    device: torch.device = args.device
    torch.set_grad_enabled(False)
    timers = {"tutorial_lib.measure.latency": ours, "torch.utils.benchmark": torch_timer}
    if device.type == "cuda":
        timers["triton.testing.do_bench"] = triton_timer
    case = expand_reshape().to(device)
    print(f"{report.device_name(device)}, torch {torch.__version__}, {args.repeats} times each, in turns")
    print(f"{'batch':>5}  {'timer':24}{'median ms':>10}{'largest / smallest':>20}{'seconds':>9}")
    for batch in (1, 8, 32):
        call = partial(case.eager, *case.example(batch))
        call()
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in timers}
        for _ in range(args.repeats):
            for name in random.sample(list(timers), len(timers)):
                start = time.perf_counter()
                ms = timers[name](call, device)
                found[name].append((ms, time.perf_counter() - start))
        for name, pairs in found.items():
            ms, seconds = zip(*pairs, strict=True)
            print(
                f"{batch:>5}  {name:24}{statistics.median(ms):>10.3f}{max(ms) / min(ms):>20.2f}"
                f"{statistics.median(seconds):>9.2f}"
            )


if __name__ == "__main__":
    main()
