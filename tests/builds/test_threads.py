"""Tracing is not thread-safe, so builds have to take turns; calls of what is built do not."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, Case, DynamicDim, OutOfRange, Reference, TensorSpec

pytestmark = pytest.mark.slow

PATIENCE = 300  # seconds; a build that waits for itself would otherwise wait forever


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("path", list(PATHS))
def test_a_program_may_be_the_first_to_use_the_gpu_in_a_thread(path, built, seed, inductor):
    program, inputs = built(path, inductor, seed), seed.example(3)
    together(lambda: program(*inputs))


def together(*jobs):
    """Run `jobs` at the same moment, each in a thread of its own; return their results or raise their errors."""
    start = threading.Barrier(len(jobs))

    def run(job):
        start.wait(PATIENCE)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(run, job) for job in jobs]]


def build(path, backend, case):
    return lambda: PATHS[path](case, backend)


@pytest.mark.parametrize("paths", [("export", "export"), ("jit", "export"), ("jit", "jit"), ("input", "export")])
def test_two_builds_at_once_are_both_right(paths, seed, masked, agrees):
    for _ in range(4):
        one, other = together(build(paths[0], "eager", seed), build(paths[1], "eager", masked))
        assert [one.build.path, other.build.path] == list(paths)
        assert len(one.build.engines) == (2 if paths[0] == "jit" else 1)
        assert len(other.build.engines) == (4 if paths[1] == "jit" else 1)
        assert all(agrees(one, size) for size in (1, 3, 8))
        assert all(agrees(other, {"batch": batch, "length": 7}) for batch in (1, 4))


def test_two_builds_of_one_model_at_once_do_not_mix_their_ranges(seed, agrees):
    narrow, wide = seed.with_ranges(batch=(2, 3, 5)), seed.with_ranges(batch=(1, 6, 20))
    for _ in range(4):
        one, other = together(build("jit", "eager", narrow), build("jit", "eager", wide))
        (engine,) = one.build.engines
        assert (engine.data[0].min[0], engine.data[0].opt[0], engine.data[0].max[0]) == (2, 3, 5)
        assert [e.data[0].opt[0] for e in other.build.engines] == [6, 1]
        assert agrees(one, 5)
        assert agrees(other, 20)
        with pytest.raises(OutOfRange):
            one(*narrow.example(6))


class Caller(threading.Thread):
    """Calls a program again and again, and compares every result with the first."""

    def __init__(self, program, size):
        super().__init__(daemon=True)
        self.program, self.inputs = program, program.case.example(size)
        self.expected = Reference(program.case).eager(self.inputs)
        self.calls, self.error, self.enough = 0, None, threading.Event()

    def run(self):
        try:
            while not self.enough.is_set():
                assert torch.allclose(self.program(*self.inputs), self.expected, atol=1e-4)
                self.calls += 1
        except BaseException as error:
            self.error = error

    def stop(self):
        self.enough.set()
        self.join(PATIENCE)
        if self.error:
            raise self.error
        return self.calls


@contextlib.contextmanager
def called(callers):
    """Inside the ``with`` block, these go on calling."""
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        calls = [caller.stop() for caller in callers]
    assert min(calls) > 0


@pytest.mark.parametrize("build_path", list(PATHS))
@pytest.mark.parametrize("path", list(PATHS))
def test_a_program_stays_right_while_another_is_built(path, build_path, built, seed, masked, agrees):
    with called([Caller(built(path, "eager", seed), size) for size in (1, 5)]):
        for _ in range(3):
            other = PATHS[build_path](masked, "eager")
            assert agrees(other, {"batch": 3, "length": 7})
    assert built(path, "eager", seed).build.recompiles == 0


def test_a_program_stays_right_while_inductor_builds_two_at_once(built, seed, inductor, agrees):
    case = seed.with_ranges(batch=(2, 3, 5))
    callers = [Caller(built(path, inductor, seed), 3) for path in ("jit", "export")]
    with called(callers):
        programs = together(build("jit", inductor, case), build("export", inductor, case))
    assert all(agrees(program, size) for program in programs for size in (2, 5))


class Scale(nn.Module):
    def forward(self, x):
        return torch.tanh(x * 2)


@pytest.mark.parametrize("path", list(PATHS))
def test_a_program_can_be_called_from_many_threads(path):
    case = Case("scale", Scale(), (TensorSpec("x", (DynamicDim("batch", 1, 4, 8), 3)),))
    program = PATHS[path](case, "eager")

    def caller(size):
        (x,) = case.example(size)
        expected = torch.tanh(x * 2)
        # Dynamo's look-up of the engine for a size misses it once in some thousand calls, if others look at once
        return lambda: sum(torch.allclose(program(x), expected) for _ in range(calls))

    calls = 8000 if path == "jit" else 500
    assert together(*[caller(size) for size in (1, 2, 1, 4, 1, 8)]) == [calls] * 6
    assert len(program.build.engines) == (2 if path == "jit" else 1)


@pytest.mark.parametrize("path", list(PATHS))
def test_a_recompile_waits_for_a_build_in_another_thread(path, seed, masked, agrees):
    for size in (9, 11, 13):
        program = PATHS["jit"](seed, "eager")
        program.outside = "recompile"
        inputs = seed.example(size)
        output, other = together(lambda p=program, i=inputs: p(*i), build(path, "eager", masked))
        assert Reference(seed).compare(output, inputs).agrees
        assert program.build.recompiles == 1
        assert len(program.build.engines) == 3
        assert other.build.recompiles == 0
        assert agrees(other, {"batch": 4, "length": 2})


def test_a_recompile_allowed_for_one_program_is_not_allowed_for_another(seed):
    allowed, strict = PATHS["jit"](seed, "eager"), PATHS["jit"](seed, "eager")
    allowed.outside = "recompile"
    inputs = seed.example(9)

    def refused():
        for _ in range(50):
            with pytest.raises(OutOfRange):
                strict(*inputs)

    together(lambda: allowed(*inputs), refused)
    assert (allowed.build.recompiles, strict.build.recompiles) == (1, 0)


def test_gradient_mode_of_the_building_thread_is_left_alone(seed):
    def in_a_new_thread():
        before = torch.is_grad_enabled()
        program = PATHS["jit"](seed, "eager")
        output = program(*seed.example(3))
        return before, torch.is_grad_enabled(), output.requires_grad

    assert together(in_a_new_thread) == [(True, True, False)]
