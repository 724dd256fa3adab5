"""How sure a measured number is: an interval for its median, and what two latencies beside each other then say.

Every round gives one number: a median latency, or the ratio of two within the round. The interval lies between two of
these numbers in their order. For any distribution, the count of rounds below the true median is binomial, which says
which two (H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1); where rounds drift, so that each
has a distribution of its own, the interval holds the median of all of them at least as often (W. Hoeffding, On the
distribution of the number of successes in independent trials, Ann. Math. Statist. 27, 1956). Too few rounds for that
give the whole span of the numbers, widened on both sides.

Measuring that goes on until an interval is narrow enough looks at it again and again, and stops when chance helps. So
:data:`LEVEL` is higher than what is promised, the looks are few (:func:`next_look`), and there is an end to them
(:data:`MOST_ROUNDS`). ``benchmarks/coverage_of_intervals.py`` counts how often intervals then hold the true median. The
promise is 90 of 100 times, and it is about the time that was measured: where other processes come and go, the median of
a later run may lie outside.
"""

import functools
import math
from collections.abc import Sequence

LEVEL = 0.99
"""Chance that one interval holds the true median, where nobody looked at earlier ones."""
EQUAL = 1.03
"""Ratio up to which two latencies are called equal."""
MOST_ROUNDS = 100
"""Rounds after which no further one is made for the sake of an interval."""
APART, SAME, OPEN = "told apart", "equal", "not told apart"

Interval = tuple[float, float]


def of(values: Sequence[float]) -> Interval:
    """An interval for the median of what `values`, positive numbers of one round each, come from.

    One number alone says nothing of the spread: the interval is then (NaN, NaN).

    Examples
    --------
    >>> of([5.1, 4.9, 5.0, 5.2, 5.0, 4.8, 5.1, 5.3])
    (4.8, 5.3)
    """
    ordered, count = sorted(values), len(values)
    if count < 2:
        return math.nan, math.nan
    left_out = _left_out(count)
    if left_out is not None:
        return ordered[left_out], ordered[-1 - left_out]
    # The span alone holds the median of 2 numbers half of the time. For normal errors, 3.5 times as much is held nine
    # times in ten (Student's t), and with each further number half of the widening is enough.
    widening = (ordered[-1] / ordered[0]) ** (3.0 / 2 ** (count - 2))
    return ordered[0] / widening, ordered[-1] * widening


@functools.cache
def _left_out(count: int) -> int | None:
    """How many of `count` ordered numbers the interval leaves out at each end; None if all are not enough."""
    outside, left_out = 0.0, None
    for number in range(count // 2):
        outside += 2 * math.comb(count, number) / 2**count
        if outside > 1 - LEVEL:
            break
        left_out = number
    return left_out


def verdict(ratio: Interval) -> str:
    """Whether two latencies are told apart (:data:`APART`), equal within 3 % (:data:`SAME`) or neither, by the ratio.

    Examples
    --------
    >>> verdict((1.1, 1.4)), verdict((0.99, 1.02)), verdict((0.9, 1.1))
    ('told apart', 'equal', 'not told apart')
    """
    low, high = ratio
    if low >= 1 / EQUAL and high <= EQUAL:
        return SAME
    return APART if low > 1 or high < 1 else OPEN


def next_look(done: int) -> int:
    """The number of rounds at which to look at the intervals next, after a look at `done`."""
    return math.ceil(1.5 * done) if done > 1 else done + 1
