"""Targets: known without TensorRT, the same as TensorRT's, and refused in one sentence."""

import json
import sys
import types

import pytest
import rtx

from tutorial_lib.engines import targets
from tutorial_lib.engines.errors import TargetError


@pytest.mark.parametrize(("target", "name"), [(None, None), *((f" {name.upper()} ", name) for name in targets.TARGETS)])
def test_every_target_is_taken_in_any_case(target, name):
    assert targets.check_target(target) == name


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("sm90", "cannot build for sm90 (compute capability 9.0), which data-centre TensorRT serves"),
        ("sm70", "cannot build for sm70 (compute capability 7.0); targets"),
        ("sm8", "the target is 'sm8'"),
        ("8.9", "the target is '8.9'"),
        ("", "the target is ''"),
        (89, "the target is 89"),
    ],
)
def test_an_unknown_target_is_refused_with_those_that_there_are(target, words):
    with pytest.raises(TargetError) as refused:
        targets.check_target(target)
    assert words in str(refused.value)
    assert "targets are sm75, sm80, sm86, sm89, sm120, sm121, or none" in str(refused.value)


def test_a_plan_names_the_targets_that_it_was_built_for():
    assert targets.built_for(None, "1.10.0.1") == targets.PORTABLE
    assert targets.built_for("sm89", "1.5.0.114") == ("sm89",)
    assert "sm121" not in targets.built_for(None, "1.4.0.76")


@pytest.mark.parametrize("version", ["2.11.0", "2.14.0+cu130", None])
def test_turing_with_dynamic_shapes_is_refused_until_it_is_mended(version):
    assert (version or "unknown version") in targets.refusal_after_build("sm75", True, version)


@pytest.mark.parametrize(
    "build", [("sm75", False, "2.13.0"), ("sm75", True, "2.15.0"), ("sm80", True, "2.13.0"), (None, True, "2.13.0")]
)
def test_turing_is_not_refused_where_it_works(build):
    assert targets.refusal_after_build(*build) is None


@pytest.mark.parametrize(
    ("capability", "names", "words"),
    [
        ((8, 9), ["sm89"], None),
        ((8, 6), ["sm89"], 'build it with target="sm86"'),
        ((7, 5), targets.PORTABLE, 'build it with target="sm75"'),
        ((8, 7), targets.PORTABLE, "build it without a target"),
        ((12, 5), ["sm120"], "build it without a target"),
        ((12, 5), targets.PORTABLE, None),  # a later card of the last generation
        ((9, 0), targets.PORTABLE, "does not run on compute capability 9.0; use data-centre TensorRT there"),
    ],
)
def test_which_cards_run_a_plan(capability, names, words):
    refusal = targets.why_not_on(capability, names)
    assert refusal is None if words is None else words in refusal


# ---- the builder's configuration


class Config:
    num_compute_capabilities = 0

    def __init__(self, accepts=True):
        self.accepts, self.set = accepts, []

    def set_compute_capability(self, capability, index):
        self.set.append((capability, index))
        return self.accepts


@pytest.fixture
def old_tensorrt(monkeypatch):
    module = types.ModuleType("tensorrt_rtx")
    module.__version__ = "1.4.0.76"
    module.ComputeCapability = types.SimpleNamespace(SM89="8.9")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)


@pytest.mark.parametrize(("target", "count", "capabilities"), [("sm89", 1, [("8.9", 0)]), (None, 0, [])])
def test_a_target_is_the_only_one_of_the_build(old_tensorrt, target, count, capabilities):
    config = Config()
    targets.apply(config, target)
    assert (config.num_compute_capabilities, config.set) == (count, capabilities)


@pytest.mark.parametrize(("target", "accepts"), [("sm121", True), ("sm89", False)])
def test_what_the_installed_tensorrt_does_not_take_is_refused(old_tensorrt, target, accepts):
    with pytest.raises(TargetError, match=f"cannot build for {target}"):
        targets.apply(Config(accepts), target)


@pytest.mark.slow
def test_the_targets_are_those_of_the_real_builder():
    printed = json.loads(rtx.script("each_target.py", path=[str(rtx.ROOT), rtx.folder()]))
    capabilities = set(printed["capabilities"]) - {"none", "current"}
    assert capabilities <= set(targets.TARGETS)
    assert {name.lower() for name, count in printed["set"] if count == 1} == capabilities
    assert printed["without"] == 0
