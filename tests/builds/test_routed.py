"""Several profiles where an engine has one range: a program for each, which the report says, behind one range check."""

import pytest
import torch

from tutorial_lib import PATHS, OutOfRange, Reference, status, vit_any_size
from tutorial_lib.builds import saving
from tutorial_lib.builds.backends import tensorrt

FEW, MANY = {"batch": (1, 1, 2), "length": (2, 5, 9)}, {"batch": (1, 4, 4), "length": (1, 1, 1)}
SIZES = [{"batch": 1, "length": 2}, {"batch": 2, "length": 9}, {"batch": 4, "length": 1}, {"batch": 1, "length": 1}]


@pytest.fixture(scope="module")
def case(masked):
    return masked.with_profiles(FEW, MANY)


@pytest.fixture(
    scope="module", params=[("jit", "eager"), ("input", "eager"), ("export", "eager"), ("input", "openvino")]
)
def program(request, case):
    path, backend = request.param
    if not (found := status(backend, case.device)).works:
        pytest.skip(found.reason)
    return PATHS[path](case, backend)


def test_every_size_of_every_profile_is_served_and_nothing_between_them(program, case):
    reference = Reference(case)
    for sizes in SIZES:
        inputs = case.example(sizes)
        assert reference.compare(program(*inputs), inputs).agrees
    refused = {"batch": 4, "length": 2}  # each of the two is in some profile, and not together
    with pytest.raises(
        OutOfRange, match=r"^no profile takes batch 4, length 2 \(profile 0: batch 1/1/2, length 2/5/9; "
    ):
        program(*case.example(refused))
    program.outside = "eager"
    torch.testing.assert_close(program(*case.example(refused)), case.eager(*case.example(refused)))
    program.outside = "raise"
    with pytest.raises(ValueError, match=r"do not recompile|cannot recompile"):
        program.outside = "recompile"


def test_the_report_has_the_engines_of_all_profiles_and_says_that_they_are_several_programs(program):
    build = program.build
    ranges = {(each.min, each.max) for engine in build.engines for each in engine.data if each.name == "mask"}
    lowest = 2 if build.path == "jit" else 1  # whose engine for batch 1 is another one
    assert {((lowest, 2), (2, 9)), ((lowest, 1), (4, 1))} <= ranges
    assert {"batch 2, length 9", "batch 4, length 1"} <= set(build.checked)
    why = "just in time there are no profiles" if build.path == "jit" else f"{build.backend} has no profiles"
    assert build.notes[0].startswith(f"{why}: this is 2 programs")


def test_saved_and_loaded_they_serve_the_same_sizes(program, case, tmp_path):
    if program.build.path == "jit":
        with pytest.raises(saving.ArtefactError, match="what the jit path built cannot be saved"):
            saving.save(program, tmp_path / "net.dynpt")
        return
    saving.save(program, tmp_path / "net.dynpt")
    loaded = saving.load(tmp_path / "net.dynpt")
    assert loaded.profiles == case.profiles
    for sizes in SIZES:
        inputs = case.example(sizes)
        torch.testing.assert_close(loaded(*inputs), program(*inputs), rtol=0, atol=0)
    with pytest.raises(OutOfRange, match=r"no profile takes batch 4, length 2"):
        loaded(*case.example({"batch": 4, "length": 2}))


def test_tensorrt_is_not_asked_for_what_its_version_or_its_tracing_cannot(masked, monkeypatch):
    monkeypatch.setattr(tensorrt, "upstream", lambda: torch_tensorrt("2.14.0", profiles=None))
    one_last, one_first = masked.with_profiles(FEW, MANY), masked.with_profiles(MANY, FEW)
    assert tensorrt.why_no_profiles(one_last, "input") is None
    assert tensorrt.why_no_profiles(one_first, "export") is None
    assert tensorrt.why_no_profiles(one_first, "input").startswith("profile 0 has length at 1 alone, and ")
    images = vit_any_size(embed_dim=12, depth=1)
    size = {"batch": (1, 2, 8), "width": (96, 96, 320)}
    stepped = images.with_profiles({**size, "height": (96, 96, 160)}, {**size, "height": (176, 224, 320)})
    assert tensorrt.why_no_profiles(stepped, "export").startswith("height is in steps of 16, and ")
    assert tensorrt.why_no_profiles(stepped, "input") is None
    monkeypatch.setattr(tensorrt, "upstream", lambda: torch_tensorrt("2.13.0"))
    assert tensorrt.why_no_profiles(one_last, "export").endswith("several need 2.14: `make lab TORCH=2.14`.")


def torch_tensorrt(version, **attributes):
    """What is asked of the module: its version, and what ``Input`` has."""
    return type("torch_tensorrt", (), {"__version__": version, "Input": type("Input", (), attributes)})
