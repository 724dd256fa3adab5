"""Exported scripts over a grid of settings, by digest. `python tests/upstream/script_grid.py` writes the digests again.

The model is the reader's own, without a recipe, and the settings of the compilers are made up, so that the text
depends on nothing but :mod:`tutorial_lib.upstream.exported_script`, its template and how they write a setting down.
"""

import hashlib
import itertools
import json
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from tutorial_lib import PATHS, Case, DynamicDim, TensorSpec
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.upstream.exported_script import script

DIGESTS = Path(__file__).with_name("script_digests.json")

BATCH, LENGTH = DynamicDim("batch", 1, 2, 4), DynamicDim("length", 2, 5, 9)
HEIGHT = DynamicDim("height", 32, 64, 96, step=16)
INPUTS = {
    "floats": (TensorSpec("x", (BATCH, 7, 48)),),
    "integers and a mask": (
        TensorSpec("ids", (BATCH, LENGTH), torch.int64, high=50),
        TensorSpec("mask", (BATCH, LENGTH), torch.bool),
    ),
    "floats and a mask": (TensorSpec("x", (BATCH, LENGTH, 16)), TensorSpec("mask", (BATCH, LENGTH), torch.bool)),
    "floats and integers": (TensorSpec("x", (BATCH, LENGTH, 16)), TensorSpec("n", (BATCH, LENGTH), torch.int32)),
    "steps": (TensorSpec("images", (BATCH, 3, HEIGHT, 64)),),
    "names that a script has": (TensorSpec("model", (DynamicDim("inputs", 1, 3, 8), DynamicDim("torch", 2, 2, 5))),),
    "four dimensions": (TensorSpec("input", tuple(DynamicDim(name, 1, 2, 3) for name in "abcd")),),
    "one size": (TensorSpec("x", (DynamicDim("batch", 3, 3, 3), 4)),),
}
DEVICES = {"eager": ("cpu", "cuda:0"), "inductor": ("cpu", "cuda:1"), "openvino": ("cpu",), "tensorrt": ("cuda:0",)}
OPTIONS = {
    "eager": {},
    "inductor": {
        "freezing": True,
        "aot_inductor.compile_wrapper_opt_level": "O0",
        "cpp.cxx": (None, "g++"),
        "post_grad_fusion_options": {"a" * 30: "b" * 40, 'quo"te': [1.5] * 30, "set": {"x"}, "none": None},
    },
    "openvino": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2, "PERFORMANCE_HINT": "LATENCY"},
    "tensorrt": {"min_block_size": 1, "disable_tf32": True, "engine_cache_dir": "folder"},
}


SUBSETS = [paths for count in (1, 2, 3) for paths in itertools.combinations(PATHS, count)]


def texts(inputs, backend, device):
    """The scripts of one model, backend and device: of every choice of paths, in two precisions."""
    with (
        mock.patch.object(Case, "device", torch.device(device)),
        mock.patch.object(Setting, "settled", lambda setting, base: setting),
        mock.patch("tutorial_lib.core.precision.why_not", return_value=None),
        mock.patch("tutorial_lib.builds.backends.settings", return_value=OPTIONS[backend]),
        mock.patch("tutorial_lib.builds.backends.tensorrt.shared_dims", shared_dims),
        mock.patch("tutorial_lib.measure.latency.MIN_SECONDS", 0.2),
    ):
        base = Case(inputs, nn.Identity(), INPUTS[inputs])
        subsets = [paths for paths in SUBSETS if (backend, paths) != ("openvino", ("jit",))]  # there is no such script
        for paths, precision in itertools.product(subsets, ("fp32", "bf16")):
            yield script(base, Setting(inputs, tuple(base.dims.values()), backend, precision, paths, samples=3))


def shared_dims(spec):
    """What Torch-TensorRT 2.13 takes, wherever this runs."""
    return {"shared_dims": {axis: dim.name for axis, dim in spec.dynamic.items()}} if spec.dynamic else {}


def digest(inputs, backend, device):
    """One digest of all :func:`texts` of a model, backend and device."""
    return hashlib.sha256("\0".join(texts(inputs, backend, device)).encode()).hexdigest()


GRID = [(inputs, backend, device) for inputs in INPUTS for backend, devices in DEVICES.items() for device in devices]


if __name__ == "__main__":
    digests = {", ".join(point): digest(*point) for point in GRID}
    DIGESTS.write_text(json.dumps(digests, indent=0) + "\n")
