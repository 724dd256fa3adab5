"""The studio without its widgets: builds and measures settings, and remembers programs and results.

It runs on a thread of its own. On a CPU, calls of a few milliseconds then take up to a tenth longer than in the main
thread, since OpenMP keeps a pool for each thread that uses it; eager and compiled calls alike.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import torch
from cachetools import LRUCache

from tutorial_lib.builds.program import OUTSIDE, Compiled
from tutorial_lib.builds.report import EngineInput
from tutorial_lib.core import progress
from tutorial_lib.core.errors import sentence
from tutorial_lib.core.models import Case
from tutorial_lib.core.progress import Listener
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines import EngineReport
from tutorial_lib.experiments.result import Result
from tutorial_lib.experiments.run import ENGINES, BuildEngines, build, prepare_engines, run, share
from tutorial_lib.experiments.setting import Setting

PROGRAMS, RESULTS, REPORTS = 12, 32, 128
"""Built programs, results, and reports on TensorRT's engines that are kept in memory; what was used longest ago goes
first."""
MIN_SECONDS = 0.03
"""Measured time of each call at least; the rounds set the rest."""
WORTH_A_LOOK = 3.0
"""Seconds of a build after which its path is measured at once, before the next one is built; the first always is."""
LARGEST_INPUT = 1 << 30
"""Bytes of an input that is still made."""
FACTORS = (2, 1 / 2, 4, 1 / 4)
"""By which max is multiplied to see what it does to the memory of TensorRT's engines, the most telling first."""

