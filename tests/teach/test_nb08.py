"""Notebook 8: spoiled copies, what is in a file, the exercises."""

import hashlib

import pytest
import torch
from torch.export import Dim

from tutorial_lib import expand_reshape, paths
from tutorial_lib.builds import saving
from tutorial_lib.teach.lessons import nb08


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    case = expand_reshape(batch=(1, 4, 32), embed_dim=12, tokens=3)
    file = tmp_path_factory.mktemp("saved") / "export.dynpt"
    saving.save(paths.export(case, "eager"), file)
    return case, file


def test_spoiled_copies_are_refused_and_a_forged_one_is_not(saved, tmp_path):
    _, file = saved
    said = {copy.name: nb08.refusal(copy) for copy in nb08.spoiled(file, tmp_path)}
    assert all("is damaged" in said[name] for name in ("bit flipped", "cut off", "range edited"))
    assert "torch 2.99.0" in said["another torch"]
    assert "'another device' was built for cuda:99 (NVIDIA H100)" in said["another device"]
    forged = nb08.copy_with(file, tmp_path / "forged", lambda about: about["inputs"][0]["shape"][0].update(max=64))
    assert nb08.refusal(forged) is None


def test_a_file_lists_its_members_and_those_of_the_archive_inside(saved):
    case, file = saved
    members = list(nb08.listing(file)["member"])
    assert "program.pt2" in members
    assert any(member.startswith("    ") for member in members)
    assert nb08.holds(file, case.model.qkv_proj.weight.detach().numpy().tobytes())


def test_a_long_name_is_cut_in_front_with_a_sign():
    assert nb08._end("data/kernel.cpp") == "kernel.cpp"
    assert nb08._end("data/" + "a" * 18 + ".wrapper.cpp") == "a" * 18 + ".wrapper.cpp"
    assert nb08._end("data/" + "a" * 19 + ".wrapper.cpp") == "..." + "a" * 15 + ".wrapper.cpp"


def test_a_process_that_fails_says_its_last_line():
    assert nb08.run("-c", "print(1)") == "1\n"
    with pytest.raises(RuntimeError, match="ValueError: no"):
        nb08.run("-c", "raise ValueError('no')")


def again(module, x):
    return torch.export.export(module, (x,), dynamic_shapes={"input": {0: Dim("batch", min=1, max=32)}})


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("08.found", {"nothing", "another name"}, None),
        ("08.found", {"one weight"}, "'another name': the package is found again"),
        ("08.found", {"a change"}, "none of the changes"),
        ("08.digest", lambda content, digest: hashlib.sha256(content).hexdigest() == digest, None),
        ("08.digest", lambda content, digest: bool(content), "'one byte changed' is trusted"),
        ("08.digest", lambda content, digest: False, "'as it was saved' is not trusted"),
        ("08.again", lambda module, x: again(module, x).module(), None),
        ("08.again", lambda module, x: torch.export.export(module, (x,)), "takes 4."),
        ("08.again", lambda module, x: module, "came in"),
        ("08.again", lambda module, x: 3, "returned int"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged):
    judged(key, answer, said)
