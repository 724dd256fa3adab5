"""Each path on each backend: what it accepts and refuses, whether it is right, and what its report says."""

import contextlib

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from tutorial_lib import PATHS, BuildError, Case, DynamicDim, OutOfRange, Recompile, ShapeError, TensorSpec
from tutorial_lib.builds import compat


@pytest.fixture
def program(path, backend, built, seed):
    return built(path, backend, seed)


@pytest.fixture
def own(seed):
    """``own(batch=(1, 4, 8), size=16)``: a case of a model class that no other test compiles."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(-1, 1, 3 * 4).view(4, 3))

    # Dynamo's memory belongs to the code of forward, so a fresh one for every test
    code = "def forward(self, x):\n    return torch.relu(x @ self.weight) + 1\n"
    namespace = {"torch": torch}
    exec(compile(code, f"<own model {id(Own)}>", "exec"), namespace)
    Own.forward = namespace["forward"]

    def make(batch=(1, 4, 8), size=16):
        spec = TensorSpec("x", (DynamicDim("batch", *batch), size, 4))
        return Case("own", Own(), (spec,)).to(seed.device)

    return make


def ranges(engine):
    """(min, opt, max) of every axis of the model's inputs, by the input's name."""
    return {i.name: list(zip(i.min, i.opt, i.max, strict=True)) for i in engine.data}


class AwkwardNames(nn.Module):
    def forward(self, input, Scale):
        return (input * Scale).relu()


BATCH = DynamicDim("batch", 2, 4, 8)
NAMED = {
    "names that graphs change": (AwkwardNames(), ["input", "Scale"]),
    # Dynamo does not compile the forward of torch's own classes but a wrapper of it, whose arguments have other names
    "torch's own classes": (nn.Sequential(nn.Linear(4, 5), nn.ReLU()), ["input"]),
}


@pytest.mark.parametrize("model", NAMED)
def test_an_argument_has_the_models_name_whatever_the_graph_calls_it(path, model):
    module, names = NAMED[model]
    build = PATHS[path](Case(model, module, tuple(TensorSpec(name, (BATCH, 4)) for name in names)), "eager").build
    assert [ranges(engine) for engine in build.engines] == [{name: [(2, 4, 8), (4, 4, 4)] for name in names}]


# ---- sizes ------------------------------------------------------------------------------------------------------


RANGES = [(1, 4, 8), (1, 1, 8), (1, 2, 2), (2, 2, 2), (3, 3, 8), (3, 8, 8), (1, 1, 1), (2, 2, 3)]
GENERATED = [("jit", (1, 2, 2)), ("jit", (3, 3, 8)), ("export", (1, 1, 2))]


@pytest.mark.parametrize(
    ("path", "backend", "range_"),
    [
        *((path, "eager", range_) for path in PATHS for range_ in RANGES),
        *((path, "openvino", (1, 4, 8)) for path in PATHS),
        *(pytest.param(path, "inductor", range_, marks=pytest.mark.slow) for path, range_ in GENERATED),
    ],
    indirect=["backend"],
)
def test_a_range_is_served_from_end_to_end_and_not_beyond(path, backend, range_, built, seed, agrees):
    program = built(path, backend, seed.with_ranges(batch=range_))
    low, opt, high = range_
    assert all(agrees(program, size) for size in range(low, high + 1))
    for size in (low - 1, high + 1):
        if size > 0:
            with pytest.raises(OutOfRange, match=rf"batch is {size} on x"):
                program(*seed.example(size))
    engines = program.build.engines
    axis = [ranges(engine)["x"][0] for engine in engines]
    assert program.build.recompiles == 0
    # what was built covers the range, and nothing was left without a bound
    assert min(a[0] for a in axis) == low
    assert max(a[2] for a in axis) == high
    traced = max(2, opt) if low < high else opt
    assert axis[0][1] == traced
    assert any("opt is 2, not 1" in note for note in program.build.notes) == (traced != opt)


def test_two_inputs_that_share_two_dynamic_dims(path, backend, built, masked, agrees):
    program = built(path, backend, masked)
    assert all(agrees(program, {"batch": batch, "length": length}) for batch in (1, 2, 4) for length in (1, 2, 5, 9))
    engines = program.build.engines
    if path == "jit":  # one engine for every way in which dims may be 1
        several = [(2, 2, 4), (2, 5, 9)], [(2, 2, 4), (1, 1, 1)], [(1, 1, 1), (2, 5, 9)], [(1, 1, 1), (1, 1, 1)]
        assert [ranges(engine)["x"][:2] for engine in engines] == list(several)
    else:
        (engine,) = engines
        assert ranges(engine) == {"x": [(1, 2, 4), (1, 5, 9), (16, 16, 16)], "mask": [(1, 2, 4), (1, 5, 9)]}


def test_a_model_without_dynamic_dims_is_compiled_for_its_one_shape(path, own, agrees):
    case = Case("fixed", own().model, (TensorSpec("x", (3, 16, 4)),))
    program = PATHS[path](case, "eager")
    assert agrees(program)
    assert [ranges(engine) for engine in program.build.engines] == [{"x": [(3, 3, 3), (16, 16, 16), (4, 4, 4)]}]
    with pytest.raises(ShapeError, match=r"size 2 in dim 0.* fixed at 3") as refused:
        program(torch.zeros(2, 16, 4, device=case.device))
    assert not isinstance(refused.value, OutOfRange)


# ---- refusals, and what is right though unusual -----------------------------------------------------------------

WRONG = [lambda x: x[0], lambda x: x.double(), lambda x: x.mT.contiguous().mT, lambda x: x.cpu().numpy()]


def test_a_wrong_tensor_is_refused_after_a_right_one(program, seed):
    (x,) = seed.example(4)
    program(x)
    for wrong in WRONG:
        with pytest.raises(ShapeError) as refused:
            program(wrong(x))
        assert not isinstance(refused.value, OutOfRange)
    with pytest.raises(ShapeError, match="2 inputs"):
        program(x, x)
    program(x)


def test_views_into_a_buffer_and_any_stride_of_a_single_row_are_right(program, seed):
    rows = torch.randn(5 * 7 * 48 + 1, device=seed.device)[1:].view(5, 7, 48)
    (x,) = seed.example(1)
    # what x.transpose(0, 1) gives when the batch is second and 1: contiguous, whatever the stride says
    sequence_first = x.transpose(0, 1).contiguous().transpose(0, 1)
    strided = torch.empty_strided((1, 7, 48), (48, 48, 1), device=x.device).copy_(x)
    for given in (rows[:3], rows[2:4], rows[4:], sequence_first, strided):
        assert given.is_contiguous()
        torch.testing.assert_close(program(given), seed.model(given))


def test_one_tensor_may_be_given_twice(path):
    class Product(nn.Module):
        def forward(self, a, b):
            return a * b + 1

    batch = DynamicDim("batch", 1, 2, 4)
    case = Case("product", Product(), (TensorSpec("a", (batch, 3)), TensorSpec("b", (batch, 3))))
    program = PATHS[path](case, "eager")
    a, b = torch.randn(3, 3), torch.randn(3, 3)
    torch.testing.assert_close(program(a, b), a * b + 1)
    torch.testing.assert_close(program(a, a), a * a + 1)


MODES = (torch.enable_grad, torch.no_grad, torch.inference_mode)


def test_gradient_and_inference_mode_of_the_caller_make_no_difference(program, seed):
    (x,) = seed.example(3)
    before, expected = x.clone(), program(x)
    for mode in MODES:
        with mode():
            modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            output = program(x)
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == modes
        assert torch.equal(output, expected)
        assert not output.requires_grad
        assert not output.is_inference()
    assert torch.equal(x, before)
    assert program.build.recompiles == 0


def test_outputs_are_not_overwritten_by_the_next_call(program, seed):
    one, other = seed.example(3, seed=1), seed.example(3, seed=2)
    first = program(*one)
    copy = first.clone()
    program(*other)
    assert torch.equal(first, copy)


# ---- the report -------------------------------------------------------------------------------------------------


def test_batch_one_has_a_static_engine_of_its_own_on_jit_and_is_in_the_one_engine_ahead_of_time(program, path, backend):
    first, *others = program.build.engines
    assert ranges(first) == {"x": [(2 if path == "jit" else 1, 4, 8), (7, 7, 7), (48, 48, 48)]}
    opt_source = {"jit": "the size of the first call", "input": "opt_shape", "export": "the size of the exported"}
    assert first.opt_source.startswith(opt_source[path])
    if path == "jit":
        (second,) = others
        assert ranges(second) == {"x": [(1, 1, 1), (7, 7, 7), (48, 48, 48)]}
        assert second.opt_source == "its only size"
    else:
        assert not others


def test_the_report_says_what_was_built_by_what_where(program, path, backend, seed):
    build = program.build
    assert (build.case, build.path, build.backend) == ("expand-reshape", path, backend)
    assert build.versions["torch"] == torch.__version__
    assert build.versions["python"]
    cpu = seed.device.type == "cpu"
    assert build.device.startswith("CPU (") if cpu else build.device == torch.cuda.get_device_name(seed.device)
    assert all(engine.operators > 0 and not engine.after_build for engine in build.engines)
    assert 0 < sum(engine.seconds for engine in build.engines) <= build.seconds
    assert {i.dtype for engine in build.engines for i in engine.data} == {"float32"}
    assert build.notes == ()
    assert f"{path} with {backend}" in str(build)
    assert ("x [2/4/8, 7, 48]" if path == "jit" else "x [1/4/8, 7, 48]") in str(build)
    assert build.recompiles == build.to_dict()["recompiles"] == 0
    assert repr(program) == f"<Compiled expand-reshape: {path} with {backend}>"
    if backend == "eager":
        assert build.options == {}
    elif backend == "openvino":
        assert build.options["INFERENCE_NUM_THREADS"] == torch.get_num_threads()
    else:
        assert "cpp.cxx" in build.options


def test_the_size_of_a_package_and_what_is_left_to_pytorch_are_told(program, path, backend, seed):
    size, left = program.build.artefact_bytes, program.build.left_to_pytorch
    if path == "jit":
        assert (size, left) == (None, None)
    elif backend == "eager":  # nothing is compiled, so everything is left
        assert size is None
        assert {"aten.linear.default", "aten.cat.default"} <= set(left)
    else:
        assert size > sum(p.numel() * p.element_size() for p in seed.model.parameters())
        if backend == "openvino":
            assert left == ()
        else:  # the matrix product is a library's, the rest is fused
            assert any("mm" in name or "linear" in name for name in left)
            assert not any("cat" in name for name in left)


# ---- outside the range, and compiling again ---------------------------------------------------------------------


@pytest.fixture
def jit(own):
    return PATHS["jit"](own(), "eager")


def eager(program, batch):
    inputs = program.case.example(batch)
    return inputs, program.case.model(*inputs)


def graphs():
    return counters["stats"]["unique_graphs"]


def test_recompiles_outside_the_range_are_counted_exactly(backend, own):
    program = PATHS["jit"](own(), backend)
    program.outside = "recompile"
    built_at_first, before = len(program.build.engines), graphs()
    for batch in (9, 9, 3, 9, 1, 12, 9, 12):
        inputs, expected = eager(program, batch)
        torch.testing.assert_close(program(*inputs), expected)
        assert program.build.recompiles == graphs() - before
    build = program.build
    assert 1 <= build.recompiles <= 2  # 9, and 12 unless the engine of 9 serves it
    assert len(build.engines) == built_at_first + build.recompiles
    late = [engine for engine in build.engines if engine.after_build]
    assert late == list(build.engines[built_at_first:])
    assert ranges(late[0])["x"][0] == (2, 9, None)  # a second size makes the batch dynamic without an upper bound
    assert "call that triggered it" in late[0].opt_source
    assert "built after the first build" in str(late[0])


def test_recompiling_can_be_forbidden_again_and_a_report_that_was_taken_does_not_change(jit):
    assert jit.outside == "raise"
    before = jit.build
    jit.outside = "recompile"
    jit(*jit.case.example(9))
    assert (before.recompiles, jit.build.recompiles) == (0, 1)
    jit.outside = "raise"
    with pytest.raises(OutOfRange):
        jit(*jit.case.example(9))


def test_eager_serves_what_is_outside_without_compiling(path, own):
    program = PATHS[path](own(), "eager")
    program.outside = "eager"
    before = graphs()
    for batch in (9, 30):
        inputs, expected = eager(program, batch)
        output = program(*inputs)
        assert torch.equal(output, expected)
        assert not output.requires_grad
    assert graphs() == before
    assert program.build.recompiles == 0


@pytest.mark.parametrize("outside", ["recompile", "eager"])
def test_outside_the_range_modes_make_no_difference_and_what_is_wrong_in_another_way_is_refused(jit, outside):
    jit.outside = outside
    inputs, expected = eager(jit, 9)
    for mode in MODES:
        with mode():
            output = jit(*inputs)
        torch.testing.assert_close(output, expected)
        assert not output.requires_grad
        assert not output.is_inference()
    for wrong in (inputs[0].double(), inputs[0][:, :3]):
        with pytest.raises(ShapeError) as refused:
            jit(wrong)
        assert not isinstance(refused.value, OutOfRange)
    assert jit.build.recompiles == (1 if outside == "recompile" else 0)


@pytest.mark.parametrize("path", ["input", "export"])
def test_what_was_built_ahead_of_time_cannot_recompile(path, built, seed):
    program = built(path, "eager", seed)
    for choice, said in (("recompile", f"{path} path.*cannot recompile"), ("Raise", "use raise, recompile, eager")):
        with pytest.raises(ValueError, match=said):
            program.outside = choice
    assert program.outside == "raise"


@contextlib.contextmanager
def another_number_of_threads():
    """Dynamo guards on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def test_a_call_in_range_that_would_recompile_raises_says_why_and_does_no_harm(jit):
    inputs, expected = eager(jit, 4)
    with another_number_of_threads():
        for batch in (4, 1):
            with pytest.raises(Recompile, match="num_threads"):
                jit(*jit.case.example(batch))
    assert jit.build.recompiles == 0
    torch.testing.assert_close(jit(*inputs), expected)
    assert len(PATHS["jit"](jit.case, "eager").build.engines) == 2


