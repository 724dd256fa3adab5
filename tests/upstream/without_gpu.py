"""``python without_gpu.py SCRIPT``: run a script that imports torch_tensorrt, on a machine without a GPU.

TensorRT for RTX builds the engines. They are not run: their graphs run in PyTorch, behind their profiles.
"""

import runpy
import sys

from tutorial_lib.engines import frontend, install
from tutorial_lib.engines.builder import Builder

if __name__ == "__main__":
    frontend.load(install.located())
    frontend.set_engine_build(Builder().convert)
    runpy.run_path(sys.argv[1], run_name="__main__")
