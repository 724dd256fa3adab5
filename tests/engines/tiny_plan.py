"""Run as a script beside TensorRT for RTX, without torch: what its API has, and the smallest real plan.

``python tiny_plan.py FILE`` writes a plan of relu(x), x float32 [1/4/32, 8], to FILE and prints JSON.
"""

import json
import sys

import tensorrt_rtx as trt


def build():
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    x = network.add_input("x", trt.float32, (-1, 8))
    y = network.add_activation(x, trt.ActivationType.RELU).get_output(0)
    y.name = "y"
    network.mark_output(y)
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 8), (4, 8), (32, 8))
    config.add_optimization_profile(profile)
    return bytes(builder.build_serialized_network(network, config))


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as file:
        file.write(build())
    classes = {
        "": trt,
        "Runtime": trt.Runtime,
        "Engine": trt.ICudaEngine,
        "Context": trt.IExecutionContext,
        "ILogger": trt.ILogger,
        "TensorLocation": trt.TensorLocation,
    }
    answer = {
        "version": trt.__version__,
        "capabilities": sorted(trt.ComputeCapability.__members__),
        "dtypes": sorted(trt.DataType.__members__),
        "names": {name: dir(value) for name, value in classes.items()},
    }
    json.dump(answer, sys.stdout)
