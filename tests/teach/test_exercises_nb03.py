"""The exercises of notebook 3: right answers, and wrong ones with what is said to them."""

import re
from dataclasses import replace
from itertools import groupby

import pytest
from test_project import ROOT, cells_of

from tutorial_lib import engines, expand_reshape
from tutorial_lib.engines import EnginesUnavailable, install
from tutorial_lib.studio import Studio
from tutorial_lib.teach import check
from tutorial_lib.teach.exercises.nb03 import MOVES
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


def test_the_error_of_bf16_is_judged_by_powers_of_ten():
    assert check("03.bf16", {"error grows by": 10_000, "error / eager's": 1}).right
    assert "8 bits" in said("03.bf16", {"error grows by": 10, "error / eager's": 1})
    assert "more than 16 bits" in said("03.bf16", {"error grows by": 1e7, "error / eager's": 1})
    assert "bfloat16, too" in said("03.bf16", {"error grows by": 1e4, "error / eager's": 10})


def test_only_memory_moves_with_max():
    assert check("03.max", dict(MOVES)).right
    assert "'layers' stayed" in said("03.max", {**MOVES, "layers": True})
    assert "did move" in said("03.max", {**MOVES, "activation memory": False})
    assert "say True" in said("03.max", {**MOVES, "weights": "no"})


@pytest.mark.slow
def test_the_key_of_what_moves_is_that_of_real_engines():
    try:
        install.located()
    except EnginesUnavailable as error:
        pytest.skip(str(error))
    small, large = (engines.build(expand_reshape((1, 4, high)), "export").plans[0] for high in (8, 64))
    assert (small.activation_bytes != large.activation_bytes) == MOVES["activation memory"]
    assert (small.weight_bytes != large.weight_bytes) == MOVES["weights"]
    assert (len(small.layers) != len(large.layers)) == MOVES["layers"]


def test_an_error_grows_in_bf16_as_the_key_says(seed):
    studio = Studio(seed)
    try:
        rows = {}
        for precision in ("fp32", "bf16"):
            trial = studio.experiment(batch=(2, 4, 8), paths=["export"], precision=precision, sizes=[8], **QUICK)
            rows[precision] = trial.result().sweep.table.query("path == 'export'").iloc[0]
    finally:
        studio.close()
    grown = rows["bf16"]["rms"] / rows["fp32"]["rms"]
    assert check("03.bf16", {"error grows by": grown, "error / eager's": rows["bf16"]["ratio"]}).right


def test_the_compiler_that_was_done_sooner_is_that_of_the_outputs():
    cells = cells_of(ROOT / "notebooks/03_shape_studio.ipynb")
    texts = ["".join(output["text"]) for cell in cells for output in cell.get("outputs", ()) if "text" in output]
    rows = re.findall(r"(\S+) +built by (\w+) +in +([\d.]+) s", "".join(texts))
    sooner = {
        model: min(of_model, key=lambda row: float(row[2]))[1] for model, of_model in groupby(rows, lambda row: row[0])
    }
    assert sooner == dict.fromkeys(("gated-norm", "vit"), QUESTIONS["sooner"].answer)
