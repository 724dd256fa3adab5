"""The life of the engines' process: kept, cancelled, replaced, shared by threads, and gone with its reader."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import own_models
import psutil
import pytest
import torch

from tutorial_lib import PATHS, Case, TensorSpec, expand_reshape
from tutorial_lib.core import Cancelled
from tutorial_lib.engines import EngineProcessError, EnginesUnavailable, build, run_inside, worker

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SOON = 2.0
"""Seconds within which a process is gone or replaced; 10 more are for a busy machine."""
BUSY = 10.0


def small():
    return expand_reshape(batch=(2, 4, 8), embed_dim=24, tokens=7)


def works():
    """Whether the next request is answered as ever."""
    report = build(small(), "export", mode="graph")
    return report.failed is None and len(report.engines) == 1


def exits():
    os._exit(3)


def prints_and_returns(count):
    line = "x" * 1023
    for _ in range(count // 2048):
        print(line)
        print(line, file=sys.stderr)
    return torch.ones(count // 4)


def visible_gpus():
    return os.environ["CUDA_VISIBLE_DEVICES"]


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def seconds_until_gone(pid, limit=SOON + BUSY):
    start = time.monotonic()
    while is_running(pid):
        assert time.monotonic() - start < limit, "the process is still there"
        time.sleep(0.02)
    return time.monotonic() - start


@pytest.fixture
def fresh(installed):
    """No process before, and none of this test's after it."""
    worker.stop()
    yield worker.worker()
    worker.stop()


# ---- one process for many requests


def test_what_is_printed_does_not_block_and_a_large_result_arrives(warm):
    report = run_inside(prints_and_returns, 32 << 20, mode="graph")
    assert report.error is None
    assert report.result.shape == (8 << 20,)


def test_requests_of_several_threads_are_answered_one_after_the_other_by_one_process(warm):
    pid, texts = warm.pid, set()
    assert run_inside(visible_gpus, mode="graph").result == ""

    def ask(path):
        report = build(small(), path, mode="graph", progress=lambda progress: texts.add(progress.text))
        return report.path, report.failed

    with ThreadPoolExecutor() as pool:
        assert [*pool.map(ask, PATHS)] == [(path, None) for path in PATHS]
    assert "waiting for another build of engines" in texts
    assert warm.pid == pid


def test_a_request_that_waits_for_its_turn_can_be_cancelled(warm):
    begun = threading.Event()

    def tell(progress):
        if progress.stage == "tracing":
            begun.set()

    def cancel(progress):
        assert progress.text == "waiting for another build of engines"
        raise Cancelled

    with ThreadPoolExecutor() as pool:
        first = pool.submit(build, own_models.deep(4), "export", progress=tell)
        assert begun.wait(60)
        with pytest.raises(Cancelled):
            build(small(), "export", progress=cancel)
        assert first.result(120).failed is None


# ---- cancelled, interrupted, too slow


@pytest.mark.parametrize(
    ("case", "stage", "error", "limit", "stays"),
    [
        (own_models.deep, "building", Cancelled, 1.0, True),
        pytest.param(own_models.deep, "building", KeyboardInterrupt, 1.0, True, marks=pytest.mark.slow),
        pytest.param(own_models.slow, "tracing", Cancelled, SOON, False, marks=pytest.mark.slow),
    ],
    ids=["while TensorRT builds", "whatever is raised", "while a model is traced"],
)
def test_a_cancelled_build_ends_at_once_and_the_process_stays_or_is_replaced(warm, case, stage, error, limit, stays):
    pid, moments = warm.pid, []

    def tell(progress):
        if progress.stage == stage and (stage != "building" or progress.total):
            moments.append(time.monotonic())
            raise error

    with pytest.raises(error):
        build(case(), "export", progress=tell)
    assert time.monotonic() - moments[0] < limit
    assert is_running(pid) == stays
    assert works()


def test_a_build_that_takes_too_long_is_stopped_and_says_what_to_type(warm):
    pid = warm.pid
    report = build(own_models.slow(), "export", seconds=0.5)
    assert "export took longer than 0.5 s and was stopped; allow more with seconds=" in report.failed
    assert (report.engines, report.calls) == ((), ())
    assert not is_running(pid)
    assert works()


def test_a_paused_process_uses_no_core_and_goes_on_afterwards(warm):
    with ThreadPoolExecutor() as pool:
        with worker.paused():
            used = psutil.Process(warm.pid).cpu_times()
            answer = pool.submit(works)
            time.sleep(0.5)
            assert not answer.done()
            assert psutil.Process(warm.pid).cpu_times() == used
        assert answer.result(60)


def test_no_process_is_started_while_it_is_paused(fresh):
    with ThreadPoolExecutor() as pool:
        with worker.paused():
            starting = pool.submit(fresh.start)
            time.sleep(0.2)
            assert fresh.pid is None
        starting.result(60)
    assert fresh.pid is not None


# ---- a process that ends by itself


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_a_process_that_a_signal_ends_is_an_answer_and_the_next_request_works(warm, number):
    pid = warm.pid
    report = build(own_models.killed(number), "export")
    assert report.failed.startswith(f"the process that built export was ended by {number.name}")
    assert not is_running(pid)
    assert works()


