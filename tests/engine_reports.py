"""Engine reports for the figures that draw them: made up, so that they need no TensorRT."""

from dataclasses import replace

from plans import PLAN, VERSION

from tutorial_lib.builds.report import Engine, EngineInput
from tutorial_lib.engines import Call, EngineReport

VERSIONS = {"torch-tensorrt-rtx": "2.13.0", "tensorrt-rtx": VERSION}


def of_x(low, opt, high, patches=(196, 196, 196)):
    return EngineInput("x", "float32", *zip((low, opt, high), patches, strict=True))


def engine(low, opt, high, activation_bytes=None, late=False, patches=(196, 196, 196)):
    plan = None if activation_bytes is None else replace(PLAN, activation_bytes=activation_bytes)
    return Engine((of_x(low, opt, high, patches),), "somewhere", 5, 0.0, after_build=late, plan=plan)


def report(*engines, case="seed", path="export", requested=(2, 4, 32), patches=(196, 196, 196), calls=(), **more):
    return EngineReport(
        case=case,
        path=path,
        requested=(of_x(*requested, patches),),
        engines=engines,
        calls=calls,
        **{"mode": "build", "target": None, "versions": VERSIONS, "left_to_pytorch": (), **more},
    )


def call(outcome, built=(), **sizes):
    return Call(sizes, outcome, "", None, (), built, None)


# Engines with plans, for the figure of memory.
SEED = [report(engine(1, 4, size, 2_000_000 * size + 8_000_000)) for size in (8, 32, 256)]
OTHER_OPT = report(engine(1, 256, 256, 520_000_000))
JIT = report(
    engine(1, 4, 32, 72_000_000),
    engine(1, 1, 1, 10_000_000),
    engine(1, 33, 4096, 8_200_000_000, late=True),
    path="jit",
)
VIT = [report(engine(1, 4, 8, 21_000_000), case="vit"), report(engine(1, 4, 128, 221_000_000), case="vit")]
VIT_OPT = report(engine(1, 128, 128, 241_000_000), case="vit")

# What calls did, for the figure of profiles.
CALLED = report(
    engine(1, 4, 32),
    engine(1, 1, 1, late=True),
    engine(1, 33, 65536, late=True),
    path="jit",
    calls=(call("built", (2,), batch=1), call("built", (3,), batch=33)),
)
REFUSED = report(engine(1, 4, 32), calls=(call("served", batch=1), call("refused", batch=33)))
PATCHES = (49, 196, 576)
TWO_DIMS = report(engine(1, 4, 32, patches=PATCHES), patches=PATCHES, calls=(call("refused", b=4, p=600),))
FAILED = report(path="jit", failed="no")
