"""Campaigns in real processes, some of which are killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
from campaign_cases import CASES

from tutorial_lib import DynamicDim
from tutorial_lib.experiments.campaign import NotAlone, build_ahead, run_all, table
from tutorial_lib.experiments.processes import Processes, WorkerLost
from tutorial_lib.experiments.results_file import read
from tutorial_lib.experiments.setting import Setting

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
QUICK = {"device": "cpu", "min_seconds": 0, "cases": CASES}
AHEAD = {"device": "cpu", "cases": CASES}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def of(model, opt=4):
    return Setting(model, (DynamicDim("tokens", 1, opt, 8),), "eager", paths=("export",), sizes=(4,), samples=1)


def some(model, count):
    return [of(model, opt) for opt in range(1, count + 1)]


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Every start of a setting, as a line with its model and its process."""
    log = tmp_path / "log"
    log.touch()
    monkeypatch.setenv("CAMPAIGN_LOG", str(log))
    return log


def started(log, model):
    return [int(line.split()[1]) for line in log.read_text().splitlines() if line.split()[0] == model]


def kill_when_started(log, model):
    """Kill the first process that starts `model`, from a thread."""

    def watch():
        while not started(log, model):
            time.sleep(0.02)
        time.sleep(0.1)
        os.kill(started(log, model)[0], signal.SIGKILL)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_killed_process_costs_only_its_own_setting_a_second_run(tmp_path, log):
    settings = [*some("tiny", 4), of("slow")]
    with Processes([ONE_THREAD] * 2) as two:
        killing = kill_when_started(log, "slow")
        rows = run_all(settings, tmp_path / "file", two, **QUICK)
        killing.join()
    assert rows["setting"].nunique() == len(settings)
    assert rows["error"].isna().all()
    assert len(rows) == 2 * len(settings)
    assert dict(rows.groupby("model")["attempts"].max()) == {"tiny": 1, "slow": 2}
    assert len(started(log, "slow")) == 2
    assert len(started(log, "tiny")) == 4
    assert (rows["threads"] == 1).all()


def test_a_setting_that_ends_its_process_every_time_is_a_row_that_names_the_signal(tmp_path, log):
    rows = run_all([of("dies"), of("dies-once"), of("tiny")], tmp_path / "file", retries=1, **QUICK)
    by_model = rows.groupby("model").first()
    assert by_model.loc["dies", "error"].startswith("its process ended early 2 times: ")
    assert "signal 9" in by_model.loc["dies", "error"]
    assert by_model["attempts"].to_dict() == {"dies": 2, "dies-once": 2, "tiny": 1}


def test_a_pool_of_the_standard_library_that_breaks_is_made_again(tmp_path, log):
    make = partial(ProcessPoolExecutor, 2, mp_context=get_context("spawn"))
    rows = run_all([of("dies"), *some("tiny", 3)], tmp_path / "file", make, retries=1, **QUICK)
    assert rows.groupby("model")["error"].first().notna().to_dict() == {"dies": True, "tiny": False}
    assert rows["setting"].nunique() == 4


def test_forks_are_refused(tmp_path, log):
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool, pytest.raises(NotAlone, match="spawn them"):
        run_all([of("tiny")], tmp_path / "file", pool, **QUICK)
    assert started(log, "tiny") == []


SCRIPT = """
import sys
from campaign_cases import CASES
from test_campaign_processes import some
from tutorial_lib.experiments.campaign import run_all

if __name__ == "__main__" or sys.argv[2] == "unguarded":
    settings = some("tiny", 1) + some("slow", 1)
    told = lambda done, total, text: print(done, flush=True)
    run_all(settings, sys.argv[1], device="cpu", min_seconds=0, cases=CASES, tell=told)
"""


