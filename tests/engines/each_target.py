"""Run as a script beside TensorRT for RTX: every target on a real builder configuration; prints JSON."""

import json
import sys

import tensorrt_rtx as trt

from tutorial_lib.engines import targets

builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
names = targets.known_targets(trt.__version__)
were_set = []
for name in names:
    config = builder.create_builder_config()
    targets.apply(config, name)
    were_set.append((config.get_compute_capability(0).name, config.num_compute_capabilities))
config = builder.create_builder_config()
targets.apply(config, None)
answer = {"version": trt.__version__, "names": names, "set": were_set, "without": config.num_compute_capabilities}
json.dump(answer, sys.stdout)
