"""OpenVINO's programs: right at every size, independent of what they were made from, or refused with the reason."""

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn

from tutorial_lib import (
    PATHS,
    BackendUnavailable,
    BuildError,
    Case,
    DynamicDim,
    OptionError,
    Reference,
    TensorSpec,
    choose,
    status,
)
from tutorial_lib.builds import saving
from tutorial_lib.builds.backends import openvino, settings

pytestmark = [
    pytest.mark.skipif(not status("openvino", "cpu").works, reason=status("openvino", "cpu").reason),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of torch, about itself
]
ROOT = Path(__file__).parents[2]
AHEAD_OF_TIME = ("input", "export")
CPU = torch.device("cpu")
BATCH = DynamicDim("batch", 1, 4, 16)


class Layer(nn.Module):
    """A linear layer of width 8, and what `compute` makes of its result and the two inputs."""

    def __init__(self, compute, width=8):
        super().__init__()
        self.compute = compute
        self.linear = nn.Linear(width, width)

    def forward(self, x, y):
        return self.compute(self.linear(x), x, y)


def case_of(compute, batch=(1, 4, 16), dtype=torch.float32, second=None):
    """`compute(linear(x), x, y)` of x [batch, 8] and y [batch, 8], or y as `second` says."""
    dim = DynamicDim("batch", *batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Layer(compute).to(dtype)
    return Case("layer", model, (TensorSpec("x", (dim, 8), dtype), second or TensorSpec("y", (dim, 8), dtype)))


def refusal(path, case, *options):
    with pytest.raises(BuildError) as refused:
        PATHS[path](case, "openvino", *options)
    message = str(refused.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def assert_same(output, eager):
    """Equal form, dtypes and numbers."""
    if isinstance(eager, torch.Tensor):
        torch.testing.assert_close(output, eager, atol=1e-2 if eager.dtype.itemsize == 2 else 1e-4, rtol=0.0)
    elif isinstance(eager, tuple | list | dict):
        assert len(output) == len(eager)
        for key in eager if isinstance(eager, dict) else range(len(eager)):
            assert_same(output[key], eager[key])
    else:
        assert output == eager
    assert type(output) is type(eager)


# ---- what a program returns -------------------------------------------------------------------------------------


def numbers_of_every_kind(h, x, y):
    whole = h.argmax(-1), h > 0, h.argmax(-1).int(), h.to(torch.int8)
    return [*whole, h, h.half(), h.to(torch.bfloat16), h.double()]


RESULTS = {
    "a dict": lambda h, x, y: {"b": h, "a": h.sum(0)},
    "a list of numbers of every kind": numbers_of_every_kind,
    "no dimension, sizes, a constant": lambda h, x, y: (h.sum(), x.shape[0], 2 * x.shape[0], torch.ones(3)),
    "an input": lambda h, x, y: (y, h),
}
ONLY_EXPORTED = {
    "None": lambda h, x, y: (h, None, h + 1),
    "a dict of tuples": lambda h, x, y: {"b": (h, [h + 1]), "a": h.sum(0)},
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_has_the_form_and_the_dtypes_that_eager_gives_it(name, path):
    program = PATHS[path](case_of(RESULTS[name]), "openvino")
    for size in (1, 3, 16):
        inputs = program.case.example(size, seed=1)
        assert_same(program(*inputs), program.case.eager(*inputs))


@pytest.mark.parametrize("name", ONLY_EXPORTED)
def test_what_tracing_cannot_return_is_refused_on_the_input_path_and_served_on_the_others(name):
    case = case_of(ONLY_EXPORTED[name])
    message = refusal("input", case)
    assert "torch.jit.trace" in message
    assert message.endswith("Take the export path.")
    for path in ("jit", "export"):
        program = PATHS[path](case, "openvino")
        inputs = case.example(3, seed=1)
        assert_same(program(*inputs), case.eager(*inputs))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "compute",
    [lambda h, x, y: (h, x + 0, h.view(-1), x.view(-1), torch.ones(3)), lambda h, x, y: (y, h)],
    ids=["computed", "an input"],
)
def test_each_call_has_memory_of_its_own_for_its_results(compute, path):
    program = PATHS[path](case_of(compute), "openvino")
    first, second = (program.case.example(4, seed=seed) for seed in (1, 2))
    output = program(*first)
    before = [tensor.clone() for tensor in output]
    other = program(*second)
    for x in [*first, *other]:
        if not any(x is result for result in output):  # just in time, as in eager, an input may be the result itself
            x.zero_()
    assert all(map(torch.equal, output, before))
    assert_same(program(*program.case.example(4, seed=1)), tuple(before))


@pytest.mark.parametrize("path", AHEAD_OF_TIME)
def test_memory_of_results_is_used_again_once_nobody_has_them(path):
    program = PATHS[path](case_of(lambda h, x, y: (h, x + 0)), "openvino")
    inputs = program.case.example(8, seed=1)
    places = {program(*inputs)[0].data_ptr() for _ in range(5)}
    assert len(places) == 1
    for part in (lambda result: result[1:, 2], lambda result: result.detach(), lambda result: result.numpy()):
        held = part(program(*inputs)[1])
        before = held.copy() if hasattr(held, "copy") else held.clone()
        for size in (8, 16, 1):
            program(*program.case.example(size, seed=2))
        assert (held == before).all()


def test_results_of_many_calls_are_kept_and_outlive_their_program_which_has_few_requests():
    case = case_of(lambda h, x, y: h + y)
    program = compiled_model("export", case)
    program.compiled = mock.Mock(wraps=program.compiled)
    calls = [case.example(size, seed=size) for size in (2, 16, 4, 16, 1)]
    kept, expected = [program(*inputs)[0] for inputs in calls], [case.eager(*inputs) for inputs in calls]
    assert program.compiled.create_infer_request.call_count == openvino.HELD + 1
    assert len({result.data_ptr() for result in kept}) == len(kept)
    del program
    gc.collect()
    for result, eager in zip(kept, expected, strict=True):
        assert_same(result, eager)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("path", PATHS)
def test_a_program_does_not_change_with_the_weights_of_its_model(path, dtype):
    case = case_of(lambda h, x, y: h + y, dtype=dtype)
    program = PATHS[path](case, "openvino")
    inputs = case.example(4, seed=1)
    before = program(*inputs)
    for weight in case.model.parameters():
        weight.fill_(0.5)
    assert torch.equal(program(*inputs), before)


def test_weights_are_there_when_pytorch_has_freed_its_own():
    def program_and_result():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = Layer(lambda h, x, y: h + y, width=256).bfloat16()
        specs = (TensorSpec(name, (DynamicDim("batch", 1, 4, 16), 256), torch.bfloat16) for name in "xy")
        case = Case("layer", model, tuple(specs))
        with openvino.weights_copied():
            return compiled_model("export", case), case.example(4), case.eager(*case.example(4))

    program, inputs, eager = program_and_result()
    gc.collect()
    reused = [torch.full((256, 256), float("nan"), dtype=torch.bfloat16) for _ in range(100)]
    assert_same(program(*inputs)[0], eager)
    del reused


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inputs_that_do_not_lie_in_memory_in_order_are_read_rightly(dtype):
    case = case_of(lambda h, x, y: h + y, dtype=dtype)
    model = compiled_model("export", case)
    x, y = case.example(8, seed=1)
    every_second = torch.stack([x, x + 1], dim=1)[:, 0]
    negative = torch.view_as_complex(torch.stack([x.float(), -y.float()], dim=-1)).conj().imag.to(dtype)
    assert not every_second.is_contiguous()
    assert torch.equal(model(every_second, y.T.contiguous().T)[0], model(x, y)[0])
    assert torch.equal(model(x, negative)[0], model(x, y)[0])


def test_two_threads_may_call_one_program(seed, built):
    program = built("export", "openvino", seed)

    def right_results(size):
        inputs = seed.example(size)
        expected = program(*inputs)
        return lambda: sum(torch.equal(program(*inputs), expected) for _ in range(100))

    with ThreadPoolExecutor(2) as pool:
        counts = [pool.submit(call) for call in (right_results(2), right_results(7))]
        assert [count.result() for count in counts] == [100, 100]


# ---- ranges -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", AHEAD_OF_TIME)
def test_ranges_are_those_of_the_compiled_model_and_not_what_conversion_leaves(path):
    length = DynamicDim("length", 2, 6, 20)
    spec = TensorSpec("y", (length + 1, 8))
    case = Case("ranges", Layer(lambda h, x, y: h + y[1:]), (TensorSpec("x", (length, 8)), spec))
    (engine,) = PATHS[path](case, "openvino").build.engines
    x, y = ((i.min, i.opt, i.max) for i in engine.inputs)
    assert x == ((2, 8), (6, 8), (20, 8))
    assert y == ((3, 8), (7, 8), (21, 8))
    with pytest.raises(RuntimeError, match="incompatible"):
        compiled_model(path, case)(torch.zeros(21, 8), torch.zeros(22, 8))


def compiled_model(path, case):
    """What the path's own function returns, without the range check."""
    function = PATHS[path].__wrapped__
    return function(case.model, case, "openvino", settings("openvino", CPU, None))


def test_just_in_time_ranges_are_those_that_dynamo_guards():
    dynamic, static = PATHS["jit"](case_of(lambda h, x, y: h + y), "openvino").build.engines
    assert {(i.min, i.opt, i.max) for i in dynamic.inputs} == {((2, 8), (4, 8), (16, 8))}
    assert {(i.min, i.opt, i.max) for i in static.inputs} == {((1, 8), (1, 8), (1, 8))}
    assert all(engine.operators > 0 for engine in (dynamic, static))


def test_a_size_that_is_a_sum_is_served_just_in_time():
    def compute(h, x, y):
        joined = torch.cat([h, h, y[:1]])
        rows, width = joined.shape  # Dynamo writes rows as torch.sym_sum, which OpenVINO cannot convert
        return joined.reshape(rows, 2, width // 2)

    program = PATHS["jit"](case_of(compute, batch=(2, 4, 16)), "openvino")
    inputs = program.case.example(9)
    assert_same(program(*inputs), program.case.eager(*inputs))


# ---- what tracing keeps -----------------------------------------------------------------------------------------


def test_a_size_that_tracing_made_a_constant_is_found_and_the_reason_names_tracing():
    case = case_of(lambda h, x, y: h + torch.arange(len(x))[:, None])
    message = refusal("input", case)
    assert "batch 1" in message
    assert "Tracing, which OpenVINO's input path does, kept what Python decided for the example" in message
    assert "test_openvino.py:" in message


def test_a_decision_on_values_is_refused_where_it_would_be_traced_away():
    case = case_of(lambda h, x, y: h if h.sum() > 0 else -h)
    message = refusal("input", case)
    assert "reads values of its tensors in Python" in message
    assert "torch.where" in message
    assert "values are not known while tracing" in refusal("export", case)


# ---- precision and numbers --------------------------------------------------------------------------------------


def test_float32_is_computed_in_float32_whatever_the_default_of_this_cpu_is(seed, path, built):
    program = built(path, "openvino", seed)
    assert program.build.options["INFERENCE_PRECISION_HINT"] == "f32"
    inputs = seed.example(8, seed=3)
    assert Reference(seed).compare(program(*inputs), inputs).ratio < 4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_agree_and_a_cpu_without_them_is_named(seed, path, precision):
    program = PATHS[path](seed.in_precision(precision), "openvino")
    inputs = program.case.example(5, seed=1)
    output = program(*inputs)
    assert output.dtype == inputs[0].dtype
    assert Reference(program.case).compare(output, inputs).agrees
    has_it = precision in openvino.precisions()
    assert program.build.options["INFERENCE_PRECISION_HINT"] == (openvino.HINTS[precision][1] if has_it else "f32")
    assert any(f"this CPU has no {precision}" in note for note in program.build.notes) is not has_it


@pytest.mark.parametrize("path", AHEAD_OF_TIME)
def test_a_precision_that_openvino_would_not_take_is_refused_and_not_blamed_on_tracing(path, seed):
    if "fp16" in openvino.precisions():
        pytest.skip("this CPU has float16")
    message = refusal(path, seed, {"INFERENCE_PRECISION_HINT": "f16"})
    assert "INFERENCE_PRECISION_HINT is f16, and on this CPU OpenVINO would compute in" in message
    assert "racing" not in message


@pytest.mark.parametrize("path", PATHS)
def test_float64_is_refused_and_not_cast(path):
    message = refusal(path, case_of(lambda h, x, y: h + y, dtype=torch.float64))
    assert "float64" in message
    assert "float()" in message


@pytest.mark.parametrize("path", PATHS)
def test_whole_numbers_beyond_32_bits_are_refused_and_the_limit_is_noted(path):
    numbers = TensorSpec("y", (DynamicDim("batch", 1, 4, 16),), torch.int64)
    program = PATHS[path](case_of(lambda h, x, y: (h, y * 2), second=numbers), "openvino")
    x, y = program.case.example(4)
    assert_same(program(x, y), program.case.eager(x, y))
    assert any("32 bits" in note for note in program.build.notes)
    for value in (2**31, -(2**31) - 1):
        y[2] = value
        with pytest.raises(ValueError, match=f"is {value}, and OpenVINO computes whole numbers in 32 bits"):
            program(x, y)


# ---- refused with the reason ------------------------------------------------------------------------------------


def test_a_model_that_writes_into_its_inputs_is_refused(path):
    assert "leaves other numbers in its inputs" in refusal(path, case_of(lambda h, x, y: h + y.add_(1)))


class Autocast(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = nn.functional.gelu(self.body(x))
        return self.head(x.float())


def test_autocast_is_refused_just_in_time_in_words():
    with pytest.raises(BuildError, match=r"came out in bfloat16 where float32 was captured, as under autocast\. Take"):
        PATHS["jit"](Case("autocast", Autocast(), (TensorSpec("x", (BATCH, 8)),)), "openvino")


def test_sizes_that_the_model_does_not_take_are_told_where_a_trace_has_no_guard():
    case = case_of(lambda h, x, y: h[: len(h) // 2] + h[len(h) // 2 :], batch=(4, 8, 20))
    assert "only multiples of 2 in batch" in refusal("input", case)


class Attention(nn.Module):
    def forward(self, x, mask):
        return nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask[:, None, :])


def test_what_it_makes_of_a_row_without_anything_to_attend_to_is_noted(path):
    inputs = TensorSpec("x", (BATCH, 5, 4)), TensorSpec("mask", (BATCH, 5), torch.bool)
    program = PATHS[path](Case("attention", Attention(), inputs), "openvino")
    x, nothing = torch.randn(3, 5, 4), torch.zeros(3, 5, dtype=torch.bool)
    assert Attention()(x, nothing).eq(0).all()
    assert program(x, nothing).isnan().all()
    assert any("leaves a row of attention nothing" in note for note in program.build.notes)


@pytest.mark.parametrize("path", ["jit", "export"])
def test_an_operator_without_a_conversion_is_named(path):
    message = refusal(path, case_of(lambda h, x, y: torch.view_as_real(torch.complex(h, h) * torch.complex(y, y))))
    assert "OpenVINO cannot convert aten.complex.default" in message


def test_what_conversion_trips_over_is_told_in_words():
    assert "holds the constant 7" in refusal("export", case_of(lambda h, x, y: (h, 7)))
    assert "does not use" in refusal("export", case_of(lambda h, x, y: torch.arange(5.0)))
    assert "holds one tensor twice" in refusal("export", case_of(lambda h, x, y: (h, h)))
    assert "the result holds a str" in refusal("export", case_of(lambda h, x, y: (h, "text")))


def test_a_graphics_card_or_an_installation_that_is_missing_or_broken_is_one_sentence(monkeypatch):
    assert "the model is on cuda:0; use device 'cpu'." in openvino.why_not(torch.device("cuda:0"))
    with monkeypatch.context() as patch:
        patch.setattr(openvino.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(BackendUnavailable, match=r"openvino is not installed; `pip install openvino`\.$"):
            choose("openvino", "cpu")
    broken = mock.Mock(side_effect=ImportError("libtbb.so.12: cannot open shared object file\nmore"))
    monkeypatch.setattr(openvino, "_core", broken)
    reason = openvino.why_not(CPU)
    assert "cannot be used (libtbb.so.12: cannot open shared object file); `pip" in reason


# ---- options ----------------------------------------------------------------------------------------------------


def test_options_are_checked_against_the_installed_version(seed):
    with pytest.raises(OptionError, match=r"'INFERENCE_NUM_THREAD'.* did you mean 'INFERENCE_NUM_THREADS'"):
        settings("openvino", CPU, {"INFERENCE_NUM_THREAD": 1})
    assert settings("openvino", CPU, None) == {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    message = refusal("export", seed, {"PERFORMANCE_HINT": "FAST"})
    assert "does not take the value FAST for PERFORMANCE_HINT" in message


@pytest.mark.parametrize("path", AHEAD_OF_TIME)
def test_an_option_reaches_openvino(seed, path):
    options = settings("openvino", CPU, {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "THROUGHPUT"})
    model = PATHS[path].__wrapped__(seed.model, seed, "openvino", options)
    assert model.compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert "THROUGHPUT" in str(model.compiled.get_property("PERFORMANCE_HINT"))


# ---- files ------------------------------------------------------------------------------------------------------


def test_a_saved_program_is_loaded_with_its_precision_and_with_the_threads_of_the_process(tmp_path, monkeypatch):
    case = case_of(lambda h, x, y: {"b": h, "n": x.shape[0], "none": None})
    saving.save(PATHS["export"](case, "openvino"), tmp_path / "layer.dynpt")
    model = mock.Mock(wraps=openvino.OpenVINOModel)
    monkeypatch.setattr(openvino, "OpenVINOModel", model)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        loaded = saving.load(tmp_path / "layer.dynpt")
    finally:
        torch.set_num_threads(before)
    (compiled,) = model.call_args.args
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    inputs = case.example(9, seed=1)
    assert_same(loaded(*inputs), case.eager(*inputs))


# ---- usage statistics -------------------------------------------------------------------------------------------

WATCHED = """
import sys

def refuse(event, arguments):
    if event.startswith("socket.") and event not in ("socket.gethostname", "socket.__new__"):
        with open(sys.argv[1], "a") as file:
            file.write(f"{event} {arguments}\\n")
        raise OSError("there is no network")

sys.addaudithook(refuse)
"""
BUILD = """
from tutorial_lib import PATHS, expand_reshape

for path in PATHS.values():
    path(expand_reshape((1, 2, 4), 48, 7), "openvino")
import openvino.tools.ovc
assert "stub" in openvino.tools.ovc.telemetry_utils.tm.__name__
"""


@pytest.mark.slow
def test_nothing_is_reported_to_its_makers_and_nothing_is_written_into_the_home(tmp_path):
    home, log = tmp_path / "home", tmp_path / "attempts"
    home.mkdir()
    environment = {
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "TUTORIAL_LIB_CACHE": str(tmp_path / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
        "PATH": "/usr/bin:/bin",
    }
    command = [sys.executable, "-c", WATCHED + BUILD, str(log)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not log.exists(), log.read_text()
    assert list(home.iterdir()) == []


INTERRUPT = """
import gc, os, signal
from torch import nn
from tutorial_lib import Case, DynamicDim, TensorSpec, paths

signal.signal(signal.SIGINT, signal.default_int_handler)
case = Case("linear", nn.Linear(4, 4), (TensorSpec("input", (DynamicDim("batch", 1, 4, 8), 4)),))
programs = [path(case, "openvino") for path in (paths.export, paths.input, paths.jit)]
while programs:
    del programs[0]  # the first goes first
    gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
    gc.collect()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
def test_an_interrupt_after_programs_went_does_not_end_the_process():
    done = subprocess.run([sys.executable, "-c", INTERRUPT], capture_output=True, text=True, timeout=300)
    assert done.stdout == "interrupted\n", (done.returncode, done.stderr)
