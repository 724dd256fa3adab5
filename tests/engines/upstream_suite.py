"""Runs a test file of Torch-TensorRT's over this package's builder of engines, on a CPU.

    python tests/engines/upstream_suite.py test_dyn_models.py [pytest options]

The file, such as ``tests/py/dynamo/models/test_dyn_models.py`` of pytorch/TensorRT, runs unchanged along ``dynamo`` and
``torch_compile``. What differs from a GPU: ``.cuda()`` and ``.to("cuda")`` leave a tensor where it is, a compiled
graph runs in PyTorch behind its profile (so similarities of results say nothing about TensorRT), and ResNet-18 has
random weights. Every engine is built by TensorRT for RTX; a line at the end counts them.
"""

import importlib.machinery
import sys
import types

import pytest
import torch
from torch import nn

from tutorial_lib.engines import frontend, install
from tutorial_lib.engines.builder import Builder


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels))
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))
        self.around = nn.Identity()
        if stride != 1 or channels_in != channels:
            around = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.around = nn.Sequential(around, nn.BatchNorm2d(channels))

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.around(x))


def resnet18(**_):
    """The layers of ResNet-18 with random weights, for a torch that torchvision does not go with."""
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    blocks = []
    for channels_in, channels, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        blocks += [Residual(channels_in, channels, stride), Residual(channels, channels, 1)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(512, 1000))


class Suite:
    """The fixture that upstream's tests use, and fresh state for each."""

    def pytest_generate_tests(self, metafunc):
        if "ir" in metafunc.fixturenames:
            metafunc.parametrize("ir", ["dynamo", "torch_compile"])

    @pytest.fixture(autouse=True)
    def fresh(self):
        torch._dynamo.reset()
        torch.manual_seed(0)
        with torch.no_grad():
            yield


def main(arguments):
    frontend.load(install.located())
    builder, built = Builder(), []

    def build(*args, **kwargs):
        engine = builder.convert(*args, **kwargs)
        built.append(engine.plan)
        return engine

    frontend.set_engine_build(build)
    torch.Tensor.cuda = nn.Module.cuda = lambda self, *_: self
    for kind in (torch.Tensor, nn.Module):
        kind.to = _staying_here(kind.to)
    torchvision, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    torchvision.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
    torchvision.models, models.resnet18 = models, resnet18
    sys.modules.update({"torchvision": torchvision, "torchvision.models": models})
    options = ["-q", "-p", "no:cacheprovider", "--noconftest", "-c", "/dev/null", "--disable-warnings"]
    code = pytest.main([*options, *arguments], plugins=[Suite()])
    total = sum(plan.plan_bytes for plan in built)
    print(f"{len(built)} engines were built by TensorRT for RTX {builder.versions['tensorrt-rtx']}, {total} bytes")
    return code


def _staying_here(to):
    def moved(self, *args, **kwargs):
        if args and isinstance(args[0], str | torch.device) and "cuda" in str(args[0]):
            args = args[1:]
        return to(self, *args, **kwargs) if args or kwargs else self

    return moved


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
