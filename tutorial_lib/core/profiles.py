"""Several optimization profiles: each gives every dynamic dimension a range, all at once.

A profile is a box of sizes, and an engine with several profiles takes the sizes of any of them. Profiles are
numbered from 0, as TensorRT numbers them; where several hold the sizes of a call, the first one serves it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tutorial_lib.core.shapes import DynamicDim, ShapeError, range_within

Profile = tuple[DynamicDim, ...]
"""A range for each dynamic dimension of a case, in its order."""


def read_profiles(name: str, dims: Mapping[str, DynamicDim], given: Any) -> tuple[Profile, ...]:
    """The profiles that are given for the dimensions `dims` of the case `name`, whose steps and limits hold in each.

    Each of `given` is a mapping from dimension to (min, opt, max), or its :class:`DynamicDim` values.

    Raises
    ------
    ShapeError
        One sentence on the first thing that is wrong: another form, a missing or unknown dimension, a range that is
        none, a profile that could never serve a call, or sizes between the profiles that none of them takes.

    Examples
    --------
    >>> dims = {"batch": DynamicDim("batch", 1, 4, 32)}
    >>> read_profiles("seed", dims, [{"batch": (1, 1, 4)}, {"batch": (9, 16, 32)}])
    Traceback (most recent call last):
    tutorial_lib.core.shapes.ShapeError: seed: batch 5 to 8 is in no profile; begin profile 1 at 5, since a lower min \
takes no more memory.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Sequence):
        raise ShapeError(f"{name}: profiles is {given!r}; give a list with a dictionary for each, as {_form(dims)}.")
    if given and not dims:
        raise ShapeError(f"{name} has no dynamic dimension, so it has no profiles; leave them out.")
    profiles = tuple(_read(name, dims, each, f"{name}: profile {number}") for number, each in enumerate(given))
    for number, profile in enumerate(profiles):
        for earlier in range(number):
            if _contains(profiles[earlier], profile):
                raise ShapeError(
                    f"{name}: profile {number} ({show(profile)}) lies inside profile {earlier} "
                    f"({show(profiles[earlier])}), which serves all of its sizes first; put it before that, or leave "
                    "it out."
                )
    for of_one_dim in zip(*profiles, strict=True):
        _refuse_gaps(name, of_one_dim)
    return profiles


def _form(dims: Mapping[str, DynamicDim]) -> str:
    ranges = ", ".join(f"{name!r}: ({dim.min}, {dim.opt}, {dim.max})" for name, dim in dims.items())
    return f"[{{{ranges}}}]"


def _read(name: str, dims: Mapping[str, DynamicDim], given: Any, which: str) -> Profile:
    if isinstance(given, Sequence) and all(isinstance(dim, DynamicDim) for dim in given):
        given = {dim.name: dim for dim in given}
    if not isinstance(given, Mapping):
        raise ShapeError(f"{which} is {given!r}; give a dictionary with a range for each of {', '.join(dims)}.")
    for key in given:
        if key not in dims:
            raise ShapeError(f"{which} has a range for {key!r}, which {name} has not; it has {', '.join(dims)}.")
    for key in dims:
        if key not in given:
            raise ShapeError(f"{which} has no range for {key}; a profile gives one for each of {', '.join(dims)}.")
    try:
        profile = tuple(range_within(dim, given[key]) for key, dim in dims.items())
    except ShapeError as error:
        raise ShapeError(f"{which}: {error}") from None
    for dim in profile:
        if dim.step != dims[dim.name].step:
            raise ShapeError(f"{which}: {dim.name} is in steps of {dim.step}; use {dims[dim.name].step}, as the model.")
    return profile


def _contains(outer: Profile, inner: Profile) -> bool:
    return all(large.min <= small.min and small.max <= large.max for large, small in zip(outer, inner, strict=True))


def _refuse_gaps(name: str, ranges: tuple[DynamicDim, ...]) -> None:
    """Refuse ranges of one dimension that leave out sizes between them."""
    in_order = sorted(enumerate(ranges), key=lambda pair: pair[1].min)
    covered = in_order[0][1].max
    for number, dim in in_order[1:]:
        first = covered + dim.step
        if dim.min > first:
            last = dim.min - dim.step
            sizes = str(first) if first == last else f"{first} to {last}"
            raise ShapeError(
                f"{name}: {dim.name} {sizes} is in no profile; begin profile {number} at {first}, since a lower min "
                "takes no more memory."
            )
        covered = max(covered, dim.max)


def envelope(profiles: Sequence[Profile]) -> dict[str, DynamicDim]:
    """The smallest range of each dimension that holds all profiles, with the opt of the first one.

    It is what a graph for several profiles is traced for (upstream: ``Input._init_from_profiles``).
    """
    return {
        ranges[0].name: replace(ranges[0], min=min(dim.min for dim in ranges), max=max(dim.max for dim in ranges))
        for ranges in zip(*profiles, strict=True)
    }


def holding(profiles: Sequence[Profile], sizes: Mapping[str, int]) -> int | None:
    """The number of the first profile that takes `sizes`, which may leave dimensions out; None if none does.

    Examples
    --------
    >>> prefill, decode = (DynamicDim("new", 2, 64, 512),), (DynamicDim("new", 1, 1, 1),)
    >>> holding([prefill, decode], {"new": 1}), holding([prefill, decode], {"new": 513})
    (1, None)
    """
    fitting = (
        number
        for number, profile in enumerate(profiles)
        if all(dim.min <= sizes.get(dim.name, dim.opt) <= dim.max for dim in profile)
    )
    return next(fitting, None)


def none_takes(profiles: Sequence[Profile], sizes: Mapping[str, int]) -> str:
    """One sentence for sizes that no profile takes."""
    shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
    listed = "; ".join(f"profile {number}: {show(profile)}" for number, profile in enumerate(profiles))
    return f"no profile takes {shown} ({listed}); stay in one of them or build it again with a wider one."


def show(profile: Profile) -> str:
    """A profile for people: ``batch 1/1/4, new 1/64/512``."""
    return ", ".join(f"{dim.name} {dim.min}/{dim.opt}/{dim.max}" for dim in profile)


def read_text(text: str) -> tuple[dict[str, tuple[int, int, int]], ...]:
    """Profiles as they are typed and shown, a semicolon or a new line between two; none in an empty text.

    Raises
    ------
    ShapeError
        If a part of the text is no range of a dimension.

    Examples
    --------
    >>> read_text("batch 1/1/4, new 2/64/512; batch 1/8/16, new 1/1/1")[1]
    {'batch': (1, 8, 16), 'new': (1, 1, 1)}
    """
    profiles = []
    for line in filter(str.strip, re.split(r"[;\n]", text)):
        profile: dict[str, tuple[int, int, int]] = {}
        for part in line.split(","):
            match = re.fullmatch(r"\s*(\w+)[\s=]+(\d+)\s*/\s*(\d+)\s*/\s*(\d+)\s*", part)
            if not match or match[1] in profile:
                problem = "is there twice" if match else "is no range"
                raise ShapeError(
                    f"{part.strip()!r} in the profiles {problem}; write them as in 'batch 1/1/4, new 2/64/512; "
                    "batch 1/8/16, new 1/1/1'."
                )
            profile[match[1]] = (int(match[2]), int(match[3]), int(match[4]))
        profiles.append(profile)
    return tuple(profiles)
