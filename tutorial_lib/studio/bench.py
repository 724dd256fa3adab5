"""The studio without its widgets: builds a setting, measures it, and remembers what it has.

The studio calls it from a thread of its own. On a CPU, calls of a few milliseconds then take up to a tenth longer
than in the main thread, since OpenMP keeps a pool for each thread that uses it; eager and compiled calls alike.
"""

import dataclasses
import datetime
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pandas as pd
import torch

from tutorial_lib.builds import package_cache
from tutorial_lib.builds.job import sentence
from tutorial_lib.builds.program import OUTSIDE, Compiled
from tutorial_lib.core import progress
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.measure.sweep import EAGER, Sweep, latencies, sweep
from tutorial_lib.paths import PATHS
from tutorial_lib.studio.result import Failure, Result

PROGRAMS, RESULTS = 12, 32
"""Built programs and results that are kept in memory; what was used longest ago goes first."""
MIN_SECONDS = 0.03
"""Measured time of each call at least; the rounds set the rest."""
WORTH_A_LOOK = 3.0
"""Seconds of a build after which its path is measured at once, before the next one is built."""
LARGEST_INPUT = 1 << 30
"""Bytes of an input that is still made."""

K = TypeVar("K")
V = TypeVar("V")
Tell = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what is being done. It may raise ``progress.Cancelled``."""


@dataclass(frozen=True)
class Answer:
    """What one path did with a size.

    `outcome` is ``served``, ``refused``, ``built`` (another engine, which then served it), ``eager`` (run without
    compiling, as asked) or ``failed``; `words` are those of the refusal, or what served.
    """

    path: str
    sizes: Mapping[str, int]
    outcome: str
    words: str
    seconds: float


class Recent(OrderedDict[K, V]):
    """A dictionary that keeps what was used last."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def recall(self, key: K) -> V | None:
        """The value of `key`, now the latest used, or None."""
        if key in self:
            self.move_to_end(key)
            return self[key]
        return None

    def keep(self, key: K, value: V) -> V:
        """Keep `value`, and drop what is too much."""
        self[key] = value
        self.move_to_end(key)
        while len(self) > self.most:
            self.popitem(last=False)
        return value


