"""Running a plan: everything is checked before it is deserialized, and then TensorRT gets what its API asks for."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import fake_tensorrt_rtx
import pytest
import torch
from plans import PLAN, VERSION, S, W, X

from tutorial_lib.builds.backends.tensorrt import rtx_runs_on
from tutorial_lib.builds.plan import PlanLayer
from tutorial_lib.checks.range_check import OutOfRange
from tutorial_lib.core.shapes import ShapeError
from tutorial_lib.engines import EnginesUnavailable, install, run_inside, running
from tutorial_lib.engines.errors import PlanError
from tutorial_lib.engines.files import description_of, save
from tutorial_lib.engines.install import Frontend
from tutorial_lib.engines.running import check_inputs, run

HERE = Path(__file__).parent
CPU = torch.device("cpu")
GIB = 1 << 30


def refused(call, *arguments, error=PlanError, **options):
    """The one sentence with which a call is refused."""
    with pytest.raises(error) as raised:
        call(*arguments, **options)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(".")
    return str(raised.value)


def plan_with(*inputs, **changes):
    return replace(PLAN, inputs=inputs, **changes)


# ---- inputs against the profiles

TWO_PROFILES = replace(X, profiles=(((1, 8), (2, 8), (4, 8)), ((16, 8), (32, 8), (64, 8))))


def test_every_size_of_the_range_is_accepted():
    for size in (1, 4, 32):
        x = torch.ones(size, 8)
        for inputs in ([x], {"x": x}):
            profile, ready = check_inputs(PLAN, inputs, CPU)
            assert (profile, ready["x"].data_ptr()) == (0, x.data_ptr())


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.ones(33, 8), OutOfRange, "x has size 33 in dim 0, and the plan was built for 1 to 32"),
        (torch.ones(0, 8), OutOfRange, "x has size 0 in dim 0"),
        (torch.ones(4, 9), OutOfRange, "x has size 9 in dim 1, and the plan was built for 8"),
        ([[1.0] * 8], ShapeError, "x is a list"),
        (torch.ones(4, 8, dtype=torch.float16), ShapeError, "x.to(torch.float32)"),
        (torch.ones(4, 8, device="meta"), ShapeError, "x.to('cpu')"),
        (torch.ones(8, 4).T, ShapeError, "x is not contiguous"),
        (torch.ones(8), ShapeError, "give 2: [1 to 32, 8]"),
        (torch.ones(4, 8, requires_grad=True), ShapeError, "x.detach()"),
        (torch.ones(4, 8).to_sparse(), ShapeError, "layout torch.sparse_coo"),
        (torch.nested.nested_tensor([torch.ones(8)], layout=torch.jagged), ShapeError, "nested"),
        (torch._neg_view(torch.ones(4, 8)), ShapeError, "negated or conjugated"),
    ],
)
def test_any_other_tensor_is_refused(x, error, words):
    assert words in refused(check_inputs, PLAN, [x], CPU, error=error)


ONES = torch.ones(4, 8)
RENAMED = plan_with(replace(X, name="arg1_1", argument="query"), replace(X, name="arg0_1", argument="key"))


@pytest.mark.parametrize(
    ("plan", "inputs", "words"),
    [
        (PLAN, [], "the plan takes 1 (x)"),
        (PLAN, ONES, "give a list of tensors"),
        (PLAN, iter([ONES]), "give a list of tensors"),
        (PLAN, {}, "also takes the inputs x"),
        (PLAN, {"x": ONES, "z": ONES}, "z is no input of the plan; it takes x"),
        (plan_with(X, replace(X, name="z")), [ONES, ONES], "takes the inputs x, z; give them by name"),
        (plan_with(X, W, S), [ONES], "the inputs x and the weights w and the sizes s; give them by name"),
        (plan_with(X, W, S), {"x": ONES}, "also takes the weights w and the sizes s"),
        (RENAMED, {"arg0_1": ONES, "key": ONES, "query": ONES}, "arg0_1 was given twice"),
    ],
)
def test_inputs_that_are_not_those_of_the_plan_are_refused(plan, inputs, words):
    assert words in refused(check_inputs, plan, inputs, CPU, error=ShapeError)


def test_the_first_profile_that_holds_all_inputs_is_used():
    plan = plan_with(TWO_PROFILES, replace(TWO_PROFILES, name="z"))
    for profile, size in enumerate((3, 20)):
        assert check_inputs(plan, {"x": torch.ones(size, 8), "z": torch.ones(size, 8)}, CPU)[0] == profile
    words = refused(check_inputs, plan, {"x": torch.ones(8, 8), "z": torch.ones(3, 8)}, CPU, error=OutOfRange)
    assert "profile 0: x has size 8 in dim 0, and the plan was built for 1 to 4; profile 1: " in words
    refused(check_inputs, plan, {"x": torch.ones(3, 8), "z": torch.ones(20, 8)}, CPU, error=OutOfRange)


def test_inputs_are_known_by_the_model_s_names_too():
    query, key = torch.ones(4, 8), torch.ones(5, 8)
    ready = check_inputs(RENAMED, {"key": key, "query": query}, CPU)[1]
    assert [(name, tensor.data_ptr()) for name, tensor in ready.items()] == [
        ("arg1_1", query.data_ptr()),
        ("arg0_1", key.data_ptr()),
    ]


def test_a_parameter_is_a_weight_although_it_requires_grad():
    weight = torch.nn.Parameter(torch.ones(8, 8))
    ready = check_inputs(plan_with(X, W), {"w": weight, "x": ONES}, CPU)[1]
    assert list(ready) == ["x", "w"]
    assert ready["w"].data_ptr() == weight.data_ptr()
    assert not ready["w"].requires_grad


@pytest.mark.parametrize("size", [4, [4], (4,), torch.tensor(4), torch.tensor([4], dtype=torch.int32)])
def test_a_size_is_a_number_in_any_form(size):
    ready = check_inputs(plan_with(X, S), {"x": ONES, "s": size}, CPU)[1]
    assert torch.equal(ready["s"], torch.tensor([4]))


@pytest.mark.parametrize(
    ("size", "error", "words"),
    [
        (33, OutOfRange, "value 33 at index 0, and the plan was built for 2 to 32"),
        *((bad, ShapeError, "give one whole number") for bad in (4.0, True, "4")),
        (torch.tensor(4, device="meta"), ShapeError, "s is on meta"),
        ([4, 4], ShapeError, "s has 2 values; give 1: [2 to 32]"),
        (2**64, ShapeError, "which int64 does not hold"),
    ],
)
def test_any_other_size_is_refused(size, error, words):
    assert words in refused(check_inputs, plan_with(X, S), {"x": ONES, "s": size}, CPU, error=error)


def test_a_plan_without_inputs_takes_none():
    assert check_inputs(plan_with(), [], CPU) == (0, {})


# ---- the order of the checks


class Stream:
    cuda_stream = 7
    waited = 0

    def synchronize(self):
        Stream.waited += 1


@pytest.fixture
def card(monkeypatch):
    """A card that ``torch.cuda`` answers for; its attributes can be set."""
    card = types.SimpleNamespace(present=True, capability=(8, 9), free=16 * GIB, cached=0)
    stream = Stream()

    def empty_cache():
        card.free, card.cached = card.free + card.cached, 0

    answers = {
        "is_available": lambda: card.present,
        "current_device": lambda: 0,
        "get_device_capability": lambda device: card.capability,
        "get_device_name": lambda device: "the card",
        "mem_get_info": lambda device: (card.free, 24 * GIB),
        "empty_cache": empty_cache,
        "current_stream": lambda device: stream,
        "device": lambda device: contextlib.nullcontext(),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    return card


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.plan"


def use(monkeypatch, module):
    monkeypatch.setattr(running, "_tensorrt_rtx", lambda: module)
    return module


def test_each_check_comes_before_the_next(file, card, monkeypatch):
    """Everything is wrong at first, and is put right one by one; nothing is deserialized on the way."""
    trt = use(monkeypatch, fake_tensorrt_rtx.module("1.7.1.116"))
    on_turing = replace(PLAN, targets=("sm75",), activation_bytes=20 * GIB)
    save(on_turing, file)
    content = file.read_bytes()
    description = description_of(file).read_text()
    description_of(file).unlink()
    file.write_bytes(b"damaged")

    def refuses(words, size=64, trust=True, error=PlanError):
        assert words in refused(run, file, [torch.ones(size, 8)], trust=trust, error=error)

    refuses("native code", trust=False)
    refuses("model.plan.json, the description of the plan, is missing")
    description_of(file).write_text(description)
    refuses("its digest differs")
    file.write_bytes(content)
    card.present = False
    refuses("runs on an NVIDIA GPU")
    card.present, card.capability, card.free = True, (9, 0), GIB
    refuses("does not run on compute capability 9.0")
    card.capability = (8, 9)
    refuses("the plan was built for sm75")
    card.capability = (7, 5)
    refuses("can return zeros without an error")
    card.capability = (8, 9)
    save(replace(on_turing, targets=("sm89",)), file, overwrite=True)
    refuses(f"was built by TensorRT for RTX {VERSION}, and 1.7.1.116 is installed here")
    trt.__version__ = VERSION
    refuses("x is on cpu; the plan runs on cuda:0", error=ShapeError)
    monkeypatch.setattr(running, "_device", lambda inputs: CPU)
    refuses("x has size 64 in dim 0", error=OutOfRange)
    refuses("needs 21.5 GB of GPU memory", size=32)
    assert trt.calls == []


def test_without_cuda_in_torch_or_a_card_that_is_said(file, monkeypatch):
    save(PLAN, file)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "this PyTorch is built without CUDA" in refused(run, file, [], trust=True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "PyTorch sees none here" in refused(run, file, [], trust=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_real_card_that_tensorrt_for_rtx_does_not_support_is_refused(file):
    capability = torch.cuda.get_device_capability()
    if rtx_runs_on(capability):
        pytest.skip("this card is supported")
    save(PLAN, file)
    words = f"does not run on compute capability {capability[0]}.{capability[1]};"
    assert words in refused(run, file, [torch.ones(4, 8, device="cuda")], trust=True)


def test_memory_that_torch_only_keeps_is_given_back_first(file, card, on_card):
    card.free, card.cached = GIB, 15 * GIB
    assert len(on_card(fake_tensorrt_rtx.module(), replace(PLAN, activation_bytes=10 * GIB), [torch.ones(4, 8)])) == 1
    card.free, card.cached = GIB, 8 * GIB
    assert "does not fit on the card" in refused(run, file, [torch.ones(4, 8)], trust=True)


def test_what_a_plan_allocates_at_run_time_depends_on_the_inputs_and_is_named_where_it_fails(card, on_card):
    plan = replace(PLAN, layers=(PlanLayer("allocate_0", "allocate", inputs=("float32 [-1,8]",)),))
    card.free = GIB
    assert len(on_card(fake_tensorrt_rtx.module(), plan, [torch.ones(4, 8)])) == 1
    words = refused(on_card, fake_tensorrt_rtx.module(fail="execute_async_v3"), plan, [torch.ones(4, 8)])
    assert "it allocates memory at run time: free some, or give smaller inputs" in words


# ---- the calls of TensorRT's API, on a stand-in


@pytest.fixture
def on_card(file, card, monkeypatch):
    """``on_card(module, plan, inputs)`` runs a plan on a stand-in; what would be on the GPU is on the CPU."""
    monkeypatch.setattr(running, "_device", lambda inputs: CPU)
    monkeypatch.setattr(running, "ALIGNMENT", fake_tensorrt_rtx.ALIGNMENT)

    def run_on(module, plan, inputs):
        use(monkeypatch, module)
        save(plan, file, overwrite=True)
        return run(file, inputs, trust=True)

    return run_on


def test_the_outputs_are_what_the_engine_wrote(on_card):
    trt, x, waited = fake_tensorrt_rtx.module(), torch.randn(5, 8), Stream.waited
    (y,) = on_card(trt, PLAN, [x])
    assert torch.equal(y, 2 * x)
    assert not y.requires_grad
    assert trt.calls[0] == PLAN.data
    assert 7 in trt.calls  # the current stream
    assert Stream.waited == waited + 1
    assert "set_optimization_profile_async" not in trt.calls  # the first profile is set from the start


def test_a_size_is_read_on_the_cpu(on_card):
    trt = fake_tensorrt_rtx.module(inputs=(("x", "FLOAT"), ("s", "INT64")))
    x = torch.randn(3, 8)
    (y,) = on_card(trt, plan_with(X, S), {"x": x, "s": 5})
    assert torch.equal(y, 10 * x)


def test_another_profile_is_set_on_the_stream(on_card):
    trt = fake_tensorrt_rtx.module()
    (y,) = on_card(trt, plan_with(TWO_PROFILES), [torch.ones(20, 8)])
    assert y.shape == (20, 8)
    assert (1, 7) in trt.calls
    assert trt.calls.index((1, 7)) < trt.calls.index("set_input_shape")


def test_an_input_that_is_not_aligned_is_copied(on_card):
    x = torch.randn(5, 8)[1:]  # begins 32 bytes behind the allocation
    assert x.data_ptr() % fake_tensorrt_rtx.ALIGNMENT
    (y,) = on_card(fake_tensorrt_rtx.module(), PLAN, [x])  # which refuses such an address
    assert torch.equal(y, 2 * x)


CALLS = {
    "deserialize_cuda_engine": "refused the plan (the reason of deserialize_cuda_engine)",
    "create_execution_context": "(the reason of create_execution_context)",
    "set_optimization_profile_async": "profile 1 (the reason of set_optimization_profile_async)",
    "set_input_shape": "the shape of x (the reason of set_input_shape)",
    "set_tensor_address": "the memory of x (the reason of set_tensor_address)",
    "infer_shapes": "cannot tell the shapes that follow from s",
    "get_tensor_shape": "the shape of y depends on values, (-1, 8)",
    "execute_async_v3": "could not run the plan (the reason of execute_async_v3)",
}


@pytest.mark.parametrize(("fail", "words"), CALLS.items(), ids=CALLS)
def test_a_call_that_fails_is_one_sentence_with_tensorrt_s_reason(on_card, fail, words):
    trt = fake_tensorrt_rtx.module(fail=fail)
    assert words in refused(on_card, trt, plan_with(TWO_PROFILES), [torch.ones(20, 8)])


@pytest.mark.parametrize(
    "module",
    [
        {"inputs": (("x", "HALF"),)},
        {"inputs": (("x2", "FLOAT"),)},
        {"inputs": (("x", "FLOAT"), ("w", "FLOAT"))},
        {"outputs": (("y", "INT32"),)},
    ],
)
def test_a_description_that_is_not_the_engine_s_is_refused_before_it_runs(on_card, module):
    trt = fake_tensorrt_rtx.module(**module)
    assert "other inputs and outputs than its description says" in refused(on_card, trt, PLAN, [torch.ones(4, 8)])
    assert "create_execution_context" not in trt.calls


# ---- where tensorrt_rtx comes from


def test_the_reader_s_own_tensorrt_comes_first(monkeypatch):
    own = types.ModuleType("tensorrt_rtx")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", own)
    assert running._tensorrt_rtx() is own


@pytest.fixture
def no_own(monkeypatch, tmp_path):
    """An environment without ``tensorrt_rtx``, and an empty folder of engines."""
    for name in [name for name in sys.modules if name.startswith("tensorrt_rtx")]:
        monkeypatch.delitem(sys.modules, name)
    find_spec = running.importlib.util.find_spec
    monkeypatch.setattr(
        running.importlib.util, "find_spec", lambda name: None if name == "tensorrt_rtx" else find_spec(name)
    )
    monkeypatch.setattr(install, "located", lambda: Frontend(tmp_path, {}))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("tensorrt_rtx")]:
        del sys.modules[name]  # for good: what monkeypatch takes away comes back


def test_else_only_tensorrt_is_taken_from_the_folder_of_engines(no_own):
    (no_own / "tensorrt_rtx").mkdir()
    (no_own / "tensorrt_rtx" / "__init__.py").write_text(
        "from tensorrt_rtx_bindings import __version__\ntry:\n    import psutil_of_the_folder\n"
        "except ImportError:\n    psutil_of_the_folder = None\n"
    )
    (no_own / "tensorrt_rtx_bindings.py").write_text("__version__ = '1.2'")
    (no_own / "psutil_of_the_folder.py").write_text("")
    path, finders = list(sys.path), list(sys.meta_path)
    module = running._tensorrt_rtx()
    assert module.__version__ == "1.2"
    assert module.psutil_of_the_folder is None
    assert (sys.path, sys.meta_path) == (path, finders)


def test_one_that_is_missing_or_cannot_be_loaded_is_one_sentence(no_own):
    with pytest.raises(EnginesUnavailable, match=r"TensorRT for RTX is not in .*; run `"):
        running._tensorrt_rtx()
    (no_own / "tensorrt_rtx.py").write_text("raise OSError('libtensorrt_rtx.so.1: cannot open\\nshared object file')")
    finders = list(sys.meta_path)
    assert "cannot be imported (libtensorrt_rtx.so.1: cannot open)" in refused(running._tensorrt_rtx)
    assert sys.meta_path == finders


# ---- the real TensorRT


def built_inside():
    """A plan of relu(x), x float32 [1/4/32, 8], its builder's version, the data types, and the names in the API."""
    import tensorrt_rtx as trt

    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    y = network.add_activation(network.add_input("x", trt.float32, (-1, 8)), trt.ActivationType.RELU).get_output(0)
    y.name = "y"
    network.mark_output(y)
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("x", (1, 8), (4, 8), (32, 8))
    config.add_optimization_profile(profile)
    classes = {"": trt, "Runtime": trt.Runtime, "Engine": trt.ICudaEngine, "Context": trt.IExecutionContext}
    classes |= {"ILogger": trt.ILogger, "TensorLocation": trt.TensorLocation}
    names = {name: dir(value) for name, value in classes.items()}
    return bytes(builder.build_serialized_network(network, config)), trt.__version__, [*trt.DataType.__members__], names


