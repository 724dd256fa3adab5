"""Which engines to build for the traffic at hand: measure a few, predict all, recommend one, replay to be sure."""

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from tutorial_lib.advisor import footprint, latency_model, policies, replay, router
from tutorial_lib.advisor.latency_model import INTERVAL, Curves
from tutorial_lib.advisor.measuring import Bench, measure
from tutorial_lib.advisor.policies import Policy, Search
from tutorial_lib.advisor.traffic import Array, Traffic, as_traffic
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.measure.latency import BUSY

OBJECTIVES = {
    "mean": "mean latency",
    "p99": "99th percentile of latency",
    "throughput": "samples per second",
    "memory": "memory",
    "build": "build time",
}
SAME = 0.05
"""A difference below 5 % is no reason for another engine: two engines of the same code were seen to differ by 3 %."""
UNSTABLE = 0.25
"""Interquartile range over median from which on a typical latency is called unstable."""
MOST_SIZES = {1: 256, 2: 24}
"""Distinct sizes of each dimension that figures are computed at, with one and with two dimensions."""
ONE_PROFILE = (
    "Several optimization profiles in one engine are not compared: the TensorRT paths of this tutorial build one "
    "profile for each engine, as Torch-TensorRT's own calls do up to version 2.13."
)


def advise(
    case: Case,
    traffic: Any,
    objective: str = "mean",
    *,
    p99_at_most_ms: float | None = None,
    bench: Bench | None = None,
    buckets: int = 3,
    seed: int = 0,
    **measuring: Any,
) -> "Advice":
    """Compare ways to serve `traffic` and recommend one.

    Parameters
    ----------
    case : Case
        The model, with the range that has to be served.
    traffic : Traffic, or what Traffic.of takes
        The requests to choose for: a list, an array or a histogram of sizes.
    objective : str
        ``mean`` or ``p99`` of latency, ``throughput`` (samples per second, counted along the first dimension, one
        request after the other), ``memory`` or ``build`` (time).
    p99_at_most_ms : float, optional
        A bound that policies have to meet whatever the objective; ``throughput`` needs one.
    bench : Bench, optional
        What :func:`measure` returned; without it, it is called, with `measuring` as its keywords.
    buckets : int
        How many engines a policy may have.

    Raises
    ------
    ShapeError
        If the traffic does not fit the case, or the objective is not one.
    """
    traffic = as_traffic(traffic, case.dims)
    if objective not in OBJECTIVES:
        raise ShapeError(f"there is no objective {objective!r}; use {', '.join(OBJECTIVES)}.")
    if p99_at_most_ms is not None and not p99_at_most_ms > 0:
        raise ShapeError(f"p99_at_most_ms is {p99_at_most_ms!r}; use a number of milliseconds above 0.")
    if objective == "throughput" and p99_at_most_ms is None:
        raise ShapeError("throughput without a bound on latency is the mean in other words; give p99_at_most_ms.")
    bench = bench or measure(case, traffic, **measuring)
    if bench.measurement.dims != traffic.dims:
        raise ShapeError(
            f"{', '.join(bench.measurement.dims)} was measured, and the traffic has {', '.join(traffic.dims)}."
        )
    refused = router.why_not_padded(case, traffic.dims)
    found = Curves(bench.measurement, seed=seed)
    search = Search(traffic, found, case.dims, 99 if objective == "p99" else None)
    options = search.all(buckets, pad=refused is None)
    advice = Advice(bench, traffic, objective, p99_at_most_ms, found, options, search, refused, seed)
    return replace(advice, figures={policy: advice.expect(policy) for policy in options})


