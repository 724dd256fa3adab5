"""Choices that PyTorch makes for tensors on a CPU become no guards and no other graph: engines are those of a GPU.

What a GPU does was read off an H200 with torch 2.11.
"""

import inside_as_on_gpu as inside
import pytest

from tutorial_lib import PATHS

ENDS = {"batch": (1, 8, 32), "height": (32, 64, 128), "width": (32, 64, 128), "length": (16, 64, 128)}


def as_typed(shape, **fixed):
    """(min, opt, max) of a shape of sizes and dimensions."""
    bounds = [fixed.get(dim.name, ENDS[dim.name]) if not isinstance(dim, int) else dim for dim in shape]
    return tuple(tuple(b if isinstance(b, int) else b[end] for b in bounds) for end in range(3))


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", inside.MODELS)
def test_every_profile_is_as_typed_and_graphs_compute_what_eager_does(run_inside, name, path):
    shape = inside.MODELS[name][1]
    alone = [as_typed(shape, batch=1)] if path == "jit" and inside.BATCH in shape else []
    engines, difference = run_inside(inside.build, name, path)
    assert engines == [as_typed(shape), *alone]
    assert difference < 1e-5


CONTIGUOUS, LAST = "contiguous", "channels last"


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_convolution_asks_nothing_of_its_sizes(run_inside, dims):
    for dtype in ("float32", "float16", "bfloat16", "float64"):
        assert run_inside(inside.convolution, dims, dtype, None) == (CONTIGUOUS, [])


@pytest.mark.parametrize("which", ["input", "weight"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_convolution_is_channels_last_where_cudnn_makes_it_so(run_inside, dims, which):
    for dtype, expected in (("float32", LAST), ("float16", LAST), ("float64", CONTIGUOUS)):
        assert run_inside(inside.convolution, dims, dtype, which) == (expected, [])


def test_a_guard_that_holds_on_every_device_stays(run_inside):
    assert run_inside(inside.guards_where_the_kernel_may_not_fit) != []


EFFICIENT, FLASH = "_scaled_dot_product_efficient_attention", "_scaled_dot_product_flash_attention"
Q, FEWER_HEADS, WIDE = (4, 4, 8, 16), (4, 2, 8, 16), (4, 4, 8, 32)
ODD, HUGE = (4, 4, 8, 15), (4, 4, 8, 512)
ATTENTION = {
    "float32": ((Q, Q, Q, "float32", None, {}), EFFICIENT),
    "float16": ((Q, Q, Q, "float16", None, {}), FLASH),
    "bfloat16, causal": ((Q, Q, Q, "bfloat16", None, {"is_causal": True}), FLASH),
    "float64": ((Q, Q, Q, "float64", None, {}), "bmm"),
    "a mask": ((Q, Q, Q, "float16", (1, 1, 8, 8), {}), EFFICIENT),
    "a long head": ((HUGE, HUGE, HUGE, "float16", None, {}), EFFICIENT),
    "an odd head, float32": ((ODD, ODD, ODD, "float32", None, {}), "bmm"),
    "an odd head, float16": ((ODD, ODD, ODD, "float16", None, {}), FLASH),
    "wider values": ((Q, Q, WIDE, "float16", None, {}), EFFICIENT),
    "grouped queries, float32": ((Q, FEWER_HEADS, FEWER_HEADS, "float32", None, {"enable_gqa": True}), "bmm"),
    "grouped queries, float16": ((Q, FEWER_HEADS, FEWER_HEADS, "float16", None, {"enable_gqa": True}), FLASH),
}


@pytest.mark.parametrize(("arguments", "operator"), ATTENTION.values(), ids=ATTENTION)
def test_attention_is_traced_to_the_kernel_of_a_gpu(run_inside, arguments, operator):
    operators = run_inside(inside.attention_operators, *arguments)
    assert operator in operators
    assert not any("for_cpu" in name for name in operators)


def test_a_mask_of_unaligned_rows_is_padded(run_inside):
    seven = (4, 4, 7, 16)
    operators = run_inside(inside.attention_operators, Q, seven, seven, "float32", (1, 1, 8, 7), {})
    assert {"constant_pad_nd", "slice", EFFICIENT} <= set(operators)


def test_another_call_changes_nothing(run_inside):
    assert run_inside(inside.functions_after_another_call)
