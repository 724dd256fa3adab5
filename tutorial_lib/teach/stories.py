"""Sentences that follow from the numbers: a lesson about times says what was measured, not what was expected.

Ratios have one direction everywhere: how many times as fast. Above 1 is faster.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutorial_lib.experiments import recordings
from tutorial_lib.measure import intervals
from tutorial_lib.measure.sweep import EAGER, Sweep

BUSY = 1.5
"""A machine is too busy for a lesson where the interval of a typical speedup is wider: upper over lower end."""
Interval = tuple[float, float]


class Sentence(str):
    """A sentence that the last line of a cell shows as text, without quotation marks."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return str(self)  # as Markdown, no word is broken at the end of a line


def speed_up(
    ratio: float, interval: Interval | None, what: str = "the compiled model", than: str = "eager PyTorch"
) -> Sentence:
    """Whether `what` is faster than `than`, slower, the same, or undecided; `interval` is None in older recordings."""
    subject = what[:1].upper() + what[1:]
    if interval is None:
        return Sentence(f"{subject} was recorded as {_times(ratio)} times as fast as {than}, without an interval.")
    low, high = interval
    span = f"{_times(low)} to {_times(high)} times"
    if not (0 < low <= high < math.inf):
        return Sentence(f"Undecided: one round says {_times(ratio)} times as fast, and nothing says how sure that is.")
    verdict = intervals.verdict(interval)
    if verdict == intervals.SAME:
        return Sentence(f"{subject} takes as long as {than}, within 3 % ({span} as fast).")
    if verdict == intervals.OPEN:
        return Sentence(
            f"Undecided: {what} is {span} as fast as {than}. This run cannot tell; measure longer, or on a "
            "quieter machine."
        )
    word = "faster" if low > 1 else "slower"
    between = f"between {_times(low)} and {_times(high)}"
    return Sentence(f"{subject} is {word}: {_times(ratio)} times as fast as {than} ({between}).")


def is_busy(sweep: Sweep) -> bool:
    """Whether this run spreads too much for a lesson: the typical interval of a speedup is wider than :data:`BUSY`."""
    rows = sweep.table[sweep.table["path"] != EAGER].reindex(columns=["speedup_low", "speedup_high"])
    widths = (rows["speedup_high"] / rows["speedup_low"]).dropna()
    return not len(widths) or float(widths.median()) > BUSY


@dataclass(frozen=True)
class Lesson:
    """The run that a lesson tells of, and a sentence that says which it is."""

    sweep: Sweep
    sentence: str
    recorded: bool

    def __repr__(self) -> str:
        return self.sentence

    def _repr_markdown_(self) -> str:
        return self.sentence


def lesson(live: Sweep, recording: str | Path, **choice: str) -> Lesson:
    """The live run or, where the machine is too busy for the lesson, a recorded one, labelled.

    `recording` is a file of ``python -m tutorial_lib record``; `choice` selects a setting of it
    (:meth:`tutorial_lib.experiments.recordings.Recorded.run`).
    """
    if not is_busy(live):
        return Lesson(live, f"Measured here, now, on {live.provenance['device']}.", False)
    sweep = recordings.load(recording).sweep(**choice)
    why = "This machine was too busy to show it: the intervals of its speedups are too wide."
    return Lesson(sweep, f"{why} What follows was {sweep.provenance['recorded']}.", True)


def row(sweep: Sweep, path: str, size: int) -> dict[str, Any]:
    """The numbers of one path at one size of the first dimension: ``ratio`` and ``interval`` for :func:`speed_up`."""
    name = sweep.provenance["dims"][0]["name"]
    (numbers,) = sweep.table[(sweep.table["path"] == path) & (sweep.table[name] == size)].to_dict("records")
    interval = (numbers["speedup_low"], numbers["speedup_high"]) if "speedup_low" in numbers else None
    return {"ratio": numbers["speedup"], "interval": interval}


def ratio(new: Sweep, old: Sweep, path: str, size: int) -> dict[str, Any]:
    """How many times as fast a path is in `new` as in `old`, each as a multiple of eager's time in its own run.

    The interval is as wide as both together, so it says less than one measured side by side would.
    """
    one, other = row(new, path, size), row(old, path, size)
    interval = None
    if one["interval"] and other["interval"]:
        interval = one["interval"][0] / other["interval"][1], one["interval"][1] / other["interval"][0]
    return {"ratio": one["ratio"] / other["ratio"], "interval": interval}


def _times(value: float) -> str:
    return f"{value:.1f}" if value >= 3 else f"{value:.2f}"
