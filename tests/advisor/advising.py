"""A measurement made up from formulas, so that what the advisor makes of it can be computed by hand."""

import numpy as np

from tutorial_lib import expand_reshape
from tutorial_lib.advisor.latency_model import Measurement
from tutorial_lib.advisor.measuring import MeasuredCase
from tutorial_lib.advisor.router import builder

AXIS = (1, 4, 16, 64)


def measurement(formulas, noise=0.0, rounds=20, axes=(AXIS,), dims=("batch",), **more):
    """`formulas`: opt (None for eager) -> milliseconds at a size; `noise`: standard deviation of the logarithm."""
    generator = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)).tolist()
    slow = generator.lognormal(0, noise, (rounds, 1)) if noise else np.ones((rounds, 1))
    samples = {
        engine: [
            formula(*corner)
            * slow
            * (generator.lognormal(0, noise / 4, (rounds, 3)) if noise else np.ones((rounds, 3)))
            for corner in corners
        ]
        for engine, formula in formulas.items()
    }
    metadata = {"case": "made up", "backend": "eager", "path": "export", "device": "no device"}
    builds = {engine: 2.0 for engine in formulas if engine}
    return Measurement(
        dims, axes, samples, **{"build_seconds": builds, "weight_bytes": 1000, "metadata": metadata, **more}
    )


def bench(formulas, noise=0.0, **more):
    case = expand_reshape((1, 4, 64), embed_dim=12, tokens=3)
    return MeasuredCase(
        case, builder("export", "eager", None), measurement(formulas, noise, **more), "export", "eager", {}
    )


TUNED = {
    (2,): lambda size: 0.1 + 0.10 * size,
    (64,): lambda size: 0.5 + 0.05 * size,
    None: lambda size: 0.4 + 0.20 * size,
}
"""Tuned for 2 it is fast where requests are small, tuned for 64 where they are large; they meet at 8."""
ALIKE = {opt: lambda size: 0.1 + 0.1 * size for opt in ((2,), (64,))} | {None: lambda size: 0.4 + 0.2 * size}
"""Opt makes no difference."""
