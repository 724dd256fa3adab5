"""The studio without widgets: it builds, measures, remembers, and can be stopped at every step."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from tutorial_lib import PATHS, BuildError, Case, DynamicDim, ShapeError
from tutorial_lib.builds import package_cache
from tutorial_lib.core import progress
from tutorial_lib.core.progress import Cancelled
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.sweep import EAGER
from tutorial_lib.studio import bench as bench_module
from tutorial_lib.studio.bench import Bench, Recent

pytestmark = pytest.mark.slow

RANGE = DynamicDim("batch", 1, 4, 8)


def of(model="seed", ranges=(RANGE,), **more):
    return Setting(model, ranges, **{"backend": "eager", "samples": 1, "sizes": (1, 4), **more})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(bench_module, "MIN_SECONDS", 0)
    monkeypatch.setattr(bench_module, "WORTH_A_LOOK", float("inf"))  # how fast this machine builds makes no difference


@pytest.fixture
def bench(seed, masked):
    return Bench({"seed": lambda: seed, "masked": lambda: masked}, seed.device)


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


def broken(monkeypatch, *paths, error=None):
    def fails(*_):
        raise error or BuildError("the path is closed")

    for path in paths:
        monkeypatch.setitem(PATHS, path, fails)


class Stop:
    """A `tell` that cancels at one step, counted from 0."""

    def __init__(self, at=None):
        self.at, self.told = at, []

    def __call__(self, share, text):
        self.told.append((share, text))
        if self.at is not None and len(self.told) > self.at:
            raise Cancelled


def paths(sweep):
    return list(dict.fromkeys(sweep.table["path"]))


# ---- results ----------------------------------------------------------------------------------------------------


def test_every_path_is_built_measured_and_right(bench):
    result = bench.run(bench.settled(of()))
    assert result.final
    assert paths(result.sweep) == [EAGER, *PATHS]
    assert result.sweep.agrees
    assert [build.path for build in result.builds] == list(PATHS)
    assert result.failures == {}
    assert set(result.seconds) == {"first look", "build jit", "build input", "build export", "measure"}
    assert result.date.endswith("+00:00")


def test_two_dims_are_measured_over_the_first(bench, masked):
    setting = bench.settled(of("masked", tuple(masked.dims.values()), sizes=()))
    assert setting.sizes == (1, 2, 4)
    table = bench.run(setting).sweep.table
    assert set(table["length"]) == {5}


def test_a_precision_reaches_the_programs(bench):
    setting = bench.settled(of(precision="bf16", paths=("export",)))
    result = bench.run(setting)
    assert result.builds[0].engines[0].data[0].dtype == "bfloat16"
    assert result.sweep.provenance["precision"] == "bf16"
    assert result.sweep.agrees


def test_a_settled_setting_has_its_backend_and_its_sizes(bench, inductor):
    setting = bench.settled(of(backend="auto", sizes=()))
    assert (setting.backend, setting.sizes) == (inductor, (1, 2, 4, 8))
    assert bench.settled(setting) == setting


def test_an_unknown_model_is_refused_with_those_that_exist(bench):
    with pytest.raises(ShapeError, match=r"there is no model 'vit'; use seed, masked\."):
        bench.settled(of("vit"))


def test_a_path_that_fails_is_a_failure_of_the_result_and_the_others_go_on(bench, monkeypatch):
    broken(monkeypatch, "input")
    result = bench.run(bench.settled(of()))
    assert {path: why.sentence for path, why in result.failures.items()} == {"input": "the path is closed"}
    assert "Traceback" in result.failures["input"].details
    assert paths(result.sweep) == [EAGER, "jit", "export"]
    assert [build.path for build in result.builds] == ["jit", "export"]


def test_an_error_that_is_not_ours_is_a_sentence_with_its_type(bench, monkeypatch):
    broken(monkeypatch, "input", error=OSError(28, "No space left on device\nand more"))
    why = bench.run(bench.settled(of(paths=("input",)))).failures["input"]
    assert why.sentence == "OSError: [Errno 28] No space left on device"


def test_without_any_program_nothing_is_measured(bench, monkeypatch):
    broken(monkeypatch, *PATHS)
    result = bench.run(bench.settled(of()))
    assert result.final
    assert result.sweep is None
    assert list(result.failures) == list(PATHS)
    assert result.builds == ()


def test_a_path_that_failed_is_tried_again(bench, monkeypatch, builds):
    setting = bench.settled(of())
    with monkeypatch.context() as patch:
        broken(patch, "input")
        assert bench.run(setting).failures
        assert bench.known(setting) is None
    result = bench.run(setting)
    assert result.failures == {}
    assert builds == {"jit": 1, "input": 1, "export": 1}


# ---- what is remembered -----------------------------------------------------------------------------------------


def test_a_known_setting_is_not_measured_again(bench, builds):
    setting = bench.settled(of())
    told = Stop()
    first = bench.run(setting)
    assert bench.run(setting, tell=told) is first
    assert bench.known(setting) is first
    assert told.told == []


def test_other_sizes_paths_and_rounds_build_nothing_again(bench, builds):
    bench.run(bench.settled(of()))
    for other in (of(sizes=(2, 8)), of(paths=("export",)), of(paths=("export", "jit")), of(samples=2)):
        bench.run(bench.settled(other))
    assert builds == dict.fromkeys(PATHS, 1)


@pytest.mark.parametrize("other", [{"ranges": (DynamicDim("batch", 1, 5, 8),)}, {"precision": "bf16"}])
def test_another_range_and_precision_is_built(bench, builds, other):
    bench.run(bench.settled(of()))
    bench.run(bench.settled(of(**other)))
    assert builds == dict.fromkeys(PATHS, 2)


def test_fresh_builds_and_measures_again_without_any_cache(bench, builds, monkeypatch):
    policies, export = [], PATHS["export"]
    monkeypatch.setitem(PATHS, "export", lambda *more: policies.append(package_cache.current_policy()) or export(*more))
    setting = bench.settled(of())
    first = bench.run(setting)
    again = bench.run(setting, fresh=True)
    assert again is not first
    assert bench.known(setting) is again
    assert builds == dict.fromkeys(PATHS, 2)
    assert policies == ["reuse", "fresh"]
    assert package_cache.current_policy() == "off"
    bench.run(bench.settled(of(sizes=(2,))))
    assert builds == dict.fromkeys(PATHS, 2)


def test_what_was_used_longest_ago_is_forgotten():
    recent = Recent(2)
    recent.keep("a", 1)
    recent.keep("b", 2)
    assert recent.recall("a") == 1
    recent.keep("c", 3)
    assert dict(recent) == {"a": 1, "c": 3}
    assert recent.recall("b") is None
    recent.keep("a", 4)
    recent.keep("d", 5)
    assert dict(recent) == {"a": 4, "d": 5}


def test_programs_and_results_in_memory_are_bounded(seed, builds, monkeypatch):
    monkeypatch.setattr(bench_module, "PROGRAMS", 2)
    monkeypatch.setattr(bench_module, "RESULTS", 2)
    bench = Bench({"seed": lambda: seed}, seed.device)
    settings = [bench.settled(of(ranges=(DynamicDim("batch", 1, opt, 8),), paths=("export",))) for opt in (2, 3, 4)]
    results = [bench.run(setting) for setting in settings]
    assert [bench.known(setting) for setting in settings] == [None, *results[1:]]
    assert builds["export"] == 3
    bench.run(settings[2])
    assert builds["export"] == 3
    bench.run(settings[0])
    assert builds["export"] == 4


def test_programs_that_were_built_at_different_times_are_compared_with_each_other(seed):
    models = [f"model_{number}" for number in range(6)]
    bench = Bench({name: lambda: seed for name in models}, seed.device)
    for model in models:
        bench.run(bench.settled(of(model, paths=("jit",))))
    result = bench.run(bench.settled(of(models[0], paths=("jit", "export"))))
    assert paths(result.sweep) == [EAGER, "jit", "export"]


# ---- streaming --------------------------------------------------------------------------------------------------


def test_results_stream_in_from_eager_alone_to_all_paths_side_by_side(bench):
    shown = []
    result = bench.run(bench.settled(of(samples=3)), show=shown.append)
    assert not any(one.final for one in shown)
    assert [len(one.builds) for one in shown] == [0, 1, 2, 3, 3, 3, 3]
    assert [paths(one.sweep) for one in shown] == [[EAGER]] * 4 + [[EAGER, *PATHS]] * 3
    assert [bool(one.sweep.table["ratio"].isna().all()) for one in shown] == [True] * 4 + [False] * 3
    assert [int(one.sweep.table["calls"].max()) for one in shown[4:]] == [1, 2, 3]
    assert result.final
    assert result.sweep.table["calls"].tolist() == shown[-1].sweep.table["calls"].tolist()


def test_a_path_that_took_long_to_build_is_looked_at_before_the_next(bench, monkeypatch):
    monkeypatch.setattr(bench_module, "WORTH_A_LOOK", 0)
    shown = []
    bench.run(bench.settled(of()), show=shown.append)
    seen = list(dict.fromkeys(tuple(paths(one.sweep)) for one in shown))
    assert seen == [(EAGER,), (EAGER, "jit"), (EAGER, "jit", "input"), (EAGER, *PATHS)]
    looked = next(one for one in shown if "input" in paths(one.sweep)).sweep.table
    assert looked.groupby("path").size().to_dict() == {EAGER: 2, "jit": 2, "input": 2}
    assert looked.index.is_unique


def test_the_share_that_is_done_never_falls_and_stays_below_one(bench):
    told = Stop()
    bench.run(bench.settled(of(samples=3)), tell=told)
    shares = [share for share, _ in told.told]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1
    texts = " ".join(text for _, text in told.told)
    for step in (
        "a first look at eager",
        "tracing jit",
        "tracing export",
        "comparing at batch 4 (2 of 2)",
        "round 3 of 3",
    ):
        assert step in texts


# ---- stopping ---------------------------------------------------------------------------------------------------


def test_a_run_cancelled_at_any_step_leaves_the_bench_usable(bench):
    setting, complete = bench.settled(of(sizes=(2,), paths=("jit", "export"))), Stop()
    bench.run(setting, tell=complete)
    known = bench.known(setting)
    for at in range(len(complete.told)):
        listener = Stop(at)
        with pytest.raises(Cancelled):
            bench.run(setting, tell=listener, fresh=True)
        assert [text for _, text in listener.told] == [text for _, text in complete.told][: at + 1]
        assert bench.known(setting) is known
        assert package_cache.current_policy() == "off"
        progress.stage("nobody listens any more")
    other = bench.run(bench.settled(of(sizes=(3,), paths=("jit", "export"))))
    assert other.sweep.agrees
    assert len(complete.told) > 12


def test_what_was_built_before_a_run_was_cancelled_is_not_built_again(bench, builds):
    def stops(share, text):
        if text.startswith("comparing"):
            raise Cancelled

    setting = bench.settled(of())
    with pytest.raises(Cancelled):
        bench.run(setting, tell=stops)
    assert bench.known(setting) is None
    bench.run(setting)
    assert builds == dict.fromkeys(PATHS, 1)


def test_a_run_can_be_cancelled_where_it_shows(bench):
    def stops(result):
        raise Cancelled

    setting = bench.settled(of())
    with pytest.raises(Cancelled):
        bench.run(setting, show=stops)
    assert bench.known(setting) is None


# ---- asking -----------------------------------------------------------------------------------------------------


def outcomes(answers):
    return {answer.path: answer.outcome for answer in answers}


def test_an_answer_says_which_engine_serves_a_size(bench):
    setting = bench.settled(of())
    assert {a.path: a.words for a in bench.ask(setting, 3)} == {
        "jit": "engine 1 of 2: x [2/4/8, 7, 48] float32",
        "input": "engine 1 of 1: x [1/4/8, 7, 48] float32",
        "export": "engine 1 of 1: x [1/4/8, 7, 48] float32",
    }
    assert outcomes(bench.ask(setting, 3)) == dict.fromkeys(PATHS, "served")
    (jit, *_) = bench.ask(setting, 1)
    assert jit.words == "engine 2 of 2: x [1, 7, 48] float32"
    assert jit.sizes == {"batch": 1}
    assert jit.seconds > 0


def test_a_refusal_is_in_the_words_of_the_guard(bench):
    answers = bench.ask(bench.settled(of()), 9)
    assert outcomes(answers) == dict.fromkeys(PATHS, "refused")
    assert all("batch is 9 on x" in answer.words for answer in answers)


def test_jit_recompiles_on_a_program_of_its_own(bench):
    setting = bench.settled(of())
    bench.run(setting)
    jit, *others = bench.ask(setting, 12, "recompile")
    assert jit.outcome == "built"
    assert "12" in jit.words
    assert {answer.outcome for answer in others} == {"refused"}
    assert len(bench.program(setting, "jit").build.engines) == 2
    assert bench.program(setting, "jit").outside == "raise"
    assert outcomes(bench.ask(setting, 12)) == dict.fromkeys(PATHS, "refused")


def test_outside_its_range_a_program_runs_in_eager_if_asked_and_afterwards_no_more(bench):
    setting = bench.settled(of())
    assert outcomes(bench.ask(setting, 12, "eager")) == dict.fromkeys(PATHS, "eager")
    assert outcomes(bench.ask(setting, 3, "eager")) == dict.fromkeys(PATHS, "served")
    assert outcomes(bench.ask(setting, 12)) == dict.fromkeys(PATHS, "refused")


def test_what_may_happen_outside_is_one_of_three(bench):
    with pytest.raises(ValueError, match="outside is 'rebuild'; use raise, recompile, eager"):
        bench.ask(bench.settled(of()), 12, "rebuild")


def test_only_the_chosen_paths_are_asked(bench):
    assert outcomes(bench.ask(bench.settled(of(paths=("export",))), 3)) == {"export": "served"}


def test_two_dims_are_asked_by_the_first(bench, masked):
    setting = bench.settled(of("masked", tuple(masked.dims.values())))
    (jit, *_) = bench.ask(setting, 1)
    assert jit.sizes == {"batch": 1, "length": 5}
    assert jit.words == "engine 3 of 4: x [1, 2/5/9, 16] float32; mask [1, 2/5/9] float32"
    assert {answer.outcome for answer in bench.ask(setting, 5)} == {"refused"}


@pytest.mark.parametrize("size", [10**6, 2**31 - 1])
@pytest.mark.parametrize("outside", ["raise", "recompile", "eager"])
def test_a_size_that_would_fill_the_memory_is_refused_before_it_does(bench, size, outside, monkeypatch):
    monkeypatch.setattr(Case, "example", lambda *_, **__: pytest.fail("the input was made"))
    with pytest.raises(ShapeError, match=rf"at batch {size} the input x alone would take \d+ GB; .*smaller size\."):
        bench.ask(bench.settled(of()), size, outside)


def test_a_range_that_would_fill_the_memory_is_refused_before_it_does(bench, monkeypatch):
    monkeypatch.setattr(Case, "example", lambda *_, **__: pytest.fail("the input was made"))
    with pytest.raises(ShapeError, match=r"at batch 1000000 the input x alone would take 1 GB; .*smaller size\."):
        bench.settled(of(ranges=(DynamicDim("batch", 1, 4, 10**6),), sizes=()))
    with pytest.raises(ShapeError, match=r"at batch 1000000 the input x alone would take 1 GB; .*smaller size\."):
        bench.settled(of(ranges=(DynamicDim("batch", 1, 10**6, 10**6),), sizes=(4,)))
    assert bench.settled(of(ranges=(DynamicDim("batch", 1, 4, 10**6),), sizes=(4,)))


@pytest.mark.parametrize("size", [0, -1, 2**31, 1.5, "4", None])
def test_a_size_that_is_none_is_refused(bench, size):
    if size is None:
        assert {answer.sizes["batch"] for answer in bench.ask(bench.settled(of()), None)} == {4}
        return
    with pytest.raises(ShapeError, match="batch is"):
        bench.ask(bench.settled(of()), size)


def test_a_path_that_cannot_be_built_answers_so_and_the_others_answer(bench, monkeypatch):
    broken(monkeypatch, "input")
    answers = bench.ask(bench.settled(of()), 3)
    assert outcomes(answers) == {"jit": "served", "input": "failed", "export": "served"}
    assert answers[1].words == "the path is closed"


def test_a_model_that_fails_at_a_size_fails_there_and_is_reset(bench, monkeypatch):
    setting = bench.settled(of(paths=("export",)))
    bench.program(setting, "export")
    monkeypatch.setattr(Case, "eager", lambda *_: torch.ones(2) @ torch.ones(3))
    (answer,) = bench.ask(setting, 12, "eager")
    assert answer.outcome == "failed"
    assert answer.words.startswith("RuntimeError: ")
    assert bench.program(setting, "export").outside == "raise"


@pytest.mark.parametrize("outside", ["raise", "recompile"])
def test_asking_can_be_cancelled_at_every_step(bench, outside):
    setting, complete = bench.settled(of()), Stop()
    bench.ask(setting, 12, outside, complete)
    for at in range(len(complete.told)):
        fresh = Bench({"seed": lambda: bench.base("seed")}, bench.device)
        with pytest.raises(Cancelled):
            fresh.ask(setting, 12, outside, Stop(at))
        assert fresh.ask(replace(setting, paths=("jit",)), 3)[0].outcome == "served"
