"""Notebook 5: one layer with and without mistakes, errors of precisions, and sums in several orders."""

import copy
import datetime
import json
import math
import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from tutorial_lib.checks.agreement import Agreement, Reference, compare
from tutorial_lib.core import precision
from tutorial_lib.core.models import Case

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
COLOURS = {"fp32": "#000000", "tf32": "#56B4E9", "fp16": "#CC79A7", "bf16": "#E69F00"}
"""Of the precisions, none of them that of a path."""
BATCHES = (1, 4, 32)
LENGTHS = (64, 256, 1024, 4096, 16384)
"""Terms in each sum of :func:`growth`."""
NO_BUG = "no bug, summed in parts"


@dataclass(frozen=True)
class Layer:
    """One call of the layer of `expand-reshape`: as PyTorch computes it, in parts, and exactly.

    Attributes
    ----------
    x : Tensor
        The input, float32, [batch, tokens, width].
    plain, parts : Tensor
        The result in float32, in one product and summed in eight parts, [batch, tokens + 1, 3, 12, width / 12].
    exact : Tensor
        The same in float64.
    """

    case: Case
    model: Any
    x: Tensor
    plain: Tensor
    parts: Tensor
    exact: Tensor


@torch.no_grad()
def layer(case: Case, batch: int = 4) -> Layer:
    """Compute the layer of `case`, an ``expand_reshape``, in three ways."""
    model: Any = case.model
    (x,) = case.example(batch)
    weight, bias = model.qkv_proj.weight, model.qkv_proj.bias
    tokens = _with_class_token(model, x)
    pieces = zip(tokens.chunk(8, dim=-1), weight.chunk(8, dim=-1), strict=True)
    plain = case.eager(x)
    parts = (torch.stack([piece @ w.T for piece, w in pieces]).sum(0) + bias).reshape(plain.shape)
    return Layer(case, model, x, plain, parts, Reference(case).double([x]))


@torch.no_grad()
def planted(one: Layer) -> dict[str, Tensor]:
    """The output of a correct program, and those of four with a mistake of the kind that compilers and people make."""

    def changed(change: Callable[[Any], Any]) -> Tensor:
        model = copy.deepcopy(one.model)
        change(model)
        return model(one.x)

    weight = one.model.qkv_proj.weight
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).to(weight.device)
    batch, tokens = one.plain.shape[:2]
    return {
        NO_BUG: one.parts,
        "reshape in another order": one.plain.reshape(batch, tokens, 12, 3, -1).transpose(2, 3),
        "class token dropped": changed(lambda model: model.cls_token.zero_()),
        "weights of an earlier step": changed(lambda model: model.qkv_proj.weight.mul_(1 + 1e-3 * noise)),
        "result rounded to bfloat16": one.plain.bfloat16().float(),
    }


def judged(outputs: dict[str, Tensor], one: Layer) -> pd.DataFrame:
    """What is said of each output, by ``allclose``, ``cosine`` and ``rule``, with its error as ``x eager``."""
    rows = {}
    for name, output in outputs.items():
        result = compare(output, one.plain, one.exact)
        rows[name] = {
            "allclose": torch.allclose(output, one.plain),
            "cosine": round(cosine(output, one.exact), 7),
            "rule": "agrees" if result.agrees else "DIFFERS",
            "x eager": round(result.ratio, 1),
        }
    return pd.DataFrame(rows).T


def cosine(output: Tensor, exact: Tensor) -> float:
    """Cosine similarity of all elements."""
    return float(torch.nn.functional.cosine_similarity(output.double().flatten(), exact.double().flatten(), dim=0))


