"""The questions and exercises of notebook 12."""

import pytest
import torch
from torch import nn

from tutorial_lib.core.models import decoder
from tutorial_lib.teach.questions.nb12 import QUESTIONS

DECODE = {"batch": (1, 2, 4), "new": (1, 1, 1), "past": (2, 256, 511)}
PREFILL = {"batch": (1, 2, 4), "new": (2, 128, 512), "past": (2, 2, 2)}


def test_the_bytes_of_the_cache_are_those_of_the_model():
    keys = decoder(depth=1).model(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))[1]
    assert QUESTIONS["cache"].answer == 2 * keys.nbytes


def pad(texts, left=True):
    longest = max(map(len, texts))
    missing = [longest - len(text) for text in texts]
    ids = [nn.functional.pad(text, (n, 0) if left else (0, n)) for text, n in zip(texts, missing, strict=True)]
    return torch.stack(ids), torch.tensor(missing)


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("12.longest", 226, None),
        ("12.longest", 100, "too short"),
        ("12.longest", 227, "not in `past`"),
        ("12.longest", 228, "never read again"),
        ("12.longest", 10**9, "too long"),
        ("12.profiles", [DECODE, PREFILL], None),
        ("12.profiles", [PREFILL, DECODE], None),
        ("12.profiles", [DECODE], "two dictionaries"),
        ("12.profiles", [DECODE, DECODE], ""),
        ("12.profiles", [DECODE, {"new": (2, 128, 512)}], ""),
        ("12.profiles", [DECODE, {**PREFILL, "batch": (2, 2, 4), "new": (2, 128, 256)}], "a prompt of 384"),
        ("12.profiles", [DECODE, {**PREFILL, "past": (2, 2, 511)}], "long prompts with long caches"),
        ("12.pad", pad, None),
        ("12.pad", lambda texts: pad(texts, left=False), "another answer"),
        ("12.pad", lambda texts: (pad(texts)[0], pad(texts)[1] * 0), "another answer"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged):
    judged(key, answer, said)
