"""A policy as a callable: it sends each request to its engine, pads where the policy pads, and slices the result.

Padding is rejected unless the model has shown that it makes no difference: what :func:`pad` adds must not change the
rows that were asked for (:func:`why_not_padded`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader
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
"""Where each dimension occurs in inputs or outputs: (index of the tensor, axis)."""
Builder = Callable[[Case], Compiled]


class Router:
    """One callable for all sizes of a policy, in the range of `case`; `programs` are its engines, in its order."""

    def __init__(self, case: Case, policy: Policy, programs: Sequence[Compiled]) -> None:
        if len(programs) != len(policy.engines):
            raise ValueError(f"{policy.name} has {len(policy.engines)} engines, and {len(programs)} were given.")
        self.case, self.policy, self.programs = case, policy, tuple(programs)
        self._input_axes = [input_axes(case)[name][0] for name in policy.dims]
        self._output_axes = output_axes(case, policy.dims) if policy.padded else {}
        corners = [zip(*engine, strict=True) for engine in policy.engines]  # all mins, all opts, all maxes
        self._rules = [(lows, highs, program) for (lows, _, highs), program in zip(corners, programs, strict=True)]

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Run the request on its engine.

        Raises
        ------
        ShapeError
            If no engine takes it and the policy does not use eager.
        """
        try:
            sizes = [inputs[index].shape[axis] for index, axis in self._input_axes]
        except (AttributeError, IndexError):
            return self._outside(inputs)
        for lows, highs, program in self._rules:  # plain loops: this runs before every call
            if all(size <= high for size, high in zip(sizes, highs, strict=True)):
                if all(size >= low for size, low in zip(sizes, lows, strict=True)):
                    return program(*inputs)
                if self.policy.padded:
                    padded_sizes = dict(zip(self.policy.dims, map(max, sizes, lows), strict=True))
                    output = program(*pad(self.case, inputs, padded_sizes))
                    return crop(output, self._output_axes, dict(zip(self.policy.dims, sizes, strict=True)))
        return self.case.eager(*inputs) if self.policy.eager else self._outside(inputs)

    def _outside(self, inputs: Sequence[torch.Tensor]) -> Any:
        """What no engine takes goes to the last one, whose range check says in one sentence what it takes."""
        return self.programs[-1](*inputs) if self.programs else self.case.eager(*inputs)

    def __repr__(self) -> str:
        return f"<Router {self.case.name}: {self.policy}>"


def build(case: Case, policy: Policy, make: Builder) -> Router:
    """Build the engines of a policy with `make`, and compare the router with float64 before it is handed out.

    Raises
    ------
    ShapeError
        If the policy pads and the model cannot be padded.
    BuildError
        If a build fails, or a routed result differs from eager's by more than rounding.
    """
    if policy.padded and (reason := why_not_padded(case, policy.dims)):
        raise ShapeError(reason)
    programs = [make(case.with_ranges(**policy.ranges(number))) for number in range(len(policy.engines))]
    router = Router(case, policy, programs)
    reference = agreement.Reference(case)
    for engine in policy.engines:
        for corner in zip(*engine, strict=True):
            inputs = case.example(dict(zip(policy.dims, corner, strict=True)), seed=1)
            comparison = reference.compare(router(*inputs), inputs)
            if not comparison.agrees:
                raise BuildError(f"{policy} is wrong at {' x '.join(map(str, corner))}: {comparison}.")
    return router


def builder(path: str, backend: str, options: Mapping[str, Any] | None) -> Builder:
    """Builds a case along a path, once for each range: the second time it is the same program."""
    cached: dict[Any, Compiled] = {}

    def make(case: Case) -> Compiled:
        key = id(case.model), case.inputs
        if key not in cached:
            cached[key] = paths.PATHS[path](case, backend, options)
        return cached[key]

    return make


def pad(case: Case, inputs: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> tuple[torch.Tensor, ...]:
    """The inputs made as large as `sizes`, with zeros (False in masks) at the end of each dimension."""
    padded = list(inputs)
    for name, axes in input_axes(case).items():
        for index, axis in axes:
            tensor = padded[index]
            missing = sizes.get(name, tensor.shape[axis]) - tensor.shape[axis]
            if missing:
                shape = [*tensor.shape]
                shape[axis] = missing
                padded[index] = torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)
    return tuple(padded)


def crop(output: Any, axes: Axes, sizes: Mapping[str, int]) -> Any:
    """The part of an output that was asked for; `axes` are its :func:`output_axes`."""
    leaves, tree = pytree.tree_flatten(output)
    for name, name_axes in axes.items():
        for index, axis in name_axes:
            leaves[index] = leaves[index].narrow(axis, 0, sizes[name])
    return pytree.tree_unflatten(leaves, tree)


