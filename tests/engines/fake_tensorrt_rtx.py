"""A stand-in for ``tensorrt_rtx`` that has one engine: y = 2 x for each row of x, times the size s where there is one.

It reads and writes memory at the addresses that it is given, as TensorRT does, and remembers the calls. A test compares
its names with those of the real module.
"""

import ctypes
import enum
import math
import types

ALIGNMENT = 64
"""Bytes, of torch's allocations on a CPU; TensorRT asks for 256 on a GPU."""


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class TensorLocation(enum.Enum):
    DEVICE = 0
    HOST = 1


class ILogger:
    Severity = Severity

    def __init__(self):
        self.ready = True


def module(version="1.5.0.114", inputs=(("x", "FLOAT"),), outputs=(("y", "FLOAT"),), fail=""):
    """The module; `fail` is the name of the call that does not succeed."""
    calls = []

    def succeeds(name, log):
        calls.append(name)
        if fail == name:
            log.log(Severity.WARNING, "a warning")
            log.log(Severity.ERROR, f"the reason of {name}")
            log.log(Severity.ERROR, "what follows from it")
        return fail != name

    class Context:
        def __init__(self, log):
            self.log, self.shapes, self.addresses = log, {}, {}

        def set_optimization_profile_async(self, profile_index, stream_handle):
            calls.append((profile_index, stream_handle))
            return succeeds("set_optimization_profile_async", self.log)

        def set_input_shape(self, name, shape):
            self.shapes[name] = shape
            return succeeds("set_input_shape", self.log)

        def set_tensor_address(self, name, memory):
            assert memory % ALIGNMENT == 0 or name == "s"
            self.addresses[name] = memory
            return succeeds("set_tensor_address", self.log)

        def infer_shapes(self):
            return [] if succeeds("infer_shapes", self.log) else ["s"]

        def get_tensor_shape(self, name):
            return self.shapes["x"] if succeeds("get_tensor_shape", self.log) else (-1, 8)

        def execute_async_v3(self, stream_handle):
            calls.append(stream_handle)
            factor = 2
            if "s" in self.addresses:
                factor *= ctypes.c_int64.from_address(self.addresses["s"]).value
            numbers = ctypes.c_float * math.prod(self.shapes["x"])
            source, target = (numbers.from_address(self.addresses[name]) for name in ("x", outputs[0][0]))
            for index, number in enumerate(source):
                target[index] = factor * number
            return succeeds("execute_async_v3", self.log)

    class Engine:
        num_io_tensors = len(inputs) + len(outputs)

        def __init__(self, log):
            self.log = log

        def get_tensor_name(self, index):
            return (*inputs, *outputs)[index][0]

        def get_tensor_dtype(self, name):
            return types.SimpleNamespace(name=dict((*inputs, *outputs))[name])

        def get_tensor_location(self, name):
            return TensorLocation.HOST if name == "s" else TensorLocation.DEVICE

        def create_execution_context(self):
            return Context(self.log) if succeeds("create_execution_context", self.log) else None

    class Runtime:
        def __init__(self, logger):
            assert logger.ready, "TensorRT needs ILogger.__init__ to be called"
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine):
            calls.append(serialized_engine)
            return Engine(self.logger) if succeeds("deserialize_cuda_engine", self.logger) else None

    return types.SimpleNamespace(
        __version__=version,
        ILogger=ILogger,
        Runtime=Runtime,
        TensorLocation=TensorLocation,
        calls=calls,
        classes={"Runtime": Runtime, "Engine": Engine, "Context": Context},
    )