Tell = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what is being done. It may raise ``progress.Cancelled``."""


def ignore(*_: object) -> None:
    """A listener that does nothing."""


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


class CachedRuns:
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
        self._cases: MutableMapping[tuple[str, str | None], Case] = LRUCache(PROGRAMS)
        self._programs: MutableMapping[tuple[str, Setting], Compiled] = LRUCache(PROGRAMS)
        self._results: MutableMapping[Setting, Result] = LRUCache(RESULTS)
        self._reports: MutableMapping[Setting, EngineReport] = LRUCache(REPORTS)

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
        if key not in self._cases:
            self._cases[key] = setting.case(self.base(setting.model))
        return setting.case(self._cases[key])

    def settled(self, setting: Setting) -> Setting:
        """`setting` as :meth:`Setting.settled` checks and completes it, with inputs that fit into memory."""
        base = self.base(setting.model)
        setting = setting.settled(base)
        ranged = setting.ranged(base)
        for sizes in (ranged.traced, *map(ranged.sizes, setting.sizes)):
            _check_memory(ranged, sizes)
        return setting

    def cached(self, setting: Setting) -> Result | None:
        """The result of a settled setting, if it is still in memory."""
        return self._results.get(setting)

    def run(
        self, setting: Setting, *, tell: Tell = ignore, show: Callable[[Result], None] = ignore, fresh: bool = False
    ) -> Result:
        """Build every path of a settled setting, then measure and compare them side by side.

        TensorRT's engines come first, if the setting asks for them. A path that cannot be built is a failure of the
        result, and the others go on. Such a result is not remembered: the next run tries that path again. Nothing is
        measured again where only TensorRT's engines are other ones.

        Parameters
        ----------
        setting : Setting
            From :meth:`settled`.
        tell : callable
            Told of every step; the run stops where it raises :class:`~tutorial_lib.core.progress.Cancelled`.
        show : callable
            Given the result so far, whenever there is more.
        fresh : bool
            Build and measure again, without anything that was kept in memory or on disk.
        """
        cached = None if fresh else self.cached(setting)
        if cached:
            return cached
        measured = None if fresh else self._measured(setting)
        if measured:
            result = self._with_engines(measured, setting, tell)
        else:
            result = run(
                setting,
                self.case(setting),
                progress=lambda step: tell(share(step, setting), step.text),
                show=show,
                build=lambda setting, case, path: self.program(setting, path, fresh),
                prepare_engines=lambda setting, case: self._prepare_engines(setting, case, fresh),
                look_after=WORTH_A_LOOK,
                min_seconds=MIN_SECONDS,
            )
        if not result.failures:
            self._results[setting] = result
        return result

    def _measured(self, setting: Setting) -> Result | None:
        """A result in memory of the same measurements, whatever it has of TensorRT."""
        wanted = _without_engines(setting)
        known = next((other for other in list(self._results) if _without_engines(other) == wanted), None)
        return self._results[known] if known else None

    def _with_engines(self, measured: Result, setting: Setting, tell: Tell) -> Result:
        """`measured` with the engines that `setting` asks for, if it does."""
        seconds = {name: spent for name, spent in measured.seconds.items() if name != ENGINES}
        if not setting.engines:
            return replace(measured, setting=setting, engines=(), seconds=seconds)
        engines_only = replace(setting, measure=False)
        result = run(
            engines_only,
            self.case(setting),
            progress=lambda step: tell(share(step, engines_only), step.text),
            prepare_engines=self._prepare_engines,
        )
        return replace(measured, setting=setting, engines=result.engines, seconds={**result.seconds, **seconds})

    def program(self, setting: Setting, path: str, fresh: bool = False) -> Compiled:
        """The program of one path, from memory if it is there; neither sizes nor rounds make another one."""
        key = path, _without_engines(replace(setting, paths=(), sizes=(), samples=1, budget=0.0))
        program = None if fresh else self._programs.get(key)
        if program is None:
            program = build(setting, self.case(setting), path, "fresh" if fresh else "reuse")
            self._programs[key] = program
        return program

    def engines(self, setting: Setting, path: str, progress: Listener = ignore) -> EngineReport:
        """What TensorRT for RTX builds for one path of a settled setting, from memory if it is there."""
        return self._prepare_engines(replace(setting, paths=(path,)), self.case(setting))(path, progress)

    def _prepare_engines(self, setting: Setting, case: Case, fresh: bool = False) -> BuildEngines:
        """As :func:`tutorial_lib.experiments.run.prepare_engines`, with the reports that are in memory."""
        keys = {path: _engines_of(setting, path) for path in setting.paths}
        reports = {} if fresh else {path: self._reports[key] for path, key in keys.items() if key in self._reports}
        missing = tuple(path for path in setting.paths if path not in reports)
        ask = prepare_engines(replace(setting, paths=missing), case) if missing else None

        def build(path: str, progress: Listener) -> EngineReport:
            if ask is None or path in reports:
                return reports[path]
            report = ask(path, progress)
            if not report.failed:
                self._reports[keys[path]] = report
            return report

        return build

    def engines_over_max(self, setting: Setting, dim: str) -> tuple[EngineReport, ...]:
        """The reports in memory on the paths of a settled setting that have another range of `dim` at most."""
        wanted = {_at_any(dim, _engines_of(setting, path)) for path in setting.paths}
        return tuple(self._reports[key] for key in list(self._reports) if _at_any(dim, key) in wanted)

    def other_maxes(self, setting: Setting, dim: str) -> Iterator[Setting]:
        """A settled setting with some other sizes of its max of `dim`, as far as the model and opt allow them."""
        current = next(each for each in setting.ranges if each.name == dim)
        for factor in FACTORS:
            with suppress(ShapeError):
                size = int(current.max * factor)
                if size >= current.opt:
                    yield self.with_max(setting, dim, size)

    def with_max(self, setting: Setting, dim: str, size: int) -> Setting:
        """A settled setting with another max of `dim`, and without calls.

        Raises
        ------
        ShapeError
            If there is no such range.
        """
        ranges = {each.name: (each.min, each.opt, size if each.name == dim else each.max) for each in setting.ranges}
        case = self.base(setting.model).with_ranges(**ranges)
        return self.settled(replace(setting, ranges=tuple(case.dims.values()), sizes=(), calls=(), profiles=()))

    def ask(self, setting: Setting, size: int, outside: str = "raise", tell: Tell = ignore) -> tuple[Answer, ...]:
        """What each path of a settled setting does with `size` of the first dimension, the others at opt.

        Parameters
        ----------
        setting : Setting
            From :meth:`settled`. What is not built yet is built.
        size : int
            In the range or outside.
        outside : str
            What a program may do outside its range (:attr:`Compiled.outside`). ``recompile`` is for jit, and calls
            a program that is not kept: engines that it builds belong to no measurement. Other paths refuse.
        tell : callable
            As in :meth:`run`.

        Raises
        ------
        ShapeError
            If no input of that size can be made.
        """
        if outside not in OUTSIDE:
            raise ValueError(f"outside is {outside!r}; use {', '.join(OUTSIDE)}.")
        case = self.case(setting)
        sizes = case.sizes(size)
        _check_memory(case, sizes)
        inputs = case.example(sizes)
        answers = []
        for index, path in enumerate(setting.paths):
            done = index / len(setting.paths)
            tell(done, f"asking {path}")
            with progress.listening(partial(tell, done)):
                answers.append(self._answer(setting, path, sizes, inputs, outside))
        return tuple(answers)

    def _answer(
        self, setting: Setting, path: str, sizes: dict[str, int], inputs: tuple[torch.Tensor, ...], outside: str
    ) -> Answer:
        start = time.perf_counter()
        try:
            if outside == "recompile" and path == "jit":
                program = build(setting, self.case(setting), path, "reuse")
            else:
                program = self.program(setting, path)
                outside = "eager" if outside == "eager" else "raise"
            start = time.perf_counter()
            outcome, words = _call(program, sizes, inputs, outside)
        except ShapeError as error:
            outcome, words = "refused", str(error)
        except Exception as error:
            outcome, words = "failed", sentence(error)
        return Answer(path, sizes, outcome, words, time.perf_counter() - start)


def _without_engines(setting: Setting) -> Setting:
    return replace(setting, engines=False, calls=())


def _engines_of(setting: Setting, path: str) -> Setting:
    """What TensorRT's engines of one path depend on; the other backends and what is measured make no others."""
    is_tensorrt = setting.backend == "tensorrt"
    return Setting(
        setting.model,
        setting.ranges,
        backend="tensorrt" if is_tensorrt else "",
        precision=setting.precision,
        paths=(path,),
        options=setting.options if is_tensorrt else (),
        measure=False,
        engines=True,
        calls=setting.calls,
        profiles=setting.profiles,
    )


