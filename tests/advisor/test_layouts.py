"""One engine, several profiles, several engines or padding: which is recommended, and by whose numbers."""

from dataclasses import replace

import pytest
from advising import ALIKE, TUNED, bench
from plans import PLAN

from tutorial_lib import ShapeError
from tutorial_lib.advisor.advice import advise
from tutorial_lib.builds.report import Engine
from tutorial_lib.engines.report import EngineReport

VERSIONS = {"torch-tensorrt-rtx": "2.14.0", "tensorrt-rtx": "1.6.1.120"}
BOTH_ENDS = {1: 25, 2: 25, 4: 20, 5: 20, 40: 5, 64: 5}
LARGE = {2: 10, 48: 40, 64: 50}


def build(case, path):
    """As TensorRT does: activation memory follows max, each profile adds to the plan."""
    (dim,) = case.dims.values()
    needs = [1_000_000 * profile[0].max for profile in case.profiles] or [1_000_000 * dim.max]
    plan = replace(
        PLAN,
        plan_bytes=7_000_000 + 150_000 * (len(needs) - 1),
        weight_bytes=7_000_000,
        activation_bytes=max(needs),
        activation_by_profile=tuple(needs) if len(needs) > 1 else (),
        inputs=(),
    )
    engine = Engine((), "somewhere", 5, 0.5, plan=plan)
    return EngineReport.of(case, path, (engine,), VERSIONS, mode="build", target=None)


def unable(case, path):
    if not case.profiles:
        return build(case, path)
    return EngineReport.of(case, path, (), VERSIONS, mode="build", target=None, failed="several need 2.14.")


def advised(traffic, formulas=TUNED):
    measured = bench(formulas)
    return advise(measured.case, traffic, measured=measured)


def by_name(layouts):
    return {layout.name: layout for layout in layouts.layouts}


@pytest.mark.parametrize("traffic", [BOTH_ENDS, LARGE], ids=["both ends", "large"])
def test_profiles_are_as_fast_as_engines_of_the_same_ranges_and_need_less_memory(traffic):
    layouts = advised(traffic).layouts(build=build)
    named = by_name(layouts)
    profiles, engines = named["one engine, 2 profiles"], named["2 engines"]
    assert profiles.policy == engines.policy
    assert profiles.mean_ms == engines.mean_ms
    low = engines.policy.engines[0][0][2]
    assert profiles.memory_bytes == 7_000_000 + 64_000_000  # one context, with room for the larger profile
    assert engines.memory_bytes == 2 * 7_000_000 + 64_000_000 + 1_000_000 * low
    assert profiles.plan_bytes == 7_150_000
    assert engines.plan_bytes == 14_000_000
    assert layouts.best.mean_ms <= 1.05 * min(layout.mean_ms for layout in layouts.layouts)


def test_two_profiles_are_recommended_where_small_and_large_requests_want_another_opt():
    layouts = advised(BOTH_ENDS).layouts(build=build)
    assert layouts.best.name == "one engine, 2 profiles"
    table = layouts.table.set_index("layout")
    assert table.loc["one engine, 2 profiles", "verdict"] == "recommended"
    low = layouts.best.policy.engines[0][0][2]
    assert table.loc["one engine, 2 profiles", "activation MB"] == f"{low:.1f}/64.0"
    assert table.loc["2 engines", "activation MB"] == f"{low:.1f} + 64.0"
    assert "TensorRT for RTX 1.6.1.120 built and did not run" in layouts.recommendation
    assert "measured with eager (export, no device)" in layouts.recommendation


def test_one_range_is_recommended_where_opt_makes_no_difference():
    assert advised(BOTH_ENDS, ALIKE).layouts(build=build).best.name == "one engine, one range"


def test_what_tensorrt_cannot_build_is_told_and_not_recommended():
    layouts = advised(BOTH_ENDS).layouts(build=unable)
    assert by_name(layouts)["one engine, 2 profiles"].failed == "several need 2.14."
    assert layouts.best.name == "2 engines"
    assert "several need 2.14." in str(layouts)
    nothing = advised(BOTH_ENDS).layouts(build=lambda case, path: replace(unable(case, path), engines=(), failed="no."))
    assert nothing.best is None
    assert nothing.recommendation.endswith(": no.")


def test_as_many_engines_as_the_advice_has_can_be_asked_for():
    formulas = {**TUNED, (16,): lambda size: 0.3 + 0.07 * size}
    advice = advised({1: 50, 2: 20, 16: 20, 20: 5, 64: 5}, formulas)
    assert "one engine, 3 profiles" in by_name(advice.layouts(3, build=build))
    with pytest.raises(ShapeError, match=r"no policy of 4 engines; .* buckets=4"):
        advice.layouts(4, build=build)
