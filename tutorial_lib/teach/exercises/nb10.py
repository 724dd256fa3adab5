"""The exercises of notebook 10: a boundary, a policy, a traffic. All are judged on made-up engines."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd

from tutorial_lib.advisor import Advice, Traffic, advise
from tutorial_lib.advisor.policies import Policy
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.teach.checking import Feedback, NotYet, a_number, a_range, exercise
from tutorial_lib.teach.lessons.nb10 import MAX, invented

MOST_REQUESTS = 10_000


@cache
def _advice(name: str) -> Advice:
    measured = invented()
    return advise(measured.case, Traffic.named(name, MAX, "rows").split(0.5)[0], "mean", measured=measured)


def _mean_ms(advice: Advice, policy: Policy) -> float:
    return float(advice.expect(policy)["mean_ms"][0])


@exercise("10.boundary", hint="0.02 + 0.004 n = 0.10 + 0.002 n")
def boundary_of_two_buckets(answer: Any) -> Feedback:
    """The last size of the first of two buckets, for interactive traffic, within 1 % of the best."""
    last = a_number(answer, "the boundary")
    if last != int(last) or not 1 <= last < MAX:
        raise NotYet(f"the first bucket ends at a whole number of rows from 1 to {MAX - 1}, not at {last:g}.")
    advice = _advice("interactive")
    mine = Policy("by hand", ("rows",), (((1, 1, int(last)),), ((int(last) + 1, MAX, MAX),)))
    times = _mean_ms(advice, mine) / _mean_ms(advice, advice.find("2 buckets"))
    if times >= 1.01:
        raise NotYet(f"with the cut at {last:g}, the mean is {times:.2f} times that of the best cut.")
    return Feedback(True, f"{times:.3f} times the mean of the best cut.")


@exercise(
    "10.policy",
    hint="Ranges have to meet: the next begins one above the max of the one before. Where do engines cross?",
)
def write_a_policy(answer: Any) -> Feedback:
    """Ranges (min, opt, max) that serve 1 to `MAX` in the bimodal traffic, within 2 % of the best policy."""
    if isinstance(answer, str | Mapping) or not isinstance(answer, list | tuple) or not answer or len(answer) > 8:
        raise NotYet("give a list of ranges, such as [(1, 8, 4096)]; at most 8 engines.")
    ranges, expected = [], 1
    for place, each in enumerate(answer, 1):
        dim = a_range(each, "rows", f"range {place}")
        if dim.min != expected:
            raise NotYet(f"range {place} begins at {dim.min}; requests of {expected} rows have no engine, or two.")
        ranges.append(((dim.min, dim.opt, dim.max),))
        expected = dim.max + 1
    if expected != MAX + 1:
        raise NotYet(f"requests above {expected - 1} rows have no engine; the largest has {MAX}.")
    advice = _advice("bimodal")
    policy = Policy(f"{len(ranges)} engines", ("rows",), tuple(ranges))
    table = pd.DataFrame([{"engine": f"{low}/{opt}/{high}"} for ((low, opt, high),) in ranges])
    times = _mean_ms(advice, policy) / _mean_ms(advice, advice.ranked[0])
    if times >= 1.02:
        raise NotYet(f"the mean is {times:.2f} times that of the best policy.", table=table)
    return Feedback(True, f"{times:.3f} times the mean of the best, with {len(ranges)} engines.", table=table)


@exercise(
    "10.traffic", hint="As soon as something smaller than the largest comes, padding pays for rows nobody asked for."
)
def traffic_where_padding_is_free(answer: Any) -> Feedback:
    """At least 10 sizes for which padding everything to the largest is no slower than the best policy."""
    if isinstance(answer, str | Mapping) or not isinstance(answer, list | tuple) or len(answer) > MOST_REQUESTS:
        raise NotYet(f"give a list of sizes, such as [1, 64, 4096]; at most {MOST_REQUESTS:,}.")
    if len(answer) < 10:
        raise NotYet(f"that is a list of {len(answer)}; give at least 10 sizes.")
    measured = invented()
    try:
        advice = advise(measured.case, Traffic.of(list(answer), "rows"), "mean", measured=measured)
    except (ShapeError, TypeError, ValueError) as error:
        raise NotYet(str(error)) from None
    padded, best = advice.baselines["a"], advice.ranked[0]
    times = _mean_ms(advice, padded) / _mean_ms(advice, best)
    table = pd.DataFrame(
        [{"policy": str(each), "mean ms": round(_mean_ms(advice, each), 3)} for each in (padded, best)]
    )
    if times >= 1.001:
        raise NotYet(f"padded, your traffic takes {times:.2f} times as long as with the best policy.", table=table)
    return Feedback(True, "every request has the largest size, so there is nothing to pad.", table=table)
