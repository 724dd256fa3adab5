"""One experiment from its setting to its result: what fails, what is told, and what is never timed beside a build."""

import contextlib
import threading
import time
from importlib import import_module

import pytest

from tutorial_lib import PATHS, BuildError, DynamicDim, ShapeError, engines
from tutorial_lib.builds.backends import OptionError
from tutorial_lib.core.progress import Cancelled, Progress
from tutorial_lib.experiments import Setting, run
from tutorial_lib.experiments.run import share
from tutorial_lib.measure.sweep import EAGER

RANGE = (DynamicDim("batch", 1, 4, 8),)
module = import_module("tutorial_lib.experiments.run")  # the package's name `run` is the function


def of(**more):
    return Setting("seed", RANGE, **{"backend": "eager", "samples": 2, "sizes": (1, 4), **more})


BOTH = {"engines": True, "paths": ("jit", "export")}


@pytest.fixture
def tensorrt(monkeypatch):
    """``tensorrt(ask)``: the engines of a path are what ``ask(path, progress)`` returns."""

    def replaced_by(ask):
        monkeypatch.setattr(engines, "prepare", lambda case, paths, calls, options: ask)

    return replaced_by


@pytest.mark.slow
def test_a_result_has_all_that_is_needed_to_trust_it(seed):
    result = run(of(paths=("export",), sizes=()), seed, min_seconds=0)
    assert result.final
    assert result.setting.sizes == (1, 2, 4, 8)
    assert set(result.sweep.table["path"]) == {EAGER, "export"}
    assert [build.path for build in result.builds] == ["export"]
    assert set(result.seconds) == {"build export", "measure"}
    assert result.conditions["samples"] == 3, "before each of two rounds, and after the last"
    assert result.where["device"] == result.sweep.provenance["device"]
    assert "host" not in result.where
    assert result.date.endswith("+00:00")


def test_what_cannot_be_built_is_refused_before_anything_is(seed, monkeypatch):
    monkeypatch.setitem(PATHS, "jit", lambda *_: pytest.fail("it was built"))
    with pytest.raises(ShapeError, match="batch 9"):
        run(of(sizes=(9,)), seed)
    with pytest.raises(ShapeError, match="nothing is asked for"):
        run(of(measure=False), seed)
    for seconds in (float("nan"), -1, float("inf")):
        with pytest.raises(ShapeError, match="min_seconds"):
            run(of(), seed, min_seconds=seconds)


def test_a_path_that_fails_is_in_the_result_with_its_traceback(seed):
    errors = {"jit": BuildError("the path is closed"), "input": RuntimeError("the compiler\ngave up")}

    def build(setting, case, path):
        if path in errors:
            raise errors[path]
        return module.build(setting, case, path)

    result = run(of(), seed, build=build, min_seconds=0)
    sentences = {path: failure.sentence for path, failure in result.failures.items()}
    assert sentences == {"jit": "the path is closed", "input": "RuntimeError: the compiler"}
    assert "Traceback" in result.failures["input"].details
    assert set(result.sweep.table["path"]) == {EAGER, "export"}


def test_engines_alone_build_and_measure_nothing_here(seed, monkeypatch):
    def prepare(case, paths, calls, options):
        return lambda path, progress: f"{path} at {calls} with {options}"

    monkeypatch.setattr(engines, "prepare", prepare)
    monkeypatch.setitem(PATHS, "export", lambda *_: pytest.fail("it was built"))
    result = run(of(engines=True, measure=False, calls=(1, 33), paths=("export",)), seed)
    assert result.engines == ("export at (1, 33) with None",)
    assert result.sweep is None
    assert result.builds == ()


