"""The studio without a browser: what is typed and clicked, what code asks for, and that the last request wins."""

import asyncio
import random
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
import torch
from studio_page import PATIENCE, Page, until

from tutorial_lib import PATHS, BuildError, OptionError, PrecisionError, ShapeError, Sweep, engines
from tutorial_lib.builds import backends
from tutorial_lib.builds.backends import BackendUnavailable
from tutorial_lib.core.progress import Progress
from tutorial_lib.engines import EnginesUnavailable
from tutorial_lib.experiments.setting import read_options
from tutorial_lib.measure.sweep import EAGER
from tutorial_lib.studio import Studio, app, cached_runs, display, panel, runner, views
from tutorial_lib.studio.worker import RunCancelled

DRAWN = views.figure, views.charts, views.more
THREADS = {"tutorial_lib studio", "tutorial_lib studio, drawing"}


def idle():
    until(lambda: not runner.WORKER.busy and not app.DRAWER.busy)


def threads():
    return {thread.name for thread in threading.enumerate()} - THREADS


@pytest.fixture(scope="module")
def died():
    """Exceptions that ended threads; at the end, no thread of a studio is left behind."""
    errors, hook, before = [], threading.excepthook, threads()
    threading.excepthook = errors.append
    yield errors
    until(lambda: threads() <= before)
    threading.excepthook = hook


@pytest.fixture(autouse=True)
def orderly(died, monkeypatch):
    """No figures (test_views.py has them). Every test ends idle, and no thread dies of an exception."""
    monkeypatch.setattr(views, "figure", lambda *_: None)
    monkeypatch.setattr(views, "charts", lambda *_: [])
    monkeypatch.setattr(views, "more", lambda *_: [])
    yield
    idle()
    assert died == []


@pytest.fixture
def drawing(monkeypatch):
    for draw in DRAWN:
        monkeypatch.setattr(views, draw.__name__, draw)


@pytest.fixture
def studio(seed):
    """One model on one path; a test that needs the others says so."""
    made = Studio(seed)
    made.set(backend="eager", samples=1, sizes=(1, 4), paths="export")
    yield made
    made.close()


@pytest.fixture
def page(studio):
    return Page(studio)


@pytest.fixture
def two_models(seed, masked, monkeypatch):
    monkeypatch.setattr(app, "MODELS", {"one": lambda: seed, "two": lambda: masked})
    made = Studio(device=seed.device)
    made.set(backend="eager", samples=1, sizes=(1, 4), paths=("input", "export"))
    yield made
    made.close()


# ---- setting ----------------------------------------------------------------------------------------------------


def test_set_types_into_the_page_and_returns_the_setting(studio, page):
    setting = studio.set(
        batch=(2, 3, 6), precision="bf16", paths=("export", "jit"), sizes=[2, 6], samples=2, budget=0.5
    )
    assert setting == studio.setting
    assert (setting.budget, page["seconds"].value) == (0.5, 0.5)
    assert [page[f"batch {end}"].value for end in ("min", "opt", "max")] == [2, 3, 6]
    assert (setting.precision, setting.paths, setting.sizes, setting.samples) == ("bf16", ("jit", "export"), (2, 6), 2)
    assert page["sizes to measure"].value == "2, 6"
    assert [page[path].value for path in PATHS] == [True, False, True]
    for sizes, expected in ((None, (2, 3, 4, 6)), ("2, 6", (2, 6)), (6, (6,)), (range(2, 4), (2, 3))):
        assert studio.set(sizes=sizes).sizes == expected


def test_options_are_typed_as_python(studio, page, inductor):
    setting = studio.set(backend=inductor, options={"cpp.threads": 2, "max_autotune": False})
    assert page["options"].value == "cpp.threads=2, max_autotune=False"
    page["options"].value = "max_autotune=False, cpp.threads=2"
    assert studio.setting == setting


INVALID = [
    ({"batch": (1, 4)}, ShapeError, "(1, 4) is not a range"),
    ({"batch": 4}, ShapeError, "4 is not a range"),
    ({"length": (1, 4, 8)}, ShapeError, "there is no 'length' to set; use batch, model, "),
    ({"rage": "eager"}, ShapeError, "there is no 'rage' to set"),
    ({"race": "aot"}, BackendUnavailable, "'aot'"),
    ({"paths": "aot"}, ShapeError, "'aot'"),
    ({"model": "vit"}, ShapeError, "there is no model 'vit'"),
    ({"precision": "fp64"}, PrecisionError, "fp64"),
    ({"options": {"a": [1]}}, OptionError, "option a is [1]"),
    ({"batch": (1, 4, 10**6), "sizes": ()}, ShapeError, "1 GB"),
    ({"batch": (2, 3, 6), "sizes": (2,), "samples": 0}, ShapeError, "rounds of measuring is 0"),
]


@pytest.mark.parametrize(("changes", "kind", "said"), INVALID)
def test_set_leaves_all_as_it_was_when_a_change_is_invalid(studio, page, changes, kind, said):
    before = page.entries(), page.html
    with pytest.raises(kind, match=re.escape(said)):
        studio.set(**changes)
    assert (page.entries(), page.html) == before