@pytest.mark.parametrize("path", ["input", "export"])
def test_what_was_built_ahead_of_time_runs_with_another_number_of_threads(path, built, seed, agrees):
    program = built(path, "eager", seed)
    with another_number_of_threads():
        assert agrees(program, 4)


@pytest.mark.slow
def test_one_model_can_be_built_more_often_than_torch_recompiles(own):
    case = own()
    programs = [PATHS["jit"](case, "eager") for _ in range(12)]  # torch's limit is 8
    inputs, expected = eager(programs[0], 4)
    for program in programs:
        assert len(program.build.engines) == 2
        torch.testing.assert_close(program(*inputs), expected)
        assert program.build.recompiles == 0
    # at its limit torch would run the model uncompiled, and from then on for good
    with another_number_of_threads(), pytest.raises(Recompile):
        programs[0](*inputs)
    assert len(PATHS["jit"](case, "eager").build.engines) == 2


def test_a_model_recompiles_more_often_than_torch_would(own):
    program = PATHS["jit"](own(), "eager")
    program.outside = "recompile"
    for batch in range(9, 24):
        inputs, expected = eager(program, batch)
        torch.testing.assert_close(program(*inputs), expected)


def test_each_build_of_a_model_has_the_ranges_and_sizes_that_were_asked_for(path, own):
    # Dynamo makes a size dynamic when it meets a second one; here every build is a first one
    ranges_and_sizes = [((1, 4, 8), 16), ((1, 7, 8), 20), ((1, 2, 8), 24), ((3, 3, 3), 16), ((1, 2, 2), 16)]
    for batch, size in ranges_and_sizes:
        axes = [ranges(engine)["x"] for engine in PATHS[path](own(batch, size), "eager").build.engines]
        assert (min(axis[0][0] for axis in axes), axes[0][0][1], max(axis[0][2] for axis in axes)) == batch
        assert all(axis[1:] == [(size, size, size), (4, 4, 4)] for axis in axes)


