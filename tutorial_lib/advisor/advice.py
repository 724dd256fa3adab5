"""Which engines to build for given traffic: measure a few, predict all, recommend one, replay to be sure."""

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tutorial_lib.advisor import footprint, latency_model, layouts, policies, router
from tutorial_lib.advisor.latency_model import INTERVAL, LatencyModel
from tutorial_lib.advisor.measuring import MeasuredCase, measure
from tutorial_lib.advisor.policies import SAME, Policy, Search
from tutorial_lib.advisor.replay import Replay, bracketed, serve
from tutorial_lib.advisor.traffic import Array, Traffic, as_traffic
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines import build as build_engines
from tutorial_lib.measure.latency import BUSY


@dataclass(frozen=True)
class Objective:
    """What a policy is judged by: its name in sentences, its column in tables, and its unit."""

    text: str
    column: str
    unit: str
    replay_column: str | None = None
    """The column in replays; None for an objective that is not about latency."""


OBJECTIVES = {
    "mean": Objective("mean latency", "mean_ms", "ms", "mean_ms"),
    "p99": Objective("99th percentile of latency", "p99_ms", "ms", "p99_ms"),
    "throughput": Objective("samples per second", "samples_per_second", "samples/s", "mean_ms"),
    "memory": Objective("memory", "memory_mb", "MB"),
    "build": Objective("build time", "build_seconds", "s"),
}
UNSTABLE = 0.25
"""Interquartile range over median above which a typical latency is called unstable."""
MOST_SIZES = {1: 256, 2: 24}
"""Distinct sizes of each dimension that figures are computed at, with one and with two dimensions."""


