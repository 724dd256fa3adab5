"""The engines' own process, one for the whole session, for all tests of this folder."""

import os

import inside
import pytest

from tutorial_lib import engines
from tutorial_lib.engines import install, worker

collect_ignore = ["each_target.py", "refused_without_driver.py", "tiny_plan.py"]
"""Scripts for processes that can import ``tensorrt_rtx``; there is no doctest in them."""


@pytest.fixture(scope="session")
def installed():
    """What builds engines, installed; tests that need it are skipped, with the reason, where it is missing."""
    try:
        return install.located()
    except engines.EnginesUnavailable as error:
        pytest.skip(str(error))


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
