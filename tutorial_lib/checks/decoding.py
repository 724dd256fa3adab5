"""Does a compiled language model stay right, token after token? Its own cache feeds every step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tutorial_lib.checks import float64
from tutorial_lib.checks.agreement import TOLERATED, Agreement, compare
from tutorial_lib.core.models import Case

Program = Callable[..., Any]
"""Called with ids, padding and, but for the first call, keys and values; it returns logits, keys and values."""


@dataclass(frozen=True)
class Step:
    """One step of a sequence.

    Attributes
    ----------
    agreement : Agreement
        Of the logits [batch, vocabulary] of the last token with float64's.
    same_token : bool
        Whether program and eager choose the same token in every row.
    tied : int
        Rows in which the two best logits of eager are nearer to each other than rounding may move them: 2 x 4 times
        eager's own largest error. There another token is no fault.
    """

    agreement: Agreement
    same_token: bool
    tied: int

    @property
    def right(self) -> bool:
        """Whether the logits agree, and the token is the same unless two were tied."""
        return self.agreement.agrees and (self.same_token or self.tied > 0)


@torch.no_grad()
def teacher_forced(case: Case, prefill: Program, decode: Program, prompt: torch.Tensor, steps: int) -> tuple[Step, ...]:
    """Feed `prompt` and then, one by one, the tokens that float64 chooses, to three: program, eager and float64.

    Each of the three keeps a cache of its own, so errors may add up over the steps.

    Parameters
    ----------
    case : Case
        :func:`~tutorial_lib.core.models.decoder`, with the model that both programs were compiled from.
    prefill, decode : callable
        The programs: for the prompt without a cache, and for one token with it.
    prompt : torch.Tensor
        ids [batch, length], without padding.
    steps : int
        Number of decode steps after the prefill.

    Returns
    -------
    tuple of Step
        One for the prefill, and one for each step.
    """
    wide = float64.widened(case.model)
    runs: tuple[Program, ...] = (prefill, case.eager, lambda *inputs: float64.run(wide, inputs))
    padding = torch.zeros(len(prompt), dtype=torch.int64, device=prompt.device)
    caches: list[list[torch.Tensor]] = [[] for _ in runs]
    ids, results = prompt, []
    for _ in range(steps + 1):
        logits = []
        for index, run in enumerate(runs):
            scores, *cache = run(ids, padding, *caches[index])
            caches[index] = [x.contiguous() for x in cache]  # a compiler may return other strides than eager
            logits.append(scores[:, -1])
        results.append(_step(*logits))
        ids = logits[2].argmax(dim=-1, keepdim=True)
        runs = (decode, *runs[1:])
    return tuple(results)


def _step(program: torch.Tensor, eager: torch.Tensor, double: torch.Tensor) -> Step:
    best, second = eager.topk(2, dim=-1).values.unbind(dim=-1)
    bound = 2 * TOLERATED * (eager - double).abs().max()
    same = torch.equal(program.argmax(dim=-1), eager.argmax(dim=-1))
    return Step(compare(program, eager, double), same, int((best - second <= bound).sum()))