def advise(
    case: Case,
    traffic: Any,
    objective: str = "mean",
    *,
    p99_at_most_ms: float | None = None,
    measured: MeasuredCase | None = None,
    buckets: int = 3,
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
        A bound that policies have to meet, whatever the objective; ``throughput`` needs one.
    measured : MeasuredCase, optional
        What :func:`measure` returned. Default: it is called, with `measuring` as its keywords.
    buckets : int
        How many engines a policy may have.

    Raises
    ------
    ShapeError
        If the traffic does not fit the case, or the objective does not exist.
    """
    traffic = as_traffic(traffic, case.dims)
    if objective not in OBJECTIVES:
        raise ShapeError(f"there is no objective {objective!r}; use {', '.join(OBJECTIVES)}.")
    if p99_at_most_ms is not None and not 0 < p99_at_most_ms < math.inf:
        raise ShapeError(f"p99_at_most_ms is {p99_at_most_ms!r}; use a number of milliseconds above 0.")
    if objective == "throughput" and p99_at_most_ms is None:
        raise ShapeError("throughput without a bound on latency is the mean in other words; give p99_at_most_ms.")
    measured = measured or measure(case, traffic, **measuring)
    dims = measured.measurement.dims
    if dims != traffic.dims:
        raise ShapeError(f"{', '.join(dims)} was measured, and the traffic has {', '.join(traffic.dims)}.")
    padding_refused = router.why_not_padded(case, dims)
    model = LatencyModel(measured.measurement)
    search = Search(traffic, model, case.dims, 99 if objective == "p99" else None)
    candidates = search.candidates(buckets, pad=padding_refused is None)
    return Advice(measured, search, candidates, OBJECTIVES[objective], p99_at_most_ms, padding_refused)


@dataclass(frozen=True, eq=False)
class Advice:
    """What was compared, which policy is recommended, and how to build it.

    Attributes
    ----------
    measured : MeasuredCase
        The case, and the measurement that everything is predicted from.
    policies : list of Policy
        What was compared.
    replayed : Replay or None
        The replay that the recommendation takes into account (:meth:`after`).
    """

    measured: MeasuredCase
    search: Search
    policies: list[Policy]
    objective: Objective
    bound_ms: float | None
    padding_refused: str | None
    replayed: Replay | None = None

    @property
    def traffic(self) -> Traffic:
        """The requests that the advice is for."""
        return self.search.traffic

    @property
    def model(self) -> LatencyModel:
        """What calls cost."""
        return self.search.model

    @functools.cached_property
    def figures(self) -> dict[Policy, dict[str, Array]]:
        """What :meth:`expect` returns, for each policy."""
        return {policy: self.expect(policy) for policy in self.policies}

    def expect(self, policy: Policy) -> dict[str, Array]:
        """All figures of a policy, also of one of your own: [draws + 1], with the expectation in row 0."""
        draws = self.model.draws
        merged = self.traffic.thinned(MOST_SIZES[len(self.traffic.dims)])
        resampled = np.random.default_rng(0).multinomial(merged.requests, merged.shares, size=draws)
        shares = np.vstack([merged.shares, resampled / merged.requests])  # [draws + 1, sizes]
        latencies = policies.predict(policy, self.model, merged.table)  # [draws + 1, levels, sizes]
        mean = latency_model.mean(latencies, shares)
        builds = list(self.measured.measurement.build_seconds.values()) or [0.0]
        engines = len(policy.engines)
        resampled_builds = np.random.default_rng(0).choice(builds, size=(draws, max(engines, 1)))
        return {
            "mean_ms": mean,
            "p99_ms": latency_model.percentile(latencies, shares),
            "samples_per_second": 1000 * (shares @ merged.table[:, 0]) / mean,
            "memory_mb": np.full(draws + 1, self._memory_bytes(policy) / 1e6),
            "build_seconds": engines * np.concatenate([[statistics.median(builds)], resampled_builds.mean(axis=1)]),
        }

    def _memory_bytes(self, policy: Policy) -> int:
        """The weights of every engine, and the activations of the largest size that is served."""
        case, largest = self.measured.case, [tuple(high for _, _, high in engine) for engine in policy.engines]
        copies = len(policy.engines)
        if policy.eager:
            copies += 1
            largest.append(tuple(case.dims[name].max for name in policy.dims))
        sizes = dict(zip(policy.dims, max(largest, key=math.prod), strict=True))
        return copies * self.measured.measurement.weight_bytes + footprint.activation_bytes(case, sizes)

    def meets(self, policy: Policy) -> bool:
        """Whether the bound on the 99th percentile holds, for the upper end of its interval too."""
        return self.bound_ms is None or latency_model.interval(self.figures[policy]["p99_ms"])[1] <= self.bound_ms

    def _costs(self, policy: Policy) -> Array:
        """What decides, less is better: the objective; if no policy meets the bound, the 99th percentile."""
        if not any(map(self.meets, self.policies)):
            return self.figures[policy]["p99_ms"]
        figures = self.figures[policy][self.objective.column]
        return 1 / figures if self.objective.column == "samples_per_second" else figures

    @functools.cached_property
    def ranked(self) -> list[Policy]:
        """Policies that meet the bound, best first, then the others by their 99th percentile."""

        def order(policy: Policy) -> tuple[bool, float]:
            meets = self.meets(policy)
            return not meets, (self._costs(policy) if meets else self.figures[policy]["p99_ms"])[0]

        return sorted(self.policies, key=order)

    def _is_as_good(self, policy: Policy, other: Policy) -> bool:
        """Whether `policy` is expected to cost at most 5 % more than `other`."""
        return bool(self._costs(policy)[0] <= self._costs(other)[0] * (1 + SAME))

    def _may_be_as_good(self, policy: Policy, other: Policy) -> bool:
        """Whether the draws leave open that `policy` is as good as `other`."""
        difference = self._costs(policy) - self._costs(other)
        return self._is_as_good(policy, other) or bool(np.percentile(difference[1:], INTERVAL[0]) <= 0)

    @functools.cached_property
    def ties(self) -> list[Policy]:
        """The policy that is expected to be best, and those that may be as good."""
        first = self.ranked[0]
        comparable = [policy for policy in self.ranked if self.meets(policy) == self.meets(first)]
        return [policy for policy in comparable if self._may_be_as_good(policy, first)]

    def _complexity(self, policy: Policy) -> tuple[float, ...]:
        *resources, distance = policy.complexity(self.search.median)
        mean = float(self.figures[policy]["mean_ms"][0])
        return (*resources, distance, mean) if self.objective.replay_column else (*resources, mean, distance)

    @functools.cached_property
    def predicted_best(self) -> Policy:
        """The simplest of the ties that are expected to be within 5 % of the best.

        A policy that is expected to be slower is not recommended for being simple, even if the measurement was too
        unsteady to be sure.
        """
        return min((p for p in self.ties if self._is_as_good(p, self.ranked[0])), key=self._complexity)

    @property
    def best(self) -> Policy:
        """The recommended policy: the predicted best, unless the replay was better served by another."""
        return self.replayed.best if self.replayed else self.predicted_best

    @functools.cached_property
    def baselines(self) -> dict[str, Policy]:
        """(a) padding to the largest size, unless the model cannot be padded; (b) one engine with opt at the median."""
        plain = {"b": policies.one_engine(self.search.names, self.search.dims, self.search.median)}
        if self.padding_refused is None:
            plain = {"a": self.search.padded_to_max(), **plain}
        compared = {policy.engines: policy for policy in self.policies if not policy.eager}
        return {role: compared.get(policy.engines, policy) for role, policy in plain.items()}

    @property
    def table(self) -> pd.DataFrame:
        """A row for each policy, best first, with 90 % intervals (columns ``..._low`` and ``..._high``)."""
        rows = []
        roles = {policy: role for role, policy in self.baselines.items()}
        for policy in self.ranked:
            row: dict[str, Any] = {"policy": str(policy), "baseline": roles.get(policy, "")}
            for name, figures in self.figures[policy].items():
                row[name] = figures[0]
                row[f"{name}_low"], row[f"{name}_high"] = latency_model.interval(figures)
            row["verdict"] = "recommended" if policy == self.best else "tie" if policy in self.ties else ""
            row["meets_bound"] = self.meets(policy)
            rows.append(row)
        return pd.DataFrame(rows)

    def summary(self) -> pd.DataFrame:
        """The table for reading: expected figures, with 90 % intervals in brackets."""
        table = self.table
        roles = table["baseline"].map(lambda role: f" ({role})" if role else "")
        bound = table["meets_bound"].map({True: "", False: " above the bound"})
        columns = {
            "policy": table["policy"] + roles,
            "mean ms": bracketed(table, "mean_ms"),
            "p99 ms": bracketed(table, "p99_ms"),
            "samples/s": bracketed(table, "samples_per_second", ",.0f"),
            "memory MB": table["memory_mb"].map("{:.1f}".format),
            "build s": table["build_seconds"].map("{:.1f}".format),
            "verdict": (table["verdict"] + bound).str.strip(),
        }
        return pd.DataFrame(columns)

    @property
    def recommendation(self) -> str:
        """One sentence."""
        best = self.best
        if not self.meets(best):
            return (
                f"No policy keeps its 99th percentile within {self.bound_ms:g} ms for certain; the nearest is {best}, "
                f"with {self._expected(best, 'p99_ms')} ms."
            )
        text = f"For {self.objective.text}"
        if self.bound_ms:
            text += f" with 99 % of the requests within {self.bound_ms:g} ms"
        action = f"build {best}" if best.engines else "run eager PyTorch and build nothing"
        text += f", {action}: {self._expected(best, self.objective.column)} {self.objective.unit} expected"
        if best != self.predicted_best:
            return f"{text}; the replay served it better than {self.predicted_best}, which was predicted to be best."
        for role, policy in self.baselines.items():
            if policy != best and self.objective.replay_column:
                times = self._costs(policy)[0] / self._costs(best)[0]
                text += f", {times:.2f} x as fast as ({role}) {policy.name}"
        others = len(self.ties) - 1
        if others:
            reason = "but the measurement is too unsteady to tell" if self._undecided else "and this is the simplest"
            text += f"; {others} other{'s' if others > 1 else ''} may do as well, {reason}"
        return text + "."

    def _expected(self, policy: Policy, column: str) -> str:
        figures = self.figures[policy][column]
        low, high = latency_model.interval(figures)
        return f"{figures[0]:.3g} ({low:.3g} to {high:.3g})"

    @property
    def _undecided(self) -> Policy | None:
        """The simplest of the ties, if it is not the predicted best because it is expected to be slower."""
        simplest = min(self.ties, key=self._complexity)
        return None if simplest == self.predicted_best else simplest

    @property
    def notes(self) -> list[str]:
        """What to know before relying on the recommendation, one sentence each."""
        notes, measurement = [], self.measured.measurement
        if self.padding_refused:
            notes.append(f"{self.padding_refused} Policies that pad are left out.")
        if self._undecided:
            notes.append(
                f"{self._undecided} may do as well and would be preferred then, but is expected to be slower: measure "
                "for longer (seconds) or on a quiet machine to tell."
            )
        one_engine = [policy for policy in self.ranked if policy.name.startswith("one engine")]
        if len(one_engine) > 1 and self.objective.replay_column:
            by_cost = sorted(one_engine, key=lambda policy: self._costs(policy)[0])
            if self._may_be_as_good(by_cost[-1], by_cost[0]):
                notes.append("Opt makes no difference here that is larger than the uncertainty.")
        disturbed = int((~measurement.quiet).sum())
        if disturbed:
            notes.append(
                f"{disturbed} of {len(measurement.quiet)} rounds of measuring are left out: they took more than "
                f"{latency_model.DISTURBED:g} times as long as an ordinary one, because the machine was busy."
            )
        others = measurement.metadata.get("others")
        if others is not None and others > BUSY:
            notes.append(
                f"Other processes used {others:.1f} cores while this was measured, which makes code for several "
                "threads look slower than it is: measure again when they are done."
            )
        spread = statistics.median(measurement.spreads)
        if spread > UNSTABLE:
            notes.append(
                f"The latencies are unstable (the middle half of the calls spans {spread:.0%} of the median): measure "
                "again on a quiet machine before you build."
            )
        notes.append(
            "Memory counts the weights of each engine (its file, where that is larger), those of the model where eager "
            "runs too, and the most that eager's activations take at the largest size; nothing else."
        )
        if self.measured.backend == "tensorrt":
            notes.append(
                "Several profiles in one engine are not among the policies; layouts() compares them with several "
                "engines, which have the same ranges."
            )
        if self.measured.backend == "openvino":
            notes.append(
                "OpenVINO itself has no opt, so engines that differ in opt alone are the same program. Its first call "
                "at each size is slower than the ones that were measured."
            )
        return notes

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

    def build(self, policy: Policy | None = None) -> router.Router:
        """Really build a policy (the recommended one): a callable for all sizes, checked against float64."""
        return router.build(self.measured.case, policy or self.best, self.measured.make)

    def code(self, policy: Policy | None = None) -> str:
        """A Python script that builds a policy (the recommended one) with the public functions of this package."""
        measured = self.measured
        return router.code(measured.case, policy or self.best, measured.path, measured.backend, measured.options)

    def replay(
        self, held_out: Any, others: Sequence[Policy] = (), *, requests: int = 400, seconds: float = 4.0
    ) -> Replay:
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
        traffic = as_traffic(held_out, self.measured.case.dims)
        roles = {self.predicted_best: "recommended"}
        for role, policy in self.baselines.items():
            roles[policy] = f"{roles.get(policy, '')} ({role})".strip()
        for policy in others:
            roles.setdefault(policy, "")
        routers = {policy: self.build(policy) for policy in roles}
        case, column = self.measured.case, self.objective.replay_column
        return serve(case, routers, roles, self.model, traffic, requests, seconds, column, self.bound_ms)

    def layouts(self, engines: int = 2, build: layouts.Build = build_engines) -> layouts.Layouts:
        """One engine, one with several profiles, several engines, and padding: what TensorRT needs for each.

        Parameters
        ----------
        engines : int
            How many engines, or profiles; one of the bucket policies of the advice.
        build : callable
            Builds the engines of a case along the path that was measured, or `export` in place of `jit`;
            :func:`tutorial_lib.engines.build`.

        Raises
        ------
        ShapeError
            If no policy of the advice has so many engines.
        EnginesUnavailable
            If TensorRT's engines cannot be built here.
        """
        one = next(policy for policy in self.ranked if policy.name.startswith("one engine"))
        several = [policy for policy in self.ranked if len(policy.engines) == engines > 1 and not policy.eager]
        compared = {"one engine, one range": one}
        compared |= {f"{engines} engines": policy for policy in several if not policy.padded}
        compared |= {f"{engines} fixed sizes, padded": policy for policy in several if policy.padded}
        if f"{engines} engines" not in compared:
            raise ShapeError(
                f"the advice has no policy of {engines} engines; call advise with buckets={engines} or more, and opts "
                "for as many."
            )
        path = "export" if self.measured.path == "jit" else self.measured.path
        return layouts.compare(self.measured.case, compared, self.expect, self.measured.measurement, path, build)

    def after(self, replayed: Replay) -> "Advice":
        """The same advice, whose recommendation takes into account what was measured in a replay."""
        return replace(self, replayed=replayed)