@dataclass(frozen=True, eq=False)
class Advice:
    """What was compared, what came out, and how to build it.

    Attributes
    ----------
    policies : list of Policy
        What was compared.
    table : pandas.DataFrame
        One row for each, best first, with intervals (columns ``..._low`` and ``..._high``, 90 % of the draws).
    best : Policy
        The recommended one.
    """

    bench: Bench
    traffic: Traffic
    objective: str
    bound_ms: float | None
    curves: Curves
    policies: list[Policy]
    search: Search
    refused: str | None
    seed: int = 0
    figures: dict[Policy, dict[str, Array]] = field(default_factory=dict)

    def expect(self, policy: Policy) -> dict[str, Array]:
        """All figures of a policy, also of one of your own, over the draws; row 0 is the expectation."""
        few = self.traffic.thinned(MOST_SIZES[len(self.traffic.dims)])
        drawn = np.random.default_rng(self.seed).multinomial(few.requests, few.shares, size=self.curves.draws)
        shares = np.vstack([few.shares, drawn / few.requests])
        values = policies.predict(policy, self.curves, few.table)
        mean, engines = latency_model.mean(values, shares), len(policy.engines)
        ones = np.ones(self.curves.draws + 1)
        builds = list(self.bench.measurement.build_seconds.values()) or [0.0]
        random_builds = np.random.default_rng(self.seed).choice(builds, size=(self.curves.draws, max(engines, 1)))
        seconds = np.concatenate([[statistics.median(builds)], random_builds.mean(axis=1)]) * engines
        return {
            "mean_ms": mean,
            "p99_ms": latency_model.percentile(values, shares),
            "samples_per_second": 1000 * (shares @ few.table[:, 0]) / mean,
            "memory_mb": ones * self._memory_bytes(policy) / 1e6,
            "build_seconds": seconds,
        }

    def _memory_bytes(self, policy: Policy) -> int:
        largest = [tuple(high for _, _, high in engine) for engine in policy.engines]
        if policy.eager or not largest:
            largest.append(tuple(self.bench.case.dims[name].max for name in policy.dims))
        copies = len(policy.engines) + policy.eager
        activations = footprint.activation_bytes(
            self.bench.case, dict(zip(policy.dims, max(largest, key=math.prod), strict=True))
        )
        return copies * self.bench.measurement.weight_bytes + activations

    @property
    def _column(self) -> str:
        columns = {"throughput": "samples_per_second", "memory": "memory_mb", "build": "build_seconds"}
        return columns.get(self.objective, f"{self.objective}_ms")

    def _costs(self, policy: Policy) -> Array:
        """The objective over the draws, less is better."""
        values = self.figures[policy][self._column]
        return 1 / values if self.objective == "throughput" else values

    def meets(self, policy: Policy) -> bool:
        """Whether the bound on the 99th percentile holds, with its interval's upper end."""
        return self.bound_ms is None or latency_model.interval(self.figures[policy]["p99_ms"])[1] <= self.bound_ms

    @functools.cached_property
    def ranked(self) -> list[Policy]:
        """Policies that meet the bound, best first, then the others by their 99th percentile."""
        return sorted(
            self.policies,
            key=lambda p: (0, self._costs(p)[0]) if self.meets(p) else (1, self.figures[p]["p99_ms"][0]),
        )

    @functools.cached_property
    def ties(self) -> list[Policy]:
        """The best, and those that may be no worse by the same draws, or are by less than 5 %."""
        first, *others = self.ranked
        best = self._costs(first)
        found = [first]
        for policy in others:
            if self.meets(policy) == self.meets(first):
                costs = self._costs(policy)
                apart = np.divide(costs - best, best, out=np.zeros_like(best), where=best > 0)
                if costs[0] <= best[0] * (1 + SAME) or np.percentile(apart[1:], INTERVAL[0]) <= 0:
                    found.append(policy)
        return found

    @functools.cached_property
    def best(self) -> Policy:
        """The simplest of those that cannot be told apart; where they need the same resources, the fastest of these."""

        def order(policy: Policy) -> tuple[float, ...]:
            *simple, off = policy.simplicity(self.search.middle)
            mean = float(self.figures[policy]["mean_ms"][0])
            return (*simple, mean, off) if self.objective in ("memory", "build") else (*simple, off, mean)

        return min(self.ties, key=order)

    @functools.cached_property
    def baselines(self) -> dict[str, Policy]:
        """(a) padding to the largest size, unless the model cannot be padded; (b) one engine with opt at the median."""
        plain = self.search.dynamic(self.search.middle)
        found = {"a": self.search.static()} if self.refused is None else {}
        same = {policy.engines: policy for policy in self.policies if not policy.eager}
        return {role: same.get(policy.engines, policy) for role, policy in {**found, "b": plain}.items()}

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """All figures of all policies, best first."""
        rows, ties = [], self.ties
        roles = {policy: role for role, policy in self.baselines.items()}
        for policy in self.ranked:
            row: dict[str, Any] = {"policy": str(policy), "baseline": roles.get(policy, "")}
            for name, values in self.figures[policy].items():
                low, high = latency_model.interval(values)
                row |= {name: values[0], f"{name}_low": low, f"{name}_high": high}
            row["verdict"] = "recommended" if policy == self.best else "tie" if policy in ties else ""
            row["meets_bound"] = self.meets(policy)
            rows.append(row)
        return pd.DataFrame(rows)

    def summary(self) -> pd.DataFrame:
        """The table for reading: expected figures, with 90 % intervals in brackets."""
        table = self.table
        shown = {
            "mean ms": ("mean_ms", ".3g"),
            "p99 ms": ("p99_ms", ".3g"),
            "samples/s": ("samples_per_second", ",.0f"),
        }
        columns = {"policy": table["policy"] + table["baseline"].map(lambda role: f" ({role})" if role else "")}
        for title, (name, form) in shown.items():
            columns[title] = replay.bracketed(table, name, form)
        columns["memory MB"] = table["memory_mb"].map("{:.1f}".format)
        columns["build s"] = table["build_seconds"].map("{:.1f}".format)
        bound = table["meets_bound"].map({True: "", False: " above the bound"})
        columns["verdict"] = (table["verdict"] + bound).str.strip()
        return pd.DataFrame(columns)

    @property
    def recommendation(self) -> str:
        """One sentence."""
        best, ties = self.best, [policy for policy in self.ties if policy != self.best]
        if not self.meets(best):
            return (
                f"No policy keeps its 99th percentile within {self.bound_ms:g} ms for certain; the nearest is {best}, "
                f"with {self._said(best, 'p99_ms')} ms."
            )
        head = f"For {OBJECTIVES[self.objective]}"
        head += f" with 99 % of the requests within {self.bound_ms:g} ms" if self.bound_ms else ""
        what = "run eager PyTorch and build nothing" if not best.engines else f"build {best}"
        text = f"{head}, {what}: {self._said(best, self._column)} {self._unit} expected"
        for role, policy in self.baselines.items():
            if policy != best and self._column in ("mean_ms", "p99_ms", "samples_per_second"):
                times = self._costs(policy)[0] / self._costs(best)[0]
                text += f", {times:.2f} x as fast as ({role}) {policy.name}"
        if ties:
            others = f"{len(ties)} other{'s' if len(ties) > 1 else ''}"
            text += f"; {others} may do as well, and this is the simplest"
        return text + "."

    @property
    def _unit(self) -> str:
        return {"samples_per_second": "samples/s", "memory_mb": "MB", "build_seconds": "s"}.get(self._column, "ms")

    def _said(self, policy: Policy, column: str) -> str:
        values = self.figures[policy][column]
        low, high = latency_model.interval(values)
        return f"{values[0]:.3g} ({low:.3g} to {high:.3g})"

    @property
    def notes(self) -> list[str]:
        """What to know before relying on it, one sentence each."""
        found = [f"{self.refused} Policies that pad are left out."] if self.refused else []
        dynamic = [policy for policy in self.policies if policy.name.startswith("one engine")]
        if len(dynamic) > 1 and self._column in ("mean_ms", "p99_ms", "samples_per_second"):
            costs = sorted((self._costs(policy) for policy in dynamic), key=lambda cost: cost[0])
            if costs[-1][0] <= costs[0][0] * (1 + SAME) or np.percentile((costs[-1] - costs[0])[1:], INTERVAL[0]) <= 0:
                found.append("Opt makes no difference here that is larger than the uncertainty.")
        rounds = self.bench.measurement.quiet
        if not rounds.all():
            found.append(
                f"{int((~rounds).sum())} of {len(rounds)} rounds of measuring are left out: they took more than "
                f"{latency_model.DISTURBED:g} times as long as an ordinary one, because the machine was busy."
            )
        others = self.bench.measurement.about.get("others")
        if others is not None and others > BUSY:
            found.append(
                f"Other processes used {others:.1f} cores while this was measured, which makes code for several "
                "threads look slower than it is: measure again when they are done."
            )
        spread = statistics.median(self.bench.measurement.spreads)
        if spread > UNSTABLE:
            found.append(
                f"The latencies are unstable (the middle half of the calls spans {spread:.0%} of the median): measure "
                "again on a quiet machine before you build."
            )
        found.append(
            "Memory counts the weights of each engine (its file, where that is larger), those of the model where eager "
            "runs too, and the most that eager's activations take at the largest size; nothing else."
        )
        return [*found, ONE_PROFILE] if self.bench.backend == "tensorrt" else found

    def build(self, policy: Policy | None = None) -> router.Router:
        """Really build a policy (the recommended one): a callable for all sizes, checked against float64."""
        return router.build(self.bench.case, policy or self.best, self.bench.make)

    def find(self, name: str) -> Policy:
        """The policy of this name, such as ``2 buckets``.

        Raises
        ------
        ShapeError
            If there is none.
        """
        for policy in self.policies:
            if name in (policy.name, str(policy)):
                return policy
        raise ShapeError(f"there is no policy {name!r}; use {', '.join(policy.name for policy in self.policies)}.")

    def code(self, policy: Policy | None = None) -> str:
        """A Python script that builds a policy (the recommended one) with the public functions of this package."""
        bench = self.bench
        return router.code(bench.case, policy or self.best, bench.path, bench.backend, bench.options)

    def replay(
        self, held_out: Any, others: Sequence[Policy] = (), *, requests: int = 400, seconds: float = 4.0
    ) -> "replay.Replay":
        """Serve requests that the advice has not seen with engines really built: predicted against measured.

        Parameters
        ----------
        held_out : Traffic, or what Traffic.of takes
            Such as the second part of :meth:`tutorial_lib.advisor.traffic.Traffic.split`.
        others : sequence of Policy
            To be replayed besides the recommended one and the baselines.
        requests, seconds
            At most so many requests, and about so much time for calls; at least 50 requests if there are as many.
        """
        traffic = as_traffic(held_out, self.bench.case.dims)
        roles = {policy: role for role, policy in self.baselines.items()}
        chosen = list(dict.fromkeys([self.best, *self.baselines.values(), *others]))
        routers = {policy: self.build(policy) for policy in chosen}
        names = {}
        for policy in chosen:
            role = f"({roles[policy]})" if policy in roles else ""
            names[policy] = f"recommended {role}".strip() if policy == self.best else role
        return replay.replay(self.bench.case, routers, names, self.curves, traffic, requests, seconds)
