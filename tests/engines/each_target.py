"""Run as a script beside TensorRT for RTX: every target on a real builder configuration; prints JSON."""

import json
import sys

import tensorrt_rtx as trt

from tutorial_lib.engines import targets

builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
were_set = []
for name in ("sm75", *targets.built_for(None, trt.__version__)):
    config = builder.create_builder_config()
    targets.apply(config, name)
    were_set.append((config.get_compute_capability(0).name, config.num_compute_capabilities))
config = builder.create_builder_config()
targets.apply(config, None)
names = [name.lower() for name in trt.ComputeCapability.__members__]
json.dump({"capabilities": names, "set": were_set, "without": config.num_compute_capabilities}, sys.stdout)
