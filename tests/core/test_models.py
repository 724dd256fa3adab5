import pytest
import torch
from torch import nn

import tutorial_lib
from tutorial_lib import (
    MODELS,
    PATHS,
    BuildError,
    Case,
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


def test_every_model_has_a_small_form_here():
    assert set(SMALL) == set(MODELS)


def test_weights_are_the_same_whatever_the_random_state(make):
    torch.manual_seed(1)
    one = make().model.state_dict()
    torch.manual_seed(2)
    other = make().model.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(weight.std() > 0 for weight in one.values())


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


def test_expand_reshape_splits_the_tokens_into_heads():
    case = expand_reshape()
    assert [str(dim) for dim in case.dims.values()] == ["batch 1/4/32"]
    (x,) = case.example(2)
    assert x.shape == (2, 196, 768)
    assert case.model(x).shape == (2, 197, 3, 12, 64)


def test_expand_reshape_puts_the_class_token_in_front_of_every_row():
    model = expand_reshape(embed_dim=24, tokens=3).model
    with torch.no_grad():
        first = model(torch.zeros(2, 3, 24))[:, 0]
        expected = model.qkv_proj(model.cls_token[0, 0]).reshape(3, 12, 2)
    torch.testing.assert_close(first, expected.expand(2, -1, -1, -1))


def test_the_vision_transformer_scores_classes():
    case = vit(depth=1)
    assert [str(dim) for dim in case.dims.values()] == ["batch 1/4/8"]
    (images,) = case.example(2)
    assert images.shape == (2, 3, 224, 224)
    assert case.model(images).shape == (2, 100)


def test_the_perceptron_of_a_block_works_on_single_tokens():
    case = perceptron(width=16)
    assert [str(dim) for dim in case.dims.values()] == ["tokens 1/64/1024"]
    (x,) = case.example(3)
    assert case.model(x).shape == x.shape == (3, 16)
    rows = torch.cat([case.model(row[None]) for row in x])
    torch.testing.assert_close(case.model(x), rows)


def test_the_recipe_of_a_case_makes_its_model_again(make):
    case = make()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        again = eval(case.recipe, {name: getattr(tutorial_lib, name) for name in tutorial_lib.__all__}).state_dict()
    assert again.keys() == case.model.state_dict().keys()
    assert all(torch.equal(again[name], weight) for name, weight in case.model.state_dict().items())


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


def test_an_embed_dim_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ShapeError, match=r"embed_dim is 50.* 12"):
        ExpandReshapeModel(50)


def test_with_ranges_changes_the_range_and_nothing_else(masked):
    wider = masked.with_ranges(length=(2, 6, 20))
    assert [str(dim) for dim in wider.dims.values()] == ["batch 1/2/4", "length 2/6/20"]
    assert all(spec.shape[1] == wider.dims["length"] for spec in wider.inputs)
    assert masked.dims["length"].max == 9
    assert wider.model is masked.model


def test_a_range_can_be_fixed_and_opened_again(seed):
    fixed = seed.with_ranges(batch=(4, 4, 4))
    assert fixed.dims["batch"].is_fixed
    assert fixed.with_ranges(batch=(1, 4, 8)).inputs == seed.inputs


def test_with_ranges_refuses_a_dim_that_is_not_there(seed):
    with pytest.raises(ShapeError, match=r"'length'.*batch"):
        seed.with_ranges(length=(1, 2, 3))


@pytest.mark.parametrize("value", [5, None, (1, 2), (1, 2, 3, 4), ()])
def test_a_range_is_three_sizes(value):
    with pytest.raises(ShapeError) as refused:
        as_range("batch", value)
    assert repr(value) in str(refused.value)
    assert "min, opt, max" in str(refused.value)


def test_sizes_are_opt_unless_given_for_the_first_dim_or_by_name(masked):
    assert masked.sizes() == {"batch": 2, "length": 5}
    assert masked.sizes(3) == {"batch": 3, "length": 5}
    assert masked.sizes({"length": 7}) == {"batch": 2, "length": 7}
    assert masked.sizes({"length": 7, "batch": 1}) == {"batch": 1, "length": 7}
    assert [t.shape for t in masked.example({"length": 7})] == [(2, 7, 16), (2, 7)]


def test_a_size_may_be_out_of_range_so_that_refusals_can_be_tried(seed):
    assert seed.example(9)[0].shape == (9, 7, 48)


