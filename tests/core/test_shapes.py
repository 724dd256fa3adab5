import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tutorial_lib import DynamicDim, ShapeError, TensorSpec
from tutorial_lib.core.shapes import LARGEST, export_dims, first_calls, named_dims, range_dims

FIELDS = ("min", "opt", "max")

whole = st.one_of(st.integers(1, 64), st.integers(1, LARGEST), st.sampled_from([1, 2, LARGEST - 1, LARGEST]))
ranges = st.tuples(whole, whole, whole).map(sorted)
small = st.integers(1, 3) | st.integers(1, 40)  # torch treats 1 specially, so ranges that end at 2 are special too
small_ranges = st.tuples(small, small, small).map(sorted)
anything = st.one_of(
    st.integers(-3, 40),
    st.integers(LARGEST - 2, LARGEST + 2),
    st.integers(),
    st.integers(-3, 40).map(np.int64),
    st.booleans(),
    st.booleans().map(np.bool_),
    st.floats(),
    st.integers(1, 8).map(float),
    st.floats(1, 40).map(np.float32),
    st.text(max_size=3),
    st.integers(1, 9).map(str),
    st.none(),
)


def is_size(value):
    whole_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole_number and 1 <= value <= LARGEST


def offenders(triple):
    """What is wrong with a triple: the values that are no sizes, else those that are out of order."""
    values = dict(zip(FIELDS, triple, strict=True))
    no_sizes = {field: value for field, value in values.items() if not is_size(value)}
    if no_sizes:
        return no_sizes
    pairs = [("min", "opt"), ("opt", "max"), ("min", "max")]
    return {field: values[field] for low, high in pairs if values[low] > values[high] for field in (low, high)}


def shown(value):
    whole_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return str(int(value)) if whole_number else repr(value)


def sizes_at(dims, pick):
    return {name: pick(dim) for name, dim in dims.items()}


@given(st.tuples(anything, anything, anything).filter(offenders))
@example((0, 4, 8))
@example((1, 4, LARGEST + 1))
@example((5, 3, 8))
@example((1, 9, 8))
@example((9, 9, 8))
@example((True, 4, 8))
@example((1, 4.0, 8))
@example((1, "4", 8))
def test_every_invalid_triple_is_refused_and_the_message_names_an_offending_value(triple):
    with pytest.raises(ShapeError) as refused:
        DynamicDim("batch", *triple)
    message = str(refused.value)
    assert message.startswith("batch: ")
    assert any(f"{field} is {shown(value)}" in message for field, value in offenders(triple).items()), message


@given(ranges, st.sampled_from([int, np.int64, np.uint64]))
def test_every_valid_triple_is_kept_as_plain_ints(triple, kind):
    dim = DynamicDim("batch", *map(kind, triple))
    assert [dim.min, dim.opt, dim.max] == triple
    assert {type(dim.min), type(dim.opt), type(dim.max)} == {int}


def test_a_boolean_tensor_is_not_a_size():
    with pytest.raises(ShapeError, match="min is"):
        DynamicDim("batch", torch.tensor(True), 4, 8)


