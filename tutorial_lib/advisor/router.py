"""A policy as a callable: it sends each request to its engine, pads where the policy pads, and slices the result.

Padding is refused unless the model has shown that it makes no difference: what :func:`pad` adds may not change the
rows that were asked for (:func:`why_not_padded`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tutorial_lib import paths
from tutorial_lib.advisor.policies import Policy
from tutorial_lib.builds.job import BuildError
from tutorial_lib.builds.program import Compiled
from tutorial_lib.checks import agreement
from tutorial_lib.core import precision
from tutorial_lib.core.models import MODELS, Case
from tutorial_lib.core.shapes import ShapeError

Axes = Mapping[str, Sequence[tuple[int, int]]]
"""For each dimension where it is found: (place of the tensor, axis), in inputs or in outputs."""


class Router:
    """One callable for all sizes of a policy.

    Parameters
    ----------
    case : Case
        The model, with the range that has to be served.
    policy : Policy
        What was chosen.
    programs : sequence of Compiled
        The engines of the policy, in its order.
    """

    def __init__(self, case: Case, policy: Policy, programs: Sequence[Compiled]) -> None:
        if len(programs) != len(policy.engines):
            raise ValueError(f"{policy.name} has {len(policy.engines)} engines, and {len(programs)} were given.")
        self.case, self.policy, self.programs = case, policy, tuple(programs)
        where = input_axes(case)
        self._where = [where[name][0] for name in policy.dims]
        self._rules = [
            (tuple(zip(*engine, strict=True)), program)
            for engine, program in zip(policy.engines, programs, strict=True)
        ]
        self._outputs = output_axes(case, policy.dims) if policy.padded else {}

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Run the request on its engine.

        Raises
        ------
        ShapeError
            If no engine takes it and the policy has no place for what is left.
        """
        try:
            sizes = tuple(inputs[place].shape[axis] for place, axis in self._where)
        except (AttributeError, IndexError):
            return self.programs[-1](*inputs) if self.programs else self.case.eager(*inputs)
        for (low, _, high), program in self._rules:
            if all(size <= most for size, most in zip(sizes, high, strict=True)):
                if all(size >= least for size, least in zip(sizes, low, strict=True)):
                    return program(*inputs)
                if self.policy.padded:
                    wanted = {
                        name: max(size, least) for name, size, least in zip(self.policy.dims, sizes, low, strict=True)
                    }
                    output = program(*pad(self.case, inputs, wanted))
                    return crop(output, self._outputs, dict(zip(self.policy.dims, sizes, strict=True)))
        if self.policy.eager or not self.programs:
            return self.case.eager(*inputs)
        return self.programs[-1](*inputs)  # whose guard says in one sentence what it takes

    def __repr__(self) -> str:
        return f"<Router {self.case.name}: {self.policy}>"


Builder = Callable[[Case], Compiled]


def build(case: Case, policy: Policy, make: Builder) -> Router:
    """Build the engines of a policy with `make`, and check the router against float64 before it is handed out.

    Raises
    ------
    ShapeError
        If the policy pads and the model does not bear it.
    BuildError
        If a build fails, or a routed result differs from what eager gives by more than rounding.
    """
    if policy.padded and (reason := why_not_padded(case, policy.dims)):
        raise ShapeError(reason)
    made = [make(case.with_ranges(**policy.ranges(number))) for number in range(len(policy.engines))]
    router = Router(case, policy, made)
    reference = agreement.Reference(case)
    for engine in policy.engines:
        for corner in zip(*engine, strict=True):
            inputs = case.example(dict(zip(policy.dims, corner, strict=True)), seed=1)
            found = reference.compare(router(*inputs), inputs)
            if not found.agrees:
                raise BuildError(f"{policy} is wrong at {' x '.join(map(str, corner))}: {found}.")
    return router


def builder(path: str, backend: str, options: Mapping[str, Any] | None) -> Builder:
    """Builds a case along a path, once for each range: the second time it is the same program."""
    known: dict[Any, Compiled] = {}

    def make(case: Case) -> Compiled:
        key = id(case.model), case.inputs
        if key not in known:
            known[key] = paths.PATHS[path](case, backend, options)
        return known[key]

    return make


def pad(case: Case, inputs: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> tuple[torch.Tensor, ...]:
    """The inputs made as large as `sizes`, with zeros (False in masks) at the end of each dimension."""
    padded = list(inputs)
    for name, places in input_axes(case).items():
        for place, axis in places:
            tensor = padded[place]
            if name in sizes and (more := sizes[name] - tensor.shape[axis]):
                shape = [*tensor.shape]
                shape[axis] = more
                padded[place] = torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)
    return tuple(padded)


def crop(output: Any, axes: Axes, sizes: Mapping[str, int]) -> Any:
    """The part of an output that was asked for; `axes` are its :func:`output_axes`."""
    leaves, tree = pytree.tree_flatten(output)
    for name, places in axes.items():
        for place, axis in places:
            leaves[place] = leaves[place].narrow(axis, 0, sizes[name])
    return pytree.tree_unflatten(leaves, tree)


