"""Two plans side by side: a layer is known by its type and its sources, not by the names that TensorRT gives it."""

from dataclasses import replace

from plans import PLAN

from tutorial_lib.builds.plan import PlanLayer
from tutorial_lib.engines.comparison import LayerChange, layer_changes

SHAPES = PlanLayer("__mye1", "shape_call")
PRODUCT = PlanLayer("gemm_myl0_2", "gemm", ("linear",), ("float32 [-1,8]",), ("float32 [-1,24]",))
ATTENTION = PlanLayer("__fc1", "gemm", ("(Unnamed Layer* 130) [AttentionOutput]",))
ADD = PlanLayer("__myl_Add_myl0_3", "kgen", ("bias",), tactic="__myl_Add_0xbe43")


def changes(old, new):
    return layer_changes(replace(PLAN, layers=tuple(old)), replace(PLAN, layers=tuple(new)))


def test_what_tensorrt_numbers_anew_in_every_build_is_no_change():
    other = (
        replace(SHAPES, name="__mye2"),
        replace(ATTENTION, name="__fc2", sources=("(Unnamed Layer* 292) [AttentionOutput]",)),
        replace(ADD, name="__myl_Add_myl0_7", tactic="__myl_Add_0xdad1"),
    )
    assert changes((SHAPES, ATTENTION, ADD), other) == ()


def test_a_layer_that_came_went_or_was_fused_is_a_change():
    assert changes((SHAPES, PRODUCT), (PRODUCT,)) == (LayerChange((SHAPES,), ()),)
    assert changes((PRODUCT,), (PRODUCT, ADD)) == (LayerChange((), (ADD,)),)
    fused = PlanLayer("__myl_FcAdd", "runtime_fusion", ("linear", "bias"))
    assert changes((SHAPES, PRODUCT, ADD), (SHAPES, fused)) == (LayerChange((PRODUCT, ADD), (fused,)),)


def test_other_tensors_of_the_same_layer_are_a_change_of_shapes():
    static = replace(PRODUCT, inputs=("float32 [4,8]",), outputs=("float32 [4,24]",))
    assert changes((PRODUCT, ADD), (static, ADD)) == (LayerChange((PRODUCT,), (static,), shapes_only=True),)
