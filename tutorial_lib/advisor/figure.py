"""Traffic against what it costs under several policies, as a ``Figure``; ``plots.show`` and ``plots.png`` render it."""

import math
from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tutorial_lib.advisor.advice import Advice
from tutorial_lib.advisor.latency_model import LEVELS, WEIGHTS
from tutorial_lib.advisor.policies import Policy, predict
from tutorial_lib.advisor.traffic import Array
from tutorial_lib.figures.plots import GREY, LEGEND, label_sizes, numbered_log_axis

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
"""Okabe and Ito's, in the order of the policies."""
BINS, POINTS = 24, 400


def costs(advice: Advice) -> Figure:
    """Above: the sizes that requests have, and where the time goes. Below: what a request of each size takes.

    Drawn are the recommended policy, the two baselines, and eager PyTorch.
    """
    eager = [policy for policy in advice.policies if not policy.engines]
    policies = list(dict.fromkeys([advice.best, *advice.baselines.values(), *eager]))
    figure = Figure(figsize=(7.5, 5.8 + 0.22 * math.ceil(len(policies) / 2)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.7))
    _draw_traffic(above, advice)
    _draw_costs(below, advice, policies)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        for (_, _, high), *_ in advice.best.engines[:-1]:
            axes.axvline(high + 0.5, color=COLOURS[0], linewidth=1.2, linestyle=":", zorder=1)
    name, *others = advice.traffic.dims
    medians = ", ".join(f"{other} {advice.traffic.quantile(0.5, other)}" for other in others)
    label = f"{name} ({medians}, the median)" if medians else name
    if len(advice.best.engines) > 1:
        label += "; dotted: where its engines end"
    below.set_xlabel(label)
    dim = advice.measured.case.dims[name]
    below.set_xscale("log", base=2)
    below.set_xlim(dim.min / 1.25, dim.max * 1.25)
    label_sizes(below, [2**power for power in range(dim.max.bit_length()) if dim.min <= 2**power])
    figure.suptitle("Traffic and its cost", x=0.01, ha="left", fontsize=12, fontweight="bold")
    metadata = advice.measured.measurement.metadata
    subtitle = (
        f"{metadata['case']}, {advice.traffic.requests} requests · {metadata['path']} with {metadata['backend']} · "
        f"{metadata['device']}"
    )
    above.set_title(fill(subtitle, 105), loc="left", fontsize=8, color=GREY, parse_math=False)
    legend = figure.legend(loc="outside lower center", ncols=2, **LEGEND)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _draw_traffic(axes: Axes, advice: Advice) -> None:
    """Share of the requests, and of the time that the recommended policy takes, for sizes in steps of equal ratio."""
    dim = advice.measured.case.dims[advice.traffic.dims[0]]
    sizes, shares = advice.traffic.table, advice.traffic.shares
    time = shares * (WEIGHTS @ predict(advice.best, advice.model, sizes, point=True))
    half_bin = (dim.max / dim.min) ** (0.5 / (BINS - 1)) if dim.max > dim.min else 1.1
    edges = np.geomspace(dim.min / half_bin, dim.max * half_bin, BINS + 1)
    bins = np.clip(np.searchsorted(edges, sizes[:, 0], side="right") - 1, 0, BINS - 1)
    width = np.diff(edges)
    filled: dict[str, Any] = {"color": "#56B4E9", "alpha": 0.8, "label": "share of the requests"}
    outline: dict[str, Any] = {
        "facecolor": "none",
        "edgecolor": GREY,
        "linewidth": 1.2,
        "label": "share of the time, as recommended",
    }
    for values, style in ((shares, filled), (time / time.sum(), outline)):
        percent = 100 * np.bincount(bins, values, BINS)
        used = percent > 0
        axes.bar(edges[:-1][used], percent[used], width[used], align="edge", **style)
    axes.set_ylabel("share (%)")
    axes.tick_params(labelbottom=False)


def _draw_costs(axes: Axes, advice: Advice, policies: Sequence[Policy]) -> None:
    sizes = _sizes(advice, policies)
    for number, policy in enumerate(policies):
        latencies = predict(policy, advice.model, sizes, point=True)  # [levels, sizes]
        median, low, high = (latencies[np.abs(LEVELS - share).argmin()] for share in (0.5, 0.05, 0.95))
        colour, style = (COLOURS[number % len(COLOURS)], "-") if policy.engines else (GREY, "--")
        is_best = policy == advice.best
        axes.plot(
            sizes[:, 0],
            median,
            label=_label(advice, policy),
            color=colour,
            linestyle=style,
            linewidth=2.6 if is_best else 1.5,
            zorder=3 if is_best else 2,
        )
        if is_best:
            axes.fill_between(sizes[:, 0], low, high, color=colour, alpha=0.15, linewidth=0)
    numbered_log_axis(axes)
    axes.set_ylabel("median latency of a request (ms)\nribbon: 5 % to 95 % of the calls")
    axes.grid(True, which="major", alpha=0.25)


def _label(advice: Advice, policy: Policy) -> str:
    role = next((f"({role}) " for role, baseline in advice.baselines.items() if baseline == policy), "")
    recommended = ", recommended" if policy == advice.best else ""
    return f"{role}{policy.name}{recommended}: mean {advice.figures[policy]['mean_ms'][0]:.3g} ms"


def _sizes(advice: Advice, policies: Sequence[Policy]) -> Array:
    """Sizes along the first dimension, with both sides of every boundary; other dimensions at the median."""
    name, *others = advice.traffic.dims
    dim = advice.measured.case.dims[name]
    ends = {high for policy in policies for ((_, _, high), *_) in policy.engines}
    first = {*np.geomspace(dim.min, dim.max, POINTS).round().astype(int).tolist(), *ends, *(end + 1 for end in ends)}
    medians = [advice.traffic.quantile(0.5, other) for other in others]
    return np.array([[size, *medians] for size in sorted(first) if dim.min <= size <= dim.max])