@pytest.fixture(scope="module")
def real(installed):
    return run_inside(built_inside).result


def test_the_stand_in_has_only_what_tensorrt_has(real):
    names, fake = real[3], fake_tensorrt_rtx.module()
    for kind, stand_in in fake.classes.items():
        public = {name for name in vars(stand_in) if not name.startswith("_")}
        assert public
        assert public <= set(names[kind])
    assert {"__version__", "ILogger", "Runtime", "TensorLocation"} <= set(names[""])
    assert "Severity" in names["ILogger"]
    assert {location.name for location in fake.TensorLocation} <= set(names["TensorLocation"])


def test_every_type_of_tensorrt_that_torch_has_is_known_by_torch_s_name(real):
    names = {running.dtype_name(name) for name in real[2]}
    without = {name for name in names if not isinstance(getattr(torch, name, None), torch.dtype)}
    assert without <= {"int4", "fp4", "e8m0"}


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a driver is needed")
def test_a_real_plan_gets_through_every_check_to_tensorrt_s_own_refusal(installed, real, file):
    data, version, *_ = real
    save(replace(PLAN, data=data, plan_bytes=len(data), versions={"tensorrt-rtx": version}), file)
    spec = importlib.util.find_spec("tensorrt_rtx")
    folder = Path(spec.origin).parents[1] if spec else installed.folder
    command = [sys.executable, str(HERE / "refused_without_driver.py"), str(folder), str(file)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["said"].startswith("TensorRT for RTX refused the plan (")
    assert "it gave no reason" not in answer["said"]
    assert Path(answer["from"]).is_relative_to(folder)
    assert answer["path"]
    assert answer["others"] == []