@pytest.mark.parametrize("size", [0, -1, 1.5, "4", True, {"batch": 0}])
def test_a_size_that_is_none_is_refused(seed, size):
    with pytest.raises(ShapeError, match="batch is"):
        seed.sizes(size)


def test_a_size_for_a_dim_that_is_not_there_is_refused(seed):
    with pytest.raises(ShapeError, match=r"'length'.*batch"):
        seed.sizes({"length": 3})


def test_a_case_without_dynamic_dims_has_no_sizes():
    case = Case("fixed", nn.Linear(4, 4), (TensorSpec("input", (2, 4)),))
    assert case.dims == case.sizes() == case.traced == {}
    assert case.example()[0].shape == (2, 4)
    with pytest.raises(ShapeError, match="no dynamic dimension"):
        case.sizes(3)


def test_a_case_needs_an_input():
    with pytest.raises(ShapeError, match="no inputs"):
        Case("empty", nn.Linear(4, 4), ())


def test_a_case_refuses_dims_that_contradict_each_other():
    inputs = TensorSpec("x", (DynamicDim("batch", 1, 2, 3),)), TensorSpec("y", (DynamicDim("batch", 1, 2, 4),))
    with pytest.raises(ShapeError, match="one name is one range"):
        Case("contradiction", nn.Identity(), inputs)


def test_graphs_are_traced_at_opt_and_never_at_one(masked):
    assert masked.traced == {"batch": 2, "length": 5}
    assert masked.with_ranges(batch=(1, 1, 4)).traced == {"batch": 2, "length": 5}
    assert masked.with_ranges(batch=(1, 1, 1)).traced == {"batch": 1, "length": 5}


def test_inputs_have_their_specs_dtype_and_the_models_device(seed):
    assert {x.device for x in seed.example()} == {seed.device}
    case = Case("half", nn.Linear(4, 4).bfloat16(), (TensorSpec("input", (2, 4), torch.bfloat16),))
    assert case.example()[0].dtype == torch.bfloat16


def test_moving_a_case_leaves_the_original_where_it_was(seed):
    moved = seed.to("meta")
    assert moved.device.type == "meta"
    assert seed.device.type != "meta"
    assert moved.inputs == seed.inputs


# ---- inputs that are no floats ----------------------------------------------------------------------------------


def example_of(shape, dtype, high=None, **sizes):
    (x,) = Case("one input", nn.Identity(), (TensorSpec("x", shape, dtype, high),)).example(sizes or None)
    return x


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_integers_are_uniform_below_high_and_never_negative(dtype):
    x = example_of((40, 50), dtype, high=7)
    assert x.dtype == dtype
    assert x.unique().tolist() == list(range(7))


def test_integers_without_high_are_zero_or_one():
    assert example_of((40, 50), torch.int64).unique().tolist() == [0, 1]


def test_booleans_are_padding_masks_of_random_lengths():
    mask = example_of((30, 3, 9), torch.bool)
    lengths = mask.sum(dim=-1)
    assert lengths.unique().tolist() == list(range(1, 9))  # whichever of the two is padding, no row is nothing else
    assert torch.equal(mask, torch.arange(9) < lengths[..., None])
    assert example_of((), torch.bool).item() is True


