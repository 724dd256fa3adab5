"""The sizes that requests bring, and how often each comes. Every choice of min / opt / max is judged by them."""

import csv
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tutorial_lib.core.shapes import DynamicDim, ShapeError, as_size

Array = npt.NDArray[Any]
COUNT = "count"
"""Name of the CSV column that says how often a size came."""
MOST_REQUESTS = 10**9
"""NumPy draws samples without replacement only from fewer."""


@dataclass(frozen=True)
class Traffic:
    """Requests by size, for one or two dynamic dimensions.

    Examples
    --------
    >>> traffic = Traffic.of([1, 1, 1, 8])
    >>> print(traffic)
    4 requests, batch 1 to 8: half up to 1, 99 % up to 8
    >>> Traffic.of({1: 3, 8: 1}) == traffic
    True
    >>> Traffic.of([1, 0])
    Traceback (most recent call last):
    ...
    tutorial_lib.core.shapes.ShapeError: request 2: batch is 0; the smallest size is 1.
    """

    dims: tuple[str, ...]
    sizes: tuple[tuple[int, ...], ...]  # distinct and ascending, with a number for each dimension
    counts: tuple[int, ...]  # how many requests had each size

    @classmethod
    def of(cls, requests: Any, dims: str | Sequence[str] = "batch") -> "Traffic":
        """Traffic from a list or array of sizes, or from a histogram ``{size: how often}``.

        With two dimensions a size is a pair, or an array has two columns.

        Raises
        ------
        ShapeError
            If there are no requests, or one of them is not a size; the message says which.
        """
        names = (dims,) if isinstance(dims, str) else tuple(dims)
        if isinstance(requests, Mapping):
            word, entries = "entry", list(requests.items())
        elif isinstance(requests, Iterable) and not isinstance(requests, str):
            word, entries = "request", [(size, 1) for size in requests]
        else:
            raise ShapeError(
                f"{requests!r} is not traffic; give a list of sizes, or a histogram such as {{1: 90, 8: 10}}."
            )
        rows = [
            (_size(size, names, f"{word} {number}"), _count(count, f"size {size}"))
            for number, (size, count) in enumerate(entries, 1)
        ]
        return _counted(names, rows)

    @classmethod
    def csv(cls, path: str | Path, dims: str | Sequence[str] | None = None) -> "Traffic":
        """Traffic from a CSV file: a column for each dimension and, optionally, one called ``count``.

        The first line names the columns; `dims` selects some of them. A file with a single column of numbers needs
        no first line: `dims` then names the column.

        Raises
        ------
        ShapeError
            If a line cannot be read; the message has its number.
        """
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ShapeError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
        lines = {number: row for number, row in enumerate(rows, 1) if any(row)}
        if not lines:
            raise ShapeError(f"{path} is empty; give one request for each line.")
        selected = (dims,) if isinstance(dims, str) else tuple(dims or ())
        first = min(lines)
        has_header = isinstance(_number(lines[first][0]), str)
        header = lines.pop(first) if has_header else list(selected or ("batch",))
        names = selected or tuple(name for name in header if name != COUNT)
        for name in names:
            if name not in header:
                raise ShapeError(f"{path} has no column {name!r}; it has {', '.join(header)}.")
        requests = []
        for number, row in lines.items():
            where = f"{path}, line {number}"
            if len(row) != len(header):
                raise ShapeError(f"{where} has {len(row)} columns; {', '.join(header)} makes {len(header)}.")
            cells = dict(zip(header, map(_number, row), strict=True))
            size = _size([cells[name] for name in names], names, where)
            requests.append((size, _count(cells.get(COUNT, 1), where)))
        return _counted(names, requests)

    @classmethod
    def named(cls, name: str, max: int, dim: str = "batch", *, requests: int = 1000) -> "Traffic":
        """Traffic drawn from a distribution that is common in practice.

        ``interactive``: half the requests bring one sample, few bring many. ``batch``: jobs cut into pieces of `max`,
        and the smaller pieces that remain. ``bimodal``: nine small requests for one large, as a language model has
        decoding steps and prompts.
        """
        if name not in DISTRIBUTIONS:
            raise ShapeError(f"there is no traffic named {name!r}; use {', '.join(DISTRIBUTIONS)}.")
        count, limit = as_size(requests, "requests"), as_size(max, f"{dim}: max")
        drawn = DISTRIBUTIONS[name](np.random.default_rng(0), count, limit)
        return cls.of(np.clip(drawn, 1, limit).astype(np.int64), dim)

    @property
    def requests(self) -> int:
        """How many requests there are."""
        return sum(self.counts)

    @property
    def table(self) -> Array:
        """The distinct sizes: [sizes, dims]."""
        return np.array(self.sizes, dtype=np.int64)

    @property
    def shares(self) -> Array:
        """The share of the requests that each distinct size has: [sizes]."""
        return np.array(self.counts) / self.requests

    def values(self, dim: str | None = None) -> tuple[Array, Array]:
        """The distinct sizes of one dimension (the first), ascending, and the share of the requests of each."""
        if dim is not None and dim not in self.dims:
            raise ShapeError(f"the traffic has no dimension {dim!r}; it has {', '.join(self.dims)}.")
        column = self.table[:, self.dims.index(dim) if dim else 0]
        values, index = np.unique(column, return_inverse=True)
        return values, np.bincount(index, weights=self.shares)

    def quantile(self, share: float, dim: str | None = None) -> int:
        """The smallest size that is at least that of `share` of the requests."""
        if not 0 <= share <= 1:
            raise ShapeError(f"{share!r} is not a share of the requests; use a number from 0 to 1.")
        values, shares = self.values(dim)
        index = int(np.searchsorted(np.cumsum(shares), share - 1e-12))
        return int(values[min(index, len(values) - 1)])

    def split(self, fraction: float = 0.5, seed: int = 0) -> tuple["Traffic", "Traffic"]:
        """Two parts drawn at random: `fraction` of the requests to fit to, and the rest, held out.

        Raises
        ------
        ShapeError
            If one of them would be empty.
        """
        fitted = round(fraction * self.requests) if 0 < fraction < 1 else 0
        if not 0 < fitted < self.requests:
            raise ShapeError(f"{fraction!r} of {self.requests} requests leaves one part empty; use more, or 0.5.")
        drawn = np.random.default_rng(seed).multivariate_hypergeometric(self.counts, fitted)
        return self._with_counts(drawn), self._with_counts(np.array(self.counts) - drawn)

    def _with_counts(self, counts: Array) -> "Traffic":
        return _counted(self.dims, zip(self.sizes, counts.tolist(), strict=True))

    def sample(self, requests: int, seed: int = 0) -> Array:
        """The sizes of at most `requests` requests in random order, drawn without replacement: [requests, dims]."""
        generator = np.random.default_rng(seed)
        drawn = generator.multivariate_hypergeometric(self.counts, min(requests, self.requests))
        return generator.permutation(np.repeat(self.table, drawn, axis=0))

    def check(self, dims: Mapping[str, DynamicDim]) -> None:
        """Reject sizes outside the ranges of `dims`, and dimensions that are not in it.

        Raises
        ------
        ShapeError
            With the size that is furthest outside, and what to do.
        """
        for column, name in enumerate(self.dims):
            if name not in dims:
                raise ShapeError(f"the traffic has sizes of {name!r}, and the model has {', '.join(dims) or 'none'}.")
            dim, sizes = dims[name], self.table[:, column]
            outside = [size for size in sizes if not dim.min <= size <= dim.max]
            if outside:
                worst = max(outside, key=lambda size: abs(math.log(size / dim.opt)))
                raise ShapeError(
                    f"the traffic has {name} {worst}, and the range is {dim.min} to {dim.max}; widen the range or "
                    "leave such requests out."
                )
            for size in sizes:
                if size % dim.step:
                    raise ShapeError(f"the traffic has {name} {size}, which is not a multiple of {dim.step}.")

    def thinned(self, most: int) -> "Traffic":
        """Traffic with at most `most` distinct sizes of each dimension: neighbours are merged into one size."""
        table = self.table
        for column in range(len(self.dims)):
            values, index = np.unique(table[:, column], return_inverse=True)
            if len(values) <= most:
                continue
            weights = np.bincount(index, weights=self.shares)
            scale = np.log(values / values[0])
            bins = np.minimum((scale / scale[-1] * most).astype(int), most - 1)
            centres = np.bincount(bins, weights * values) / np.maximum(np.bincount(bins, weights), 1e-300)
            nearest = np.abs(values[:, None] - centres[None, :]).argmin(axis=0)  # [bins], a value that came
            table[:, column] = values[nearest[bins]][index]
        return _counted(self.dims, zip(map(tuple, table.tolist()), self.counts, strict=True))

    def __str__(self) -> str:
        parts = []
        for name in self.dims:
            values, _ = self.values(name)
            half, most = self.quantile(0.5, name), self.quantile(0.99, name)
            parts.append(f"{name} {values[0]} to {values[-1]}: half up to {half}, 99 % up to {most}")
        return f"{self.requests} request{'s' if self.requests > 1 else ''}, {'; '.join(parts)}"


