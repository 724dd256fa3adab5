"""The studio without its widgets: builds a setting, measures it, and remembers what it has.

The studio calls it from a thread of its own. On a CPU, calls of a few milliseconds then take up to a tenth longer
than in the main thread, since OpenMP keeps a pool for each thread that uses it; eager and compiled calls alike.
"""

import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from tutorial_lib.builds.job import sentence
from tutorial_lib.builds.program import OUTSIDE, Compiled
from tutorial_lib.core import progress
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.experiments.result import Result
from tutorial_lib.experiments.run import build, run, share
from tutorial_lib.experiments.setting import Setting

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
        self._cases: Recent[tuple[str, str | None], Case] = Recent(PROGRAMS)  # all programs of a sweep share a model
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
        case = self._cases.recall(key) or self._cases.keep(key, setting.case(self.base(setting.model)))
        return setting.case(case)

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
        result = run(
            setting,
            self.case(setting),
            progress=lambda step: tell(share(step, setting), step.text),
            show=show,
            build=lambda setting, case, path: self.program(setting, path, fresh),
            look_after=WORTH_A_LOOK,
            min_seconds=MIN_SECONDS,
        )
        return result if result.failures else self._results.keep(setting, result)

    def program(self, setting: Setting, path: str, fresh: bool = False) -> Compiled:
        """The program of one path, from memory if it is there."""
        key = path, dataclasses.replace(setting, paths=(), sizes=(), samples=1)
        program = None if fresh else self._programs.recall(key)
        if program is None:
            made = build(setting, self.case(setting), path, "fresh" if fresh else "reuse")
            program = self._programs.keep(key, made)
        return program

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
            own = build(setting, self.case(setting), path, "reuse") if recompiles else None
            program = own or self.program(setting, path)
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
            return Answer(path, sizes, "failed", sentence(error), time.perf_counter() - start)


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