@given(small_ranges, small_ranges, st.data())
def test_the_three_dialects_describe_the_same_ranges(rows, columns, data):
    rows, columns = DynamicDim("rows", *rows), DynamicDim("columns", *columns)
    specs = [TensorSpec("x", (rows, 3, columns)), TensorSpec("mask", (columns, rows), torch.bool)]
    sizes = sizes_at(named_dims(specs), lambda dim: data.draw(st.integers(dim.min, dim.max), dim.name))
    exports, from_ranges = export_dims(specs), range_dims(specs)
    for spec in specs:
        varying = {axis: d for axis, d in enumerate(spec.shape) if isinstance(d, DynamicDim) and d.min < d.max}

        args = spec.input_args()
        low, opt, high = (args.get(f"{corner}_shape", args.get("shape")) for corner in FIELDS)
        assert len(low) == len(opt) == len(high) == len(spec.shape)
        assert (args["name"], args["dtype"]) == (spec.name, spec.dtype)
        assert ("shape" in args) == (not varying)

        tensor = torch.empty(spec.shape_at(sizes), dtype=spec.dtype)
        for axis, keywords in spec.marks(tensor):
            torch._dynamo.mark_dynamic(tensor, axis, **keywords)
        marked = {r.dim: (r.min, r.max) for r in getattr(tensor, "_dynamo_dynamic_range", ())}
        hints = getattr(tensor, "_dynamo_hint_overrides", {})
        assert set(marked) == getattr(tensor, "_dynamo_dynamic_indices", set())

        assert set(exports[spec.name]) == set(from_ranges[spec.name]) == set(varying)
        for axis, dim in enumerate(spec.shape):
            if axis not in varying:
                size = dim.min if isinstance(dim, DynamicDim) else dim
                assert low[axis] == opt[axis] == high[axis] == size
                assert axis not in marked
                continue
            assert (low[axis], high[axis]) == (dim.min, dim.max)
            assert low[axis] <= opt[axis] <= high[axis]
            assert opt[axis] == (2 if dim.opt == 1 else dim.opt)
            for dims in (exports, from_ranges):
                assert (dims[spec.name][axis].min, dims[spec.name][axis].max) == (dim.min, dim.max)
            # A just-in-time engine has no size 1, and needs two sizes to be dynamic at all.
            dynamic = tensor.shape[axis] > 1 and dim.max > 2
            assert marked.get(axis) == ((max(2, dim.min), dim.max) if dynamic else None)
            assert hints.get(axis) == (tensor.shape[axis] if dynamic else None)


@given(ranges)
def test_the_largest_sizes_reach_all_three_dialects_unchanged(triple):
    spec = TensorSpec("x", (DynamicDim("batch", *triple), 4))
    low, _, high = triple
    tensor = torch.empty(1, 4).expand(max(2, low), 4)  # a view of four numbers, however large
    marks = dict(spec.marks(tensor))
    args = spec.input_args()
    if low == high:
        assert not marks
        assert args["shape"] == (low, 4)
        assert export_dims([spec]) == range_dims([spec]) == {"x": {}}
        return
    assert (args["min_shape"], args["max_shape"]) == ((low, 4), (high, 4))
    if high > 2:
        assert (marks[0]["min"], marks[0]["max"]) == (max(2, low), high)
    for dims in (export_dims([spec]), range_dims([spec])):
        assert (dims["x"][0].min, dims["x"][0].max) == (low, high)


@pytest.mark.parametrize("translate", [export_dims, range_dims])
def test_a_dim_shared_by_name_is_one_object_and_others_are_not(translate):
    batch, length = DynamicDim("batch", 1, 4, 8), DynamicDim("length", 1, 4, 8)
    again = DynamicDim("batch", 1, 4, 8)
    dims = translate([TensorSpec("x", (batch, length, 3)), TensorSpec("mask", (length, again))])
    assert dims["x"][0] is dims["mask"][1]
    assert dims["x"][1] is dims["mask"][0]
    assert dims["x"][0] is not dims["x"][1]
    assert dims["x"][0].__name__ != dims["x"][1].__name__


def test_the_translations_are_what_torch_export_takes():
    class Scale(torch.nn.Module):
        def forward(self, x, mask):
            return x * mask.unsqueeze(-1)

    batch, length = DynamicDim("batch", 1, 2, 6), DynamicDim("length", 3, 4, 5)
    specs = [TensorSpec("x", (batch, length, 3)), TensorSpec("mask", (batch, length))]
    for dims in (export_dims(specs), range_dims(specs)):
        exported = torch.export.export(Scale(), (torch.ones(2, 4, 3), torch.ones(2, 4)), dynamic_shapes=dims)
        found = sorted((int(r.lower), int(r.upper)) for r in exported.range_constraints.values())
        assert found == [(1, 6), (3, 5)]


