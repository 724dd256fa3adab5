"""Ways to serve traffic: which engines to build, and which of them serves a request. Values and arithmetic only.

Boundaries are optimal for the given latency model and traffic: :func:`partition` is a dynamic programme over the
sizes in order. It serves percentiles too: the smallest latency that 99 % of the requests meet is found by bisection,
because the share of requests that miss a *given* latency is a sum over the requests.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tutorial_lib.advisor import latency_model
from tutorial_lib.advisor.latency_model import PADDING, WEIGHTS, LatencyModel, Size
from tutorial_lib.advisor.traffic import Array, Traffic
from tutorial_lib.core.shapes import DynamicDim

Triple = tuple[int, int, int]
"""(min, opt, max) of one dimension."""
EngineRange = tuple[Triple, ...]
"""The range of an engine: a triple for each dimension."""
Score = Callable[[Array], Array]
"""What requests of each size cost: latencies [levels, sizes] -> [sizes]."""
Cut = Callable[[int, int, Score], "tuple[float, Policy] | None"]
"""(column of the dimension to cut, number of engines, score) -> total score and policy, if there is one."""
MOST_SIZES = {1: 128, 2: 16}
"""Distinct sizes between which boundaries are searched, with one and with two dimensions; more are merged first."""
ENGINE_SHARES = (0.9, 0.99)
"""Shares of the requests that get an engine where the larger requests run in eager."""
SAME = 0.05
"""A difference below 5 % is no reason for another engine: two engines of the same code were seen to differ by 3 %."""
BISECTIONS = 24
EAGER = -1
"""The engine number that :meth:`Policy.route` gives to requests that no engine serves."""


@dataclass(frozen=True)
class Policy:
    """Engines, and a rule that says which of them serves a request.

    A request goes to the first engine whose range contains it. If `padded`, a request below the engine's min is padded
    to it. If `eager`, requests that no engine takes run without compiling; otherwise they are rejected.

    Examples
    --------
    >>> policy = Policy("2 buckets", ("batch",), (((1, 2, 8),), ((9, 32, 64),)))
    >>> print(policy)
    2 buckets (batch 1/2/8, then 9/32/64)
    >>> engines, sizes = policy.route(np.array([[3], [9]]))
    >>> engines.tolist()
    [0, 1]
    """

    name: str
    dims: tuple[str, ...]
    engines: tuple[EngineRange, ...]
    eager: bool = False
    padded: bool = False

    def route(self, sizes: Array) -> tuple[Array, Array]:
        """Sizes [requests, dims] -> the engine of each request (or :data:`EAGER`), and the sizes that it runs at."""
        numbers, run_sizes = np.full(len(sizes), EAGER), np.array(sizes)
        for number in reversed(range(len(self.engines))):
            low, _, high = np.array(self.engines[number]).T
            fits = (sizes <= high).all(axis=1)
            if not self.padded:
                fits &= (sizes >= low).all(axis=1)
            numbers[fits] = number
            run_sizes[fits] = np.maximum(sizes, low)[fits]
        return numbers, run_sizes

    def ranges(self, engine: int) -> dict[str, Triple]:
        """The range of one engine by dimension, as :meth:`tutorial_lib.core.models.Case.with_ranges` takes it."""
        return dict(zip(self.dims, self.engines[engine], strict=True))

    def complexity(self, median: Size) -> tuple[float, ...]:
        """Simple policies sort first: fewer engines, no padding, no eager besides, opt close to the `median`."""
        distance = 0.0
        for engine in self.engines:
            for (_, opt, _), middle in zip(engine, median, strict=True):
                distance += abs(math.log(opt / middle))
        return len(self.engines), self.padded, self.eager, distance

    def __str__(self) -> str:
        if not self.engines:
            return self.name
        ranges = [" x ".join(_triple_text(triple) for triple in engine) for engine in self.engines]
        return f"{self.name} ({' x '.join(self.dims)} {', then '.join(ranges)})"


def _triple_text(triple: Triple) -> str:
    return str(triple[1]) if triple[0] == triple[2] else "/".join(map(str, triple))


def one_engine(names: tuple[str, ...], dims: Sequence[DynamicDim], opt: Size) -> Policy:
    """One engine for the whole range."""
    triples = tuple((dim.min, size, dim.max) for dim, size in zip(dims, opt, strict=True))
    return Policy(f"one engine, opt {' x '.join(map(str, opt))}", names, (triples,))


def predict(policy: Policy, model: LatencyModel, sizes: Array, point: bool = False) -> Array:
    """Latencies of requests under a policy, with the shapes of :meth:`LatencyModel.at`.

    A fixed size is assumed to be as fast as an engine tuned for it, and an engine of a narrow range as fast as the
    measured engine of the whole range with the same opt.
    """
    numbers, run_sizes = policy.route(sizes)
    leading = (len(WEIGHTS),) if point else (model.draws + 1, len(WEIGHTS))
    latencies: Array = np.empty((*leading, len(sizes)))
    for number in np.unique(numbers):
        here = np.flatnonzero(numbers == number)
        opt = None if number == EAGER else tuple(middle for _, middle, _ in policy.engines[number])
        latencies[..., here] = model.at(opt, run_sizes[here], point)
    grown = np.flatnonzero((run_sizes != sizes).any(axis=1))
    if len(grown) and PADDING in model.measurement.samples:
        latencies[..., grown] += model.at(PADDING, run_sizes[grown], point)
    return latencies


def partition(cost: Array, groups: int) -> tuple[float, list[tuple[int, int]]]:
    """Cut a sequence into exactly `groups` contiguous groups so that the sum of their costs is smallest.

    ``cost[i, j]`` is the cost of a group from `i` to `j`, both included; infinite if it is not allowed. Returns the
    total, and (first, last) of each group; an infinite total and no groups if it is impossible.
    """
    count = len(cost)
    cost = np.where(np.tri(count, dtype=bool).T, cost, np.inf)
    best, last_starts = cost[0].copy(), []
    for _ in range(1, groups):
        totals = np.full((count, count), np.inf)  # totals[i, j]: the last group is i to j
        totals[1:] = best[:-1, None] + cost[1:]
        last_starts.append(totals.argmin(axis=0))
        best = totals.min(axis=0)
    if not math.isfinite(best[-1]):
        return math.inf, []
    result, end = [], count - 1
    for starts in reversed(last_starts):
        start = int(starts[end])
        result.append((start, end))
        end = start - 1
    return float(best[-1]), [(0, end), *reversed(result)]


class Search:
    """Finds the policies worth comparing for one traffic, given a latency model.

    `dims` are the ranges that have to be served. Boundaries minimize the percentile `percent` of latency, or its mean.
    """

    def __init__(
        self, traffic: Traffic, model: LatencyModel, dims: Mapping[str, DynamicDim], percent: float | None = None
    ) -> None:
        self.traffic, self.model, self.percent = traffic, model, percent
        self.names, self.dims = traffic.dims, [dims[name] for name in traffic.dims]
        self.median: Size = tuple(traffic.quantile(0.5, name) for name in self.names)
        self._merged = traffic.thinned(MOST_SIZES[len(self.names)])
        self._padded_latencies = functools.cache(self._latencies_padded_to)  # a percentile asks for them many times
        self._opts = [
            opt
            for opt in model.measurement.opts
            if all(dim.min <= size <= dim.max for dim, size in zip(self.dims, opt, strict=True))
        ]

    def candidates(self, most_engines: int, pad: bool) -> list[Policy]:
        """Every policy worth comparing, the two baselines first, none twice."""
        policies = [self.padded_to_max()] if pad else []
        policies += [one_engine(self.names, self.dims, opt) for opt in (self.median, *self._opts)]
        policies += [Policy("eager", self.names, (), eager=True), *self._eager_beyond()]
        for engines in range(2, most_engines + 1):
            for cut in (self._buckets, self._fixed_sizes) if pad else (self._buckets,):
                options = [self._best_cut(cut, column, engines) for column in range(len(self.dims))]
                possible = [option for option in options if option]
                if possible:
                    policies.append(min(possible, key=lambda option: option[0])[1])
        unique: dict[tuple[object, bool], Policy] = {}
        for policy in policies:
            unique.setdefault((policy.engines, policy.eager), policy)
        return list(unique.values())

    def padded_to_max(self) -> Policy:
        """The largest size alone, to which every request is padded."""
        largest = tuple((dim.max, dim.max, dim.max) for dim in self.dims)
        return Policy("padded to max", self.names, (largest,), padded=True)

    def _eager_beyond(self) -> list[Policy]:
        """One engine for most requests; what is larger along the first dimension runs in eager."""
        dim, policies = self.dims[0], []
        for limit in (self.traffic.quantile(share) for share in ENGINE_SHARES):
            opts = [opt for opt in self._opts if opt[0] <= limit]
            if opts and dim.min < limit < dim.max:
                engines = [self._whole_range_but(opt, 0, (dim.min, opt[0], limit)) for opt in opts]
                name = f"eager beyond {self.names[0]} {limit}"
                options = [Policy(name, self.names, (engine,), eager=True) for engine in engines]
                policies.append(min(options, key=self._expected))
        return policies

    def _expected(self, policy: Policy) -> float:
        """The expected mean or percentile of latency."""
        latencies = predict(policy, self.model, self.traffic.table, point=True)[None]
        shares = self.traffic.shares[None]
        if self.percent is None:
            return float(latency_model.mean(latencies, shares)[0])
        return float(latency_model.percentile(latencies, shares, self.percent)[0])

    def _best_cut(self, cut: Cut, column: int, engines: int) -> tuple[float, Policy] | None:
        """The best cut along one dimension for the mean or the percentile."""
        best = cut(column, engines, lambda latencies: np.asarray(WEIGHTS @ latencies))
        if self.percent is None or best is None:
            return best
        all_ms = [self.model.at(opt, self._merged.table, point=True) for opt in (*self._opts, None)]
        low, high = np.min(all_ms) / 2, np.max(all_ms) * 4
        allowed_share = 1 - self.percent / 100 + 1e-6
        policies = [best[1]]
        for _ in range(BISECTIONS):  # to the smallest latency that some cut lets enough requests meet
            limit = math.sqrt(low * high)
            late = cut(column, engines, _share_later_than(limit))
            if late and late[0] <= allowed_share:
                high, policies = limit, [best[1], late[1]]
            else:
                low = limit
        policy = min(policies, key=self._expected)
        return self._expected(policy), policy

    def _buckets(self, column: int, engines: int, score: Score) -> tuple[float, Policy] | None:
        """Engines of adjoining ranges along one dimension, each with a measured opt inside its range."""
        dim, sizes = self.dims[column], self._merged.table
        values, _ = self._merged.values(self.names[column])
        index = np.searchsorted(values, sizes[:, column])
        lows = np.array([dim.min, *(values[:-1] + dim.step)])
        highs = np.array([*values[:-1], dim.max])
        costs = []  # for each opt: [first value, last value]
        for opt in self._opts:
            cost_of_size = score(self.model.at(opt, sizes, point=True)) * self._merged.shares
            cumulative = np.concatenate([[0], np.cumsum(np.bincount(index, cost_of_size, len(values)))])
            contains_opt = (lows[:, None] <= opt[column]) & (opt[column] <= highs[None, :])
            costs.append(np.where(contains_opt, cumulative[None, 1:] - cumulative[:-1, None], np.inf))
        if not costs:
            return None
        total, groups = partition(np.min(costs, axis=0), engines)
        if not groups:
            return None
        opts = [self._opts[int(np.argmin([cost[group] for cost in costs]))] for group in groups]
        low, ranges = dim.min, []
        for number, opt in enumerate(opts):
            last = groups[number][1]
            high = dim.max
            if number + 1 < len(opts):
                next_low = int(values[last + 1]) - dim.step
                high = self._crossing(opt, opts[number + 1], column, int(values[last]), next_low)
            ranges.append(self._whole_range_but(opt, column, (low, opt[column], high)))
            low = high + dim.step
        return total, Policy(self._name(f"{engines} buckets", column), self.names, tuple(ranges))

    def _crossing(self, opt: Size, next_opt: Size, column: int, low: int, high: int) -> int:
        """The last size from `low` to `high` at which the engine tuned for `opt` is the faster of the two."""
        step = self.dims[column].step
        high = min(high, max(next_opt[column] - step, low))
        tried = np.unique(np.geomspace(low, high, 64).astype(int) // step * step)
        sizes = np.tile(self.median, (len(tried), 1))
        sizes[:, column] = tried
        first, second = (WEIGHTS @ self.model.at(engine, sizes, point=True) for engine in (opt, next_opt))
        return int(tried[first <= second].max(initial=low))

    def _fixed_sizes(self, column: int, engines: int, score: Score) -> tuple[float, Policy] | None:
        """Engines of one size each along a dimension, to which smaller requests are padded."""
        values, _ = self._merged.values(self.names[column])
        index = np.searchsorted(values, self._merged.table[:, column])
        ends = [*values[:-1].tolist(), self.dims[column].max]
        cost = np.full((len(values), len(values)), np.inf)  # [first value, last value]
        for last, end in enumerate(ends):
            within = index <= last
            cost_of_size = (score(self._padded_latencies(column, end)) * self._merged.shares)[within]
            cost_of_value = np.bincount(index[within], cost_of_size, last + 1)
            cost[: last + 1, last] = np.cumsum(cost_of_value[::-1])[::-1]
        total, groups = partition(cost, engines)
        if not groups:
            return None
        ranges = tuple(self._fixed(column, ends[last]) for _, last in groups)
        return total, Policy(self._name(f"{engines} fixed sizes", column), self.names, ranges, padded=True)

    def _fixed(self, column: int, size: int) -> EngineRange:
        return self._whole_range_but(self.median, column, (size, size, size))

    def _latencies_padded_to(self, column: int, size: int) -> Array:
        """Latencies of all sizes, [levels, sizes]; of sizes above `size` they mean nothing."""
        policy = Policy("", self.names, (self._fixed(column, size),), eager=True, padded=True)
        return predict(policy, self.model, self._merged.table, point=True)

    def _whole_range_but(self, opt: Size, column: int, triple: Triple) -> EngineRange:
        """The whole range with this opt, except for one dimension."""
        (triples,) = one_engine(self.names, self.dims, opt).engines
        return (*triples[:column], triple, *triples[column + 1 :])

    def _name(self, name: str, column: int) -> str:
        return name if len(self.names) == 1 else f"{name} of {self.names[column]}"


def _share_later_than(limit: float) -> Score:
    """The share of calls that take longer than `limit`; among cuts with equal shares, faster calls win."""
    return lambda latencies: np.asarray(WEIGHTS @ ((latencies > limit) + 1e-9 * latencies / (latencies + limit)))