def test_an_invalid_entry_is_a_sentence_and_build_waits_until_it_is_valid(studio, page):
    page["batch opt"].value = 99
    assert page.status == "", "nothing says to press Build"
    page["batch opt"].value = 4
    assert page.status == views.READY
    result = studio.build()
    for label, value, sentence in (
        ("batch opt", 99, "batch: opt is 99, above max 8"),
        ("sizes to measure", "x", "the sizes to measure are 'x'"),
        ("options", "a=1", "eager has no option 'a'"),
        ("export", False, "no path is chosen"),
    ):
        before = page[label].value
        page[label].value = value
        assert page.problem.startswith(f"Not yet: {sentence}")
        assert page["Build"].disabled
        assert page["Build from scratch"].disabled
        assert "these results are for 1 / 4 / 8" in page.stale
        with pytest.raises((ShapeError, OptionError)):
            studio.build()
        page["Build"].click()  # what a browser does not let happen
        studio.wait()
        assert page.status.startswith(sentence)
        page[label].value = before
        assert page.problem == ""
        assert not page["Build"].disabled
        assert page.stale == ""
    assert studio.result is result


@pytest.mark.parametrize(("label", "value"), [("backend", "tensorrt"), ("precision", "tf32")])
def test_what_this_machine_lacks_can_be_selected_and_says_why_not(studio, page, seed, label, value):
    if seed.device.type != "cpu":
        pytest.skip("this machine has a GPU")
    page[label].value = value
    assert page.problem.startswith(f"Not yet: {label} {value}: ")
    assert page["Build"].disabled


def test_sliders_and_the_default_sizes_follow_what_is_typed(studio, page):
    slider, sizes = page["slide batch opt"], page["sizes to measure"]
    assert sizes.placeholder == "automatic: 1, 2, 4, 8"
    slider.value = 6
    assert page["batch opt"].value == 6
    assert studio.setting.label == "1 / 6 / 8"
    studio.set(batch=(10, 20, 30), sizes=())
    assert (slider.min, slider.value, slider.max) == (10, 20, 30)
    assert sizes.placeholder == "automatic: 10, 16, 20, 30"
    studio.set(batch=(1, 1, 1))
    page["batch opt"].value = 50
    assert (slider.min, slider.value) == (1, 1)


def test_options_that_are_shown_as_an_example_exist(studio, page):
    for name in (each.name for each in backends.statuses("cpu") if each.works and each.name != "eager"):
        studio.set(backend=name)
        example = read_options(page["options"].placeholder)
        assert backends.settings(name, torch.device("cpu"), dict(example))
    studio.set(backend="eager")
    assert page["options"].placeholder == "it has none"


def test_another_model_comes_with_its_own_ranges(two_models):
    page = Page(two_models)
    assert page.labels("opt$") == ["batch opt", "slide batch opt"]
    page["model"].value = "two"
    assert page.labels("opt$") == ["batch opt", "slide batch opt", "length opt", "slide length opt"]
    assert page["sizes to measure"].value == ""
    assert two_models.setting.label == "batch 1 / 2 / 4, length 1 / 5 / 9"
    page["length max"].value = 2
    assert "length: opt is 5, above max 2" in page.problem
    two_models.set(model="one", batch=(2, 3, 4))
    assert two_models.setting.label == "2 / 3 / 4"
    assert page.problem == ""


def test_the_tutorials_models_are_offered():
    made = Studio(device="cpu")
    assert {"expand-reshape", "perceptron", "vit"} <= set(Page(made)["model"].options)
    assert made.set(model="perceptron", backend="eager").label == "1 / 64 / 1024"
    made.close()


# ---- building ---------------------------------------------------------------------------------------------------


def test_build_returns_the_result_and_shows_it(studio, page):
    studio.set(paths=tuple(PATHS))
    result = studio.build()
    assert result is studio.result
    assert result.setting == studio.setting
    assert result.sweep.agrees
    assert page.status.startswith("Done in ")
    assert all(f"{path}: " in page.text for path in PATHS)  # what was built
    assert page["Cancel"].disabled
    assert not page["Pin"].disabled
    assert page.stale == ""


def test_results_of_another_setting_are_marked_until_theirs_is_back(studio, page):
    studio.build()
    page["batch opt"].value = 5
    assert page.stale == "Stale: these results are for 1 / 4 / 8, eager fp32. Press Build for the setting above."
    page["batch opt"].value = 4
    assert page.stale == ""
    studio.set(samples=2)
    assert page.stale
    studio.build()
    assert page.stale == ""


def test_a_path_that_fails_fails_build_and_the_others_are_shown(studio, page, broken):
    studio.set(paths=("input", "export"))
    broken("input")
    for fails in (studio.build, studio.wait, lambda: asyncio.run(studio.build_async())):
        with pytest.raises(BuildError, match=r"^input: the path is closed$"):
            fails()
    assert list(studio.result.sweep.table["path"].unique()) == [EAGER, "export"]
    assert page.status.startswith("Done in ")
    assert "input could not be built: the path is closed Details Traceback" in page.status
    assert "input was not built: the path is closed" in page.text
    assert page.stale == ""


def test_where_all_paths_fail_the_last_good_result_stays(studio, page, broken):
    good = studio.build()
    broken(*PATHS)
    studio.set(batch=(1, 5, 8), paths=("input", "export"))
    with pytest.raises(BuildError, match="input: the path is closed; export: "):
        studio.build()
    assert studio.result is good
    assert "these results are for 1 / 4 / 8" in page.stale
    assert page.status.startswith("input could not be built")


