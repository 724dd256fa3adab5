"""The exercises of notebook 12: the longest cache, profiles for a language model, padding a batch."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tutorial_lib.core.models import Case, decoder
from tutorial_lib.core.profiles import holding
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.teach.checking import Feedback, NotYet, a_function, a_number, call, exercise

CALLS = {
    "a prompt of 100": {"batch": 2, "new": 100, "past": 2},
    "a prompt of 384": {"batch": 4, "new": 384, "past": 2},
    "the first token": {"batch": 4, "new": 1, "past": 12},
    "the last token": {"batch": 1, "new": 1, "past": 511},
}


@cache
def _case() -> Case:
    return decoder(batch=(1, 2, 4), new=(1, 2, 512), past=(2, 256, 511), depth=1)


@exercise("12.longest", hint="The prefill gives the first token. Which step gives the last, and what is its past?")
def longest_cache(answer: Any) -> Feedback:
    """The max of `past` for a prompt of 128 tokens and 100 that are generated."""
    given = a_number(answer, "the max of `past`")
    if given == 228:
        raise NotYet("228 is the whole text, and its last token is never read again.")
    if given == 227:
        raise NotYet("227 is what the last step attends to; one of these tokens is its own, and not in `past`.")
    if given != 226:
        side = "short" if given < 226 else "long"
        raise NotYet(f"{given:g} is too {side}: how many tokens are in the cache that the last decode step is given?")
    return Feedback(True, "the prefill gives token 1; decode step n has 127 + n tokens in its cache, up to n = 99.")


@exercise("12.profiles", hint="A decode step has new = (1, 1, 1). A prompt has two entries of padding for a cache.")
def profiles_for_the_calls(answer: Any) -> Feedback:
    """Two profiles that take every call of `CALLS`, and neither a prompt with a long cache."""
    if not isinstance(answer, Sequence) or isinstance(answer, str) or len(answer) != 2:
        raise NotYet("give a list of two dictionaries, each with batch, new and past.")
    try:
        case = _case().with_profiles(*answer)
    except (ShapeError, TypeError) as error:
        raise NotYet(str(error)) from None
    if not case.profiles:
        raise NotYet("these two are one and the same range.")
    for name, sizes in CALLS.items():
        if holding(case.profiles, sizes) is None:
            raise NotYet(f"no profile takes {name}: {', '.join(f'{dim} {size}' for dim, size in sizes.items())}.")
    largest = [{dim.name: dim.max for dim in profile} for profile in case.profiles]
    scores = max(sizes["batch"] * sizes["new"] * (sizes["past"] + sizes["new"]) for sizes in largest)
    if scores > 4 * 512 * (64 + 512):
        raise NotYet("one of them takes long prompts with long caches too, and its memory is for these.")
    return Feedback(True, "every call has its profile, and neither pays for the other's max.")


@exercise("12.pad", hint="Left of each row: torch.cat([zeros, ids]); padding[row] is the number of zeros.")
def pad_a_batch(answer: Any) -> Feedback:
    """A function from a list of id tensors [n] to ``ids`` [batch, longest] and ``padding`` [batch]."""
    pad = a_function(answer, "lambda texts: (ids, padding)")
    model = _case().model
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(1, 256, (length,), generator=generator) for length in (5, 3, 8)]
    result = call(pad, texts, shown="your function, given texts of 5, 3 and 8 tokens,")
    if not isinstance(result, tuple | list) or len(result) != 2 or not all(isinstance(t, Tensor) for t in result):
        raise NotYet("your function returns something else than two tensors; return ids and padding.")
    ids, padding = result
    if ids.shape != (3, 8) or ids.dtype != torch.int64:
        raise NotYet(f"your ids are {list(ids.shape)} {ids.dtype}, and have to be [3, 8] torch.int64.")
    if padding.shape != (3,) or padding.dtype != torch.int64:
        raise NotYet(f"your padding is {list(padding.shape)} {padding.dtype}, and has to be [3] torch.int64.")
    with torch.no_grad():
        together = model(ids.clamp(0, 255), padding)[0][:, -1]
        alone = torch.stack([model(text[None], torch.zeros(1, dtype=torch.int64))[0][0, -1] for text in texts])
    wrong = [row for row in range(3) if not torch.allclose(together[row], alone[row], rtol=1e-3, atol=1e-4)]
    if wrong:
        raise NotYet(f"the text of {len(texts[wrong[0]])} tokens gets another answer in the batch than alone.")
    return Feedback(True, "every text gets the answer that it gets alone.")
