"""Campaigns: nothing is lost, nothing counts twice, and nothing is timed beside something else."""

import fcntl
import json
import math
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import replace

import pandas as pd
import pytest
import torch

from tutorial_lib import DynamicDim
from tutorial_lib.core.models import MODELS
from tutorial_lib.experiments import campaign
from tutorial_lib.experiments.campaign import NotAlone, measured, run_all, table
from tutorial_lib.experiments.processes import Processes, WorkerLost, one_per_device
from tutorial_lib.experiments.results_file import ResultsFileError, key
from tutorial_lib.experiments.results_file import read as read_results
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.sweep import EAGER

ONE = Setting("perceptron", (DynamicDim("tokens", 1, 4, 8),), "eager", paths=("export",), sizes=(1, 4), samples=1)
MANY = [replace(ONE, sizes=(size,)) for size in range(1, 7)]
QUICK = {"device": "cpu", "min_seconds": 0}


class Here(Executor):
    """Calls at once, in this process; `outcome` decides what becomes of the n-th call instead, if anything."""

    def __init__(self, outcome=lambda number: None):
        self.calls, self.outcome, self.closed = 0, outcome, False

    def submit(self, call, /, *args):
        self.calls += 1
        future = Future()
        outcome = self.outcome(self.calls)
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(call(*args))
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.closed = True


@pytest.fixture(scope="module")
def result():
    return measured(MODELS["perceptron"], ONE, "cpu", 0)


@pytest.fixture
def instant(monkeypatch, result):
    """Settings are measured in no time, and in this process."""
    ran = []

    def measure(make, setting, *_):
        ran.append(setting)
        return "a host", result.to_dict()

    monkeypatch.setattr(campaign, "_measured", measure)
    return ran


@pytest.fixture
def file(tmp_path):
    return tmp_path / "campaign.jsonl"


def keys(file):
    return [json.loads(line)["key"] for line in file.read_text().splitlines()[1:]]


def test_one_setting_is_a_row_for_each_path_and_size_with_what_it_ran_on(file, instant):
    rows = run_all([ONE], file, Here(), **QUICK)
    assert rows[["path", "tokens"]].to_numpy().tolist() == [[EAGER, 1], ["export", 1], [EAGER, 4], ["export", 4]]
    assert (rows["median_ms"] > 0).all()
    assert rows["agrees"].all()
    assert rows["error"].isna().all()
    row = rows.iloc[1]
    assert (row["setting"], row["model"], row["ranges"]) == (key(ONE, "cpu", 0), "perceptron", "tokens 1/4/8")
    assert (row["backend"], row["precision"], row["attempts"]) == ("eager", "fp32", 1)
    assert row["torch"] == torch.__version__
    assert row["host"] == "a host"
    assert row["device"].startswith("CPU (")
    assert row["threads"] == torch.get_num_threads()
    assert row["date"].endswith("+00:00")
    assert row["build_seconds"] > 0


def test_what_fails_is_a_row_for_each_path_and_the_others_go_on_in_one_table_of_all_dimensions(file, monkeypatch):
    monkeypatch.setattr(campaign, "_measured", lambda make, one, *_: ("", measured(make, one, "cpu", 0).to_dict()))
    wrong = replace(ONE, precision="tf32", paths=("jit", "export"))
    other = Setting("vit", (DynamicDim("batch", 1, 2, 4),), "eager", precision="tf32", paths=("export",))
    rows = run_all([wrong, ONE, other], file, Here(), **QUICK)
    failed = rows[rows["error"].notna()]
    assert failed["path"].tolist() == ["jit", "export", "export"]
    assert failed["error"].str.contains("TF32").all()
    assert (rows["setting"] == key(ONE, "cpu", 0)).sum() == 4
    assert str(rows["tokens"].dtype) == str(rows["batch"].dtype) == "Int64"
    assert rows["batch"].isna().all()


def test_equal_settings_run_once_and_what_is_in_the_file_is_not_run_again(file, instant):
    run_all([*MANY[:3], *MANY[:3]], file, Here(), **QUICK)
    assert instant == MANY[:3]
    rows = run_all(MANY, file, Here(), **QUICK)
    assert instant == MANY
    assert rows["setting"].nunique() == 6
    run_all(MANY, file, Here(lambda number: AssertionError("nothing is left to run")), **QUICK)