@pytest.mark.slow
def test_a_process_that_exits_or_is_killed_between_two_requests_is_replaced(warm):
    with pytest.raises(EngineProcessError, match=r"^the process that ran exits ended with exit code 3 \(.*\)\.$"):
        run_inside(exits)
    assert works()
    pid = warm.pid
    os.kill(pid, signal.SIGKILL)
    while warm.pid:
        time.sleep(0.02)
    assert works()
    assert warm.pid != pid


@pytest.mark.slow
def test_a_process_that_cannot_start_is_one_sentence(fresh, monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    assert build(small(), "jit").failed == "the process that built jit ended with exit code 3 (no such luck)."


@pytest.mark.slow
def test_a_cache_folder_that_cannot_be_written_is_one_sentence(fresh, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EnginesUnavailable, match=r"^the cache folder .* cannot be written .*set TUTORIAL_LIB_CACHE"):
        build(small(), "export")


# ---- what is sent there

MODEL = """
import torch
from torch import nn
from tutorial_lib import Case, DynamicDim, TensorSpec

FACTOR = 2.0


def scaled(x):
    return torch.relu(x) * FACTOR


class Mine(nn.Module):
    def forward(self, x):
        return scaled(x){more}


def case():
    return Case("mine", Mine(), (TensorSpec("x", (DynamicDim("batch", 2, 4, 8), 3)),))
"""


def test_a_model_of_a_notebook_is_sent_by_value_with_the_names_that_it_uses(warm, path):
    pid, names = warm.pid, {"__name__": "__main__", "__file__": __file__}
    exec(MODEL.format(more=""), names)
    case = names["case"]()
    assert type(case.model).__module__ == "__main__"
    before = build(case, path, [3], mode="graph")
    assert (before.failed, [call.outcome for call in before.calls]) == (None, ["served"])
    again = "from torch import tanh\n\ndef scaled(x):\n    return tanh(torch.relu(x) * FACTOR)"
    exec(again, names)  # the cell is run again, with a name that is new
    after = build(names["case"](), path, mode="graph")
    assert after.failed is None
    assert after.engines[0].operators == before.engines[0].operators + 1
    assert warm.pid == pid


@pytest.mark.slow
def test_a_module_that_was_edited_is_read_again(warm, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "edited_model.py"
    file.write_text(MODEL.format(more=""))
    import edited_model

    before, pid = build(edited_model.case(), "export", mode="graph"), warm.pid
    file.write_text(MODEL.format(more=" + x.abs() - x.exp()"))
    os.utime(file, ns=(time.time_ns(), time.time_ns() + 10**9))
    after = build(edited_model.case(), "export", mode="graph")
    assert after.engines[0].operators > before.engines[0].operators
    assert warm.pid != pid


def test_a_process_that_was_started_in_advance_answers_the_first_request(installed):
    worker.stop()
    worker.worker().start()
    pid = worker.worker().pid
    worker.worker().start()
    assert run_inside(os.getpid).result == worker.worker().pid == pid


def test_a_model_or_an_option_that_cannot_be_sent_is_one_sentence(warm):
    model = torch.nn.ReLU()
    model.lock = threading.Lock()
    report = build(Case("mine", model, (TensorSpec("x", (2, 3)),)), "jit")
    assert re.fullmatch(r"mine cannot be sent .* \(TypeError: .*lock.*\)\.", report.failed)
    assert report.engines == ()
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3))
    report = build(Case("normed", normed, (TensorSpec("input", (2, 3)),)), "jit")
    assert "remove_parametrizations makes it plain" in report.failed
    with_options = build(small(), "jit", options={"lock": threading.Lock()})
    assert "cannot be sent" in with_options.failed


# ---- the reader's process ends, or forks

SCRIPT = f"""
import contextlib, os, sys, time
sys.path.insert(0, {str(HERE)!r})
import own_models
import psutil
from tutorial_lib import engines
from tutorial_lib.engines import worker

def tell(progress):
    if progress.stage == sys.argv[1]:
        print(worker.worker().pid, flush=True)

if __name__ == "__main__":
    if sys.argv[1] == "idle":
        engines.run_inside(os.getpid)
        with worker.paused() if sys.argv[2] == "pause" else contextlib.nullcontext():
            print(worker.worker().pid, flush=True)
            time.sleep(0 if sys.argv[2] == "exit" else 300)
    else:
        engines.build(own_models.slow() if sys.argv[1] == "tracing" else own_models.deep(), "export", progress=tell)
"""


def start_reader(tmp_path, *arguments):
    file = tmp_path / "reader.py"
    file.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    return subprocess.Popen([sys.executable, str(file), *arguments], stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("doing", "how"), [("tracing", "stay"), ("building", "stay"), ("idle", "exit"), ("idle", "pause")]
)
def test_a_process_ends_within_two_seconds_of_its_readers_death_or_end(installed, tmp_path, doing, how):
    with start_reader(tmp_path, doing, how) as reader:
        try:
            pid = int(reader.stdout.readline())
            if how == "exit":
                assert reader.wait(60) == 0
            else:
                assert is_running(pid)
        finally:
            reader.kill()
    assert seconds_until_gone(pid) < SOON


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_of_the_reader_has_no_process_and_leaves_the_readers_alone(warm):
    pid = warm.pid
    forked = os.fork()
    if forked == 0:
        os._exit(0 if worker.worker() is not warm and worker.worker().pid is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    assert warm.pid == pid
    assert works()
    assert warm.pid == pid
