"""The exercises of notebook 3. None depends on a time that was measured just now."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from tutorial_lib.experiments.result import Result
from tutorial_lib.figures.plots import OTHER, STYLES, label_sizes
from tutorial_lib.measure.sweep import EAGER
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
ACTIVATION_MB = {8: 27.558, 16: 46.924, 32: 85.656, 64: 163.119, 128: 318.046, 256: 627.900}
"""What TensorRT's engines of expand-reshape want on `export`, by max; ``tests/teach`` compares with real ones."""


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
    hint="An experiment takes `precision='bf16'` and `backend='eager'` beside what those above take: a model, the "
    "range of its `tokens`, `paths` and `sizes`. Its method `result()` builds and measures it.",
)
def error_in_bf16(answer: Any) -> Feedback:
    """The results of two experiments that differ in precision."""
    runs = a_mapping(answer, ("fp32", "bf16"))
    for name, run in runs.items():
        if not isinstance(run, Result):
            raise NotYet(
                f"for {name!r} you give a {type(run).__name__}; give what `.result()` of an experiment returns."
            )
        if run.setting.model != "perceptron":
            raise NotYet(f"the experiment for {name!r} is about {run.setting.model}; take `perceptron`.")
        if run.setting.precision != name:
            raise NotYet(f"the experiment for {name!r} is in {run.setting.precision}.")
        if run.sweep is None:
            raise NotYet(f"the experiment for {name!r} measured nothing.")
    tables = {name: run.sweep.table[run.sweep.table["path"] != EAGER] for name, run in runs.items()}
    both = tables["fp32"].merge(tables["bf16"], on=["tokens", "path"], suffixes=(" fp32", " bf16"))
    both = both[(both["rms fp32"] > 0) & both["rms bf16"].notna()]
    if both.empty:
        raise NotYet("the two experiments have no number of tokens on the same path in common.")
    grown = both["rms bf16"] / both["rms fp32"]
    table = pd.DataFrame(
        {
            "tokens": both["tokens"],
            "path": both["path"],
            "error in fp32": both["rms fp32"].map("{:.1e}".format),
            "error in bf16": both["rms bf16"].map("{:.1e}".format),
            "grows by": grown.map("{:,.0f}x".format),
            "error / eager's in bf16": both["ratio bf16"].map("{:.2f}x".format),
        }
    )
    compiling = "costs none on top" if both["ratio bf16"].max() < 1.5 else "makes it larger: see the last column"
    return Feedback(
        True, f"the format makes the error {grown.median():,.0f} times as large; compiling {compiling}.", table
    )


@exercise(
    "03.memory",
    hint="How much does each further image take? `(163.1 - 27.6) / (64 - 8)` MB. Go on from the engine for 8, which "
    "wants 27.6.",
)
def memory_for_any_max(answer: Any) -> Feedback:
    """A function that predicts the activation memory of an engine, in MB, to 2 %."""
    predict = a_function(answer, "def my_memory(largest): ...")
    yours: dict[int, float] = {}
    wrong = []
    for largest, real in ACTIVATION_MB.items():
        given = call(predict, largest, shown=f"my_memory({largest})")
        yours[largest] = a_number(given, f"your memory for a max of {largest}")
        if abs(yours[largest] - real) > 0.02 * real:
            said = f"{yours[largest]:.4g} MB"
            wrong.append(f"for a max of {largest}, TensorRT's engine wants {real:.4g} MB, and yours says {said}.")
    table = pd.DataFrame(
        [(largest, f"{real:.4g} MB", f"{yours[largest]:.4g} MB") for largest, real in ACTIVATION_MB.items()],
        columns=["max", "TensorRT's engine", "yours"],
    )
    right = "a little that is always there, and the same amount for each image that you promise."
    return by_case(table, wrong, right, _over_max(yours))


def _over_max(yours: Mapping[int, float]) -> Figure:
    """TensorRT's memory and the learner's over max."""
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    axes = figure.subplots()
    style = {**STYLES["export"], "linestyle": "", "markersize": 8}
    axes.plot(list(ACTIVATION_MB), list(ACTIVATION_MB.values()), label="TensorRT's engines", **style)
    floor, ceiling = 1.0, 1e5  # an absurd answer leaves the figure, and the engines stay visible
    drawn = [min(max(value, floor), ceiling) for value in yours.values()]
    axes.plot(list(yours), drawn, color=OTHER["color"], label="yours", zorder=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    label_sizes(axes, list(ACTIVATION_MB))
    axes.set_xlabel("max of the batch")
    axes.set_ylabel("activation memory, MB")
    axes.grid(True, alpha=0.25)
    axes.legend(fontsize=9, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Activation memory over max: TensorRT's engines, and yours", x=0.01, ha="left", fontsize=10)
    return figure
