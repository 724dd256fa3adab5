"""The studio without widgets: it builds, measures, remembers, and can be stopped at every step."""

from dataclasses import replace

import pytest
import torch

from tutorial_lib import PATHS, Case, DynamicDim, ShapeError
from tutorial_lib.builds import package_cache
from tutorial_lib.core import progress
from tutorial_lib.core.progress import Cancelled
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.sweep import EAGER
from tutorial_lib.studio import cached_runs
from tutorial_lib.studio.cached_runs import CachedRuns

AHEAD = ("input", "export")


def setting_of(model="seed", batch=(1, 4, 8), **more):
    values = {"ranges": (DynamicDim("batch", *batch),), "paths": AHEAD, "sizes": (1, 4), "samples": 1}
    return Setting(model, **{"backend": "eager", **values, **more})


@pytest.fixture
def runs(seed, masked):
    return CachedRuns({"seed": lambda: seed, "masked": lambda: masked}, seed.device)


class Stop:
    """A listener that cancels at one step, counted from 0."""

    def __init__(self, at=None):
        self.at, self.told = at, []

    def __call__(self, share, text):
        self.told.append((share, text))
        if self.at is not None and len(self.told) > self.at:
            raise Cancelled


# ---- what is remembered -----------------------------------------------------------------------------------------


def test_only_another_range_or_precision_is_built_again(runs, builds):
    for other in ({}, {"sizes": (2, 8)}, {"paths": ("export",)}, {"samples": 2}):
        runs.run(runs.settled(setting_of(**other)))
    assert builds == dict.fromkeys(AHEAD, 1)
    runs.run(runs.settled(setting_of(batch=(1, 5, 8))))
    result = runs.run(runs.settled(setting_of(precision="bf16")))
    assert result.builds[0].engines[0].data[0].dtype == "bfloat16"
    assert builds == dict.fromkeys(AHEAD, 3)


def test_a_path_that_failed_is_tried_again_and_the_others_are_not(runs, monkeypatch, builds):
    setting = runs.settled(setting_of())
    with monkeypatch.context() as patch:
        full = OSError(28, "No space left on device\nand more")
        patch.setitem(PATHS, "input", lambda *_: (_ for _ in ()).throw(full))
        failures = runs.run(setting).failures
    assert failures["input"].sentence == "OSError: [Errno 28] No space left on device"
    assert runs.cached(setting) is None
    assert runs.run(setting).failures == {}
    assert builds == dict.fromkeys(AHEAD, 1)


def test_a_known_setting_is_not_measured_again_unless_it_is_to_be_fresh(runs, builds, monkeypatch):
    policies, export = [], PATHS["export"]
    monkeypatch.setitem(PATHS, "export", lambda *more: policies.append(package_cache.current_policy()) or export(*more))
    setting, listener = runs.settled(setting_of()), Stop()
    first = runs.run(setting)
    assert runs.run(setting, tell=listener) is first
    assert listener.told == []
    again = runs.run(setting, fresh=True)
    assert again is not first
    assert runs.cached(setting) is again
    assert policies == ["reuse", "fresh"]
    assert package_cache.current_policy() == "off"
    runs.run(runs.settled(setting_of(sizes=(2,))))
    assert builds == dict.fromkeys(AHEAD, 2)


def test_what_was_used_longest_ago_is_forgotten(seed, builds, monkeypatch):
    monkeypatch.setattr(cached_runs, "PROGRAMS", 2)
    monkeypatch.setattr(cached_runs, "RESULTS", 2)
    runs = CachedRuns({"seed": lambda: seed}, seed.device)
    first, second, third = (runs.settled(setting_of(batch=(1, opt, 8), paths=("export",))) for opt in (2, 3, 4))
    for setting in (first, second, first, third):
        runs.run(setting)
    assert [bool(runs.cached(setting)) for setting in (first, second, third)] == [True, False, True]
    assert builds["export"] == 3
    runs.program(third, "export")
    assert builds["export"] == 3
    runs.program(first, "export")  # its result came from memory, so its program was used longest ago
    assert builds["export"] == 4


