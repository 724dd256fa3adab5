"""The engines' own process, one for the whole session, for all tests of this folder."""

import os
import sys
from pathlib import Path

import inside
import pytest

from tutorial_lib import engines
from tutorial_lib.engines import worker

collect_ignore = ["refused_without_driver.py"]  # a script, without doctests
sys.path.append(str(Path(__file__).parents[1] / "zoo"))  # models from outside, which the engines' process imports too


@pytest.fixture
def no_process(monkeypatch):
    """Any request to the engines' process fails the test."""
    monkeypatch.setattr(worker.Worker, "ask", lambda *_: pytest.fail("the process was asked"))


@pytest.fixture
def warm(installed):
    """The engines' process, started."""
    engines.run_inside(os.getpid)
    return worker.worker()


@pytest.fixture(scope="session")
def run_inside(installed):
    """``run_inside(function, *args)``: what a function of :mod:`inside` returns in the engines' process.

    It runs once per arguments, and engines are stand-ins: nothing is built.
    """
    answers = {}

    def run(function, *args):
        key = function, repr(args)
        if key not in answers:
            report = engines.run_inside(inside.answered, function, *args, seconds=300, mode="graph")
            assert report.error is None, report.error
            answers[key] = report.result
        error, value = answers[key]
        if error is not None:
            raise error
        return value

    return run
