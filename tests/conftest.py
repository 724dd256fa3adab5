"""What the tests share: small cases, programs that are built once, how to judge them, and which are slow."""

import os
import re

import hypothesis
import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, Case, DynamicDim, Reference, TensorSpec, expand_reshape, status
from tutorial_lib.builds.backends import as_device

# Derandomized: a run that fails fails again, here and elsewhere. No deadline: machines may be busy.
hypothesis.settings.register_profile("tutorial", derandomize=True, deadline=None)
hypothesis.settings.load_profile("tutorial")


SLOW = (
    r"test_advisor.py::.*no_matplotlib",
    r"test_saving.py::.*(another_process|comes_along|what_it_is|leaves_nothing|unpacked|read_as_they_did)",
    r"test_backends.py::.*(its_own_standard_library|remembered_on_disk)",
    r"test_browser.py::.*(a_hundred_clicks|first_notebook)",
    r"test_campaign_(dask|processes).py::",
    r"test_claims.py::.*bare_package",
    r"test_cli.py::.*interrupting",
    r"test_explain.py::.*package_of_aotinductor",
    r"test_models.py::.*(inductor|on_every_path_with_eager)",
    r"test_paths.py::.*(inductor|temporary_folder|padding_(that|stays))",
    r"test_(plots|heatmap).py::.*(pyplot|two_threads)",
    r"test_engines_(artefact|backend|batch_one|outside|profiles|saving|script|several_dims|upstream_documentation).py::",
    r"test_project.py::.*(readme_s_python|a_benchmark)",
    r"test_record_command.py::.*(one_file|goes_on|is_printed|before_anything)",
    r"test_router.py::.*two_dimensions",
    r"test_package_cache.py::",
    r"test_studio.py::.*(two_studios|is_there_at_once_and_builds)",
    r"test_studio_bench.py::",
    r"test_exported_script.py::",
    r"test_threads.py::",
)
"""Tests that take seconds each, mostly for a C++ compiler: `make test-slow` runs them, `make test` does not."""


def pytest_configure():
    if os.environ.get("TUTORIAL_LIB_TEST_GPU") and not torch.cuda.is_available():
        raise pytest.UsageError("these tests are to run on a GPU, and PyTorch sees none; run `make test` here.")


def pytest_collection_modifyitems(items):
    for item in items:
        if any(re.search(pattern, item.nodeid) for pattern in SLOW):
            item.add_marker(pytest.mark.slow)


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


@pytest.fixture(params=list(PATHS))
def path(request):
    return request.param


@pytest.fixture(params=["eager", "inductor"])
def backend(request):
    found = status(request.param)
    if not found.works:
        pytest.skip(found.reason)
    return found.name


@pytest.fixture
def inductor():
    """For tests that need generated code: skipped, with the reason, where Inductor does not work."""
    found = status("inductor")
    if not found.works:
        pytest.skip(found.reason)
    return found.name


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