def script(tmp_path, *arguments):
    (tmp_path / "script.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path / "file", *arguments],
        env={**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def gone(pid):
    """Whether a process has ended, within some seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_campaign_that_is_stopped_goes_on_where_it_was_and_leaves_no_process(tmp_path, log, how):
    process = script(tmp_path, "guarded")
    try:
        assert process.stdout.readline() == "1\n"
        while not started(log, "slow"):
            time.sleep(0.02)
        process.send_signal(how)
        process.wait(30)
    finally:
        process.kill()
    assert gone(started(log, "slow")[0])
    assert table(tmp_path / "file")["model"].unique().tolist() == ["tiny"]
    rows = run_all([*some("tiny", 1), *some("slow", 1)], tmp_path / "file", **QUICK)
    assert rows["setting"].nunique() == 2
    assert len(started(log, "tiny")) == 1
    assert len(started(log, "slow")) == 2


def test_a_script_that_starts_work_while_it_is_imported_is_told_what_to_write(tmp_path, log):
    process = script(tmp_path, "unguarded")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "has to start its work under `if __name__ == '__main__':`" in said.splitlines()[-1]
    assert started(log, "tiny") == []


def test_what_a_function_raises_or_cannot_send_comes_back_as_an_error():
    with Processes([ONE_THREAD]) as one:
        assert one.submit(abs, -2).result(60) == 2
        with pytest.raises(TypeError, match="bad operand"):
            one.submit(abs, "x").result(60)
        with pytest.raises(TypeError, match="pickle"):
            one.submit(open, os.devnull).result(60)
        with pytest.raises(Exception, match="pickle"):
            one.submit(lambda: 1).result(60)
        with pytest.raises(WorkerLost, match="exit code 3"):
            one.submit(os._exit, 3).result(60)
        assert one.submit(abs, -2).result(60) == 2


def test_what_waits_is_cancelled_when_all_processes_are_killed():
    two = Processes([ONE_THREAD])
    sleeping, waiting = two.submit(time.sleep, 60), two.submit(time.sleep, 60)
    while not sleeping.running():
        time.sleep(0.01)
    two.kill()
    assert waiting.cancelled()
    with pytest.raises((WorkerLost, BrokenExecutor), match="signal 9"):  # in its work, or while it starts
        sleeping.result(0)


@pytest.mark.long
def test_what_is_built_ahead_is_found_when_it_is_measured(tmp_path, monkeypatch, inductor, log):
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "cache"))
    setting, told = replace(of("tiny"), backend=inductor, paths=("input", "export")), []
    build_ahead([setting, setting], 2, **AHEAD, tell=lambda *words: told.append(words))
    assert [(done, count) for done, count, _ in told] == [(1, 2), (2, 2)]
    assert {text.split(" of ")[0] for _, _, text in told} == {"built input", "built export"}
    run_all([setting], tmp_path / "again", reuse=True, **QUICK)
    run_all([setting], tmp_path / "anew", **QUICK)
    again, anew = (line.result.sweep for name in ("again", "anew") for line in read(tmp_path / name).values())
    assert all("found on disk" in build["reused"] for build in again.builds)
    assert [build["reused"] for build in anew.builds] == [None, None]


def test_what_cannot_be_built_ahead_does_not_keep_the_others_from_it(log):
    told = []
    build_ahead([of("dies"), of("tiny")], 1, **AHEAD, tell=lambda *words: told.append(words[2]))
    built, failed = sorted(told)
    assert built.startswith("built export of tiny 1 / 4 / 8")
    assert failed.startswith("export of dies 1 / 4 / 8, eager, fp32, export: the process that ran it ended early")


def test_building_ahead_stops_at_once_when_it_is_interrupted(log):
    def interrupted(*_):
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        build_ahead([of("tiny"), *[replace(of("slow"), samples=n) for n in range(1, 30)]], 1, **AHEAD, tell=interrupted)
    assert len(started(log, "slow")) < 3
    assert time.monotonic() - start < 60


def test_nothing_to_build_ahead_starts_no_process_and_no_process_is_refused():
    build_ahead([], 3, **AHEAD)
    with pytest.raises(ValueError, match="use at least 1"):
        build_ahead([of("tiny")], 0, **AHEAD)
