"""What `auto` takes on a CPU: what the reader says, else what was measured on this machine, else a fixed order."""

import json
import os

import pytest

from tutorial_lib import BackendUnavailable, choose
from tutorial_lib.builds.backends import BACKENDS, preference, statuses
from tutorial_lib.builds.backends import selection as selection_module
from tutorial_lib.builds.backends.preference import Comparison

FASTER = Comparison(1.31, 1.25, 1.38, "expand-reshape, batch 4", "2026-11-01")
SLOWER = Comparison(0.9, 0.8, 0.95, "expand-reshape, batch 4", "2026-11-01")
EQUAL = Comparison(1.01, 0.99, 1.03, "expand-reshape, batch 4", "2026-11-01")


@pytest.fixture(autouse=True)
def both_work(monkeypatch, tmp_path):
    """A CPU on which inductor and openvino work, and nothing was measured."""
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path))
    monkeypatch.delenv(preference.VARIABLE, raising=False)
    monkeypatch.setattr(selection_module, "_why_not_inductor", lambda device: None)
    monkeypatch.setattr(selection_module.openvino, "why_not", lambda device: None)


def test_without_a_measurement_the_order_is_fixed_and_asking_makes_none(tmp_path):
    assert preference.comparison_here() is None
    assert choose("auto", "cpu")[0] == "inductor"
    assert tuple(s.name for s in statuses("cpu")) == BACKENDS
    assert preference.FILE not in os.listdir(tmp_path)


@pytest.mark.parametrize(("comparison", "taken"), [(FASTER, "openvino"), (SLOWER, "inductor"), (EQUAL, "inductor")])
def test_openvino_is_taken_where_its_whole_interval_is_faster(comparison, taken):
    preference.remember(comparison)
    assert preference.comparison_here() == comparison
    name, passed_over = choose("auto", "cpu")
    assert name == taken
    assert next(s.name for s in statuses("cpu") if s.works) == taken
    reasons = [reason for reason in passed_over if reason.startswith("inductor was passed over: ")]
    assert reasons == ([f"inductor was passed over: {FASTER}."] if taken == "openvino" else [])


def test_what_was_measured_does_not_hold_on_another_machine_or_with_other_versions(monkeypatch):
    preference.remember(FASTER)
    with monkeypatch.context() as patch:
        patch.setattr(preference.report, "device_name", lambda device: "CPU (another, 8 threads)")
        assert choose("auto", "cpu")[0] == "inductor"
        preference.remember(SLOWER)
    with monkeypatch.context() as patch:
        patch.setattr(preference.report, "versions", lambda *packages: {"torch": "2.13.0", "openvino": "2099.1"})
        assert choose("auto", "cpu")[0] == "inductor"
    assert choose("auto", "cpu")[0] == "openvino", "the other machine's result took its place"


def test_a_measurement_says_nothing_about_a_gpu():
    preference.remember(FASTER)
    assert selection_module.order(selection_module.torch.device("cuda:0")) == BACKENDS


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '{"KEY": {"speedup": 2}}', '{"KEY": {"speedup": "2"}}'])
def test_a_file_that_cannot_be_read_is_no_measurement(content, tmp_path):
    preference.remember(FASTER)
    (key,) = json.loads((tmp_path / preference.FILE).read_text())
    (tmp_path / preference.FILE).write_text(content.replace("KEY", key))
    assert preference.comparison_here() is None
    assert choose("auto", "cpu")[0] == "inductor"


def test_the_environment_decides_over_the_measurement(monkeypatch):
    preference.remember(FASTER)
    for name in ("inductor", "eager"):
        monkeypatch.setenv(preference.VARIABLE, name)
        assert choose("auto", "cpu") == (name, ())
    assert choose("openvino", "cpu") == ("openvino", ()), "a backend that is asked for by name is that one"
    monkeypatch.setenv(preference.VARIABLE, "auto")
    assert choose("auto", "cpu")[0] == "openvino"


def test_an_environment_that_names_what_does_not_work_is_one_sentence(monkeypatch):
    monkeypatch.setenv(preference.VARIABLE, "inducto")
    with pytest.raises(BackendUnavailable, match=r"^TUTORIAL_LIB_BACKEND=inducto: there is no backend 'inducto'.*\.$"):
        choose("auto", "cpu")
    monkeypatch.setattr(selection_module, "_why_not_inductor", lambda device: "there is no compiler; install g++.")
    monkeypatch.setenv(preference.VARIABLE, "inductor")
    with pytest.raises(BackendUnavailable, match=r"^TUTORIAL_LIB_BACKEND=inductor: backend inductor: there is no com"):
        choose("auto", "cpu")
