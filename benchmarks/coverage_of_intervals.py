"""Do intervals hold the true median, although measuring stops when they look narrow enough?

    python benchmarks/coverage_of_intervals.py [--runs 400] [--live 300] [--json FILE]

First on made-up latencies of two programs, many runs each, with the stopping rule of a sweep: how many rounds it took,
and in how many of 100 runs the interval held the true median of a latency and the true ratio. Then, with ``--live``, on
this machine: eager and the path ``export`` of ``perceptron`` at three sizes are measured for so many rounds, whose
medians stand for the true ones. Runs begin at every round of these and take the rounds that follow, so noise that lasts
and drift count as they are. ``--json`` keeps the live rounds.
"""

import argparse
import math
import random
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import options
from recording import about, keep

from tutorial_lib import MODELS, paths
from tutorial_lib.measure import intervals, latency
from tutorial_lib.measure.device_conditions import Conditions
from tutorial_lib.measure.sweep import answered

Sample = Callable[[random.Random], float]
"""One latency in units of its true median."""
SPIKE, SLOW = 0.1, 0.3
"""Shares of calls that something else on the machine delays, and of calls of the slower of two kinds."""


def lognormal(spread: float) -> Sample:
    return lambda rng: math.exp(rng.gauss(0, spread))


def bimodal(spread: float) -> Sample:
    """Calls of two kinds, the slower ones a fifth slower; the true median is the right quantile of the faster kind."""
    median = math.exp(spread / 4 * statistics.NormalDist().inv_cdf(0.5 / (1 - SLOW)))
    return lambda rng: (1.2 if rng.random() < SLOW else 1.0) * math.exp(rng.gauss(0, spread / 4)) / median


def spiked(spread: float) -> Sample:
    """Lognormal, but for spikes, which move the median as well."""
    median = math.exp(spread * statistics.NormalDist().inv_cdf(0.5 / (1 - SPIKE)))
    return lambda rng: (rng.uniform(1.5, 4) if rng.random() < SPIKE else 1.0) * math.exp(rng.gauss(0, spread)) / median


def exponential(spread: float) -> Sample:
    """Never below a floor, with a long tail."""
    median = 1 + 3 * spread * math.log(2)
    return lambda rng: (1 + 3 * spread * rng.expovariate(1)) / median


KINDS: dict[str, Callable[[float], Sample]] = {
    "lognormal": lognormal,
    "bimodal": bimodal,
    "spiked": spiked,
    "exponential": exponential,
}
SPREADS, RATIOS = (0.01, 0.05, 0.15), (1.0, 1.02, 1.05, 1.3)


def drifting(rounds: int) -> list[float]:
    """A machine that becomes half as slow again, evenly."""
    return [1 + 0.5 * number / rounds for number in range(rounds)]


@contextmanager
def made_up() -> Iterator[None]:
    """Inside the ``with`` block a call is not timed: it returns its milliseconds."""
    with mock.patch.object(latency, "_timed_on_cpu", lambda call, repeats: ([call() for _ in range(repeats)], [])):
        yield


def measured(values: dict[str, Callable[[], float]]) -> dict[tuple[str, int], latency.Latency]:
    """What a sweep with a large budget measures of programs of which every call takes what `values` returns."""
    calls = {(name, 0): call for name, call in values.items()}
    return latency.measure(calls, min_samples=3, min_seconds=0, budget=math.inf, enough=answered)


