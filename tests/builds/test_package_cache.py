"""Packages that are kept for another kernel: found when they are the same, refused when in doubt, never in the way."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, Case, DynamicDim, TensorSpec, expand_reshape, status
from tutorial_lib.builds import backends, package_cache
from tutorial_lib.builds.backends import inductor as inductor_module

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
AHEAD = ("input", "export")
NAME = "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of packages of this test alone."""
    status("inductor")  # what it finds out of the compiler is remembered in the folder of all tests
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packages"


@pytest.fixture
def compiler(inductor, monkeypatch):
    """Inductor ahead of time without its compiler: a list of the packages that were compiled, each of which loads."""
    programs = []

    def package(exported, package_path):
        programs.append(exported.module())
        Path(package_path).write_bytes(b"package %d" % (len(programs) - 1))

    def load(file, run_single_threaded):
        program = programs[int(Path(file).read_bytes().split()[1])]
        program.loader = SimpleNamespace(get_metadata=dict)
        return program

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", package)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", load)
    monkeypatch.setattr(inductor_module, "library_calls", lambda file: ())
    return programs


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 12).view(4, 3))
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("shift", torch.tensor([0.5]), persistent=False)

    def forward(self, x):
        return torch.relu(x @ self.weight) * self.scale + self.shift


def small(model=None, batch=(1, 4, 8), dtype=torch.float32):
    return Case("small", (model or Small()).to(dtype), (TensorSpec("x", (DynamicDim("batch", *batch), 4), dtype),))


def build(case=None, path="export", policy="reuse", **options):
    with package_cache.policy(policy):
        return PATHS[path](case or small(), "inductor", options)


def put(name=NAME, content=b"code", tmp=None):
    """Keep a file as a package; where it lies."""
    source = tmp or Path(os.environ["TUTORIAL_LIB_CACHE"]).parent / "source.pt2"
    source.write_bytes(content)
    assert package_cache.keep(name, source, 1.5) is None
    return package_cache._folder() / f"{name}.pt2"


# ---- policies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", AHEAD)
def test_nothing_is_kept_unless_asked_for(path, compiler, folder):
    program = PATHS[path](small(), "inductor")
    assert package_cache.current_policy() == "off"
    assert not folder.exists()
    assert program.build.reused is None
    build(path=path, policy="off")
    assert not folder.exists()
    assert len(compiler) == 2


@pytest.mark.parametrize("path", AHEAD)
def test_reuse_compiles_once_and_says_when(path, compiler, folder, agrees):
    first, second = build(path=path), build(path=path)
    assert len(compiler) == 1
    assert first.build.reused is None
    assert second.build.reused.startswith("built 20")
    assert second.build.reused.endswith(" s, found on disk")
    assert len(second.build.engines) == 1
    assert second.build.artefact_bytes == first.build.artefact_bytes == len(b"package 0")
    assert all(agrees(second, size) for size in (1, 8))


def test_off_does_not_look_at_what_is_kept(compiler):
    build()
    assert build(policy="off").build.reused is None
    assert len(compiler) == 2


def test_input_and_export_have_packages_of_their_own(compiler, folder):
    for path in AHEAD:
        assert build(path=path).build.reused is None
    assert len(list(folder.glob("*.pt2"))) == 2
    assert all(build(path=path).build.reused for path in AHEAD)


def test_fresh_builds_again_without_torchs_caches_and_replaces_what_was_kept(compiler, folder, monkeypatch):
    disabled, package = [], torch._inductor.aoti_compile_and_package

    def watched(*arguments, **keywords):
        disabled.append(torch._inductor.config.force_disable_caches)
        return package(*arguments, **keywords)

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", watched)
    build()
    assert build(policy="fresh").build.reused is None
    assert disabled == [False, True]
    (file,) = folder.glob("*.pt2")
    assert file.read_bytes() == b"package 1"
    assert build().build.reused
    assert len(compiler) == 2


