"""Plans for the tests that need no TensorRT."""

from dataclasses import replace

from tutorial_lib.builds.plan import Plan, PlanLayer, PlanTensor
from tutorial_lib.builds.report import Engine

VERSION = "1.5.0.114"
X = PlanTensor("x", "float32", "data", (((1, 8), (4, 8), (32, 8)),))
Y = PlanTensor("y", "float32")
W = PlanTensor("w", "float32", "weight", (((8, 8), (8, 8), (8, 8)),))
S = PlanTensor("s", "int64", "shape", (((2,), (4,), (32,)),), is_shape_tensor=True)
PLAN = Plan(
    plan_bytes=11,
    activation_bytes=85_655_552,
    weight_bytes=7_090_432,
    scratch_bytes=0,
    network_layers=1,
    shape_layers=0,
    layers=(PlanLayer("relu", "kgen", ("relu",), ("float32 [-1,8]",), ("float32 [-1,8]",)),),
    inputs=(X,),
    outputs=(Y,),
    targets=("sm80", "sm86", "sm89", "sm120", "sm121"),
    conversion_seconds=0.25,
    build_seconds=0.5,
    messages=(),
    versions={"tensorrt-rtx": VERSION, "torch-tensorrt-rtx": "2.13.0", "torch": "2.13.0"},
    data=b"native code",
)


def engine(**changes):
    return Engine((), "its only size", 1, 0.5, plan=replace(PLAN, **changes))
