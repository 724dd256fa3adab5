"""Models with several dynamic dimensions: the engines that TensorRT is asked for, and what they serve."""

import inside_package as ours
import pytest
import upstream

from tutorial_lib import engines
from tutorial_lib.engines.report import GRAPH

pytestmark = pytest.mark.slow

known = pytest.mark.skipif(upstream.MINOR < (2, 13), reason="seen with Torch-TensorRT 2.13 only")
TEXT_CALLS = [{"batch": batch, "length": length} for batch in (1, 4) for length in (8, 64)]
IMAGE_CALLS = [{"batch": 1}, {"batch": 4, "height": 32, "width": 96}, {"height": 96, "width": 48}]
SHARED = {"ids": [(1, 2, 4), (8, 32, 64)], "mask": [(1, 2, 4), (8, 32, 64)]}


def graphs(path, name, batch, calls):
    """The engines that are asked for, and what the calls do; nothing is built."""
    return engines.build(ours.case(name, batch), path, calls, mode=GRAPH)


def profiles(engine):
    return {i.name: list(zip(i.min, i.opt, i.max, strict=True)) for i in engine.data}


def served(report):
    return [call.outcome for call in report.calls] == ["served"] * len(report.calls)


@pytest.mark.parametrize("path", ["input", "export"])
def test_ids_and_mask_are_one_engine_ahead_of_time(installed, path):
    if path == "input" and upstream.MINOR < (2, 13):
        pytest.skip("before 2.13, Torch-TensorRT cannot be told that two inputs share a dimension")
    found = graphs(path, "text-encoder", (1, 2, 4), TEXT_CALLS)
    assert [profiles(engine) for engine in found.engines] == [SHARED]
    assert not found.left_to_pytorch
    assert served(found)


@known
def test_ids_and_mask_on_jit_are_one_engine_and_another_for_batch_1(installed):
    found = graphs("jit", "text-encoder", (1, 2, 4), TEXT_CALLS)
    assert [profiles(engine) for engine in found.engines] == [
        SHARED,
        {name: [(1, 1, 1), dims[1]] for name, dims in SHARED.items()},
    ]
    assert not found.left_to_pytorch
    assert served(found)


@pytest.mark.parametrize("path", ["input", "export"])
def test_images_of_any_size_are_one_engine_ahead_of_time(installed, path):
    found = graphs(path, "vit-any-size", (1, 2, 4), IMAGE_CALLS)
    (engine,) = found.engines
    assert profiles(engine) == {"images": [(1, 2, 4), (3, 3, 3), (32, 64, 96), (32, 64, 96)]}
    assert not found.left_to_pytorch
    assert served(found)


@known
def test_images_of_any_size_are_cut_in_two_on_jit_where_the_tokens_are_counted(installed):
    found = graphs("jit", "vit-any-size", (1, 2, 4), IMAGE_CALLS)
    assert found.left_to_pytorch == ("sym_sum",)
    assert len(found.engines) == 4
    assert served(found)
