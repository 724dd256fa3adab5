"""How long one call takes, in the words of NVIDIA's ``trtexec``.

All programs and batch sizes that are to be compared are measured together, in rounds whose order is
shuffled, so that a machine that slows down for a while slows down everything alike. Before each
timed group of calls stands one untimed call, so that every group starts with its own data in the
caches (calls of more than 20 ms bring more data than the caches hold, and do without). On a GPU,
device time is taken with CUDA events and host time (enqueue time) with the clock; the L2 cache is
warm, as it is in a service that runs one model.
"""

import math
import os
import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from tutorial_lib.core.progress import Listener, Progress

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

MIN_SAMPLES = 10
MIN_SECONDS = 0.2
LONG_MS = 20.0
"""A call that takes longer needs no untimed call before it, and is not repeated to learn how long it takes."""
UNSTABLE = {"cuda": 0.025, "cpu": 0.10}
"""Coefficient of variation above which a latency is called unstable: trtexec's 2.5 % on a GPU. On a
CPU, 10 %, the share at which ``torch.utils.benchmark`` warns of the spread of its samples."""
BUSY = 0.2
"""Cores that other processes may use while something is measured."""
SESSIONS = 3
"""How often something is measured at most, where other processes do."""
HOST_BOUND = 0.8
"""Median enqueue time over median device time above which trtexec warns that the host is too slow."""


@dataclass(frozen=True)
class Latency:
    """Latency of one call, in milliseconds.

    Attributes
    ----------
    rounds : tuple of tuple of float
        The samples of each round. Round `i` of two latencies measured together ran side by side.
    enqueue_ms : float or None
        Median time until the call returned to the host, on a GPU; None on a CPU, where it is the latency.
    device : str
        ``cpu`` or ``cuda``.
    """

    rounds: tuple[tuple[float, ...], ...]
    enqueue_ms: float | None
    device: str

    @property
    def samples(self) -> list[float]:
        """All samples, shortest first."""
        return sorted(sample for group in self.rounds for sample in group)

    @property
    def median_ms(self) -> float:
        """The median."""
        return statistics.median(self.samples)

    @property
    def cv(self) -> float:
        """Coefficient of variation: standard deviation over mean."""
        samples = self.samples
        return statistics.pstdev(samples) / statistics.fmean(samples)

    def percentile(self, percent: float) -> float:
        """The percentile as trtexec takes it: a sample that was seen, never an interpolated one."""
        samples = self.samples
        return samples[max(len(samples) - 1 - int((100 - percent) * len(samples) / 100), 0)]

    @property
    def warning(self) -> str | None:
        """What to know before trusting the number, or None."""
        if self.enqueue_ms is not None and self.enqueue_ms > HOST_BOUND * self.median_ms:
            return f"host-bound: enqueue time {self.enqueue_ms:.3f} ms, device time {self.median_ms:.3f} ms"
        if self.cv > UNSTABLE[self.device]:
            return f"unstable: the coefficient of variation is {self.cv:.0%}"
        return None

    def summary(self, samples_per_call: int) -> dict[str, Any]:
        """All figures as plain values; throughput counts `samples_per_call` samples for each call."""
        samples = self.samples
        return {
            "median_ms": self.median_ms,
            "mean_ms": statistics.fmean(samples),
            "min_ms": samples[0],
            "p10_ms": self.percentile(10),
            "p90_ms": self.percentile(90),
            "p95_ms": self.percentile(95),
            "p99_ms": self.percentile(99),
            "max_ms": samples[-1],
            "cv": self.cv,
            "enqueue_ms": self.enqueue_ms,
            "samples_per_second": 1000 * samples_per_call / self.median_ms,
            "calls": len(samples),
            "warning": self.warning,
        }


def speedup(baseline: Latency, latency: Latency) -> float:
    """How many times faster than `baseline`: the median, over rounds, of the ratio within a round."""
    pairs = zip(baseline.rounds, latency.rounds, strict=True)
    return statistics.median(statistics.median(slow) / statistics.median(fast) for slow, fast in pairs)