def test_floats_are_what_they_were_before_there_were_others():
    (x,) = expand_reshape(embed_dim=24, tokens=3).example(2)
    assert torch.equal(x.cpu(), torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(SEED)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_high_is_for_integers(dtype):
    with pytest.raises(ShapeError, match=r"x: high is for integers, and the dtype is torch\.\w+"):
        TensorSpec("x", (4,), dtype, high=5)
    with pytest.raises(ShapeError, match="x: high is 0"):
        TensorSpec("x", (4,), torch.int64, high=0)


# ---- several dynamic dimensions ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text():
    return text_encoder(**SHORT)


@pytest.fixture(scope="module")
def any_size():
    return vit_any_size(**LITTLE)


def test_the_text_encoder_takes_ids_with_their_mask():
    ids, mask = text_encoder().example({"batch": 3, "length": 8})
    assert (ids.shape, ids.dtype) == (mask.shape, torch.int64) == ((3, 8), torch.int64)
    assert mask.dtype == torch.bool
    assert 0 <= ids.min() < ids.max() < 1000
    assert text_encoder().model(ids, mask).shape == (3, 10)


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
@pytest.mark.parametrize("path", PATHS)
def test_the_text_encoder_is_right_on_every_path_with_eager(path, text, built, agrees):
    program = built(path, "eager", text)
    assert all(agrees(program, size) for size in grid(text, batch=[1, 2, 3, 4], length=[2, 5, 16]))
    assert len(program.build.engines) == (2 if path == "jit" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_the_text_encoder_is_right_on_every_path_with_inductor(path, built, agrees, inductor):
    case = text_encoder(**{**SHORT, "depth": 1, "batch": (2, 2, 4) if path == "jit" else (1, 2, 4)})
    program = built(path, inductor, case)
    assert all(agrees(program, size) for size in grid(case, batch=[case.dims["batch"].min, 4], length=[2, 5, 16]))


def test_an_image_of_any_size_is_scored():
    (images,) = vit_any_size(depth=1).example({"batch": 1, "height": 96, "width": 320})
    assert images.shape == (1, 3, 96, 320)
    assert vit_any_size(depth=1).model(images).shape == (1, 100)


def test_at_its_own_grid_the_position_embeddings_are_used_as_they_are(any_size):
    (embedding,) = (weight for name, weight in any_size.model.named_parameters() if name == "pos_embed")
    same = nn.functional.interpolate(embedding, size=(4, 4), mode="bicubic")
    torch.testing.assert_close(same, embedding)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
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

    def forward(self, images):
        batch, channels, height, width = images.shape
        x = images.reshape(batch, channels, height // 16, 16, width // 16, 16)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, (height // 16) * (width // 16), -1)


def test_a_model_of_exact_multiples_is_exported_and_refused_by_the_other_paths(any_size, built, agrees):
    case = Case("patches", Patches(), any_size.inputs)
    assert all(agrees(built("export", "eager", case), size) for size in grid(case, batch=[1, 3], height=[32, 96]))
    for path in ("jit", "input"):
        with pytest.raises(BuildError, match="could not compile patches"):
            built(path, "eager", case)


class Logarithm(nn.Module):
    def forward(self, x):
        return x.log()


def positive(sizes):
    return (torch.rand(sizes["batch"], 3) + 1,)


def test_examples_of_ones_own_are_used_in_every_precision_and_repeat():
    case = Case("log", Logarithm(), (TensorSpec("x", (DynamicDim("batch", 1, 2, 4), 3)),), examples=positive)
    (x,) = case.example(4)
    assert x.shape == (4, 3)
    assert (x >= 1).all()
    assert torch.equal(x, case.example(4)[0])
    assert not torch.equal(x, case.example(4, seed=1)[0])
    assert case.in_precision("bf16").example()[0].dtype == torch.bfloat16


@pytest.mark.parametrize("wrong", [lambda sizes: torch.ones(1, 3), lambda sizes: (torch.ones(1, 2),), lambda sizes: ()])
def test_examples_of_other_shapes_are_refused_by_name(wrong):
    case = Case("log", Logarithm(), (TensorSpec("x", (DynamicDim("batch", 1, 2, 4), 3)),), examples=wrong)
    with pytest.raises(ShapeError, match="examples"):
        case.example(1)


@pytest.mark.parametrize("device", ["tpu", "xla"])
def test_a_device_that_is_not_here_is_named(seed, device):
    with pytest.raises(ShapeError, match=f"no device '{device}' here"):
        seed.to(device)


def test_a_model_is_a_module_and_its_inputs_are_specs():
    with pytest.raises(ShapeError, match=r"torch\.nn\.Module"):
        Case("function", lambda x: x, (TensorSpec("x", (4,)),))
    with pytest.raises(ShapeError, match="TensorSpecs"):
        Case("log", Logarithm(), TensorSpec("x", (4,)))


def test_examples_that_are_views_of_one_tensor_get_memory_of_their_own():
    class Ends(torch.nn.Module):
        def forward(self, source, target):
            return source + target

    edges = DynamicDim("edges", 2, 4, 8)
    inputs = TensorSpec("source", (edges,)), TensorSpec("target", (edges,))
    case = Case("ends", Ends(), inputs, examples=lambda sizes: torch.rand(sizes["edges"], 2).unbind(dim=1))
    for tensor in case.example():
        assert tensor.is_contiguous()
        assert tensor.storage_offset() == 0


def test_another_range_keeps_the_step():
    case = tutorial_lib.vit_any_size(image=(32, 64, 96), embed_dim=24, depth=1)
    assert case.with_ranges(height=(32, 48, 128)).dims["height"].step == 16
    with pytest.raises(ShapeError, match="multiple of 16"):
        case.with_ranges(height=(32, 48, 100))
