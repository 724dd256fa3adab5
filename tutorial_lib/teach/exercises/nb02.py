"""The exercises of notebook 2. Their keys are what real engines had; ``tests/teach`` builds them again."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from tutorial_lib.builds.report import Engine, EngineInput
from tutorial_lib.engines import EngineReport, FunctionReport
from tutorial_lib.engines.report import BUILD
from tutorial_lib.teach.checking import Feedback, NotYet, a_function, a_mapping, by_case, call, exercise

PROFILES = {
    (1, 4, 32): (1, 4, 32),
    (2, 4, 32): (1, 4, 32),
    (3, 8, 64): (3, 8, 64),
    (1, 1, 32): (1, 2, 32),
    (2, 2, 8): (1, 2, 8),
    (5, 16, 16): (5, 16, 16),
}
"""The profile on `export` of expand-reshape, by min, example and max of the batch."""


def _report(operators: Sequence[int], agrees: bool | None = True, error: str | None = None) -> FunctionReport:
    """A report on engines with so many operators each, for a batch of 4."""
    shape = (4, 196, 768)
    x = EngineInput("x", "float32", shape, shape, shape)
    engines = tuple(Engine((x,), "its only size", count, seconds=0.5) for count in operators)
    return FunctionReport(engines, agrees, error, warnings=(), version="made up", mode=BUILD)


REPORTS = {
    "min_block_size 5, the default": (_report([]), False, "PyTorch agrees with itself, without any engine"),
    "min_block_size 4": (_report([]), False, "PyTorch agrees with itself, without any engine"),
    "min_block_size 3": (_report([3]), True, "an engine was built, and its output agrees"),
    "jit": (_report([5]), True, "an engine was built, and its output agrees"),
    "a wrong weight": (_report([3], agrees=False), False, "the output differs from PyTorch's"),
    "an error after the build": (_report([3], None, "RuntimeError: out of memory"), False, "nothing was compared"),
    "a model in two parts": (_report([3, 2]), True, "engines were built, and the output agrees"),
}
"""Reports, made up in the manner of those under *Five operators*: whether they may pass, and why."""


@exercise(
    "02.profile",
    hint="Three rules, one for each number. A min of exactly 2 is changed, a min of 3 is not. And at which size can a "
    "dimension not be traced?",
)
def rule_of_profiles(answer: Any) -> Feedback:
    """A function that predicts the profile of export."""
    predict = a_function(answer, "def real_profile(low, example, high): return low, example, high")
    rows, wrong = [], []
    for typed, real in PROFILES.items():
        yours = call(predict, *typed, shown=f"real_profile{typed}")
        rows.append((" / ".join(map(str, typed)), str(real), str(yours)))
        if not (isinstance(yours, tuple | list) and list(yours) == list(real)):
            wrong.append(f"for {typed} TensorRT got {real}, and yours is {str(yours)[:60]}.")
    table = pd.DataFrame(rows, columns=["low / example / high", "TensorRT got", "yours"])
    return by_case(table, wrong, "that is what TensorRT gets, in all of these cases.")


@exercise(
    "02.range-check",
    hint="`x.shape[0]` is the batch. `raise ValueError(f'batch is {batch}; ...')` where it is below 2 or above 32, and "
    "nothing otherwise.",
)
def check_in_front(answer: Any) -> Feedback:
    """A function that refuses batches outside 2 to 32 with a sentence."""
    guard = a_function(answer, "def my_check(x): ...")
    rows = []
    for batch in (2, 4, 32, 1, 33):
        allowed = 2 <= batch <= 32
        try:
            returned, said = guard(torch.zeros(batch, 3, 4)), ""
        except ValueError as error:
            returned, said = None, str(error) or "a ValueError without a word"
        except Exception as error:
            raise NotYet(f"batch {batch}: your function raised {type(error).__name__}: {error}") from None
        rows.append((batch, "passes" if allowed else "is refused", said or "passes"))
        table = pd.DataFrame(rows, columns=["batch", "should", "with your check"])
        if allowed and said:
            raise NotYet(f"batch {batch} is in the range, and your check refuses it.", table=table)
        if allowed and returned is not None:
            raise NotYet(f"batch {batch} may pass: return nothing, not a {type(returned).__name__}.", table=table)
        if not allowed and not said:
            raise NotYet(f"batch {batch} passes, and the engine was not built for it.", table=table)
        if not allowed and str(batch) not in said:
            raise NotYet(f"the sentence does not name the batch, which is {batch}: {said}", table=table)
    return Feedback(True, "every batch that was promised passes, and the others are told why not.", table=table)


@exercise(
    "02.took-part",
    hint="`report.engines` is empty where PyTorch computed all of it. And `report.result` is what `fixed_batch` "
    "returns: whether the output agrees.",
)
def did_tensorrt_take_part(answer: Any) -> Feedback:
    """A function that is true for a report with engines whose output agrees."""
    took_part = a_function(answer, "def took_part(report): ...")
    rows, wrong = [], []
    for name, (report, should, why) in REPORTS.items():
        yours = bool(call(took_part, report, shown=f"took_part(report) for '{name}'"))
        agrees = {True: "yes", False: "no", None: "?"}[report.result]
        rows.append((name, len(report.engines), agrees, "pass" if should else "fail", "pass" if yours else "fail"))
        if yours != should:
            wrong.append(f"'{name}' should {rows[-1][3]}, since {why}; your check lets it {rows[-1][4]}.")
    table = pd.DataFrame(rows, columns=["build", "engines", "agrees", "should", "with your check"])
    return by_case(table, wrong, "you count the engines, and then you compare.")


@exercise(
    "02.no-surprise",
    hint="An engine for batch 1 has to be there before anybody asks for it. When does this package know that batch 1 "
    "will come?",
)
def no_engine_is_built_at_batch_1(answer: Any) -> Feedback:
    """The reports of the panel: a call at batch 1 on jit is served."""
    report = a_mapping(answer, ("jit",), "the panel")["jit"]
    if not isinstance(report, EngineReport) or not report.calls:
        raise NotYet("build a range in the panel first; then this cell looks at `profiles.reports`.")
    typed, first = report.requested[0], report.calls[0]
    rows = [(", ".join(f"{name} {size}" for name, size in each.sizes.items()), each.outcome) for each in report.calls]
    table = pd.DataFrame(rows, columns=["a call of jit at", "outcome"])
    if first.outcome != "served":
        what = "built another engine" if first.outcome == "built" else f"was {first.outcome}"
        raise NotYet(f"for {typed}, the call at batch 1 {what}.", table=table)
    return Feedback(True, "the engine for batch 1 was there before the call.", table=table)
