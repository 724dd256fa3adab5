"""The three compile paths: one function each, in which every line is upstream's call or plain Python.

``@compile_path`` makes ``path(case, backend="auto", options=None)`` of a function and puts the frame of a build
around it (:mod:`tutorial_lib.builds.job`): it chooses the backend, builds one at a time with gradients off, notes
every engine, checks size 1, and puts a range check in front of the program that the function returns.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tutorial_lib.builds.backends import tensorrt
from tutorial_lib.builds.backends.openvino import OpenVINOModel
from tutorial_lib.builds.job import CompilePath, compile_path, packaging
from tutorial_lib.core import shapes
from tutorial_lib.core.models import Case

Program = Callable[..., Any]
Options = dict[str, Any]


@compile_path(opt="the size of the first call")
def jit(model: Callable[..., Any], case: Case, backend: Any, options: Options) -> Program:
    """Just in time: mark the dynamic dimensions, and let the first call compile.

    The size of the first call is opt. Size 1 always gets an engine of its own, built here as well.
    """
    program = torch.compile(model, backend=backend, options=options)
    for sizes in shapes.first_calls(case.dims):
        inputs = case.example(sizes)
        for tensor, spec in zip(inputs, case.inputs, strict=True):
            for axis, bounds in spec.marks(tensor):  # such as min=2, max=32, hint_override=4
                torch._dynamo.mark_dynamic(tensor, axis, **bounds)
        program(*inputs)  # compiles here
    return program


@compile_path(opt="opt_shape, the size of the traced example")
def input(model: nn.Module, case: Case, backend: str, options: Options) -> Program:
    """Ahead of time, from the min / opt / max shapes of each input."""
    if backend == "tensorrt":
        import torch_tensorrt

        # Input(min_shape=(1, 196, 768), opt_shape=(4, 196, 768), max_shape=(32, 196, 768), dtype=..., name="x")
        # or Input(profiles=[{"min_shape": ..., "opt_shape": ..., "max_shape": ...}, ...], dtype=..., name="x")
        args = [{**spec.input_args(case.profiles), **tensorrt.shared_dims(spec)} for spec in case.inputs]
        inputs = [torch_tensorrt.Input(**each) for each in args]
        return torch_tensorrt.compile(model, ir="dynamo", inputs=inputs, **options)
    if backend == "openvino":
        import openvino as ov

        bounds = [ov.PartialShape(spec.bounds()) for spec in case.inputs]  # such as [1..32,196,768]
        example = case.example(case.traced)  # for torch.jit.trace
        converted = ov.convert_model(model, example_input=example, input=bounds, share_weights=False)
        return OpenVINOModel(ov.Core().compile_model(converted, "CPU", options))
    dynamic_shapes = shapes.range_dims(case.inputs)  # such as {"x": {0: Dim("x_0", min=1, max=32)}}
    exported = torch.export.export(model, case.example(case.traced), dynamic_shapes=dynamic_shapes)
    return package(exported, backend, case.device)


@compile_path(opt="the size of the exported example")
def export(model: nn.Module, case: Case, backend: str, options: Options) -> Program:
    """Ahead of time, from a ``torch.export`` program with a ``Dim`` for each dynamic dimension.

    The size of the tensor given to ``torch.export.export`` is opt.
    """
    inputs = case.example(case.traced)
    dynamic_shapes = shapes.export_dims(case.inputs)  # such as {"x": {0: Dim("batch", min=1, max=32)}}
    exported = torch.export.export(model, inputs, dynamic_shapes=dynamic_shapes)
    if backend == "tensorrt":
        import torch_tensorrt

        if not case.profiles:
            return torch_tensorrt.dynamo.compile(exported, inputs=inputs, **options)
        several = [torch_tensorrt.Input(**spec.input_args(case.profiles, traced=False)) for spec in case.inputs]
        return torch_tensorrt.dynamo.compile(exported, inputs=several, **options)
    if backend == "openvino":
        import openvino as ov

        converted = ov.convert_model(exported)  # loses the sizes of its inputs: [?,?,768]
        converted.reshape({index: ov.PartialShape(spec.bounds()) for index, spec in enumerate(case.inputs)})
        return OpenVINOModel(ov.Core().compile_model(converted, "CPU", options))
    return package(exported, backend, case.device)


@packaging
def package(
    exported: torch.export.ExportedProgram, backend: str, device: torch.device, file: str = "model.pt2"
) -> Program:
    """Compile an exported program ahead of time with PyTorch's own means.

    ``eager`` runs the exported graph as it is. ``inductor`` writes C++ or Triton code, compiles it into `file` and
    loads that; the program checks nothing, and would read past the end of an input that is too small.
    """
    if backend == "eager":
        return exported.module()
    torch._inductor.aoti_compile_and_package(exported, package_path=file)
    on_gpu = device.type == "cuda"  # there, calls take turns, and CUDA graphs cannot record AOTInductor's locks
    return torch._inductor.aoti_load_package(file, run_single_threaded=on_gpu)


PATHS: dict[str, CompilePath] = {"jit": jit, "input": input, "export": export}
"""The three paths by name."""
