"""The exercises of notebook 1."""

from typing import Any

import pandas as pd
import torch

from tutorial_lib import paths
from tutorial_lib.checks.range_check import OutOfRange
from tutorial_lib.core.models import Case, expand_reshape
from tutorial_lib.core.nets import ExpandReshapeModel
from tutorial_lib.teach.checking import Feedback, NotYet, a_function, a_mapping, a_range, call, exercise

REAL_OPTS = {"jit": [2, 1], "input": [2], "export": [2]}
"""What the engines get for a range tuned for 1; `tests/teach/test_exercises_nb01.py` builds them."""


def _small(batch: tuple[int, int, int]) -> Case:
    """The notebook's model, small enough that nobody waits for it."""
    return expand_reshape(batch=batch, embed_dim=24, tokens=3)


@exercise("01.one-engine", hint="The second engine of `jit` is for batch 1 alone. Which ranges need none?")
def range_with_one_engine(answer: Any) -> Feedback:
    """A range up to at least 32 for which jit builds one engine."""
    dim = a_range(answer)
    if dim.max < 32:
        raise NotYet(f"{dim} does not include batch 32.")
    engines = paths.jit(_small((dim.min, dim.opt, dim.max)), "eager").build.engines
    table = pd.DataFrame([(str(each), each.opt_source) for each in engines], columns=["engine of jit", "opt from"])
    if len(engines) > 1:
        raise NotYet(f"{dim} gives {len(engines)} engines.", table=table)
    return Feedback(True, f"{dim} gives one engine.", table=table)


@exercise(
    "01.serve-one",
    hint="A batch of two that holds the image twice, or the image and zeros, is in the range. Of its result, keep the "
    "first row: `[:1]`.",
)
def serve_single_images(answer: Any) -> Feedback:
    """A function that pads a single image to two."""
    serve = a_function(answer, "def serve(program, x): ...")
    case = _small((2, 4, 32))
    program = paths.export(case, "eager")
    batches: list[int] = []

    def counted(x: torch.Tensor) -> Any:
        batches.append(x.shape[0])
        return program(x)

    rows = []
    for batch in (4, 1, 32):
        (x,) = _small((1, 4, 32)).example(batch)
        batches.clear()
        result = call(serve, counted, x, shown=f"serve(program, x) with {batch} images")
        rows.append((batch, ", ".join(map(str, batches)) or "no call", _what(result)))
        table = pd.DataFrame(rows, columns=["images", "batch that the program saw", "what came back"])
        if not isinstance(result, torch.Tensor):
            raise NotYet(f"with {batch} images it returns a {type(result).__name__}, not a tensor.", table=table)
        right = case.eager(x)
        if result.shape != right.shape:
            raise NotYet(f"with {batch} images, {tuple(right.shape)} should come back; see the table.", table=table)
        if not torch.allclose(result, right, atol=1e-5):
            raise NotYet(f"with {batch} images the numbers are not the model's.", table=table)
        if not batches:
            raise NotYet("the right result, but without a call of program.", table=table)
        if batch > 1 and sum(batches) > batch:
            raise NotYet(f"{batch} images are in the range; you padded them nevertheless.", table=table)
    return Feedback(True, "one engine serves every batch from 1 to 32.", table=table)


def _what(result: Any) -> str:
    return f"a tensor {tuple(result.shape)}" if isinstance(result, torch.Tensor) else type(result).__name__


@exercise("01.opt-one", hint="`print(program.build)` names the opt of each engine; `program.build.notes` says why.")
def real_opts_of_one(answer: Any) -> Feedback:
    """The opts of the engines of each path for a range tuned for 1."""
    given = a_mapping(answer, list(REAL_OPTS))
    for path, real in REAL_OPTS.items():
        opts = [given[path]] if isinstance(given[path], int) else given[path]
        if not isinstance(opts, list | tuple):
            raise NotYet(f"for {path}, give a list with the opt of each engine.")
        if len(opts) != len(real):
            raise NotYet(f"{path} does not have {len(opts)} engine{'' if len(opts) == 1 else 's'}: build it and look.")
        if list(opts) != real:
            raise NotYet(f"for {path}, {list(opts)} is what was asked for, or a guess; build it and look.")
    return Feedback(True, "a dynamic dimension is traced at 2 at least, so no dynamic engine is tuned for 1.")


@exercise(
    "01.patches",
    hint="A TensorSpec takes a DynamicDim in every place that varies: `TensorSpec('x', (batch, patches, 768))`. The "
    "first DynamicDim is still the batch.",
)
def case_for_any_patches(answer: Any) -> Feedback:
    """A case of the notebook's model whose patches vary from 49 to 256."""
    if not isinstance(answer, Case):
        raise NotYet(f"your answer is a {type(answer).__name__}; give a Case.")
    if not isinstance(answer.model, ExpandReshapeModel):
        raise NotYet(f"its model is a {type(answer.model).__name__}; take an ExpandReshapeModel.")
    if len(answer.dims) < 2:
        raise NotYet(f"of its dimensions, only {', '.join(answer.dims) or 'none'} varies; the patches have to as well.")
    for dim in answer.dims.values():
        a_range(dim)
    _, second = answer.dims.values()
    if second.min > 49 or second.max < 256:
        raise NotYet(f"{second} does not take {49 if second.min > 49 else 256} patches.")
    program = paths.export(answer, "eager")
    rows = []
    for batch, patches in ((1, 49), (4, 100), (2, 256)):
        x = torch.randn(batch, patches, answer.model.qkv_proj.in_features)
        try:
            rows.append((batch, patches, str(tuple(program(x).shape))))
        except (OutOfRange, ValueError) as error:
            rows.append((batch, patches, str(error)))
            table = pd.DataFrame(rows, columns=["batch", "patches", "what comes back"])
            raise NotYet(f"{batch} images of {patches} patches are refused.", table=table) from None
    table = pd.DataFrame(rows, columns=["batch", "patches", "what comes back"])
    return Feedback(True, "one program takes images of any of these sizes.", table=table)