def measure(
    calls: Mapping[K, Callable[[], Any]],
    device: torch.device | str = "cpu",
    *,
    min_samples: int = MIN_SAMPLES,
    min_seconds: float = MIN_SECONDS,
    warm: bool = False,
    progress: Listener | None = None,
    after_round: Callable[[dict[K, Latency]], None] | None = None,
) -> dict[K, Latency]:
    """Measure all `calls` side by side.

    Parameters
    ----------
    calls : mapping
        Functions without arguments. Each has to be ready: what compiles on its first call has
        compiled before.
    device : torch.device or str
        Where they compute.
    min_samples, min_seconds
        At least so many samples of each call, and so much measured time. Fast calls are
        repeated within a round until both hold.
    warm : bool
        Whether each has been called before, so that no call is spent on warming up.
    progress : callable, optional
        Told of every group of calls, outside the time that is measured: of the stage ``warming up``, and of
        ``measuring``, whose steps are rounds.
    after_round : callable, optional
        Given what has been measured so far, after every round.

    Returns
    -------
    dict
        A :class:`Latency` for each key, with the same number of rounds for all.
    """
    if min_samples < 1 or not min_seconds >= 0:
        raise ValueError(f"min_samples is {min_samples} and min_seconds {min_seconds}; use at least 1 and 0.")
    kind = torch.device(device).type
    timed = _timed_on_gpu if kind == "cuda" else _timed_on_cpu
    rounds: dict[K, list[list[float]]] = {key: [] for key in calls}
    enqueue: dict[K, list[float]] = {key: [] for key in calls}
    repeats: dict[K, int] = {}
    once_ms: dict[K, float] = {}

    def so_far() -> dict[K, Latency]:
        return {
            key: Latency(
                rounds=tuple(map(tuple, rounds[key])),
                enqueue_ms=statistics.median(enqueue[key]) if kind == "cuda" else None,
                device=kind,
            )
            for key in calls
        }

    def tell(stage: str, done: int) -> None:
        if progress:
            total = max(min_samples, done + 1)
            text = f"measuring, round {done + 1} of {total}" if stage == "measuring" else stage
            progress(Progress(stage, done, total, text))

    with torch.no_grad():
        for key, call in calls.items():
            tell("warming up", 0)
            if not warm and min_seconds:
                timed(call, 1)  # the first call allocates
            once_ms[key] = max(timed(call, 1)[0][0], 1e-4)
            if once_ms[key] < LONG_MS and min_seconds:
                once_ms[key] = max(statistics.median(timed(call, 3)[0]), 1e-4)
            repeats[key] = max(1, math.ceil(1000 * min_seconds / min_samples / once_ms[key]))
        order, shuffle = list(calls), random.Random(0).shuffle
        done = 0
        while done < min_samples or any(sum(map(sum, r)) < 1000 * min_seconds for r in rounds.values()):
            shuffle(order)
            for key in order:
                tell("measuring", done)
                if once_ms[key] < LONG_MS:
                    calls[key]()
                device_ms, host_ms = timed(calls[key], repeats[key])
                rounds[key].append(device_ms)
                enqueue[key] += host_ms
            done += 1
            if after_round:
                after_round(so_far())
    return so_far()


def _timed_on_cpu(call: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    samples = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        call()
        samples.append((time.perf_counter_ns() - start) / 1e6)
    return samples, []


def _timed_on_gpu(call: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    host_ms = []
    for begin, end in events:
        begin.record()
        start = time.perf_counter_ns()
        call()
        host_ms.append((time.perf_counter_ns() - start) / 1e6)
        end.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) for begin, end in events], host_ms


def turns(
    calls: Mapping[K, Sequence[Callable[[], Any]]], device: torch.device | str, shuffle: random.Random
) -> dict[K, list[float]]:
    """One round of requests: milliseconds of each call as whoever waits for the answer sees it.

    The lists take their turns in shuffled order, the calls of a list in theirs, after one untimed call. Unlike in
    :func:`measure`, a call stands among calls of other sizes, as in a service. On a GPU the clock stops when the
    device is done.
    """
    done = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    order, spent = list(calls), dict[K, list[float]]()
    shuffle.shuffle(order)
    with torch.no_grad():
        for key in order:
            for call in calls[key][:1]:
                call()
            done()
            spent[key] = []
            for call in calls[key]:
                start = time.perf_counter_ns()
                call()
                done()
                spent[key].append((time.perf_counter_ns() - start) / 1e6)
    return {key: spent[key] for key in calls}


def quietest(
    session: Callable[[], T], at_most: float, tell: Callable[[str], None] = lambda text: None, sessions: int = SESSIONS
) -> tuple[T, float | None]:
    """What a `session` of measuring returns, and how many cores other processes used meanwhile (None if unknown).

    It is repeated, so often at most, while that is more than :data:`BUSY`, and the quietest session counts. One that
    took more than `at_most` seconds is not repeated. Two threads that share a processor with somebody else wait for
    each other at the end of every parallel loop, which makes code for several threads look far slower than it is.
    """
    found: list[tuple[T, float | None]] = []
    for number in range(sessions):
        tell("other processes were at work; measuring again ..." if number else "measuring ...")
        before, started = others_seconds(), time.perf_counter()
        result = session()
        after, spent = others_seconds(), time.perf_counter() - started
        others = None if before is None or after is None else max(0.0, after - before) / spent
        found.append((result, others))
        if others is None or others <= BUSY or spent > at_most:
            break
    return min(found, key=lambda one: one[1] or 0.0)


def others_seconds() -> float | None:
    """Seconds of processor time that other processes of this machine used since it started; None if that is unknown."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, *interrupts = map(int, file.readline().split()[1:9])
        return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK") - time.process_time()
    except (OSError, ValueError):
        return None


def timer_name(device: torch.device) -> str:
    """What the samples were taken with, for provenance."""
    return "CUDA events, warm L2 cache" if device.type == "cuda" else "time.perf_counter_ns"