def input_axes(case: Case) -> dict[str, list[tuple[int, int]]]:
    """Where each dimension is found in the inputs."""
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in case.dims}
    for place, spec in enumerate(case.inputs):
        for axis, dim in enumerate(spec.shape):
            if not isinstance(dim, int):
                found[dim.name].append((place, axis))
    return found


def output_axes(case: Case, dims: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
    """Where each dimension is found in the outputs: the axes that are as long as it is, at two sizes of it."""
    found: dict[str, list[tuple[int, int]]] = {}
    for name in dims:
        dim, shapes = case.dims[name], []
        pair = (dim.min, dim.max) if dim.min < dim.max else (dim.max, dim.max)
        for size in pair:
            output = case.eager(*case.example({name: size}))
            shapes.append([tuple(leaf.shape) for leaf in pytree.tree_leaves(output)])
        found[name] = [
            (place, axis)
            for place, (one, other) in enumerate(zip(*shapes, strict=True))
            for axis, both in enumerate(zip(one, other, strict=True))
            if both == pair and pair[0] != pair[1]
        ]
    return found


def why_not_padded(case: Case, dims: Sequence[str]) -> str | None:
    """Why padding is not for this model, in one sentence; None if it is.

    The model itself is asked, in eager and float64, with several sizes padded to the largest: where the rows that
    were asked for do not come out as they do unpadded, they depend on the padding. Zeros may hide that for the
    weights at hand, so each size is asked with two different inputs, one of them far from zero.
    """
    axes = output_axes(case, dims)
    reference = agreement.Reference(case)
    largest = {name: case.dims[name].max for name in dims}
    for name in dims:
        dim = case.dims[name]
        for size in sorted({dim.min, dim.opt}):
            for seed in (0, 1):
                inputs = case.example({**largest, name: size}, seed=seed)
                inputs = tuple(x + 3 * seed if x.is_floating_point() else x for x in inputs)
                with torch.no_grad(), precision.tf32(case.allows_tf32):
                    exact, eager = reference.double_or_none(inputs), reference.eager(inputs)
                    output = crop(case.model(*pad(case, inputs, largest)), axes, {**largest, name: size})
                shapes = [[tuple(leaf.shape) for leaf in pytree.tree_leaves(each)] for each in (output, eager)]
                if shapes[0] != shapes[1]:
                    return f"{case.name} cannot be padded along {name}: its output cannot be cut to what was asked for."
                if size < dim.max and not agreement.compare(output, eager, exact).agrees:
                    return f"{case.name} cannot be padded along {name}: what is added changes the rest of the output."
    return None


def code(case: Case, policy: Policy, path: str, backend: str, options: Mapping[str, Any]) -> str:
    """A Python script that builds `policy`: ``build(case)`` returns the function that serves requests."""
    more = f", {dict(options)!r}" if options else ""
    where = input_axes(case)
    found = [f"inputs[{place}].shape[{axis}]" for place, axis in (where[name][0] for name in policy.dims)]
    imported = ", ".join(["MODELS"] * (case.name in MODELS) + ["paths"] * bool(policy.engines))
    lines = [f'"""Serves {case.name}: {policy}. Call build() with your Case."""', ""]
    lines += [f"from tutorial_lib import {imported}"] * bool(imported)
    lines += ["from tutorial_lib.advisor.router import crop, output_axes, pad"] * policy.padded
    lines += ["", "", "def build(case):"]
    if policy.engines:
        lines += ["    engines = [  # each with its (min, opt, max)"]
        for number in range(len(policy.engines)):
            ranges = ", ".join(f"{name}={triple}" for name, triple in policy.ranges(number).items())
            lines += [f'        paths.{path}(case.with_ranges({ranges}), "{backend}"{more}),']
        lines += ["    ]"]
    lines += [f"    axes = output_axes(case, {json.dumps(policy.dims)})"] * policy.padded
    lines += [""] * bool(policy.engines)
    lines += ["    def serve(*inputs):"]
    lines += [f"        {', '.join(policy.dims)} = {', '.join(found)}"] * bool(policy.engines)
    for number, engine in enumerate(policy.engines):
        call = f"engines[{number}](*inputs)"
        if policy.padded:
            fixed = {name: low for name, (low, _, high) in zip(policy.dims, engine, strict=True) if low == high}
            asked = "{" + ", ".join(f'"{name}": {name}' for name in policy.dims) + "}"
            call = f"crop(engines[{number}](*pad(case, inputs, {json.dumps(fixed)})), axes, {asked})"
        limits = zip(policy.dims, engine, strict=True)
        within = " and ".join(f"{name} <= {high}" for name, (_, _, high) in limits if high < case.dims[name].max)
        lines += [f"        if {within}:", f"            return {call}"] if within else [f"        return {call}"]
    lines += ["        return case.eager(*inputs)"] * policy.eager
    lines += ["", "    return serve"]
    if case.name in MODELS:
        ranges = ", ".join(f"{name}=({dim.min}, {dim.opt}, {dim.max})" for name, dim in case.dims.items())
        lines += ["", "", 'if __name__ == "__main__":', f'    case = MODELS["{case.name}"]().with_ranges({ranges})']
        lines += ["    print(build(case)(*case.example()).shape)"]
    return "\n".join(lines) + "\n"