def test_only_what_was_asked_for_is_returned_and_the_file_has_all(file, instant):
    rows = run_all(MANY, file, Here(), **QUICK)
    assert run_all(MANY[:1], file, Here(), **QUICK)["setting"].nunique() == 1
    pd.testing.assert_frame_equal(table(file), rows)


def test_another_device_or_measuring_time_is_another_result():
    assert len({key(ONE), key(ONE, "cuda"), key(ONE, min_seconds=1), key(replace(ONE, samples=5))}) == 4


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_file_whose_writer_was_killed_resumes(file, instant, cut):
    run_all(MANY[:2], file, Here(), **QUICK)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert table(file)["setting"].nunique() == 1
    run_all(MANY[:2], file, Here(), **QUICK)
    assert instant == [*MANY[:2], MANY[1]]
    assert keys(file) == [key(one, "cpu", 0) for one in MANY[:2]]


def test_a_header_that_was_cut_off_is_written_again(file, instant):
    file.write_bytes(b'{"tutorial_lib"')
    assert len(run_all([ONE], file, Here(), **QUICK)) == 4


def test_a_setting_that_is_in_the_file_twice_counts_once(file, instant):
    rows = run_all([ONE], file, Here(), **QUICK)
    with file.open("a") as again:
        again.write(file.read_text().splitlines()[1] + "\n")
    assert len(table(file)) == len(rows)


@pytest.mark.parametrize("content", ["some notes\n", '{"a": 1}\n', "[]\n"])
def test_a_file_of_something_else_is_refused_and_left_as_it_was(file, content):
    file.write_text(content)
    with pytest.raises(ResultsFileError, match=r"campaign\.jsonl"):
        run_all([ONE], file, Here(), **QUICK)
    assert file.read_text() == content


def test_another_schema_and_a_damaged_line_are_named(file, instant):
    run_all([ONE], file, Here(), **QUICK)
    whole = file.read_text()
    file.write_text(whole.replace('"schema":2', '"schema":9', 1))
    with pytest.raises(ResultsFileError, match="schema 9"):
        table(file)
    header, line, _ = whole.split("\n")
    file.write_text(f"{header}\n{line[:50]}\n{line}\n")
    with pytest.raises(ResultsFileError, match="line 2 of"):
        table(file)


def in_schema_1(file):
    """Write `file` as the first schema had it."""
    _, *lines = map(json.loads, file.read_text().splitlines())
    old = [{"tutorial_lib": "campaign", "schema": 1}]
    for line in lines:
        result = line.pop("result")
        sweep = {"schema": 1, **result["sweep"], "builds": result["builds"]}
        kept = {name: result[name] for name in ("setting", "failures", "conditions")}
        old.append(
            {**line, "text": "x", "sweep": sweep, "where": {"host": line.pop("host"), **result["where"]}, **kept}
        )
    file.write_text("".join(json.dumps(each) + "\n" for each in old))


def test_a_file_of_the_first_schema_is_read_and_goes_on_in_this_one(file, instant):
    rows = run_all(MANY[:2], file, Here(), **QUICK)
    in_schema_1(file)
    pd.testing.assert_frame_equal(table(file), rows)
    assert '"schema": 1' in file.read_text(), "reading changes nothing"
    run_all(MANY[:3], file, Here(), **QUICK)
    assert instant == MANY[:3], "what it has is not run again"
    assert json.loads(file.read_text().splitlines()[0])["schema"] == 2
    assert len(read_results(file)) == 3


def test_two_campaigns_do_not_write_to_one_file(file, instant):
    run_all([ONE], file, Here(), **QUICK)
    with file.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ResultsFileError, match="by another campaign"):
            run_all(MANY, file, Here(), **QUICK)


def test_interrupting_leaves_a_file_that_resumes(file, instant):
    def stop(done, total, text):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(MANY, file, Here(), tell=stop, **QUICK)
    assert len(keys(file)) == 2
    assert run_all(MANY, file, Here(), **QUICK)["setting"].nunique() == 6
    assert len(set(keys(file))) == len(keys(file)) == 6


