"""Paths whose builds are counted, held or broken."""

from collections import Counter
from functools import partial

import pytest
from engine_reports import engine, report
from studio_page import Held

from tutorial_lib import PATHS, BuildError, engines
from tutorial_lib.core.progress import Progress
from tutorial_lib.engines import install
from tutorial_lib.studio import cached_runs, panel, runner


@pytest.fixture
def held(monkeypatch, request):
    """The path export, held; stoppable unless the test says otherwise by an indirect parameter."""
    path = Held(PATHS["export"], getattr(request, "param", True))
    monkeypatch.setitem(PATHS, "export", path)
    yield path
    path.go.set()


@pytest.fixture
def builds(monkeypatch):
    """How often each path was built."""
    counts = Counter()

    def counting(path, build):
        def counted(*arguments):
            counts[path] += 1
            return build(*arguments)

        return counted

    for path, build in PATHS.items():
        monkeypatch.setitem(PATHS, path, counting(path, build))
    return counts


@pytest.fixture
def broken(monkeypatch):
    """``broken(path, ...)``: these paths fail from now on."""

    def fails(*_):
        raise BuildError("the path is closed")

    def close(*paths):
        for path in paths:
            monkeypatch.setitem(PATHS, path, fails)

    return close


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No long measuring, and no second look however slow this machine builds."""
    monkeypatch.setattr(cached_runs, "MIN_SECONDS", 0)
    monkeypatch.setattr(panel, "BUDGET", 0.0)
    monkeypatch.setattr(cached_runs, "WORTH_A_LOOK", float("inf"))


@pytest.fixture(autouse=True)
def no_builder(monkeypatch, without_builder):
    """No test waits for TensorRT: it is not installed, and nothing is loaded when a studio is shown."""
    without_builder("TensorRT for RTX is not installed; run it.")
    monkeypatch.setattr(runner, "warm_up", lambda engines: None)


@pytest.fixture
def builder(monkeypatch, no_builder):
    """TensorRT is installed: what it was asked for, as (path, batch, calls). It refuses a max of 5."""
    asked = []

    def build(case, calls, path, progress):
        progress(Progress("building", 45, 100, "TensorRT chooses tactics"))
        dim = next(iter(case.dims.values()))
        asked.append((path, f"{dim.min}/{dim.opt}/{dim.max}", calls))
        if dim.max == 5:
            return report(case=case.name, path=path, failed="TensorRT's own words.")
        built = engine(dim.min, dim.opt, dim.max, 1_000_000 * dim.max)
        return report(built, case=case.name, path=path, requested=(dim.min, dim.opt, dim.max))

    monkeypatch.setattr(engines, "prepare", lambda case, paths, calls, options: partial(build, case, calls))
    monkeypatch.setattr(install, "located", lambda: None)
    return asked