def test_an_exception_of_the_worker_reaches_build_wait_and_snapshot(studio, page, monkeypatch):
    good = studio.build()
    with monkeypatch.context() as patch:
        patch.setattr(cached_runs, "run", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("boom")))
        for fails in (lambda: studio.build(fresh=True), studio.wait, studio.snapshot):
            with pytest.raises(RuntimeError, match="boom"):
                fails()
        assert page.status.startswith("Not measured: RuntimeError: boom Details Traceback")
        assert page["Cancel"].disabled
    assert studio.result is good
    assert studio.build() is good  # reused: what failed before is over
    assert studio.snapshot().result is good


def test_a_cached_result_is_there_at_once_unless_it_is_built_from_scratch(studio, page, builds):
    first = studio.build()
    studio.set(batch=(1, 5, 8))
    studio.build()
    studio.set(batch=(1, 4, 8))
    assert studio.build() is first
    assert page.status == f"Reused: built and measured at {runner.when(first)}."
    assert builds == {"export": 2}
    assert studio.build(fresh=True) is not first
    page["Build from scratch"].click()
    studio.wait()
    assert builds == {"export": 4}


def test_of_two_clicks_at_once_the_second_counts_whichever_arrives_first(studio, page, builds, monkeypatch):
    monkeypatch.setattr(app, "SETTLE", 0.2)
    page["Build from scratch"].click()
    monkeypatch.setattr(app, "SETTLE", 0)
    page["Build"].click()
    studio.wait()
    result = studio.result
    time.sleep(0.3)  # the first click would act now
    idle()
    assert studio.result is result
    assert builds == {"export": 1}


def test_the_same_setting_is_not_started_again(studio, held):
    job = studio.start()
    assert held.begun.wait(PATIENCE)
    assert studio.start() is job
    held.go.set()
    studio.wait(PATIENCE)
    assert held.runs == 1


either = pytest.mark.parametrize("held", [True, False], ids=["stoppable", "unstoppable"], indirect=True)
unstoppable = pytest.mark.parametrize("held", [False], ids=["unstoppable"], indirect=True)


@either
def test_the_newest_of_three_settings_wins(studio, page, held):
    old = studio.start()
    assert held.begun.wait(PATIENCE)
    studio.set(batch=(1, 5, 8))
    replaced = studio.start()
    if not held.stoppable:
        assert "these results are for 1 / 4 / 8, eager fp32. New ones are on their way." in page.stale
    studio.set(batch=(1, 6, 8))
    newest = studio.start()
    held.go.set()
    assert newest.result(PATIENCE) is studio.result
    for job in (old, replaced):
        with pytest.raises(RunCancelled):
            job.result(PATIENCE)
    assert studio.result.label.startswith("1 / 6 / 8")
    assert page.stale == ""


def test_a_new_curve_is_drawn_at_once_and_a_browser_gets_time_only_between_rounds(studio, monkeypatch):
    monkeypatch.setattr(runner, "REDRAW", float("inf"))
    shown, events, table = [], [], views.table

    def draws(result, behind):
        shown.append(result)
        events.append(tuple(result.sweep.table["path"].unique()))
        return table(result, behind)

    monkeypatch.setattr(views, "table", draws)
    monkeypatch.setattr(runner, "REST", 0.123)
    sleep = time.sleep
    monkeypatch.setattr(
        runner.time, "sleep", lambda seconds: events.append("rest") if seconds == 0.123 else sleep(seconds)
    )
    studio.set(paths=("input", "export"))
    result = studio.build()
    eager, first, both = (EAGER,), (EAGER, "input"), (EAGER, "input", "export")
    assert events == [eager, first, both, "rest", both]
    assert shown[-1] is result
    assert not any(each.final for each in shown[:-1])


# ---- two backends -----------------------------------------------------------------------------------------------


@pytest.fixture
def racing(studio):
    """The studio with eager as its backend and openvino beside it, and the backends in the order of their runs."""
    pytest.importorskip("openvino")
    if studio._runs.device.type != "cpu":
        pytest.skip("OpenVINO runs on the CPU")
    order, run = [], studio._runs.run

    def noted(setting, **more):
        order.append(setting.backend)
        return run(setting, **more)

    studio._runs.run = noted
    studio.set(race="openvino", engines=False)
    return studio, order


def test_two_backends_run_one_after_the_other_and_both_are_named(racing, page):
    studio, order = racing
    result = studio.build()
    assert (result.backend, studio.result.backend, studio.race.backend) == ("eager", "eager", "openvino")
    assert order == ["eager", "openvino"]
    assert result.setting == studio.setting
    assert page.stale == ""
    assert "Faint rows are other results (openvino: 1 / 4 / 8, openvino fp32)" in page.text
    assert [name for name, _ in studio._display.behind()] == [f"openvino: {studio.race.label}"]
    order.clear()
    assert studio.build() is result, "both are there already"
    assert (order, studio.race.backend) == ([], "openvino")
    for none in ("eager", ""):
        studio.set(race=none)
        studio.build()
        assert studio.race is None


