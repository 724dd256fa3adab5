"""The exercises of notebook 3: right answers, and wrong ones with what is said to them."""

import re
from dataclasses import replace
from itertools import groupby

import pytest
from test_project import ROOT, cells_of

from tutorial_lib import engines, expand_reshape
from tutorial_lib.engines import Recording
from tutorial_lib.studio import Studio
from tutorial_lib.teach.exercises.nb03 import ACTIVATION_MB
from tutorial_lib.teach.panels.panel import built
from tutorial_lib.teach.questions.nb03 import QUESTIONS

QUICK = {"backend": "eager", "samples": 1, "budget": 0}


@pytest.fixture
def in_panel(seed):
    studio = Studio(seed)
    yield lambda batch, paths=("jit",): studio.experiment(batch=batch, paths=paths, sizes=[batch[0]], **QUICK).result()
    studio.close()


def test_the_exercise_looks_at_what_the_panel_built(in_panel, judged):
    judged("03.one-engine", in_panel((1, 1, 1)))
    judged("03.one-engine", in_panel((1, 4, 8)), "has 2 engines")
    judged("03.one-engine", in_panel((2, 4, 8)), "refuses batch 1")
    judged("03.one-engine", in_panel((1, 1, 1), ("export",)), "built without jit")
    judged("03.one-engine", None, "build something in the panel first")  # and not: put your answer there


def choose(calls, ms):
    return min(ms, key=lambda opt: sum(count * ms[opt][tokens] for tokens, count in calls.items()))


def changes_what_it_is_given(calls, ms):
    chosen = choose(calls, ms)
    calls.clear()
    ms.clear()
    return chosen


def through(known):
    (small, low), (large, high) = known.items()
    return lambda largest: low + (high - low) / (large - small) * (largest - small)


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("03.choose", choose, None),
        ("03.choose", changes_what_it_is_given, None),
        ("03.choose", lambda calls, ms: max(calls, key=calls.get), "is sooner, and yours is"),  # where the calls are
        ("03.memory", through({8: 27.6, 64: 163}), None),  # as the panel rounds it
        ("03.memory", lambda largest: 27.6 / 8 * largest, "for a max of 16, TensorRT's engine wants 46.92 MB"),
        ("03.memory", lambda largest: -1e300, "yours says -1e+300 MB"),
        ("03.memory", lambda largest: 10**400, "give a number"),
        ("03.memory", lambda largest: {8: 27.6, 64: 163.1}[largest], "my_memory(16) raised KeyError"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged):
    judged(key, answer, said)


def test_a_line_through_two_engines_tells_the_memory_of_the_others_and_is_drawn(judged):
    assert judged("03.memory", through({8: 27.6, 64: 163.1})).figure is not None


@pytest.fixture(scope="module")
def run():
    studio = Studio()

    def run(precision, model="perceptron", tokens=(2, 4, 8), sizes=(8,)):
        trial = studio.experiment(model, tokens=tokens, paths=["export"], precision=precision, sizes=sizes, **QUICK)
        return trial.result()

    yield run
    studio.close()


def test_two_experiments_show_what_bf16_costs(run, judged):
    feedback = judged("03.bf16", {"fp32": run("fp32"), "bf16": run("bf16")})
    assert "compiling costs none on top" in feedback.sentence
    (row,) = feedback.table.to_dict("records")
    grown = float(row["grows by"].removesuffix("x").replace(",", ""))
    assert 1_000 < grown < 100_000
    assert 0.1 <= float(row["error / eager's in bf16"].removesuffix("x")) <= 1.5


def test_experiments_that_cannot_be_compared_are_told_why(run, in_panel, judged):
    fp32, bf16 = run("fp32"), run("bf16")
    judged("03.bf16", {"fp32": fp32, "bf16": fp32}, "the experiment for 'bf16' is in fp32")
    judged("03.bf16", {"fp32": in_panel((2, 4, 8)), "bf16": bf16}, "is about expand-reshape")
    judged("03.bf16", {"fp32": run("fp32", sizes=(4,)), "bf16": bf16}, "no number of tokens")
    judged("03.bf16", {"fp32": replace(fp32, sweep=None), "bf16": bf16}, "measured nothing")
    judged("03.bf16", {"fp32": 1e-7, "bf16": bf16}, "you give a float")


def test_the_memory_of_the_key_is_that_of_the_recorded_engines(nothing_can_be_built):
    recording = Recording(ROOT / "notebooks/00_start_here.json")
    for largest, memory in ACTIVATION_MB.items():
        (report,), _ = built(recording, expand_reshape((1, 4, largest)), ["export"])
        assert report.activation_bytes / 1e6 == pytest.approx(memory, rel=0.02)


@pytest.mark.slow
def test_only_memory_moves_with_max_in_real_engines(installed):
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
