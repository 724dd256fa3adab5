"""Targets: known without TensorRT, the same as TensorRT's, and refused in one sentence."""

import sys
import types

import pytest

from tutorial_lib.engines import run_inside, targets
from tutorial_lib.engines.errors import TargetError


def test_every_target_is_taken_in_any_case():
    assert targets.check_target(None) is None
    assert [targets.check_target(f" {name.upper()} ") for name in targets.TARGETS] == [*targets.TARGETS]


@pytest.mark.parametrize(
    ("target", "words"),
    [("sm70", "for sm70 (compute capability 7.0); "), *((bad, f"is {bad!r}; ") for bad in ("sm8", "8.9", "", 89))],
)
def test_an_unknown_target_is_refused_with_those_that_there_are(target, words):
    with pytest.raises(TargetError) as refused:
        targets.check_target(target)
    assert words in str(refused.value)
    assert all(name in str(refused.value) for name in targets.TARGETS)


def test_a_plan_names_the_targets_that_it_was_built_for():
    assert targets.built_for(None, "1.10.0.1") == targets.PORTABLE
    assert targets.built_for("sm89", "1.5.0.114") == ("sm89",)
    assert "sm121" not in targets.built_for(None, "1.4.0.76")


@pytest.mark.parametrize(
    ("target", "is_dynamic", "version", "is_refused"),
    [
        *(("sm75", True, version, True) for version in ("2.11.0", "2.14.0+cu130", None)),
        ("sm75", True, "2.15.0", False),
        ("sm75", False, "2.13.0", False),
        ("sm80", True, "2.13.0", False),
        (None, True, "2.13.0", False),
    ],
)
def test_turing_with_dynamic_shapes_is_refused_until_it_is_mended(target, is_dynamic, version, is_refused):
    refusal = targets.refusal_after_build(target, is_dynamic, version)
    assert (version or "unknown version") in refusal if is_refused else refusal is None


@pytest.mark.parametrize(
    ("capability", "names", "words"),
    [
        ((8, 9), ["sm89"], None),
        ((8, 6), ["sm89"], 'target="sm86"'),
        ((7, 5), targets.PORTABLE, 'target="sm75"'),
        ((8, 7), targets.PORTABLE, "build it without a target"),
        ((12, 5), ["sm120"], "build it without a target"),
        ((12, 5), targets.PORTABLE, None),  # a later card of the last generation
        ((9, 0), targets.PORTABLE, "data-centre TensorRT"),
        ((7, 0), targets.PORTABLE, "needs 7.5"),
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


def test_a_target_that_the_installed_tensorrt_takes_is_the_only_one_of_the_build(old_tensorrt):
    config, without = Config(), Config()
    targets.apply(config, "sm89")
    targets.apply(without, None)
    assert (config.num_compute_capabilities, config.set) == (1, [("8.9", 0)])
    assert (without.num_compute_capabilities, without.set) == (0, [])
    for target, accepts in (("sm121", True), ("sm89", False)):
        with pytest.raises(TargetError, match=f"cannot build for {target}"):
            targets.apply(Config(accepts), target)


def set_in_a_real_configuration():
    """Every target on a configuration of TensorRT's builder, and without one; and the capabilities that it has."""
    import tensorrt_rtx as trt

    builder, were_set = trt.Builder(trt.Logger(trt.Logger.ERROR)), []
    for name in ("sm75", *targets.built_for(None, trt.__version__)):
        config = builder.create_builder_config()
        targets.apply(config, name)
        were_set.append((config.get_compute_capability(0).name.lower(), config.num_compute_capabilities))
    config = builder.create_builder_config()
    targets.apply(config, None)
    names = {name.lower() for name in trt.ComputeCapability.__members__}
    return names - {"none", "current"}, were_set, config.num_compute_capabilities


def test_the_targets_are_those_of_the_real_builder(installed):
    capabilities, were_set, without = run_inside(set_in_a_real_configuration).result
    assert capabilities <= set(targets.TARGETS)
    assert sorted(were_set) == sorted((name, 1) for name in capabilities)
    assert without == 0
