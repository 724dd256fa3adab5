"""Serve requests with engines that were really built, and hold what was predicted against what is measured."""

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tutorial_lib.advisor import latency_model, policies
from tutorial_lib.advisor.latency_model import INTERVAL, WEIGHTS, Curves
from tutorial_lib.advisor.policies import Policy
from tutorial_lib.advisor.traffic import Array, Traffic
from tutorial_lib.builds import report
from tutorial_lib.core import precision
from tutorial_lib.core.models import Case
from tutorial_lib.measure import latency

BLOCK = 20
"""Requests that one policy serves before it is the next one's turn."""
LEAST = 50
LOST = 0.05
"""A baseline whose mean is lower by less than this is taken to be as good."""


@dataclass(frozen=True)
class Replay:
    """Predicted and measured latency of policies on the same requests.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each policy: ``predicted_mean_ms`` with an interval (``_low``, ``_high``: 90 % of what replays
        of so many requests would give if the model were right), ``mean_ms`` as measured, ``mean_error``
        (measured over predicted, minus 1), and the same for ``p99``.
    requests, left_out : int
        How many were served, and how many of them are left out, for all policies alike: their block took more than
        :data:`tutorial_lib.advisor.latency_model.DISTURBED` times as long, against its prediction, as an ordinary one.
    others : float or None
        How many cores other processes used meanwhile, where that is known.
    device : str
        Where.
    """

    table: pd.DataFrame
    requests: int
    left_out: int
    others: float | None
    device: str

    def against(self, role: str, column: str = "mean_ms") -> float:
        """How many times as fast the recommended policy is as ``(a)`` or ``(b)``, measured."""
        rows = self.table.set_index("policy")
        recommended = rows[rows["role"].str.contains("recommended")][column].iloc[0]
        return float(rows[rows["role"].str.contains(f"({role})", regex=False)][column].iloc[0] / recommended)

    @property
    def verdict(self) -> str:
        """Whether the recommended policy did as well as the baselines: one sentence."""
        lost = [role for role in ("a", "b") if self.table["role"].str.contains(f"({role})", regex=False).any()]
        lost = [f"({role})" for role in lost if self.against(role) < 1 - LOST]
        if lost:
            return (
                f"On the requests held out, {' and '.join(lost)} had the lower mean, so what was measured before did "
                "not hold: measure and replay again on a quiet machine."
            )
        return f"On the requests held out, no baseline had a mean more than {LOST:.0%} below the recommended policy's."

    def summary(self) -> pd.DataFrame:
        """The table for reading: predicted figures with 90 % intervals, measured ones, and the difference."""
        columns: dict[str, Any] = {"policy": self.table["policy"], "": self.table["role"]}
        for name, title in (("mean", "mean ms"), ("p99", "p99 ms")):
            columns[f"{title}: predicted"] = bracketed(self.table, f"predicted_{name}_ms")
            columns[f"{title}: measured"] = self.table[f"{name}_ms"].map("{:.3g}".format)
            columns[f"{name} error"] = self.table[f"{name}_error"].map("{:+.0%}".format)
        return pd.DataFrame(columns)

    def __str__(self) -> str:
        left = f", {self.left_out} of them left out because the machine was busy" if self.left_out else ""
        busy = f"; other processes used {self.others:.1f} cores" if (self.others or 0) > latency.BUSY else ""
        return f"{self.requests} requests to each policy{left}; {self.device}{busy}"


def bracketed(table: pd.DataFrame, name: str, form: str = ".3g") -> list[str]:
    """A column of figures for reading, each with its interval (``_low``, ``_high``) in brackets."""
    figures = (table[f"{name}{end}"] for end in ("", "_low", "_high"))
    return [f"{value:{form}} [{low:{form}}, {high:{form}}]" for value, low, high in zip(*figures, strict=True)]


def replay(
    case: Case,
    routers: Mapping[Policy, Callable[..., Any]],
    roles: Mapping[Policy, str],
    model: Curves,
    traffic: Traffic,
    requests: int,
    seconds: float,
) -> Replay:
    """Serve the same requests with every router, block by block in turns, and compare with the predictions."""
    sizes, places = _requests(traffic, routers, model, requests, seconds)
    inputs = [case.example(dict(zip(traffic.dims, map(int, size), strict=True)), seed=2) for size in sizes]
    shuffle, count = random.Random(0), len(places)

    def serve() -> list[dict[Policy, list[float]]]:
        spent = []
        for start in range(-BLOCK, count, BLOCK):  # the first block is served twice, and counts once
            block = places[max(start, 0) : max(start, 0) + BLOCK]
            calls = {p: [functools.partial(route, *inputs[at]) for at in block] for p, route in routers.items()}
            spent.append(latency.turns(calls, case.device, shuffle))
        return spent[1:]

    with precision.tf32(case.allows_tf32):
        spent, others = latency.quietest(serve, 2 * seconds)
    expected = {policy: policies.predict(policy, model, sizes) for policy in routers}
    each = {policy: WEIGHTS @ values[0] for policy, values in expected.items()}
    blocks = [places[start : start + BLOCK] for start in range(0, count, BLOCK)]
    slow = [
        sum(map(sum, times.values())) / sum(each[policy][block].sum() for policy in routers)
        for times, block in zip(spent, blocks, strict=True)
    ]
    kept = latency_model.quiet(np.array(slow))
    served = np.concatenate([block for block, keep in zip(blocks, kept, strict=True) if keep])
    rows = []
    for policy in routers:
        measured = np.sort([ms for times, keep in zip(spent, kept, strict=True) if keep for ms in times[policy]])
        row: dict[str, Any] = {"policy": str(policy), "role": roles[policy]}
        for name, figure in (("mean", np.mean), ("p99", _p99)):
            alike = _alike(expected[policy], served, figure)
            value, (low, high) = float(np.median(alike)), np.percentile(alike, INTERVAL)
            row |= {f"predicted_{name}_ms": value, f"predicted_{name}_ms_low": low, f"predicted_{name}_ms_high": high}
            row |= {f"{name}_ms": float(figure(measured)), f"{name}_error": float(figure(measured)) / value - 1}
        rows.append(row)
    return Replay(pd.DataFrame(rows), count, count - len(served), others, report.device_name(case.device))


def _requests(
    traffic: Traffic, routers: Mapping[Policy, Any], model: Curves, requests: int, seconds: float
) -> tuple[Array, Array]:
    """The distinct sizes, and the place of each request among them."""
    table = traffic.table
    each = sum(float(WEIGHTS @ policies.predict(one, model, table, point=True) @ traffic.shares) for one in routers)
    count = int(min(requests, max(LEAST, 1000 * seconds / each), traffic.requests))
    drawn = traffic.replayed(count)
    sizes, places = np.unique(drawn, axis=0, return_inverse=True)
    return sizes, places.ravel()


def _alike(values: Array, served: Array, figure: Callable[[Array], Any]) -> Array:
    """What `figure` would be in replays of the same requests, one for each draw of the model."""
    generator = np.random.default_rng(0)
    levels = generator.choice(len(WEIGHTS), size=(len(values), len(served)), p=WEIGHTS)
    drawn = values[np.arange(len(values))[:, None], levels, served[None, :]]
    return np.array([figure(np.sort(row)) for row in drawn[1:]])


def _p99(ordered: Array) -> float:
    """The 99th percentile of sorted values, one of them."""
    return float(ordered[int(np.ceil(0.99 * len(ordered) - 1e-9)) - 1])