@pytest.fixture
def padding_limits(monkeypatch):
    """Where padding is on, Inductor decides by a symbolic size, as torch 2.11 does for a GPU."""
    limits = []

    def decide(graph):
        values = [node.meta["val"] for node in graph.find_nodes(op="placeholder")]
        if limits and torch._inductor.config.shape_padding:
            assert all(size <= limits[0] for size in values if isinstance(size, torch.SymInt))

    monkeypatch.setattr(compat, "padding_may_narrow_the_range", lambda device, options: "shape_padding" not in options)
    with torch._inductor.config.patch(joint_custom_pre_pass=decide, force_disable_caches=True):
        yield limits


@pytest.mark.slow
def test_padding_that_narrows_the_range_is_turned_off(own, inductor, padding_limits, agrees, capfd):
    padding_limits.append(6)
    program = PATHS["jit"](own(batch=(1, 4, 8)), inductor)
    assert program.build.options["shape_padding"] is False
    assert "padding" in " ".join(program.build.notes)
    assert [ranges(engine)["x"][0] for engine in program.build.engines] == [(2, 4, 8), (1, 1, 1)]
    assert all(agrees(program, size) for size in (1, 2, 7, 8))
    assert "Error while creating guard" not in capfd.readouterr().err


@pytest.mark.slow
def test_padding_that_was_asked_for_is_not_turned_off(own, inductor, padding_limits):
    padding_limits.append(6)
    with pytest.raises(BuildError, match="only up to 6"):
        PATHS["jit"](own(batch=(1, 4, 8)), inductor, {"shape_padding": True})