def test_programs_that_were_built_at_different_times_are_compared_with_each_other(seed):
    models = [f"model_{number}" for number in range(cached_runs.PROGRAMS // 2)]
    runs = CachedRuns({name: lambda: seed for name in models}, seed.device)
    for model in models:
        runs.run(runs.settled(setting_of(model, paths=("input",))))
    result = runs.run(runs.settled(setting_of(models[0])))
    assert list(result.sweep.table["path"].unique()) == [EAGER, *AHEAD]


# ---- streaming and stopping -------------------------------------------------------------------------------------


def test_results_stream_in_from_eager_alone_to_all_paths_side_by_side(runs):
    shown = []
    result = runs.run(runs.settled(setting_of(samples=2)), show=shown.append)
    assert not any(each.final for each in shown)
    assert [len(each.builds) for each in shown] == [0, 1, 2, 2, 2]
    paths = [list(each.sweep.table["path"].unique()) for each in shown]
    assert paths == [[EAGER], *[[EAGER, AHEAD[0]]] * 2, *[[EAGER, *AHEAD]] * 2], "the first path as soon as it is built"
    assert result.final


def test_a_path_that_took_long_to_build_is_looked_at_before_the_next(runs, monkeypatch):
    monkeypatch.setattr(cached_runs, "WORTH_A_LOOK", 0)
    shown = []
    runs.run(runs.settled(setting_of(paths=("jit", "input", "export"))), show=shown.append)
    assert (EAGER, "jit", "input") in [tuple(dict.fromkeys(each.sweep.table["path"])) for each in shown]


def test_the_share_that_is_done_never_falls(runs):
    listener = Stop()
    runs.run(runs.settled(setting_of(samples=2)), tell=listener)
    shares, texts = zip(*listener.told, strict=True)
    assert list(shares) == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1
    for step in ("a first look at eager", "tracing export", "comparing at batch 4 (2 of 2)", "round 2 of 2"):
        assert any(step in text for text in texts)


def test_a_run_cancelled_at_any_step_leaves_all_usable(runs):
    setting, complete = runs.settled(setting_of(sizes=(2,))), Stop()
    result = runs.run(setting, tell=complete)
    assert len(complete.told) > 8
    for at in range(len(complete.told)):
        with pytest.raises(Cancelled):
            runs.run(setting, tell=Stop(at), fresh=True)
        assert runs.cached(setting) is result
        assert package_cache.current_policy() == "off"
        progress.stage("nobody listens any more")
    assert runs.run(runs.settled(setting_of(sizes=(3,)))).sweep.agrees


def test_what_was_built_before_a_run_was_cancelled_is_not_built_again(runs, builds):
    def stops(share, text):
        if text.startswith("comparing"):
            raise Cancelled

    setting = runs.settled(setting_of())
    with pytest.raises(Cancelled):
        runs.run(setting, tell=stops)
    assert runs.cached(setting) is None
    runs.run(setting)
    assert builds == dict.fromkeys(AHEAD, 1)


# ---- asking -----------------------------------------------------------------------------------------------------


def outcomes(answers):
    return {answer.path: answer.outcome for answer in answers}


def test_an_answer_says_which_engine_serves_a_size(runs):
    setting = runs.settled(setting_of(paths=tuple(PATHS)))
    assert {answer.path: answer.words for answer in runs.ask(setting, 3)} == {
        "jit": "engine 1 of 2: x [2/4/8, 7, 48] float32",
        "input": "engine 1 of 1: x [1/4/8, 7, 48] float32",
        "export": "engine 1 of 1: x [1/4/8, 7, 48] float32",
    }
    jit, *_ = runs.ask(setting, 1)
    assert (jit.outcome, jit.words, jit.sizes) == ("served", "engine 2 of 2: x [1, 7, 48] float32", {"batch": 1})
    assert jit.seconds > 0


def test_jit_recompiles_outside_its_range_on_a_program_that_is_not_measured(runs):
    setting = runs.settled(setting_of(paths=("jit", "export")))
    answers = runs.ask(setting, 12, "recompile")
    assert outcomes(answers) == {"jit": "built", "export": "refused"}
    assert "12" in answers[0].words
    assert len(runs.program(setting, "jit").build.engines) == 2
    assert outcomes(runs.ask(setting, 12)) == {"jit": "refused", "export": "refused"}


def test_outside_its_range_a_program_runs_in_eager_if_asked_and_afterwards_refuses_again(runs):
    setting = runs.settled(setting_of())
    assert outcomes(runs.ask(setting, 12, "eager")) == dict.fromkeys(AHEAD, "eager")
    assert outcomes(runs.ask(setting, 3, "eager")) == dict.fromkeys(AHEAD, "served")
    refusals = runs.ask(setting, 12)
    assert outcomes(refusals) == dict.fromkeys(AHEAD, "refused")
    assert all("batch is 12 on x" in answer.words for answer in refusals)


def test_two_dims_are_asked_by_the_first(runs, masked):
    setting = runs.settled(setting_of("masked", ranges=tuple(masked.dims.values()), paths=("jit",)))
    (answer,) = runs.ask(setting, 1)
    assert answer.sizes == {"batch": 1, "length": 5}
    assert answer.words == "engine 3 of 4: x [1, 2/5/9, 16] float32; mask [1, 2/5/9] float32"


def test_what_cannot_be_asked_is_refused_before_any_input_is_made(runs, monkeypatch):
    monkeypatch.setattr(Case, "example", lambda *_, **__: pytest.fail("the input was made"))
    setting = runs.settled(setting_of())
    for size, said in ((0, "batch is"), (1.5, "batch is"), (10**6, "1 GB")):
        with pytest.raises(ShapeError, match=said):
            runs.ask(setting, size, "eager")
    with pytest.raises(ValueError, match="'rebuild'; use raise, recompile, eager"):
        runs.ask(setting, 12, "rebuild")


def test_a_range_that_would_fill_the_memory_is_refused(runs):
    for batch, sizes in (((1, 4, 10**6), ()), ((1, 10**6, 10**6), (4,))):
        with pytest.raises(ShapeError, match="1 GB"):
            runs.settled(setting_of(batch=batch, sizes=sizes))
    assert runs.settled(setting_of(batch=(1, 4, 10**6), sizes=(4,)))


def test_a_path_that_fails_answers_so_and_the_others_answer(runs, broken, monkeypatch):
    broken("input")
    setting = runs.settled(setting_of())
    answers = runs.ask(setting, 3)
    assert outcomes(answers) == {"input": "failed", "export": "served"}
    assert answers[0].words == "the path is closed"
    monkeypatch.setattr(Case, "eager", lambda *_: torch.ones(2) @ torch.ones(3))
    assert runs.ask(setting, 12, "eager")[1].words.startswith("RuntimeError: ")
    assert runs.program(setting, "export").outside == "raise"


def test_asking_can_be_cancelled_at_every_step(runs):
    setting, complete = runs.settled(setting_of()), Stop()
    runs.ask(setting, 12, tell=complete)
    for at in range(len(complete.told)):
        fresh = CachedRuns({"seed": lambda: runs.base("seed")}, runs.device)
        with pytest.raises(Cancelled):
            fresh.ask(setting, 12, tell=Stop(at))
        assert fresh.ask(replace(setting, paths=("export",)), 3)[0].outcome == "served"


# ---- TensorRT's engines -----------------------------------------------------------------------------------------


def test_engines_are_built_before_the_programs_and_are_in_the_result(runs, builder, builds):
    tells = Stop()
    setting = runs.settled(setting_of(engines=True))
    with pytest.raises(Cancelled):
        runs.run(setting, tell=Stop(0))
    assert runs.cached(setting) is None
    result = runs.run(setting, tell=tells)
    assert [report.path for report in result.engines] == list(AHEAD)
    assert result.sweep.agrees
    assert builder[-2:] == [(path, "1/4/8", ()) for path in AHEAD]
    assert builds == dict.fromkeys(AHEAD, 1)
    shares = [share for share, _ in tells.told]
    assert shares == sorted(shares)


def test_other_engines_are_no_reason_to_measure_again(runs, builder, builds, monkeypatch):
    without = runs.run(runs.settled(setting_of()))
    monkeypatch.setattr(cached_runs, "build", lambda *_: pytest.fail("it was built again"))
    with_engines = runs.run(runs.settled(setting_of(engines=True)))
    called = runs.run(runs.settled(setting_of(engines=True, calls=(1, 33))))
    assert with_engines.sweep is called.sweep is without.sweep
    assert [report.path for report in called.engines] == list(AHEAD)
    assert builder[2:] == [(path, "1/4/8", (1, 33)) for path in AHEAD]
    assert "engines" in called.seconds
    back = runs.run(runs.settled(setting_of(samples=1)))
    assert back.engines == ()


def test_engines_are_reused_whatever_is_measured_and_by_which_backend(runs, builder):
    first = runs.settled(setting_of(engines=True))
    reused = [runs.engines(first, "export")]
    for other in (replace(first, sizes=(8,)), replace(first, samples=9), replace(first, backend="inductor")):
        reused.append(runs.engines(other, "export"))
    assert all(report is reused[0] for report in reused)
    assert len(builder) == 1
    for other in (replace(first, precision="bf16"), runs.settled(setting_of(batch=(1, 4, 16)))):
        runs.engines(other, "export")
    runs.engines(replace(first, backend="tensorrt"), "export")
    assert len(builder) == 4
    runs.run(replace(first, measure=False, paths=("export",)), fresh=True)
    assert len(builder) == 5


def test_a_refusal_of_tensorrt_costs_nothing_else_and_is_tried_again_from_scratch(runs, builder):
    setting = runs.settled(setting_of(batch=(1, 4, 5), engines=True))
    result = runs.run(setting)
    assert [report.failed for report in result.engines] == ["TensorRT's own words."] * 2
    assert result.failures == {}
    assert result.sweep.agrees
    runs.engines(setting, "export")
    assert len(builder) == 3


def test_engines_with_another_max_are_found_by_their_dimension(runs, builder):
    setting = runs.settled(setting_of(paths=("export",), engines=True, calls=(9,)))
    others = list(runs.other_maxes(setting, "batch"))
    assert [other.ranges[0].max for other in others] == [16, 4, 32]  # not 2, which is below opt
    assert {other.calls for other in others} == {()}
    for other in (setting, *others):
        runs.engines(other, "export")
    runs.engines(setting, "jit")
    runs.engines(replace(setting, precision="bf16"), "export")
    over_max = runs.engines_over_max(setting, "batch")
    assert [report.engines[0].data[0].max[0] for report in over_max] == [8, 16, 4, 32]
    assert {report.path for report in over_max} == {"export"}