def test_engines_are_built_beside_the_programs_and_nothing_is_timed_beside_either(seed, monkeypatch, tensorrt):
    events, measure, look = [], module.sweep, module.latencies
    monkeypatch.setattr(module, "sweep", lambda *args, **more: events.append("measure") or measure(*args, **more))
    monkeypatch.setattr(module, "latencies", lambda *args, **more: events.append("look") or look(*args, **more))
    built = threading.Event()

    @contextlib.contextmanager
    def paused():
        events.append("paused")
        yield
        events.append("resumed")

    def ask(path, progress):
        assert built.wait(60), "no program was built beside it"
        events.append(f"engines of {path}")
        return path

    def build(setting, case, path):
        program = module.build(setting, case, path)
        if path == "export":
            built.set()
        return program

    monkeypatch.setattr(engines, "paused", paused)
    tensorrt(ask)
    result = run(of(**BOTH), seed, build=build, look_after=0, min_seconds=0)
    assert result.engines == ("jit", "export")
    assert events[-1] == "measure"
    assert sorted(events[-3:-1]) == ["engines of export", "engines of jit"]
    assert events[:-3] == ["paused", "look", "resumed"] * 2


def test_where_a_path_is_built_soon_its_curve_comes_before_the_engines(seed, monkeypatch, tensorrt):
    monkeypatch.setattr(module, "SOON", ("eager",))
    events, look = [], module.latencies

    def looks(case, programs, *args, **more):
        events.append(f"look at {', '.join(programs)}")
        return look(case, programs, *args, **more)

    monkeypatch.setattr(module, "latencies", looks)
    tensorrt(lambda path, progress: events.append("engines"))
    run(of(**BOTH), seed, look_after=60.0, min_seconds=0)
    assert events[:2] == ["look at jit", "engines"]


def raising(error):
    def build(setting, case, path):
        raise error

    return build


def test_tensorrt_is_not_asked_by_a_run_that_ends_before_its_turn(seed, monkeypatch, tensorrt):
    monkeypatch.setattr(module, "SOON", ("eager",))
    asked = []
    tensorrt(lambda path, progress: asked.append(path))
    with pytest.raises(KeyboardInterrupt):
        run(of(**BOTH), seed, build=raising(KeyboardInterrupt()), look_after=0, min_seconds=0)
    assert asked == []


def test_engines_are_built_where_no_path_can_be(seed, monkeypatch, tensorrt):
    monkeypatch.setattr(module, "SOON", ("eager",))
    tensorrt(lambda path, progress: path)
    result = run(of(**BOTH), seed, build=raising(ValueError("not this one")), look_after=0, min_seconds=0)
    assert result.engines == tuple(result.failures) == ("jit", "export")


def test_a_run_that_is_cancelled_ends_the_build_of_engines(seed, tensorrt):
    ended = []

    def ask(path, progress):
        try:
            while True:
                progress(Progress("building", 0, None, "TensorRT chooses tactics"))
                time.sleep(0.01)
        except Cancelled:
            ended.append(path)
            raise

    def cancel(step):
        raise Cancelled

    tensorrt(ask)
    for setting in (of(engines=True), of(engines=True, measure=False)):
        with pytest.raises(Cancelled):
            run(setting, seed, progress=cancel)
    assert ended == ["jit", "jit"], "the others were not begun"


def test_what_the_engines_process_raises_ends_the_run(seed, tensorrt):
    def ask(path, progress):
        raise OptionError("there is no such setting")

    tensorrt(ask)
    with pytest.raises(OptionError, match="no such setting"):
        run(of(engines=True, paths=("export",)), seed, min_seconds=0)


def test_without_a_watcher_nothing_is_looked_at_before_it_is_measured(seed, monkeypatch):
    monkeypatch.setattr(module, "latencies", lambda *_, **__: pytest.fail("a first look"))
    assert run(of(paths=("export",)), seed, min_seconds=0).sweep.agrees


@pytest.mark.parametrize("both", [False, True])
def test_the_share_that_is_done_rises_from_zero_and_stays_below_one(seed, tensorrt, both):
    tensorrt(lambda path, progress: path)
    setting, steps = of(engines=both, paths=("jit", "export")), []
    run(setting, seed, progress=steps.append, look_after=0, min_seconds=0)
    shares = [share(step, setting) for step in steps]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.5 < shares[-1] < 1
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert stages == ["first look", "building", "comparing", "measuring"]


def test_the_model_s_own_dtypes_are_kept_without_a_precision(seed):
    result = run(of(precision=None, paths=("export",)), seed, min_seconds=0)
    assert result.sweep.provenance["precision"] == "float32"