def test_the_backend_that_builds_sooner_comes_first_whichever_is_chosen(racing, page, monkeypatch):
    studio, order = racing
    monkeypatch.setattr(runner, "REDRAW", 0)
    monkeypatch.setattr(runner, "REST", 0)
    drawn, table = [], views.table

    def draws(result, behind):
        drawn.append((result.backend, [each.backend for _, each in behind], page.stale))
        return table(result, behind)

    monkeypatch.setattr(views, "table", draws)
    studio.set(backend="openvino", race="eager")
    assert studio.build().backend == "openvino"
    assert order == ["eager", "openvino"]
    assert drawn[0] == ("eager", [], ""), "it is no result of another setting"
    assert drawn[-1] == ("openvino", ["eager"], "")
    first = [backend for backend, *_ in drawn].index("openvino")
    assert {(tuple(behind), stale) for _, behind, stale in drawn[first:]} == {(("eager",), "")}


def test_a_race_that_is_cancelled_keeps_what_was_complete(racing, page):
    studio, _ = racing
    run, begun = studio._runs.run, threading.Event()

    def stuck(setting, tell, **more):
        while setting.backend == "openvino":
            more["show"](replace(studio.result, setting=setting, final=False))
            begun.set()
            tell(0.5, "building")
            time.sleep(0.01)
        return run(setting, tell=tell, **more)

    studio._runs.run = stuck
    job = studio.start()
    assert begun.wait(PATIENCE)
    until(lambda: "openvino: building" in page.status)
    assert studio.race.setting.backend == "openvino"
    studio.cancel()
    with pytest.raises(RunCancelled):
        job.result(PATIENCE)
    assert studio.result.backend == "eager"
    assert studio.race is None


def test_a_path_that_one_of_two_backends_cannot_build_is_said_with_its_name(racing, page, monkeypatch):
    studio, _ = racing
    export = PATHS["export"]

    def closed(case, backend, options):
        if backend == "openvino":
            raise BuildError("the path is closed")
        return export(case, backend, options)

    monkeypatch.setitem(PATHS, "export", closed)
    assert studio.build().backend == "eager"
    assert "export with openvino could not be built: the path is closed" in page.status


# ---- cancelling -------------------------------------------------------------------------------------------------


@either
def test_cancel_says_so_at_once_and_keeps_the_last_good_result(studio, page, held):
    held.go.set()
    good = studio.build()
    held.hold()
    studio.set(batch=(1, 5, 8))
    job = studio.start()
    assert held.begun.wait(PATIENCE)
    page["Cancel"].click()
    assert page.status.startswith("Cancelled")
    assert page["Cancel"].disabled
    if not held.stoppable:
        assert "may still be finishing; its result is discarded" in page.status
        assert not job.done()
        held.go.set()
    for wait in (lambda: job.result(PATIENCE), studio.wait):
        with pytest.raises(RunCancelled):
            wait()
    until(lambda: page.status == "Cancelled.")
    assert studio.result is good
    assert "these results are for 1 / 4 / 8" in page.stale
    held.go.set()
    assert studio.build().setting == studio.setting


@unstoppable
def test_a_new_run_after_a_cancelled_one_ends_as_its_own(studio, page, held):
    studio.start()
    assert held.begun.wait(PATIENCE)
    studio.cancel()
    job = studio.start()
    held.go.set()
    assert job.result(PATIENCE) is studio.result
    idle()
    assert page.status.startswith("Done in ")


def test_a_first_look_goes_away_with_its_cancelled_run(studio, page, held, monkeypatch):
    monkeypatch.setattr(runner, "REST", 0)
    studio.start()
    assert held.begun.wait(PATIENCE)
    assert "eager ms" in page.text
    studio.cancel()
    assert "eager ms" not in page.text
    assert "Nothing is built yet." in page.text
    assert page["Pin"].disabled


def test_every_tab_says_what_to_do_before_the_first_build(studio, page):
    tabs = dict(zip(panel.TABS, page.tabs.children, strict=True))
    for name in ("Results", "Speed-up and build", "What was built", "Take it with you"):
        assert any("Nothing is built yet" in getattr(child, "value", "") for child in tabs[name].children), name


def test_a_screen_reader_hears_each_stage_once_and_never_the_clock(studio, monkeypatch):
    heard, told = [], []
    line = studio._panel.status
    line.observe(lambda change: told.append(change["new"]), "value")
    monkeypatch.setattr(runner, "TELL", 0.0)
    studio.build()
    for html in told:
        heard += re.findall(r'role="status">(.*?)</span>', html)
        assert not re.search(r'role="status">[^<]*\d\.\d s<', html.replace("Done in", "")), "the clock"
    assert len(heard) == len(set(heard)) < len(told)


def test_cancel_without_a_run_changes_nothing(studio, page):
    studio.cancel()
    assert page.status == views.READY
    result = studio.build()
    studio.cancel()
    assert page.status.startswith("Done in ")
    studio.wait()
    assert studio.result is result


def test_a_click_that_is_cancelled_before_it_began_never_begins(studio, page, builds):
    page["Build"].click()
    studio.cancel()
    time.sleep(2 * app.SETTLE)
    idle()
    assert builds == {}
    assert studio.result is None