@torch.no_grad()
def as_tf32(x: Tensor) -> Tensor:
    """Float32 rounded to the nearest number with 10 bits of fraction, as the factors of a product in TF32."""
    return ((x.view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)


@torch.no_grad()
def emulated_tf32(one: Layer) -> Agreement:
    """The layer with both factors of its product rounded as TF32 does, compared with float64. An emulation, no GPU."""
    model = one.model
    tokens, weight = as_tf32(_with_class_token(model, one.x)), as_tf32(model.qkv_proj.weight)
    product = torch.nn.functional.linear(tokens, weight, model.qkv_proj.bias)
    return compare(product.reshape(one.plain.shape), one.plain, one.exact)


def measure(case: Case, names: Iterable[str], batches: Sequence[int] = BATCHES) -> pd.DataFrame:
    """Error of eager PyTorch in each precision against float64 with the *original* weights and inputs.

    Returns
    -------
    DataFrame
        ``precision``, ``batch``, ``rms`` and ``max`` (errors), ``size`` (rms of the result), ``percent`` of it.
    """
    original, rows = Reference(case), []
    for name in names:
        cast = case.in_precision(name)
        for batch in batches:
            output, truth = cast.eager(*cast.example(batch)), original.double(case.example(batch))
            result = compare(output, output, truth)
            size = float(truth.square().mean().sqrt())
            rows.append({"precision": name, "batch": batch, "rms": result.rms, "max": result.max_abs, "size": size})
    return _with_percent(rows)


def on_a_gpu(case: Case, file: str = "05_numerical_agreement.json") -> tuple[str, pd.DataFrame]:
    """:func:`measure` in all precisions on a GPU: measured here where there is one with TF32, else recorded.

    With the environment variable ``TUTORIAL_LIB_RECORD`` a GPU also writes the file anew.

    Returns
    -------
    str, DataFrame
        Where and when, and the rows of :func:`measure`.
    """
    here = precision.why_not("tf32", case.device) is None
    if here:
        rows = measure(case, PRECISIONS).drop(columns="percent").to_dict("records")
        run = {"about": _this_gpu(case.device), "case": f"{case.name}, {case.inputs[0]}", "rows": rows}
        if os.environ.get("TUTORIAL_LIB_RECORD"):
            Path(file).write_text(json.dumps(run, indent=1) + "\n")
    else:
        run = json.loads(Path(file).read_text())
    about = run["about"]
    label = f"{'measured here' if here else 'recorded'} on {about['gpu']}, torch {about['torch']}, on {about['date']}"
    return label, _with_percent(run["rows"])


def growth(device: torch.device) -> dict[str, list[Agreement]]:
    """Errors of float32 products [64, K] x [K, 64] over K (`LENGTHS`), for three orders of the same sum."""
    orders: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "PyTorch's own": torch.mm,
        "running sum": _running,
        "blocks of 64": _blocks,
    }
    errors: dict[str, list[Agreement]] = {name: [] for name in orders}
    for length in LENGTHS:
        a, b = (torch.randn(64, length, generator=torch.Generator().manual_seed(seed)).to(device) for seed in (0, 1))
        for name, order in orders.items():
            errors[name].append(compare(order(a, b.T), a @ b.T, a.double() @ b.T.double()))
    return errors


def exponent(errors: Sequence[Agreement]) -> float:
    """The p with which errors grow like K to the power p, over `LENGTHS`."""
    return math.log(errors[-1].rms / errors[0].rms) / math.log(LENGTHS[-1] / LENGTHS[0])


def flat_and_growing(gpu: pd.DataFrame, label: str, errors: dict[str, list[Agreement]]) -> Figure:
    """Left: errors of precisions over the batch. Right: errors over the reduction length, for orders of summing."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, rows), marker in zip(gpu.groupby("precision", sort=False), "osD^", strict=True):
        left.loglog(rows["batch"], rows["rms"], marker=marker, color=COLOURS[str(name)], label=name)
    for (name, results), marker, line in zip(errors.items(), "xs^", ("-", "--", ":"), strict=True):
        growing = f"{name}, K^{exponent(results):.2f}"
        rms = [result.rms for result in results]
        right.loglog(LENGTHS, rms, marker=marker, linestyle=line, color=COLOURS["fp32"], label=growing)
    left.set(title=f"{label}", xlabel="batch", ylabel="rms error against float64")
    left.title.set_fontsize(9)
    left.set(xticks=BATCHES, xticklabels=[str(batch) for batch in BATCHES])
    right.set(title="fp32, computed here", xlabel="K, terms in each sum")
    right.title.set_fontsize(9)
    for axes in (left, right):
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    figure.suptitle("Errors are flat in the batch (left) and grow with the reduction length (right)", fontsize=11)
    return figure


def _with_class_token(model: Any, x: Tensor) -> Tensor:
    return torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1)


def _running(a: Tensor, b: Tensor) -> Tensor:
    total = torch.zeros(len(a), b.shape[1], device=a.device)
    for column, row in zip(a.T, b, strict=True):
        total.addr_(column, row)  # one term after the other
    return total


def _blocks(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([left @ right for left, right in zip(a.split(64, dim=1), b.split(64), strict=True)]).sum(0)


def _with_percent(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows).sort_values("precision", key=lambda names: names.map(PRECISIONS.index), kind="stable")
    return table.assign(percent=100 * table["rms"] / table["size"]).reset_index(drop=True)


def _this_gpu(device: torch.device) -> dict[str, Any]:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return {
        "gpu": torch.cuda.get_device_name(device),
        "driver": subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "date": datetime.date.today().isoformat(),
        "command": "TUTORIAL_LIB_RECORD=1, then the code cells of 05_numerical_agreement.ipynb in their order",
    }
