"""The doctor on a plan: does it run on this card, and is its memory free?"""

import argparse

import pytest
import torch
from plans import PLAN, engine

from tutorial_lib.builds.plan import PlanLayer
from tutorial_lib.cli import doctor
from tutorial_lib.engines import save

NEEDED = PLAN.activation_bytes + PLAN.weight_bytes


@pytest.fixture
def plan(tmp_path):
    save(engine(), tmp_path / "model.plan")
    return tmp_path / "model.plan"


@pytest.fixture
def card(monkeypatch):
    """``card(capability, free)``: a GPU of that compute capability with that many bytes free, or none."""

    def install(capability, free=0):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (free, 80 << 30))

    return install


@pytest.mark.parametrize(
    ("capability", "free", "state", "part"),
    [
        ((8, 9), NEEDED, doctor.OK, ""),
        ((8, 9), NEEDED - 1, doctor.NOT_OK, "85.7 MB"),
        ((9, 0), 80 << 30, doctor.NOT_OK, "compute capability 9.0"),
        (None, 0, doctor.ABSENT, "85.7 MB"),
    ],
)
def test_whether_a_plan_runs_depends_on_the_card_and_its_free_memory(plan, card, capability, free, state, part):
    card(capability, free)
    check = doctor.check_plan(plan)
    assert check.state == state
    assert part in check.found
    assert check.fix or state != doctor.NOT_OK


def test_memory_that_is_allocated_at_run_time_is_asked_for(tmp_path, card):
    allocates = PlanLayer("allocate_0", "allocate", inputs=("float32 [-1,8]",))
    save(engine(layers=(allocates,)), tmp_path / "large.plan")
    card((8, 9), NEEDED + 10**9)
    check = doctor.check_plan(tmp_path / "large.plan")
    assert check.state == doctor.NOT_OK
    assert "85.7 MB and more at run time" in check.found
    card((8, 9), NEEDED + 10**10)
    assert "may be free" in doctor.check_plan(tmp_path / "large.plan").found


def test_a_damaged_plan_is_not_ok_and_the_command_counts_it(plan, card, capsys, monkeypatch):
    card((8, 9), NEEDED)
    plan.write_bytes(b"other code!")
    monkeypatch.setattr(doctor, "diagnose", lambda: doctor.Report((), ()))
    assert doctor.run(argparse.Namespace(plan=plan, json=False, measure=False, one_line=False)) == 1
    assert "plan model.plan" in capsys.readouterr().out
