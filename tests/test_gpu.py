"""What only a GPU shows: device time, memory, CUDA graphs, and that measured paths leave each other alone."""

import threading

import pytest
import torch

from tutorial_lib import PATHS, OutOfRange, status, sweep, text_encoder
from tutorial_lib.builds.cuda_graphs import Graphed
from tutorial_lib.measure import latency, memory
from tutorial_lib.measure.sweep import EAGER

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
GPU = torch.device("cuda", 0)
CYCLES = 2_000_000  # about a millisecond


@pytest.fixture(params=["jit", "export", EAGER])
def program(request, built, seed, inductor):
    return seed.eager if request.param == EAGER else built(request.param, inductor, seed)


def test_latency_is_the_device_s_time_and_not_the_host_s():
    calls = {1: lambda: torch.cuda._sleep(CYCLES), 2: lambda: torch.cuda._sleep(2 * CYCLES)}
    found = latency.measure(calls, GPU, min_samples=5, min_seconds=0.05)
    assert 1.8 < found[2].median_ms / found[1].median_ms < 2.2
    assert all(one.enqueue_ms < one.median_ms / 2 for one in found.values())


def test_paths_do_not_disturb_each_other_s_timings(built, seed, inductor):
    """The same program three times, once beside one that empties the L2 cache, fills memory and heats the GPU."""
    export, wide = built("export", inductor, seed), torch.randn(4096, 4096, device=GPU)
    inputs = seed.example(8)
    calls = {"one": lambda: export(*inputs), "noise": lambda: wide @ wide, "other": lambda: export(*inputs)}
    beside = latency.measure(calls, GPU, min_samples=15, min_seconds=0.05)
    assert 0.8 < latency.speedup(beside["one"], beside["other"]) < 1.25


def test_peak_memory_grows_with_the_batch_and_nothing_is_kept(program, seed):
    small, large = seed.example(2), seed.example(8)
    for _ in range(2):  # workspaces of libraries
        program(*small), program(*large)
    taken = [memory.peak(lambda inputs=inputs: program(*inputs), GPU)[1] for inputs in (small, large)]
    output = program(*large)
    assert taken[1] >= output.numel() * output.element_size() / 1e6
    assert 2 < taken[1] / taken[0] < 5  # allocations are rounded up to 512 bytes
    del output
    before = torch.cuda.memory_allocated(GPU)
    for size in (1, 3, 8, 2, 8, 1):
        program(*seed.example(size))
    assert torch.cuda.memory_allocated(GPU) == before


def test_a_sweep_tells_the_memory_of_every_call(built, seed, inductor):
    found = sweep({"export": built("export", inductor, seed)}, [1, 8], min_samples=1, min_seconds=0)
    assert (found.table["peak_mb"] > 0).all()
    assert "peak MB" in found.summary()


def test_a_graph_is_recorded_once_for_each_shape(program, seed):
    graphed = Graphed(program)
    for size in (1, 4, 8, 4, 1, 8, 3):
        inputs = seed.example(size, seed=size)
        assert torch.allclose(graphed(*inputs), seed.eager(*inputs), atol=1e-5)
    assert [key[0][0][0] for key in graphed.captures] == [1, 4, 8, 3]
    assert all(one.seconds > 0 for one in graphed.captures.values())


def test_a_graph_takes_inputs_from_anywhere_and_its_results_survive_the_next_call(program, seed):
    graphed, first, second = Graphed(program), seed.example(4, seed=1), seed.example(4, seed=2)
    kept = graphed(*first)
    expected = kept.clone()
    graphed(*second)
    assert torch.equal(kept, expected)
    moved = [x.clone() for x in first]
    first[0].zero_()
    assert torch.equal(graphed(*moved), expected)


@pytest.mark.parametrize("path", list(PATHS))
def test_what_the_program_refuses_stays_refused(path, built, seed, inductor):
    graphed = Graphed(built(path, inductor, seed))
    with pytest.raises(OutOfRange):
        graphed(*seed.example(seed.dims["batch"].max + 1))
    assert not graphed.captures


def test_a_graph_may_be_recorded_in_another_thread_than_the_build(built, seed, inductor):
    graphed, inputs, found = Graphed(built("jit", inductor, seed)), seed.example(4), []
    thread = threading.Thread(target=lambda: found.append(graphed(*inputs)))
    thread.start()
    thread.join()
    assert torch.allclose(found[0], seed.eager(*inputs), atol=1e-5)
    assert torch.equal(graphed(*inputs), found[0])


def test_inductor_works_on_this_gpu(seed):
    assert status("inductor", seed.device).works, status("inductor", seed.device).reason


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_an_odd_product_does_not_limit_the_range(dtype, inductor, agrees):
    """Ten words are no multiple of 8: Inductor considers padding, and torch 2.11 limits the batch by that."""
    case = text_encoder(batch=(1, 4, 256), length=(8, 64, 256), depth=1).to(GPU).in_precision(dtype)
    program = PATHS["jit"](case, inductor)
    assert all(agrees(program, size) for size in ({"batch": 256, "length": 8}, {"batch": 1, "length": 256}))