def input_axes(case: Case) -> dict[str, list[tuple[int, int]]]:
    """Where each dimension occurs in the inputs."""
    axes: dict[str, list[tuple[int, int]]] = {name: [] for name in case.dims}
    for index, spec in enumerate(case.inputs):
        for axis, dim in enumerate(spec.shape):
            if not isinstance(dim, int):
                axes[dim.name].append((index, axis))
    return axes


def output_axes(case: Case, dims: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
    """Where each dimension occurs in the outputs: the axes whose length follows it from its min to its max."""
    axes: dict[str, list[tuple[int, int]]] = {}
    for name in dims:
        axes[name] = []
        dim = case.dims[name]
        if dim.min == dim.max:
            continue
        small, large = (pytree.tree_leaves(case.eager(*case.example({name: size}))) for size in (dim.min, dim.max))
        for index, (short, long) in enumerate(zip(small, large, strict=True)):
            lengths = zip(short.shape, long.shape, strict=True)
            axes[name] += [(index, axis) for axis, pair in enumerate(lengths) if pair == (dim.min, dim.max)]
    return axes


def why_not_padded(case: Case, dims: Sequence[str]) -> str | None:
    """Why this model cannot be padded, in one sentence; None if it can.

    The model itself is asked, in eager and float64, with several sizes padded to the largest: rows that do not come
    out as they do without padding depend on it. With the model's weights zeros may hide that, so each size is tried
    with two different inputs, one of them far from zero.
    """
    axes = output_axes(case, dims)
    reference = agreement.Reference(case)
    largest = {name: case.dims[name].max for name in dims}
    for name in dims:
        dim = case.dims[name]
        for size in sorted({dim.min, dim.opt}):
            sizes = {**largest, name: size}
            for offset in (0, 3):
                inputs = case.example(sizes, seed=offset)
                inputs = tuple(x + offset if x.is_floating_point() else x for x in inputs)
                with torch.no_grad(), precision.tf32(case.allows_tf32):
                    eager = reference.eager(inputs)
                    exact = reference.double_or_none(inputs, eager)
                    output = crop(case.model(*pad(case, inputs, largest)), axes, sizes)
                if _shapes(output) != _shapes(eager):
                    return f"{case.name} cannot be padded along {name}: its output cannot be cut to what was asked for."
                if size < dim.max and not agreement.compare(output, eager, exact).agrees:
                    return f"{case.name} cannot be padded along {name}: what is added changes the rest of the output."
    return None


def _shapes(output: Any) -> list[torch.Size]:
    return [leaf.shape for leaf in pytree.tree_leaves(output)]


def code(case: Case, policy: Policy, path: str, backend: str, options: Mapping[str, Any]) -> str:
    """A Python script that builds `policy`: ``build(case)`` returns the function that serves requests."""
    imports = ["MODELS"] if case.name in MODELS else []
    if policy.engines:
        imports.append("paths")
    axes = input_axes(case)
    sizes = [f"inputs[{index}].shape[{axis}]" for index, axis in (axes[name][0] for name in policy.dims)]
    rules = []
    for number, engine in enumerate(policy.engines):
        call = f"engines[{number}](*inputs)"
        if policy.padded:
            fixed = {name: low for name, (low, _, high) in policy.ranges(number).items() if low == high}
            requested = ", ".join(f"{name!r}: {name}" for name in policy.dims)
            call = f"crop(engines[{number}](*pad(case, inputs, {fixed})), axes, {{{requested}}})"
        limits = zip(policy.dims, engine, strict=True)
        conditions = [f"{name} <= {high}" for name, (_, _, high) in limits if high < case.dims[name].max]
        rules.append((" and ".join(conditions), call))
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True)
    return templates.get_template("policy_script.py.jinja").render(
        case=case,
        policy=policy,
        path=path,
        backend=backend,
        options=f", {dict(options)!r}" if options else "",
        imports=imports,
        MODELS=MODELS,
        dims=list(policy.dims),
        sizes=sizes,
        rules=rules,
        engine_ranges=[_keywords(policy.ranges(number)) for number in range(len(policy.engines))],
        case_ranges=_keywords({name: (dim.min, dim.opt, dim.max) for name, dim in case.dims.items()}),
    )


def _keywords(ranges: Mapping[str, tuple[int, int, int]]) -> str:
    return ", ".join(f"{name}={triple}" for name, triple in ranges.items())
