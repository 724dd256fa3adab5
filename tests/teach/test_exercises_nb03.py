"""The exercises of notebook 3: right answers, and wrong ones with what is said to them."""

import re
from dataclasses import replace
from itertools import groupby

import pytest
from test_project import ROOT, cells_of

from tutorial_lib import engines, expand_reshape
from tutorial_lib.engines import EnginesUnavailable, Recording, install
from tutorial_lib.studio import Studio
from tutorial_lib.teach import check
from tutorial_lib.teach.exercises.nb03 import ACTIVATION_MB
from tutorial_lib.teach.panels.panel import built
from tutorial_lib.teach.questions.nb03 import QUESTIONS

QUICK = {"backend": "eager", "samples": 1, "budget": 0}


def said(key, answer):
    feedback = check(key, answer)
    assert not feedback.right
    return feedback.sentence


@pytest.fixture
def studio(seed):
    made = Studio(seed)
    yield made
    made.close()


@pytest.fixture
def in_panel(studio):
    return lambda batch, paths=("jit",): studio.experiment(batch=batch, paths=paths, sizes=[batch[0]], **QUICK).result()


def test_the_exercise_looks_at_what_the_panel_built(in_panel):
    assert check("03.one-engine", in_panel((1, 1, 1))).right
    assert "has 2 engines" in said("03.one-engine", in_panel((1, 4, 8)))
    assert "refuses batch 1" in said("03.one-engine", in_panel((2, 4, 8)))
    assert "built without jit" in said("03.one-engine", in_panel((1, 1, 1), ("export",)))
    assert "build something" in said("03.one-engine", replace)


def test_a_panel_in_which_nothing_was_built_is_no_unsolved_exercise():
    assert said("03.one-engine", None).startswith("build something in the panel first")
    assert "put your answer" in said("03.choose", None)


def test_the_engine_that_answers_all_calls_sooner_is_chosen():
    def choose(calls, ms):
        return min(ms, key=lambda opt: sum(count * ms[opt][tokens] for tokens, count in calls.items()))

    assert check("03.choose", choose).right


@pytest.mark.parametrize(
    "choose",
    [
        lambda calls, ms: max(calls, key=calls.get),  # where the calls are
        lambda calls, ms: max(calls),
        lambda calls, ms: 1,
        lambda calls, ms: None,
    ],
)
def test_another_choice_is_told_for_which_calls_it_is_wrong(choose):
    assert "is sooner, and yours is" in said("03.choose", choose)


def test_a_function_that_changes_what_it_is_given_does_not_change_the_question():
    def clears(calls, ms):
        calls.clear()
        ms.clear()

    assert said("03.choose", clears) == said("03.choose", clears)


@pytest.fixture
def run():
    studio = Studio()

    def run(precision, model="perceptron", tokens=(2, 4, 8), sizes=(8,)):
        trial = studio.experiment(model, tokens=tokens, paths=["export"], precision=precision, sizes=sizes, **QUICK)
        return trial.result()

    yield run
    studio.close()


def test_two_experiments_show_what_bf16_costs(run):
    feedback = check("03.bf16", {"fp32": run("fp32"), "bf16": run("bf16")})
    assert feedback.right
    assert "compiling costs none on top" in feedback.sentence
    (row,) = feedback.table.to_dict("records")
    grown = float(row["grows by"].removesuffix("x").replace(",", ""))
    assert 1_000 < grown < 100_000
    assert 0.1 <= float(row["error / eager's in bf16"].removesuffix("x")) <= 1.5


def test_experiments_that_cannot_be_compared_are_told_why(run, in_panel):
    fp32, bf16 = run("fp32"), run("bf16")
    assert "the experiment for 'bf16' is in fp32" in said("03.bf16", {"fp32": fp32, "bf16": fp32})
    assert "is about expand-reshape" in said("03.bf16", {"fp32": in_panel((2, 4, 8)), "bf16": bf16})
    assert "no number of tokens" in said("03.bf16", {"fp32": run("fp32", sizes=(4,)), "bf16": bf16})
    assert "measured nothing" in said("03.bf16", {"fp32": replace(fp32, sweep=None), "bf16": bf16})
    assert "you give a float" in said("03.bf16", {"fp32": 1e-7, "bf16": bf16})
    assert "put your answer for 'bf16'" in said("03.bf16", {"fp32": fp32, "bf16": ...})


def through(known):
    (small, low), (large, high) = known.items()
    return lambda largest: low + (high - low) / (large - small) * (largest - small)


def test_a_line_through_two_engines_tells_the_memory_of_the_others():
    feedback = check("03.memory", through({8: 27.6, 64: 163.1}))
    assert feedback.right
    assert feedback.figure is not None
    assert check("03.memory", through({8: 27.6, 64: 163})).right, "as the panel rounds it"


@pytest.mark.parametrize(
    ("my_memory", "sentence"),
    [
        (lambda largest: 27.6 / 8 * largest, "for a max of 16, TensorRT's engine wants 46.92 MB, and yours says 55.2"),
        (lambda largest: 163.1, "for a max of 8"),
        (lambda largest: -1e300, "yours says -1e+300 MB"),
        (lambda largest: 10**400, "give a number"),
        (lambda largest: {8: 27.6, 64: 163.1}[largest], "my_memory(16) raised KeyError"),
        (lambda largest: None, "give a number"),
        (lambda largest: ..., "still returns `...`"),
    ],
)
def test_other_memory_is_told_for_which_max(my_memory, sentence):
    assert sentence in said("03.memory", my_memory)


def test_the_memory_of_the_key_is_that_of_the_recorded_engines(monkeypatch):
    def located():
        raise EnginesUnavailable("TensorRT for RTX is not installed here.")

    monkeypatch.setattr(install, "located", located)
    recording = Recording(ROOT / "notebooks/00_start_here.json")
    for largest, memory in ACTIVATION_MB.items():
        (report,), _ = built(recording, expand_reshape((1, 4, largest)), ["export"])
        assert report.activation_bytes / 1e6 == pytest.approx(memory, rel=0.02)


@pytest.mark.slow
def test_only_memory_moves_with_max_in_real_engines():
    try:
        install.located()
    except EnginesUnavailable as error:
        pytest.skip(str(error))
    small, large = (engines.build(expand_reshape((1, 4, high)), "export").plans[0] for high in (8, 64))
    for plan, high in ((small, 8), (large, 64)):
        assert plan.activation_bytes / 1e6 == pytest.approx(ACTIVATION_MB[high], rel=0.02)
    assert small.weight_bytes == large.weight_bytes
    assert len(small.layers) == len(large.layers)


def test_the_compiler_that_was_done_sooner_is_that_of_the_outputs():
    cells = cells_of(ROOT / "notebooks/03_shape_studio.ipynb")
    texts = ["".join(output["text"]) for cell in cells for output in cell.get("outputs", ()) if "text" in output]
    rows = re.findall(r"(\S+) +built by (\w+) +in +([\d.]+) s", "".join(texts))
    sooner = {
        model: min(of_model, key=lambda row: float(row[2]))[1] for model, of_model in groupby(rows, lambda row: row[0])
    }
    assert sooner == dict.fromkeys(("gated-norm", "vit"), QUESTIONS["sooner"].answer)
