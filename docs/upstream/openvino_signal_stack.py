"""Two compiled models of two cores go, the first one first; then an interrupt ends the process (SIGSEGV)."""

import gc
import os
import signal

import openvino
from openvino import opset13 as ops


def model():
    x = ops.parameter([2], openvino.Type.f32)
    return openvino.compile_model(openvino.Model([ops.relu(x)], [x]), "CPU")  # makes a Core of its own


signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
first, second = model(), model()
del first
gc.collect()
del second  # its plugin puts back the signal stack that it met, which was the first one's
gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("not there")