def test_a_policy_lasts_as_long_as_its_block_even_if_that_raises():
    def fails():
        assert package_cache.current_policy() == "fresh"
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"), package_cache.policy("reuse"), package_cache.policy("fresh"):
        fails()
    assert package_cache.current_policy() == "off"
    with pytest.raises(ValueError, match=r"the policy is 'on'; use off, reuse, fresh\."), package_cache.policy("on"):
        pass


def test_eager_keeps_nothing(folder):
    with package_cache.policy("reuse"):
        assert PATHS["export"](small(), "eager").build.reused is None
    assert not folder.exists()


def test_a_failed_build_is_not_kept(compiler, folder, monkeypatch):
    def fails(exported, package_path):
        raise RuntimeError("boom")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fails)
    with pytest.raises(RuntimeError, match="boom"):
        build()
    assert not folder.exists()


# ---- the key ----------------------------------------------------------------------------------------------------


def key(case, path="export", **options):
    settings = backends.settings("inductor", case.device, {"freezing": False, **options})
    with inductor_module.patched(settings):
        example = case.example(case.traced)
        dims = {"x": {0: torch.export.Dim("batch", min=case.dims["batch"].min, max=case.dims["batch"].max)}}
        return package_cache.key(path, torch.export.export(case.model, example, dynamic_shapes=dims), case, settings)


def changed(**values):
    model = Small()
    with torch.no_grad():
        for name, (place, value) in values.items():
            getattr(model, name).reshape(-1)[place] = value
    return small(model)


class Constant(Small):
    def __init__(self, constant):
        super().__init__()
        self.constant = constant

    def forward(self, x):
        return super().forward(x) + self.constant


class Branches(Small):
    def __init__(self, constant):
        super().__init__()
        self.constant = constant

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x * self.constant, lambda x: x - 1, (x,))


CHANGES = {
    "opt": lambda: key(small(batch=(1, 5, 8))),
    "max": lambda: key(small(batch=(1, 4, 9))),
    "min": lambda: key(small(batch=(2, 4, 8))),
    "path": lambda: key(small(), "input"),
    "an option": lambda: key(small(), max_autotune=True),
    "an option's value": lambda: key(small(), freezing=True),
    "one weight": lambda: key(changed(weight=(5, 0.25))),
    "one weight by the smallest step": lambda: key(changed(weight=(0, -1 + 2**-24))),
    "a buffer": lambda: key(changed(scale=(0, 3.0))),
    "a buffer that is not saved": lambda: key(changed(shift=(0, 3.0))),
    "dtype": lambda: key(small(dtype=torch.bfloat16)),
    "the code": lambda: key(small(Constant(1.0))),
}


@pytest.fixture
def same():
    return key(small())


def test_the_key_of_the_same_is_the_same(same, inductor):
    assert key(small()) == same
    assert len(same) == 32


@pytest.mark.parametrize("change", CHANGES)
def test_the_key_changes_with(change, same, inductor):
    assert CHANGES[change]() != same


@pytest.mark.parametrize("model", [Constant, Branches])
def test_the_key_changes_with_a_constant_in_the_code(model, inductor):
    assert key(small(model(1.5))) == key(small(model(1.5)))
    assert key(small(model(1.5))) != key(small(model(1.5 + 2**-52)))


def test_the_key_changes_with_a_constant_tensor_in_the_code(inductor):
    class Added(Small):
        def __init__(self, last):
            super().__init__()
            self.added = torch.tensor([1.0, 2.0, last])

        def forward(self, x):
            return super().forward(x) + self.added

    assert key(small(Added(3.0))) == key(small(Added(3.0)))
    assert key(small(Added(3.0))) != key(small(Added(4.0)))


class Weightless(nn.Module):
    def forward(self, x):
        return torch.relu(x) + 1


def test_the_key_changes_with_what_the_code_of_a_model_without_weights_does_not_say(inductor):
    batch = DynamicDim("batch", 1, 4, 8)
    specs = [
        ((batch, 4), torch.float32),
        ((batch, 5), torch.float32),
        ((batch, 4), torch.float64),
        ((batch, 4, 1), torch.float32),
    ]
    assert len({key(Case("weightless", Weightless(), (TensorSpec("x", *spec),))) for spec in specs}) == len(specs)


