"""How should engines be laid out for traffic with two modes? Predicted, built by TensorRT, and replayed.

    make VENV=.venv-2.14 TORCH=2.14 .venv-2.14/.ready    # several profiles in one engine need torch 2.14
    .venv-2.14/bin/python benchmarks/layouts.py [--backend openvino] [--json FILE]

For three models with small and large requests, the advisor compares one engine with one range, one engine with two
profiles, two engines, and two sizes with padding. Memory is TensorRT's own, of plans that were built and not run. The
latencies are predicted from measurements with the backend, and then half of the requests, which the advisor has not
seen, are served by that backend's engines of every layout. ``tables.py`` writes the page's table from the file.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import options
import torch
from recording import about, keep

from tutorial_lib import Traffic, advise, expand_reshape, perceptron, text_encoder
from tutorial_lib.builds import backends
from tutorial_lib.core.models import Case

REQUESTS = 800
TWO_MODES: dict[str, tuple[Callable[[], Case], str, tuple[int, int], tuple[int, int], float]] = {
    "expand-reshape": (lambda: expand_reshape((1, 4, 64), tokens=49, embed_dim=192), "batch", (1, 4), (48, 64), 0.8),
    "perceptron": (lambda: perceptron((1, 64, 1024)), "tokens", (1, 8), (700, 1024), 0.7),
    "text-encoder": (lambda: text_encoder((1, 1, 1), (2, 16, 256), depth=1), "length", (4, 16), (200, 256), 0.6),
}
"""By model: its case, the dimension, sizes of small and of large requests, and the share of the small ones."""


def traffic(dim: str, small: tuple[int, int], large: tuple[int, int], share: float) -> Traffic:
    draw = np.random.default_rng(0)
    is_small = draw.random(REQUESTS) < share
    sizes = np.where(
        is_small, draw.integers(*small, REQUESTS, endpoint=True), draw.integers(*large, REQUESTS, endpoint=True)
    )
    return Traffic.of(sizes.tolist(), dim)


def compared(model: str, backend: str) -> dict[str, Any]:
    """One traffic: the layouts with what TensorRT needs for each, and the mean latency, predicted and replayed."""
    make, dim, small, large, share = TWO_MODES[model]
    seen, held_out = traffic(dim, small, large, share).split()
    advice = advise(make(), seen, backend=backend, path="export", seconds=0.5)
    layouts = advice.layouts()
    replay = advice.replay(held_out, [layout.policy for layout in layouts.layouts], seconds=4.0)
    replayed = replay.table.set_index("policy")
    rows = []
    for row in layouts.table.to_dict("records"):
        means = replayed.loc[row["ranges"], ["predicted_mean_ms", "mean_ms"]]
        predicted, served = (round(float(mean), 3) for mean in means)
        rows.append({**row, "predicted ms": predicted, "replayed ms": served})
    modes = f"{dim} {small[0]} to {small[1]} ({share:.0%}), {large[0]} to {large[1]}"
    said = {"recommendation": layouts.recommendation, "verdict": replay.verdict, "replayed": str(replay)}
    return {"model": model, "traffic": modes, "layouts": rows, **said}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(TWO_MODES), action="append", help="default: all")
    parser.add_argument("--backend", choices=backends.BACKENDS, default="openvino", help="what is measured")
    parser.add_argument("--json", type=options.file)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    content = about(torch.device("cpu"), "torch-tensorrt-rtx", "tensorrt-rtx", args.backend)
    content["backend"] = args.backend
    traffics: list[dict[str, Any]] = []
    for model in args.model or TWO_MODES:
        traffics.append(compared(model, args.backend))
        print(f"\n{model}: {traffics[-1]['traffic']}")
        for row in traffics[-1]["layouts"]:
            print("  " + "  ".join(f"{name}: {value}" for name, value in row.items() if value))
        print(traffics[-1]["recommendation"], traffics[-1]["verdict"], traffics[-1]["replayed"], sep="\n", flush=True)
        keep(args.json, {**content, "traffics": traffics})


if __name__ == "__main__":
    main()
