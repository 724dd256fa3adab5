"""Paths whose builds are counted, held or broken."""

from collections import Counter

import pytest
from studio_page import Held

from tutorial_lib import PATHS, BuildError
from tutorial_lib.studio import cached_runs, panel


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
