"""Sweeps that the figures are drawn from."""

from dataclasses import replace

import pytest

from tutorial_lib import PATHS, grid, sweep
from tutorial_lib.measure.sweep import EAGER, latencies


@pytest.fixture(scope="session")
def result(built, seed):
    """Three paths at three sizes."""
    return sweep({name: built(name, "eager", seed) for name in PATHS}, [1, 4, 8], min_samples=3, min_seconds=0.001)


@pytest.fixture(scope="session")
def earlier(built, seed):
    """One path, without agreement."""
    return latencies(seed, {"jit": built("jit", "eager", seed)}, [2, 4])


@pytest.fixture(scope="session")
def unbuilt(seed):
    """Eager's latency alone."""
    return latencies(seed, {}, [1, 4])


@pytest.fixture(scope="session")
def gridded(built, masked):
    """Batches 1, 2, 4 by lengths 1, 5, 9: the latency is 1 ms for each element, 2 ms in eager."""
    programs = {"export": built("export", "eager", masked)}
    measured = sweep(programs, grid(masked, batch=[1, 2, 4], length=[1, 5, 9]), min_samples=1, min_seconds=0)
    table = measured.table.assign(median_ms=measured.table["batch"] * measured.table["length"] * 1.0)
    table.loc[table["path"] == EAGER, "median_ms"] *= 2
    table["samples_per_second"] = 1000 * table["batch"] / table["median_ms"]
    table["speedup"] = table["path"].map({EAGER: 1.0, "export": 2.0})
    return replace(measured, table=table)
