"""The entries of the panel as one setting: reading, checking, writing."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tutorial_lib.builds.backends import BackendUnavailable, OptionError
from tutorial_lib.core.precision import PrecisionError
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.experiments.setting import Setting, freeze, read_options, read_sizes, show_options
from tutorial_lib.measure.sweep import default_sizes
from tutorial_lib.studio.cached_runs import CachedRuns
from tutorial_lib.studio.panel import Panel

INVALID = (ShapeError, BackendUnavailable, OptionError, PrecisionError)
"""What a setting that cannot be built raises."""
Values = dict[str, Any]
"""Everything that is typed, as it is typed, right or wrong."""

READERS: dict[str, Callable[[Any], Any]] = {
    "backend": str,
    "precision": str,
    "paths": lambda paths: (paths,) if isinstance(paths, str) else tuple(paths),
    "sizes": lambda sizes: sizes if isinstance(sizes, str) else ", ".join(map(str, _listed(sizes))),
    "options": lambda options: options if isinstance(options, str) else show_options(freeze(options or {})),
    "samples": lambda samples: samples,
}


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, Iterable) else [value]


class Form:
    """The entries of `panel`, for the models of `runs`."""

    def __init__(self, panel: Panel, runs: CachedRuns) -> None:
        self._panel, self._runs = panel, runs
        self.writing = False
        """True while code, and not a reader, changes the entries."""

    def values(self) -> Values:
        """What is typed now."""
        panel = self._panel
        return {
            "model": panel.model.value,
            "ranges": {name: controls.values for name, controls in panel.ranges.items()},
            "backend": panel.backend.value,
            "precision": panel.precision.value,
            "paths": tuple(name for name, box in panel.paths.items() if box.value),
            "sizes": panel.sizes.value,
            "options": panel.options.value,
            "samples": panel.rounds.value,
        }

    def read(self, values: Values | None = None) -> Setting:
        """`values`, or what is typed now, as a settled setting.

        Raises
        ------
        ShapeError, BackendUnavailable, PrecisionError, OptionError
            If it cannot be built.
        """
        values = values or self.values()
        ranged = self._runs.base(values["model"]).with_ranges(**values["ranges"])
        return self._runs.settled(
            Setting(
                values["model"],
                tuple(ranged.dims.values()),
                values["backend"],
                values["precision"],
                values["paths"],
                read_sizes(values["sizes"]),
                read_options(values["options"]),
                values["samples"],
            )
        )

    def changed(self, changes: Mapping[str, Any]) -> Values:
        """What is typed now with `changes`, which have the names of :meth:`Studio.set`."""
        values, changes = self.values(), dict(changes)
        model = changes.pop("model", values["model"])
        if model != values["model"]:
            dims = self._runs.base(model).dims
            ranges = {name: (dim.min, dim.opt, dim.max) for name, dim in dims.items()}
            values |= {"model": model, "sizes": "", "ranges": ranges}
        for name, value in changes.items():
            if name in READERS:
                values[name] = READERS[name](value)
            elif name in values["ranges"]:
                values["ranges"] = {**values["ranges"], name: tuple(value) if isinstance(value, Iterable) else value}
            else:
                names = ", ".join([*values["ranges"], "model", *READERS])
                raise ShapeError(f"there is no {name!r} to set; use {names}.")
        return values

    def values_of(self, setting: Setting) -> Values:
        """What would have to be typed for `setting`."""
        ranges = {dim.name: (dim.min, dim.opt, dim.max) for dim in setting.ranges}
        automatic = tuple(default_sizes(self._runs.base(setting.model).with_ranges(**ranges)))
        return {
            "model": setting.model,
            "ranges": ranges,
            "backend": setting.backend,
            "precision": setting.precision,
            "paths": setting.paths,
            "sizes": "" if setting.sizes == automatic else ", ".join(map(str, setting.sizes)),
            "options": show_options(setting.options),
            "samples": setting.samples,
        }

    def write(self, values: Values, show_ranges: Callable[[], None]) -> None:
        """Type `values`; `show_ranges` is called if the model is another one."""
        panel = self._panel
        with self.quiet():
            if panel.model.value != values["model"]:
                panel.model.value = values["model"]
                show_ranges()
            for name, triple in values["ranges"].items():
                panel.ranges[name].write(triple)
            panel.backend.value, panel.precision.value = values["backend"], values["precision"]
            for name, box in panel.paths.items():
                box.value = name in values["paths"]
            panel.sizes.value, panel.options.value = values["sizes"], values["options"]
            panel.rounds.value = values["samples"]

    def follow(self) -> None:
        """Let what only shows follow what is typed: the sliders, and the sizes that are measured by default."""
        with self.quiet():
            for controls in self._panel.ranges.values():
                controls.follow()
        values = self.values()
        with contextlib.suppress(ShapeError):
            sizes = default_sizes(self._runs.base(values["model"]).with_ranges(**values["ranges"]))
            self._panel.sizes.placeholder = "automatic: " + ", ".join(map(str, sizes))

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Change entries without being told of it."""
        before, self.writing = self.writing, True
        try:
            yield
        finally:
            self.writing = before
