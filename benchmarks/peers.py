"""Other engines on the same CPU, with the same range: ONNX Runtime and OpenVINO.

Both get the program that ``torch.export`` makes of the case, float32, as many threads as PyTorch has, and the
memory of the input tensor without a copy. ``pip install --group bench --group openvino`` brings them;
what is not installed is left out.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tutorial_lib import Reference
from tutorial_lib.core.models import Case
from tutorial_lib.core.shapes import export_dims

NEEDS = {"ONNX Runtime": ("onnxruntime", "onnxscript"), "OpenVINO": ("openvino",)}
Program = Callable[..., Any]


def onnx_runtime(case: Case) -> Program:
    """The case as an ONNX file, run by ONNX Runtime's CPU provider with all of its graph optimizations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        torch.onnx.export(exported(case), f=file, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def call(*inputs: torch.Tensor) -> Any:
        return session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})

    return call


def openvino(case: Case) -> Program:
    """The case as an OpenVINO model with the same bounds; in float32, since its default may be bfloat16."""
    import openvino as ov

    model = ov.convert_model(exported(case))
    model.reshape({index: ov.PartialShape(spec.bounds()) for index, spec in enumerate(case.inputs)})
    threads = torch.get_num_threads()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def call(*inputs: torch.Tensor) -> Any:
        found = request.infer([x.numpy() for x in inputs], share_inputs=True, share_outputs=True)
        return list(found.values())

    return call


def exported(case: Case) -> torch.export.ExportedProgram:
    return torch.export.export(case.model, case.example(case.traced), dynamic_shapes=export_dims(case.inputs))


def peers(case: Case) -> Iterator[tuple[str, Program]]:
    """Each peer that is installed, built and found to agree with float64 at every end of the range."""
    if case.device.type != "cpu":
        return
    for name, build in {"ONNX Runtime": onnx_runtime, "OpenVINO": openvino}.items():
        if not all(importlib.util.find_spec(module) for module in NEEDS[name]):
            continue
        program, reference = build(case), Reference(case)
        for end in ("min", "opt", "max"):
            inputs = case.example({dim.name: getattr(dim, end) for dim in case.dims.values()})
            (output,) = program(*inputs)
            found = reference.compare(torch.from_numpy(output), inputs)
            if not found.agrees:
                raise AssertionError(f"{name} at {end}: {found}")
        yield name, program
