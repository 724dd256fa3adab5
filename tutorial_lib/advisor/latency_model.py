"""A model of latency over sizes, from a few engines measured at a few sizes: pure numbers, no timing.

For every engine and size that was measured there are samples, not one number. What is interpolated is each
quantile of them, monotonically, over the logarithm of the size, so that a predicted 99th percentile has both of
its sources in it: large requests, and slow calls.

What was measured is a sample too. All of it is therefore computed again from :data:`DRAWS` bootstrap draws, each
from rounds drawn with putting back (B. Efron, "Bootstrap methods", 1979). A draw takes the same rounds for every
engine, because a round measured all of them side by side, so the noise that they share cancels in a comparison.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tutorial_lib.advisor.traffic import Array

Sizes = tuple[int, ...]
"""A size for each dimension."""
Engine = Sizes | None
"""An engine that was measured, by its opt; None is PyTorch without compiling."""
PADDING: Engine = ()
"""In place of an engine: padding inputs to a size."""

DRAWS = 200
EDGES = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1])
LEVELS = (EDGES[1:] + EDGES[:-1]) / 2
"""The quantiles that stand for the samples of one size, finer towards the slow end."""
WEIGHTS = np.diff(EDGES)
INTERVAL = (5, 95)
"""Percentiles of the draws that a figure is given between."""
DISTURBED, LEAST = 2.0, 5
"""A round that took so many times as long as an ordinary one tells of the machine, not of an engine; at least so
many rounds are kept."""


@dataclass(frozen=True)
class Measurement:
    """Latencies of a few engines at a few sizes.

    Attributes
    ----------
    dims : tuple of str
        Names of the dimensions.
    axes : tuple of tuple of int
        Sizes that were measured of each, ascending; every combination was.
    samples : mapping
        For each engine, and for :data:`PADDING` if that was measured, one array for each combination of sizes, last
        dimension fastest: milliseconds, one row for each round. Row `i` of all arrays is the same round.
    build_seconds : mapping
        How long each engine took to build.
    weight_bytes : int
        Of the weights that an engine brings.
    about : dict
        Backend, path, device: what the figures are of.
    """

    dims: tuple[str, ...]
    axes: tuple[Sizes, ...]
    samples: Mapping[Engine, Sequence[Array]]
    build_seconds: Mapping[Engine, float] = field(default_factory=dict)
    weight_bytes: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def opts(self) -> list[Sizes]:
        """The engines that were measured by their opts, smallest first."""
        return sorted((opt for opt in self.samples if opt), key=np.prod)

    @property
    def quiet(self) -> Array:
        """Which rounds count: those that did not take :data:`DISTURBED` times as long as an ordinary one."""
        return quiet(np.sum([cell.sum(axis=1) for cells in self.samples.values() for cell in cells], axis=0))

    @property
    def spreads(self) -> list[float]:
        """Interquartile range over median of each engine at each size."""
        kept = self.quiet
        quartiles = [np.quantile(cell[kept], (0.25, 0.5, 0.75)) for cells in self.samples.values() for cell in cells]
        return [float((high - low) / middle) for low, middle, high in quartiles]


def quiet(spent: Array) -> Array:
    """Which rounds to keep, of rounds of equal work that took `spent`.

    A neighbour who takes the processor for a second lengthens every call of that second, whichever engine it is of.
    A quarter of the rounds are at least as fast as what is called ordinary here. If fewer than :data:`LEAST`
    rounds would be left, all are kept.
    """
    kept = spent <= DISTURBED * np.quantile(spent, 0.25)
    return kept if kept.sum() >= min(LEAST, len(spent)) else np.ones(len(spent), dtype=bool)


class Curves:
    """Latency of any engine at any size, with what is not known about it.

    Attributes
    ----------
    measurement : Measurement
        What it is made from.
    draws : int
        Number of bootstrap draws; results have one row more, and row 0 is of all rounds as they were.
    """

    def __init__(self, measurement: Measurement, draws: int = DRAWS, seed: int = 0) -> None:
        self.measurement, self.draws, self._seed = measurement, draws, seed
        kept = np.flatnonzero(measurement.quiet)
        rounds = np.random.default_rng(seed).integers(len(kept), size=(draws, len(kept)))
        rounds = kept[np.vstack([np.arange(len(kept)), rounds])]
        shape = tuple(map(len, measurement.axes))
        self._grids = {}
        for engine, cells in measurement.samples.items():
            levels = np.stack([_quantiles(cell[rounds]) for cell in cells], axis=-1)
            grid = np.log(levels).reshape(draws + 1, len(LEVELS), *shape)
            self._grids[engine] = np.exp(monotone(grid, len(shape)))

    def at(self, engine: Engine, sizes: Array, point: bool = False) -> Array:
        """Milliseconds of one call: [draws + 1, levels, sizes], or [levels, sizes] of row 0 alone.

        Parameters
        ----------
        engine : tuple of int or None
            Its opt. If no engine with this opt was measured, its latency is somewhere between those of the two
            whose opts enclose it, and each draw takes another place between them: nothing more is known.
        sizes : array
            One row for each size, one column for each dimension.
        point : bool
            Whether row 0 alone is wanted.
        """
        if engine is None or engine in self._grids:
            return self._interpolated(self._grids[engine], sizes, point)
        one, other = self.around(engine)
        if one == other:
            return self._interpolated(self._grids[one], sizes, point)
        place = np.random.default_rng([self._seed, *engine]).random((self.draws + 1, 1, 1))
        place[0] = 0.5
        ends = [np.log(self._interpolated(self._grids[opt], sizes, point)) for opt in (one, other)]
        place = place[0] if point else place
        return np.exp((1 - place) * ends[0] + place * ends[1])

    def around(self, opt: Sizes) -> tuple[Sizes, Sizes]:
        """The measured opts below and above `opt`, or twice the nearest where it lies outside them."""
        opts, work = self.measurement.opts, float(np.prod(opt))
        below = [other for other in opts if np.prod(other) <= work]
        above = [other for other in opts if np.prod(other) >= work]
        return (below or above)[-1 if below else 0], (above or below)[0 if above else -1]

    def _interpolated(self, grid: Array, sizes: Array, point: bool) -> Array:
        """Linear in the logarithms of size and latency, between the corners of the cell that a size is in."""
        grid = np.log(grid[0] if point else grid)
        corners = []
        for column, axis in enumerate(self.measurement.axes):
            known, asked = np.log(axis), np.log(sizes[:, column])
            if len(axis) == 1:
                corners.append([(np.zeros(len(asked), dtype=int), np.ones(len(asked)))])
                continue
            left = np.clip(np.searchsorted(known, asked, side="right") - 1, 0, len(axis) - 2)
            part = np.clip((asked - known[left]) / (known[left + 1] - known[left]), 0, 1)
            corners.append([(left, 1 - part), (left + 1, part)])
        total: Array = np.zeros((*grid.shape[: -len(corners)], len(sizes)))
        for corner in itertools.product(*corners):
            places: Any = (..., *(place for place, _ in corner))
            total = total + grid[places] * np.prod([share for _, share in corner], axis=0)
        return np.exp(total)


def _quantiles(samples: Array) -> Array:
    """[draws, rounds, calls] -> [draws, levels]: samples that were seen, never interpolated ones."""
    ordered = np.sort(samples.reshape(len(samples), -1), axis=1)
    return np.asarray(ordered[:, np.minimum((LEVELS * ordered.shape[1]).astype(int), ordered.shape[1] - 1)])


def monotone(values: Array, dims: int) -> Array:
    """Values that never fall along the last `dims` axes, as close to `values` at both ends of what falls.

    The mean of the smallest such function above and the largest below: it leaves alone what does not fall.
    """
    above, below = values, values
    for axis in range(-dims, 0):
        above = np.maximum.accumulate(above, axis=axis)
        below = np.flip(np.minimum.accumulate(np.flip(below, axis), axis=axis), axis)
    return (above + below) / 2


def interval(draws: Array) -> tuple[float, float]:
    """Between what a figure is, by its draws: [draws + 1] with the figure itself in row 0, which is never outside."""
    low, high = np.percentile(draws[1:], INTERVAL)
    return min(float(low), float(draws[0])), max(float(high), float(draws[0]))


def mean(values: Array, shares: Array) -> Array:
    """Mean latency of requests: [draws, levels, sizes] with the shares [draws, sizes] -> [draws]."""
    return np.einsum("dls,ds,l->d", values, shares, WEIGHTS)


def percentile(values: Array, shares: Array, percent: float = 99) -> Array:
    """A percentile of the latency of requests, over sizes and calls alike: the arguments of :func:`mean`."""
    weights = (shares[:, None, :] * WEIGHTS[None, :, None]).reshape(len(values), -1)
    flat = values.reshape(len(values), -1)
    order = np.argsort(flat, axis=1)
    reached = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    place = (reached < percent / 100 * reached[:, -1:] - 1e-12).sum(axis=1)
    chosen = order[np.arange(len(flat)), np.minimum(place, flat.shape[1] - 1)]
    return np.asarray(flat[np.arange(len(flat)), chosen])