@given(st.lists(small_ranges, min_size=1, max_size=3))
def test_first_calls_build_an_engine_for_every_size_in_range(triples):
    dims = {f"d{i}": DynamicDim(f"d{i}", *triple) for i, triple in enumerate(triples)}
    calls = first_calls(dims)
    assert calls[0] == sizes_at(dims, lambda dim: dim.traced)
    assert all(dims[name].min <= size <= dims[name].max for call in calls for name, size in call.items())

    def engine(sizes):  # torch specializes size 1, so which dims are 1 decides which engine a call needs
        return tuple(size == 1 for size in sizes.values())

    corners = [{dim.min, dim.opt, dim.max, min(2, dim.max) if dim.min == 1 else dim.min} for dim in dims.values()]
    needed = {engine(dict(zip(dims, sizes, strict=True))) for sizes in itertools.product(*corners)}
    assert {engine(call) for call in calls} == needed
    assert len(calls) == len(needed)


def test_first_calls_of_a_model_without_dynamic_dims_are_one_call():
    assert first_calls({}) == [{}]


@pytest.mark.parametrize("triple", [(1, 1, 1), (4, 4, 4)])
def test_a_range_of_one_size_is_a_fixed_dim_in_every_dialect(triple):
    dim = DynamicDim("batch", *triple)
    spec = TensorSpec("x", (dim, 3))
    assert dim.is_fixed
    assert dim.traced == triple[0]
    assert spec.dynamic == {}
    assert list(spec.marks(torch.empty(triple[0], 3))) == []
    assert spec.input_args()["shape"] == (triple[0], 3)
    assert export_dims([spec]) == range_dims([spec]) == {"x": {}}
    assert first_calls({"batch": dim}) == [{"batch": triple[0]}]


@pytest.mark.parametrize("name", ["", "my batch", "1st", "a-b", "class", "None", 5, None])
def test_a_dim_name_that_is_no_identifier_is_refused_by_name(name):
    with pytest.raises(ShapeError) as refused:
        DynamicDim(name, 1, 4, 8)
    assert repr(name) in str(refused.value)


@pytest.mark.parametrize("name", ["x", "größe", "S", "I", "pi", "int", "s0"])  # some are names of sympy's too
def test_any_identifier_names_a_dim(name):
    spec = TensorSpec("x", (DynamicDim(name, 1, 4, 8), 3))
    shapes = {"input": export_dims([spec])["x"]}
    exported = torch.export.export(torch.nn.Identity(), (torch.ones(4, 3),), dynamic_shapes=shapes)
    assert [(int(r.lower), int(r.upper)) for r in exported.range_constraints.values()] == [(1, 8)]


@pytest.mark.parametrize("name", ["", "my input", 5, None])
def test_an_input_name_that_is_no_identifier_is_refused_by_name(name):
    with pytest.raises(ShapeError) as refused:
        TensorSpec(name, (4,))
    assert repr(name) in str(refused.value)


@pytest.mark.parametrize("size", [0, -1, 2.0, "4", None, True, LARGEST + 1])
def test_a_fixed_size_that_is_none_is_refused_with_its_axis(size):
    with pytest.raises(ShapeError) as refused:
        TensorSpec("x", (3, size))
    assert str(refused.value).startswith(f"x: dim 1 is {size!r}")


@pytest.mark.parametrize("shape", [5, None])
def test_a_shape_that_is_no_sequence_is_refused(shape):
    with pytest.raises(ShapeError, match="x"):
        TensorSpec("x", shape)


@pytest.mark.parametrize("dtype", ["float32", float, np.float32, None])
def test_a_dtype_that_is_not_torchs_is_refused(dtype):
    with pytest.raises(ShapeError) as refused:
        TensorSpec("x", (4,), dtype)
    assert repr(dtype) in str(refused.value)


def test_two_inputs_of_one_name_are_refused():
    with pytest.raises(ShapeError, match="two inputs are named 'x'"):
        named_dims([TensorSpec("x", (4,)), TensorSpec("x", (5,))])