INTERRUPTED = f"""
import signal, sys, threading
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}
from studio_page import Held, Page, PATIENCE, until
from tutorial_lib import PATHS, Case, DynamicDim, TensorSpec
from tutorial_lib.studio import Studio
from torch import nn

# A process that a shell started in the background ignores this signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
PATHS["export"] = held = Held(PATHS["export"])
studio = Studio(Case("linear", nn.Linear(4, 4), (TensorSpec("input", (DynamicDim("batch", 1, 4, 8), 4)),)))
studio.set(backend="eager", engines=False)

def interrupt():
    held.begun.wait(PATIENCE)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    studio.build()
except KeyboardInterrupt:
    until(lambda: Page(studio).status == "Cancelled.")
    print("cancelled", studio.result)
"""


@pytest.mark.slow
def test_an_interrupt_during_build_cancels_the_run():
    ran = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120)
    assert ran.stdout == "cancelled None\n", ran.stderr


def test_build_async_leaves_the_event_loop_alive(studio, page, held):
    async def both():
        async def types():
            while not held.begun.is_set():
                await asyncio.sleep(0.001)
            page["batch opt"].value = 5
            held.go.set()

        return await asyncio.gather(studio.build_async(), types())

    result, _ = asyncio.run(both())
    assert result is studio.result
    assert "these results are for 1 / 4 / 8" in page.stale


def test_a_build_async_that_is_no_longer_awaited_cancels_the_run_and_the_page_says_so(studio, page, held):
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(studio.build_async(), 0.2))
    until(lambda: page.status == "Cancelled.")
    assert page["Cancel"].disabled
    assert studio.result is None


def test_closing_a_studio_stops_its_run(studio, held):
    job = studio.start()
    assert held.begun.wait(PATIENCE)
    studio.close()
    with pytest.raises(RunCancelled):
        job.result(PATIENCE)


# ---- pins -------------------------------------------------------------------------------------------------------


def test_a_pinned_result_stays_and_can_be_restored(studio, page):
    first = studio.build()
    page["Pin"].click()
    assert studio.pins == {"A": first}
    assert studio.pin() == "A"  # it is pinned already
    studio.set(batch=(1, 5, 8), sizes=(2, 5))
    second = studio.build()
    assert studio.pin() == "B"
    assert page.labels(" [AB]$") == ["Back to A", "Unpin A", "Back to B", "Unpin B"]
    page["batch opt"].value = 99  # restoring takes it away
    assert studio.restore("A") is first
    assert (studio.setting, studio.result, page.problem, page.stale) == (first.setting, first, "", "")
    page["Back to B"].click()
    assert (studio.setting, studio.result) == (second.setting, second)
    page["Unpin B"].click()
    assert list(studio.pins) == ["A"]
    assert studio.result is second
    studio.unpin("A")
    assert studio.pins == {}
    assert page.labels(" [AB]$") == []


def test_a_click_while_code_writes_the_entries_is_not_lost(studio, page):
    result = studio.build()
    clicked = threading.Thread(target=page["Pin"].click)
    with studio._lock, studio._form.quiet():  # as `studio.set` in a cell
        clicked.start()
        clicked.join(0.2)
    clicked.join(PATIENCE)
    assert studio.pins == {"A": result}


def test_a_pin_of_another_model_brings_the_model_back(two_models):
    page, result = Page(two_models), two_models.build()
    two_models.pin()
    two_models.set(model="two", paths="export")
    two_models.build()
    two_models.restore("A")
    assert two_models.setting == result.setting
    assert page["model"].value == "one"
    assert page.labels("opt$") == ["batch opt", "slide batch opt"]
    assert page.stale == ""


def test_pins_are_few(studio, page, monkeypatch):
    monkeypatch.setattr(display, "PINS", 1)
    studio.build()
    studio.pin()
    studio.build(fresh=True)
    with pytest.raises(ShapeError, match="1 results are pinned"):
        studio.pin()
    page["Pin"].click()
    assert "unpin one first" in page.status
    studio.unpin("A")
    assert studio.pin() == "A"


def test_what_is_not_there_is_refused(studio, tmp_path):
    for do in (lambda: studio.unpin("C"), lambda: studio.restore("C")):
        with pytest.raises(ShapeError, match="'C'"):
            do()
    for do in (studio.pin, studio.snapshot, lambda: studio.save(tmp_path)):
        with pytest.raises(ShapeError, match="no result"):
            do()


@unstoppable
def test_restoring_a_pin_cancels_the_run(studio, page, held):
    held.go.set()
    first = studio.build()
    studio.pin()
    held.hold()
    studio.set(batch=(1, 5, 8))
    job = studio.start()
    assert held.begun.wait(PATIENCE)
    assert studio.restore("A") is first
    held.go.set()
    with pytest.raises(RunCancelled):
        job.result(PATIENCE)
    idle()
    assert (studio.result, studio.setting, page.stale) == (first, first.setting, "")
    assert page.status.startswith("Reused: ")


# ---- asking -----------------------------------------------------------------------------------------------------


def test_ask_answers_for_the_shown_result_or_else_for_the_page(studio, page, monkeypatch):
    monkeypatch.setattr(display, "QUESTIONS", 2)
    assert {answer.outcome for answer in studio.ask(3)} == {"served"}
    studio.build()
    studio.set(batch=(1, 20, 40))
    assert {answer.outcome for answer in studio.ask(20)} == {"refused"}
    assert {answer.outcome for answer in studio.ask(8)} == {"served"}
    assert re.findall(r"batch (\d+) export (\w+)", page.text) == [("8", "served"), ("20", "refused")]


