"""A process in which Torch-TensorRT's front end is loaded without TensorRT, for all tests of this folder."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from unittest import mock

import inside
import pytest
import torch
import upstream

from tutorial_lib.engines import EnginesUnavailable, frontend, install, stub

SECONDS = 300


@pytest.fixture(scope="session")
def frontend():
    """The installed front end; tests that need it are skipped, with the reason, where it is missing."""
    try:
        found = install.located()
        stub.built(found.tensorrt_major)
    except EnginesUnavailable as error:
        pytest.skip(str(error))
    return found


@pytest.fixture(scope="session")
def run_inside(frontend):
    """``run_inside(function, *args)``: what a function of :mod:`inside` returns in that process, once per arguments."""
    if upstream.DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.fail("TUTORIAL_LIB_FRONTEND_DEVICE is cuda, and PyTorch sees no GPU")
    known, arguments = {}, (frontend, upstream.DEVICE)
    hidden = {} if upstream.DEVICE == "cuda" else frontend.HIDDEN
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=frontend.load, initargs=arguments) as pool:
        with mock.patch.dict(os.environ, hidden):
            pool.submit(int).result(SECONDS)  # starts the process

        def run(function, *args):
            key = function, repr(args)
            if key not in known:
                known[key] = pool.submit(inside.fresh, function, *args)
            return known[key].result(SECONDS)

        yield run
