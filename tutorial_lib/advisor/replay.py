"""Serve requests with engines that were really built, and compare what was predicted with what is measured."""

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tutorial_lib.advisor import latency_model, policies
from tutorial_lib.advisor.latency_model import DRAWS, INTERVAL, WEIGHTS, LatencyModel
from tutorial_lib.advisor.policies import SAME, Policy
from tutorial_lib.advisor.traffic import Array, Traffic
from tutorial_lib.builds import report
from tutorial_lib.core import precision
from tutorial_lib.core.models import Case
from tutorial_lib.measure import latency

BLOCK = 20
"""Requests that one policy serves before it is the next one's turn."""
LEAST_REQUESTS = 50


@dataclass(frozen=True, eq=False)
class Replay:
    """Predicted and measured latency of policies on the same requests.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each policy: ``predicted_mean_ms`` with an interval (``_low``, ``_high``: 90 % of what replays
        of so many requests would give if the model were right), ``mean_ms`` as measured, ``mean_error``
        (measured over predicted, minus 1), and the same for ``p99``.
    draws : mapping
        For ``mean_ms`` and ``p99_ms`` [policies, draws]: the measured figures again, for blocks of requests drawn with
        replacement, the same ones for every policy.
    policies : tuple of Policy
        Those of the rows; the first one was recommended.
    column : str or None
        The measured column that the recommendation is about; None if it is not about latency.
    bound_ms : float or None
        The bound on the 99th percentile.
    requests, left_out : int
        How many were served, and how many of them are left out, for all policies alike: their block took more than
        :data:`tutorial_lib.advisor.latency_model.DISTURBED` times as long, against its prediction, as an ordinary one.
    others : float or None
        How many cores other processes used meanwhile, where that is known.
    device : str
        What the requests were served on.
    """

    table: pd.DataFrame
    draws: Mapping[str, Array]
    policies: tuple[Policy, ...]
    column: str | None
    bound_ms: float | None
    requests: int
    left_out: int
    others: float | None
    device: str

    def against(self, role: str, column: str = "mean_ms") -> float:
        """How many times as fast the recommended policy is as ``(a)`` or ``(b)``, measured."""
        has_role = self.table["role"].str.contains(f"({role})", regex=False)
        return float(self.table.loc[has_role, column].iloc[0] / self.table[column].iloc[0])

    @property
    def best(self) -> Policy:
        """The recommended policy, unless another one kept the bound that it missed, or was faster.

        Faster means by more than 5 %, and in 95 % of the draws.
        """
        fastest = self._fastest
        if self._late[0] == self._late[fastest] and not (self._is_faster(fastest) and self._is_sure(fastest)):
            return self.policies[0]
        return self.policies[fastest]

    @property
    def _fastest(self) -> int:
        """The row with the lowest figure, among those that kept the bound if there are any."""
        return int(self.table.loc[self._late == self._late.min(), self.column or "mean_ms"].idxmin())

    def _is_faster(self, row: int) -> bool:
        figures = self.table[self.column] if self.column else None
        return figures is not None and bool(figures[row] < figures[0] * (1 - SAME))

    def _is_sure(self, row: int) -> bool:
        """Whether the policy of a row is faster than the recommended one in 95 % of the draws."""
        draws = self.draws[self.column or "mean_ms"]
        return bool(np.percentile(draws[row] / draws[0], INTERVAL[1]) < 1)

    @property
    def _late(self) -> "pd.Series[bool]":
        """Which policies missed the bound."""
        return self.table["p99_ms"] > (np.inf if self.bound_ms is None else self.bound_ms)

    @property
    def verdict(self) -> str:
        """Whether the recommended policy did as well as the others: one sentence."""
        start, fastest = "On the requests held out, ", self._fastest
        figure = "99th percentile" if self.column == "p99_ms" else "mean"
        if self._late[0] != self._late[fastest]:
            return (
                f"{start}{self.best} kept within {self.bound_ms:g} ms, and {self.policies[0]} did not: take the former."
            )
        if self._is_faster(fastest):
            lower = 1 - self.table[self.column][fastest] / self.table[self.column][0]
            text = f"{start}{self.policies[fastest]} had a {figure} {lower:.0%} below that of {self.policies[0]}, "
            if self._is_sure(fastest):
                return (
                    f"{text}so what was measured before did not hold: take the former, or measure and replay again on "
                    "a quiet machine."
                )
            return f"{text}but calls were too unsteady to tell chance from a difference: replay more requests."
        if self._late[0]:
            return f"{start}no policy kept its 99th percentile within {self.bound_ms:g} ms."
        if self.column is None:
            return f"{start}the recommended policy is not judged, since it was not chosen for its latency."
        return f"{start}no policy had a {figure} more than {SAME:.0%} below the recommended policy's."

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