class Bench:
    """Builds and measures settings of some cases. One thread at a time may use it.

    Parameters
    ----------
    cases : mapping
        For each model name, a function that makes its case.
    device : torch.device
        Where they run.
    """

    def __init__(self, cases: Mapping[str, Callable[[], Case]], device: torch.device) -> None:
        self._make, self.device = cases, device
        self._bases: dict[str, Case] = {}
        self._cases: Recent[tuple[str, str], Case] = Recent(PROGRAMS)  # programs are compared only with one model
        self._programs: Recent[Any, Compiled] = Recent(PROGRAMS)
        self._results: Recent[Setting, Result] = Recent(RESULTS)

    def base(self, model: str) -> Case:
        """The case of that name, with its own ranges, on the device."""
        if model not in self._make:
            raise ShapeError(f"there is no model {model!r}; use {', '.join(self._make)}.")
        if model not in self._bases:
            case = self._make[model]()
            self._bases[model] = case if case.device == self.device else case.to(self.device)
        return self._bases[model]

    def case(self, setting: Setting) -> Case:
        """The case in the precision and with the ranges of `setting`; programs of one precision share its model."""
        key = setting.model, setting.precision
        base = self._cases.recall(key)
        if base is None:
            base = self._cases.keep(key, self.base(setting.model).in_precision(setting.precision))
        return base.with_ranges(**{dim.name: dim for dim in setting.ranges})

    def settled(self, setting: Setting) -> Setting:
        """`setting` with the backend and the sizes that it comes to; equal settings are measured once."""
        base = self.base(setting.model)
        setting = setting.settled(base)
        ranged = base.with_ranges(**{dim.name: dim for dim in setting.ranges})
        for made in (ranged.traced, *map(ranged.sizes, setting.sizes)):
            _check_memory(ranged, made)
        return setting

    def known(self, setting: Setting) -> Result | None:
        """The result of a settled setting, if it is still in memory."""
        return self._results.recall(setting)

    def run(
        self,
        setting: Setting,
        *,
        tell: Tell = lambda share, text: None,
        show: Callable[[Result], None] = lambda result: None,
        fresh: bool = False,
    ) -> Result:
        """Build every path of a settled setting, then measure and compare them side by side.

        A path that cannot be built is a failure of the result, and the others go on. Such a result is not
        remembered: the next run tries that path again.

        Parameters
        ----------
        setting : Setting
            From :meth:`settled`.
        tell : callable
            Told of every step; the run stops where it raises :class:`~tutorial_lib.core.progress.Cancelled`.
        show : callable
            Given what is known so far, whenever there is more.
        fresh : bool
            Build and measure again, without anything that was kept in memory or on disk.
        """
        if not fresh:
            known = self.known(setting)
            if known:
                return known
        run = _Run(self, setting, tell, show, fresh)
        result = run.result()
        return result if result.failures else self._results.keep(setting, result)

    def program(self, setting: Setting, path: str, fresh: bool = False) -> Compiled:
        """The program of one path, from memory if it is there."""
        key = path, dataclasses.replace(setting, paths=(), sizes=(), samples=1)
        program = None if fresh else self._programs.recall(key)
        if program is None:
            program = self._programs.keep(key, self._build(setting, path, "fresh" if fresh else "reuse"))
        return program

    def _build(self, setting: Setting, path: str, policy: str) -> Compiled:
        with package_cache.policy(policy):
            return PATHS[path](self.case(setting), setting.backend, dict(setting.options))

    def ask(
        self, setting: Setting, size: int, outside: str = "raise", tell: Tell = lambda share, text: None
    ) -> tuple[Answer, ...]:
        """What each path of a settled setting does with `size` of the first dimension, in its range or not.

        With `outside` ``recompile``, jit is asked on a program of its own: the one that is measured keeps its engines.
        """
        if outside not in OUTSIDE:
            raise ValueError(f"outside is {outside!r}; use {', '.join(OUTSIDE)}.")
        case = self.case(setting)
        sizes = case.sizes(size)
        _check_memory(case, sizes)
        inputs = case.example(sizes)
        answers = []
        for place, path in enumerate(setting.paths):
            tell(place / len(setting.paths), f"asking {path}")
            with progress.listening(partial(tell, place / len(setting.paths))):
                answers.append(self._answer(setting, path, sizes, inputs, outside))
        return tuple(answers)

    def _answer(
        self, setting: Setting, path: str, sizes: dict[str, int], inputs: Sequence[Any], outside: str
    ) -> Answer:
        start = time.perf_counter()
        try:
            recompiles = outside == "recompile" and path == "jit"
            program = self._build(setting, path, "reuse") if recompiles else self.program(setting, path)
            program.outside = outside if recompiles or outside == "eager" else "raise"
            before, start = len(program.build.engines), time.perf_counter()
            try:
                program(*inputs)
            finally:
                program.outside = "raise"
            seconds = time.perf_counter() - start
            engines = program.build.engines[before:]
            inside = all(dim.min <= sizes[name] <= dim.max for name, dim in program.case.dims.items())
            if engines:
                return Answer(path, sizes, "built", "; ".join(map(str, engines)), seconds)
            if inside:
                return Answer(path, sizes, "served", _by(program, sizes), seconds)
            return Answer(path, sizes, "eager", "run in PyTorch without compiling, as asked", seconds)
        except ShapeError as error:
            return Answer(path, sizes, "refused", str(error), time.perf_counter() - start)
        except Exception as error:
            return Answer(path, sizes, "failed", failure(error).sentence, time.perf_counter() - start)


