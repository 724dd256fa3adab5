"""Run as a script without a GPU: a real plan, through every check to TensorRT's own refusal to deserialize it.

``python refused_without_driver.py FOLDER PLAN`` takes ``tensorrt_rtx`` from FOLDER, as the reader's process does, and
prints JSON. Only ``torch.cuda`` answers as if there were a card.
"""

import contextlib
import importlib.util
import json
import sys
import types
from pathlib import Path
from unittest import mock

import torch

from tutorial_lib.engines import install, running
from tutorial_lib.engines.errors import PlanError
from tutorial_lib.engines.install import Frontend

folder, file = sys.argv[1:]
path = list(sys.path)
card = {
    "is_available": lambda: True,
    "get_device_capability": lambda device: (8, 9),
    "get_device_name": lambda device: "a card",
    "mem_get_info": lambda device: (1 << 34, 1 << 34),
    "current_stream": lambda device: types.SimpleNamespace(cuda_stream=0),
    "device": contextlib.nullcontext,
}
with (
    mock.patch.multiple(torch.cuda, **card),
    mock.patch.object(running, "_device", return_value=torch.device("cpu")),
    mock.patch.object(install, "located", return_value=Frontend(Path(folder), {})),
):
    try:
        running.run(file, [torch.ones(4, 8)], trust=True)
        said = "it ran"
    except PlanError as error:
        said = str(error)
answer = {
    "said": said,
    "from": sys.modules["tensorrt_rtx"].__file__,
    "path": sys.path == path,
    "others": [name for name in ("dllist", "torch_tensorrt") if importlib.util.find_spec(name)],
}
json.dump(answer, sys.stdout)