@pytest.mark.parametrize(
    ("device", "options", "pads"),
    [("cuda", {}, True), ("cuda", {"shape_padding": True}, False), ("cpu", {}, False)],
)
def test_only_a_gpus_products_are_padded_and_only_if_nobody_has_set_it(device, options, pads):
    assert compat.padding_may_narrow_the_range(torch.device(device), options) == pads


def test_a_recompile_changes_neither_an_earlier_nor_a_later_build(own):
    case = own()
    one, other = PATHS["jit"](case, "eager"), PATHS["jit"](case, "eager")
    one.outside = "recompile"
    one(*case.example(9))
    assert (len(one.build.engines), len(other.build.engines)) == (3, 2)
    with pytest.raises(OutOfRange):
        other(*case.example(9))
    fixed = PATHS["jit"](own(batch=(4, 4, 4), size=20), "eager")
    assert [ranges(engine)["x"] for engine in fixed.build.engines] == [[(4, 4, 4), (20, 20, 20), (4, 4, 4)]]


# ---- failures ---------------------------------------------------------------------------------------------------


class Wrong(nn.Module):
    def forward(self, x):
        return x @ torch.ones(5, 5, device=x.device)


WRONG_CASE = Case("wrong", Wrong(), (TensorSpec("x", (DynamicDim("batch", 1, 2, 4), 3)),))


def test_a_model_that_cannot_be_traced_is_one_sentence_with_the_cause_and_leaves_lock_and_modes_free(path, own):
    with torch.enable_grad():
        with pytest.raises(BuildError, match=f"^{path} with eager could not compile wrong.*$") as failed:
            PATHS[path](WRONG_CASE, "eager")
        assert torch.is_grad_enabled()
    assert "\n" not in str(failed.value)
    assert failed.value.__cause__ is not None
    assert len(PATHS[path](own(), "eager").build.engines) > 0


class SpecialBatchOne(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] == 1 else x + 1


def special(low):
    return Case("special", SpecialBatchOne(), (TensorSpec("x", (DynamicDim("batch", low, 4, 8), 3)),))


def test_a_model_that_is_special_at_batch_one_is_right_on_jit_and_refused_at_build_time_on_the_others(path, agrees):
    if path == "jit":
        program = PATHS["jit"](special(1), "eager")
        assert all(agrees(program, batch) for batch in (1, 2, 5))
        return
    with pytest.raises(BuildError, match=r"wrong at batch 1.* min of 2"):
        PATHS[path](special(1), "eager")
    assert agrees(PATHS[path](special(2), "eager"), 5)