@pytest.mark.parametrize("what", ["versions", "device_name"])
def test_the_key_changes_with_the_machine_and_the_versions(what, same, inductor, monkeypatch):
    monkeypatch.setattr(package_cache.report, what, lambda *_: "another")
    assert key(small()) != same


def test_the_key_changes_with_the_compiler_and_the_processor(same, inductor, monkeypatch):
    monkeypatch.setattr(package_cache, "_compiler_version", lambda compiler: ("another",))
    assert key(small()) != same
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    assert key(small()) != same


def test_a_changed_weight_is_compiled_and_not_taken_from_disk(compiler, agrees):
    build()
    other = build(changed(weight=(0, 5.0)))
    assert other.build.reused is None
    assert agrees(other, 3)


# ---- what is not used -------------------------------------------------------------------------------------------


def tampered(file):
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(bytes(content))


def linked(file):
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))


def foreign(file):
    about = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps({**about, "sha256": "0" * 64}))


WRONG = {
    "a byte that changed": tampered,
    "half a file": lambda file: file.write_bytes(file.read_bytes()[:3]),
    "no file": lambda file: file.unlink(),
    "no description": lambda file: file.with_suffix(".json").unlink(),
    "half a description": lambda file: file.with_suffix(".json").write_text('{"sha256": "'),
    "an empty description": lambda file: file.with_suffix(".json").write_text(""),
    "a description that is a list": lambda file: file.with_suffix(".json").write_text("[]"),
    "a description that is no text": lambda file: file.with_suffix(".json").write_bytes(b"\xff\xfe"),
    "a description that lacks the time": lambda file: file.with_suffix(".json").write_text(
        json.dumps({"sha256": package_cache._digest(file)})
    ),
    "another digest": foreign,
    "a link": linked,
    "a link as description": lambda file: linked(file.with_suffix(".json")),
    "a file that the group may write": lambda file: file.chmod(0o660),
    "a description that others may write": lambda file: file.with_suffix(".json").chmod(0o602),
    "a folder that the group may write": lambda file: file.parent.chmod(0o770),
    "a folder that others may write": lambda file: file.parent.chmod(0o707),
    "a folder in place of the file": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_package_is_not_used_with(wrong, folder):
    file = put()
    assert package_cache.find(NAME).file == file
    WRONG[wrong](file)
    assert package_cache.find(NAME) is None


@pytest.mark.parametrize("wrong", WRONG)
def test_a_build_goes_on_with(wrong, compiler, folder, agrees):
    build()
    WRONG[wrong](next(folder.glob("*.pt2")))
    program = build()
    assert program.build.reused is None
    assert len(compiler) == 2
    assert agrees(program, 5)


def test_a_package_of_another_user_is_not_used(monkeypatch):
    put()
    if not hasattr(os, "geteuid"):
        pytest.skip("this system knows no users")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert package_cache.find(NAME) is None


def test_a_folder_that_others_may_write_to_gets_no_packages(compiler, folder):
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    program = build()
    assert [note for note in program.build.notes if "kept" in note] == [
        f"not kept for another kernel: others may write to {folder}"
    ]
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_gives_a_note_and_no_error(compiler, tmp_path, monkeypatch, agrees):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "file"))
    program = build()
    (note,) = (note for note in program.build.notes if "kept" in note)
    assert note.startswith("not kept for another kernel: Not a directory")
    assert agrees(program, 5)


def test_a_full_disk_gives_a_note_and_leaves_no_half_file(compiler, folder, monkeypatch):
    def full(source, target):
        target.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(package_cache.shutil, "copyfileobj", full)
    assert any("No space left on device" in note for note in build().build.notes)
    assert list(folder.iterdir()) == []