def one_run(sample: Sample, ratio: float, drift: list[float], rng: random.Random) -> tuple[int, bool, bool]:
    """The rounds it took, and whether the interval of the slower median and that of the ratio held the true ones.

    With `drift`, by which both are multiplied in each round, the true median is taken over the rounds that were made.
    """
    turn = iter(range(10**9))

    def call(size: float) -> float:
        number = min(next(turn) // 2, len(drift) - 1) if drift else 0
        return 100 * size * (drift[number] if drift else 1.0) * sample(rng)

    times = measured({"slow": partial(call, ratio), "fast": partial(call, 1.0)})
    slow, fast = times["slow", 0], times["fast", 0]
    rounds = len(slow.rounds)
    middle = statistics.median(drift[:rounds]) if drift else 1.0
    low, high = slow.interval_ms
    ratio_low, ratio_high = latency.speedup_interval(slow, fast)
    return rounds, low <= 100 * ratio * middle <= high, ratio_low <= ratio <= ratio_high


def coverage(sample: Sample, ratio: float, runs: int, drift: list[float] | None = None) -> tuple[float, float, float]:
    """Mean number of rounds, and the shares of runs in which the two intervals held what is true."""
    rng = random.Random(0)
    with made_up():
        outcomes = [one_run(sample, ratio, drift or [], rng) for _ in range(runs)]
    rounds, median, of_ratio = (statistics.fmean(column) for column in zip(*outcomes, strict=True))
    return rounds, median, of_ratio


def replayed(rounds: dict[str, list[float]]) -> tuple[int, float, float, float]:
    """Runs that begin at each recorded round: how many, their mean rounds, and the two shares of :func:`coverage`.

    `rounds` has, for two programs, the median latency in each round. Runs that reach the end of the recording without
    stopping count as well.
    """
    # Numbers so large that each counts as a long call, which is made without an untimed one before it.
    slow, fast = ([1e6 * value for value in values] for values in rounds.values())
    outcomes = []
    true_median = statistics.median(slow)
    true_ratio = statistics.median(a / b for a, b in zip(slow, fast, strict=True))
    for start in range(len(slow) - intervals.MOST_ROUNDS):
        with made_up():
            # A run calls each program once a round, whatever the order.
            each = {name: iter(values[start:]) for name, values in zip(("slow", "fast"), (slow, fast), strict=True)}
            times = measured({name: partial(next, values) for name, values in each.items()})
        low, high = times["slow", 0].interval_ms
        ratio_low, ratio_high = latency.speedup_interval(times["slow", 0], times["fast", 0])
        held = low <= true_median <= high, ratio_low <= true_ratio <= ratio_high
        outcomes.append((len(times["slow", 0].rounds), *held))
    count = len(outcomes)
    mean_rounds, median, ratio = (statistics.fmean(column) for column in zip(*outcomes, strict=True))
    return count, mean_rounds, median, ratio


def drift(values: list[float]) -> tuple[float, float]:
    """Median of the last tenth over that of the first tenth, and the largest over the smallest of ten tenths."""
    tenth = max(len(values) // 10, 1)
    medians = [statistics.median(values[start : start + tenth]) for start in range(0, 10 * tenth, tenth)]
    return medians[-1] / medians[0], max(medians) / min(medians)


def live(rounds: int) -> dict[str, Any]:
    """Median latencies of every round, by size and program, and what they were measured on."""
    case = MODELS["perceptron"]()
    programs: dict[str, Callable[..., Any]] = {"eager": case.eager, "export": paths.export(case, "auto")}
    sizes, conditions = (1, 64, 1024), Conditions(case.device)
    calls = {(name, size): partial(call, *case.example(size)) for size in sizes for name, call in programs.items()}
    times = latency.measure(
        calls, case.device, min_samples=rounds, min_seconds=0.003 * rounds, after_round=lambda _: conditions.sample()
    )
    return {
        **about(case.device),
        "conditions": conditions.summary(),
        "rounds": {
            str(size): {name: [statistics.median(group) for group in times[name, size].rounds] for name in programs}
            for size in sizes
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400, help="runs of each kind (default: %(default)s)")
    parser.add_argument("--live", type=int, default=0, metavar="ROUNDS", help="rounds on this machine, 200 or more")
    parser.add_argument("--json", type=options.file)
    args = parser.parse_args()
    print(f"{'latencies':14}{'spread':>8}{'ratio':>8}{'rounds':>8}{'median held':>13}{'ratio held':>12}")
    for name, kind in KINDS.items():
        for spread in SPREADS:
            for ratio in RATIOS:
                rounds, median, held = coverage(kind(spread), ratio, args.runs)
                print(f"{name:14}{spread:>8.0%}{ratio:>8.2f}{rounds:>8.1f}{median:>12.0%}{held:>12.0%}", flush=True)
    for ratio in RATIOS:
        rounds, median, held = coverage(lognormal(0.05), ratio, args.runs, drifting(intervals.MOST_ROUNDS))
        print(f"{'drifting':14}{0.05:>8.0%}{ratio:>8.2f}{rounds:>8.1f}{median:>12.0%}{held:>12.0%}", flush=True)
    if not args.live:
        return
    found = live(max(args.live, 2 * intervals.MOST_ROUNDS))
    print(f"\n{found['device']}, perceptron, eager and export, {args.live} rounds")
    for size, rounds_of in found["rounds"].items():
        runs, mean_rounds, median, held = replayed(rounds_of)
        change, most = drift(rounds_of["eager"])
        print(
            f"tokens {size:>5}: {runs} runs of {mean_rounds:.1f} rounds; median held in {median:.0%}, "
            f"ratio in {held:.0%}; eager drifted to {change:.2f} times its first tenth, {most:.2f} times between tenths"
        )
    keep(args.json, found, indent=None)


if __name__ == "__main__":
    main()
