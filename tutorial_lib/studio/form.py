"""The entries of the panel as one setting: reading, checking, writing."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tutorial_lib.builds.backends import BackendUnavailable, OptionError, choose
from tutorial_lib.core.models import Case
from tutorial_lib.core.precision import PrecisionError
from tutorial_lib.core.profiles import Profile, read_text, show
from tutorial_lib.core.shapes import DynamicDim, ShapeError
from tutorial_lib.engines import EnginesUnavailable, install
from tutorial_lib.experiments.setting import Setting, freeze, read_options, read_sizes, show_options
from tutorial_lib.measure.sweep import default_sizes
from tutorial_lib.studio.cached_runs import CachedRuns
from tutorial_lib.studio.panel import Panel

INVALID = (ShapeError, BackendUnavailable, OptionError, PrecisionError, EnginesUnavailable)
"""What a setting that cannot be built raises."""
Values = dict[str, Any]
"""Everything that is typed, as it is typed, right or wrong."""

OPTIONS = {
    "inductor": "max_autotune=True, freezing=True",
    "openvino": "PERFORMANCE_HINT='THROUGHPUT'",
    "tensorrt": "min_block_size=1",
}
"""What options look like, by backend."""
ENTRIES = ("backend", "precision", "paths", "sizes", "options", "samples", "budget", "engines", "calls", "profiles")
"""What is typed beside the model and its ranges, by the names of a :class:`Setting`."""


def _typed(name: str, value: Any) -> Any:
    """What would be typed for the value of an entry."""
    if name == "paths":
        return (value,) if isinstance(value, str) else tuple(value)
    if name in ("sizes", "calls") and not isinstance(value, str):
        return ", ".join(map(str, [value] if isinstance(value, int) else value or ()))
    if name == "options" and not isinstance(value, str):
        return show_options(freeze(dict(value or {})))
    if name == "profiles" and not isinstance(value, str):
        return "; ".join(map(_profile_text, value or ()))
    return value


def _profile_text(profile: Profile | Mapping[str, Iterable[int]]) -> str:
    """What would be typed for one profile, given as a mapping or as ranges."""
    if not isinstance(profile, Mapping):
        return show(profile)
    return ", ".join(f"{name} {'/'.join(map(str, ends))}" for name, ends in profile.items())


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
            "race": panel.race.value,
            "ranges": {name: controls.values for name, controls in panel.ranges.items()},
            "paths": tuple(name for name, box in panel.paths.items() if box.value),
            **{name: widget.value for name, widget in panel.entries.items()},
        }

    def read(self, values: Values | None = None) -> Setting:
        """`values`, or what is typed now, as a settled setting; raises one of :data:`INVALID` if it cannot be built."""
        values = values or self.values()
        case = self._case(values)
        fields = {name: value for name, value in values.items() if name != "race"}
        fields |= {
            "ranges": tuple(case.dims.values()),
            "profiles": case.profiles,
            "sizes": read_sizes(values["sizes"]),
            "options": read_options(values["options"]),
            "calls": read_sizes(values["calls"], "to call TensorRT's engines at") if values["engines"] else (),
        }
        if values["engines"]:
            install.located()
        return self._runs.settled(Setting(**fields))

    def _case(self, values: Values) -> Case:
        """The case with the profiles that are typed, or with the one range."""
        base, profiles = self._runs.base(values["model"]), read_text(values["profiles"])
        return base.with_profiles(*profiles) if profiles else base.with_ranges(**values["ranges"])

    def add_profile(self) -> None:
        """Add the range that is typed to the profiles that are."""
        typed = self._panel.profiles.value.strip(" ;")
        added = _profile_text({name: controls.values for name, controls in self._panel.ranges.items()})
        self._panel.profiles.value = f"{typed}; {added}" if typed else added

    def race(self, values: Values | None = None) -> Setting | None:
        """The same for the backend that is to run beside it, if there is one: measurements alone, without options."""
        values = values or self.values()
        setting = self.read(values)
        if values["race"] in ("", setting.backend):
            return None
        other = replace(setting, backend=values["race"], options=(), engines=False, calls=(), measure=True)
        return self._runs.settled(other)

    def changed(self, changes: Mapping[str, Any]) -> Values:
        """What is typed now with `changes`, which have the names of :meth:`Studio.set`."""
        values = self.values()
        model = changes.get("model", values["model"])
        if model != values["model"]:
            ranges = _triples(self._runs.base(model).dims.values())
            values |= {"model": model, "sizes": "", "profiles": "", "ranges": ranges}
        for name, value in changes.items():
            if name in ENTRIES:
                values[name] = _typed(name, value)
            elif name == "race":
                values[name] = value or ""
            elif name in values["ranges"]:
                if "profiles" not in changes:
                    values["profiles"] = ""  # one range takes their place
                values["ranges"][name] = tuple(value) if isinstance(value, Iterable) else value
            elif name != "model":
                names = ", ".join([*values["ranges"], "model", "race", *ENTRIES])
                raise ShapeError(f"there is no {name!r} to set; use {names}.")
        return values

    def values_of(self, setting: Setting) -> Values:
        """What would have to be typed for `setting`."""
        ranges = _triples(setting.ranges)
        values = {name: _typed(name, getattr(setting, name)) for name in ENTRIES}
        if setting.sizes == tuple(default_sizes(setting.ranged(self._runs.base(setting.model)))):
            values["sizes"] = ""
        return {"model": setting.model, "ranges": ranges, **values}

    def write(self, values: Values, show_ranges: Callable[[], None]) -> None:
        """Type `values`; `show_ranges` is called if the model is another one."""
        panel = self._panel
        with self.quiet():
            if panel.model.value != values["model"]:
                panel.model.value = values["model"]
                show_ranges()
            panel.race.value = values.get("race", panel.race.value)
            for name, triple in values["ranges"].items():
                panel.ranges[name].write(triple)
            for name, box in panel.paths.items():
                box.value = name in values["paths"]
            for name, widget in panel.entries.items():
                widget.value = values[name]

    def follow(self) -> None:
        """Let what only shows follow what is typed: the sliders, and the sizes that are measured by default."""
        with self.quiet():
            for controls in self._panel.ranges.values():
                controls.follow()
            self._panel.calls.disabled = not self._panel.engines.value
        values = self.values()
        with contextlib.suppress(ShapeError):
            sizes = default_sizes(self._case(values))
            self._panel.sizes.placeholder = "automatic: " + ", ".join(map(str, sizes))
        with contextlib.suppress(BackendUnavailable):
            backend, _ = choose(values["backend"], self._runs.device)
            self._panel.options.placeholder = OPTIONS.get(backend, "it has none")

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Change entries without being told of it."""
        before, self.writing = self.writing, True
        try:
            yield
        finally:
            self.writing = before


def _triples(dims: Iterable[DynamicDim]) -> dict[str, tuple[int, int, int]]:
    return {dim.name: (dim.min, dim.opt, dim.max) for dim in dims}
