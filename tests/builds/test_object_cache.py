"""Objects of the C++ compiler are taken again for the same command and the same source, and for nothing else."""

from unittest import mock

import pytest
import torch
from cachetools import LRUCache

from tutorial_lib import PATHS, expand_reshape
from tutorial_lib.builds import object_cache, package_cache


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(object_cache, "_objects", LRUCache(object_cache.BYTES, getsizeof=len))


@pytest.fixture
def compiled(monkeypatch):
    """The commands that were run: a compiler that writes its flags and its source into the object."""
    builder, commands = pytest.importorskip("torch._inductor.cpp_builder"), []

    def run(cmd_line, cwd):
        commands.append(cmd_line)
        source, output = object_cache._source_and_object(cmd_line) or (None, cmd_line.split("-o ")[1])
        code = (cwd / source).read_bytes() if source else b""
        (cwd / output).write_bytes(cmd_line.encode() + code)

    monkeypatch.setattr(builder, "run_compile_cmd", run)
    return commands


@pytest.fixture
def build(tmp_path):
    """``build(code, flags)``: the object, and whether it was reused."""

    def make(code, flags="-O0", kind="-c", source="model.wrapper.cpp"):
        (tmp_path / source).write_text(code)
        told = []
        with object_cache.reused(lambda: told.append(True)):
            from torch._inductor import cpp_builder

            cpp_builder.run_compile_cmd(cmd_line=f"g++ {source} {flags} {kind} -o model.o", cwd=tmp_path)
        content = (tmp_path / "model.o").read_bytes()
        (tmp_path / "model.o").unlink()
        return content, bool(told)

    return make


CODE = "int f() { return 1; }\n"


def test_the_same_command_and_source_take_the_object_that_is_there(build, compiled):
    first, reused = build(CODE)
    assert not reused
    assert build(CODE) == (first, True)
    assert build(f"{CODE}\n// Compile cmd\n// g++ model.wrapper.cpp\n") == (first, True)
    assert len(compiled) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"code": "int f() { return 2; }\n"},
        {"code": "int f() { return 1; } // and\nint g();\n"},
        {"code": CODE, "flags": "-O3"},
        {"code": CODE, "source": "other.wrapper.cpp"},
    ],
)
def test_another_source_or_command_is_compiled(other, build, compiled):
    first, _ = build(CODE)
    content, reused = build(**other)
    assert content != first
    assert not reused
    assert len(compiled) == 2


@pytest.mark.parametrize("other", [{"kind": "-shared"}, {"source": "weights.S"}])
def test_what_is_no_compilation_of_one_source_is_always_run(other, build, compiled):
    for _ in range(2):
        assert not build(CODE, **other)[1]
    assert len(compiled) == 2


def test_a_failed_command_leaves_nothing_and_is_run_again(build, monkeypatch, compiled):
    with monkeypatch.context() as missing:
        missing.setattr("torch._inductor.cpp_builder.run_compile_cmd", mock.Mock(side_effect=RuntimeError))
        with pytest.raises(RuntimeError):
            build(CODE)
    assert not build(CODE)[1]


def test_memory_for_objects_has_a_limit(build, compiled, monkeypatch):
    monkeypatch.setattr(object_cache, "BYTES", 100)
    monkeypatch.setattr(object_cache, "_objects", LRUCache(100, getsizeof=len))
    build("int a;\n" * 40)
    assert not build("int a;\n" * 40)[1], "larger than all of it"


@pytest.mark.slow
@pytest.mark.long
def test_paths_and_opts_share_a_compilation_where_reuse_is_asked_for_and_only_there(inductor, tmp_path, monkeypatch):
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "cache"))
    case = expand_reshape((1, 4, 8), embed_dim=48, tokens=7)

    def built(path, case, policy):
        with package_cache.policy(policy):
            return PATHS[path](case, "inductor")

    assert built("export", case, "reuse").build.reused is None
    programs = [built("input", case, "reuse"), built("export", case.with_ranges(batch=(1, 5, 8)), "reuse")]
    for program in programs:
        assert program.build.reused == "the same C++ was compiled before in this process"
        for size in (1, 5, 8):
            inputs = case.example(size)
            torch.testing.assert_close(program(*inputs), case.eager(*inputs))
    for policy in ("off", "fresh"):
        assert built("input", case, policy).build.reused is None