def test_the_button_asks_with_what_may_happen_outside_and_says_what_cannot_be_asked(studio, page):
    page["size"].value, page["outside the range"].value = 12, "run it in PyTorch"
    page["Ask"].click()
    until(lambda: "without compiling, as asked" in page.text)
    page["size"].value = 0
    page["Ask"].click()
    until(lambda: "batch is 0; the smallest size is 1." in page.text)


def test_a_question_waits_for_a_run_and_does_not_end_it(studio, page, held):
    job = studio.start()
    assert held.begun.wait(PATIENCE)
    page["size"].value = 3
    page["Ask"].click()
    assert "waiting for another run" in page.text
    held.go.set()
    assert job.result(PATIENCE).sweep.agrees
    until(lambda: "batch 3 export served" in page.text)


# ---- TensorRT's engines -----------------------------------------------------------------------------------------

ENGINES = "TensorRT's engines (built, not run)"
CALLS = "sizes to call them at"
OTHERS = "Build with other sizes of max"
ENGINES_TAB = display.ENGINES_TAB


@pytest.fixture
def with_engines(seed, builder):
    """A studio where TensorRT is installed, with its tab in front."""
    made = Studio(seed)
    made.set(backend="eager", samples=1, sizes=(1, 4), paths="export")
    Page(made).tabs.selected_index = ENGINES_TAB
    yield made
    made.close()


def test_without_the_builder_the_tab_says_how_to_get_it_and_measuring_goes_on(studio, page):
    page.tabs.selected_index = ENGINES_TAB
    assert page[ENGINES].disabled
    assert not studio.setting.engines
    sentence = "TensorRT for RTX is not installed; run it."
    for act in (lambda: studio.set(engines=True), studio.engines_over_max):
        with pytest.raises(EnginesUnavailable, match=sentence):
            act()
    result = studio.build()
    assert result.engines == ()
    assert result.sweep.agrees
    assert f"No TensorRT engine here: {sentence}" in page.text
    page[OTHERS].click()
    assert page.status == sentence


def test_build_builds_the_engines_first_and_the_tab_shows_them(with_engines, builder, held):
    page = Page(with_engines)
    assert page[ENGINES].value
    job = with_engines.start()
    assert held.begun.wait(PATIENCE)
    assert builder == [("export", "1/4/8", ())]
    assert not job.done()
    held.go.set()
    result = job.result(PATIENCE)
    assert [report.engines[0].plan.activation_bytes for report in result.engines] == [8_000_000]
    idle()
    assert "export: built by TensorRT for RTX 1.5.0.114, not run" in page.text
    assert "8 MB" in page.text


def test_the_switch_is_part_of_the_setting_and_is_restored_with_it(with_engines, builder):
    page = Page(with_engines)
    with_engines.build()
    letter = with_engines.pin()
    page[ENGINES].value = False
    assert page[CALLS].disabled
    assert not with_engines.setting.engines
    assert page.stale
    sweep = with_engines.result.sweep
    assert with_engines.build().engines == ()
    assert with_engines.result.sweep is sweep, "nothing was measured again"
    assert "not asked for" in page.text
    with_engines.restore(letter)
    assert page[ENGINES].value
    assert with_engines.build().engines != ()
    assert len(builder) == 1


def test_curves_are_not_drawn_again_where_only_the_engines_changed(with_engines, monkeypatch):
    with_engines.build()
    before, drawn = Page(with_engines).html, []
    monkeypatch.setattr(views, "charts", lambda result, behind: drawn.append(result) or [])
    with_engines.set(engines=False)
    with_engines.build()
    assert drawn == []
    assert before.count("<img") == Page(with_engines).html.count("<img")
    with_engines.set(sizes=(1, 8))
    with_engines.build()
    assert drawn


def test_engines_are_called_at_the_sizes_that_are_typed(with_engines, builder):
    page = Page(with_engines)
    page[CALLS].value = "1, 33"
    assert with_engines.setting.calls == (1, 33)
    with_engines.build()
    assert builder == [("export", "1/4/8", (1, 33))]
    page[CALLS].value = "many"
    assert "the sizes to call TensorRT's engines at are 'many'" in page.problem
    page[ENGINES].value = False
    assert page.problem == ""


def test_what_max_does_to_memory_is_built_on_request_and_drawn(with_engines, builder):
    with_engines.build()
    reports = with_engines.engines_over_max()
    assert [each.engines[0].data[0].max[0] for each in reports] == [8, 16, 4, 32]
    assert [batch for _, batch, _ in builder] == ["1/4/8", "1/4/16", "1/4/4", "1/4/32"]
    idle()
    page = Page(with_engines)
    assert "export: 4 MB at 4, 8 MB at 8, 16 MB at 16, 32 MB at 32" in page.html
    assert len(with_engines.engines_over_max(64)) == 5
    with pytest.raises(ShapeError, match="there is no dimension 'length'; use batch"):
        with_engines.engines_over_max(64, dim="length")
    with pytest.raises(ShapeError):
        with_engines.engines_over_max(2)
    page[OTHERS].click()
    idle()
    assert len(builder) == 5, "all of them were there"


