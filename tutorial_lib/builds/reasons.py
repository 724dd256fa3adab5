"""Why a build failed, for the person who built: upstream's error explained, and the model itself looked at."""

import inspect
import io
import re
from contextlib import redirect_stderr
from dataclasses import replace

import torch
from torch import nn

from tutorial_lib.checks.sizes_taken import explain_range
from tutorial_lib.core.models import Case
from tutorial_lib.explain import Explanation, explain

UPSTREAM_IS_RIGHT = frozenset({"related dims", "equal dims", "traced at one", "data-dependent", "printing", "memory"})
"""Kinds of errors whose reason upstream names, so that running the model at other sizes adds nothing."""


def explain_failure(error: Exception, case: Case, path: str) -> Explanation:
    """What a failed build of `case` means; of kind ``unknown`` where that is not known.

    Upstream names a guard, which may be far from the reason, so the model is first tried at other sizes.
    """
    explanation = explain(error)
    if explanation.kind == "dynamic_shapes":
        return _names_differ(explanation, case)
    of_model = None if explanation.kind in UPSTREAM_IS_RIGHT else explain_range(case, knows_steps=path == "export")
    in_steps = next((dim for dim in case.dims.values() if dim.step > 1), None)
    if in_steps and path != "export" and "multiple" in (explanation.kind, of_model.kind if of_model else ""):
        cause = f"{in_steps.name} is in steps of {in_steps.step}, which only the export path can be told."
        return Explanation("multiple", cause, "Take the export path.", explanation.quote)
    if of_model and not (explanation.kind == "fixed size" and of_model.kind == "range"):
        return replace(of_model, quote=explanation.quote)
    layer = next((type(module).__name__ for module in case.model.modules() if isinstance(module, nn.RNNBase)), None)
    if explanation.kind == "fixed size" and layer:
        return replace(
            explanation,
            cause=f"nn.{layer} is unrolled step by step while it is traced, which fixes the number of steps.",
            fix="Pad all sequences to one length, or export a single step with its state as inputs and results.",
            fix_here="",
        )
    return replace(
        explanation,
        cause=_with_names_of_the_case(explanation.cause, case, path),
        fix=_with_names_of_the_case(explanation.fix, case, path),
        fix_here=_with_names_of_the_case(explanation.fix_here, case, path),
    )


def _names_differ(explanation: Explanation, case: Case) -> Explanation:
    arguments = ", ".join(inspect.signature(case.model.forward).parameters)
    inputs = ", ".join(spec.name for spec in case.inputs)
    return replace(
        explanation,
        cause=f"The inputs are called {inputs}, and the arguments of the model's forward {arguments}.",
        fix_here="Give each TensorSpec the name of its argument, in their order.",
    )


def explain_no_engine(case: Case) -> Explanation | None:
    """Why Dynamo left the whole model to Python, which it does without a word; None if that cannot be found out."""
    breaks = list(torch._dynamo.utils.counters["unimplemented"])  # of the build
    try:
        with redirect_stderr(io.StringIO()), torch.no_grad():
            torch.compile(case.model, backend="eager", fullgraph=True)(*case.example(case.traced))
    except Exception as error:
        if (explanation := explain(error)).translated:
            return explanation
    return explain(torch._dynamo.exc.Unsupported(breaks[0])) if breaks else None


def _with_names_of_the_case(text: str, case: Case, path: str) -> str:
    """Upstream's numbered inputs and axes by the names that the reader of this package gave them."""
    if path == "jit":  # whose model has its inputs numbered
        text = re.sub(r"\binput_(\d+)\b", lambda match: case.inputs[int(match[1])].name, text)
    for spec in case.inputs:
        for axis, dim in spec.dynamic.items():
            if path == "input":  # whose dimensions are called after input and axis
                text = re.sub(rf"\b{spec.name}_{axis}\b", dim.name, text)
            named = rf"dimension {axis} of {spec.name}\b"
            text = re.sub(rf"(?<!\(){named}|{named}(?!\))", dim.name, text)  # but not in "batch (dimension 0 of x)"
    return text
