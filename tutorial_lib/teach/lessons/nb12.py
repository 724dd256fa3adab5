"""What the cells of notebook 12 call beside the library: a figure of 64 steps, a table of engines."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from tutorial_lib.checks.decoding import Step
from tutorial_lib.engines.report import EngineReport


def steps_figure(steps: Sequence[Step], title: str) -> Figure:
    """The error of each step's logits as a multiple of eager's own, with the limit of the rule."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    ratios, limit = [step.agreement.ratio for step in steps], steps[0].agreement.tolerated
    axes.plot(ratios, ".-", color="#0072B2", label="rms error against float64, as a multiple of eager's")
    axes.axhline(1, color="#666666", linewidth=1, linestyle=":", label="eager")
    axes.axhline(limit, color="#D55E00", linewidth=1.4, linestyle="--", label=f"the rule's limit, {limit:.1f}")
    axes.set(xlabel="step (0 is the prefill)", ylabel="times eager's error", ylim=(0, 1.3 * max(limit, *ratios)))
    axes.legend(loc="upper right", ncols=3, fontsize="small", frameon=False)
    figure.suptitle(title)
    return figure


def engines_table(reports: Mapping[str, EngineReport]) -> pd.DataFrame:
    """A row for each engine of each report: what its range asks for in memory, bytes and layers."""
    rows = [
        {
            "engine": name,
            "activation MB": round(plan.activation_bytes / 1e6, 2),
            "plan MB": round(plan.plan_bytes / 1e6, 2),
            "layers of the network": plan.network_layers,
            "layers of the plan": len(plan.layers),
        }
        for name, report in reports.items()
        for plan in report.plans
    ]
    return pd.DataFrame(rows).set_index("engine")