@pytest.fixture
def endless(builder, monkeypatch):
    """``with endless():`` TensorRT builds without end, until it is cancelled; it has begun once this says so."""

    @contextmanager
    def stuck():
        begun = threading.Event()

        def build(path, progress):
            begun.set()
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                progress(Progress("building", 45, 100, "TensorRT chooses tactics"))
                time.sleep(0.01)

        with monkeypatch.context() as patch:
            patch.setattr(engines, "prepare", lambda *_: build)
            yield begun

    return stuck


def test_building_with_other_sizes_of_max_is_cancelled_by_a_click_and_by_a_new_run(with_engines, endless):
    page = Page(with_engines)
    with_engines.build()
    for stop in (page["Cancel"].click, lambda: with_engines.start(fresh=True)):
        with endless() as begun:
            page[OTHERS].click()
            assert begun.wait(PATIENCE)
            assert not page["Cancel"].disabled
            until(lambda: "max 16, export: TensorRT chooses tactics" in page.text)
        stop()
        until(lambda: "Cancelled." in page.text and "chooses tactics" not in page.text)
        with_engines.wait(PATIENCE)
        idle()
        assert page["Cancel"].disabled


def test_cancelling_while_engines_are_built_leaves_the_studio_usable(with_engines, endless):
    page = Page(with_engines)
    with endless() as begun:
        job = with_engines.start()
        assert begun.wait(PATIENCE)
        until(lambda: "export: TensorRT chooses tactics, 45 %" in page.status)
        page["Cancel"].click()
        with pytest.raises(RunCancelled):
            job.result(PATIENCE)
    assert with_engines.build().engines != ()


def test_two_pinned_settings_are_compared(with_engines):
    page = Page(with_engines)
    assert page["compare"].options == (("what is shown", ""),)
    with_engines.build()
    with_engines.pin()
    with_engines.set(batch=(1, 4, 16))
    with_engines.build()
    with_engines.pin()
    idle()
    assert (page["compare"].value, page["with"].value) == ("A", "")
    assert "From A: 1 / 4 / 8, eager fp32 to shown: 1 / 4 / 16, eager fp32 ;" in page.text
    assert "8 MB 16 MB 2.00x" in page.text
    page["compare"].value, page["with"].value = "B", "A"
    idle()
    assert "16 MB 8 MB 0.50x" in page.text
    with_engines.unpin("A")
    idle()
    assert page["with"].value == ""
    with_engines.unpin("B")
    idle()
    assert "From " not in page.text


def test_showing_the_panel_starts_what_the_first_build_needs(with_engines, monkeypatch):
    wanted = []
    monkeypatch.setattr(runner, "warm_up", wanted.append)
    with_engines._repr_mimebundle_()
    idle()
    with_engines.set(engines=False)
    with_engines._repr_mimebundle_()
    idle()
    assert wanted == [True, False]


# ---- taking along -----------------------------------------------------------------------------------------------


def test_the_script_is_python_of_the_setting_in_the_page(studio, page):
    studio.set(batch=(2, 5, 7), sizes=())
    code = studio.script()
    compile(code, "script", "exec")
    assert '"batch": (2, 5, 7)' in code
    page["batch opt"].value = 99
    with pytest.raises(ShapeError, match="opt is 99"):
        studio.script()


def test_save_writes_results_figures_and_script(studio, tmp_path, drawing, monkeypatch):
    result = studio.build()
    folder = tmp_path / "new" / "folder"
    files = studio.save(folder)
    assert sorted(files) == sorted(folder.iterdir())
    by = {file.suffix: file for file in files}
    assert {file.stem for file in files} == {"expand-reshape-eager"}
    assert Sweep.from_json(by[".json"]).verdict == result.sweep.verdict
    assert len(pd.read_csv(by[".csv"])) == len(result.sweep.table)
    assert by[".png"].read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(by[".svg"]).getroot().tag.endswith("svg")
    compile(by[".py"].read_text(), "script", "exec")
    contents = {file: file.read_bytes() for file in files}
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device"):
        studio.save(folder)
    assert {file: file.read_bytes() for file in folder.iterdir()} == contents  # whole or not at all


def test_a_snapshot_is_of_the_result_and_its_pins(studio):
    first = studio.build()
    studio.pin()
    studio.set(batch=(1, 5, 8))
    second = studio.build()
    snapshot = studio.snapshot()
    assert (snapshot.result, [result for _, result in snapshot.behind]) == (second, [first])
    assert str(snapshot).startswith("Latency and agreement over batch")


def test_figures_and_downloads_are_drawn_when_their_tab_is_looked_at(studio, page, drawing):
    studio.build()
    assert page.html.count("<img") == 2
    page.tabs.selected_index = display.MORE_TAB
    until(lambda: page.html.count("<img") == 4)
    assert "download=" not in page.html
    page.tabs.selected_index = display.DOWNLOADS_TAB
    until(lambda: "download=" in page.html)
    assert "Copy as script" in page.text
    assert {"JSON", "CSV", "SVG", "PNG"} <= set(re.findall(r">(\w+)</a>", page.html))


# ---- together ---------------------------------------------------------------------------------------------------


