"""The three compile paths. Each is the upstream API, called the way you would write it.

Around each stands :func:`tutorial_lib.builds.job.building`, which chooses the backend, takes the
build lock, turns gradients off and notes what is built; ``job.done`` adds the range guard.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from tutorial_lib.builds.backends import tensorrt
from tutorial_lib.builds.job import building
from tutorial_lib.builds.program import Compiled
from tutorial_lib.core import shapes
from tutorial_lib.core.models import Case

Options = Mapping[str, Any] | None


def jit(case: Case, backend: str = "auto", options: Options = None) -> Compiled:
    """Just in time: mark the dynamic dimensions, and let the first call compile.

    The size of the first call is opt. Size 1 always gets an engine of its own, built here as well.
    """
    with building("jit", case, backend, options, opt_source="the size of the first call") as job:

        def build() -> Callable[..., Any]:
            program = torch.compile(job.model, backend=job.watched(job.backend))
            for sizes in shapes.first_calls(case.dims):
                example = case.example(sizes)
                for tensor, spec in zip(example, case.inputs, strict=True):
                    for axis, bounds in spec.marks(tensor):
                        torch._dynamo.mark_dynamic(tensor, axis, **bounds)
                program(*example)  # compiles here
            return program

        return job.done(job.for_the_whole_range(build))


def input(case: Case, backend: str = "auto", options: Options = None) -> Compiled:
    """Ahead of time, from the min / opt / max shapes of each input."""
    with building("input", case, backend, options, opt_source="opt_shape, the size of the traced example") as job:
        if job.backend == "tensorrt":
            import torch_tensorrt

            inputs = [torch_tensorrt.Input(**spec.input_args(), **tensorrt.shared_dims(spec)) for spec in case.inputs]
            program = torch_tensorrt.compile(case.model, ir="dynamo", inputs=inputs, **job.options)
        else:
            example = case.example(case.traced)
            exported = torch.export.export(case.model, example, dynamic_shapes=shapes.range_dims(case.inputs))
            program = job.package(exported)
        return job.done(program)


def export(case: Case, backend: str = "auto", options: Options = None) -> Compiled:
    """Ahead of time, from a ``torch.export`` program with a ``Dim`` for each dynamic dimension.

    The size of the tensor given to ``torch.export.export`` is opt.
    """
    with building("export", case, backend, options, opt_source="the size of the exported example") as job:
        example = case.example(case.traced)
        exported = torch.export.export(case.model, example, dynamic_shapes=shapes.export_dims(case.inputs))
        if job.backend == "tensorrt":
            import torch_tensorrt

            program = torch_tensorrt.dynamo.compile(exported, inputs=example, **job.options)
        else:
            program = job.package(exported)
        return job.done(program)


PATHS: dict[str, Callable[..., Compiled]] = {"jit": jit, "input": input, "export": export}
"""The three paths by name."""
