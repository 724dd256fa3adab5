import pytest
import torch
from torch import nn

from tutorial_lib import Case, DynamicDim, ShapeError, TensorSpec, expand_reshape, text_encoder
from tutorial_lib.advisor.footprint import activation_bytes, weight_bytes
from tutorial_lib.advisor.policies import Policy
from tutorial_lib.advisor.router import Router, build, builder, code, crop, input_axes, output_axes, pad, why_not_padded
from tutorial_lib.builds.job import BuildError

ONE = ("batch",)
POLICIES = {
    "one engine": Policy("one engine", ONE, (((1, 4, 8),),)),
    "buckets": Policy("buckets", ONE, (((1, 2, 3),), ((4, 8, 8),))),
    "fixed sizes": Policy("fixed sizes", ONE, (((3, 3, 3),), ((8, 8, 8),)), padded=True),
    "eager beyond": Policy("eager beyond", ONE, (((1, 2, 3),),), eager=True),
    "eager": Policy("eager", ONE, (), eager=True),
}


@pytest.fixture(scope="module")
def make():
    return builder("export", "eager", None)


@pytest.fixture(scope="module")
def encoder():
    return text_encoder((1, 2, 4), (4, 8, 16), vocabulary=9, positions=16, embed_dim=8, depth=1, heads=2)


def case(forward, *shape):
    class Model(nn.Module):
        pass

    Model.forward = forward
    return Case("mine", Model(), (TensorSpec("x", (DynamicDim("batch", 1, 2, 8), *shape)),))


def built_by_code(case, policy):
    """What the script of a policy builds."""
    names = {}
    exec(code(case, policy, "export", "eager", {}), names)
    return names["build"](case)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_every_size_comes_out_as_in_eager_and_so_it_does_from_the_code(policy, seed, make):
    router, serve = build(seed, policy, make), built_by_code(seed, policy)
    for size in range(1, 9):
        (x,) = seed.example(size, seed=3)
        torch.testing.assert_close(router(x), seed.eager(x))
        torch.testing.assert_close(serve(x), seed.eager(x))


def test_the_code_says_backend_options_and_every_range(seed):
    script = code(seed, POLICIES["buckets"], "jit", "inductor", {"freezing": True})
    assert "paths.jit(case.with_ranges(batch=(1, 2, 3)), \"inductor\", {'freezing': True})" in script
    assert "if batch <= 3:" in script
    assert 'MODELS["expand-reshape"]().with_ranges(batch=(1, 4, 8))' in script
    assert max(map(len, script.splitlines())) <= 120


def test_the_code_runs_as_a_script(capsys):
    policy = Policy("fixed sizes", ONE, (((3, 3, 3),), ((4, 4, 4),)), padded=True)
    exec(code(expand_reshape((1, 2, 4)), policy, "export", "eager", {}), {"__name__": "__main__"})
    assert "torch.Size([2, 197, 3, 12, 64])" in capsys.readouterr().out


@pytest.mark.slow
def test_two_dimensions_are_routed_padded_and_cut(encoder, make):
    boxes = (((4, 4, 4), (4, 8, 8)), ((4, 4, 4), (4, 16, 16)))
    for policy in (
        Policy("batch padded", ("batch", "length"), boxes, padded=True),
        Policy("both padded", ("batch", "length"), (((4, 4, 4), (16, 16, 16)),), padded=True),
        Policy("length padded", ("length",), (((8, 8, 8),), ((16, 16, 16),)), padded=True),
    ):
        router, serve = build(encoder, policy, make), built_by_code(encoder, policy)
        for sizes in ({"batch": 1, "length": 4}, {"batch": 3, "length": 9}, {"batch": 4, "length": 16}):
            inputs = encoder.example(sizes, seed=3)
            torch.testing.assert_close(router(*inputs), encoder.eager(*inputs))
            torch.testing.assert_close(serve(*inputs), encoder.eager(*inputs))


