"""The tutorial's models, and a case of one's own: ranges, sizes, examples, and what is refused."""

import re

import pytest
import torch
from torch import nn

from tutorial_lib import (
    MODELS,
    BuildError,
    Case,
    Decoder,
    DynamicDim,
    ExpandReshapeModel,
    OutOfRange,
    ShapeError,
    TensorSpec,
    expand_reshape,
    grid,
    perceptron,
    text_encoder,
    vit,
    vit_any_size,
)
from tutorial_lib.core import nets
from tutorial_lib.core.models import SEED, as_range, make_case

SMALL = {
    "expand-reshape": {"embed_dim": 24, "tokens": 3},
    "vit": {"image": 32, "embed_dim": 12, "depth": 1, "classes": 5},
    "perceptron": {"width": 16},
    "gated-norm": {"tokens": 3, "width": 16},
    "text-encoder": {"vocabulary": 50, "positions": 256, "embed_dim": 24, "depth": 2, "heads": 2, "classes": 3},
    "vit-any-size": {"grid": 4, "embed_dim": 24, "depth": 1, "heads": 2, "classes": 3},
    "decoder": {"vocabulary": 50, "embed_dim": 16, "depth": 1, "heads": 4, "kv_heads": 2},
}
SHORT = {**SMALL["text-encoder"], "batch": (1, 2, 4), "length": (2, 5, 16), "positions": 16}
LITTLE = {**SMALL["vit-any-size"], "batch": (1, 2, 3), "image": (32, 64, 96)}


@pytest.fixture(params=list(MODELS))
def make(request):
    return lambda **more: MODELS[request.param](**SMALL[request.param], **more)


def test_neither_a_model_nor_its_inputs_disturb_the_random_state(make):
    before = torch.get_rng_state()
    make().example()
    assert torch.equal(torch.get_rng_state(), before)


def test_inputs_are_a_function_of_seed_and_size(make):
    case = make()
    for one, again, other in zip(case.example(3), case.example(3), case.example(3, seed=1), strict=True):
        assert torch.equal(one, again)
        assert not torch.equal(one, other)


def test_models_are_in_eval_mode_and_need_no_gradients():
    case = Case("dropout", nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train(), (TensorSpec("input", (2, 4)),))
    (x,) = case.example()
    assert not any(module.training for module in case.model.modules())
    assert torch.equal(case.model(x), case.model(x))
    assert not case.model(x).requires_grad


@pytest.mark.parametrize(
    ("make", "smaller", "dims", "sizes", "inputs", "outputs"),
    [
        (expand_reshape, {}, ["batch 1/4/32"], {"batch": 2}, [(2, 196, 768)], (2, 197, 3, 12, 64)),
        (vit, {"depth": 1}, ["batch 1/4/8"], {"batch": 2}, [(2, 3, 224, 224)], (2, 100)),
        (perceptron, {"width": 16}, ["tokens 1/64/1024"], {"tokens": 3}, [(3, 16)], (3, 16)),
        (text_encoder, {}, ["batch 1/4/16", "length 8/64/256"], {"length": 8}, [(4, 8), (4, 8)], (4, 10)),
        (
            vit_any_size,
            {"depth": 1},
            ["batch 1/2/8", "height 96/224/320 in steps of 16", "width 96/224/320 in steps of 16"],
            {"batch": 1, "width": 320},
            [(1, 3, 224, 320)],
            (1, 100),
        ),
    ],
)
def test_a_model_takes_and_gives_the_shapes_that_its_ranges_say(make, smaller, dims, sizes, inputs, outputs):
    case = make(**smaller)
    assert [str(dim) for dim in case.dims.values()] == dims
    tensors = case.example(sizes)
    assert [tensor.shape for tensor in tensors] == inputs
    assert case.model(*tensors).shape == outputs