def test_every_setting_is_told_of(file, instant):
    told = []
    run_all(MANY[:2], file, Here(), tell=lambda *all: told.append(all), **QUICK)
    assert [(done, total) for done, total, _ in told] == [(1, 2), (2, 2)]
    assert told[0][2] == str(MANY[0])


def test_a_setting_whose_process_was_killed_runs_again_and_counts_once(file, instant):
    executor = Here(lambda number: WorkerLost("killed") if number in (2, 7) else None)
    rows = run_all(MANY, file, executor, **QUICK)
    assert executor.calls == 8
    assert rows["setting"].nunique() == 6
    assert rows.groupby("setting")["attempts"].first().tolist().count(3) == 1


def test_a_setting_that_always_kills_its_process_is_recorded_as_failed(file, instant):
    rows = run_all([ONE], file, Here(lambda number: WorkerLost("killed by signal 9.")), retries=2, **QUICK)
    assert rows["error"].tolist() == ["its process ended early 3 times: killed by signal 9."]
    assert rows["attempts"].tolist() == [3]


def test_an_executor_that_breaks_is_made_again_and_then_given_one_setting_at_a_time(file, instant):
    made = []

    def make():
        breaks = {0: lambda number: BrokenExecutor("broke") if number > 2 else None}
        made.append(Here(breaks.get(len(made), lambda number: None)))
        return made[-1]

    rows = run_all(MANY, file, make, **QUICK)
    assert [one.calls for one in made] == [6, 4]
    assert made[0].closed
    assert rows["setting"].nunique() == 6
    assert (rows["attempts"] == 1).all()  # of six at a time, nobody knows which one broke it


def test_a_setting_that_breaks_every_executor_is_found(file, instant):
    class Breaks(Here):
        broken = False

        def submit(self, call, /, *args):
            self.broken = self.broken or args[1] == MANY[1]
            self.outcome = lambda number: BrokenExecutor("it broke.") if self.broken else None
            return super().submit(call, *args)

    rows = run_all(MANY, file, Breaks, **QUICK)
    (why,) = rows["error"].dropna()
    assert why == "its process ended early 3 times: BrokenExecutor: it broke."
    assert rows.loc[rows["error"].notna(), "setting"].tolist() == [key(MANY[1], "cpu", 0)]
    assert rows["setting"].nunique() == 6


def test_an_executor_that_breaks_and_cannot_be_made_again_leaves_a_file_that_resumes(file, instant):
    broken = Here(lambda number: BrokenExecutor("broke") if number > 2 else None)
    with pytest.raises(BrokenExecutor, match="goes on with what is left"):
        run_all(MANY, file, broken, **QUICK)
    assert 1 <= len(keys(file)) <= 2
    assert run_all(MANY, file, Here(), **QUICK)["setting"].nunique() == 6


def test_threads_and_an_unknown_model_are_refused_before_anything_runs(file):
    with ThreadPoolExecutor() as threads, pytest.raises(TypeError, match="threads"):
        run_all([ONE], file, threads, **QUICK)
    with pytest.raises(ValueError, match="no model 'gpt'"):
        run_all([replace(ONE, model="gpt")], file, Here(), **QUICK)
    assert not file.exists()


def test_an_executor_that_measures_in_this_process_is_refused(file):
    with pytest.raises(NotAlone, match="in the process that waits"):
        run_all([ONE], file, Here(), **QUICK)
    assert keys(file) == []


def test_an_error_of_the_executor_itself_is_a_row(file, instant):
    rows = run_all([ONE], file, Here(lambda number: TypeError("cannot pickle it")), **QUICK)
    assert rows["error"].tolist() == ["TypeError: cannot pickle it"]


def test_numbers_that_are_not_finite_are_missing_in_the_file(result):
    assert result.sweep.table["row_spread"].isna().all()
    assert all(row["row_spread"] is None for row in result.to_dict()["sweep"]["table"])
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_gpu_gets_one_process_and_a_machine_without_any_has_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert one_per_device() == [{}]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert one_per_device() == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5e1f")
    assert one_per_device() == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "GPU-5e1f"}]


def test_without_a_process_there_is_nothing_to_run_in():
    with pytest.raises(ValueError, match="at least one environment"):
        Processes([])
    with Processes([{}]) as closed:
        pass
    with pytest.raises(RuntimeError, match="shutdown"):
        closed.submit(math.sqrt, 4)