def _at_any(dim: str, setting: Setting) -> Setting:
    """`setting` without the range of a dimension and without calls."""
    return replace(setting, ranges=tuple(each for each in setting.ranges if each.name != dim), calls=())


def _call(
    program: Compiled, sizes: Mapping[str, int], inputs: tuple[torch.Tensor, ...], outside: str
) -> tuple[str, str]:
    """Call a program once; returns the outcome and the words of an :class:`Answer`."""
    before = len(program.build.engines)
    program.outside = outside
    try:
        program(*inputs)
    finally:
        program.outside = "raise"
    if engines := program.build.engines[before:]:
        return "built", "; ".join(map(str, engines))
    if all(dim.min <= sizes[name] <= dim.max for name, dim in program.case.dims.items()):
        return "served", _serving_engine(program, sizes)
    return "eager", "run in PyTorch without compiling, as asked"


def _serving_engine(program: Compiled, sizes: Mapping[str, int]) -> str:
    """Which engine serves these sizes: the newest whose range holds them."""
    engines = program.build.engines
    shapes = {spec.name: spec.shape_at(sizes) for spec in program.case.inputs}
    for number in range(len(engines), 0, -1):
        inputs = engines[number - 1].data
        if all(_holds(each, shapes[each.name]) for each in inputs if each.name in shapes):
            return f"engine {number} of {len(engines)}: {'; '.join(map(str, inputs))}"
    return f"one of {len(engines)} engines"


def _holds(engine_input: EngineInput, shape: tuple[int, ...]) -> bool:
    bounds = zip(engine_input.min, shape, engine_input.max, strict=True)
    return all((low or 0) <= size <= (high or size) for low, size, high in bounds)


def _check_memory(case: Case, sizes: Mapping[str, int]) -> None:
    for spec in case.inputs:
        input_bytes = math.prod(spec.shape_at(sizes)) * spec.dtype.itemsize
        if input_bytes > LARGEST_INPUT:
            where = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ShapeError(
                f"at {where} the input {spec.name} alone would take {input_bytes / 1e9:.0f} GB; use a smaller size."
            )
