"""A few models of the zoo in CI, and whether its judge notices what is wrong; `make zoo` compiles all of them."""

import pytest
import torch
from judge import CRASHED, REFUSED, WORKS, in_float64, mistake, refusal
from models import MODELS
from run_zoo import judged
from torch import nn

from tutorial_lib import PATHS, BuildError, Case, DynamicDim, TensorSpec

IN_CI = {
    "decoder_with_cache": WORKS,
    "detection_head": WORKS,
    "recurrent_cell": WORKS,
    "rotary_embedding": WORKS,
    "counter_in_a_buffer": REFUSED,
}


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", IN_CI)
def test_a_model_of_the_zoo_works_or_is_refused(name, path):
    verdict, reason = judged(MODELS[name](), path, "eager")
    assert verdict == IN_CI[name], reason


@pytest.mark.slow
def test_a_model_of_the_zoo_works_with_inductor(inductor):
    verdict, reason = judged(MODELS["detection_head"](), "export", inductor)
    assert verdict == WORKS, reason


class Judged(nn.Module):
    """Scores, labels, a spectrum, and logarithms of which half are NaN."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 5)

    def forward(self, x):
        scores = self.linear(x)
        return scores, scores.argmax(dim=1), torch.fft.rfft(x), scores.log()


@pytest.fixture
def case():
    torch.manual_seed(0)
    return Case("judged", Judged(), (TensorSpec("x", (DynamicDim("batch", 1, 4, 12), 8)),))


FAULTS = {
    "wrong at the largest size": lambda x, scores, *others: (scores + (x.shape[0] == 12), *others),
    "another dtype": lambda x, scores, *others: (scores.double(), *others),
    "another label": lambda x, scores, labels, *others: (scores, (labels + 1) % 5, *others),
    "conjugate": lambda x, scores, labels, spectrum, logs: (scores, labels, spectrum.conj(), logs),
    "zeros for NaN": lambda x, scores, labels, spectrum, logs: (scores, labels, spectrum, logs.nan_to_num()),
    "a list": lambda x, *results: list(results),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_judge_notices_a_wrong_result(case, fault):
    assert mistake(lambda x: fault(x, *case.model(x)), case.model, case)


def test_the_judge_notices_what_is_written_into_an_input(case):
    def program(x):
        results = case.model(x)
        x.zero_()
        return results

    assert "inputs" in mistake(program, case.model, case)


@torch.no_grad()
def test_the_judge_notices_a_result_that_a_later_call_overwrites(case):
    memory = torch.empty(12, 5)

    def program(x):
        scores, *others = case.model(x)
        return (memory[: x.shape[0]].copy_(scores), *others)

    assert mistake(program, case.model, case)


def test_the_judge_takes_what_is_as_exact_as_eager(case):
    assert mistake(case.model, case.model, case) is None
    assert mistake(lambda x: (in_float64(case.model, (x,))[0].float(), *case.model(x)[1:]), case.model, case) is None


def test_the_judge_allows_for_the_precision_that_a_model_computes_in():
    case = MODELS["autocast_body"]()
    assert mistake(lambda x: case.model(x) * (1 + 1e-3), case.model, case) is None  # a rounding of bfloat16 is 4e-3
    assert mistake(lambda x: case.model(x) * 1.05, case.model, case)


def test_the_judge_notices_a_random_model():
    case = MODELS["dropout_left_on"]()
    assert "each time" in mistake(case.model, case.model, case)


def test_an_error_that_was_not_understood_is_no_refusal():
    assert refusal(BuildError("x could not compile: only multiples of 4 fit; use step=4.")) == REFUSED
    assert refusal(BuildError("x could not compile: AssertionError: s0 in replacements")) == CRASHED
    assert refusal(RuntimeError("x")) == CRASHED