def test_what_is_outside_every_range_is_refused_in_one_sentence(seed, make):
    for name in ("one engine", "buckets", "fixed sizes"):
        with pytest.raises(ShapeError, match="batch is 9 on x"):
            build(seed, POLICIES[name], make)(*seed.example(9))
    with pytest.raises(ShapeError, match="x"):
        build(seed, POLICIES["buckets"], make)(3)


def test_one_range_is_built_once(seed, make):
    one, other = (build(seed, POLICIES["buckets"], make) for _ in range(2))
    assert one.programs == other.programs
    with pytest.raises(ValueError, match="buckets has 2 engines, and 1 were given"):
        Router(seed, POLICIES["buckets"], one.programs[:1])


def test_a_router_that_is_wrong_is_not_handed_out(seed):
    made = builder("export", "eager", None)

    class Off:
        def __init__(self, program):
            self._program = program

        def __call__(self, *inputs):
            return self._program(*inputs) * 1.001

    with pytest.raises(BuildError, match=r"buckets .* is wrong at 1: DIFFERS"):
        build(seed, POLICIES["buckets"], lambda case: Off(made(case)))


def test_inputs_are_padded_with_zeros_and_outputs_cut(encoder):
    ids, mask = encoder.example({"batch": 2, "length": 5})
    padded = pad(encoder, (ids, mask), {"length": 8})
    assert [tuple(x.shape) for x in padded] == [(2, 8), (2, 8)]
    assert not padded[0][:, 5:].any()
    assert padded[1][:, 5:].sum() == 0
    assert padded[1].dtype == torch.bool
    assert pad(encoder, (ids, mask), {"length": 5})[0] is ids
    assert input_axes(encoder) == {"batch": [(0, 0), (1, 0)], "length": [(0, 1), (1, 1)]}
    assert output_axes(encoder, ("batch", "length")) == {"batch": [(0, 0)], "length": []}
    nest = {"one": torch.ones(4, 2), "other": [torch.ones(3)]}
    assert crop(nest, {"batch": [(0, 0)]}, {"batch": 1})["one"].shape == (1, 2)


def test_models_whose_rows_are_independent_may_be_padded(seed, encoder):
    assert why_not_padded(seed, ONE) is None
    assert why_not_padded(encoder, ("batch", "length")) is None
    assert why_not_padded(case(lambda _, x: x.sum(0), 4), ONE) is None  # zeros add nothing
    assert why_not_padded(case(lambda _, x: {"a": x, "b": (x * 2, x.sum(1))}, 4), ONE) is None


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda _, x: x - x.mean(0), "what is added changes the rest of the output"),
        (lambda _, x: torch.softmax(x, 0), "what is added changes"),
        (lambda _, x: x.flip(0), "what is added changes"),
        (lambda _, x: x.sum(0) + (x.mean(0) > 2), "what is added changes"),  # seen far from zero only
        (lambda _, x: (x - 5).clamp(max=0).sum(0), "what is added changes"),
        (lambda _, x: x.reshape(-1), "its output cannot be cut"),
        (lambda _, x: torch.cat([x, x]), "its output cannot be cut"),
    ],
)
def test_models_whose_rows_depend_on_each_other_are_not_padded(forward, said, make):
    mine = case(forward, 4)
    assert said in why_not_padded(mine, ONE)
    with pytest.raises(ShapeError, match="mine cannot be padded along batch"):
        build(mine, POLICIES["fixed sizes"], make)


def test_bytes_are_those_of_the_weights_and_of_the_largest_moment():
    def forward(_, x):
        y = x + 1  # x, y
        z = y * 2  # x, y, z
        del y
        return z.reshape(-1) + 1  # x, z and what is returned: a view is not counted again

    assert activation_bytes(case(forward, 256), {"batch": 8}) == 3 * 8 * 256 * 4
    linear = Case("linear", nn.Linear(4, 2), (TensorSpec("input", (DynamicDim("batch", 1, 2, 8), 4)),))
    assert weight_bytes(linear) == (4 * 2 + 2) * 4
    assert activation_bytes(linear, {"batch": 8}) == 8 * (4 + 2) * 4
