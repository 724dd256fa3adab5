"""Models with several dynamic dimensions: the engines that TensorRT is asked for, and what they serve."""

import inside_package as ours
import pytest
import upstream

from tutorial_lib import PATHS, engines
from tutorial_lib.engines.report import GRAPH

pytestmark = pytest.mark.slow

TEXT_CALLS = [{"batch": batch, "length": length} for batch in (1, 4) for length in (8, 64)]
IMAGE_CALLS = [{"batch": 1}, {"batch": 4, "height": 32, "width": 96}, {"height": 96, "width": 48}]
SHARED = {"ids": [(1, 2, 4), (8, 32, 64)], "mask": [(1, 2, 4), (8, 32, 64)]}


def graphs(path, name, calls):
    """The engines that are asked for, all of which serve the calls; nothing is built."""
    if upstream.MINOR < (2, 13) and (path == "jit" or (path, name) == ("input", "text-encoder")):
        pytest.skip("2.11 cannot be told that two inputs share a dimension, and was not looked at on jit")
    found = engines.build(ours.case(name, (1, 2, 4)), path, calls, mode=GRAPH)
    assert [call.outcome for call in found.calls] == ["served"] * len(calls)
    return found


def profiles(engine):
    return {i.name: list(zip(i.min, i.opt, i.max, strict=True)) for i in engine.data}


@pytest.mark.parametrize("path", PATHS)
def test_ids_and_mask_are_one_engine_and_on_jit_another_for_batch_1(installed, path):
    found = graphs(path, "text-encoder", TEXT_CALLS)
    of_batch_1 = {name: [(1, 1, 1), dims[1]] for name, dims in SHARED.items()}
    assert [profiles(engine) for engine in found.engines] == [SHARED, of_batch_1][: 2 if path == "jit" else 1]
    assert not found.left_to_pytorch


@pytest.mark.parametrize("path", PATHS)
def test_images_of_any_size_are_one_engine_and_cut_in_two_on_jit_where_the_tokens_are_counted(installed, path):
    found = graphs(path, "vit-any-size", IMAGE_CALLS)
    if path == "jit":
        assert found.left_to_pytorch == ("sym_sum",)
        assert len(found.engines) == 4
    else:
        (engine,) = found.engines
        assert profiles(engine) == {"images": [(1, 2, 4), (3, 3, 3), (32, 64, 96), (32, 64, 96)]}
        assert not found.left_to_pytorch
