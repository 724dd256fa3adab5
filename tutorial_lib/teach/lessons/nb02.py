"""Notebook 2: the profile of an engine as it was asked for and as it stands in the plan, and the layers of plans."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tutorial_lib.builds.report import Engine
from tutorial_lib.engines import EngineReport

Sizes = tuple[int | None, int | None, int | None]


def asked_for(engine: Engine, axis: int = 0) -> Sizes:
    """Min, opt and max of one axis of the model's only input, as Torch-TensorRT's front end asks for them."""
    (x,) = engine.data
    return x.min[axis], x.opt[axis], x.max[axis]


def in_the_plan(engine: Engine, axis: int = 0) -> Sizes:
    """The same, as TensorRT has written it into the plan."""
    assert engine.plan is not None
    (x,) = (tensor for tensor in engine.plan.inputs if tensor.kind == "data")
    low, opt, high = (shape[axis] for shape in x.profiles[0])
    return low, opt, high


def before_and_after(report: EngineReport) -> tuple[Engine, Engine]:
    """The first engine with an input of the model that was built before any call, and the first that a call built."""
    engines = [engine for engine in report.engines if engine.data]
    first, late = (next(each for each in engines if each.after_build == after) for after in (False, True))
    return first, late


def layer_counts(builds: Mapping[str, Mapping[str, EngineReport]]) -> Any:
    """A table of the layers of networks and plans: reports by path, by what the batch was."""
    rows = []
    for batch, reports in builds.items():
        for path, report in reports.items():
            plan = report.plans[0]
            memory = f"{plan.activation_bytes / 1e6:.1f}"
            rows.append((path, batch, plan.network_layers, plan.shape_layers, len(plan.layers), memory))
    columns = ["path", "batch", "layers of the network", "of these for shapes", "layers of the plan", "activation (MB)"]
    return pd.DataFrame(rows, columns=columns).style.hide().set_uuid("layers")


def print_layers(title: str, report: EngineReport) -> None:
    """Print every layer of the first engine's plan, and the layers of the network that went into it."""
    print(title)
    for layer in report.plans[0].layers:
        flow = f": {', '.join(layer.inputs)} -> {', '.join(layer.outputs)}" if layer.outputs else ""
        print(f"    {layer.type}{flow}")
        for source in layer.sources:
            print(f"        from {source}")
