"""The three functions of paths.py and those of an exported script make the same calls of upstream.

Both run here with upstream's functions replaced by ones that only write down what they are given.
"""

import contextlib
import inspect
import sys
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, Case, DynamicDim, TensorSpec
from tutorial_lib.builds import backends
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.upstream.exported_script import script

BATCH = DynamicDim("batch", 1, 4, 8)
STEPS = DynamicDim("height", 32, 64, 96, step=16)
INPUTS = {
    "one dimension": (TensorSpec("x", (BATCH, 6)),),
    "opt is one": (TensorSpec("x", (DynamicDim("batch", 1, 1, 8), 6)),),
    "two inputs share two dimensions": (
        TensorSpec("x", (BATCH, DynamicDim("length", 2, 5, 9), 6)),
        TensorSpec("mask", (BATCH, DynamicDim("length", 2, 5, 9)), torch.bool),
    ),
    "steps": (TensorSpec("images", (DynamicDim("batch", 2, 2, 4), STEPS)),),
    "one size": (TensorSpec("x", (DynamicDim("batch", 3, 3, 3), 6)),),
}
OPTIONS = {
    "eager": {},
    "inductor": {"freezing": True, "max_autotune": False},
    "openvino": {"INFERENCE_PRECISION_HINT": "f32"},
    "tensorrt": {"min_block_size": 1, "disable_tf32": True},
}


class Anything(nn.Module):
    def forward(self, *inputs):
        return inputs


@contextlib.contextmanager
def calls_written_down(backend):
    """A list of the calls of upstream that are made inside the ``with`` block, each a name and its arguments."""
    calls = []

    def written(name, result, like):
        signature = inspect.signature(like)

        def call(*arguments, **keywords):
            bound = signature.bind(*arguments, **keywords)
            bound.apply_defaults()  # so that a default that is written out is no difference
            values = {key: shown(value) for key, value in bound.arguments.items() if (name, key) not in PLACES}
            if name == "torch.compile" and backend != "tensorrt":
                del values["options"]  # eager has none; a script sets those of Inductor before
            calls.append((name, values))
            return result

        return call

    def compile(model, backend, options=None): ...
    def from_model(model, ir, inputs, **options): ...
    def from_program(exported, inputs, **options): ...

    exported = SimpleNamespace(module=written("exported.module", "program", lambda: None))
    torch_tensorrt = SimpleNamespace(
        Input=lambda **keywords: ("Input", tuple((key, shown(value)) for key, value in keywords.items())),
        compile=written("torch_tensorrt.compile", "program", from_model),
        dynamo=SimpleNamespace(compile=written("torch_tensorrt.dynamo.compile", "program", from_program)),
    )

    def converted_from(input_model, example_input=None, input=None, share_weights=True): ...
    def compiled_for(model, device_name, config): ...

    converted = SimpleNamespace(reshape=written("reshape", None, lambda partial_shape: None))
    built = SimpleNamespace(
        outputs=(),
        create_infer_request=lambda: None,
        get_runtime_model=lambda: SimpleNamespace(get_results=list),
    )
    compiled = written("compile_model", built, compiled_for)
    openvino = SimpleNamespace(
        PartialShape=lambda bounds: ("PartialShape", shown(bounds)),
        convert_model=written("convert_model", converted, converted_from),
        Core=lambda: SimpleNamespace(compile_model=compiled),
    )
    program = written("program", None, lambda *inputs: None)
    packages, loads = torch._inductor.aoti_compile_and_package, torch._inductor.aoti_load_package
    with (
        mock.patch.object(torch, "compile", written("torch.compile", program, compile)),
        mock.patch.object(
            torch._dynamo, "mark_dynamic", written("mark_dynamic", None, lambda tensor, axis, **bounds: None)
        ),
        mock.patch.object(torch.export, "export", written("torch.export.export", exported, torch.export.export)),
        mock.patch.object(torch._inductor, "aoti_compile_and_package", written("package", "model.pt2", packages)),
        mock.patch.object(torch._inductor, "aoti_load_package", written("load", "program", loads)),
        mock.patch.dict(sys.modules, torch_tensorrt=torch_tensorrt, openvino=openvino),
    ):
        yield calls


PLACES = {("package", "package_path"), ("load", "path"), ("torch.compile", "model"), ("torch.export.export", "mod")}
PLACES |= {("torch_tensorrt.compile", "model"), ("convert_model", "input_model"), ("compile_model", "model")}
"""Arguments that are a file or the model, not part of what is compared."""


def shown(value):
    """A value so that equal ones are equal: tensors by shape and dtype, a ``Dim`` by what it says."""
    if isinstance(value, torch.Tensor):
        return f"tensor {tuple(value.shape)} {value.dtype}"
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    if isinstance(value, SimpleNamespace):
        return "exported"
    if type(value).__name__ in ("Dim", "_DerivedDim"):
        return f"{value.__name__} from {value.min} to {value.max}"
    return value


@contextlib.contextmanager
def settings_restored():
    """What a script sets for its process holds inside the ``with`` block."""
    with (
        torch.no_grad(),
        torch._inductor.config.patch(OPTIONS["inductor"]),
        torch.compiler.config.patch(cache_key_tag=""),
        torch._dynamo.config.patch(recompile_limit=torch._dynamo.config.recompile_limit),
    ):
        yield


def shared_dims(spec):
    return {"shared_dims": {axis: dim.name for axis, dim in spec.dynamic.items()}} if spec.dynamic else {}


@pytest.fixture(autouse=True)
def any_machine(monkeypatch):
    """Every backend is here, with options that are the same everywhere."""
    monkeypatch.setattr(Setting, "settled", lambda setting, base: setting)
    monkeypatch.setattr(backends, "settings", lambda backend, device, options, precision: OPTIONS[backend])
    monkeypatch.setattr("tutorial_lib.builds.backends.tensorrt.shared_dims", shared_dims)


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("backend", OPTIONS)
@pytest.mark.parametrize("path", PATHS)
def test_a_path_and_its_exported_script_make_the_same_calls_of_upstream(path, backend, inputs):
    if (path, backend) == ("jit", "openvino"):
        pytest.skip("a script cannot hold it: tests/upstream/test_exported_script.py")
    case = Case(inputs, Anything(), INPUTS[inputs])
    text = script(case, Setting(inputs, tuple(case.dims.values()), backend, paths=(path,)))
    with calls_written_down(backend) as by_path:
        PATHS[path].__wrapped__(case.model, case, backend, OPTIONS[backend])
    with calls_written_down(backend) as by_script, settings_restored():
        names = {"__name__": "exported"}
        exec(compile(text, "exported.py", "exec"), names)
        names[path](case.model)
    assert by_script == by_path
    last_calls = {
        "jit": ("program",),
        "input": ("exported.module", "load", "torch_tensorrt.compile", "compile_model"),
        "export": ("exported.module", "load", "torch_tensorrt.dynamo.compile", "compile_model"),
    }
    assert by_path[-1][0] in last_calls[path]
