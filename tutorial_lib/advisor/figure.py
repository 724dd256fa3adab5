"""Traffic against what it costs under several policies, as a ``Figure``; ``plots.show`` and ``plots.png`` render it."""

import math
from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from tutorial_lib.advisor.advice import Advice
from tutorial_lib.advisor.latency_model import LEVELS, WEIGHTS
from tutorial_lib.advisor.policies import Policy, predict
from tutorial_lib.advisor.traffic import Array
from tutorial_lib.figures.plots import GREY, LEGEND

SIZE = (7.5, 5.8)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
"""Okabe and Ito's, in the order in which policies are given."""
REQUESTS, TIME = "#56B4E9", "#444444"
BINS, POINTS = 24, 400
LEFT, RIGHT, TOP, BOTTOM, ROW = 0.85, 0.15, 0.85, 0.62, 0.22
"""Inches around the axes, and of a row of the legend."""


def costs(advice: Advice, policies: Sequence[Policy] | None = None) -> Figure:
    """Above: the sizes that requests have, and where the time goes. Below: what a request of each size takes.

    Parameters
    ----------
    advice : Advice
        What :func:`tutorial_lib.advisor.advice.advise` returned.
    policies : sequence of Policy, optional
        Whose latency is drawn. Default: the recommended one, the two baselines, and eager PyTorch.
    """
    if policies is None:
        eager = [policy for policy in advice.policies if not policy.engines]
        policies = list(dict.fromkeys([advice.best, *advice.baselines.values(), *eager]))
    labels = [_label(advice, policy) for policy in policies]
    rows = math.ceil(len(labels) / 2)
    height = SIZE[1] + ROW * rows
    figure = Figure(figsize=(SIZE[0], height))
    bottom = (BOTTOM + ROW * rows) / height
    figure.subplots_adjust(
        left=LEFT / SIZE[0], right=1 - RIGHT / SIZE[0], top=1 - TOP / height, bottom=bottom, hspace=0.12
    )
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.7))
    _draw_traffic(above, advice)
    _draw_costs(below, advice, policies, labels)
    for axes in (above, below):
        _mark(axes, advice.best)
        axes.spines[["top", "right"]].set_visible(False)
    about, name = advice.bench.measurement.about, advice.traffic.dims[0]
    dim = advice.bench.case.dims[name]
    held = "".join(f", {other} {advice.traffic.quantile(0.5, other)}" for other in advice.traffic.dims[1:])
    marks = "; dotted: where its engines end" if len(advice.best.engines) > 1 else ""
    below.set_xlabel(f"{name}{f' ({held[2:]}, the median)' if held else ''}{marks}")
    below.set_xscale("log", base=2)
    ticks = [2**power for power in range(math.ceil(math.log2(dim.min)), math.floor(math.log2(dim.max)) + 1)]
    below.set_xticks(ticks[:: 1 + len(ticks) // 14], [str(tick) for tick in ticks[:: 1 + len(ticks) // 14]])
    below.xaxis.set_minor_locator(NullLocator())
    below.set_xlim(dim.min / 1.25, dim.max * 1.25)
    edge = 0.1 / SIZE[0]
    figure.suptitle(
        "Traffic and its cost", x=edge, y=1 - 0.08 / height, ha="left", va="top", fontsize=12, fontweight="bold"
    )
    what = f"{about['case']}, {advice.traffic.requests} requests"
    told = f"{what} · {about['path']} with {about['backend']} · {about['device']}"
    figure.text(edge, 1 - 0.34 / height, fill(told, 115), fontsize=8, color=GREY, va="top", parse_math=False)
    legend = figure.legend(
        *below.get_legend_handles_labels(), loc="lower center", bbox_to_anchor=(0.5, 0.06 / height), ncols=2, **LEGEND
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _label(advice: Advice, policy: Policy) -> str:
    role = next((f"({role}) " for role, one in advice.baselines.items() if one == policy), "")
    mean = advice.figures[policy]["mean_ms"][0] if policy in advice.figures else math.nan
    name = f"{role}{policy.name}" + (", recommended" if policy == advice.best else "")
    return name if math.isnan(mean) else f"{name}: mean {mean:.3g} ms"


def _draw_traffic(axes: Axes, advice: Advice) -> None:
    """Share of the requests, and of the time that the recommended policy takes, for sizes in steps of equal ratio."""
    dim = advice.bench.case.dims[advice.traffic.dims[0]]
    sizes, shares = advice.traffic.table, advice.traffic.shares
    spent = shares * (WEIGHTS @ predict(advice.best, advice.curves, sizes, point=True))
    half = (dim.max / dim.min) ** (0.5 / (BINS - 1)) if dim.max > dim.min else 1.1
    edges = np.geomspace(dim.min / half, dim.max * half, BINS + 1)
    places = np.clip(np.searchsorted(edges, sizes[:, 0], side="right") - 1, 0, len(edges) - 2)
    width = np.diff(edges)
    outline: dict[str, Any] = {"facecolor": "none", "edgecolor": TIME, "linewidth": 1.2}
    filled: dict[str, Any] = {"color": REQUESTS, "alpha": 0.8}
    for part, label, style in (
        (shares, "of the requests", filled),
        (spent / spent.sum(), "of the time, as recommended", outline),
    ):
        total = 100 * np.bincount(places, part, len(width))
        some = total > 0
        axes.bar(edges[:-1][some], total[some], width[some], align="edge", label=label, **style)
    axes.set_ylabel("share (%)")
    axes.tick_params(labelbottom=False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=2, **LEGEND)


def _draw_costs(axes: Axes, advice: Advice, policies: Sequence[Policy], labels: Sequence[str]) -> None:
    sizes = _sizes(advice, policies)
    for number, (policy, label) in enumerate(zip(policies, labels, strict=True)):
        values = predict(policy, advice.curves, sizes, point=True)
        middle = values[np.abs(LEVELS - 0.5).argmin()]
        first = policy == advice.best
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linewidth": 2.6 if first else 1.5}
        if not policy.engines:
            style |= {"color": GREY, "linestyle": "--"}
        axes.plot(sizes[:, 0], middle, label=label, zorder=3 if first else 2, **style)
        if first:
            low, high = (values[np.abs(LEVELS - share).argmin()] for share in (0.05, 0.95))
            axes.fill_between(sizes[:, 0], low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("median latency of a request (ms)\nribbon: 5 % to 95 % of the calls")
    axes.grid(True, which="major", alpha=0.25)


def _sizes(advice: Advice, policies: Sequence[Policy]) -> Array:
    """Sizes along the first dimension, with both sides of every boundary; other dimensions at the median."""
    names = advice.traffic.dims
    dim = advice.bench.case.dims[names[0]]
    ends = {high for policy in policies for ((_, _, high), *_) in policy.engines}
    wanted = {*np.geomspace(dim.min, dim.max, POINTS).round().astype(int).tolist(), *ends, *(end + 1 for end in ends)}
    first = np.array(sorted(size for size in wanted if dim.min <= size <= dim.max))
    others = [np.full(len(first), advice.traffic.quantile(0.5, name)) for name in names[1:]]
    return np.stack([first, *others], axis=1)


def _mark(axes: Axes, policy: Policy) -> None:
    for (_, _, high), *_ in policy.engines[:-1]:
        axes.axvline(high + 0.5, color=COLOURS[0], linewidth=1.2, linestyle=":", zorder=1)
