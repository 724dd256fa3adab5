"""CUDA graphs with dynamic shapes: what replaying saves, and what a new shape costs.

    python benchmarks/cuda_graphs.py [--device cuda] [--model expand-reshape] [--batches 1,4,32]

Each path is called directly and through ``tutorial_lib.builds.cuda_graphs.Graphed``, in turns: microseconds on the
device, of which a graph's contain copying the input in and the result out. Then, for each batch: milliseconds that its
first call took, which records a graph, and the memory in MB that stays with it.
"""

import argparse
from functools import partial

import options
import torch

from tutorial_lib import PATHS
from tutorial_lib.builds import report
from tutorial_lib.builds.cuda_graphs import Graphed
from tutorial_lib.core import models
from tutorial_lib.measure import latency
from tutorial_lib.measure.sweep import EAGER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=options.gpu, default="cuda")
    parser.add_argument("--model", default="expand-reshape", choices=sorted(models.MODELS))
    parser.add_argument("--batches", default="1,4,32")
    args = parser.parse_args()
    device: torch.device = args.device
    torch.set_grad_enabled(False)
    case = models.make_case(args.model).to(device)
    programs = {EAGER: case.eager, **{path: PATHS[path](case, "inductor") for path in ("jit", "export")}}
    graphs = {name: Graphed(program) for name, program in programs.items()}
    sizes = [int(size) for size in args.batches.split(",")]
    calls = {}
    for size in sizes:
        inputs = case.example(size)
        for name in programs:
            programs[name](*inputs)
            graphs[name](*inputs)
            calls[name, size, "direct"] = partial(programs[name], *inputs)
            calls[name, size, "graph"] = partial(graphs[name], *inputs)
    found = latency.measure(calls, device)
    print(f"{report.device_name(device)}, torch {torch.__version__}, {case.name}, inductor, float32")
    print(f"{'path':15}{'batch':>6}{'direct us':>11}{'graph us':>10}{'faster':>9}{'new shape ms':>14}{'MB':>8}")
    for name in programs:
        for size, capture in zip(sizes, graphs[name].captures.values(), strict=True):
            direct, graph = found[name, size, "direct"], found[name, size, "graph"]
            print(
                f"{name:15}{size:>6}{1000 * direct.median_ms:>11.1f}{1000 * graph.median_ms:>10.1f}"
                f"{latency.speedup(direct, graph):>8.2f}x{1000 * capture.seconds:>14.1f}{capture.megabytes:>8.1f}"
            )


if __name__ == "__main__":
    main()
