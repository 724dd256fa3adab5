"""The exercises of notebook 3. None depends on a time that was measured just now."""

from typing import Any

import pandas as pd

from tutorial_lib.experiments.result import Result
from tutorial_lib.teach.checking import Feedback, NotYet, a_function, a_mapping, a_number, by_case, call, exercise

CURVES = {
    "one-sided": {1: {1: 0.03, 1024: 5.9}, 1024: {1: 0.06, 1024: 2.0}},
    "close": {1: {1: 0.10, 1024: 2.2}, 1024: {1: 0.90, 1024: 2.0}},
}
"""Milliseconds by the opt that an engine was tuned for, and the tokens of a call: made up, in the manner of those
measured in experiment 2."""
TRAFFIC: tuple[tuple[str, dict[int, int]], ...] = (
    ("one-sided", {1: 90, 1024: 10}),
    ("one-sided", {1: 999, 1024: 1}),
    ("close", {1: 90, 1024: 10}),
    ("close", {1: 10, 1024: 90}),
)
MOVES = {"activation memory": True, "weights": False, "layers": False}
"""Whether it differs between TensorRT's engines of expand-reshape for a max of 8 and of 64, on `export`."""


@exercise(
    "03.one-engine",
    hint="A second engine is built where the range goes on after 1. Is there a range that does not go on, and has 1?",
    from_panel=True,
)
def one_engine_that_serves_1(answer: Any) -> Feedback:
    """The panel's result: a range with batch 1 for which jit has one engine."""
    if not isinstance(answer, Result):
        raise NotYet("build something in the panel first; then this cell looks at `studio.result`.")
    builds = {build.path: build for build in answer.builds}
    if "jit" not in builds:
        raise NotYet(f"{answer.label} was built without jit; tick it, and build again.")
    dim, engines = answer.setting.ranges[0], builds["jit"].engines
    table = pd.DataFrame([(str(each), each.opt_source) for each in engines], columns=["engine of jit", "opt from"])
    if dim.min > 1:
        raise NotYet(f"{dim} refuses batch 1.", table=table)
    if len(engines) > 1:
        raise NotYet(f"{dim} has {len(engines)} engines on jit.", table=table)
    return Feedback(True, f"{dim} has one engine, and it serves 1.", table=table)


@exercise(
    "03.choose",
    hint="The time of all calls is the sum of calls[tokens] * ms[opt][tokens] over tokens. Return the opt where that "
    "is smallest: `min(ms, key=...)`.",
)
def opt_for_all_calls(answer: Any) -> Feedback:
    """A function that chooses the engine that answers all calls soonest."""
    choose = a_function(answer, "def choose(calls, ms): ...")
    rows, wrong = [], []
    for name, calls in TRAFFIC:
        curves = CURVES[name]
        total = {opt: sum(count * ms[tokens] for tokens, count in calls.items()) for opt, ms in curves.items()}
        best = min(total, key=lambda opt: total[opt])
        yours = call(choose, dict(calls), {opt: dict(ms) for opt, ms in curves.items()}, shown=f"choose({calls}, ms)")
        rows.append((str(calls), *(f"{total[opt]:.1f} ms" for opt in curves), best, str(yours)[:40]))
        if yours != best:
            wrong.append(f"for calls {calls}, tuned for {best} is sooner, and yours is {str(yours)[:40]}.")
    columns = ["calls by tokens", *(f"tuned for {opt}" for opt in CURVES["close"]), "sooner", "yours"]
    table = pd.DataFrame(rows, columns=columns)
    return by_case(table, wrong, "set opt where the time goes, not where the calls are.")


@exercise(
    "03.bf16",
    hint="16 bits less are a factor of 65536 in each rounding. The second number compares with eager PyTorch in "
    "bfloat16, which rounds as often.",
)
def errors_in_bf16(answer: Any) -> Feedback:
    """How the error grows from fp32 to bf16, and what it is in units of eager's."""
    given = a_mapping(answer, ("error grows by", "error / eager's"))
    grows, ratio = (a_number(given[name], name) for name in given)
    if grows < 1_000:
        raise NotYet(f"the error grows by more than {grows:g} times: each number keeps 8 bits instead of 24.")
    if grows > 100_000:
        raise NotYet(f"{grows:g} times would be more than 16 bits.")
    if not 0.1 <= ratio <= 1.5:
        raise NotYet(f"an error of {ratio:g} times eager's: eager PyTorch computes in bfloat16, too.")
    return Feedback(True, "the format costs four digits, and compiling costs none on top.")


@exercise("03.max", hint="Pin the first result, and the tab *TensorRT engine* has a table with a factor in each row.")
def what_moves_with_max(answer: Any) -> Feedback:
    """What differs between the engines for a max of 8 and of 64."""
    given = a_mapping(answer, list(MOVES))
    for name, moves in MOVES.items():
        if not isinstance(given[name], bool):
            raise NotYet(f"for {name!r}, say True if it moved, or False.")
        if given[name] != moves:
            raise NotYet(f"{name!r} {'did move' if moves else 'stayed as it was'}: compare the two in the panel.")
    return Feedback(True, "an engine reserves memory for its largest batch; weights and layers do not depend on it.")
