"""What a build tells of itself, and that it can be stopped at every stage without leaving a trace."""

import threading
import warnings
from pathlib import Path

import pytest
import torch
import torch._dynamo.config
import torch._inductor.config
from torch import nn

from tutorial_lib import PATHS, Case, DynamicDim, TensorSpec
from tutorial_lib.builds import package_cache
from tutorial_lib.builds.backends import inductor as inductor_module
from tutorial_lib.builds.program import LOCK
from tutorial_lib.core.progress import Cancelled, listening, stage

PATIENCE = 60


class Stop:
    """A listener that cancels at one stage, counted from 0."""

    def __init__(self, at):
        self.at, self.told = at, []

    def __call__(self, text):
        self.told.append(text)
        if len(self.told) == self.at + 1:
            raise Cancelled


def state():
    """Everything that a build patches for a while, and a sign that another thread could build."""
    taken = []

    def take():
        taken.append(LOCK.acquire(timeout=PATIENCE))
        LOCK.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join(2 * PATIENCE)
    assert taken == [True]
    return {
        "inductor": torch._inductor.config.save_config_portable(),
        "dynamo": torch._dynamo.config.save_config_portable(),
        "tag": torch.compiler.config.cache_key_tag,
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "filters": list(warnings.filters),
        "tracing": torch._guards.TracingContext.try_get(),
        "compiling": (torch.compiler.is_compiling(), torch._guards.CompileContext.current_compile_id()),
        "modes": torch.utils._python_dispatch._get_current_dispatch_mode_stack(),
        "functions": torch._C._len_torch_function_stack(),
        "policy": package_cache.current_policy(),
    }


@pytest.fixture
def own():
    """A case of a model class that no other test compiles."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(-1, 1, 12).view(4, 3))

        def forward(self, x):
            return torch.relu(x @ self.weight) + 1

    return Case("own", Own(), (TensorSpec("x", (DynamicDim("batch", 1, 4, 8), 4)),))


@pytest.fixture
def instant(inductor, monkeypatch):
    """Inductor ahead of time without its compiler: the program is what was exported."""

    exports = []

    def package(exported, package_path):
        Path(package_path).write_bytes(b"code")
        exports.append(exported)

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", package)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda *_, **__: exports[-1].module())
    monkeypatch.setattr(inductor_module, "library_calls", lambda file: ())
    return inductor


ENDS = "at the ends of its range"
STAGES = {
    ("jit", "eager"): ["tracing jit", "compiling jit, engine 1", "compiling jit, engine 2", f"checking jit {ENDS}"],
    ("input", "eager"): ["tracing input", f"checking input {ENDS}"],
    ("export", "eager"): ["tracing export", f"checking export {ENDS}"],
    ("input", "inductor"): ["tracing input", "compiling input ahead of time", f"checking input {ENDS}"],
    ("export", "inductor"): ["tracing export", "compiling export ahead of time", f"checking export {ENDS}"],
}


@pytest.mark.parametrize(("path", "backend", "at"), [(*key, at) for key in STAGES for at in range(len(STAGES[key]))])
def test_a_build_cancelled_at_any_stage_leaves_no_trace(path, backend, at, own, agrees, request):
    if backend == "inductor":
        request.getfixturevalue("instant")
    before, listener, told = state(), Stop(at), []
    with pytest.raises(Cancelled), listening(listener):
        PATHS[path](own, backend)
    assert listener.told == STAGES[path, backend][: at + 1]
    assert state() == before
    with listening(told.append):
        program = PATHS[path](own, backend)
    assert told == STAGES[path, backend]
    assert all(agrees(program, size) for size in (1, 8))
    assert len(program.build.engines) == (2 if path == "jit" else 1)


@pytest.mark.parametrize("policy", ["off", "fresh"])
def test_inductor_works_after_a_build_was_cancelled_inside_dynamos_call_of_it(
    policy, own, inductor, agrees, monkeypatch, tmp_path
):
    monkeypatch.setenv("TUTORIAL_LIB_CACHE", str(tmp_path))
    before, case = state(), own.with_ranges(batch=(2, 4, 8))
    with pytest.raises(Cancelled), listening(Stop(1)), package_cache.policy(policy):
        PATHS["jit"](case, inductor)
    assert state() == before
    if policy == "off":
        program = PATHS["jit"](case, inductor)
        assert all(agrees(program, size) for size in (2, 8))


@pytest.mark.parametrize("at", [0, 1])
def test_a_recompile_that_is_cancelled_leaves_the_program_as_it_was(at, own, agrees):
    program = PATHS["jit"](own, "eager")
    program.outside = "recompile"
    inputs = own.example(12)
    before, listener = state(), Stop(at)
    with pytest.raises(Cancelled), listening(listener):
        program(*inputs)
    assert listener.told == ["tracing jit", "compiling jit, engine 3"][: at + 1]
    assert state() == before
    assert program.build.recompiles == 0
    assert all(agrees(program, size) for size in (1, 4, 8))
    assert torch.equal(program(*inputs), own.model(*inputs))
    assert program.build.recompiles == 1


def test_another_exception_of_the_listener_is_a_failed_build(own):
    def fails(text):
        raise RuntimeError("boom")

    before = state()
    with pytest.raises(RuntimeError, match="boom"), listening(fails):
        PATHS["jit"](own, "eager")
    assert state() == before


def test_a_listener_hears_nothing_after_its_block_nor_of_other_threads(own):
    told, inner = [], []
    with listening(told.append):
        with listening(inner.append):
            stage("inner")
        stage("outer")
        thread = threading.Thread(target=PATHS["export"], args=(own, "eager"))
        thread.start()
        thread.join(PATIENCE)
    stage("nobody listens")
    assert (told, inner) == (["outer"], ["inner"])


def test_a_build_of_another_thread_goes_on_after_one_was_cancelled(own, seed, agrees):
    built, inside = [], threading.Event()

    def waits(text):
        if "compiling" in text:
            inside.set()
            threading.Event().wait(0.1)  # let the other thread come to the lock
            raise Cancelled

    def build():
        inside.wait(PATIENCE)
        built.append(PATHS["jit"](seed, "eager"))

    thread = threading.Thread(target=build)
    thread.start()
    with pytest.raises(Cancelled), listening(waits):
        PATHS["jit"](own, "eager")
    thread.join(PATIENCE)
    assert agrees(built[0], 8)
