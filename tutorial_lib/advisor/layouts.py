"""One engine, one engine with several profiles, several engines, or padding: what TensorRT needs for each of them.

Memory and bytes are those of plans that TensorRT for RTX built and did not run. Latencies are predicted from what the
advice measured, with another backend as a rule, so they rank the layouts and are not TensorRT's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tutorial_lib.advisor.latency_model import Measurement
from tutorial_lib.advisor.policies import SAME, Policy
from tutorial_lib.builds.plan import Plan
from tutorial_lib.core.models import Case
from tutorial_lib.engines.report import BUILDER, EngineReport

Build = Callable[[Case, str], EngineReport]


@dataclass(frozen=True)
class Layout:
    """A way to lay out the engines of one policy, with what TensorRT built for it."""

    name: str  # such as "one engine, 2 profiles"
    policy: Policy  # engines and profiles of the same ranges have the same one
    mean_ms: float  # predicted from measurements of the advice's backend, as is the next
    p99_ms: float
    plans: tuple[Plan, ...]  # one for each engine
    failed: str | None = None  # why TensorRT built nothing

    @property
    def plan_bytes(self) -> int:
        """Bytes of all plans."""
        return sum(plan.plan_bytes for plan in self.plans)

    @property
    def memory_bytes(self) -> int:
        """GPU memory of all weights and of a context for each engine, which has room for its largest profile."""
        return sum(plan.weight_bytes + plan.activation_bytes for plan in self.plans)


@dataclass(frozen=True)
class Layouts:
    """What was compared: one range, several profiles, several engines and, where a model can be padded, fixed sizes."""

    layouts: tuple[Layout, ...]
    measured_with: str  # the backend and path that latencies are predicted from
    built_by: str

    @property
    def best(self) -> Layout | None:
        """Of the layouts that were built, the one with least memory among the fastest; None if none was built."""
        built = [layout for layout in self.layouts if not layout.failed]
        if not built:
            return None
        fastest = min(layout.mean_ms for layout in built)
        fast = [layout for layout in built if layout.mean_ms <= fastest * (1 + SAME)]
        return min(fast, key=lambda layout: (layout.memory_bytes, layout.plan_bytes))

    @property
    def table(self) -> pd.DataFrame:
        """A row for each layout."""
        return pd.DataFrame([self._row(layout) for layout in self.layouts])

    def _row(self, layout: Layout) -> dict[str, Any]:
        by_profile = [plan.activation_by_profile or (plan.activation_bytes,) for plan in layout.plans]
        return {
            "layout": layout.name,
            "ranges": str(layout.policy),
            "mean ms": round(layout.mean_ms, 3),
            "p99 ms": round(layout.p99_ms, 3),
            "plans MB": round(layout.plan_bytes / 1e6, 1),
            "memory MB": round(layout.memory_bytes / 1e6, 1),
            "activation MB": " + ".join("/".join(f"{size / 1e6:.1f}" for size in sizes) for sizes in by_profile),
            "verdict": layout.failed or ("recommended" if layout == self.best else ""),
        }

    @property
    def recommendation(self) -> str:
        """One sentence, which says where its numbers come from."""
        if self.best is None:
            return f"TensorRT built none of the layouts: {self.layouts[0].failed}"
        return (
            f"Lay out {self.best.name}: {self.best.memory_bytes / 1e6:.1f} MB of GPU memory, by plans that "
            f"{self.built_by} built and did not run, and least among what is predicted to be as fast as any, by "
            f"latencies measured with {self.measured_with}."
        )

    def __str__(self) -> str:
        return f"{self.table.to_string(index=False)}\n{self.recommendation}"


def compare(
    case: Case,
    policies: dict[str, Policy],
    figures: Callable[[Policy], Any],
    measured: Measurement,
    path: str,
    build: Build,
) -> Layouts:
    """Let TensorRT build every layout of `policies`, by name.

    Where a policy has several engines that do not pad, one engine with as many profiles is compared, too.

    Raises
    ------
    EnginesUnavailable
        If TensorRT's engines cannot be built here.
    """
    layouts, built_by = [], ""
    for name, policy in policies.items():
        count = len(policy.engines)
        cases = {name: [case.with_ranges(**policy.ranges(number)) for number in range(count)]}
        if count > 1 and not policy.padded:
            whole = {dim.name: (dim.min, dim.opt, dim.max) for dim in case.dims.values()}
            profiles = [{**whole, **policy.ranges(number)} for number in range(count)]
            cases = {f"one engine, {count} profiles": [case.with_profiles(*profiles)], **cases}
        expected = figures(policy)
        mean_ms, p99_ms = float(expected["mean_ms"][0]), float(expected["p99_ms"][0])
        for layout, of_layout in cases.items():
            reports = [build(each, path) for each in of_layout]
            failed = next((report.failed for report in reports if report.failed), None)
            plans = () if failed else tuple(plan for report in reports for plan in report.plans)
            layouts.append(Layout(layout, policy, mean_ms, p99_ms, plans, failed))
            built_by = f"TensorRT for RTX {reports[0].versions[BUILDER]}"
    metadata = measured.metadata
    return Layouts(tuple(layouts), f"{metadata['backend']} ({metadata['path']}, {metadata['device']})", built_by)