def test_what_is_kept_is_open_to_its_user_alone(compiler, folder):
    build()
    assert folder.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())
    assert sorted(file.suffix for file in folder.iterdir()) == [".json", ".pt2"]


# ---- room -------------------------------------------------------------------------------------------------------


def names(folder):
    return sorted(file.stem for file in folder.glob("[!.]*.pt2"))


def aged(file, seconds):
    os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns - int(seconds * 1e9)))


def test_what_was_used_longest_ago_goes_first(folder, monkeypatch):
    monkeypatch.setattr(package_cache, "LARGEST", 30)
    for age, name in ((300, "a"), (200, "b"), (100, "c")):
        aged(put(name, bytes(10)), age)
    assert names(folder) == ["a", "b", "c"]
    assert package_cache.find("a")  # used, so no longer the oldest
    aged(put("d", bytes(10)), 50)
    assert names(folder) == ["a", "c", "d"]
    assert sorted(file.stem for file in folder.glob("*.json")) == ["a", "c", "d"]
    put("e", bytes(20))
    assert names(folder) == ["a", "e"]


def test_the_newest_is_kept_however_large(folder, monkeypatch):
    monkeypatch.setattr(package_cache, "LARGEST", 5)
    aged(put("a"), 100)
    put("b", bytes(10))
    assert names(folder) == ["b"]
    assert package_cache.find("b")


def test_a_file_of_a_kernel_that_died_while_writing_does_not_count(folder, monkeypatch):
    put("a", bytes(10))
    (folder / ".b-123.pt2").write_bytes(bytes(1000))
    monkeypatch.setattr(package_cache, "LARGEST", 20)
    put("c", bytes(10))
    assert names(folder) == ["a", "c"]
    assert (folder / ".b-123.pt2").exists()  # somebody may still be writing it
    aged(folder / ".b-123.pt2", package_cache.ABANDONED + 60)
    put("d", bytes(10))
    assert not (folder / ".b-123.pt2").exists()


def test_a_package_may_go_while_another_process_makes_room(folder, monkeypatch):
    monkeypatch.setattr(package_cache, "LARGEST", 10)
    aged(put("a", bytes(5)), 100)
    stat = Path.stat

    def vanishes(path, **how):
        if path.name == "a.pt2":
            path.unlink(missing_ok=True)
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", vanishes)
    put("b", bytes(5))
    assert names(folder) == ["b"]
    assert package_cache.find("b")


# ---- the real thing ---------------------------------------------------------------------------------------------

ELSEWHERE = """
import json, sys, torch
from tutorial_lib import PATHS, Reference, expand_reshape
from tutorial_lib.builds import package_cache
case = expand_reshape(batch=(1, 4, 8), embed_dim=48, tokens=7)
with package_cache.policy("reuse"):
    program = PATHS["export"](case, "inductor", {"freezing": False})
reference = Reference(case)
agrees = [reference.compare(program(*inputs), inputs).agrees for inputs in (case.example(size) for size in range(1, 9))]
print(json.dumps({"reused": program.build.reused, "agrees": agrees, "seconds": program.build.seconds}))
"""


def test_a_package_is_found_by_another_process_and_is_right_over_its_range(inductor, folder):
    case = expand_reshape(batch=(1, 4, 8), embed_dim=48, tokens=7)
    with package_cache.policy("reuse"):
        program = PATHS["export"](case, inductor, {"freezing": False})
    assert program.build.reused is None
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["reused"].startswith("built 20")
    assert found["agrees"] == [True] * 8


def test_jit_says_what_was_found_in_inductors_own_cache(inductor, agrees):
    case = small(Constant(0.125), batch=(2, 4, 8))
    PATHS["jit"](case, inductor, {"freezing": False})
    again = PATHS["jit"](case, inductor, {"freezing": False})
    assert again.build.reused == "generated code found in Inductor's cache on disk"
    assert agrees(again, 7)
    with package_cache.policy("fresh"):
        assert PATHS["jit"](case, inductor, {"freezing": False}).build.reused is None
