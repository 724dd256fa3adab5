"""Targets: known without TensorRT, the same as TensorRT's, and refused in one sentence."""

import importlib
import json
import sys
import types

import pytest
import rtx

from tutorial_lib.engines import targets
from tutorial_lib.engines.errors import TargetError


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """What the real TensorRT for RTX has."""
    file = tmp_path_factory.mktemp("tiny") / "tiny.plan"
    return json.loads(rtx.script("tiny_plan.py", file, path=[rtx.folder()]))


def test_the_targets_are_those_of_the_installed_tensorrt(api):
    names = {name.lower() for name in api["capabilities"]} - {"none", "current"}
    assert names == set(targets.known_targets(api["version"]))
    assert names <= set(targets.TARGETS)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_every_target_is_taken_in_any_case(name):
    assert targets.check_target(name) == targets.check_target(f" {name.upper()} ") == name


def test_no_target_is_the_portable_default():
    assert targets.check_target(None) is None
    assert targets.built_for(None, "1.5.0.114") == targets.PORTABLE
    assert targets.built_for("sm89", "1.5.0.114") == ("sm89",)
    assert "sm121" not in targets.built_for(None, "1.4.0.76")


@pytest.mark.parametrize("name", ["sm90", "sm100", "sm70", "sm8", "89", "8.9", "hopper", "", 89, ["sm89"]])
def test_an_unknown_target_is_refused_with_those_that_there_are(name):
    with pytest.raises(TargetError, match="targets are sm75, sm80, sm86, sm89, sm120, sm121, or none") as refused:
        targets.check_target(name)
    assert isinstance(refused.value, ValueError)
    assert "\n" not in str(refused.value)


def test_a_data_centre_target_says_what_serves_it():
    with pytest.raises(TargetError, match=r"compute capability 9\.0\), which data-centre TensorRT serves"):
        targets.check_target("sm90")
    with pytest.raises(TargetError, match=r"compute capability 7\.0\); targets"):
        targets.check_target("sm70")


def test_a_target_of_a_later_release_says_which():
    assert targets.check_target("sm121", "1.5.0.114") == "sm121"
    assert targets.check_target("sm121", "1.10.0.1") == "sm121"
    with pytest.raises(TargetError, match=r"sm121 needs TensorRT for RTX 1\.5, and this is 1\.4\.0\.76"):
        targets.check_target("sm121", "1.4.0.76")


def test_nothing_of_tensorrt_is_imported_to_check_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # importing it fails
    importlib.reload(targets)
    assert targets.check_target("sm89") == "sm89"


# ---- Turing with dynamic shapes


@pytest.mark.parametrize("version", ["2.11.0", "2.13.0", "2.14.0+cu130", None, ""])
def test_turing_with_dynamic_shapes_is_refused_until_it_is_mended(version):
    refusal = targets.refusal_after_build("sm75", True, version)
    assert "can return zeros without an error" in refusal
    assert (version or "unknown version") in refusal
    assert "\n" not in refusal


def test_turing_is_not_refused_where_it_works():
    assert targets.refusal_after_build("sm75", False, "2.13.0") is None
    assert targets.refusal_after_build("sm75", True, "2.15.0") is None
    assert targets.refusal_after_build("sm80", True, "2.13.0") is None
    assert targets.refusal_after_build(None, True, "2.13.0") is None


# ---- cards


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((7, 0), False),
        ((7, 5), True),
        ((8, 0), True),
        ((8, 6), True),
        ((8, 9), True),
        ((9, 0), False),
        ((10, 0), False),
        ((11, 0), False),
        ((12, 0), True),
        ((12, 1), True),
    ],
)
def test_which_cards_tensorrt_for_rtx_runs_on(capability, runs):
    assert targets.runs_on(capability) is runs
    assert (targets.why_not_on(capability) is None) is runs


def test_hopper_is_sent_to_data_centre_tensorrt():
    sentence = "TensorRT for RTX does not run on compute capability 9.0; use data-centre TensorRT there."
    assert targets.why_not_on((9, 0)) == targets.why_not_on((9, 0), targets.PORTABLE) == sentence
    assert "data-centre" not in targets.why_not_on((7, 0))


def test_a_plan_runs_on_its_targets_only():
    assert targets.why_not_on((8, 9), ["sm89"]) is None
    assert 'build it with target="sm86"' in targets.why_not_on((8, 6), ["sm89"])
    assert 'build it with target="sm75"' in targets.why_not_on((7, 5), targets.PORTABLE)
    assert "build it without a target" in targets.why_not_on((12, 5), ["sm120"])


def test_the_portable_default_runs_on_later_cards_of_its_last_generation():
    assert targets.why_not_on((12, 5), targets.PORTABLE) is None
    assert targets.why_not_on((8, 7), targets.PORTABLE) is not None


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


@pytest.mark.usefixtures("old_tensorrt")
def test_a_target_is_the_only_one_of_the_build():
    config = Config()
    targets.apply(config, "sm89")
    assert config.num_compute_capabilities == 1
    assert config.set == [("8.9", 0)]


def test_without_a_target_the_configuration_stays_and_tensorrt_is_not_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    config = Config()
    targets.apply(config, None)
    assert config.num_compute_capabilities == 0
    assert config.set == []


@pytest.mark.usefixtures("old_tensorrt")
@pytest.mark.parametrize(("target", "accepts"), [("sm121", True), ("sm89", False)])
def test_what_the_installed_tensorrt_does_not_take_is_refused(target, accepts):
    with pytest.raises(TargetError, match=rf"TensorRT for RTX 1\.4\.0\.76 cannot build for {target}"):
        targets.apply(Config(accepts), target)


@pytest.mark.slow
def test_the_real_builder_takes_every_target():
    printed = json.loads(rtx.script("each_target.py", path=[str(rtx.ROOT), rtx.folder()]))
    assert printed["names"] == list(targets.known_targets(printed["version"]))
    assert printed["set"] == [[name.upper(), 1] for name in printed["names"]]
    assert printed["without"] == 0
