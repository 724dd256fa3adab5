"""A plan and its description: written together or not at all, and read only when both are whole."""

import contextlib
import hashlib
import json
import os
import resource
from dataclasses import replace

import pytest
from plans import PLAN, engine

from tutorial_lib.builds.plan import PlanLayer
from tutorial_lib.builds.report import Engine
from tutorial_lib.core import files
from tutorial_lib.engines.errors import PlanError
from tutorial_lib.engines.files import description_of, fits, read, save

NAMES = ["model.plan", "model.plan.json"]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.plan"


@pytest.fixture
def saved(file):
    save(engine(), file)
    return file


def refused(call, *arguments, **options):
    """The one sentence with which a call is refused."""
    with pytest.raises(PlanError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    return str(error.value)


def changed(file, **changes):
    """Write the description of a file again, with other content."""
    description = description_of(file)
    description.write_text(json.dumps({**json.loads(description.read_text()), **changes}))


def described(file):
    return json.loads(description_of(file).read_text())


def assert_only(file, there):
    """Whether the folder holds the plan that was saved first, or nothing."""
    assert sorted(os.listdir(file.parent)) == (NAMES if there else [])
    if there:
        assert read(file) == PLAN


# ---- writing


@pytest.mark.parametrize("written", [engine(), PLAN], ids=["engine", "plan"])
def test_a_saved_plan_is_read_as_it_was_and_described_in_json(file, written):
    save(written, file)
    assert read(str(file)) == PLAN
    assert read(file).data == PLAN.data == file.read_bytes()
    content = described(file)
    assert content["sha256"] == hashlib.sha256(PLAN.data).hexdigest()
    assert content["plan"]["inputs"][0]["profiles"] == [[[1, 8], [4, 8], [32, 8]]]
    assert sorted(os.listdir(file.parent)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_there_is_replaced_only_if_that_is_said(file, name):
    (file.parent / name).write_text("mine")
    assert "overwrite=True" in refused(save, engine(), file)
    assert (file.parent / name).read_text() == "mine"
    assert os.listdir(file.parent) == [name]
    save(engine(), file, overwrite=True)
    assert read(file) == PLAN


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/null", path)])
def test_what_is_no_ordinary_file_is_never_replaced(file, name, make):
    make(file.parent / name)
    before = os.lstat(file.parent / name)
    assert "will not be replaced" in refused(save, engine(), file, overwrite=True)
    assert os.lstat(file.parent / name).st_ino == before.st_ino
    assert os.listdir(file.parent) == [name]


@pytest.mark.parametrize("name", ["missing/model.plan", "file/model.plan", "x" * 300, "a\0b", ""])
def test_a_path_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, name):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    refused(save, engine(), name)
    assert os.listdir(tmp_path) == ["file"]


@contextlib.contextmanager
def full_disk():
    """No file can grow beyond 1000 bytes inside the ``with`` block; pytest's own output may be such a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("data", [b"x" * 2000, b"small"])
@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_what_was_there(file, data, there):
    if there:
        save(engine(), file)
    with full_disk():
        large = engine(data=data, plan_bytes=len(data), messages=("m" * 2000,))
        assert "could not be written" in refused(save, large, file, overwrite=True)
    assert_only(file, there)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_where_one_file_cannot_get_its_name_neither_does(file, monkeypatch, there, name):
    if there:
        save(engine(), file)
    replace_file = os.replace

    def fail(source, target):
        if target == file.parent / name:
            monkeypatch.undo()
            raise OSError(5, "Input/output error")
        replace_file(source, target)

    monkeypatch.setattr(files.os, "replace", fail)
    other = engine(data=b"other", plan_bytes=5)
    assert "Input/output error" in refused(save, other, file, overwrite=True)
    assert_only(file, there)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (Engine((), "", 1, 0.5), "was not asked to build"),
        (engine(data=None), "was not kept"),
        (engine(plan_bytes=12), "has 11 bytes and says 12"),
        (engine(versions={"torch": "2.13.0"}), "version of TensorRT for RTX is missing"),
        (engine(build_seconds=float("nan")), "not a finite number"),
    ],
)
def test_what_could_not_be_read_again_is_not_saved(file, written, words):
    assert words in refused(save, written, file)
    assert os.listdir(file.parent) == []


# ---- reading


@pytest.mark.parametrize("name", NAMES)
def test_half_a_pair_is_refused(saved, name):
    (saved.parent / name).unlink()
    assert f"{name}, the " in refused(read, saved)


@pytest.mark.parametrize("content", [b"", b"native cod", b"native codf", b"native code."])
def test_a_plan_that_is_not_the_described_one_is_found_by_its_digest(saved, content):
    saved.write_bytes(content)
    assert "digest differs" in refused(read, saved)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b'{"tutorial_lib": "plan", "schema": NaN}', "NaN is not a number"),
        (b"[" * 100_000, "is damaged"),
        (b"[]", "does not describe a plan"),
        (b'{"tutorial_lib": "campaign", "schema": 1}', "does not describe a plan"),
        (b'{"tutorial_lib": "plan", "schema": 2}', "has schema 2"),
        (b'{"tutorial_lib": "plan", "schema": 1}', "plan is None, not an object"),
    ],
)
def test_a_damaged_description_is_one_sentence(saved, content, words):
    description_of(saved).write_bytes(content)
    assert words in refused(read, saved)


def test_a_description_with_another_field_or_that_is_too_large_is_refused(saved, monkeypatch):
    changed(saved, sha256="abc")
    assert "sha256 is no digest" in refused(read, saved)
    changed(saved, latency_ms=1.0)
    assert "unknown field 'latency_ms'" in refused(read, saved)
    monkeypatch.setattr("tutorial_lib.engines.files.LARGEST_DESCRIPTION", 100)
    assert "larger than any description" in refused(read, saved)


X = {"name": "x", "dtype": "float32", "profiles": [[[1, 8], [4, 8], [32, 8]]]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activation_bytes": -1}, "activation_bytes is -1"),
        ({"targets": []}, "targets are missing"),
        ({"targets": ["../x"]}, "its targets are '../x'"),
        ({"outputs": []}, "it has no outputs"),
        ({"data": "eA=="}, "JSON holds no bytes"),
        ({"inputs": [{**X, "dtype": "nn"}]}, "unknown dtype 'nn'"),
        ({"inputs": [{**X, "kind": "file"}]}, "unknown kind 'file'"),
        ({"inputs": [{**X, "name": ""}]}, "or one has none"),
        ({"inputs": [{**X, "name": "y"}]}, "the same name"),
        ({"inputs": [{**X, "profiles": [[[1, 8], [64, 8], [32, 8]]]}]}, "not min <= opt <= max"),
        ({"inputs": [{**X, "profiles": [[[1, 8], [4, 8], [32]]]}]}, "not min <= opt <= max"),
        ({"inputs": [{**X, "profiles": [[[-1, 8], [4, 8], [32, 8]]]}]}, "negative size"),
        ({"inputs": [{**X, "profiles": []}]}, "profiles of its inputs are missing"),
        ({"inputs": [X, {**X, "name": "x2", "profiles": X["profiles"] * 2}]}, "not as many for each"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(saved, changes, words):
    changed(saved, plan={**described(saved)["plan"], **changes})
    assert words in refused(read, saved)


def test_a_folder_is_no_plan(tmp_path):
    (tmp_path / "model.plan.json").mkdir()
    assert "is not a file" in refused(read, tmp_path / "model.plan")


# ---- memory

NEEDED = PLAN.activation_bytes + PLAN.weight_bytes
LARGE = replace(PLAN, layers=(PlanLayer("allocate_0", "allocate", inputs=("float16 [-1,8]",)),))
"""A plan with a result of 2**31 elements or more at max, which TensorRT allocates at run time."""


def test_a_plan_fits_where_activations_and_weights_are_free():
    assert fits(PLAN, NEEDED) is None
    assert fits(PLAN, NEEDED - 1) is not None
    refusal = fits(replace(PLAN, activation_bytes=9_920_000_000), 4 * 10**9)
    assert "needs 9.92 GB of GPU memory for activations and 7.09 MB for weights, and 4 GB are free" in refusal


def test_what_is_allocated_at_run_time_counts_at_the_largest_shapes():
    assert fits(LARGE, NEEDED + 2 * 2**31) is None
    assert "at least 4.29 GB more at run time" in fits(LARGE, NEEDED + 2 * 2**31 - 1)
    assert fits(LARGE, NEEDED, at_max=False) is None
    assert fits(LARGE, NEEDED - 1, at_max=False)
