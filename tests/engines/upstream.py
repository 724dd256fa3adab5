"""Which Torch-TensorRT these tests meet, and what differs between those they know."""

import os

import pytest
import torch

from tutorial_lib.engines import EnginesUnavailable, install


def _installed():
    try:
        return install.located().torch_tensorrt
    except EnginesUnavailable:
        return torch.__version__.split("+")[0]  # nothing will run


INSTALLED = _installed()
MINOR = tuple(map(int, INSTALLED.split(".")[:2]))
KNOWN = (2, 11), (2, 13)

UNBOUNDED = 2**16 if MINOR < (2, 12) else 2**12
"""Max of a dimension without an upper bound, for a min of 1."""

SIZES_ARE_INPUTS = MINOR >= (2, 12)
"""Just in time, a size that the graph computes with is an engine input; before, it was computed again in the graph."""

SHARED_DIMS = MINOR >= (2, 13)
"""Whether ``Input`` can say that two inputs share a dimension."""

KEEPS_MIN_2 = MINOR >= (2, 14)
"""Whether ``Input(min_shape=2)`` gives a profile that begins at 2; before, and just in time, it begins at 1."""

DEVICE = os.environ.get("TUTORIAL_LIB_FRONTEND_DEVICE", "cpu")
"""Where the cases of the tests live in the process with the front end: ``cpu``, with any GPU hidden, or ``cuda``."""

since_2_13 = pytest.mark.skipif(MINOR < (2, 13), reason="seen with Torch-TensorRT 2.13")
before_2_14 = pytest.mark.skipif(MINOR >= (2, 14), reason="Torch-TensorRT 2.14 does otherwise")
unbacked_bounds = pytest.mark.skipif(MINOR < (2, 12), reason="mark_unbacked of torch 2.11 takes no bounds")