@given(small_ranges, small_ranges)
def test_one_name_is_one_range(one, other):
    specs = [TensorSpec("x", (DynamicDim("batch", *one), 3)), TensorSpec("y", (DynamicDim("batch", *other),))]
    if one == other:
        assert list(named_dims(specs)) == ["batch"]
        return
    with pytest.raises(ShapeError) as refused:
        named_dims(specs)
    message = str(refused.value)
    assert "{}/{}/{} on x".format(*one) in message
    assert "{}/{}/{} on y".format(*other) in message


def test_dims_come_in_order_of_appearance_fixed_ranges_included():
    b, n, k = DynamicDim("b", 1, 2, 3), DynamicDim("n", 4, 4, 4), DynamicDim("k", 1, 5, 6)
    assert list(named_dims([TensorSpec("x", (n, 3)), TensorSpec("y", (b, k, n))])) == ["n", "b", "k"]


# ---- steps and limits -------------------------------------------------------------------------------------------

IMAGE = (96, 224, 320)


def test_a_dim_in_steps_is_a_multiple_in_exports_and_a_plain_range_elsewhere():
    height = DynamicDim("height", *IMAGE, step=16)
    spec = TensorSpec("images", (3, height))
    (exported,) = export_dims([spec])["images"].values()
    assert exported.__name__ == "16*height_"
    assert (exported.root.min, exported.root.max) == (6, 20)
    assert (exported.min, exported.max) == (96, 320)
    (plain,) = range_dims([spec])["images"].values()
    assert (plain.min, plain.max) == (96, 320)
    assert dict(spec.marks(torch.empty(3, 224))) == {1: {"min": 96, "max": 320, "hint_override": 224}}
    assert spec.input_args()["min_shape"] == (3, 96)


@pytest.mark.parametrize(
    ("triple", "sentence"),
    [
        ((100, 224, 320), "min is 100, which is no multiple of 16; use 96 or 112"),
        ((96, 100, 320), "opt is 100, which is no multiple of 16; use 96 or 112"),
        ((96, 224, 330), "max is 330, which is no multiple of 16; use 320 or 336"),
        ((5, 16, 32), "min is 5, which is no multiple of 16; use 16"),
        ((16, 32, 64), "min is 16, a single step, .* use a min of 32"),
    ],
)
def test_sizes_that_a_step_does_not_allow_are_refused(triple, sentence):
    with pytest.raises(ShapeError, match=f"^height: {sentence}"):
        DynamicDim("height", *triple, step=16)


def test_a_single_step_may_be_the_only_size():
    assert export_dims([TensorSpec("x", (DynamicDim("height", 16, 16, 16, step=16),))]) == {"x": {}}


@pytest.mark.parametrize("value", [0, 1.5, "16", None, True])
def test_a_step_is_a_size(value):
    with pytest.raises(ShapeError, match="height: step is"):
        DynamicDim("height", *IMAGE, step=value)


def test_a_max_above_the_limit_is_refused():
    assert DynamicDim("length", 1, 2, 512, limit=512).max == 512
    with pytest.raises(ShapeError, match=r"^length: max is 513, and the model takes 512 at most\.$"):
        DynamicDim("length", 1, 2, 513, limit=512)
    with pytest.raises(ShapeError, match="length: limit is 0"):
        DynamicDim("length", 1, 2, 4, limit=0)


def test_one_name_is_one_range_with_one_step():
    plain, stepped = DynamicDim("height", *IMAGE), DynamicDim("height", *IMAGE, step=16)
    with pytest.raises(ShapeError, match="96/224/320 on x but 96/224/320 in steps of 16 on y"):
        named_dims([TensorSpec("x", (plain,)), TensorSpec("y", (stepped,))])


def test_a_dim_is_written_as_it_was_typed():
    assert repr(DynamicDim("height", *IMAGE)) == "DynamicDim(name='height', min=96, opt=224, max=320)"
    stepped = DynamicDim("height", *IMAGE, step=16, limit=512)
    assert repr(stepped) == "DynamicDim(name='height', min=96, opt=224, max=320, step=16, limit=512)"
    assert str(stepped) == "height 96/224/320 in steps of 16"
