"""Packages stored for another kernel: found when they are the same, refused when in doubt, never in the way."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, Case, DynamicDim, TensorSpec, expand_reshape, status
from tutorial_lib.builds import backends, package_cache
from tutorial_lib.builds.backends import inductor as inductor_module

ROOT = Path(__file__).parents[2]
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
    monkeypatch.setattr(inductor_module, "packing_gain", lambda threads: 0.0)
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


def put(name=NAME, content=b"code"):
    """Keep a file as a package; where it lies."""
    source = Path(os.environ["TUTORIAL_LIB_CACHE"]).parent / "source.pt2"
    source.write_bytes(content)
    assert package_cache.keep(name, source, 1.5) is None
    return package_cache._folder() / f"{name}.pt2"


def test_nothing_is_stored_or_looked_for_unless_asked_for(compiler, folder):
    assert package_cache.current_policy() == "off"
    assert PATHS["export"](small(), "inductor").build.reused is None
    assert build(policy="off").build.reused is None
    assert not folder.exists()


def test_reuse_compiles_each_path_once_and_says_when(compiler, folder, agrees):
    for path in ("input", "export"):
        first, second = build(path=path), build(path=path)
        assert first.build.reused is None
        assert second.build.reused.startswith("built 20")
        assert second.build.reused.endswith(" s, found on disk")
        assert len(second.build.engines) == 1
        assert second.build.artefact_bytes == first.build.artefact_bytes == len(b"package 0")
        assert all(agrees(second, size) for size in (1, 8))
    assert len(compiler) == len(list(folder.glob("*.pt2"))) == 2
    assert build(policy="off").build.reused is None
    changed_weight = build(changed("weight", 0, 5.0))
    assert changed_weight.build.reused is None
    assert agrees(changed_weight, 3)


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
    with pytest.raises(ZeroDivisionError), package_cache.policy("reuse"), package_cache.policy("fresh"):
        assert package_cache.current_policy() == 1 / 0
    assert package_cache.current_policy() == "off"
    with pytest.raises(ValueError, match="use off, reuse, fresh"), package_cache.policy("on"):
        pass


def test_a_case_may_have_any_name(compiler):
    case = small()
    assert build(Case("a name / with a slash", case.model, case.inputs)).build.case == "a name / with a slash"


def test_a_failed_build_is_not_stored(compiler, folder, monkeypatch):
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", mock.Mock(side_effect=RuntimeError("boom")))
    with pytest.raises(RuntimeError, match="boom"):
        build()
    assert not folder.exists()


def keys_of(case, path="export", **options):
    """A function that gives the key of a case as it is exported now."""
    settings = backends.settings("inductor", case.device, {"freezing": False, **options})
    with inductor_module.patched(settings):
        example = case.example(case.traced)
        dims = {"x": {0: torch.export.Dim("batch", min=case.dims["batch"].min, max=case.dims["batch"].max)}}
        exported = torch.export.export(case.model, example, dynamic_shapes=dims)

    def key():
        with inductor_module.patched(settings):
            return package_cache.key(path, exported, case, settings)

    return key


def key(*arguments, **options):
    return keys_of(*arguments, **options)()


def changed(name, index, value):
    model = Small()
    with torch.no_grad():
        getattr(model, name).reshape(-1)[index] = value
    return small(model)


class Constant(Small):
    def __init__(self, constant):
        super().__init__()
        self.constant = constant

    def forward(self, x):
        return super().forward(x) + self.constant


class Branches(Constant):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x * self.constant, lambda x: x - 1, (x,))


class Weightless(nn.Module):
    def forward(self, x):
        return torch.relu(x) + 1


def weightless(*shape, dtype=torch.float32):
    """A model whose code does not say what its inputs are."""
    return Case("weightless", Weightless(), (TensorSpec("x", (DynamicDim("batch", 1, 4, 8), *shape), dtype),))


KEYS = {
    "the same": lambda: key(small()),
    "opt": lambda: key(small(batch=(1, 5, 8))),
    "max": lambda: key(small(batch=(1, 4, 9))),
    "min": lambda: key(small(batch=(2, 4, 8))),
    "path": lambda: key(small(), "input"),
    "an option": lambda: key(small(), max_autotune=True),
    "an option's value": lambda: key(small(), freezing=True),
    "one weight": lambda: key(changed("weight", 5, 0.25)),
    "one weight by the smallest step": lambda: key(changed("weight", 0, -1 + 2**-24)),
    "a buffer": lambda: key(changed("scale", 0, 3.0)),
    "a buffer that is not saved": lambda: key(changed("shift", 0, 3.0)),
    "dtype": lambda: key(small(dtype=torch.bfloat16)),
    "the code": lambda: key(small(Constant(1.5))),
    "a constant in the code": lambda: key(small(Constant(1.5 + 2**-52))),
    "a branch": lambda: key(small(Branches(1.5))),
    "a constant in a branch": lambda: key(small(Branches(1.5 + 2**-52))),
    "a constant tensor": lambda: key(small(Constant(torch.tensor([1.0, 2.0, 3.0])))),
    "a value of it": lambda: key(small(Constant(torch.tensor([1.0, 2.0, 4.0])))),
    "another model": lambda: key(weightless(4)),
    "its size": lambda: key(weightless(5)),
    "its dtype": lambda: key(weightless(4, dtype=torch.float64)),
    "its rank": lambda: key(weightless(4, 1)),
}


def test_each_of_these_has_a_key_of_its_own_and_always_the_same(inductor):
    keys = {name: make() for name, make in KEYS.items()}
    assert len(set(keys.values())) == len(keys)
    for name in ("the same", "a constant tensor", "a branch"):
        assert KEYS[name]() == keys[name]


def test_the_key_changes_with_the_machine_and_the_versions(inductor, monkeypatch):
    key = keys_of(small())
    keys = {key()}
    facts = (
        (package_cache.report, "versions"),
        (package_cache.report, "device_name"),
        (package_cache, "_compiler_version"),
        (torch.backends.cpu, "get_cpu_capability"),
    )
    for owner, function in facts:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(owner, function, lambda *_: "another")
            keys.add(key())
    assert len(keys) == 1 + len(facts)


def tampered(file):
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(bytes(content))


def linked(file):
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))


def described(file, content):
    file.with_suffix(".json").write_bytes(content)


WRONG = {
    "a byte that changed": tampered,
    "half a file": lambda file: file.write_bytes(file.read_bytes()[:3]),
    "no file": lambda file: file.unlink(),
    "no description": lambda file: file.with_suffix(".json").unlink(),
    "half a description": lambda file: described(file, b'{"sha256": "'),
    "a description that is a list": lambda file: described(file, b"[]"),
    "a description that is no text": lambda file: described(file, b"\xff\xfe"),
    "a description that lacks the time": lambda file: described(
        file, json.dumps({"sha256": package_cache._digest(file)}).encode()
    ),
    "a link": linked,
    "a link as description": lambda file: linked(file.with_suffix(".json")),
    "a file that the group may write": lambda file: file.chmod(0o660),
    "a description that others may write": lambda file: file.with_suffix(".json").chmod(0o602),
    "a folder that the group may write": lambda file: file.parent.chmod(0o770),
    "a folder in place of the file": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_package_is_not_used_with(wrong, folder):
    file = put()
    assert package_cache.find(NAME).file == file
    WRONG[wrong](file)
    assert package_cache.find(NAME) is None


@pytest.mark.parametrize("wrong", ["half a file", "a folder in place of the file"])
def test_a_build_goes_on_with(wrong, compiler, folder, agrees):
    build()
    WRONG[wrong](next(folder.glob("*.pt2")))
    program = build()
    assert program.build.reused is None
    assert len(compiler) == 2
    assert agrees(program, 5)


def test_a_package_of_another_user_is_not_used(monkeypatch):
    put()
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)
    assert package_cache.find(NAME) is None


def not_kept(program):
    (note,) = (note for note in program.build.notes if "kept" in note)
    return note.removeprefix("not kept for another kernel: ")


def test_packages_are_open_to_their_user_alone_and_not_kept_where_others_may_write(compiler, folder):
    build()
    assert folder.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())
    assert sorted(file.suffix for file in folder.iterdir()) == [".json", ".pt2"]
    before = sorted(folder.iterdir())
    folder.chmod(0o777)
    assert not_kept(build(small(batch=(1, 5, 8)))) == f"others may write to {folder}"
    assert sorted(folder.iterdir()) == before


def test_a_folder_that_cannot_be_written_gives_a_note_and_no_error(compiler, tmp_path, monkeypatch, agrees):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "file"))
    program = build()
    assert not_kept(program).startswith("Not a directory")
    assert agrees(program, 5)


def test_a_full_disk_gives_a_note_and_leaves_no_half_file(compiler, folder, monkeypatch):
    def full(source, target):
        target.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(package_cache.shutil, "copyfileobj", full)
    assert not_kept(build()).startswith("No space left on device")
    assert list(folder.iterdir()) == []


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
    put("e", bytes(40))
    assert names(folder) == ["e"]  # the newest stays however large it is


def test_a_file_of_a_kernel_that_died_while_writing_does_not_count(folder, monkeypatch):
    put("a", bytes(10))
    unfinished = folder / ".b.pt2-0123abcd"
    unfinished.write_bytes(bytes(1000))
    monkeypatch.setattr(package_cache, "LARGEST", 20)
    put("c", bytes(10))
    assert names(folder) == ["a", "c"]
    assert unfinished.exists()  # somebody may still be writing it
    aged(unfinished, package_cache.ABANDONED + 60)
    put("d", bytes(10))
    assert not unfinished.exists()


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


@pytest.mark.slow
def test_a_package_is_found_by_another_process_and_is_right_over_its_range(inductor, folder):
    case = expand_reshape(batch=(1, 4, 8), embed_dim=48, tokens=7)
    with package_cache.policy("reuse"):
        program = PATHS["export"](case, inductor, {"freezing": False})
    assert program.build.reused is None
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["reused"].startswith("built 20")
    assert answer["agrees"] == [True] * 8


@pytest.mark.slow
def test_jit_says_what_was_found_in_inductors_own_cache(inductor, agrees):
    case = small(Constant(0.125), batch=(2, 4, 8))
    PATHS["jit"](case, inductor, {"freezing": False})
    again = PATHS["jit"](case, inductor, {"freezing": False})
    assert again.build.reused == "generated code found in Inductor's cache on disk"
    assert agrees(again, 7)
    with package_cache.policy("fresh"):
        assert PATHS["jit"](case, inductor, {"freezing": False}).build.reused is None
