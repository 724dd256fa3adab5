"""A model of latency over sizes, from a few engines measured at a few sizes: numbers only, no timing.

Every engine has several samples at every measured size. The model interpolates each quantile of them, monotonically,
over the logarithm of the size. So a predicted 99th percentile has both of its causes in it: large requests and slow
calls.

What was measured would come out a little differently a second time. Everything is therefore computed again for
:data:`DRAWS` bootstrap draws, each from rounds drawn with replacement (B. Efron, "Bootstrap methods", 1979). A draw
takes the same rounds for every engine: a round measured all of them side by side, so noise that they share cancels
in a comparison.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tutorial_lib.advisor.traffic import Array

Size = tuple[int, ...]
"""One number for each dimension."""
Engine = Size | None
"""A measured engine, by its opt; None is PyTorch without compiling."""
PADDING: Engine = ()
"""Stands in place of an engine for the time that it takes to pad inputs to a size."""

DRAWS = 200
EDGES = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1])
LEVELS = (EDGES[1:] + EDGES[:-1]) / 2
"""The quantiles that represent the samples of one size, finer towards the slow end: [levels]."""
WEIGHTS = np.diff(EDGES)
"""The share of the calls that each level represents: [levels]."""
INTERVAL = (5, 95)
"""Percentiles of the draws between which an interval lies."""
DISTURBED = 2.0
"""A round that took so many times as long as an ordinary one was disturbed by other work on the machine."""
LEAST_ROUNDS = 5
"""At least so many rounds are used, disturbed or not."""


@dataclass(frozen=True)
class Measurement:
    """Latencies of a few engines at a few sizes.

    Attributes
    ----------
    dims : tuple of str
        Names of the dimensions.
    axes : tuple of tuple of int
        Measured sizes of each dimension, ascending; every combination was measured.
    samples : mapping
        For each engine, and optionally for :data:`PADDING`, one array for each combination of sizes (the last
        dimension varies fastest): milliseconds, [rounds, calls]. Row `i` of all arrays is the same round.
    build_seconds : mapping
        How long each engine took to build.
    weight_bytes : int
        Size of the weights that every engine brings.
    metadata : mapping
        What was measured: ``case``, ``backend``, ``path``, ``device``, and ``others``, the cores that other processes
        used meanwhile.
    """

    dims: tuple[str, ...]
    axes: tuple[Size, ...]
    samples: Mapping[Engine, Sequence[Array]]
    build_seconds: Mapping[Engine, float] = field(default_factory=dict)
    weight_bytes: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def opts(self) -> list[Size]:
        """The opts of the measured engines, smallest first."""
        return sorted((opt for opt in self.samples if opt), key=np.prod)

    @property
    def quiet(self) -> Array:
        """Which rounds count: those that were not :data:`DISTURBED`."""
        return quiet(np.sum([cell.sum(axis=1) for cells in self.samples.values() for cell in cells], axis=0))

    @property
    def spreads(self) -> list[float]:
        """Interquartile range over median, for each engine at each size."""
        spreads = []
        for cell in itertools.chain(*self.samples.values()):
            low, median, high = np.quantile(cell[self.quiet], (0.25, 0.5, 0.75))
            spreads.append(float((high - low) / median))
        return spreads


def quiet(durations: Array) -> Array:
    """Which rounds to use, given how long each round of equal work took.

    Another process that takes the processor for a second lengthens every call of that second, whichever engine is
    called. The lower quartile is taken for an ordinary round. All are used if fewer than :data:`LEAST_ROUNDS` would be.
    """
    is_quiet = durations <= DISTURBED * np.quantile(durations, 0.25)
    if is_quiet.sum() < min(LEAST_ROUNDS, len(durations)):
        return np.ones(len(durations), dtype=bool)
    return np.asarray(is_quiet)


class LatencyModel:
    """Latency of any engine at any size, with its uncertainty.

    Attributes
    ----------
    measurement : Measurement
        What the model is made from.
    draws : int
        Number of bootstrap draws. Results have one row more: row 0 is the point estimate, from all rounds.
    """

    def __init__(self, measurement: Measurement, draws: int = DRAWS) -> None:
        self.measurement, self.draws = measurement, draws
        quiet_rounds = np.flatnonzero(measurement.quiet)
        resampled = np.random.default_rng(0).choice(quiet_rounds, (draws, len(quiet_rounds)))
        rounds = np.vstack([quiet_rounds, resampled])  # [draws + 1, rounds]
        shape = tuple(map(len, measurement.axes))
        self._log_grids = {}  # engine -> [draws + 1, levels, *axes]
        for engine, cells in measurement.samples.items():
            levels = np.stack([_quantiles(cell[rounds]) for cell in cells], axis=-1)
            grid = np.log(levels).reshape(draws + 1, len(LEVELS), *shape)
            self._log_grids[engine] = monotone(grid, len(shape))

    def at(self, engine: Engine, sizes: Array, point: bool = False) -> Array:
        """Milliseconds of one call: [draws + 1, levels, sizes], or the point estimate alone, [levels, sizes].

        Parameters
        ----------
        engine : tuple of int or None
            Its opt. If no engine with this opt was measured, its latency lies somewhere between those of the two
            measured opts around it, and each draw takes another place between them: nothing more is known.
        sizes : array
            [sizes, dims]
        point : bool
            Whether to return the point estimate alone.
        """
        if engine is None or engine in self._log_grids:
            return np.exp(self._log_at(engine, sizes, point))
        below, above = self.around(engine)
        if below == above:
            return np.exp(self._log_at(below, sizes, point))
        fraction = np.random.default_rng([0, *engine]).random((self.draws + 1, 1, 1))
        fraction[0] = 0.5
        part = fraction[0] if point else fraction
        log_ms = (1 - part) * self._log_at(below, sizes, point) + part * self._log_at(above, sizes, point)
        return np.exp(log_ms)

    def around(self, opt: Size) -> tuple[Size, Size]:
        """The measured opts just below and above `opt`; twice the nearest one if `opt` is outside all of them."""
        opts, work = self.measurement.opts, float(np.prod(opt))
        below = [other for other in opts if np.prod(other) <= work]
        above = [other for other in opts if np.prod(other) >= work]
        return (below or above)[-1 if below else 0], (above or below)[0 if above else -1]

    def _log_at(self, engine: Engine, sizes: Array, point: bool) -> Array:
        """Linear interpolation in the logarithms of size and latency, constant outside the measured sizes."""
        grid = self._log_grids[engine][0] if point else self._log_grids[engine]
        neighbours = []  # for each dimension: (index on its axis, weight) of the two measured sizes around each size
        for column, axis in enumerate(self.measurement.axes):
            position = np.interp(np.log(sizes[:, column]), np.log(axis), np.arange(len(axis)))
            left = np.minimum(position.astype(int), max(len(axis) - 2, 0))
            right = np.minimum(left + 1, len(axis) - 1)
            neighbours.append([(left, 1 - (position - left)), (right, position - left)])
        total: Array = np.zeros((*grid.shape[: -len(neighbours)], len(sizes)))
        for corner in itertools.product(*neighbours):
            index: Any = (..., *(index for index, _ in corner))
            total = total + grid[index] * np.prod([weight for _, weight in corner], axis=0)
        return total


def _quantiles(samples: Array) -> Array:
    """[draws, rounds, calls] -> [draws, levels]: the sample at each level, never an interpolated value."""
    ordered = np.sort(samples.reshape(len(samples), -1), axis=1)
    return np.asarray(ordered[:, (LEVELS * ordered.shape[1]).astype(int)])


def monotone(values: Array, dims: int) -> Array:
    """Make `values` non-decreasing along the last `dims` axes: the mean of their upper and lower envelopes."""
    upper, lower = values, values
    for axis in range(-dims, 0):
        upper = np.maximum.accumulate(upper, axis=axis)
        lower = np.flip(np.minimum.accumulate(np.flip(lower, axis), axis=axis), axis)
    return (upper + lower) / 2


def interval(draws: Array) -> tuple[float, float]:
    """90 % bootstrap interval of [draws + 1], widened to contain the point estimate in row 0."""
    low, high = np.percentile(draws[1:], INTERVAL)
    return min(float(low), float(draws[0])), max(float(high), float(draws[0]))


def mean(values: Array, shares: Array) -> Array:
    """Mean latency of requests: [draws, levels, sizes] and shares [draws, sizes] -> [draws]."""
    return np.einsum("dls,ds,l->d", values, shares, WEIGHTS)


def percentile(values: Array, shares: Array, percent: float = 99) -> Array:
    """A percentile over all requests and calls: [draws, levels, sizes] and shares [draws, sizes] -> [draws]."""
    weights = (shares[:, None, :] * WEIGHTS[None, :, None]).reshape(len(values), -1)
    flat = values.reshape(len(values), -1)
    order = np.argsort(flat, axis=1)
    cumulative = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    first_reached = (cumulative < percent / 100 * cumulative[:, -1:] - 1e-12).sum(axis=1)
    rows = np.arange(len(flat))
    return np.asarray(flat[rows, order[rows, np.minimum(first_reached, flat.shape[1] - 1)]])
