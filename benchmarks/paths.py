"""How fast are the three paths? Measured side by side, in one run, with what they are compared to.

    python benchmarks/paths.py [--device cpu] [--model vit] [--no-tuned] [--json FILE]

For each model and batch size, latency of eager PyTorch and of our three paths is given as a multiple of a limit, and
so is that of ``tuned``: ``export`` with ``max_autotune`` and, on a CPU, ``freezing``, which take longer to build (on a
GPU, minutes). The limit is

* for ``expand-reshape``, the matrix product alone, of equal shape, on data that is already in place;
  on a CPU the faster of PyTorch's and oneDNN's with packed weights;
* for ``vit``, bare ``torch.compile`` with static shapes, compiled for each batch size.

Beside them stand bare ``torch.compile`` as one would call it without this library and, on a CPU, ``export`` with our
backend ``openvino``, and bare ONNX Runtime and OpenVINO where they are installed (``benchmarks/peers.py``); on a GPU,
``export`` replayed as CUDA graphs (``graph``, with the copies in and out). First, the cost of our guard for one call.
``--json`` keeps what was found after each model, with the conditions it was measured in.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import options
import torch
from peers import peers
from recording import about, keep

from tutorial_lib import paths
from tutorial_lib.builds import backends
from tutorial_lib.builds.cuda_graphs import Graphed
from tutorial_lib.checks.range_check import Guard
from tutorial_lib.core import models
from tutorial_lib.core.models import Case
from tutorial_lib.measure import latency
from tutorial_lib.measure.device_conditions import Conditions

TUNED: dict[str, dict[str, Any]] = {
    "cpu": {"freezing": True, "max_autotune": True},
    "cuda": {"max_autotune": True},
}
BATCHES = {"expand-reshape": (1, 2, 4, 8, 16, 32), "vit": (1, 2, 4, 8)}
CUDA_BATCHES = {"expand-reshape": (1, 4, 16, 64, 256), "vit": (1, 4, 16, 64)}


def products(case: Case, batch: int) -> list[Callable[[], Any]]:
    """The matrix product of ``expand-reshape`` alone."""
    linear = case.model.qkv_proj
    rows = batch * (case.inputs[0].shape[1] + 1)
    x = torch.randn(rows, linear.in_features, device=case.device)
    weight, bias = linear.weight, linear.bias
    calls: list[Callable[[], Any]] = [lambda: torch.addmm(bias, x, weight.t())]
    if case.device.type == "cpu" and torch.backends.mkldnn.is_available():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        calls.append(lambda: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], ""))
    return calls


def static(case: Case, batch: int) -> list[Callable[[], Any]]:
    """Bare ``torch.compile`` for this one size."""
    program = torch.compile(case.model, dynamic=False)
    inputs = case.example(batch)
    program(*inputs)
    return [lambda: program(*inputs)]


def bench(case: Case, batches: tuple[int, ...], tuned: bool, conditions: Conditions) -> dict[str, Any]:
    """Seconds to build each path, and a row for each batch size: the limit in ms, the others as multiples of it."""
    ours = {name: path(case, "inductor") for name, path in paths.PATHS.items()}
    if tuned:
        ours["tuned"] = paths.export(case, "inductor", TUNED[case.device.type])
    if backends.status("openvino", case.device).works:
        ours["export with openvino"] = paths.export(case, "openvino")
    programs: dict[str, Callable[..., Any]] = {"eager": case.model}
    programs["torch.compile"] = torch.compile(case.model, dynamic=True)
    programs |= ours | dict(peers(case))
    if case.device.type == "cuda":
        programs["graph"] = Graphed(ours["export"])
    limits = products if case.name == "expand-reshape" else static
    calls: dict[tuple[str, int], Callable[[], Any]] = {}
    for batch in batches:
        inputs = case.example(batch)
        for name, program in programs.items():
            program(*inputs)
            calls[name, batch] = lambda program=program, inputs=inputs: program(*inputs)
        for number, call in enumerate(limits(case, batch)):
            calls[f"limit {number}", batch] = call
    measured = latency.measure(calls, case.device, after_round=lambda _: conditions.sample())
    rows = []
    for batch in batches:
        here = {name: times for (name, size), times in measured.items() if size == batch}
        limit = min((times for name, times in here.items() if name.startswith("limit")), key=lambda t: t.median_ms)
        ratios = {name: round(1 / latency.speedup(limit, here[name]), 4) for name in programs}
        rows.append({"batch": batch, "limit_ms": round(limit.median_ms, 5), "ratios": ratios})
    seconds = {name: round(program.build.seconds, 1) for name, program in ours.items()}
    return {"model": case.name, "build_seconds": seconds, "rows": rows}


def show(found: dict[str, Any]) -> None:
    seconds = ", ".join(f"{name} {value}" for name, value in found["build_seconds"].items())
    print(f"\n{found['model']}, seconds to build: {seconds}")
    print(f"{'batch':>6}{'limit ms':>10}" + "".join(f"{name:>14}" for name in found["rows"][0]["ratios"]))
    for row in found["rows"]:
        ratios = "".join(f"{ratio:>13.2f}x" for ratio in row["ratios"].values())
        print(f"{row['batch']:>6}{row['limit_ms']:>10.3f}{ratios}", flush=True)


def guard_cost(case: Case) -> float:
    """Microseconds that the guard adds to a call, as the difference of two loops over a function that does nothing."""
    guard, inputs, calls = Guard(case.inputs, case.device), case.example(), 100_000
    guard(inputs)

    def loop(check: bool) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            if check:
                guard(inputs)
        return time.perf_counter() - start

    return 1e6 * min(loop(True) - loop(False) for _ in range(7)) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=options.device, default="auto")
    parser.add_argument("--model", choices=list(BATCHES), action="append", help="default: all")
    parser.add_argument("--no-tuned", action="store_true", help="leave out what is slow to build")
    parser.add_argument("--json", type=options.file)
    args = parser.parse_args()
    device: torch.device = args.device
    torch.set_grad_enabled(False)
    batches, conditions = CUDA_BATCHES if device.type == "cuda" else BATCHES, Conditions(device)
    guard = guard_cost(models.expand_reshape().to(device))
    content = about(device, "triton", "onnxruntime", "openvino")
    content |= {"precision": "float32, TF32 off", "guard_us": round(guard, 2)}
    print(f"{content['device']}, torch {torch.__version__}, {content['precision']}; multiples of the limit's latency")
    print(f"guard: {guard:.2f} microseconds for one call", flush=True)
    found: list[dict[str, Any]] = []
    for name in args.model or BATCHES:
        case = models.MODELS[name]((1, 4, batches[name][-1])).to(device)
        found.append(bench(case, batches[name], not args.no_tuned, conditions))
        show(found[-1])
        keep(args.json, {**content, "conditions": conditions.summary(), "models": found})


if __name__ == "__main__":
    main()