def test_expand_reshape_puts_the_class_token_in_front_of_every_row():
    model = expand_reshape(embed_dim=24, tokens=3).model
    with torch.no_grad():
        first = model(torch.zeros(2, 3, 24))[:, 0]
        expected = model.qkv_proj(model.cls_token[0, 0]).reshape(3, 12, 2)
    torch.testing.assert_close(first, expected.expand(2, -1, -1, -1))


def test_the_recipe_of_a_case_makes_its_model_again_whatever_the_random_state_was(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        case = make()
        torch.manual_seed(SEED)
        again = eval(case.recipe, dict(vars(nets))).state_dict()
    weights = case.model.state_dict()
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None), (1, 64, 1024)),
        ((8, None, None), (8, 64, 1024)),
        ((100, None, None), (100, 100, 1024)),
        ((None, 32, None), (1, 32, 1024)),
        ((None, 2000, None), (1, 2000, 2000)),
        ((None, None, 16), (1, 16, 16)),
        ((2000, None, None), (2000, 2000, 2000)),
        ((2, 3, 4), (2, 3, 4)),
    ],
)
def test_what_is_not_given_of_a_range_follows_what_is(given, expected):
    (dim,) = make_case("perceptron", *given).dims.values()
    assert (dim.min, dim.opt, dim.max) == expected


def test_eager_runs_without_gradients_whatever_the_caller_does(seed):
    x = seed.example(2)[0].requires_grad_()
    with torch.enable_grad():
        assert not seed.eager(x).requires_grad


def test_with_ranges_changes_the_range_and_nothing_else(masked):
    wider = masked.with_ranges(length=(2, 6, 20))
    assert [str(dim) for dim in wider.dims.values()] == ["batch 1/2/4", "length 2/6/20"]
    assert all(spec.shape[1] == wider.dims["length"] for spec in wider.inputs)
    assert masked.dims["length"].max == 9
    assert wider.model is masked.model
    fixed = masked.with_ranges(length=(5, 5, 5))
    assert fixed.dims["length"].is_fixed
    assert fixed.with_ranges(length=(1, 5, 9)).inputs == masked.inputs


@pytest.mark.parametrize("value", [5, None, (1, 2), (1, 2, 3, 4), ()])
def test_a_range_is_three_sizes(value):
    with pytest.raises(ShapeError, match=rf"{re.escape(repr(value))} .*min, opt, max"):
        as_range("batch", value)


def test_sizes_are_opt_unless_given_for_the_first_dim_or_by_name(masked):
    assert masked.sizes() == {"batch": 2, "length": 5}
    assert masked.sizes(3) == {"batch": 3, "length": 5}
    assert masked.sizes({"length": 7}) == {"batch": 2, "length": 7}
    assert masked.sizes({"length": 7, "batch": 1}) == {"batch": 1, "length": 7}
    assert [t.shape for t in masked.example({"length": 7})] == [(2, 7, 16), (2, 7)]


@pytest.mark.parametrize("size", [0, -1, 1.5, "4", True, {"batch": 0}])
def test_a_size_that_is_none_is_refused(seed, size):
    with pytest.raises(ShapeError, match="batch is"):
        seed.sizes(size)


@pytest.mark.parametrize(
    "ask", [lambda case: case.with_ranges(length=(1, 2, 3)), lambda case: case.sizes({"length": 3})]
)
def test_a_dim_that_is_not_there_is_refused_with_those_that_are(seed, ask):
    with pytest.raises(ShapeError, match=r"'length'.*batch"):
        ask(seed)


def test_a_case_without_dynamic_dims_has_no_sizes():
    case = Case("fixed", nn.Linear(4, 4), (TensorSpec("input", (2, 4)),))
    assert case.dims == case.sizes() == case.traced == {}
    assert case.example()[0].shape == (2, 4)
    with pytest.raises(ShapeError, match="no dynamic dimension"):
        case.sizes(3)


def test_graphs_are_traced_at_opt_and_never_at_one(masked):
    assert masked.traced == {"batch": 2, "length": 5}
    assert masked.with_ranges(batch=(1, 1, 4)).traced == {"batch": 2, "length": 5}
    assert masked.with_ranges(batch=(1, 1, 1)).traced == {"batch": 1, "length": 5}


