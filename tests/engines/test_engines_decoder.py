"""TensorRT's engines of a language model, along the paths that notebook 12 does not take."""

import pytest

from tutorial_lib import decoder, prefill
from tutorial_lib.engines import build

pytestmark = pytest.mark.slow
SECONDS = 600
"""Time limit of a build, for busy machines."""


@pytest.mark.parametrize("path", ["jit", "input"])
def test_prefill_and_decode_are_built_and_decode_needs_a_tenth_of_the_memory(installed, path):
    first = build(prefill(batch=(2, 2, 4), new=(2, 128, 512), depth=1), path, seconds=SECONDS)
    step = build(decoder(batch=(2, 2, 4), new=(1, 1, 1), past=(2, 256, 511), depth=1), path, seconds=SECONDS)
    for report in (first, step):
        assert report.failed is None
        assert len(report.engines) == 1
        assert report.left_to_pytorch == ()
    assert first.activation_bytes > 5 * step.activation_bytes
    (keys,) = (i for i in step.engines[0].data if i.name == "past_keys")
    assert (keys.min[3], keys.opt[3], keys.max[3]) == (1, 256, 511)