class _Run:
    """One run of the bench, step by step."""

    def __init__(self, bench: Bench, setting: Setting, tell: Tell, show: Callable[[Result], None], fresh: bool) -> None:
        self.bench, self.setting, self.tell, self.show, self.fresh = bench, setting, tell, show, fresh
        self.case = bench.case(setting)
        self.programs: dict[str, Compiled] = {}
        self.failures: dict[str, Failure] = {}
        self.seconds: dict[str, float] = {}
        self.look: Sweep | None = None

    def result(self) -> Result:
        with self._timed("first look"):
            self._first_look({})
        for place, path in enumerate(self.setting.paths):
            self._build(place, path)
        sweep = None
        if self.programs:
            with self._timed("measure"):
                sweep = self._measure()
        return self._so_far(sweep, final=True)

    def _build(self, place: int, path: str) -> None:
        share = place / (len(self.setting.paths) + 2)
        start = time.perf_counter()
        try:
            with self._timed(f"build {path}"), progress.listening(lambda text: self.tell(share, text)):
                self.programs[path] = self.bench.program(self.setting, path, self.fresh)
        except Exception as error:
            self.failures[path] = failure(error)
        else:
            last = place == len(self.setting.paths) - 1
            if time.perf_counter() - start > WORTH_A_LOOK and not last:
                with self._timed("first look"):
                    self._first_look({path: self.programs[path]})
        self.show(self._so_far(self.look, final=False))

    def _first_look(self, programs: Mapping[str, Compiled]) -> None:
        place = len(self.programs) / (len(self.setting.paths) + 2)
        seen = latencies(
            self.case,
            programs,
            self.setting.sizes,
            progress=lambda done, total, text: self.tell(place, f"a first look at {next(iter(programs), 'eager')}"),
        )
        if self.look is None:
            self.look = seen
        else:
            new = seen.table[seen.table["path"] != EAGER]
            self.look = dataclasses.replace(
                seen,
                table=pd.concat([self.look.table, new], ignore_index=True),
                builds=[*self.look.builds, *seen.builds],
            )
        self.show(self._so_far(self.look, final=False))

    def _measure(self) -> Sweep:
        paths, steps = len(self.setting.paths), len(self.setting.sizes)

        def progress(done: int, total: int, text: str) -> None:
            comparing = text.startswith("comparing")
            part = done / max(total, 1)
            of = f" ({done + 1} of {steps})" if comparing else f" of {total}" if "round" in text else ""
            self.tell((paths + part + (0 if comparing else 1)) / (paths + 2), text + of)

        return sweep(
            self.programs,
            self.setting.sizes,
            min_samples=self.setting.samples,
            min_seconds=MIN_SECONDS,
            rows=False,
            progress=progress,
            after_round=lambda found: self.show(self._so_far(found, final=False)),
        )

    def _so_far(self, found: Sweep | None, final: bool) -> Result:
        return Result(
            setting=self.setting,
            sweep=found,
            builds=tuple(program.build for program in self.programs.values()),
            failures=dict(self.failures),
            seconds=dict(self.seconds),
            when=datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            final=final,
        )

    def _timed(self, name: str) -> "_Timed":
        return _Timed(self.seconds, name)


class _Timed:
    """Adds the seconds of a ``with`` block to a dictionary."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] = self._seconds.get(self._name, 0.0) + time.perf_counter() - self._start


def failure(error: BaseException) -> Failure:
    """An error as a sentence and its traceback; the sentence of an error of this package is its message."""
    return Failure(sentence(error), "".join(traceback.format_exception(error)))


def _by(program: Compiled, sizes: Mapping[str, int]) -> str:
    """Which engine serves these sizes: the newest whose range holds them."""
    engines = program.build.engines
    for number, engine in reversed(list(enumerate(engines, start=1))):
        holds = True
        for spec in program.case.inputs:
            found = next((i for i in engine.data if i.name == spec.name), None)
            for axis, dim in spec.dynamic.items() if found else ():
                low, high = found.min[axis], found.max[axis]  # type: ignore[union-attr]
                holds = holds and (low or 0) <= sizes[dim.name] <= (high or sizes[dim.name])
        if holds:
            return f"engine {number} of {len(engines)}: {'; '.join(map(str, engine.data))}"
    return f"one of {len(engines)} engines"


def _check_memory(case: Case, sizes: Mapping[str, int]) -> None:
    for spec in case.inputs:
        size = spec.dtype.itemsize
        for length in spec.shape_at(sizes):
            size *= length
        if size > LARGEST_INPUT:
            where = ", ".join(f"{name} {value}" for name, value in sizes.items())
            raise ShapeError(
                f"at {where} the input {spec.name} alone would take {size / 1e9:.0f} GB; use a smaller size."
            )
