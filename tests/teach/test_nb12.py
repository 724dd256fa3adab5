"""The questions and exercises of notebook 12."""

import pytest
import torch
from torch import nn

from tutorial_lib import teach
from tutorial_lib.core.models import decoder
from tutorial_lib.teach.questions.nb12 import QUESTIONS

DECODE = {"batch": (1, 2, 4), "new": (1, 1, 1), "past": (2, 256, 511)}
PREFILL = {"batch": (1, 2, 4), "new": (2, 128, 512), "past": (2, 2, 2)}


def test_the_bytes_of_the_cache_are_those_of_the_model():
    keys = decoder(depth=1).model(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))[1]
    assert QUESTIONS["cache"].answer == 2 * keys.nbytes


@pytest.mark.parametrize("answer", [..., None, "many", -1, 100, 227, 228, 10**9])
def test_other_longest_caches_are_not_yet_right(answer):
    assert not teach.check("12.longest", answer).right


def test_the_longest_cache():
    assert teach.check("12.longest", 226).right


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., ""),
        ([DECODE], "two dictionaries"),
        ([DECODE, DECODE], ""),
        ([DECODE, {**PREFILL, "batch": (2, 2, 4), "new": (2, 128, 256)}], "a prompt of 384"),
        ([DECODE, {**PREFILL, "past": (2, 2, 511)}], "long prompts with long caches"),
        ([DECODE, {"new": (2, 128, 512)}], ""),
        ([1, 2], ""),
    ],
)
def test_other_profiles_are_not_yet_right(answer, says):
    feedback = teach.check("12.profiles", answer)
    assert not feedback.right
    assert says in feedback.sentence


def test_two_profiles_in_either_order():
    assert teach.check("12.profiles", [DECODE, PREFILL]).right
    assert teach.check("12.profiles", [PREFILL, DECODE]).right


def pad(texts, left=True):
    longest = max(map(len, texts))
    missing = [longest - len(text) for text in texts]
    ids = [nn.functional.pad(text, (n, 0) if left else (0, n)) for text, n in zip(texts, missing, strict=True)]
    return torch.stack(ids), torch.tensor(missing)


@pytest.mark.parametrize(
    "answer",
    [..., lambda texts: None, lambda texts: pad(texts, left=False), lambda texts: (pad(texts)[0], pad(texts)[1] * 0)],
)
def test_other_ways_to_pad_are_not_yet_right(answer):
    assert not teach.check("12.pad", answer).right


def test_padding_on_the_left_with_its_number():
    assert teach.check("12.pad", pad).right
