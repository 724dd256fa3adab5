"""Programs on disk: they come back whole, in a process that knows nothing of them, or not at all."""

import errno
import gc
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from tutorial_lib import PATHS, BuildError, Case, DynamicDim, OutOfRange, Reference, ShapeError, TensorSpec, status
from tutorial_lib.builds import saving
from tutorial_lib.builds.backends import inductor as inductor_module
from tutorial_lib.builds.backends import tensorrt
from tutorial_lib.core import precision

ROOT = Path(__file__).parents[2]
FULL_DISK = mock.Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def temporary_folders():
    return {name for name in os.listdir(tempfile.gettempdir()) if not name.startswith("torchinductor_")}


@pytest.fixture
def own_temporary_folder(monkeypatch, tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


# ---- another process --------------------------------------------------------------------------------------------


SMALL, LARGE = {"batch": 1, "length": 1}, {"batch": 4, "length": 9}
SIZES = {"seed": (1, 4, 8), "bf16": (1, 4, 8), "masked": (SMALL, None, LARGE)}
PROGRAMS = [
    ("seed", "input", "eager"),
    ("seed", "export", "eager"),
    ("seed", "input", "inductor"),
    ("seed", "export", "inductor"),
    ("masked", "input", "eager"),
    ("masked", "export", "eager"),
    ("bf16", "export", "eager"),
    ("masked", "input", "openvino"),
    ("bf16", "export", "openvino"),
]


@pytest.fixture(scope="module")
def programs(built, seed, masked):
    cases = {"seed": seed, "masked": masked, "bf16": seed.in_precision("bf16")}
    working = [key for key in PROGRAMS if status(key[2]).works]
    return {"-".join(key): built(key[1], key[2], cases[key[0]]) for key in working}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, programs):
    """A folder with what became of every program in a process without a compiler and without the models' classes."""
    folder, temporary = tmp_path_factory.mktemp("artefacts"), tmp_path_factory.mktemp("temporary")
    for name, program in programs.items():
        case, sizes = program.case, SIZES[name.split("-")[0]]
        saving.save(program, folder / f"{name}.dynpt")
        torch.save([case.example(size, seed=1) for size in sizes], folder / f"{name}.inputs.pt")
        outside = case.example({**case.sizes(sizes[-1]), "batch": case.dims["batch"].max + 1})
        torch.save(outside, folder / f"{name}.refused.pt")
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "HOME": str(folder), "PATH": ""}
    command = [sys.executable, "-P", str(ROOT / "tests" / "builds" / "fresh.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "outdated pt2" not in done.stderr  # what torch says before it tries again
    return folder


def answers(folder):
    return json.loads((folder / "answer.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("key", PROGRAMS, ids="-".join)
def test_a_program_is_the_same_in_another_process(key, programs, elsewhere):
    name = "-".join(key)
    if name not in programs:
        pytest.skip(status(key[2]).reason)
    program, answer = programs[name], answers(elsewhere)["programs"][name]
    inputs, outputs = (torch.load(elsewhere / f"{name}.{kind}.pt") for kind in ("inputs", "outputs"))
    reference = Reference(program.case)
    for given, output in zip(inputs, outputs, strict=True):
        assert output.dtype == program.case.inputs[0].dtype
        assert not output.requires_grad
        assert reference.compare(output, given).agrees
    batch = program.case.dims["batch"]
    said = f"batch is {batch.max + 1} on x; this program was built for {batch.min} to {batch.max}"
    assert answer["refused"].startswith(said)
    report = answer["report"]
    assert report["notes"][0].startswith("loaded from ")
    assert f"built on {program.build.device}, saved 20" in report["notes"][0]
    assert {**report, "notes": []} == json.loads(json.dumps(program.build.to_dict()))
    assert answer["repr"].startswith(f"<Loaded {report['case']}: {key[1]} with {key[2]}, batch 1/")
    assert answers(elsewhere)["left"] == []


# ---- this process -----------------------------------------------------------------------------------------------


@pytest.fixture
def program(built, seed):
    return built("export", "eager", seed)


@pytest.fixture
def saved(program, tmp_path, own_temporary_folder):
    saving.save(program, tmp_path / "seed.dynpt")
    return tmp_path / "seed.dynpt"


def test_a_file_replaces_the_one_before(program, saved, built, masked, tmp_path):
    saving.save(built("export", "eager", masked), str(saved))
    assert saving.load(str(saved)).build.case == "masked"
    assert {file.name for file in tmp_path.iterdir()} == {"seed.dynpt", "temporary"}
    assert temporary_folders() == set()


def test_the_guard_in_front_is_the_same(program, saved):
    loaded = saving.load(saved)
    (x,) = program.case.example(4)
    for wrong in ((x.double(),), (x[:, :3],), (x[0],), (x, x), (x.mT.contiguous().mT,), (None,), (x.to("meta"),)):
        with pytest.raises(ShapeError) as here:
            program(*wrong)
        with pytest.raises(ShapeError) as there:
            loaded(*wrong)
        assert str(there.value) == str(here.value)
    with pytest.raises(OutOfRange):
        loaded(*program.case.example(9))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_a_loaded_program_runs_without_gradients_in_every_mode(program, saved, mode):
    inputs = program.case.example(3)
    with mode():
        output = saving.load(saved)(*inputs)
    assert not output.requires_grad
    assert not output.is_inference()


def test_precision_stays_with_the_program(seed, tmp_path, monkeypatch):
    saving.save(PATHS["export"](seed.in_precision("fp32"), "eager"), tmp_path / "seed.dynpt")
    monkeypatch.setattr(precision, "allows_tf32", lambda name, device: name == "tf32")
    monkeypatch.setattr(saving, "_loaded", lambda *_: lambda x: torch.backends.cuda.matmul.allow_tf32)
    loaded = saving.load(tmp_path / "seed.dynpt")
    with precision.tf32(True):
        assert loaded(*seed.example(4)) is False
        assert torch.backends.cuda.matmul.allow_tf32


@pytest.mark.slow
def test_temporary_folders_last_as_long_as_their_programs(inductor, tmp_path, own_temporary_folder):
    case = Case("linear", nn.Linear(4, 3), (TensorSpec("input", (DynamicDim("batch", 2, 3, 4), 4)),))
    program, file = PATHS["export"](case, inductor), tmp_path / "linear.dynpt"
    of_program = temporary_folders()
    assert any(name.startswith("tutorial_lib-") for name in of_program)
    saving.save(program, file)
    assert temporary_folders() == of_program
    del program
    gc.collect()
    assert temporary_folders() == set()
    loaded = saving.load(file)
    assert all(name.startswith("aotinductor_") for name in temporary_folders())
    file.unlink()
    assert loaded(*case.example(3)).shape[0] == 3
    del loaded
    gc.collect()
    assert temporary_folders() == set()


@pytest.mark.slow
def test_no_temporary_folder_is_left_by_a_build_that_fails(seed, inductor, own_temporary_folder, monkeypatch):
    folders = []

    def fails(exported, package_path):
        folders.append(Path(package_path).parent)
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fails)
    with pytest.raises(BuildError, match="the disk is on fire"):
        PATHS["input"](seed, inductor)
    gc.collect()
    assert folders  # two where the build is tried again without freezing
    assert temporary_folders() == set()


# ---- what cannot be saved ---------------------------------------------------------------------------------------


def not_saved(program, path):
    before = sorted(path.parent.iterdir()) if path.parent.is_dir() else None
    with pytest.raises(saving.ArtefactError) as refused:
        saving.save(program, path)
    said = str(refused.value)
    assert "\n" not in said
    assert said.endswith(".")
    assert temporary_folders() == set()
    assert before == (sorted(path.parent.iterdir()) if path.parent.is_dir() else None)
    return said


def test_what_no_path_built_ahead_of_time_cannot_be_saved(program, saved, built, seed):
    said = not_saved(built("jit", "eager", seed), saved)
    assert "build with paths.export or paths.input" in said
    assert "copy the file" in not_saved(saving.load(saved), saved)
    assert "a Linear cannot be saved; give what a path returned" in not_saved(torch.nn.Linear(1, 1), saved)


@pytest.mark.parametrize("place", ["missing/seed.dynpt", "temporary", "file/seed.dynpt"])
def test_a_place_that_cannot_be_written_is_one_sentence(program, place, tmp_path, own_temporary_folder):
    (tmp_path / "file").touch()
    assert f"{tmp_path / place} could not be written (" in not_saved(program, tmp_path / place)


def test_a_disk_that_is_full_leaves_the_old_file(program, saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(zipfile.ZipFile, "writestr", FULL_DISK)
    assert "No space left on device" in not_saved(program, saved)
    assert saved.read_bytes() == before


def test_a_disk_that_fails_under_torch_leaves_the_old_file(program, saved):
    before, limits = saved.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        said = not_saved(program, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "could not be written (File too large)" in said
    assert saved.read_bytes() == before


# ---- what is refused before anything of it runs -----------------------------------------------------------------


@pytest.fixture
def refused(saved, monkeypatch):
    """``refused(content)``: the sentence with which a file of that content is refused, before anything is loaded."""
    loads = []
    for module, name in ((torch.export, "load"), (inductor_module, "load"), (tensorrt, "load")):
        monkeypatch.setattr(module, name, lambda *_: loads.append(1))

    def check(content):
        saved.write_bytes(content)
        before = sorted(saved.parent.iterdir())
        with pytest.raises(saving.ArtefactError) as raised:
            saving.load(saved)
        assert not loads
        assert temporary_folders() == set()
        assert sorted(saved.parent.iterdir()) == before
        said = str(raised.value)
        assert "\n" not in said
        assert said.startswith(str(saved))
        assert said.endswith(".")
        return said.removeprefix(f"{saved} ")

    return check


def members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(contents, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def signed(contents):
    """The same members with digests that fit."""
    sums = [f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in ("program.pt2", "about.json")]
    return packed({**contents, "SHA256SUMS": "".join(sums)})


MISSING = object()


def told(saved, changes):
    """The file with other values in ``about.json``, each by its place, and digests that fit."""
    contents = members(saved.read_bytes())
    metadata = json.loads(contents["about.json"])
    for place, value in changes.items():
        holder, keys = metadata, [int(key) if key.isdigit() else key for key in place.split(".")]
        for key in keys[:-1]:
            holder = holder[key]
        holder[keys[-1]] = value
        if value is MISSING:
            del holder[keys[-1]]
    return signed({**contents, "about.json": json.dumps(metadata).encode()})


def test_digests_are_those_of_sha256sum(saved):
    contents = members(saved.read_bytes())
    lines = contents.pop("SHA256SUMS").decode().splitlines()
    assert len(lines) == len(contents) == 2
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256(contents[name]).hexdigest() == digest


@pytest.mark.parametrize("length", [0, 4, 100, 0.5, -1, -300])
def test_a_file_that_is_cut_off_is_refused(saved, refused, length):
    content = saved.read_bytes()
    said = refused(content[: int(length * len(content)) if isinstance(length, float) else length])
    assert said.startswith("is damaged (" if length not in (0, 4) else "is not an artefact;")


def test_a_flipped_byte_is_refused_wherever_it_lies_or_changes_nothing(saved, monkeypatch):
    loaded = []
    monkeypatch.setattr(saving, "_loaded", lambda file, backend, device: loaded.append(file.read_bytes()))
    content = saved.read_bytes()
    expected, size = members(content)["program.pt2"], len(content)
    places = {*range(0, 120, 5), *range(0, size, size // 60), *range(size - 260, size, 5)}
    harmless = 0
    for place in sorted(places):
        saved.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            saving.load(saved)
        except saving.ArtefactError:
            continue
        harmless += 1  # such as a date in a zip header
    assert len(places) > 2 * harmless
    assert loaded == [expected] * harmless
    assert temporary_folders() == set()


def test_content_that_was_changed_with_its_checksum_is_refused(saved, refused):
    contents = members(saved.read_bytes())
    program = bytearray(contents["program.pt2"])
    program[len(program) // 2] ^= 1
    wider = contents["about.json"].replace(b'"max": 8', b'"max": 9')
    assert wider != contents["about.json"]
    for name, content in {"program.pt2": bytes(program), "about.json": wider}.items():
        said = refused(packed({**contents, name: content}))
        assert f"the digest of {name} is not the one that was noted" in said


@pytest.mark.parametrize("schema", [0, 3, "1", None, []])
def test_an_unknown_schema_is_refused_whatever_else_is_there(saved, refused, schema):
    said = refused(packed({"about.json": json.dumps({"schema": schema}), "../x": "x"}))
    assert f"has schema {schema!r}" in said


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_metadata_that_cannot_be_read_are_refused(saved, refused, content):
    said = refused(signed({**members(saved.read_bytes()), "about.json": content}))
    assert "damaged" in said or "schema" in said


def test_another_kind_of_file_is_refused(saved, refused):
    program = members(saved.read_bytes())["program.pt2"]
    for content in (b"\x80\x04K\x01." * 100, program):  # the second is a zip archive, too
        assert "is not an artefact; give a file that saving.save wrote" in refused(content)


@pytest.mark.parametrize("missing", ["SHA256SUMS", "program.pt2"])
def test_a_missing_member_is_refused(saved, refused, missing):
    contents = members(saved.read_bytes())
    del contents[missing]
    assert "damaged (it holds " in refused(packed(contents))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["../x", "/tmp/x", "program.pt2/../../x", "program.pt2"])
def test_a_member_that_is_none_of_ours_or_there_twice_is_refused(saved, refused, name):
    file = io.BytesIO(saved.read_bytes())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, b"x")
    assert f"program.pt2, {name})" in refused(file.getvalue())


def test_a_compressed_member_is_refused_since_it_may_be_larger_than_any_disk(saved, refused):
    assert "is compressed" in refused(packed(members(saved.read_bytes()), zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("path", ["missing", "temporary"])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, own_temporary_folder, path):
    with pytest.raises(saving.ArtefactError, match=r"cannot be read \(.*give a file that saving.save wrote\.$"):
        saving.load(tmp_path / path)


def test_no_room_to_unpack_is_one_sentence_that_does_not_blame_the_file(saved, refused, monkeypatch):
    monkeypatch.setattr(saving, "_extract_from", FULL_DISK)
    assert "could not be unpacked (No space left on device); make room" in refused(saved.read_bytes())


NO_DEVICE = f"cuda:{torch.cuda.device_count()}"


@pytest.mark.parametrize(
    ("backend", "place", "value", "said"),
    [
        ("inductor", "build.versions.torch", "2.13.99", "with torch 2.13.99, and here is "),
        ("eager", "build.versions.torch", "2.0.1+cpu", "with torch 2.0.1, and here is "),
        ("tensorrt", "build.versions.torch-tensorrt", "2.13.99", "with torch-tensorrt 2.13.99, and here is "),
        ("tensorrt", "build.versions.tensorrt", "10.0.0", "with tensorrt 10.0.0, and here is "),
        ("eager", "device", NO_DEVICE, f"for {NO_DEVICE} ("),
        ("inductor", "machine.instructions", ["avx9000"], "for a CPU with avx9000, which this one lacks"),
        ("inductor", "machine.system", "darwin arm64", "for darwin arm64, and this is "),
    ],
)
def test_what_was_built_for_another_machine_or_version_is_refused_with_what_to_do(
    saved, refused, backend, place, value, said
):
    message = refused(told(saved, {"build.backend": backend, place: value}))
    assert message.startswith(f"was built {said}")
    assert "; build it again here with paths.export(case, " in message


def test_another_gpu_is_refused(saved, refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    on_ampere = {"device": "cuda:0", "build.backend": "inductor", "machine.compute_capability": [8, 0]}
    assert "was built for a GPU of compute capability 8.0, and this one has 9.0;" in refused(told(saved, on_ampere))


def test_tensorrt_that_is_not_here_is_refused_with_its_reason(saved, refused):
    if tensorrt.why_not(torch.device("cpu")) is None:
        pytest.skip("tensorrt works on a CPU here")
    assert "was built by tensorrt, and here " in refused(told(saved, {"build.backend": "tensorrt"}))


def test_another_build_of_the_same_torch_may_load_it_and_another_processor_where_no_native_code_is(saved):
    version = f"{torch.__version__.split('+')[0]}+cu999"
    saved.write_bytes(told(saved, {"build.versions.torch": version, "machine.system": "darwin arm64"}))
    assert saving.load(saved).build.versions["torch"] == version


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("saved", MISSING),
        ("device", "abc"),
        ("device", 5.5),
        ("precision", "fp8"),
        ("inputs", None),
        ("inputs.0.dtype", "load"),
        ("inputs.0.dtype", 7),
        ("inputs.0.name", "not a name"),
        ("inputs.0.shape.0.max", 2),
        ("machine", []),
        ("build", None),
        ("build.backend", "xla"),
        ("build.surprise", 1),
    ],
)
def test_metadata_that_mean_nothing_are_refused(saved, refused, place, value):
    assert "is damaged (about.json cannot be understood: " in refused(told(saved, {place: value}))


@pytest.mark.slow
def test_code_that_cannot_be_loaded_is_one_sentence_and_leaves_nothing(built, seed, inductor, request, tmp_path):
    file = tmp_path / "seed.dynpt"
    saving.save(built("export", inductor, seed), file)  # before there is another temporary folder
    request.getfixturevalue("own_temporary_folder")
    contents = members(file.read_bytes())
    code = members(contents["program.pt2"])
    broken = packed({name: b"?" if name.endswith(".so") else content for name, content in code.items()})
    file.write_bytes(signed({**contents, "program.pt2": broken}))
    with pytest.raises(saving.ArtefactError, match=r"could not be loaded by inductor \(RuntimeError: .*build it") as e:
        saving.load(file)
    assert "\n" not in str(e.value)
    assert temporary_folders() == set()


class Scores(dict):
    """What a library's models return, known to pytree where that library is imported."""


pytree.register_pytree_node(
    Scores,
    lambda scores: (list(scores.values()), list(scores)),
    lambda values, names: Scores(zip(names, values, strict=True)),
    serialized_type_name="tests.Scores",
)


class ReturnsScores(nn.Module):
    def forward(self, x):
        return {"inner": (Scores(doubled=x * 2), x)}


def test_a_result_that_only_a_library_can_make_is_refused_at_save(tmp_path):
    case = Case("scores", ReturnsScores(), (TensorSpec("x", (DynamicDim("batch", 1, 2, 4), 3)),))
    program = PATHS["export"](case, "eager")
    assert isinstance(program(torch.ones(2, 3))["inner"][0], Scores)
    with pytest.raises(saving.ArtefactError, match=r"returns a .*Scores, .* tuple or a dict"):
        saving.save(program, tmp_path / "scores.dynpt")
    assert list(tmp_path.iterdir()) == []
