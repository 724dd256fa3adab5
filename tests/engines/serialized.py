"""A deeper seam: only the TensorRT engine itself is replaced, so that saving and loading are upstream's own code.

Torch-TensorRT 2.13's module, its serializer and its operator ``tensorrt::execute_engine`` run; what they
carry is not an engine but a number, under which the graph is kept in this process.
"""

import contextlib
from types import SimpleNamespace
from unittest import mock

import inside
import inside_package as ours
import torch
from upstream import DEVICE

from tutorial_lib import PATHS, Reference
from tutorial_lib.builds import saving
from tutorial_lib.engines.stand_in import StandIn

KEPT = {}  # number -> (graph, inputs)


@contextlib.contextmanager
def numbered_engines():
    """Inside the block, Torch-TensorRT's real modules hold numbers instead of engines."""
    import torch_tensorrt.dynamo._compiler as compiler
    import torch_tensorrt.dynamo.conversion._conversion as conversion
    from torch_tensorrt._enums import Platform
    from torch_tensorrt.dynamo.conversion._symbolic_shape_capture import extract_symbolic_shape_expressions
    from torch_tensorrt.dynamo.runtime import TorchTensorRTModule
    from torch_tensorrt.dynamo.runtime import _TRTEngine as runtime

    def interpret(module, inputs, settings=None, engine_cache=None, **kwargs):
        KEPT[len(KEPT)] = module, inputs
        return conversion.SerializedInterpreterResult(
            serialized_engine=b"ftrt" + str(len(KEPT) - 1).encode(),
            input_names=[node.target for node in module.graph.find_nodes(op="placeholder")],
            output_names=["output0"],
            requires_output_allocator=False,
            symbolic_shape_expressions=extract_symbolic_shape_expressions(module),
            requires_native_multidevice=False,
        )

    def fake(inputs, engine):  # what the C++ runtime's operator does; the Python one asks the engine
        engine = getattr(engine, "real_obj", engine)
        metadata = TorchTensorRTModule.decode_metadata(engine.get_serialized_metadata())
        return _symbolic_outputs()(inputs, metadata["inout_symexprs"])

    def set_up(engine):
        engine.stand_in = StandIn(*KEPT[int(engine.serialized_engine[4:])])

    runtime.execute_engine._abstract_fn = None
    runtime.execute_engine.register_fake(fake)
    with contextlib.ExitStack() as stack:
        for target, name, value in [
            (compiler, "convert_module", conversion.convert_module),
            (conversion, "interpret_module_to_result", interpret),
            (runtime.TRTEngine, "_setup_engine", set_up),
            (runtime.TRTEngine, "execute", lambda engine, inputs: engine.stand_in(*inputs)),
            (runtime.TRTEngine, "close", lambda engine: None),
            *([] if DEVICE == "cuda" else _without_gpu()),
            (Platform, "current_platform", classmethod(lambda cls: cls.LINUX_X86_64)),
        ]:
            stack.enter_context(mock.patch.object(target, name, value))
        yield


def _without_gpu():
    return [
        (torch.cuda, "default_stream", lambda *args: SimpleNamespace(cuda_stream=0)),
        (torch.Tensor, "cuda", lambda tensor, *args, **kwargs: tensor),
    ]


def _symbolic_outputs():
    """Upstream's function for shapes of an engine's outputs, without registering the operators around it."""
    as_it_is = mock.MagicMock(side_effect=lambda *args, **kwargs: lambda decorated: decorated)
    with (
        mock.patch("torch.library.register_fake", as_it_is),
        mock.patch("torch._library.register_fake_class", as_it_is),
    ):
        from torch_tensorrt.dynamo.runtime.meta_ops.register_meta_ops import _apply_symbolic_shape_expressions

    return _apply_symbolic_shape_expressions


def served_after_saving(file, how):
    """Batches that a program compiled for 1 to 32 serves after it was saved one way and loaded; else the error."""
    import torch_tensorrt

    x, one, range_of_batches = inside.batch_of(4), inside.model(), inside.batches(1, 4, 32)
    with numbered_engines():
        program = torch_tensorrt.compile(one, ir="dynamo", inputs=[range_of_batches], min_block_size=1)
        keywords = {
            "with a tensor": {"inputs": [x]},
            "with an Input": {"arg_inputs": [range_of_batches]},
            "with dynamic_shapes": {
                "arg_inputs": [x],
                "dynamic_shapes": {"x": {0: torch.export.Dim("batch", min=1, max=32)}},
            },
            "without retracing": {"retrace": False},
            "with nothing": {},
            "jit": {"inputs": [x]},
        }[how]
        if how == "jit":
            program = torch.compile(one, backend="tensorrt")
        torch_tensorrt.save(program, file, **keywords)
        loaded = torch_tensorrt.load(file).module()
        found = {}
        for size in (1, 4, 32, 33):
            y = inside.batch_of(size)
            found[size] = refusal(loaded, (y,)) or torch.allclose(loaded(y), one(y), atol=1e-5)
        return found


def refusal(program, inputs):
    """The first line of the error with which a program refuses inputs; None if it takes them."""
    try:
        program(*inputs)
    except (ValueError, AssertionError, RuntimeError) as error:
        return str(error).strip().splitlines()[0]
    return None


def saved_and_loaded(file, path, name, low):
    """What a program of this package becomes on disk, and what is left of the one that was saved.

    Returns whether both agree at min, opt and max, the ranges and the engines of the loaded one, and what
    it says above max, with the guard in front and without.
    """
    with numbered_engines():
        options = ours.SORT if name == "hybrid" else None
        program = PATHS[path](ours.case(name, (low, 4, 8)), backend="tensorrt", options=options)
        saving.save(program, file)
        loaded, case = saving.load(file), program.case
        reference, agrees = Reference(case), []
        for size in (low, 4, 8):
            inputs = case.example(size, seed=1)
            agrees += [reference.compare(one(*inputs), inputs).agrees for one in (program, loaded)]
        above = case.example(9)
        said = refusal(loaded, above), refusal(loaded._program, above)
        return agrees, [str(dim) for dim in loaded.dims.values()], loaded.build.engines == program.build.engines, *said
