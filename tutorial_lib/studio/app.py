"""The studio: the panel, what its controls do, and the same from code."""

import functools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tutorial_lib.builds.backends import as_device
from tutorial_lib.builds.job import BuildError
from tutorial_lib.core.files import save
from tutorial_lib.core.models import MODELS, Case
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines import EngineReport, EnginesUnavailable, install
from tutorial_lib.experiments import recordings
from tutorial_lib.experiments.result import Failure, Result
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.studio import downloads, views
from tutorial_lib.studio.cached_runs import Answer, CachedRuns
from tutorial_lib.studio.display import Display
from tutorial_lib.studio.experiment import Experiment
from tutorial_lib.studio.form import INVALID, Form
from tutorial_lib.studio.panel import OUTSIDE, Panel, RangeControls
from tutorial_lib.studio.runner import WORKER, Runner
from tutorial_lib.studio.worker import Job, Worker
from tutorial_lib.upstream.exported_script import script

DRAWER = Worker("tutorial_lib studio, drawing")
SETTLE = 0.05
"""Seconds between a click on Build and its reading of the entries (:meth:`Studio._soon`)."""


class Studio:
    """A panel to set min / opt / max, build along the three paths, and see latency and agreement.

    In JupyterLab, the last line of a cell shows it. Whatever a click does, a method does as well, and
    returns a value or raises::

        studio = Studio()
        studio.set(batch=(1, 4, 32), backend="inductor")
        result = studio.build()     # or: await studio.build_async()
        studio.snapshot()

    Parameters
    ----------
    case : Case, optional
        The model to build; without it, the panel offers all of :data:`tutorial_lib.MODELS`.
    device : str or torch.device, optional
        Where the tutorial's models run. Default: the GPU if PyTorch sees one.
    """

    def __init__(self, case: Case | None = None, device: str | torch.device | None = None) -> None:
        cases: dict[str, Callable[[], Case]] = dict(MODELS) if case is None else {case.name: lambda: case}
        self._runs = CachedRuns(cases, as_device(device) if case is None else case.device)
        self._panel = Panel(list(cases))
        self._form = Form(self._panel, self._runs)
        self._display = Display(self._panel, self._runs)
        self._lock = threading.RLock()  # handlers may run on any thread, beside the worker's
        self._runner = Runner(self._runs, self._panel, self._display, self._lock, self._mark)
        self._current: Setting | None = None  # what is typed, if it can be built
        self._clicked: threading.Timer | None = None
        self._panel.offer(self._runs.device)
        self._panel.offer_engines(_missing())
        self._connect()
        self._show_ranges()
        self._changed()
        self._display.draw()

    # What a reader can do, from code.

    @property
    def setting(self) -> Setting:
        """The setting in the panel, with the backend and the sizes that it comes to.

        Raises
        ------
        ShapeError, BackendUnavailable, PrecisionError, OptionError, EnginesUnavailable
            If it cannot be built.
        """
        return self._form.read()

    @property
    def result(self) -> Result | None:
        """The last result, or None."""
        return self._display.result

    @property
    def race(self) -> Result | None:
        """The result of the backend beside the last one's (``set(race=...)``), or None."""
        return self._display.race

    @property
    def pins(self) -> Mapping[str, Result]:
        """Pinned results by their letter."""
        return dict(self._display.pins)

    def set(self, **changes: Any) -> Setting:
        """Change the setting, as typing into the panel does.

        Parameters
        ----------
        **changes
            A range for any dimension of the model, such as ``batch=(1, 4, 32)``; ``model``, ``backend``,
            ``precision``, ``paths`` (names), ``sizes`` (to measure; empty for automatic),
            ``options`` (a mapping), ``samples`` (rounds of measuring at least), ``budget`` (seconds of measuring,
            within which rounds go on until the paths are told apart; 0: no more than those rounds),
            ``race`` (another backend, built and measured as well, whose curves stand behind; empty for none),
            ``engines`` (whether TensorRT for RTX builds its engines too, which are not run), ``calls`` (sizes to call
            these at), ``profiles`` (several, each a mapping from every dimension to its range, in place of the one
            range; empty for none).

        Raises
        ------
        ShapeError, BackendUnavailable, PrecisionError, OptionError, EnginesUnavailable
            If the new setting cannot be built; the panel then stays as it was.
        """
        with self._lock:
            values = self._form.changed(changes)
            self._form.race(values)  # raises before anything has changed
            self._form.write(values, self._show_ranges)
            self._changed()
            return self.setting

    def build(self, fresh: bool = False) -> Result:
        """Build and measure the setting, and wait for the result. With `fresh`, without anything kept from before.

        TensorRT's engines come first, if the setting has ``engines``: see :attr:`Result.engines`.

        Raises
        ------
        BuildError
            If a path could not be built; the panel shows what the others gave.
        RunCancelled
            If it was cancelled, or a newer run took its place.
        """
        try:
            return _complete(self.start(fresh).result())
        except KeyboardInterrupt:
            self.cancel()
            raise

    async def build_async(self, fresh: bool = False) -> Result:
        """:meth:`build` for ``await``: other cells and the panel stay alive meanwhile."""
        return _complete(await self.start(fresh))

    def start(self, fresh: bool = False) -> Job[Result]:
        """Build and measure the setting in the background; returns at once."""
        with self._lock:
            return self._runner.start(self.setting, fresh, self._form.race())

    def cancel(self) -> None:
        """Stop the run as soon as it can be stopped; what it still brings is discarded."""
        with self._lock:
            self._clicked = None
            self._runner.cancel()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the last run has ended.

        Raises
        ------
        BaseException
            Whatever ended it early.
        """
        if clicked := self._clicked:
            clicked.join()
        if self._runner.job:
            _complete(self._runner.job.result(seconds))

    def pin(self) -> str:
        """Keep the result in view, behind later ones; returns its letter."""
        with self._lock:
            letter = self._display.pin(self._display.last())
            self._pins_changed()
            return letter

    def show_recorded(self, file: str | Path, **choice: str) -> str:
        """Pin a setting of a recorded run behind the live ones, labelled "recorded on ... at ..."; returns its letter.

        Parameters
        ----------
        file : str or Path
            What ``python -m tutorial_lib record`` wrote.
        **choice
            Which setting of it: ``model``, ``backend``, ``precision``, ``ranges``. Default: any of the shown model.

        Raises
        ------
        RecordedError
            If the file cannot be used, or not exactly one setting fits.
        """
        recording = recordings.load(file)
        with self._lock:
            letter = self._display.pin(recording.run(**{"model": self._panel.model.value, **choice}))
            self._pins_changed()
            return letter

    def unpin(self, letter: str) -> None:
        """Take a pinned result away."""
        with self._lock:
            self._display.pinned(letter)
            del self._display.pins[letter]
            self._pins_changed()

    def restore(self, letter: str) -> Result:
        """Go back to a pinned setting and its result."""
        with self._lock:
            result = self._display.pinned(letter)
            if result.recorded:
                raise ShapeError(f"{letter} was {result.recorded}; to measure it here, set its ranges and press Build.")
            self._form.write(self._form.values_of(result.setting), self._show_ranges)
            self._changed()
            self._runner.show(result)
            return result

    def ask(self, size: int, outside: str = "raise") -> tuple[Answer, ...]:
        """What each path of the shown result does with `size` of its first dimension, in the range or outside.

        Outside its range, a program does as `outside` says: ``raise``, ``recompile`` (jit) or ``eager``.
        """
        return self._runner.ask(self._asked_setting(), size, outside).result()

    def experiment(self, model: str = "", **changes: Any) -> Experiment:
        """A setting to try, shown with a button that types it into the panel, which stays as it is until then.

        Without a `model`, it is the first that the panel offers. The changes are those of :meth:`set`; what they leave
        out is as in a new panel.
        """
        model = model or self._panel.model.options[0]
        return Experiment(self, model, self._runs.base(model).dims, changes)

    def run_beside(self, **changes: Any) -> Result:
        """What :meth:`set` and :meth:`build` would give, without a change of the panel; reused if it was built there.

        Raises
        ------
        BuildError, ShapeError, BackendUnavailable, PrecisionError, OptionError, EnginesUnavailable
            As those two raise.
        """
        with self._lock:
            setting = self._form.read(self._form.changed(changes))
        if (cached := self._runs.cached(setting)) is not None:
            return _complete(cached)

        def work(job: Job[Result]) -> Result:
            return self._runs.run(setting, tell=lambda *_: job.check())

        return _complete(WORKER.submit((id(self), "beside"), work).result())

    def ask_beside(self, changes: Mapping[str, Any], size: int, outside: str) -> tuple[Answer, ...]:
        """:meth:`ask` for what :meth:`run_beside` would give."""
        with self._lock:
            setting = self._form.read(self._form.changed(changes))
        return self._runner.ask(setting, size, outside).result()

    def engines_over_max(self, *sizes: int, dim: str = "") -> tuple[EngineReport, ...]:
        """What max does to the memory of TensorRT's engines: builds those of the shown setting with other sizes of max.

        Parameters
        ----------
        *sizes : int
            Sizes of max. Default: half, double, and so on, as far as opt and the model allow.
        dim : str
            The dimension whose max it is. Default: the first.

        Returns
        -------
        tuple of EngineReport
            All that are known of these paths and differ in the range of `dim` at most; built, not run.

        Raises
        ------
        ShapeError
            If there is no such dimension, or a size cannot be its max.
        EnginesUnavailable
            If TensorRT for RTX is not installed here, or has no library for this machine.
        """
        install.located()
        setting = self._asked_setting()
        names = [each.name for each in setting.ranges]
        dim = dim or names[0]
        if dim not in names:
            raise ShapeError(f"there is no dimension {dim!r}; use {', '.join(names)}.")
        others = [self._runs.with_max(setting, dim, size) for size in sizes] or self._runs.other_maxes(setting, dim)
        return self._runner.engines_over_max(dim, [setting, *others]).result()

    def script(self) -> str:
        """The setting as a script that stands alone, without this package."""
        setting = self.setting
        return script(self._runs.base(setting.model), setting)

    def save(self, folder: str | Path) -> list[Path]:
        """Write the result as JSON and CSV, the figure as SVG and PNG, and the script; returns the files."""
        folder, result = Path(folder), self._display.last()
        folder.mkdir(parents=True, exist_ok=True)
        figure = views.figure(result, self._display.behind())
        contents = downloads.contents(result, figure)
        contents["py"] = script(self._runs.base(result.setting.model), result.setting)
        files = []
        for suffix, content in contents.items():
            files.append(folder / f"{downloads.stem(result)}.{suffix}")
            save(files[-1], content)
        return files

    def snapshot(self) -> downloads.Snapshot:
        """The result as a figure and a table that need no kernel.

        Raises
        ------
        BaseException
            If the last run failed: whatever ended it.
        """
        if self._runner.error:
            raise self._runner.error
        return downloads.Snapshot(self._display.last(), self._display.behind())

    def close(self) -> None:
        """Stop what runs, and take the panel away."""
        self.cancel()
        self._panel.root.close()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        self._runner.warm_up()
        text = "The shape studio is shown here while its kernel runs: run this cell."
        return {**self._panel.root._repr_mimebundle_(), "text/plain": text, "text/html": f"<p><em>{text}</em></p>"}

    # What the widgets do. Handlers return at once.

    def _connect(self) -> None:
        panel = self._panel
        panel.model.observe(self._handler(self._model_changed), "value")
        for widget in (*panel.entries.values(), *panel.paths.values(), panel.race):
            widget.observe(self._handler(self._changed), "value")
        panel.build.on_click(self._handler(functools.partial(self._soon, self.start)))
        panel.scratch.on_click(self._handler(functools.partial(self._soon, lambda: self.start(fresh=True))))
        panel.cancel.on_click(self._handler(self.cancel))
        panel.pin.on_click(self._handler(self.pin))
        panel.add_profile.on_click(self._handler(self._form.add_profile))
        panel.ask.on_click(self._handler(self._ask_clicked))
        panel.memory_build.on_click(self._handler(self._memory_clicked))
        for dropdown in (panel.memory_dim, panel.compare, panel.compare_with):
            dropdown.observe(self._handler(self._draw_later), "value")
        panel.tabs.observe(self._handler(self._draw_later), "selected_index")

    def _ask_clicked(self) -> None:
        self._runner.ask(self._asked_setting(), self._panel.ask_size.value, OUTSIDE[self._panel.outside.value])

    def _memory_clicked(self) -> None:
        install.located()
        setting, dim = self._asked_setting(), self._panel.memory_dim.value
        self._runner.engines_over_max(dim, [setting, *self._runs.other_maxes(setting, dim)])

    def _handler(self, do: Callable[[], Any]) -> Callable[[Any], None]:
        """`do` as a handler: under the lock, and with its errors in the panel, since a handler's are shown nowhere."""

        def handle(_: Any) -> None:
            with self._lock:
                if self._form.writing:  # by this thread: another one would hold the lock
                    return
                try:
                    do()
                except INVALID as error:
                    self._panel.status.value = views.status(str(error))
                except Exception as error:
                    self._runner.error, failure = error, Failure.of(error)
                    self._panel.status.value = views.status(failure.sentence, details=failure.details)

        return handle

    def _soon(self, do: Callable[[], Any]) -> None:
        """Do it when what was typed before the click has arrived, which ipykernel may bring on another thread."""

        def act() -> None:
            if self._clicked is threading.current_thread():  # no later click, and not cancelled
                do()

        self._clicked = threading.Timer(SETTLE, self._handler(act), [None])
        self._clicked.daemon = True
        self._clicked.start()

    def _show_ranges(self) -> None:
        self._panel.show_ranges(self._runs.base(self._panel.model.value).dims)
        for controls in self._panel.ranges.values():
            for entry in controls.entries.values():
                entry.observe(self._handler(self._changed), "value")
            controls.slider.observe(self._handler(functools.partial(self._slid, controls)), "value")

    def _model_changed(self) -> None:
        with self._form.quiet():
            self._show_ranges()
            self._panel.sizes.value = ""
        self._changed()

    def _slid(self, controls: RangeControls) -> None:
        controls.entries["opt"].value = controls.slider.value

    def _changed(self) -> None:
        """Judge the setting: a sentence while it is wrong, and a mark where the result is of another one."""
        panel, problem = self._panel, ""
        self._form.follow()
        try:
            self._current = self._form.read()
            self._form.race()
        except INVALID as error:
            self._current, problem = None, str(error)
        panel.problem.value = views.problem(problem)
        if self._runner.untouched:
            panel.status.value = "" if problem else views.status(views.READY)
        panel.build.disabled = panel.scratch.disabled = bool(problem)
        self._mark()

    def _mark(self) -> None:
        self._display.mark(self._current, self._runner.running)

    def _pins_changed(self) -> None:
        self._panel.show_pins(
            {letter: result.label for letter, result in self._display.pins.items()},
            lambda letter: self._handler(lambda: self.restore(letter)),
            lambda letter: self._handler(lambda: self.unpin(letter)),
        )
        self._draw_later()

    def _draw_later(self) -> None:
        def draw(_: Job[None]) -> None:
            with self._lock:
                self._display.redraw()

        DRAWER.submit((id(self), "draw"), draw)

    def _asked_setting(self) -> Setting:
        """The setting that is asked about: that of the result, or else the one in the panel."""
        return self._display.result.setting if self._display.result else self.setting


def _missing() -> str:
    """What is missing here to build TensorRT's engines, and how to get it; empty if nothing is."""
    try:
        install.located()
    except EnginesUnavailable as error:
        return str(error)
    return ""


def _complete(result: Result) -> Result:
    """`result`, or an error if a path of it could not be built."""
    if result.failures:
        raise BuildError("; ".join(f"{path}: {why.sentence}" for path, why in result.failures.items()))
    return result
