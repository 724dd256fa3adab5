import errno
import os
import re
import shutil
import stat
import sys
import types
from unittest import mock

import pytest
import torch

from tutorial_lib import BackendUnavailable, OptionError, choose, expand_reshape, status, statuses
from tutorial_lib.builds import compat
from tutorial_lib.builds.backends import BACKENDS, as_device, cpp_compiler, settings, tensorrt
from tutorial_lib.builds.backends import inductor as inductor_module
from tutorial_lib.paths import jit

on_cpu_machine = pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without an NVIDIA GPU")
needs_gxx = pytest.mark.skipif(
    shutil.which("g++") is None or not sys.platform.startswith("linux"), reason="wraps a GNU g++ on Linux"
)
REAL_GXX, REAL_PATH = shutil.which("g++"), os.environ.get("PATH", "")


def is_one_sentence(message):
    return "\n" not in message and message.endswith(".") and "Error" not in message


def refusal(ask, *arguments):
    """The sentence with which something is refused."""
    with pytest.raises(BackendUnavailable) as refused:
        ask(*arguments)
    assert is_one_sentence(str(refused.value))
    return str(refused.value)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with no compiler yet: ``machine("bin/g++", script)`` puts one on the PATH and returns its path."""
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("CXX", raising=False)
    cpp_compiler._compiler.cache_clear()

    def install(name, script):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {path} >> {tmp_path}/calls\nPATH='{REAL_PATH}'\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        folders = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder != str(path.parent)]
        monkeypatch.setenv("PATH", os.pathsep.join([*folders, str(path.parent)]))
        return str(path)

    def calls():
        try:
            return (tmp_path / "calls").read_text().split()
        except FileNotFoundError:
            return []

    install.calls = calls
    install.folder = tmp_path
    yield install
    cpp_compiler._compiler.cache_clear()


WORKS = f'exec {REAL_GXX} "$@"'
FAILS = "echo 'probe.cpp:1: error: the disk is on fire' >&2; exit 1"
STATIC = f'exec {REAL_GXX} "$@" -static-libstdc++'


def test_there_is_a_status_for_every_backend_in_the_order_of_auto():
    every = statuses()
    assert tuple(s.name for s in every) == BACKENDS
    assert all(is_one_sentence(s.reason) for s in every)
    assert {s.device for s in every} == {str(as_device())}
    assert every[-1].works, "the backend eager works everywhere"


@pytest.mark.parametrize("name", ["TensorRT", "", None])
def test_an_unknown_backend_is_refused_with_those_there_are(name):
    for ask in (status, choose):
        assert all(known in refusal(ask, name) for known in (repr(name), *BACKENDS))


@on_cpu_machine
def test_tensorrt_on_a_cpu_machine_says_what_is_missing_and_how_to_get_it(seed):
    here = status("tensorrt")
    assert not here.works
    assert all(part in here.reason for part in ("NVIDIA GPU", "make lab", "requirements-tensorrt.txt"))
    assert refusal(choose, "tensorrt") == refusal(jit, seed, "tensorrt") == f"backend tensorrt: {here.reason}"


def test_auto_takes_the_first_that_works_and_says_why_the_others_were_passed_over():
    every = statuses()
    name, passed_over = choose("auto")
    works = [s.works for s in every].index(True)
    assert name == every[works].name
    assert passed_over == tuple(f"{s.name} was passed over: {s.reason}" for s in every[:works])
    assert choose("eager") == ("eager", ())


@on_cpu_machine
def test_what_auto_passed_over_is_noted_in_the_build(machine):
    build = jit(expand_reshape((2, 3, 4), 48, 7), "auto").build
    assert build.backend == ("openvino" if status("openvino").works else "eager")
    assert any(note.startswith("inductor was passed over: ") for note in build.notes)


def test_the_default_device_is_the_gpu_if_there_is_one():
    expected = "cuda:0" if torch.cuda.is_available() else "cpu"
    assert str(as_device()) == str(as_device("auto")) == str(as_device(None)) == expected
    assert as_device("cpu") == as_device(torch.device("cpu")) == torch.device("cpu")
    assert as_device("cpu:0") == torch.device("cpu"), "no tensor is on cpu:0, so a program for it would refuse them all"


@pytest.mark.parametrize("device", ["tpu", "", "cuda:-1", "cuda:99", "mps", torch.device("cuda", 99), 3.5])
def test_a_device_that_is_not_here_is_refused_by_name(device):
    for ask, *before in ((as_device,), (status, "eager"), (choose, "auto")):
        assert repr(device) in refusal(ask, *before, device)


def test_an_option_that_is_not_there_is_refused_with_a_suggestion(seed, inductor):
    with pytest.raises(OptionError, match=r"'freezin'.* did you mean 'freezing'"):
        jit(seed, "inductor", {"freezin": True})
    with pytest.raises(OptionError, match=r"'qqqqqqqq'.* see its documentation"):
        settings("inductor", seed.device, {"qqqqqqqq": True})
    with pytest.raises(OptionError, match=r"eager has no option 'freezing'.* none"):
        settings("eager", seed.device, {"freezing": True})
    assert settings("eager", seed.device, None) == settings("eager", seed.device, {}) == {}


def test_a_readers_option_wins_over_the_defaults(seed, inductor):
    for value in (True, False):
        selected = settings("inductor", seed.device, {"freezing": value, "cpp.vec_isa_ok": value})
        assert (selected["freezing"], selected["cpp.vec_isa_ok"]) == (value, value)
    assert selected["cpp.cxx"] == (None, cpp_compiler.compiler())
    assert set(selected) <= inductor_module.option_names()


def test_no_compiler_on_the_path_is_said_with_how_to_get_one(machine):
    assert re.search(r"inductor: no C\+\+ compiler .*apt install g\+\+", refusal(choose, "inductor"))


@pytest.mark.slow
@needs_gxx
def test_a_compiler_that_links_its_own_standard_library_is_rejected_and_the_next_one_taken(machine):
    static, good = machine("first/g++", STATIC), machine("second/g++", WORKS)
    assert "libstdc++" in cpp_compiler.why_not(static)
    assert cpp_compiler.compiler() == good
    assert machine.calls() == [static, static, good]  # a failure is not remembered


def test_a_compiler_that_hangs_is_rejected(machine, monkeypatch):
    monkeypatch.setattr(cpp_compiler, "SECONDS", 0.2)
    hanging = machine("bin/g++", "exec sleep 30")
    assert "took more than 0.2 s" in cpp_compiler.why_not(hanging)


def test_two_names_of_one_compiler_are_tried_once(machine):
    broken = machine("bin/g++", FAILS)
    os.symlink(broken, machine.folder / "bin" / "c++")
    os.symlink(broken, machine.folder / "bin" / "clang++")
    with pytest.raises(cpp_compiler.NoCompiler):
        cpp_compiler.compiler()
    assert len(machine.calls()) == 1


def test_a_compiler_that_appears_is_taken_and_tried_once_until_it_works_or_is_replaced(machine, monkeypatch):
    assert not status("inductor", "cpu").works
    full_disk = OSError(errno.ENOSPC, "No space left")
    proof = mock.Mock(side_effect=[full_disk, None, None])
    monkeypatch.setattr(cpp_compiler, "_build_and_load", proof)
    path = machine("bin/g++", WORKS)
    assert "No space left" in cpp_compiler.why_not(path)
    assert cpp_compiler.compiler() == path
    assert status("inductor", "cpu").works
    cpp_compiler._compiler.cache_clear()  # as a new process would start
    assert cpp_compiler.compiler() == path
    assert proof.call_count == 2
    os.utime(path, ns=(1, 1))
    assert cpp_compiler.why_not(path) is None
    assert proof.call_count == 3


@pytest.mark.parametrize("content", ["nonsense", None, {"gain": 2}])
def test_a_gain_that_somebody_wrote_is_measured_again(monkeypatch, content):
    monkeypatch.setattr(inductor_module, "remembered", lambda name, key, compute: content)
    monkeypatch.setattr(inductor_module, "_measured_gain", lambda: 1.5)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert inductor_module.packing_gain(4) == 1.5


def test_a_full_disk_is_not_mended_by_another_compiler(machine):
    machine("bin/g++", FAILS.replace("the disk is on fire", "No space left on device"))
    reason = status("inductor").reason
    assert "TMPDIR" in reason
    assert "apt install" not in reason


def test_the_reason_for_every_rejected_compiler_is_said(machine):
    first, second = machine("first/g++", FAILS), machine("second/c++", FAILS.replace("disk", "fan"))
    reason = status("inductor").reason
    said = [reason.index(part) for part in (first, "the disk is on fire", second, "the fan is on fire", "CXX")]
    assert said == sorted(said)
    assert "\n" not in reason
    assert machine.calls() == [first, second]


def test_every_folder_of_the_path_is_searched_and_cxx_comes_first_then_g_plus_plus(machine, monkeypatch):
    paths = [machine(name, WORKS) for name in ("a/c++", "b/clang++", "c/g++", "d/g++")]
    assert cpp_compiler.candidates() == [paths[2], paths[3], paths[1], paths[0]]
    own = machine("own/my-compiler", WORKS)
    monkeypatch.setenv("CXX", own)
    assert cpp_compiler.candidates() == [own, paths[2], paths[3], paths[1], paths[0]]


def test_cuda_graphs_of_inductor_are_refused_with_what_to_use_instead():
    with pytest.raises(OptionError, match=r"next call overwrites.*tutorial_lib\.builds\.cuda_graphs\.Graphed"):
        settings("inductor", as_device("cpu"), {"triton.cudagraphs": True})
    assert settings("inductor", as_device("cpu"), {"triton.cudagraphs": False})["triton.cudagraphs"] is False


@pytest.fixture
def card(monkeypatch, tmp_path):
    """``card((8, 9), "rtx")``: a machine with such a card, and with this flavour (or both) installed."""

    def pretend(capability, *flavours, version=None, broken=None, folders=("here", "here")):
        packages = {"standard": "torch-tensorrt", "rtx": "torch-tensorrt-rtx"}
        installed = {packages[flavour]: folder for flavour, folder in zip(flavours, folders, strict=False)}

        def distributions(name):
            return [types.SimpleNamespace(locate_file=lambda _: installed[name])] if name in installed else []

        monkeypatch.setattr(tensorrt.importlib.metadata, "distributions", distributions)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        module = tmp_path / "torch_tensorrt"
        module.mkdir(exist_ok=True)
        (module / "dynamo").mkdir(exist_ok=True)
        code = f"raise Exception({broken!r})" if broken else f"__version__ = {version or torch.__version__!r}"
        (module / "__init__.py").write_text(f"{code}\n")
        (module / "dynamo" / "__init__.py").touch()
        (module / "dynamo" / "_settings.py").write_text(
            "import dataclasses\n@dataclasses.dataclass\nclass CompilationSettings:\n    min_block_size: int = 5\n"
            "    timing_cache_path: str = ''\n    hardware_compatible: bool = False\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        forget()

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] == "torch_tensorrt"]:
            del sys.modules[name]

    yield pretend
    forget()


@pytest.mark.parametrize(
    ("capability", "flavours", "said"),
    [
        ((8, 9), ["standard"], None),
        ((8, 9), ["rtx"], None),
        ((9, 0), ["standard"], None),
        ((9, 0), ["rtx"], "on compute capability 9.0; use data-centre TensorRT there: `make lab TENSORRT=standard`."),
        ((6, 1), ["rtx"], "on compute capability 6.1."),  # nothing else is offered where none runs
        ((8, 9), [], "neither the package torch-tensorrt nor torch-tensorrt-rtx is installed; "),
        ((8, 9), ["standard", "rtx"], "are both installed"),
    ],
)
def test_tensorrt_works_or_says_what_to_do_before_it_is_imported(card, capability, flavours, said):
    card(capability, *flavours, broken=said and "it must not even be imported")
    reason = tensorrt.why_not(torch.device("cuda:0"))
    if said is None:
        assert (reason, [tensorrt.flavour()]) == (None, flavours)
    else:
        assert said in reason
        assert is_one_sentence(reason)


@pytest.mark.parametrize(
    ("flavour", "command"), [("standard", "requirements-tensorrt.txt"), ("rtx", "`make lab TENSORRT=rtx`")]
)
def test_a_tensorrt_that_does_not_load_or_belongs_to_another_torch_is_one_sentence(card, flavour, command):
    card((8, 9), flavour, broken="Could not find libtensorrt_rtx.so.1\n  Search paths: []")
    reason = tensorrt.why_not(torch.device("cuda:0"))
    assert "cannot be imported (Could not find libtensorrt_rtx.so.1 Search paths: [])" in reason
    assert command in reason
    card((8, 9), flavour, version="2.9.0")
    reason = tensorrt.why_not(torch.device("cuda:0"))
    assert f"torch_tensorrt 2.9.0 and torch {torch.__version__} do not belong together" in reason
    assert command in reason


def test_of_both_flavours_in_two_folders_the_rtx_one_counts(card):
    card((8, 9), "standard", "rtx", folders=("environment", "engines"))  # as in the process that builds engines
    assert tensorrt.flavour() == "rtx"
    assert tensorrt.why_not(torch.device("cuda:0")) is None


def test_options_that_tensorrt_for_rtx_does_not_have_are_neither_passed_nor_taken(card, monkeypatch, tmp_path):
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path / "cache"))
    device = torch.device("cuda:0")
    card((8, 9), "standard", version="2.13.0")
    standard = settings("tensorrt", device, {"hardware_compatible": True})
    card((8, 9), "rtx", version="2.13.0")
    rtx = settings("tensorrt", device, {})
    assert "timing_cache_path" in standard
    assert "timing_cache_path" not in rtx
    assert standard["engine_cache_dir"] != rtx["engine_cache_dir"], "engines of one are no engines of the other"
    for option in tensorrt.RTX_LACKS:
        with pytest.raises(OptionError, match=rf"RTX, which is installed here, has no option '{option}'"):
            settings("tensorrt", device, {option: True})
    card((8, 9), "rtx", version="2.11.0")  # which writes a timing cache, so it is this user's own
    assert settings("tensorrt", device, {})["timing_cache_path"].startswith(str(tmp_path / "cache"))


def test_which_flavours_run_on_a_card():
    both, standard = ("standard", "rtx"), ("standard",)
    by_capability = {(7, 0): (), (7, 5): both, (8, 0): both, (9, 0): standard, (10, 0): standard, (12, 1): both}
    for capability, flavours in by_capability.items():
        assert tensorrt.flavours_for(capability) == flavours
        assert tensorrt.rtx_runs_on(capability) == ("rtx" in flavours)


def test_a_build_report_names_the_flavour(monkeypatch, tmp_path):
    versions = {"torch-tensorrt-rtx": "2.13.0", "tensorrt-rtx-cu13": "1.5.0.114"}
    for package, version in versions.items():
        info = tmp_path / f"{package.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert versions.items() <= jit(expand_reshape((2, 3, 4), 48, 7), "eager").build.versions.items()


def test_a_torch_that_is_too_new_is_told_for_every_backend(monkeypatch):
    monkeypatch.setattr(compat, "TORCH", (2, 15))
    for name in ("auto", *BACKENDS):
        with pytest.raises(BackendUnavailable, match=r"is newer than .* up to 2\.14; run `make lab"):
            choose(name)
    assert not any(status(name).works for name in BACKENDS)
