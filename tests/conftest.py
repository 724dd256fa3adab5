"""What the tests share: small cases, programs that are built once, and how to judge them."""

import os
import sys

import hypothesis
import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, Case, DynamicDim, Reference, TensorSpec, expand_reshape, status
from tutorial_lib.builds.backends import as_device
from tutorial_lib.engines import EnginesUnavailable, install

# Also where a hand-made fault leaves OpenVINO's telemetry on: the test that is to notice works in a process of its own.
sys.modules.setdefault("openvino_telemetry", None)

# This one is for other processes. Debian's Python has imported a file of that name already, and pytest takes no second.
collect_ignore = ["zoo/for_engines/sitecustomize.py"]

# Derandomized: a run that fails fails again, here and elsewhere. No deadline: machines may be busy.
hypothesis.settings.register_profile("tutorial", derandomize=True, deadline=None)
hypothesis.settings.load_profile("tutorial")


def pytest_configure():
    if os.environ.get("TUTORIAL_LIB_TEST_GPU") and not torch.cuda.is_available():
        raise pytest.UsageError("these tests are to run on a GPU, and PyTorch sees none; run `make test` here.")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items):
    """A notebook with ``"tests": "slow"`` in its metadata runs with the slow tests."""
    for item in items:
        notebook = getattr(item.parent, "nb", None)
        if notebook is not None and notebook.metadata.get("tests") == "slow":
            item.add_marker("slow")


class MaskedLinear(nn.Module):
    """A projection of the positions that a mask selects: two inputs that share two dynamic dims."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 24)

    def forward(self, x, mask):
        return self.linear(x) * mask.unsqueeze(-1)


@pytest.fixture(scope="session")
def seed():
    """The tutorial's first model, small: x [batch 1/4/8, 7, 48]."""
    return expand_reshape(batch=(1, 4, 8), embed_dim=48, tokens=7).to(as_device())


@pytest.fixture(scope="session")
def masked():
    """x [batch 1/2/4, length 1/5/9, 16] and mask [batch, length]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MaskedLinear()
    batch, length = DynamicDim("batch", 1, 2, 4), DynamicDim("length", 1, 5, 9)
    inputs = (TensorSpec("x", (batch, length, 16)), TensorSpec("mask", (batch, length)))
    return Case("masked", model, inputs).to(as_device())


@pytest.fixture(scope="session")
def installed():
    """What builds engines, installed; tests that need it are skipped, with the reason, where it is missing."""
    try:
        return install.located()
    except EnginesUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def without_builder(monkeypatch):
    """``without_builder(sentence)``: from now on nothing builds engines here, for that reason."""

    def remove(sentence="no builder on this machine."):
        def located():
            raise EnginesUnavailable(sentence)

        monkeypatch.setattr(install, "located", located)

    return remove


@pytest.fixture(params=list(PATHS))
def path(request):
    return request.param


@pytest.fixture(params=["eager", "openvino", pytest.param("inductor", marks=pytest.mark.slow)])
def backend(request):
    """The name of a backend; what generates code takes seconds for each build."""
    return _working(request.param)


@pytest.fixture
def inductor():
    """The backend that generates code."""
    return _working("inductor")


def _working(name):
    """The name of a backend; the test is skipped, with the reason, where it does not work."""
    result = status(name)
    if not result.works:
        pytest.skip(result.reason)
    return result.name


@pytest.fixture(scope="session")
def built():
    """``built(path, backend, case)``: a program that all tests share, so leave it as you found it."""
    programs = {}

    def build(path, backend, case):
        key = path, backend, case
        if key not in programs:
            programs[key] = PATHS[path](case, backend)
        return programs[key]

    return build


@pytest.fixture(scope="session")
def agrees():
    """``agrees(program, size)``: whether a program is right at a size of its case, on inputs it has not seen."""
    references = {}

    def check(program, size=None):
        case = program.case
        reference = references.setdefault(case, Reference(case))
        inputs = case.example(size, seed=1)
        return reference.compare(program(*inputs), inputs).agrees

    return check