def serve(
    case: Case,
    routers: Mapping[Policy, Callable[..., Any]],
    roles: Mapping[Policy, str],
    model: LatencyModel,
    traffic: Traffic,
    requests: int,
    seconds: float,
    column: str | None,
    bound_ms: float | None,
) -> Replay:
    """Serve the same requests with every router, block by block in turns, and compare with the predictions."""
    sizes, index = _requests(traffic, routers, model, requests, seconds)
    inputs = [case.example(dict(zip(traffic.dims, size, strict=True)), seed=2) for size in sizes.tolist()]
    blocks = [index[start : start + BLOCK] for start in range(0, len(index), BLOCK)]
    shuffle = random.Random(0)

    def session() -> list[dict[Policy, list[float]]]:
        durations = []
        for block in [blocks[0], *blocks]:  # the first block is served twice, and counts once
            calls = {p: [functools.partial(route, *inputs[size]) for size in block] for p, route in routers.items()}
            durations.append(latency.turns(calls, case.device, shuffle))
        return durations[1:]

    with precision.tf32(case.allows_tf32):
        durations, others = latency.quietest(session, 2 * seconds)
    predicted = {policy: policies.predict(policy, model, sizes) for policy in routers}  # [draws + 1, levels, sizes]
    expected_ms = sum(WEIGHTS @ latencies[0] for latencies in predicted.values())  # of all policies: [sizes]
    slowness = [
        sum(map(sum, served.values())) / expected_ms[block].sum()
        for served, block in zip(durations, blocks, strict=True)
    ]
    quiet = np.flatnonzero(latency_model.quiet(np.array(slowness)))
    resampled = np.random.default_rng(0).choice(quiet, (DRAWS, len(quiet)))
    served_index = np.concatenate([blocks[number] for number in quiet])
    rows: list[dict[str, Any]] = []
    draws: dict[str, list[list[float]]] = {"mean_ms": [], "p99_ms": []}
    for policy in routers:
        measured = np.concatenate([durations[number][policy] for number in quiet])
        row: dict[str, Any] = {"policy": str(policy), "role": roles[policy]}
        for name, figure in (("mean", np.mean), ("p99", _p99)):
            replays = _simulated(predicted[policy], served_index, figure)
            value, measured_value = float(np.median(replays)), float(figure(measured))
            low, high = np.percentile(replays, INTERVAL)
            row[f"predicted_{name}_ms"] = value
            row[f"predicted_{name}_ms_low"] = low
            row[f"predicted_{name}_ms_high"] = high
            row[f"{name}_ms"] = measured_value
            row[f"{name}_error"] = measured_value / value - 1
            draws[f"{name}_ms"].append(
                [figure(np.concatenate([durations[number][policy] for number in numbers])) for numbers in resampled]
            )
        rows.append(row)
    left_out = len(index) - len(served_index)
    table, device = pd.DataFrame(rows), report.device_name(case.device)
    drawn = {name: np.array(figures) for name, figures in draws.items()}
    return Replay(table, drawn, tuple(routers), column, bound_ms, len(index), left_out, others, device)


def _requests(
    traffic: Traffic, routers: Mapping[Policy, Any], model: LatencyModel, requests: int, seconds: float
) -> tuple[Array, Array]:
    """The distinct sizes [sizes, dims], and which of them each request has: [requests]."""
    expected_ms = 0.0  # of one request to every policy
    for policy in routers:
        latencies = policies.predict(policy, model, traffic.table, point=True)
        expected_ms += float(WEIGHTS @ latencies @ traffic.shares)
    count = int(min(requests, max(LEAST_REQUESTS, 1000 * seconds / expected_ms)))
    sizes, index = np.unique(traffic.sample(count), axis=0, return_inverse=True)
    return sizes, index.ravel()


def _simulated(latencies: Array, index: Array, figure: Callable[[Array], Any]) -> Array:
    """`figure` of replays of the same requests, one for each draw of the model: [draws]."""
    generator = np.random.default_rng(0)
    levels = generator.choice(len(WEIGHTS), size=(len(latencies), len(index)), p=WEIGHTS)
    drawn = latencies[np.arange(len(latencies))[:, None], levels, index[None, :]]  # [draws + 1, requests]
    return np.array([figure(row) for row in drawn[1:]])


def _p99(values: Array) -> Any:
    """The 99th percentile, one of the values."""
    return np.percentile(values, 99, method="inverted_cdf")