def as_traffic(requests: Any, dims: Mapping[str, DynamicDim]) -> Traffic:
    """`requests` as traffic for a model with `dims`, checked: a :class:`Traffic`, or what :meth:`Traffic.of` takes."""
    if not isinstance(requests, Traffic):
        varying = [name for name, dim in dims.items() if not dim.is_fixed] or list(dims)
        if isinstance(requests, Iterable) and not isinstance(requests, str | Mapping):
            requests = list(requests)
        first = next(iter(requests), 1) if isinstance(requests, Mapping | list) else 1
        requests = Traffic.of(requests, varying[: np.size(first)])
    requests.check(dims)
    return requests


def _interactive(generator: np.random.Generator, count: int, most: int) -> Array:
    small = np.floor(generator.lognormal(math.log(2), 0.8, count))
    large = np.exp(generator.uniform(math.log(min(16, most)), math.log(most), count))
    return np.where(generator.random(count) < 0.95, small, large)


def _batch(generator: np.random.Generator, count: int, most: int) -> Array:
    is_remainder = generator.random(count) < 0.3
    return np.where(is_remainder, generator.integers(1, most, count, endpoint=True), most)


def _bimodal(generator: np.random.Generator, count: int, most: int) -> Array:
    small = np.floor(generator.lognormal(math.log(max(2, most / 512)), 0.7, count))
    large = np.floor(generator.lognormal(math.log(most / 2), 0.35, count))
    return np.where(generator.random(count) < 0.9, small, large)


DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    "interactive": _interactive,
    "batch": _batch,
    "bimodal": _bimodal,
}
"""What :meth:`Traffic.named` draws from."""


def _counted(dims: tuple[str, ...], rows: Iterable[tuple[tuple[int, ...], int]]) -> Traffic:
    """Traffic of sizes with their counts, equal sizes added up."""
    if not 1 <= len(dims) <= 2 or len(set(dims)) != len(dims):
        raise ShapeError(f"traffic has {', '.join(dims) or 'no dimensions'}; give one or two names of dimensions.")
    counts = Counter[tuple[int, ...]]()
    for size, count in rows:
        counts[size] += count
    sizes = sorted(size for size, count in counts.items() if count)
    if not sizes:
        raise ShapeError("the traffic is empty; give at least one request.")
    if counts.total() >= MOST_REQUESTS:
        raise ShapeError(f"the traffic has {counts.total():.3g} requests; give a sample of less than a billion.")
    return Traffic(dims, tuple(sizes), tuple(counts[size] for size in sizes))


def _size(value: Any, names: tuple[str, ...], where: str) -> tuple[int, ...]:
    parts = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if len(parts) != len(names):
        raise ShapeError(f"{where} has {len(parts)} sizes; give {len(names)} ({', '.join(names)}).")
    return tuple(as_size(_whole(part), f"{where}: {name}") for part, name in zip(parts, names, strict=True))


def _count(value: Any, where: str) -> int:
    try:
        count = operator.index(_whole(value))
    except TypeError:
        count = -1
    if count < 0:
        raise ShapeError(f"{where} came {value!r} times; use a whole number.")
    return count


def _whole(value: Any) -> Any:
    """A float without a fraction, also of NumPy or torch, as an int; anything else as it is."""
    number = value.item() if getattr(value, "ndim", None) == 0 else value
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _number(text: str) -> int | float | str:
    """A cell of a CSV file; text that is not a number as it is."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