def test_moving_a_case_leaves_the_original_where_it_was(seed):
    moved = seed.to("meta")
    assert moved.device.type == "meta"
    assert seed.device.type != "meta"
    assert moved.inputs == seed.inputs


# ---- inputs that are no floats ----------------------------------------------------------------------------------


def example_of(shape, dtype, high=None):
    (x,) = Case("one input", nn.Identity(), (TensorSpec("x", shape, dtype, high),)).example()
    return x


@pytest.mark.parametrize(
    ("dtype", "high", "values"), [(torch.int64, 7, 7), (torch.int32, 7, 7), (torch.uint8, 7, 7), (torch.int64, None, 2)]
)
def test_integers_are_uniform_below_high_or_2_and_never_negative(dtype, high, values):
    x = example_of((40, 50), dtype, high)
    assert x.dtype == dtype
    assert x.unique().tolist() == list(range(values))


def test_booleans_are_padding_masks_of_random_lengths():
    mask = example_of((30, 3, 9), torch.bool)
    lengths = mask.sum(dim=-1)
    assert lengths.unique().tolist() == list(range(1, 9))  # whichever of the two is padding, no row is nothing else
    assert torch.equal(mask, torch.arange(9) < lengths[..., None])
    assert example_of((), torch.bool).item() is True


def test_floats_are_what_they_were_before_there_were_others():
    (x,) = expand_reshape(embed_dim=24, tokens=3).example(2)
    assert torch.equal(x.cpu(), torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(SEED)))


# ---- several dynamic dimensions ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text():
    return text_encoder(**SHORT)


@pytest.fixture(scope="module")
def any_size():
    return vit_any_size(**LITTLE)


def test_padding_makes_no_difference_to_the_text_encoder(text):
    ids, _ = text.example({"batch": 2, "length": 5}, seed=1)
    alone = text.model(ids, torch.ones(2, 5, dtype=torch.bool))
    padded = torch.cat([ids, ids.flip(1)], dim=1)
    torch.testing.assert_close(text.model(padded, torch.arange(10).expand(2, -1) < 5), alone)


def test_a_length_above_the_position_table_is_refused_wherever_it_is_typed(text):
    sentence = r"^length: max is 17, and the model takes 16 at most\.$"
    with pytest.raises(ShapeError, match=sentence):
        text_encoder(**{**SHORT, "length": (2, 5, 17)})
    with pytest.raises(ShapeError, match=sentence):
        text.with_ranges(length=(2, 5, 17))
    assert text.with_ranges(length=(2, 3, 4)).with_ranges(length=(2, 5, 16)).inputs == text.inputs


@pytest.mark.slow
def test_the_text_encoder_is_right_on_every_path_with_eager(path, text, built, agrees):
    program = built(path, "eager", text)
    assert all(agrees(program, size) for size in grid(text, batch=[1, 2, 3, 4], length=[2, 5, 16]))
    assert len(program.build.engines) == (2 if path == "jit" else 1)


@pytest.mark.slow
@pytest.mark.long
def test_the_text_encoder_is_right_on_every_path_with_inductor(path, built, agrees, inductor):
    case = text_encoder(**{**SHORT, "depth": 1, "batch": (2, 2, 4) if path == "jit" else (1, 2, 4)})
    program = built(path, inductor, case)
    assert all(agrees(program, size) for size in grid(case, batch=[case.dims["batch"].min, 4], length=[2, 5, 16]))


@pytest.mark.slow
def test_images_of_any_size_are_right_on_every_path_with_eager(path, any_size, built, agrees):
    program = built(path, "eager", any_size)
    assert all(agrees(program, size) for size in grid(any_size, batch=[1, 3], height=[32, 64, 96], width=[48, 96]))
    with pytest.raises(OutOfRange, match=r"width is 72 on images.* multiples of 16: crop it to 64 or pad it to 80"):
        program(torch.randn(2, 3, 64, 72))


