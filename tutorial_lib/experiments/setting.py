"""One experiment: an immutable, hashable description of what to build and measure."""

import ast
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tutorial_lib.builds import backends
from tutorial_lib.core import plain_values, precision
from tutorial_lib.core.models import Case
from tutorial_lib.core.profiles import Profile
from tutorial_lib.core.profiles import show as show_profile
from tutorial_lib.core.shapes import DynamicDim, ShapeError, as_size
from tutorial_lib.measure.sweep import check_sizes, default_sizes
from tutorial_lib.paths import PATHS


@dataclass(frozen=True)
class Setting:
    """One experiment: some paths of a model, as :func:`tutorial_lib.experiments.run.run` takes it.

    Attributes
    ----------
    model : str
        Name of a case.
    ranges : tuple of DynamicDim
        One for each dynamic dimension of the case, in its order.
    backend, precision : str
        ``auto`` or one of :data:`tutorial_lib.builds.backends.BACKENDS`; one of
        :data:`tutorial_lib.core.precision.DTYPES`, or None for the dtypes that the model has.
    paths : tuple of str
        Some of ``jit``, ``input``, ``export``.
    sizes : tuple of int
        Sizes of the first dimension to measure; empty for min, the powers of two, opt and max.
    options : tuple of (str, value)
        Settings of the backend over this package's defaults.
    samples : int
        Rounds of measuring at least.
    budget : float
        Seconds that rounds may take: within these, they go on until every two programs are told apart at each size, or
        equal within 3 % (:func:`tutorial_lib.measure.sweep.sweep`). 0: `samples` rounds and no more.
    measure, engines : bool
        Whether to build the paths with the backend and measure them; whether to have TensorRT for RTX build their
        engines, which are not run.
    calls : tuple of int
        Sizes of the first dimension to call the model with, in order, to see what TensorRT's engines make of them.
    profiles : tuple of Profile
        Several optimization profiles, each a range for every dimension; then `ranges` holds them all.
    """

    model: str
    ranges: tuple[DynamicDim, ...]
    backend: str = "auto"
    precision: str | None = "fp32"
    paths: tuple[str, ...] = tuple(PATHS)
    sizes: tuple[int, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    samples: int = 3
    budget: float = 0.0
    measure: bool = True
    engines: bool = False
    calls: tuple[int, ...] = ()
    profiles: tuple[Profile, ...] = ()

    @property
    def label(self) -> str:
        """The ranges for people, named if there are several: ``1 / 4 / 32``; several profiles one after the other."""
        if self.profiles:
            return self.ranges_text
        ranges = {dim.name: f"{dim.min} / {dim.opt} / {dim.max}" for dim in self.ranges}
        return ", ".join(f"{name} {text}" if len(ranges) > 1 else text for name, text in ranges.items())

    @property
    def ranges_text(self) -> str:
        """The ranges in one line: ``batch 1/4/32 length 8/64/256``; several profiles with a semicolon between them."""
        if self.profiles:
            return "; ".join(map(show_profile, self.profiles))
        return " ".join(f"{dim.name} {dim.min}/{dim.opt}/{dim.max}" for dim in self.ranges)

    def __str__(self) -> str:
        options = f", {show_options(self.options)}" if self.options else ""
        form = self.precision or "as it is"
        return f"{self.model} {self.label}, {self.backend}, {form}, {' '.join(self.paths)}{options}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an option that JSON does not have is its repr."""
        content = json.loads(json.dumps(asdict(self), default=repr))
        # The first schema did not have these; left out where they are not used, they change no setting's key.
        defaults = {"budget": 0.0, "measure": True, "engines": False, "calls": [], "profiles": []}
        return {name: value for name, value in content.items() if name not in defaults or value != defaults[name]}

    @classmethod
    def from_dict(cls, plain: Any, where: str = "the setting") -> "Setting":
        """The inverse of :meth:`to_dict`.

        Raises
        ------
        ValueError
            If it is not a setting; `where` is how the message calls it.
        """
        setting = plain_values.read(cls, plain, where)
        return replace(setting, options=tuple((name, _hashable(value)) for name, value in setting.options))

    def case(self, base: Case) -> Case:
        """`base` with the ranges and in the precision of this setting."""
        cast = base if self.precision is None else base.in_precision(self.precision)
        return self.ranged(cast)

    def ranged(self, case: Case) -> Case:
        """`case` with the range or the profiles of this setting."""
        if self.profiles:
            return case.with_profiles(*self.profiles)
        return case.with_ranges(**{dim.name: dim for dim in self.ranges})

    def settled(self, base: Case) -> "Setting":
        """The same experiment, checked and complete: backend and sizes named, ranges with `base`'s steps and limits.

        Settings that ask for the same experiment in different ways have equal settled settings.

        Raises
        ------
        ShapeError, BackendUnavailable, PrecisionError, OptionError
            One sentence on the first thing that cannot be built or measured.
        """
        if not self.paths:
            raise ShapeError(f"no path is chosen; choose at least one of {', '.join(PATHS)}.")
        for path in self.paths:
            if path not in PATHS:
                raise ShapeError(f"there is no path {path!r}; use {', '.join(PATHS)}.")
        as_size(self.samples, "rounds of measuring")
        if not 0 <= self.budget < math.inf:
            raise ShapeError(f"the seconds of measuring are {self.budget!r}; use a number of at least 0.")
        if not self.measure and not self.engines:
            raise ShapeError("nothing is asked for; ask for measurements, for TensorRT's engines, or for both.")
        reason = precision.why_not(self.precision, base.device) if self.precision else None
        if reason:
            raise precision.PrecisionError(f"precision {self.precision}: {reason}")
        ranged = self.ranged(base)
        sizes = self.measured(ranged)
        check_sizes(ranged, sizes)
        for size in self.calls:
            ranged.sizes(size)
        backend, _ = backends.choose(self.backend, base.device)
        backends.settings(backend, base.device, dict(self.options))
        ranges = tuple(ranged.dims.values())
        return replace(self, backend=backend, sizes=sizes, ranges=ranges, profiles=ranged.profiles)

    def measured(self, case: Case) -> tuple[int, ...]:
        """The sizes of the first dimension that are measured."""
        return self.sizes or tuple(default_sizes(case))


def _hashable(value: Any) -> Any:
    """Lists, which JSON has for tuples, as tuples."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


DOT = "·"
"""Stands for the dot in a name such as ``cpp.threads`` while Python parses it; a name may hold this one."""


def read_options(text: str) -> tuple[tuple[str, Any], ...]:
    """Options as they are typed, ``max_autotune=True, cpp.threads=4``, as the pairs of a :class:`Setting`.

    Raises
    ------
    OptionError
        If the text is not a list of names and plain values.
    """
    parsable = re.sub(
        r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|\b([A-Za-z_]\w*)\.(?=[A-Za-z_])""",
        lambda match: match[1] or match[2] + DOT,
        text,
    )
    try:
        call = ast.parse(f"dict({parsable})", mode="eval").body
        assert isinstance(call, ast.Call)
        options = {str(keyword.arg).replace(DOT, "."): ast.literal_eval(keyword.value) for keyword in call.keywords}
        if call.args or not all(keyword.arg for keyword in call.keywords) or len(options) < len(call.keywords):
            raise ValueError
    except (SyntaxError, ValueError, TypeError, AssertionError, RecursionError, MemoryError):
        raise backends.OptionError(
            f"options are {text!r}; give names and values, as in max_autotune=True, freezing=True."
        ) from None
    return freeze(options)


def show_options(options: tuple[tuple[str, Any], ...]) -> str:
    """What :func:`read_options` reads."""
    return ", ".join(f"{name}={value!r}" for name, value in options)


def freeze(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """A mapping of options as the pairs of a :class:`Setting`.

    Raises
    ------
    OptionError
        If a value can change, so that a setting with it could not be a key.
    """
    for name, value in options.items():
        try:
            hash(value)
        except TypeError:
            what = "give a number, a word, True, False, None or a tuple of these."
            raise backends.OptionError(f"option {name} is {value!r}; {what}") from None
    return tuple(sorted(options.items(), key=lambda pair: str(pair[0])))


def read_sizes(text: str, what: str = "to measure") -> tuple[int, ...]:
    """Sizes as they are typed, ``1, 4, 32``; empty for the default. An error says that they are sizes `what`.

    Raises
    ------
    ShapeError
        If the text is not a list of sizes.
    """
    parts = [part for part in re.split(r"[\s,;]+", text) if part]
    try:
        sizes = [int(part) for part in parts]
    except ValueError:
        raise ShapeError(f"the sizes {what} are {text!r}; give whole numbers, as in 1, 4, 32.") from None
    return tuple(dict.fromkeys(as_size(size, f"a size {what}") for size in sizes))
