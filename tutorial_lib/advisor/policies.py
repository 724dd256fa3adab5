"""Ways to serve traffic: which engines to build, and which of them gets a request. Pure values and arithmetic.

Boundaries are optimal for the curves and the traffic they are given: :func:`partition` is a dynamic programme over
the sizes in order. The same one serves percentiles. The smallest time that 99 % of the requests meet is
found by bisection, since the share that misses a *given* time is a sum over the requests.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tutorial_lib.advisor.latency_model import PADDING, WEIGHTS, Curves, Sizes
from tutorial_lib.advisor.traffic import Array, Traffic
from tutorial_lib.core.shapes import DynamicDim

Triples = tuple[tuple[int, int, int], ...]
"""The range of an engine: (min, opt, max) of each dimension."""
Score = Callable[[Array], Array]
"""What a size costs, from its latencies [levels, sizes]."""
BOUNDARIES = 128
"""Distinct sizes between which boundaries are searched; more are grouped first."""
BEYOND = (0.9, 0.99)
"""Shares of the requests that an engine takes if the others run without compiling."""
HALVINGS = 24
"""Steps of a bisection between times."""
EAGER = -1
"""Where :meth:`Policy.route` sends what no engine takes."""


@dataclass(frozen=True)
class Policy:
    """Engines, and a rule that says which of them gets a request.

    A request goes to the first engine whose range it is in. If `padded`, it is made larger where it is below that
    engine's min. With `eager`, what no engine takes runs without compiling; else it is refused.

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
    engines: tuple[Triples, ...]
    eager: bool = False
    padded: bool = False

    def route(self, sizes: Array) -> tuple[Array, Array]:
        """The engine of each request (or :data:`EAGER`), and the sizes it runs at: one row for each request."""
        chosen, run = np.full(len(sizes), EAGER), np.array(sizes)
        for number in reversed(range(len(self.engines))):
            low, _, high = np.array(self.engines[number]).T
            fits = (sizes <= high).all(axis=1) & (self.padded | (sizes >= low).all(axis=1))
            chosen[fits], run[fits] = number, np.maximum(sizes, low)[fits]
        return chosen, run

    def ranges(self, engine: int) -> dict[str, tuple[int, int, int]]:
        """The range of one engine by dimension, as :meth:`tutorial_lib.core.models.Case.with_ranges` takes it."""
        return dict(zip(self.dims, self.engines[engine], strict=True))

    def simplicity(self, middle: Sizes) -> tuple[float, ...]:
        """What counts where several do equally well: engines, padding, two ways to run, how far opt is off `middle`."""
        off = [
            abs(math.log(opt / at)) for engine in self.engines for (_, opt, _), at in zip(engine, middle, strict=True)
        ]
        return len(self.engines), self.padded, self.eager, sum(off)

    def __str__(self) -> str:
        def shown(engine: Triples) -> str:
            return " x ".join(_shown(triple) for triple in engine)

        if not self.engines:
            return self.name
        return f"{self.name} ({' x '.join(self.dims)} {', then '.join(map(shown, self.engines))})"


def dynamic(names: tuple[str, ...], dims: Sequence[DynamicDim], opt: Sizes) -> Policy:
    """One engine for the whole range."""
    triples = tuple((dim.min, at, dim.max) for dim, at in zip(dims, opt, strict=True))
    return Policy(f"one engine, opt {' x '.join(map(str, opt))}", names, (triples,))


def _shown(triple: tuple[int, int, int]) -> str:
    return str(triple[1]) if triple[0] == triple[2] else "/".join(map(str, triple))


def predict(policy: Policy, curves: Curves, sizes: Array, point: bool = False) -> Array:
    """Latencies under a policy, as :meth:`tutorial_lib.advisor.latency_model.Curves.at` gives them for one engine.

    An engine of one size is taken to be as fast there as one tuned for it, and one of a narrow range as one of the
    whole range with the same opt, which is what was measured.
    """
    chosen, run = policy.route(sizes)
    parts = []
    for number in np.unique(chosen):
        here = np.flatnonzero(chosen == number)
        opt = None if number == EAGER else tuple(middle for _, middle, _ in policy.engines[number])
        values = curves.at(opt, run[here], point)
        if PADDING in curves.measurement.samples:
            grown = (run[here] != sizes[here]).any(axis=1)
            values = values + grown * curves.at(PADDING, run[here], point)
        parts.append((here, values))
    result: Array = np.empty((*parts[0][1].shape[:-1], len(sizes)))
    for here, values in parts:
        result[..., here] = values
    return result


