"""A model whose tracing ends the process, in a module that the preview's process can import."""

import os
import signal

from torch import nn

from tutorial_lib import Case, DynamicDim, TensorSpec


class Killed(nn.Module):
    """Its process is killed while the model is traced."""

    def forward(self, x):
        os.kill(os.getpid(), signal.SIGKILL)
        return x


def killed():
    return Case("killed", Killed(), (TensorSpec("x", (DynamicDim("batch", 2, 4, 8), 3)),))
