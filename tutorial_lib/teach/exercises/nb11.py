"""The exercises of notebook 11: reading a recording, and judging a number that somebody else measured."""

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from tutorial_lib.experiments import recordings
from tutorial_lib.experiments.recordings import Recorded
from tutorial_lib.measure.sweep import EAGER
from tutorial_lib.teach.checking import Feedback, NotYet, a_function, a_number, call, exercise
from tutorial_lib.teach.lessons.nb11 import LARGEST, PRECISIONS, rows

FILE = "recorded/h100.json"


@cache
def _h100(file: str) -> Recorded:
    return recordings.load(file)


def _recorded() -> Recorded:
    if not Path(FILE).is_file():
        raise NotYet(f"{FILE} is not here; start the kernel in the folder of the notebooks.")
    return _h100(FILE)


@exercise("11.free", hint="nb11.over_the_batch(H100, 'vit') has the column 'x batch 1'.")
def largest_free_batch(answer: Any) -> Feedback:
    """The largest batch of `vit`, fp32, `export`, that takes less than 1.5 times as long as batch 1."""
    batch, ms = a_number(answer, "the batch"), rows(_recorded(), "vit", "fp32")["median_ms"]
    if batch not in ms.index:
        raise NotYet(f"batch {batch:g} was not recorded; there are {', '.join(map(str, ms.index))}.")
    free = max(size for size, time in ms.items() if time < 1.5 * ms[1])
    if batch != free:
        word = "a larger one does, too" if batch < free else "that is too long"
        raise NotYet(f"batch {batch:g} takes {ms[batch] / ms[1]:.2f} times as long as batch 1; {word}.")
    return Feedback(True, f"{free} images in {ms[free] / ms[1]:.2f} times the time of one.")


@exercise("11.choose", hint="Leave out what is not exact enough, and take the smallest median_ms of the rest.")
def choose_a_precision(answer: Any) -> Feedback:
    """A function ``choose(table, most)``: the fastest precision whose rms error is at most `most`, or None."""
    choose = a_function(answer, 'lambda table, most: "fp32"')
    recorded, judged = _recorded(), []
    for model in ("vit", "expand-reshape"):
        both = {name: rows(recorded, model, name).loc[LARGEST, ["median_ms", "rms"]] for name in PRECISIONS}
        table = pd.DataFrame(both).T.astype(float)
        for most in (1e-2, 1e-3, 1e-5, 1e-9):
            allowed = table[table["rms"] <= most]
            right = allowed["median_ms"].idxmin() if len(allowed) else None
            given = call(choose, table.copy(), most, shown=f"your function, given {model} and an error of {most:g},")
            judged.append({"model": model, "most": most, "fastest": str(right), "yours": str(given)})
            if given != right:
                raise NotYet(f"{model}, at most {most:g}: not {given!r}.", table=pd.DataFrame(judged))
    return Feedback(True, "and where no precision is exact enough, you say so.", table=pd.DataFrame(judged))


@exercise("11.trust", hint="A row has a warning where warning is not None: pandas says so with isna().")
def trust_a_row(answer: Any) -> Feedback:
    """A function ``trusted(row)``: False for rows with a warning, that do not agree, or that have no interval."""
    trusted = a_function(answer, "lambda row: True")
    table = _recorded().table
    table = table[(table["backend"] == "inductor") & (table["path"] != EAGER)].head(60)
    odd = table.iloc[0].copy()
    odd["warning"], odd["agrees"] = None, False
    cases = [*(row for _, row in table.iterrows()), odd]
    for row in cases:
        right = bool(pd.isna(row["warning"]) and row["agrees"])
        given = bool(call(trusted, row, shown="your function, given a row,"))
        if given != right:
            said = row["warning"] if pd.notna(row["warning"]) else "no warning, and it agrees"
            what = said if row["agrees"] else "it differs from float64"
            raise NotYet(
                f"{row['model']}, {row['path']}: you {'trust' if given else 'refuse'} a row that says: {what}."
            )
    kept = sum(bool(trusted(row)) for row in cases)
    return Feedback(True, f"of {len(cases)} rows, {kept} may be compared with somebody else's numbers.")