@pytest.mark.slow
def test_images_of_any_size_are_right_with_inductor(any_size, built, agrees, inductor):
    program = built("export", inductor, any_size)
    assert all(agrees(program, size) for size in grid(any_size, batch=[1, 3], height=[32, 96], width=[48, 96]))


class Patches(nn.Module):
    """Cuts patches by a reshape, which works at multiples of 16 only."""

    def forward(self, rows):
        return rows.reshape(2, rows.shape[1] // 16, 16).sum(-1)


def test_a_model_of_exact_multiples_is_exported_and_refused_by_the_other_paths(built, agrees):
    width = DynamicDim("width", 32, 64, 96, step=16)
    case = Case("patches", Patches(), (TensorSpec("rows", (2, width)),))
    assert all(agrees(built("export", "eager", case), size) for size in (32, 96))
    for path in ("jit", "input"):
        with pytest.raises(BuildError, match="could not compile patches"):
            built(path, "eager", case)


def case_with(examples):
    return Case("own", nn.Identity(), (TensorSpec("x", (DynamicDim("batch", 1, 2, 4), 3)),), examples=examples)


def test_examples_of_ones_own_are_used_in_every_precision_and_repeat():
    case = case_with(lambda sizes: (torch.rand(sizes["batch"], 3) + 1,))
    (x,) = case.example(4)
    assert x.shape == (4, 3)
    assert (x >= 1).all()
    assert torch.equal(x, case.example(4)[0])
    assert not torch.equal(x, case.example(4, seed=1)[0])
    assert case.in_precision("bf16").example()[0].dtype == torch.bfloat16


@pytest.mark.parametrize("wrong", [lambda sizes: torch.ones(1, 3), lambda sizes: (torch.ones(1, 2),), lambda sizes: ()])
def test_examples_of_other_shapes_are_refused_by_name(wrong):
    with pytest.raises(ShapeError, match="examples"):
        case_with(wrong).example(1)


X = TensorSpec("x", (4,))
LONGER, SHORTER = (TensorSpec(name, (DynamicDim("batch", 1, 2, top),)) for name, top in (("x", 4), ("y", 3)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ExpandReshapeModel(50), r"embed_dim is 50.* 12"),
        (lambda: Decoder(heads=8, kv_heads=3), "kv_heads"),
        (lambda: Case("empty", nn.Linear(4, 4), ()), "no inputs"),
        (lambda: Case("function", lambda x: x, (X,)), r"torch\.nn\.Module"),
        (lambda: Case("log", nn.Identity(), X), "TensorSpecs"),
        (lambda: Case("contradiction", nn.Identity(), (LONGER, SHORTER)), "one name is one range"),
        (lambda: expand_reshape(embed_dim=24).to("tpu"), "no device 'tpu' here"),
        (lambda: expand_reshape(embed_dim=24).to("xla"), "no device 'xla' here"),
    ],
)
def test_what_cannot_be_a_case_is_refused_with_what_is_wrong(make, said):
    with pytest.raises(ShapeError, match=said):
        make()


def test_examples_that_are_views_of_one_tensor_get_memory_of_their_own():
    edges = DynamicDim("edges", 2, 4, 8)
    inputs = TensorSpec("source", (edges,)), TensorSpec("target", (edges,))
    case = Case("ends", nn.Identity(), inputs, examples=lambda sizes: torch.rand(sizes["edges"], 2).unbind(dim=1))
    assert all(tensor.is_contiguous() and tensor.storage_offset() == 0 for tensor in case.example())


def test_another_range_keeps_the_step():
    case = vit_any_size(**LITTLE)
    assert case.with_ranges(height=(32, 48, 128)).dims["height"].step == 16
    with pytest.raises(ShapeError, match="multiple of 16"):
        case.with_ranges(height=(32, 48, 100))