def partition(cost: Array, groups: int) -> tuple[float, list[tuple[int, int]]]:
    """Cut a sequence into `groups` runs so that the sum of their costs is smallest.

    Parameters
    ----------
    cost : array
        ``cost[i, j]`` is the cost of a group from `i` to `j`, both included; infinite if there may be no such group.
    groups : int
        How many, exactly.

    Returns
    -------
    float, list of tuple of int
        The total, and (first, last) of each group; an infinite total and no groups if it cannot be done.
    """
    count = len(cost)
    cost = np.where(np.tri(count, dtype=bool).T, cost, np.inf)
    best, cuts = cost[0].copy(), []
    for _ in range(1, groups):
        start = np.full((count, count), np.inf)  # start[i, j]: the last group is i to j
        start[1:] = best[:-1, None] + cost[1:]
        cuts.append(start.argmin(axis=0))
        best = start.min(axis=0)
    if not math.isfinite(best[-1]):
        return math.inf, []
    found, last = [], count - 1
    for cut in reversed(cuts):
        found.append((int(cut[last]), last))
        last = int(cut[last]) - 1
    return float(best[-1]), [(0, last), *reversed(found)]


class Search:
    """Policies for one traffic on one set of curves; `dims` are the ranges that have to be served."""

    def __init__(self, traffic: Traffic, curves: Curves, dims: Mapping[str, DynamicDim], percent: float | None) -> None:
        self.traffic, self.curves, self.percent = traffic, curves, percent
        self.names, self.dims = traffic.dims, [dims[name] for name in traffic.dims]
        self.middle: Sizes = tuple(traffic.quantile(0.5, name) for name in self.names)
        self._opts = [opt for opt in curves.measurement.opts if self._inside(opt)]
        self._known: dict[tuple[int, int], Array] = {}
        self._few = traffic.thinned(BOUNDARIES if len(self.names) == 1 else 16)

    def all(self, most: int, pad: bool) -> list[Policy]:
        """Every policy worth comparing, the two baselines first; none twice."""
        found = [*([self.static()] if pad else []), self.dynamic(self.middle)]
        found += [self.dynamic(opt) for opt in self._opts]
        found += [Policy("eager", self.names, (), eager=True), *self._beyond()]
        for groups in range(2, most + 1):
            for cut in (self._buckets, self._pads) if pad else (self._buckets,):
                options = [one for column in range(len(self.dims)) if (one := self._best(cut, column, groups))]
                found += [min(options, key=lambda option: option[0])[1]] if options else []
        return list({(policy.engines, policy.eager): policy for policy in reversed(found)}.values())[::-1]

    def static(self) -> Policy:
        """The largest size alone, to which every request is padded."""
        return Policy("padded to max", self.names, (tuple((d.max, d.max, d.max) for d in self.dims),), padded=True)

    def dynamic(self, opt: Sizes) -> Policy:
        """One engine for the whole range."""
        return dynamic(self.names, self.dims, opt)

    def _inside(self, opt: Sizes) -> bool:
        return all(dim.min <= at <= dim.max for dim, at in zip(self.dims, opt, strict=True))

    def _beyond(self) -> Iterator[Policy]:
        dim, sizes = self.dims[0], self.traffic.table
        for share in BEYOND:
            limit = self.traffic.quantile(share)
            if limit >= dim.max or limit == dim.min:
                continue
            some = [
                Policy(f"eager beyond {self.names[0]} {limit}", self.names, (triples,), eager=True)
                for opt in self._opts
                if opt[0] <= limit
                for triples in [((dim.min, opt[0], limit), *self.dynamic(opt).engines[0][1:])]
            ]
            yield from sorted(some, key=lambda one: self._total(predict(one, self.curves, sizes, point=True)))[:1]

    def _total(self, values: Array) -> float:
        """What the objective makes of latencies [levels, sizes] of the traffic."""
        if self.percent is None:
            return float(WEIGHTS @ values @ self.traffic.shares)
        order = np.argsort(values, axis=None)
        reached = np.cumsum(np.outer(WEIGHTS, self.traffic.shares).ravel()[order])
        place = int(np.searchsorted(reached, self.percent / 100 - 1e-12))
        return float(values.ravel()[order][min(place, len(order) - 1)])

    def _best(
        self, cut: Callable[[int, int, Score], tuple[float, Policy] | None], column: int, groups: int
    ) -> tuple[float, Policy] | None:
        """The best cut along one dimension for the objective."""

        def by_mean(values: Array) -> Array:
            return np.asarray(WEIGHTS @ values)

        found = cut(column, groups, by_mean)
        if self.percent is None or found is None:
            return found
        ends = np.array([self.curves.at(opt, self._few.table, point=True) for opt in (*self._opts, None)])
        low, high, miss = ends.min() / 2, ends.max() * 4, 1 - self.percent / 100 + 1e-6
        options = [found[1]]
        for _ in range(HALVINGS):  # to the smallest time that a cut exists for
            middle = math.sqrt(low * high)
            late = cut(column, groups, _late(middle))
            if late and late[0] <= miss:
                high, options = middle, [found[1], late[1]]
            else:
                low = middle
        totals = [self._total(predict(one, self.curves, self.traffic.table, point=True)) for one in options]
        return min(zip(totals, options, strict=True), key=lambda option: option[0])

    def _buckets(self, column: int, groups: int, score: Score) -> tuple[float, Policy] | None:
        """Engines of adjoining ranges, each tuned for an opt that was measured and is in its range."""
        sizes, (values, _), dim = self._few.table, self._few.values(self.names[column]), self.dims[column]
        places = np.searchsorted(values, sizes[:, column])
        lows = np.array([dim.min, *(values[:-1] + dim.step)])
        highs = np.array([*values[:-1], dim.max])
        costs = []
        for opt in self._opts:
            spent = score(self.curves.at(opt, sizes, point=True)) * self._few.shares
            until = np.concatenate([[0], np.cumsum(np.bincount(places, spent, len(values)))])
            inside = (lows[:, None] <= opt[column]) & (opt[column] <= highs[None, :])
            costs.append(np.where(inside, until[None, 1:] - until[:-1, None], np.inf))
        if not costs:
            return None
        total, found = partition(np.min(costs, axis=0), groups)
        if not found:
            return None
        chosen = [self._opts[int(np.argmin([cost[group] for cost in costs]))] for group in found]
        ends = [
            self._meeting(one, two, column, int(values[last]), int(values[last + 1]) - dim.step)
            for one, two, (_, last) in zip(chosen[:-1], chosen[1:], found[:-1], strict=True)
        ]
        triples = zip([dim.min, *(end + dim.step for end in ends)], chosen, [*ends, dim.max], strict=True)
        engines = [self._replaced(opt, column, (low, opt[column], high)) for low, opt, high in triples]
        return total, Policy(self._named(f"{groups} buckets", column), self.names, tuple(engines))

    def _meeting(self, one: Sizes, two: Sizes, column: int, low: int, high: int) -> int:
        """The last size from `low` to `high`, between two that came, at which the engine tuned for `one` is faster."""
        step = self.dims[column].step
        some = np.unique(np.geomspace(low, min(high, max(two[column] - step, low)), 64).astype(int) // step * step)
        sizes = np.tile(self.middle, (len(some), 1))
        sizes[:, column] = some
        first, second = (WEIGHTS @ self.curves.at(opt, sizes, point=True) for opt in (one, two))
        return int(some[first <= second].max(initial=low))

    def _pads(self, column: int, groups: int, score: Score) -> tuple[float, Policy] | None:
        """Engines of one size each along a dimension; what is smaller is padded."""
        sizes, (values, _), dim = self._few.table, self._few.values(self.names[column]), self.dims[column]
        ends = np.array([*values[:-1], dim.max])
        places = np.searchsorted(values, sizes[:, column])
        cost = np.full((len(values), len(values)), np.inf)
        for last, end in enumerate(ends):
            within = places <= last
            if (column, last) not in self._known:
                fixed = Policy("", self.names, (self._replaced(self.middle, column, (int(end),) * 3),), padded=True)
                self._known[column, last] = predict(fixed, self.curves, sizes[within], point=True)
            spent = score(self._known[column, last]) * self._few.shares[within]
            each = np.bincount(places[within], spent, last + 1)
            cost[: last + 1, last] = np.cumsum(each[::-1])[::-1]
        total, found = partition(cost, groups)
        if not found:
            return None
        engines = tuple(self._replaced(self.middle, column, (int(ends[last]),) * 3) for _, last in found)
        return total, Policy(self._named(f"{groups} fixed sizes", column), self.names, engines, padded=True)

    def _replaced(self, opt: Sizes, column: int, triple: tuple[int, int, int]) -> Triples:
        """The whole range with this opt, but with `triple` for one dimension."""
        triples = self.dynamic(opt).engines[0]
        return (*triples[:column], triple, *triples[column + 1 :])

    def _named(self, name: str, column: int) -> str:
        return name if len(self.names) == 1 else f"{name} of {self.names[column]}"


def _late(time: float) -> Score:
    """The share of calls that take longer than `time`; of equally many, the sooner ones."""
    return lambda values: np.asarray(WEIGHTS @ ((values > time) + 1e-9 * values / (values + time)))
