"""How long one call takes, in the words of NVIDIA's ``trtexec``.

All programs and batch sizes to compare are measured together, in rounds with a shuffled order, so a machine that
slows down for a while slows all of them down alike. One untimed call precedes each timed group of calls, so that
every group starts with its own data in the caches (calls of more than 20 ms use more data than the caches hold, and
do without). On a GPU, device time is taken with CUDA events and host time (enqueue time) with the clock; the L2 cache
is warm, as it is in a service that runs one model.
"""

import math
import random
import statistics
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import torch

from tutorial_lib.core.progress import Listener, Progress
from tutorial_lib.measure import intervals
from tutorial_lib.measure.intervals import Interval

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

MIN_SAMPLES = 10
MIN_SECONDS = 0.2
LONG_MS = 20.0
"""A longer call needs no untimed call before it, and one call is enough to estimate how long it takes."""
UNSTABLE = {"cuda": 0.025, "cpu": 0.10}
"""Coefficient of variation above which a latency is called unstable: on a GPU trtexec's 2.5 %, on a CPU 10 %, above
which ``torch.utils.benchmark`` warns about the spread of its samples."""
BUSY = 0.2
"""Cores that other processes may use during a measurement before it is repeated."""
SESSIONS = 3
"""How often :func:`quietest` measures at most."""
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
    def interval_ms(self) -> Interval:
        """Between which latencies the true median lies (:mod:`tutorial_lib.measure.intervals`); NaN after one round.

        Widened where it must be to contain :attr:`median_ms`, which is that of all samples.
        """
        low, high = intervals.of([statistics.median(group) for group in self.rounds])
        return (min(low, self.median_ms), max(high, self.median_ms)) if len(self.rounds) > 1 else (low, high)

    @property
    def cv(self) -> float:
        """Coefficient of variation: standard deviation over mean."""
        samples = self.samples
        return statistics.pstdev(samples) / statistics.fmean(samples)

    def percentile(self, percent: float) -> float:
        """The percentile as trtexec takes it: one of the samples, never interpolated."""
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
        """All statistics as plain values; throughput counts `samples_per_call` samples for each call."""
        samples, (low, high) = self.samples, self.interval_ms
        return {
            "median_ms": self.median_ms,
            "low_ms": low,
            "high_ms": high,
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
    return statistics.median(_ratios(baseline, latency))


def speedup_interval(baseline: Latency, latency: Latency) -> Interval:
    """Between which values the true :func:`speedup` lies; (NaN, NaN) after one round."""
    return intervals.of(_ratios(baseline, latency))


def _ratios(baseline: Latency, latency: Latency) -> list[float]:
    pairs = zip(baseline.rounds, latency.rounds, strict=True)
    return [statistics.median(slow) / statistics.median(fast) for slow, fast in pairs]


def measure(
    calls: Mapping[K, Callable[[], Any]],
    device: torch.device | str = "cpu",
    *,
    min_samples: int = MIN_SAMPLES,
    min_seconds: float = MIN_SECONDS,
    warm: bool = False,
    progress: Listener | None = None,
    after_round: Callable[[dict[K, Latency]], None] | None = None,
    budget: float = 0.0,
    enough: Callable[[dict[K, Latency]], Collection[K]] | None = None,
) -> dict[K, Latency]:
    """Measure all `calls` side by side.

    Parameters
    ----------
    calls : mapping
        Functions without arguments, by any key. What compiles on its first call must have compiled before.
    device : torch.device or str
        Where they compute.
    min_samples, min_seconds
        Each call is measured at least this often and for this long in total. Fast calls are repeated within a round
        until both hold, an odd number of times, since the median of these is then as often below the true one as above.
    warm : bool
        Whether each has been called before and needs no warm-up call.
    progress : callable, optional
        Called before every group of calls, outside the measured time, in the stages ``warming up`` and ``measuring``,
        whose steps are rounds.
    after_round : callable, optional
        Called with all latencies so far, after every round of the first `min_samples` and at every later look.
    budget : float
        Seconds that all rounds may take together; once they have passed, no round begins but those that the minimum
        asks for.
    enough : callable, optional
        With it, rounds go on after the minimum, within the budget. At every look
        (:func:`tutorial_lib.measure.intervals.next_look`) it is given all latencies so far, and returns the keys that
        need no more rounds. The end comes when none needs any.

    Returns
    -------
    dict
        A :class:`Latency` for each key, with the same number of rounds for all; with `enough`, for all that were
        left out at the same time.
    """
    if min_samples < 1 or not min_seconds >= 0:
        raise ValueError(f"min_samples is {min_samples} and min_seconds {min_seconds}; use at least 1 and 0.")
    kind = torch.device(device).type
    timed = _timed_on_gpu if kind == "cuda" else _timed_on_cpu
    rounds: dict[K, list[tuple[float, ...]]] = {key: [] for key in calls}
    enqueue: dict[K, list[float]] = {key: [] for key in calls}
    once_ms: dict[K, float] = {}

    def tell(stage: str, done: int, text: str) -> None:
        if progress:
            progress(Progress(stage, done, max(min_samples, done + 1), text))

    def results() -> dict[K, Latency]:
        enqueue_ms = {key: statistics.median(times) if times else None for key, times in enqueue.items()}
        return {key: Latency(tuple(rounds[key]), enqueue_ms[key], kind) for key in calls}

    def group(key: K) -> tuple[list[float], list[float]]:
        """Milliseconds of one round of a call, on the device and on the host."""
        call = calls[key]
        first = None
        if key not in once_ms:
            first = timed(call, 1)
            once_ms[key] = first[0][0]
            if once_ms[key] < LONG_MS and min_seconds:
                once_ms[key] = statistics.median(timed(call, 3)[0])
        elif once_ms[key] < LONG_MS:
            call()
        repeats = math.ceil(1000 * min_seconds / min_samples / max(once_ms[key], 1e-4)) | 1
        result = first if first and once_ms[key] >= LONG_MS and repeats == 1 else timed(call, repeats)
        once_ms[key] = statistics.median(result[0])  # for the next round: the machine may have become slower
        return result

    def too_short() -> bool:
        return any(sum(map(sum, times)) < 1000 * min_seconds for times in rounds.values())

    with torch.no_grad():
        if min_seconds and not warm:
            for call in calls.values():
                tell("warming up", 0, "warming up")
                timed(call, 1)  # the first call allocates
        order, shuffle = list(calls), random.Random(0).shuffle
        done, spent, look = 0, 0.0, min_samples

        def unsure() -> bool:
            return enough is not None and bool(order) and done < intervals.MOST_ROUNDS and spent < budget

        while done < min_samples or too_short() or unsure():
            shuffle(order)
            start = time.perf_counter()
            for key in order:
                tell("measuring", done, _round_text(done, min_samples, spent, budget if enough else 0.0))
                device_ms, host_ms = group(key)
                rounds[key].append(tuple(device_ms))
                enqueue[key] += host_ms
            spent += time.perf_counter() - start
            done += 1
            if after_round and (done <= min_samples or not enough or done >= look):
                after_round(results())
            if enough and done >= look and not too_short():
                left_out = enough(results())
                order = [key for key in order if key not in left_out]
            if done >= look:
                look = intervals.next_look(done)
    return results()


def _round_text(done: int, min_samples: int, spent: float, budget: float) -> str:
    if done < min_samples or not budget:
        return f"measuring, round {done + 1} of {max(min_samples, done + 1)}"
    return f"measuring, round {done + 1}: what is not told apart yet, {spent:.1f} of at most {budget:g} s"


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
    """Milliseconds of each call of each list, as a client that waits for the answer sees it.

    The lists run one after another in shuffled order, each after one untimed call. Unlike in :func:`measure`, a call
    stands among calls of other sizes, as in a service. On a GPU the clock stops when the device is done.
    """
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    order = list(calls)
    shuffle.shuffle(order)
    milliseconds: dict[K, list[float]] = {key: [] for key in calls}
    with torch.no_grad():
        for key in order:
            if calls[key]:
                calls[key][0]()
            wait()
            for call in calls[key]:
                start = time.perf_counter()
                call()
                wait()
                milliseconds[key].append((time.perf_counter() - start) * 1e3)
    return milliseconds


def quietest(
    session: Callable[[], T], at_most: float, tell: Callable[[str], None] = lambda text: None
) -> tuple[T, float]:
    """What a `session` of measuring returns, and how many cores other processes used meanwhile.

    While other processes use more than :data:`BUSY` cores, the session is repeated, up to :data:`SESSIONS` times; the
    quietest one counts. A session of more than `at_most` seconds is not repeated. Two threads that share a processor
    with another process wait for each other at the end of every parallel loop, which makes code for several threads
    look far slower than it is.
    """
    sessions: list[tuple[T, float]] = []
    text = "measuring ..."
    while len(sessions) < SESSIONS:
        tell(text)
        before, start = others_seconds(), time.perf_counter()
        result = session()
        seconds = time.perf_counter() - start
        busy = max(0.0, others_seconds() - before) / seconds
        sessions.append((result, busy))
        if busy <= BUSY or seconds > at_most:
            break
        text = "other processes were at work; measuring again ..."
    return min(sessions, key=lambda session: session[1])


def others_seconds() -> float:
    """Seconds of processor time that other processes used since this machine started."""
    times = psutil.cpu_times()
    used = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    return used - time.process_time()