def test_two_studios_take_turns_and_cancel_only_their_own_run(studio, masked, held):
    other = Studio(masked)
    other.set(backend="eager", samples=1, paths="export")
    job = studio.start()
    assert held.begun.wait(PATIENCE)
    waiting = other.start()
    assert "waiting for another run" in Page(other).status
    studio.cancel()
    held.go.set()
    assert waiting.result(PATIENCE) is other.result
    with pytest.raises(RunCancelled):
        job.result(PATIENCE)
    assert studio.result is None
    jobs = studio.start(), other.start(fresh=True)
    assert [each.result(PATIENCE) for each in jobs] == [studio.result, other.result]
    assert studio.result.setting.model != other.result.setting.model
    other.close()


def test_two_hundred_random_operations_end_idle_with_the_last_request(builder, two_models, monkeypatch, builds):
    monkeypatch.setattr(app, "SETTLE", 0.001)
    chance, page = random.Random(7), Page(two_models)

    def valid():
        low = chance.randint(1, 3)
        dims = [label.removesuffix(" min") for label in page.labels(" min$")]
        ranges = dict.fromkeys(dims, (low, chance.randint(low, 4), chance.randint(4, 6)))
        two_models.set(**ranges, sizes=(), paths=chance.sample(list(PATHS), chance.randint(1, 3)))

    def invalid():
        changes = chance.choice([{"batch": (5, 4, 8)}, {"paths": ()}, {"backend": "x"}, {"options": {"a": 1}}])
        with pytest.raises((ShapeError, BackendUnavailable, OptionError)):
            two_models.set(**changes)

    def types():
        page[chance.choice(page.labels("^(batch|length) (min|opt|max)$"))].value = chance.randint(-1, 9)

    def path():
        page[chance.choice(list(PATHS))].value = chance.random() < 0.8

    def slides():
        slider = page[chance.choice(page.labels("^slide"))]
        slider.value = chance.randint(slider.min, slider.max)

    def model():
        page["model"].value = chance.choice(["one", "two"])

    def pins():
        if two_models.pins and chance.random() < 0.5:
            chance.choice([two_models.unpin, two_models.restore])(chance.choice(list(two_models.pins)))
        else:
            page["Pin"].click()

    def asks():
        page["size"].value = chance.randint(0, 12)
        page["outside the range"].value = chance.choice(page["outside the range"].options)
        page["Ask"].click()

    def tab():
        page.tabs.selected_index = chance.randrange(len(panel.TABS))

    def pause():
        time.sleep(chance.random() * 0.1)

    def click():
        labels = ["Build", "Build", "Build", "Build from scratch", "Cancel", OTHERS]
        page[chance.choice(labels)].click()

    operations = [valid, valid, types, invalid, path, slides, model, pins, asks, tab, pause, pause, *[click] * 7]
    for _ in range(200):
        chance.choice(operations)()
    two_models.set(model="one", batch=(1, 5, 8), paths=tuple(PATHS), sizes=(2,))
    page["Build"].click()
    two_models.wait(PATIENCE)
    idle()
    assert two_models.result.setting == two_models.setting
    assert two_models.result.label.startswith("1 / 5 / 8")
    assert two_models.result.sweep.agrees
    assert page.stale == ""
    assert page.status.startswith(("Done in ", "Reused: "))
    assert page["Cancel"].disabled
    assert not page["Build"].disabled
    assert two_models.snapshot().result is two_models.result  # no error is left
    assert builds.keys() == PATHS.keys()


# ---- experiments ------------------------------------------------------------------------------------------------


def test_an_experiment_gives_its_result_beside_the_panel_which_stays_as_it_was(studio, page):
    studio.set(batch=(2, 3, 6), sizes=())
    before = page.entries()
    trial = studio.experiment(batch=(1, 4, 8), backend="eager", paths=["jit"], sizes=[1, 4], samples=1, budget=0)
    result = trial.result()
    assert (result.setting.ranges_text, result.setting.paths) == ("batch 1/4/8", ("jit",))
    assert page.entries() == before
    assert studio.result is None
    assert trial.result() is result
    assert [answer.outcome for answer in trial.ask(99)] == ["refused"]
    other = studio.experiment(batch=(1, 2, 8), backend="eager", paths=["jit"], sizes=[1, 4], samples=1, budget=0)
    assert other.snapshot(trial).behind == ((f"A: {result.label}", result),)


def test_an_experiment_is_set_and_built_in_the_panel_by_its_buttons(studio, page):
    trial = studio.experiment(batch=(2, 4, 8), backend="eager", paths=["jit"], sizes=[2, 4], samples=1, budget=0)
    assert "batch 2 / 4 / 8; backend eager; paths jit; sizes 2, 4; samples 1; budget 0." in repr(trial)
    buttons = {button.description: button for button in trial.root.children[1].children[1].children}
    buttons["Set it for me"].click()
    assert page["batch min"].value == 2
    assert studio.result is None
    buttons["Set it and build"].click()
    studio.wait()
    assert trial.result() is studio.result


def test_an_experiment_that_cannot_be_built_says_why(studio):
    trial = studio.experiment(batch=(4, 2, 8))
    for said in (trial.set(), trial.build(), trial.told.value):
        assert "opt is 2" in said
    with pytest.raises(ShapeError):
        trial.result()
