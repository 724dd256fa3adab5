"""Dimensions and inputs: which are refused, and that the three dialects say the same of the others."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tutorial_lib import DynamicDim, ShapeError, TensorSpec
from tutorial_lib.core.shapes import LARGEST, export_dims, first_calls, named_dims, range_dims

FIELDS = ("min", "opt", "max")
IMAGE = (96, 224, 320)

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


def is_whole(value):
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def offenders(triple):
    """What is wrong with a triple: the values that are no sizes, else those that are out of order."""
    values = dict(zip(FIELDS, triple, strict=True))
    no_sizes = {field: value for field, value in values.items() if not (is_whole(value) and 1 <= value <= LARGEST)}
    if no_sizes:
        return no_sizes
    pairs = [("min", "opt"), ("opt", "max"), ("min", "max")]
    return {field: values[field] for low, high in pairs if values[low] > values[high] for field in (low, high)}


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
@example((torch.tensor(True), 4, 8))
def test_every_invalid_triple_is_refused_and_the_message_names_an_offending_value(triple):
    with pytest.raises(ShapeError, match=r"^batch: ") as refused:
        DynamicDim("batch", *triple)
    shown = {field: int(value) if is_whole(value) else repr(value) for field, value in offenders(triple).items()}
    assert any(f"{field} is {value}" in str(refused.value) for field, value in shown.items()), refused.value


@given(ranges, st.sampled_from([int, np.int64, np.uint64]))
def test_every_valid_triple_is_kept_as_plain_ints(triple, kind):
    dim = DynamicDim("batch", *map(kind, triple))
    assert [dim.min, dim.opt, dim.max] == triple
    assert {type(dim.min), type(dim.opt), type(dim.max)} == {int}


@pytest.mark.parametrize(
    ("kind", "arguments", "names"),
    [(DynamicDim, (1, 4, 8), ["", "my batch", "1st", "class", 5, None]), (TensorSpec, ((4,),), ["", "1st", 5, None])],
)
def test_what_is_no_identifier_is_no_name(kind, arguments, names):
    for name in names:
        with pytest.raises(ShapeError, match=f"^{name!r} is not"):
            kind(name, *arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        *((((3, size),), f"x: dim 1 is {size!r}") for size in (0, -1, 2.0, "4", None, True, LARGEST + 1)),
        *(((shape,), f"x: shape is {shape!r}") for shape in (5, None, "4")),
        *((((4,), dtype), f"x: dtype is {dtype!r}") for dtype in ("float32", float, np.float32, None)),
        *((((4,), dtype, 5), "x: high is for integers") for dtype in (torch.float32, torch.bool, torch.complex64)),
        (((4,), torch.int64, 0), "x: high is 0"),
    ],
)
def test_what_an_input_cannot_be_is_refused_by_name_and_value(arguments, named):
    with pytest.raises(ShapeError, match=f"^{re.escape(named)}"):
        TensorSpec("x", *arguments)


@pytest.mark.parametrize("name", ["x", "größe", "S", "I", "pi", "int", "s0"])  # some are names of sympy's too
def test_any_identifier_names_a_dim(name):
    spec = TensorSpec("x", (DynamicDim(name, 1, 4, 8), 3))
    shapes = {"input": export_dims([spec])["x"]}
    exported = torch.export.export(torch.nn.Identity(), (torch.ones(4, 3),), dynamic_shapes=shapes)
    assert [(int(r.lower), int(r.upper)) for r in exported.range_constraints.values()] == [(1, 8)]


# ---- several dimensions -----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("translate", [export_dims, range_dims])
def test_a_dim_shared_by_name_is_one_object_as_torch_export_takes_it(translate):
    class Scale(torch.nn.Module):
        def forward(self, x, mask):
            return x * mask.unsqueeze(-1)

    batch, again, length = DynamicDim("batch", 1, 2, 6), DynamicDim("batch", 1, 2, 6), DynamicDim("length", 3, 4, 5)
    dims = translate([TensorSpec("x", (batch, length, 3)), TensorSpec("mask", (again, length))])
    assert dims["x"][0] is dims["mask"][0]
    assert dims["x"][1] is dims["mask"][1]
    assert dims["x"][0].__name__ != dims["x"][1].__name__
    exported = torch.export.export(Scale(), (torch.ones(2, 4, 3), torch.ones(2, 4)), dynamic_shapes=dims)
    assert sorted((int(r.lower), int(r.upper)) for r in exported.range_constraints.values()) == [(1, 6), (3, 5)]


@given(st.lists(small_ranges, max_size=3))
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


def test_two_inputs_of_one_name_are_refused():
    with pytest.raises(ShapeError, match="two inputs are named 'x'"):
        named_dims([TensorSpec("x", (4,)), TensorSpec("x", (5,))])


@given(small_ranges, small_ranges)
def test_one_name_is_one_range(one, other):
    specs = [TensorSpec("x", (DynamicDim("batch", *one), 3)), TensorSpec("y", (DynamicDim("batch", *other),))]
    if one == other:
        assert list(named_dims(specs)) == ["batch"]
        return
    with pytest.raises(ShapeError, match="{}/{}/{} on x .*{}/{}/{} on y".format(*one, *other)):
        named_dims(specs)


def test_one_name_is_one_range_with_one_step():
    plain, stepped = DynamicDim("height", *IMAGE), DynamicDim("height", *IMAGE, step=16)
    with pytest.raises(ShapeError, match="96/224/320 on x but 96/224/320 in steps of 16 on y"):
        named_dims([TensorSpec("x", (plain,)), TensorSpec("y", (stepped,))])


def test_dims_come_in_order_of_appearance_fixed_ranges_included():
    b, n, k = DynamicDim("b", 1, 2, 3), DynamicDim("n", 4, 4, 4), DynamicDim("k", 1, 5, 6)
    assert list(named_dims([TensorSpec("x", (n, 3)), TensorSpec("y", (b, k, n))])) == ["n", "b", "k"]


# ---- steps and limits -------------------------------------------------------------------------------------------


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
    ("triple", "more", "sentence"),
    [
        ((100, 224, 320), {"step": 16}, "min is 100, .* use 96 or 112"),
        ((96, 100, 320), {"step": 16}, "opt is 100, .* use 96 or 112"),
        ((96, 224, 330), {"step": 16}, "max is 330, .* use 320 or 336"),
        ((5, 16, 32), {"step": 16}, "min is 5, .* use 16"),
        ((16, 32, 64), {"step": 16}, "min is 16, a single step, .* use a min of 32"),
        *((IMAGE, {"step": step}, "step is") for step in (0, 1.5, "16", None, True)),
        ((1, 2, 513), {"limit": 512}, "max is 513, and the model takes 512 at most"),
        ((1, 2, 4), {"limit": 0}, "limit is 0"),
    ],
)
def test_sizes_that_a_step_or_a_limit_does_not_allow_are_refused(triple, more, sentence):
    with pytest.raises(ShapeError, match=f"^height: {sentence}"):
        DynamicDim("height", *triple, **more)


def test_the_limit_itself_and_a_single_step_as_the_only_size_are_allowed():
    assert DynamicDim("length", 1, 2, 512, limit=512).max == 512
    assert export_dims([TensorSpec("x", (DynamicDim("height", 16, 16, 16, step=16),))]) == {"x": {}}
