"""The studio without a browser: what is typed and clicked, what code asks for, and that the last request wins."""

import asyncio
import random
import re
import signal
import threading
import time
from collections import Counter
from xml.etree import ElementTree

import pandas as pd
import pytest

from tutorial_lib import PATHS, BuildError, OptionError, PrecisionError, ShapeError, Sweep, engines
from tutorial_lib.builds.backends import BackendUnavailable
from tutorial_lib.core import progress
from tutorial_lib.engines import EnginesUnavailable
from tutorial_lib.measure.sweep import EAGER
from tutorial_lib.studio import Studio, app, runner, views
from tutorial_lib.studio import bench as bench_module
from tutorial_lib.studio import display as display_module
from tutorial_lib.studio.bench import Bench
from tutorial_lib.studio.worker import RunCancelled

PATIENCE = 60
THREADS = {"tutorial_lib studio", "tutorial_lib studio, drawing"}
DRAWN = views.figure, views.more


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def idle():
    until(lambda: not runner.WORKER.busy and not app.DRAWER.busy)


def threads():
    return {thread.name for thread in threading.enumerate()} - THREADS


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No figures (they are tested in test_studio_views.py), and no long measuring."""
    monkeypatch.setattr(bench_module, "MIN_SECONDS", 0)
    monkeypatch.setattr(bench_module, "WORTH_A_LOOK", float("inf"))
    for name in ("figure", "more"):
        drawn = lambda *_: None  # noqa: E731
        drawn.__name__ = name
        monkeypatch.setattr(views, name, drawn)


@pytest.fixture
def drawing(monkeypatch):
    for draw in DRAWN:
        monkeypatch.setattr(views, draw.__name__, draw)


@pytest.fixture(scope="module")
def died():
    """Exceptions that ended threads; at the end, no thread of a studio is left behind."""
    found, hook, before = [], threading.excepthook, threads()
    threading.excepthook = found.append
    yield found
    until(lambda: threads() <= before)
    threading.excepthook = hook


@pytest.fixture(autouse=True)
def orderly(died):
    """Every test ends with nothing at work, and no thread dies of an exception."""
    yield
    idle()
    assert died == []


@pytest.fixture
def studio(seed):
    made = Studio(seed)
    made.set(backend="eager", samples=1, sizes=(1, 4))
    yield made
    made.close()


@pytest.fixture
def both(seed, masked, monkeypatch):
    """A studio of two models."""
    monkeypatch.setattr(app, "MODELS", {"one": lambda: seed, "two": lambda: masked})
    made = Studio(device=seed.device)
    made.set(backend="eager", samples=1, sizes=(1, 4))
    yield made
    made.close()


@pytest.fixture
def builds(monkeypatch):
    """How often each path was built."""
    counted = Counter()

    def counting(path, build):
        def counts(*arguments):
            counted[path] += 1
            return build(*arguments)

        return counts

    for path, build in PATHS.items():
        monkeypatch.setitem(PATHS, path, counting(path, build))
    return counted


class Slow:
    """The jit path, which goes on and on until it is let go, or (if it can be stopped) cancelled."""

    def __init__(self, stoppable):
        self.stoppable, self.build = stoppable, PATHS["jit"]
        self.begun, self.go, self.runs = threading.Event(), threading.Event(), 0

    def __call__(self, *arguments):
        self.runs += 1
        self.begun.set()
        deadline = time.monotonic() + PATIENCE
        while not self.go.wait(0.005):
            assert time.monotonic() < deadline
            if self.stoppable:
                progress.stage("compiling without end")
        return self.build(*arguments)


@pytest.fixture(params=[True, False], ids=["stoppable", "unstoppable"])
def slow(request, monkeypatch):
    made = Slow(request.param)
    monkeypatch.setitem(PATHS, "jit", made)
    yield made
    made.go.set()


@pytest.fixture
def stoppable(monkeypatch):
    made = Slow(True)
    monkeypatch.setitem(PATHS, "jit", made)
    yield made
    made.go.set()


def broken(monkeypatch, *paths):
    def fails(*_):
        raise BuildError("the path is closed")

    for path in paths:
        monkeypatch.setitem(PATHS, path, fails)


def entry(studio, end, name="batch"):
    return studio._panel.ranges[name].entries[end]


def text(widget):
    """What a reader sees of an HTML widget."""
    return " ".join(re.sub(r"<[^>]+>", " ", widget.value).split()).replace("&#x27;", "'")


def stale(studio):
    assert ("tl-stale" in studio._panel.tabs._dom_classes) == bool(studio._panel.stale.value)
    return text(studio._panel.stale)


def typed(studio):
    return {**studio._form.values(), "problem": studio._panel.problem.value, "stale": studio._panel.stale.value}


# ---- setting ----------------------------------------------------------------------------------------------------


def test_set_types_into_the_panel_and_gives_what_it_comes_to(studio):
    setting = studio.set(batch=(2, 3, 6), precision="bf16", paths=("export", "jit"), sizes=[2, 6], samples=2)
    assert setting == studio.setting
    assert setting.label == "2 / 3 / 6"
    assert [entry(studio, end).value for end in ("min", "opt", "max")] == [2, 3, 6]
    assert (setting.precision, setting.paths, setting.sizes, setting.samples) == ("bf16", ("jit", "export"), (2, 6), 2)
    assert studio._panel.sizes.value == "2, 6"
    assert [box.value for box in studio._panel.paths.values()] == [True, False, True]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [(None, (1, 2, 4, 8)), ("", (1, 2, 4, 8)), ("2, 8", (2, 8)), (8, (8,)), (range(2, 4), (2, 3))],
)
def test_sizes_may_be_given_as_they_are_typed(studio, sizes, expected):
    assert studio.set(sizes=sizes).sizes == expected


def test_options_may_be_given_as_they_are_typed(studio, inductor):
    setting = studio.set(backend=inductor, options={"cpp.threads": 2, "max_autotune": False})
    assert studio._panel.options.value == "cpp.threads=2, max_autotune=False"
    assert studio.set(options="max_autotune=False, cpp.threads=2") == setting
    assert studio.set(options=None).options == ()


WRONG = [
    ({"batch": (1, 9, 8)}, ShapeError, "batch: opt is 9, above max 8; use 1 <= min <= opt <= max."),
    ({"batch": (0, 4, 8)}, ShapeError, "batch: min is 0; the smallest size is 1."),
    ({"batch": (1, 4)}, ShapeError, "batch: (1, 4) is not a range; give three sizes (min, opt, max)."),
    ({"batch": 4}, ShapeError, "batch: 4 is not a range; give three sizes (min, opt, max)."),
    ({"batch": (1, 4.0, 8)}, ShapeError, "batch: opt is 4.0; use a whole number of at least 1."),
    ({"batch": "148"}, ShapeError, "batch: min is '1'; use a whole number of at least 1."),
    ({"length": (1, 4, 8)}, ShapeError, "there is no 'length' to set; use batch, model, "),
    ({"sizes": (1, 9)}, ShapeError, "batch 9 cannot be measured: the range is 1 to 8."),
    ({"sizes": "1, x"}, ShapeError, "the sizes to measure are '1, x'; give whole numbers"),
    ({"samples": 0}, ShapeError, "rounds of measuring is 0; the smallest size is 1."),
    ({"paths": ()}, ShapeError, "no path is chosen; choose at least one of jit, input, export."),
    ({"paths": "aot"}, ShapeError, "there is no path 'aot'; use jit, input, export."),
    ({"model": "vit"}, ShapeError, "there is no model 'vit'; use expand-reshape."),
    ({"backend": "aot"}, BackendUnavailable, "there is no backend 'aot'; use tensorrt, inductor, eager or auto."),
    ({"precision": "fp64"}, PrecisionError, "precision fp64: there is no precision 'fp64'"),
    ({"options": {"a": 1}}, OptionError, "eager has no option 'a' in the installed version; it has none."),
    ({"options": {"a": [1]}}, OptionError, "option a is [1]; give a number"),
    ({"options": "a"}, OptionError, "options are 'a'; give names and values"),
    ({"batch": (1, 4, 10**6), "sizes": ()}, ShapeError, "at batch 1000000 the input x alone would take 1 GB"),
    ({"batch": (2, 3, 6), "sizes": (2,), "samples": 0}, ShapeError, "rounds of measuring is 0"),
]


@pytest.mark.parametrize(("changes", "kind", "sentence"), WRONG)
def test_set_leaves_all_as_it_was_when_a_change_is_wrong(studio, changes, kind, sentence):
    before = typed(studio)
    with pytest.raises(kind) as refused:
        studio.set(**changes)
    assert str(refused.value).startswith(sentence)
    assert typed(studio) == before


def wrong_opt(studio):
    entry(studio, "opt").value = 99


def no_paths(studio):
    for box in studio._panel.paths.values():
        box.value = False


TYPED = [
    (wrong_opt, "batch: opt is 99, above max 8; use 1 <= min <= opt <= max."),
    (lambda s: setattr(entry(s, "min"), "value", 0), "batch: min is 0; the smallest size is 1."),
    (lambda s: setattr(entry(s, "max"), "value", 2), "batch: opt is 4, above max 2; use 1 <= min <= opt <= max."),
    (lambda s: setattr(s._panel.sizes, "value", "1, 40"), "batch 40 cannot be measured: the range is 1 to 8."),
    (
        lambda s: setattr(s._panel.sizes, "value", "x"),
        "the sizes to measure are 'x'; give whole numbers, as in 1, 4, 32.",
    ),
    (lambda s: setattr(s._panel.rounds, "value", -1), "rounds of measuring is -1; the smallest size is 1."),
    (
        lambda s: setattr(s._panel.options, "value", "a=1"),
        "eager has no option 'a' in the installed version; it has none.",
    ),
    (no_paths, "no path is chosen; choose at least one of jit, input, export."),
]


@pytest.mark.parametrize(("do", "sentence"), TYPED)
def test_a_wrong_entry_is_a_sentence_and_build_waits_until_it_is_right(studio, do, sentence):
    studio.set(paths="export")
    result = studio.build()
    before = studio._form.values()
    do(studio)
    assert text(studio._panel.problem) == f"Not yet: {sentence}".replace("<", "&lt;")
    assert studio._panel.build.disabled
    assert studio._panel.scratch.disabled
    assert "these results are for 1 / 4 / 8" in stale(studio)
    assert studio.result is result
    with pytest.raises((ShapeError, OptionError)):
        studio.build()
    studio._panel.build.click()  # what a browser does not let happen
    studio.wait()
    assert sentence.split(";")[0] in text(studio._panel.status)
    assert studio.result is result
    studio._form.write(before, lambda: None)
    studio._changed()
    assert text(studio._panel.problem) == ""
    assert not studio._panel.build.disabled
    assert stale(studio) == ""


@pytest.mark.parametrize(("widget", "value"), [("backend", "tensorrt"), ("precision", "tf32")])
def test_what_this_machine_lacks_can_be_chosen_and_says_why_not(studio, widget, value):
    if studio._bench.device.type != "cpu":
        pytest.skip("this machine has a GPU")
    getattr(studio._panel, widget).value = value
    assert text(studio._panel.problem).startswith(f"Not yet: {widget} {value}: ")
    assert studio._panel.build.disabled


def test_the_slider_and_the_entry_of_opt_follow_each_other(studio):
    controls = studio._panel.ranges["batch"]
    controls.slider.value = 6
    assert entry(studio, "opt").value == 6
    assert studio.setting.label == "1 / 6 / 8"
    studio.set(batch=(10, 20, 30), sizes=())
    assert (controls.slider.min, controls.slider.value, controls.slider.max) == (10, 20, 30)
    studio.set(batch=(1, 1, 1))
    assert (controls.slider.min, controls.slider.value) == (1, 1)
    entry(studio, "opt").value = 50
    assert controls.slider.value == 1


def test_the_sizes_that_are_measured_by_default_are_shown(studio):
    assert studio._panel.sizes.placeholder == "automatic: 1, 2, 4, 8"
    studio.set(batch=(3, 5, 9), sizes=())
    assert studio._panel.sizes.placeholder == "automatic: 3, 4, 5, 8, 9"


def test_another_model_comes_with_its_own_ranges(both):
    assert list(both._panel.ranges) == ["batch"]
    both._panel.model.value = "two"
    assert {name: controls.values for name, controls in both._panel.ranges.items()} == {
        "batch": (1, 2, 4),
        "length": (1, 5, 9),
    }
    assert len(both._panel.ranges_box.children) == 2
    assert both._panel.sizes.value == ""
    assert both.setting.label == "batch 1 / 2 / 4, length 1 / 5 / 9"
    entry(both, "max", "length").value = 2
    assert "length: opt is 5, above max 2" in text(both._panel.problem)
    both.set(model="one", batch=(2, 3, 4))
    assert both.setting.label == "2 / 3 / 4"
    assert text(both._panel.problem) == ""
    with pytest.raises(ShapeError, match="there is no 'length'"):
        both.set(length=(1, 2, 3))


def test_the_tutorials_models_are_offered():
    made = Studio(device="cpu")
    assert "perceptron" in made._panel.model.options
    made.set(model="perceptron", backend="eager")
    assert made.setting.label == "1 / 64 / 1024"
    made.close()


# ---- building ---------------------------------------------------------------------------------------------------


def test_build_gives_the_result_and_shows_it(studio):
    result = studio.build()
    assert result is studio.result
    assert result.setting == studio.setting
    assert result.sweep.agrees
    assert text(studio._panel.status).startswith("Done in ")
    assert "jit" in text(studio._panel.table)
    assert "eager" in text(studio._panel.built)
    assert studio._panel.cancel.disabled
    assert not studio._panel.pin.disabled
    assert stale(studio) == ""


def test_a_click_builds_and_wait_waits_for_it(studio):
    studio._panel.build.click()
    studio.wait()
    assert studio.result.setting == studio.setting
    assert text(studio._panel.status).startswith("Done in ")


def test_results_of_another_setting_are_marked_until_theirs_is_back(studio):
    studio.build()
    entry(studio, "opt").value = 5
    assert stale(studio) == ("Stale: these results are for 1 / 4 / 8, eager fp32. Press Build for the setting above.")
    entry(studio, "opt").value = 4
    assert stale(studio) == ""
    studio.set(samples=2)
    assert stale(studio)
    studio.build()
    assert stale(studio) == ""


def test_while_a_run_goes_on_stale_results_say_that_new_ones_come(studio, monkeypatch):
    studio.build()
    studio.set(batch=(1, 5, 8))
    slow = Slow(True)
    monkeypatch.setitem(PATHS, "jit", slow)
    job = studio.start()
    assert slow.begun.wait(PATIENCE)
    until(lambda: "compiling" in text(studio._panel.status))
    assert "<progress" in studio._panel.status.value
    assert not studio._panel.cancel.disabled
    slow.go.set()
    job.result(PATIENCE)
    assert stale(studio) == ""


def test_a_path_that_fails_fails_build_and_wait_and_the_others_are_shown(studio, monkeypatch):
    broken(monkeypatch, "input")
    with pytest.raises(BuildError, match=r"^input: the path is closed$"):
        studio.build()
    with pytest.raises(BuildError, match=r"^input: the path is closed$"):
        studio.wait()
    assert studio.result.sweep.table["path"].drop_duplicates().tolist() == [EAGER, "jit", "export"]
    assert "input could not be built: the path is closed" in text(studio._panel.status)
    assert "<details>" in studio._panel.status.value
    assert "the path is closed" in text(studio._panel.table)
    assert stale(studio) == ""


def test_build_tries_again_what_failed(studio, monkeypatch):
    with monkeypatch.context() as patch:
        broken(patch, "input")
        with pytest.raises(BuildError):
            studio.build()
    assert studio.build().failures == {}


def test_where_all_paths_fail_the_last_good_result_stays(studio, monkeypatch):
    good = studio.build()
    broken(monkeypatch, *PATHS)
    studio.set(batch=(1, 5, 8))
    with pytest.raises(BuildError, match=r"jit: the path is closed; input: .*; export: "):
        studio.build()
    assert studio.result is good
    assert "these results are for 1 / 4 / 8" in stale(studio)
    assert "jit could not be built" in text(studio._panel.status)


def test_an_exception_of_the_worker_reaches_build_wait_and_snapshot(studio, monkeypatch):
    good = studio.build()
    with monkeypatch.context() as patch:
        patch.setattr(Bench, "run", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("boom")))
        for fails in (lambda: studio.build(fresh=True), studio.wait, studio.snapshot):
            with pytest.raises(RuntimeError, match="boom"):
                fails()
        assert text(studio._panel.status).startswith("Not measured: RuntimeError: boom Details Traceback")
        assert studio._panel.cancel.disabled
        studio._panel.scratch.click()
        with pytest.raises(RuntimeError, match="boom"):
            studio.wait()
    assert studio.result is good
    assert studio.build() is good  # reused: what failed before is over
    studio.wait()
    assert studio.snapshot().result is good


@pytest.mark.slow
def test_what_is_known_is_there_at_once_and_builds_nothing(studio, builds):
    first = studio.build()
    studio.set(batch=(1, 5, 8))
    studio.build()
    studio.set(batch=(1, 4, 8))
    start = time.monotonic()
    assert studio.build() is first
    assert time.monotonic() - start < 0.5
    assert text(studio._panel.status) == f"Reused: built and measured at {runner.when(first)}."
    assert builds == dict.fromkeys(PATHS, 2)


def test_build_from_scratch_builds_what_is_known(studio, builds):
    studio.set(paths="export")
    first = studio.build()
    assert studio.build(fresh=True) is not first
    studio._panel.scratch.click()
    studio.wait()
    assert builds == {"export": 3}


def test_two_clicks_build_once(studio, builds):
    studio._panel.build.click()
    studio._panel.build.click()
    studio.wait()
    assert builds == dict.fromkeys(PATHS, 1)


def test_of_two_clicks_at_once_the_second_counts_whichever_arrives_first(studio, builds, monkeypatch):
    monkeypatch.setattr(app, "SETTLE", 0.2)
    studio._panel.scratch.click()
    first = studio._clicked
    monkeypatch.setattr(app, "SETTLE", 0)
    studio._panel.build.click()
    studio.wait()
    result = studio.result
    first.join()
    idle()
    assert studio.result is result
    assert builds == dict.fromkeys(PATHS, 1)


def test_what_runs_already_is_not_started_again(studio, stoppable):
    job = studio.start()
    assert stoppable.begun.wait(PATIENCE)
    assert studio.start() is job
    stoppable.go.set()
    studio.wait(PATIENCE)
    assert stoppable.runs == 1


def test_the_newest_of_two_settings_wins(studio, slow):
    old = studio.start()
    assert slow.begun.wait(PATIENCE)
    studio.set(batch=(1, 5, 8))
    studio._panel.build.click()
    studio._clicked.join()
    slow.go.set()
    studio.wait(PATIENCE)
    with pytest.raises(RunCancelled):
        old.result(PATIENCE)
    assert studio.result.setting == studio.setting
    assert studio.result.label.startswith("1 / 5 / 8")
    assert stale(studio) == ""


def test_back_to_the_first_setting_while_it_is_replaced(studio, stoppable):
    studio.start()
    assert stoppable.begun.wait(PATIENCE)
    studio.set(batch=(1, 5, 8))
    replaced = studio.start()
    studio.set(batch=(1, 4, 8))
    stoppable.go.set()
    assert studio.build().label.startswith("1 / 4 / 8")
    with pytest.raises(RunCancelled):
        replaced.result(PATIENCE)


def test_results_that_stream_in_are_shown_and_the_last_one_stays(studio, monkeypatch):
    monkeypatch.setattr(runner, "REDRAW", 0)
    seen, draw = [], display_module.Display.draw

    def watched(self, streaming=None):
        seen.append(streaming)
        draw(self, streaming)

    monkeypatch.setattr(display_module.Display, "draw", watched)
    result = studio.build()
    streamed = [one for one in seen if one is not None]
    assert [len(one.builds) for one in streamed][:4] == [0, 1, 2, 3]
    assert seen[-1] is None
    assert studio._display.shown is result


# ---- cancelling -------------------------------------------------------------------------------------------------


def test_cancel_says_so_at_once_and_keeps_the_last_good_result(studio, slow):
    slow.go.set()
    good = studio.build()
    slow.go.clear()
    slow.begun.clear()
    studio.set(batch=(1, 5, 8))
    job = studio.start()
    assert slow.begun.wait(PATIENCE)
    start = time.monotonic()
    studio._panel.cancel.click()
    assert text(studio._panel.status).startswith("Cancelled")
    assert time.monotonic() - start < 1
    assert studio._panel.cancel.disabled
    if not slow.stoppable:
        assert "may still be finishing; its result is discarded" in text(studio._panel.status)
        assert not job.done()
        slow.go.set()
    for wait in (lambda: job.result(PATIENCE), studio.wait):
        with pytest.raises(RunCancelled):
            wait()
    until(lambda: text(studio._panel.status) == "Cancelled.")
    assert studio.result is good
    assert "these results are for 1 / 4 / 8" in stale(studio)
    slow.go.set()
    assert studio.build().setting == studio.setting


def test_a_new_run_after_a_cancelled_one_is_not_told_of_it(studio, slow):
    studio.start()
    assert slow.begun.wait(PATIENCE)
    studio.cancel()
    job = studio.start()
    slow.go.set()
    assert job.result(PATIENCE) is studio.result
    idle()
    assert text(studio._panel.status).startswith("Done in ")


def test_cancel_without_a_run_changes_nothing(studio):
    studio.cancel()
    assert text(studio._panel.status) == "Ready: press Build."
    result = studio.build()
    studio.cancel()
    assert text(studio._panel.status).startswith("Done in ")
    studio.wait()
    assert studio.result is result


def test_a_click_that_is_cancelled_before_it_began_never_begins(studio, builds):
    studio._panel.build.click()
    clicked = studio._clicked
    studio.cancel()
    clicked.join()
    idle()
    assert builds == {}
    assert studio.result is None


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, also in a process that a shell started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_during_build_cancels_the_run(studio, stoppable, interruptible):
    def interrupt():
        stoppable.begun.wait(PATIENCE)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        studio.build()
    thread.join(PATIENCE)
    until(lambda: text(studio._panel.status) == "Cancelled.")
    assert studio.result is None
    stoppable.go.set()
    assert studio.build().sweep.agrees


def test_build_async_leaves_the_event_loop_alive(studio, stoppable):
    async def both():
        async def types():
            while not stoppable.begun.is_set():
                await asyncio.sleep(0.001)
            entry(studio, "opt").value = 5
            stoppable.go.set()

        return await asyncio.gather(studio.build_async(), types())

    result, _ = asyncio.run(both())
    assert result is studio.result
    assert "these results are for 1 / 4 / 8" in stale(studio)


def test_build_async_raises_what_build_would(studio, monkeypatch):
    broken(monkeypatch, "input")
    with pytest.raises(BuildError, match="the path is closed"):
        asyncio.run(studio.build_async())


def test_an_interrupted_build_async_cancels_the_run_and_the_panel_says_so(studio, stoppable):
    async def interrupted():
        task = asyncio.ensure_future(studio.build_async())
        while not stoppable.begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    until(lambda: text(studio._panel.status) == "Cancelled.")
    assert studio._panel.cancel.disabled
    assert studio.result is None


def test_closing_a_studio_stops_what_runs(seed, stoppable):
    made = Studio(seed)
    made.set(backend="eager")
    job = made.start()
    assert stoppable.begun.wait(PATIENCE)
    made.close()
    with pytest.raises(RunCancelled):
        job.result(PATIENCE)


# ---- pins -------------------------------------------------------------------------------------------------------


def pin_buttons(studio):
    return {button.description: button for row in studio._panel.pins.children for button in row.children[1:]}


def test_a_pinned_result_stays_and_can_be_gone_back_to(studio):
    studio.set(paths=("input", "export"))
    first = studio.build()
    studio._panel.pin.click()
    assert studio.pins == {"A": first}
    assert studio.pin() == "A"  # it is pinned already
    studio.set(batch=(1, 5, 8), sizes=(2, 5))
    second = studio.build()
    assert studio.pin() == "B"
    assert list(pin_buttons(studio)) == ["Back to A", "Unpin A", "Back to B", "Unpin B"]
    assert studio.restore("A") is first
    assert studio.setting == first.setting
    assert studio.result is first
    assert stale(studio) == ""
    pin_buttons(studio)["Back to B"].click()
    assert studio.result is second
    assert studio.setting == second.setting
    pin_buttons(studio)["Unpin B"].click()
    assert list(studio.pins) == ["A"]
    assert studio.result is second
    studio.unpin("A")
    assert studio.pins == {}
    assert list(studio._panel.pins.children) == []


def test_a_pin_takes_a_wrong_entry_away(studio):
    result = studio.build()
    studio.pin()
    wrong_opt(studio)
    studio.restore("A")
    assert text(studio._panel.problem) == ""
    assert not studio._panel.build.disabled
    assert (studio.setting, stale(studio)) == (result.setting, "")


def test_a_pin_of_another_model_brings_the_model_back(both):
    result = both.build()
    both.pin()
    both.set(model="two", paths="export")
    both.build()
    both.restore("A")
    assert both.setting == result.setting
    assert both._panel.model.value == "one"
    assert list(both._panel.ranges) == ["batch"]
    assert stale(both) == ""
    entry(both, "opt").value = 99
    assert "opt is 99" in text(both._panel.problem)


def test_pins_are_few(studio, monkeypatch):
    monkeypatch.setattr(display_module, "PINS", 2)
    for opt in (2, 3, 4):
        studio.set(batch=(1, opt, 8), paths=("export",))
        studio.build()
        if opt < 4:
            studio.pin()
    with pytest.raises(ShapeError, match=r"2 results are pinned; unpin one first\."):
        studio.pin()
    studio._panel.pin.click()
    assert "2 results are pinned; unpin one first." in text(studio._panel.status)
    studio.unpin("A")
    assert studio.pin() == "A"


@pytest.mark.parametrize("do", [Studio.unpin, Studio.restore])
def test_a_letter_that_is_not_pinned_is_refused(studio, do):
    with pytest.raises(ShapeError, match=r"nothing is pinned as 'C'; there are no pins\."):
        do(studio, "C")


def test_without_a_result_there_is_nothing_to_pin_save_or_show(studio, tmp_path):
    for do in (studio.pin, studio.snapshot, lambda: studio.save(tmp_path)):
        with pytest.raises(ShapeError, match=r"there is no result yet; press Build, or call build\(\), first\."):
            do()


def test_going_back_to_a_pin_while_another_setting_is_built(studio, slow):
    slow.go.set()
    first = studio.build()
    studio.pin()
    slow.go.clear()
    slow.begun.clear()
    studio.set(batch=(1, 5, 8))
    job = studio.start()
    assert slow.begun.wait(PATIENCE)
    assert studio.restore("A") is first
    slow.go.set()
    with pytest.raises(RunCancelled):
        job.result(PATIENCE)
    idle()
    assert studio.result is first
    assert (studio.setting, stale(studio)) == (first.setting, "")
    assert text(studio._panel.status) == f"Reused: built and measured at {runner.when(first)}."
    studio.wait()


# ---- asking -----------------------------------------------------------------------------------------------------


def test_ask_answers_for_the_result_that_is_shown(studio):
    studio.build()
    studio.set(batch=(1, 20, 40))
    assert {answer.outcome for answer in studio.ask(20)} == {"refused"}
    assert "refused" in text(studio._panel.answers)
    assert {answer.outcome for answer in studio.ask(8)} == {"served"}
    assert len(studio._display._answers) == 2


def test_ask_before_the_first_build_answers_for_the_panel(studio):
    assert {answer.outcome for answer in studio.ask(3)} == {"served"}


def test_the_button_asks_with_what_may_happen_outside(studio):
    studio.build()
    panel = studio._panel
    panel.ask_size.value, panel.outside.value = 12, "build another engine (jit)"
    panel.ask.click()
    until(lambda: "built" in text(panel.answers))
    panel.outside.value = "run it in PyTorch"
    panel.ask.click()
    until(lambda: "without compiling, as asked" in text(panel.answers))
    assert len(studio._bench.program(studio.setting, "jit").build.engines) == 2


def test_only_the_last_answers_stay_in_view(studio, monkeypatch):
    monkeypatch.setattr(display_module, "ASKED", 2)
    studio.set(paths=("export",))
    for size in (2, 3, 5):
        studio.ask(size)
    assert re.findall(r"batch (\d)", text(studio._panel.answers)) == ["5", "3"]


@pytest.mark.parametrize(
    ("size", "sentence"), [(0, "batch is 0; the smallest size is 1."), (10**6, "at batch 1000000 the input x alone")]
)
def test_a_size_that_cannot_be_asked_is_a_sentence(studio, size, sentence):
    with pytest.raises(ShapeError, match=re.escape(sentence)):
        studio.ask(size)
    assert text(studio._panel.answers).startswith(sentence)
    studio._panel.ask_size.value = size
    studio._panel.answers.value = ""
    studio._panel.ask.click()
    until(lambda: text(studio._panel.answers).startswith(sentence))


def test_a_question_waits_for_a_run_and_does_not_end_it(studio, stoppable):
    job = studio.start()
    assert stoppable.begun.wait(PATIENCE)
    studio._panel.ask_size.value = 3
    studio._panel.ask.click()
    assert text(studio._panel.answers) == "waiting for another run"
    stoppable.go.set()
    assert job.result(PATIENCE).sweep.agrees
    until(lambda: "served" in text(studio._panel.answers))


def test_engines_are_built_of_the_shown_setting(studio, monkeypatch):
    requests = []

    def build(case, path, calls, options, progress):
        requests.append((str(case.dims["batch"]), path, calls))
        return path

    monkeypatch.setattr(engines, "build", build)
    monkeypatch.setattr(views, "engine_reports", " ".join)
    assert studio.engines([3]) == tuple(PATHS)
    studio._panel.ask_size.value = 12
    studio._panel.engines.click()
    idle()
    assert requests == [("batch 1/4/8", path, (size,)) for size in (3, 12) for path in PATHS]


def test_engines_that_cannot_be_built_are_a_sentence_in_the_panel(studio, monkeypatch):
    def build(*_, **__):
        raise EnginesUnavailable("no builder here.")

    monkeypatch.setattr(engines, "build", build)
    with pytest.raises(EnginesUnavailable, match="no builder here"):
        studio.engines()
    assert text(studio._panel.engine_reports).endswith("no builder here.")


# ---- taking along -----------------------------------------------------------------------------------------------


def test_script_is_python_of_the_setting_in_the_panel(studio):
    studio.set(batch=(2, 5, 7), sizes=())
    code = studio.script()
    compile(code, "script", "exec")
    assert "tutorial_lib" not in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)
    wrong_opt(studio)
    with pytest.raises(ShapeError, match="opt is 99"):
        studio.script()


def test_save_writes_results_figures_and_script(studio, tmp_path, drawing):
    result = studio.build()
    files = studio.save(tmp_path / "new" / "folder")
    assert sorted(file.name for file in files) == [
        f"expand-reshape-eager.{e}" for e in ("csv", "json", "png", "py", "svg")
    ]
    assert sorted((tmp_path / "new" / "folder").iterdir()) == sorted(files)
    by = {file.suffix: file for file in files}
    assert Sweep.from_json(by[".json"]).verdict == result.sweep.verdict
    assert len(pd.read_csv(by[".csv"])) == len(result.sweep.table)
    assert by[".png"].read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(by[".svg"]).getroot().tag.endswith("svg")
    compile(by[".py"].read_text(), "script", "exec")
    assert studio.save(tmp_path / "new" / "folder") == files


def test_a_file_is_written_whole_or_not_at_all(studio, tmp_path, monkeypatch):
    studio.set(paths="export")
    studio.build()
    files = {file: file.read_bytes() for file in studio.save(tmp_path / "out")}
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device"):
        studio.save(tmp_path / "out")
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == files


def test_a_folder_that_cannot_be_written_is_one_sentence(studio, tmp_path):
    studio.set(paths="export")
    studio.build()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file") as failed:
        studio.save(tmp_path / "file" / "folder")
    assert "\n" not in str(failed.value)


def test_a_snapshot_is_of_the_result_and_its_pins(studio, drawing):
    studio.set(paths="export")
    first = studio.build()
    studio.pin()
    studio.set(batch=(1, 5, 8))
    second = studio.build()
    shown = studio.snapshot()
    assert (shown.result, [result for _, result in shown.behind]) == (second, [first])
    assert str(shown).startswith("Latency and agreement over batch")


def test_the_figure_is_drawn_with_the_result(studio, drawing):
    studio.build()
    assert "<img" in studio._panel.figure.value
    assert studio._panel.more.value == ""  # not before its tab is opened
    studio._panel.tabs.selected_index = 1
    until(lambda: "<img" in studio._panel.more.value)


def test_a_notebook_gets_the_panel_and_a_text_for_readers_without_a_kernel(studio):
    bundle = studio._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "run this cell" in bundle["text/plain"]


# ---- together ---------------------------------------------------------------------------------------------------


def test_a_case_of_ones_own_with_two_dims(masked):
    made = Studio(masked)
    made.set(backend="eager", samples=1, length=(2, 4, 6))
    result = made.build()
    assert set(result.sweep.table["length"]) == {4}
    assert sorted(set(result.sweep.table["batch"])) == [1, 2, 4]
    assert {answer.sizes["length"] for answer in made.ask(3)} == {4}
    entry(made, "opt", "length").value = 7
    assert "length: opt is 7, above max 6" in text(made._panel.problem)
    made.close()


@pytest.mark.slow
def test_two_studios_take_turns_and_keep_their_results_apart(studio, masked):
    other = Studio(masked)
    for one in (studio, other):
        one.set(backend="eager", samples=1, paths=("input", "export"))
    for opt in (2, 3, 5):
        studio.set(batch=(1, opt, 8))
        other.set(length=(1, opt, 9))
        jobs = studio.start(), other.start()
        one, two = (job.result(PATIENCE) for job in jobs)
        assert one is studio.result
        assert two is other.result
        assert one.label.startswith(f"1 / {opt} / 8")
        assert two.label.startswith(f"batch 1 / 2 / 4, length 1 / {opt} / 9")
        assert stale(studio) == stale(other) == ""
    other.close()


def test_cancelling_one_studio_leaves_the_other_at_work(studio, masked, stoppable):
    other = Studio(masked)
    other.set(backend="eager", samples=1)
    job = studio.start()
    assert stoppable.begun.wait(PATIENCE)
    waiting = other.start()
    assert "waiting for another run" in text(other._panel.status)
    studio.cancel()
    stoppable.go.set()
    assert waiting.result(PATIENCE) is other.result
    with pytest.raises(RunCancelled):
        job.result(PATIENCE)
    assert studio.result is None
    other.close()


def test_two_hundred_random_operations_end_idle_with_the_last_request(both, monkeypatch, builds):
    monkeypatch.setattr(engines, "build", lambda case, path, *_, **__: path)
    monkeypatch.setattr(views, "engine_reports", " ".join)
    monkeypatch.setattr(app, "SETTLE", 0.001)
    choose, panel = random.Random(7), both._panel

    def valid():
        low = choose.randint(1, 3)
        ranges = dict.fromkeys(panel.ranges, (low, choose.randint(low, 4), choose.randint(4, 6)))
        both.set(**ranges, sizes=(), paths=choose.sample(list(PATHS), choose.randint(1, 3)))

    def invalid():
        with pytest.raises((ShapeError, BackendUnavailable, OptionError)):
            both.set(**choose.choice([{"batch": (5, 4, 8)}, {"paths": ()}, {"backend": "x"}, {"options": "a"}]))

    def types():
        controls = choose.choice(list(panel.ranges.values()))
        choose.choice(list(controls.entries.values())).value = choose.randint(-1, 9)

    def path():
        choose.choice(list(panel.paths.values())).value = choose.random() < 0.8

    def slides():
        slider = choose.choice(list(panel.ranges.values())).slider
        slider.value = choose.randint(slider.min, slider.max)

    def model():
        panel.model.value = choose.choice(["one", "two"])

    def pins():
        if both.pins and choose.random() < 0.5:
            choose.choice([both.unpin, both.restore])(choose.choice(list(both.pins)))
        else:
            panel.pin.click()

    def asks():
        panel.ask_size.value = choose.randint(0, 12)
        panel.outside.value = choose.choice(panel.outside.options)
        panel.ask.click()

    def tab():
        panel.tabs.selected_index = choose.randrange(5)

    def pause():
        time.sleep(choose.random() * 0.1)

    clicks = [panel.build.click] * 3 + [panel.scratch.click, panel.cancel.click, both.cancel, panel.engines.click]
    operations = [valid, valid, types, invalid, path, slides, model, pins, asks, tab, pause, pause, *clicks]
    for _ in range(200):
        choose.choice(operations)()
    both.set(model="one", batch=(1, 5, 8), paths=tuple(PATHS), sizes=(2,))
    panel.build.click()
    both.wait(PATIENCE)
    idle()
    assert both.result.setting == both.setting
    assert both.result.label.startswith("1 / 5 / 8")
    assert both.result.sweep.agrees
    assert stale(both) == ""
    assert text(panel.status).startswith(("Done in ", "Reused: "))
    assert panel.cancel.disabled
    assert not panel.build.disabled
    assert both._runner.error is None
    assert builds.keys() == PATHS.keys()
