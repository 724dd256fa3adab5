"""The sizes that requests bring, and how often: what a choice of min / opt / max has to be judged by."""

import csv
import math
import operator
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


@dataclass(frozen=True)
class Traffic:
    """Requests by size, for one or two dynamic dimensions.

    Attributes
    ----------
    dims : tuple of str
        Names of the dimensions.
    sizes : tuple of tuple of int
        The distinct sizes in ascending order, one number for each dimension.
    counts : tuple of int
        How many requests had each size.

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
    sizes: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, requests: Any, dims: str | Sequence[str] = "batch") -> "Traffic":
        """Traffic from a list or array of sizes, or from a histogram ``{size: how often}``.

        With two dimensions a size is a pair, or an array has two columns.

        Raises
        ------
        ShapeError
            If there are no requests, or one is no size; the message says which.
        """
        names = (dims,) if isinstance(dims, str) else tuple(dims)
        if not 1 <= len(names) <= 2 or len(set(names)) != len(names):
            raise ShapeError(f"traffic has {', '.join(names) or 'no dimensions'}; give one or two names of dimensions.")
        if isinstance(requests, Mapping):
            given = [(size, _count(count, f"size {size}")) for size, count in requests.items()]
        elif isinstance(requests, str) or not isinstance(requests, Iterable):
            raise ShapeError(
                f"{requests!r} is no traffic; give a list of sizes, or a histogram such as {{1: 90, 8: 10}}."
            )
        else:
            given = [(size, 1) for size in requests]
        word = "entry" if isinstance(requests, Mapping) else "request"
        return _counted(names, [(_size(size, names, f"{word} {n}"), count) for n, (size, count) in enumerate(given, 1)])

    @classmethod
    def csv(cls, path: str | Path, dims: str | Sequence[str] | None = None) -> "Traffic":
        """Traffic from a CSV file: a column for each dimension and, if you like, one called ``count``.

        The first line names the columns. A file of one column of numbers may do without: `dims` then names it.

        Raises
        ------
        ShapeError
            If a line cannot be read; the message has its number.
        """
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ShapeError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
        if not rows:
            raise ShapeError(f"{path} is empty; give one request for each line.")
        asked = (dims,) if isinstance(dims, str) else tuple(dims or ())
        first = [cell.strip() for cell in rows[0][1]]
        header = first if not _is_number(first[0]) else [*(asked or ("batch",))]
        names = asked or tuple(name for name in header if name != COUNT)
        for name in names:
            if name not in header:
                raise ShapeError(f"{path} has no column {name!r}; it has {', '.join(header)}.")
        columns = [header.index(name) for name in names]
        often = header.index(COUNT) if COUNT in header else None
        found = []
        for number, row in rows[0 if header is not first else 1 :]:
            where = f"{path}, line {number}"
            if len(row) != len(header):
                raise ShapeError(f"{where} has {len(row)} columns; {', '.join(header)} makes {len(header)}.")
            size = _size(tuple(_number(row[column]) for column in columns), names, where)
            found.append((size, 1 if often is None else _count(_number(row[often]), where)))
        if not 1 <= len(names) <= 2:
            raise ShapeError(f"{path} has the columns {', '.join(names)}; name one or two of them in dims.")
        return _counted(names, found)

    @classmethod
    def named(
        cls, name: str, max: int | Mapping[str, int], dim: str = "batch", *, requests: int = 1000, seed: int = 0
    ) -> "Traffic":
        """Traffic drawn from a distribution that is met in practice.

        ``interactive``: half the requests bring one sample, few bring many. ``batch``: jobs cut into pieces of `max`,
        and what is left over. ``bimodal``: nine small requests for one large, as a language model has
        decoding steps and prompts. `max` may be a mapping, for two dimensions that are drawn independently.
        """
        if name not in DISTRIBUTIONS:
            raise ShapeError(f"there is no traffic named {name!r}; use {', '.join(DISTRIBUTIONS)}.")
        limits = dict(max) if isinstance(max, Mapping) else {dim: max}
        generator, count = np.random.default_rng(seed), as_size(requests, "requests")
        columns = [
            np.clip(DISTRIBUTIONS[name](generator, count, as_size(limit, f"{each}: max")), 1, limit).astype(np.int64)
            for each, limit in limits.items()
        ]
        return cls.of(np.stack(columns, axis=1), tuple(limits))

    @property
    def requests(self) -> int:
        """How many requests there are."""
        return sum(self.counts)

    @property
    def table(self) -> Array:
        """The distinct sizes: one row for each, one column for each dimension."""
        return np.array(self.sizes, dtype=np.int64).reshape(len(self.sizes), len(self.dims))

    @property
    def shares(self) -> Array:
        """The share of the requests that each distinct size has."""
        return np.array(self.counts) / self.requests

    def values(self, dim: str | None = None) -> tuple[Array, Array]:
        """The distinct sizes of one dimension, ascending, with the share of the requests that each has."""
        column = self.table[:, self._column(dim)]
        found, places = np.unique(column, return_inverse=True)
        return found, np.bincount(places.ravel(), weights=self.shares)

    def quantile(self, share: float, dim: str | None = None) -> int:
        """The smallest size that is at least that of `share` of the requests."""
        if not 0 <= share <= 1:
            raise ShapeError(f"{share!r} is no share of the requests; use a number from 0 to 1.")
        values, shares = self.values(dim)
        place = int(np.searchsorted(np.cumsum(shares), share - 1e-12))
        return int(values[place if place < len(values) else -1])

    def split(self, fraction: float = 0.5, seed: int = 0) -> tuple["Traffic", "Traffic"]:
        """Two parts drawn at random: `fraction` of the requests to fit to, and the others, held out.

        Raises
        ------
        ShapeError
            If one of them would be empty.
        """
        kept = round(fraction * self.requests) if 0 < fraction < 1 else 0
        if not 0 < kept < self.requests:
            raise ShapeError(f"{fraction!r} of {self.requests} requests leaves one part empty; use more, or 0.5.")
        drawn = np.random.default_rng(seed).multivariate_hypergeometric(self.counts, kept)
        return self._with(drawn), self._with(np.array(self.counts) - drawn)

    def replayed(self, requests: int, seed: int = 0) -> Array:
        """So many requests in random order: all of them if there are no more, else drawn without putting back."""
        generator = np.random.default_rng(seed)
        each = np.repeat(self.table, self.counts, axis=0)
        return np.asarray(generator.permutation(each)[:requests])

    def check(self, dims: Mapping[str, DynamicDim]) -> None:
        """Refuse sizes that are outside the ranges of `dims`, and dimensions that are not there.

        Raises
        ------
        ShapeError
            With the first size that does not fit, and what to do.
        """
        for column, name in enumerate(self.dims):
            if name not in dims:
                raise ShapeError(f"the traffic has sizes of {name!r}, and the model has {', '.join(dims) or 'none'}.")
            dim, sizes = dims[name], self.table[:, column]
            if outside := [size for size in sizes if not dim.min <= size <= dim.max]:
                worst = max(outside, key=lambda size: abs(math.log(size / dim.opt)))
                raise ShapeError(
                    f"the traffic has {name} {worst}, and the range is {dim.min} to {dim.max}; widen the range or "
                    "leave such requests out."
                )
            if odd := [size for size in sizes if size % dim.step]:
                raise ShapeError(f"the traffic has {name} {odd[0]}, which is no multiple of {dim.step}.")

    def thinned(self, most: int) -> "Traffic":
        """Traffic with at most so many distinct sizes of each dimension: neighbours are taken for one size."""
        table = self.table
        for column in range(len(self.dims)):
            values, places = np.unique(table[:, column], return_inverse=True)
            if len(values) > most:
                weights = np.bincount(places.ravel(), weights=self.shares)
                scale = np.log(values) - math.log(values[0])
                bins = np.minimum((scale / scale[-1] * most).astype(int), most - 1)
                middles = np.bincount(bins, weights * values) / np.maximum(np.bincount(bins, weights), 1e-300)
                nearest = np.abs(values[:, None] - middles[None, :]).argmin(axis=0)
                table[:, column] = values[nearest[bins]][places.ravel()]
        rows = [(tuple(map(int, row)), count) for row, count in zip(table, self.counts, strict=True)]
        return _counted(self.dims, rows)

    def _with(self, counts: Any) -> "Traffic":
        kept = [(size, int(count)) for size, count in zip(self.sizes, counts, strict=True) if count]
        return Traffic(self.dims, tuple(size for size, _ in kept), tuple(count for _, count in kept))

    def _column(self, dim: str | None) -> int:
        if dim is None:
            return 0
        if dim not in self.dims:
            raise ShapeError(f"the traffic has no dimension {dim!r}; it has {', '.join(self.dims)}.")
        return self.dims.index(dim)

    def __str__(self) -> str:
        parts = [
            f"{name} {values[0]} to {values[-1]}: half up to {self.quantile(0.5, name)}, "
            f"99 % up to {self.quantile(0.99, name)}"
            for name, values in ((name, self.values(name)[0]) for name in self.dims)
        ]
        return f"{self.requests} request{'s' if self.requests > 1 else ''}, {'; '.join(parts)}"


def as_traffic(given: Any, dims: Mapping[str, DynamicDim]) -> Traffic:
    """`given` as traffic of a model with `dims`, checked: a :class:`Traffic`, or what :meth:`Traffic.of` takes."""
    if not isinstance(given, Traffic):
        free = [name for name, dim in dims.items() if not dim.is_fixed] or list(dims)
        if isinstance(given, Iterable) and not isinstance(given, str | Mapping):
            given = list(given)
        sample = next(iter(given), 1) if isinstance(given, Mapping | list) else 1
        width = 1 if isinstance(sample, str) or not isinstance(sample, Iterable) else len(list(sample))
        given = Traffic.of(given, free[:width])
    given.check(dims)
    return given


def _interactive(generator: np.random.Generator, count: int, most: int) -> Any:
    small = np.floor(generator.lognormal(math.log(2), 0.8, count))
    large = np.exp(generator.uniform(math.log(min(16, most)), math.log(most), count))
    return np.where(generator.random(count) < 0.95, small, large)


def _batch(generator: np.random.Generator, count: int, most: int) -> Any:
    left_over = generator.random(count) < 0.3
    return np.where(left_over, generator.integers(1, most, count, endpoint=True), most)


def _bimodal(generator: np.random.Generator, count: int, most: int) -> Any:
    small = np.floor(generator.lognormal(math.log(max(2, most / 512)), 0.7, count))
    large = np.floor(generator.lognormal(math.log(most / 2), 0.35, count))
    return np.where(generator.random(count) < 0.9, small, large)


DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int, int], Any]] = {
    "interactive": _interactive,
    "batch": _batch,
    "bimodal": _bimodal,
}
"""What :meth:`Traffic.named` draws from."""


def _counted(dims: tuple[str, ...], rows: Iterable[tuple[tuple[int, ...], int]]) -> Traffic:
    counts: dict[tuple[int, ...], int] = {}
    for size, count in rows:
        counts[size] = counts.get(size, 0) + count
    known = {size: count for size, count in sorted(counts.items()) if count}
    if not known:
        raise ShapeError("the traffic is empty; give at least one request.")
    return Traffic(dims, tuple(known), tuple(known.values()))


def _size(value: Any, names: tuple[str, ...], where: str) -> tuple[int, ...]:
    if isinstance(value, Mapping):
        unknown = next((name for name in value if name not in names), None)
        missing = next((name for name in names if name not in value), None)
        if unknown is not None or missing is not None:
            raise ShapeError(f"{where} has {', '.join(map(str, value))}; give {', '.join(names)}.")
        parts = [value[name] for name in names]
    else:
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
    """An integral float as the int that it is; anything else as it came."""
    number = getattr(value, "item", lambda: value)() if getattr(value, "ndim", 1) == 0 else value
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return float(text) if _is_number(text) else text.strip()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
