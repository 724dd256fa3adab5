"""Number formats: what is cast, what is refused, and that PyTorch's own switches are left as they were."""

import copy

import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, Case, DynamicDim, PrecisionError, Reference, TensorSpec
from tutorial_lib.builds.program import Program
from tutorial_lib.core import precision

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
CAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def switches():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(params=[(False, False), (False, True), (True, True)])
def before(request):
    earlier = switches()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = request.param
    yield request.param
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = earlier


@pytest.mark.parametrize("name", CAST)
def test_weights_and_inputs_are_cast_and_the_original_is_not(name, seed):
    case = seed.in_precision(name)
    assert {p.dtype for p in case.model.parameters()} == {CAST[name]}
    assert [spec.dtype for spec in case.inputs] == [x.dtype for x in case.example(3)] == [CAST[name]]
    assert case.precision == name
    assert (case.name, case.dims, case.device) == (seed.name, seed.dims, seed.device)
    assert {p.dtype for p in seed.model.parameters()} == {torch.float32}
    assert seed.precision is None


def test_inputs_that_are_no_numbers_to_compute_with_keep_their_dtype():
    class Looked(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 4)

        def forward(self, index, x):
            return self.table(index) + x

    batch = DynamicDim("batch", 1, 2, 4)
    case = Case("looked", Looked(), (TensorSpec("index", (batch,), torch.int64), TensorSpec("x", (batch, 4))))
    assert [spec.dtype for spec in case.in_precision("bf16").inputs] == [torch.int64, torch.bfloat16]


def test_fp32_leaves_the_numbers_as_they_are(seed):
    case, inputs = seed.in_precision("fp32"), seed.example(3)
    assert torch.equal(case.model(*inputs), seed.model(*inputs))
    assert case.model is not seed.model


def test_tf32_is_refused_on_a_cpu_in_one_sentence(seed):
    if seed.device.type != "cpu":
        pytest.skip("this machine has a GPU")
    with pytest.raises(PrecisionError, match=r"^precision tf32: .* on cpu; use fp32\.$"):
        seed.in_precision("tf32")


@pytest.mark.parametrize(("capability", "works"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_tf32_needs_an_ampere_gpu(capability, works, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    reason = precision.why_not("tf32", GPU)
    assert (reason is None) == works
    assert works or "8.0 (Ampere)" in reason


@pytest.mark.parametrize("name", ["fp64", "", None, "FP32"])
def test_an_unknown_precision_is_refused_with_those_that_exist(name, seed):
    with pytest.raises(PrecisionError, match="use fp32, tf32, bf16, fp16"):
        seed.in_precision(name)


def test_fp32_and_the_cast_formats_turn_tf32_off_on_a_gpu_and_no_precision_leaves_it():
    on_a_gpu = {"fp32": False, "tf32": True, "bf16": False, "fp16": False, None: None}
    assert {name: precision.allows_tf32(name, GPU) for name in on_a_gpu} == on_a_gpu
    assert {precision.allows_tf32(name, CPU) for name in (*precision.DTYPES, None)} == {None}


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_switches_are_set_inside_and_as_before_outside_even_after_an_exception(before, allowed):
    def interrupted():
        with precision.tf32(allowed):
            assert switches() == (allowed, allowed)
            assert precision.in_force(allowed)
            with precision.tf32(not allowed):
                assert switches() == (not allowed, not allowed)
            assert switches() == (allowed, allowed)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert switches() == before


def test_without_a_precision_tf32_switches_are_left_alone(before):
    with precision.tf32(None):
        assert switches() == before
        assert precision.in_force(None)


def test_a_program_runs_under_the_switches_it_was_built_for(before, seed, built):
    seen = []

    def bare(x):
        seen.append(switches())
        if len(x) == 3:
            raise RuntimeError("boom")
        return x

    program = Program(seed.inputs, seed.device, bare, built("export", "eager", seed).build, allows_tf32=True)
    program(*seed.example(2))
    assert switches() == before
    with pytest.raises(RuntimeError, match="boom"):
        program(*seed.example(3))
    assert seen == [(True, True)] * 2
    assert switches() == before


def test_eager_in_bf16_is_the_baseline_of_agreement(seed):
    case = seed.in_precision("bf16")
    inputs = case.example(3, seed=1)
    reference = Reference(case)
    output = case.eager(*inputs)
    assert output.dtype == torch.bfloat16
    assert torch.equal(reference.eager(inputs), output)
    assert reference.double(inputs).dtype == torch.float64
    rounded = reference.compare(output, inputs)
    assert 0.1 < rounded.ratio <= 1  # below 1 where eager rounds less than the dtype would allow
    exact = reference.compare(copy.deepcopy(case.model).float()(*(x.float() for x in inputs)), inputs)
    assert exact.ratio < 0.01 * rounded.ratio


@pytest.mark.parametrize("name", CAST)
def test_a_path_that_is_built_in_16_bits_agrees(path, name, seed, built, agrees):
    case = seed.in_precision(name)
    program = PATHS[path](case, "eager")
    assert all(agrees(program, size) for size in (1, 4, 8))
    assert program(*case.example(3)).dtype == CAST[name]
    assert {i.dtype for engine in program.build.engines for i in engine.data} == {str(CAST[name])[6:]}


@pytest.mark.parametrize("name", CAST)
def test_complex_numbers_keep_both_their_parts_in_every_precision(name):
    class Turns(nn.Module):
        def __init__(self):
            super().__init__()
            angle = torch.linspace(0, 3, 4)
            self.register_buffer("turn", torch.polar(torch.ones_like(angle), angle))
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            pairs = torch.view_as_complex(self.linear(x).float().reshape(-1, 4, 2))
            return torch.view_as_real(pairs * self.turn).flatten(-2).type_as(x)

    case = Case("turns", Turns(), (TensorSpec("x", (DynamicDim("batch", 1, 2, 4), 8)),))
    narrow, (x,) = case.in_precision(name), case.example()
    assert torch.equal(narrow.model.turn, case.model.turn)
    torch.testing.assert_close(narrow.eager(x.to(CAST[name])).float(), case.eager(x), rtol=0.05, atol=0.05)
