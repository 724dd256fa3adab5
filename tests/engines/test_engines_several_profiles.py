"""Several profiles in one engine: Torch-TensorRT 2.14 builds them, with memory and layers for each."""

import pytest
import upstream

from tutorial_lib import engines, expand_reshape, perceptron, text_encoder, vit_any_size

pytestmark = pytest.mark.slow

since_2_14 = pytest.mark.skipif(upstream.MINOR < (2, 14), reason="Torch-TensorRT before 2.14 builds one profile")
FEW, MANY = {"batch": (1, 2, 4)}, {"batch": (4, 32, 64)}
IMAGE, THUMBNAILS = (
    {"batch": batch, "height": side, "width": side}
    for batch, side in [((1, 2, 2), (32, 64, 96)), ((1, 8, 8), (32,) * 3)]
)
PROMPT, TOKEN = {"batch": (1, 1, 4), "length": (2, 64, 128)}, {"batch": (1, 8, 16), "length": (1, 1, 1)}
MODELS = {
    "perceptron": (perceptron, ({"tokens": (1, 1, 8)}, {"tokens": (1, 64, 1024)}), "input"),
    "text-encoder": (lambda: text_encoder(depth=1), (PROMPT, TOKEN), "export"),
    "vit-any-size": (lambda: vit_any_size(image=(32, 64, 96), embed_dim=48, depth=1), (IMAGE, THUMBNAILS), "input"),
}


def profiles_of(plan, name):
    (tensor,) = (tensor for tensor in plan.inputs if tensor.argument == name)
    return tensor.profiles


@since_2_14
@pytest.mark.parametrize("path", ["input", "export"])
def test_one_plan_holds_every_profile_with_memory_and_layers_of_its_own(installed, path):
    report = engines.build(expand_reshape().with_profiles(FEW, MANY), path, [1, 5, 64, 65])
    assert report.failed is None
    (engine,) = report.engines
    plan = engine.plan
    assert profiles_of(plan, "x") == tuple(
        tuple((size, 196, 768) for size in ends) for ends in (FEW["batch"], MANY["batch"])
    )
    small, large = plan.activation_by_profile
    assert (small, large) == (17_874_944, 163_119_104)  # as of engines with that range alone
    assert plan.activation_bytes == large
    assert [sum(layer.profile == number for layer in plan.layers) for number in (0, 1)] == [4, 4]
    assert report.notes == ()
    assert [call.outcome for call in report.calls] == ["served", "served", "served", "refused"]
    assert report.calls[-1].range_check.startswith("batch is 65 on x; this program was built for 1 to 64")


@since_2_14
@pytest.mark.parametrize("name", MODELS)
def test_two_profiles_take_less_memory_than_the_range_that_holds_both(installed, name):
    make, profiles, path = MODELS[name]
    case = make().with_profiles(*profiles)
    report = engines.build(case, path)
    (plan,) = report.plans
    (whole,) = engines.build(case.with_profiles(), path).plans
    assert len(plan.activation_by_profile) == 2
    assert plan.activation_bytes == max(plan.activation_by_profile) <= whole.activation_bytes
    assert min(plan.activation_by_profile) < whole.activation_bytes
    assert plan.plan_bytes > whole.plan_bytes  # the layers of each profile are in it
    assert not [note for note in report.notes if "profile 1" in note]


@since_2_14
def test_an_opt_of_1_is_real_on_the_export_path_and_any_profile_may_come_first(installed):
    case = text_encoder(depth=1).with_profiles(TOKEN, PROMPT)
    (plan,) = engines.build(case, "export").plans
    assert profiles_of(plan, "ids") == (((1, 1), (8, 1), (16, 1)), ((1, 2), (1, 64), (4, 128)))


@since_2_14
def test_sizes_that_no_profile_holds_together_are_refused(installed):
    case = text_encoder(depth=1).with_profiles(PROMPT, TOKEN)
    report = engines.build(case, "export", [{"batch": 4, "length": 128}, {"batch": 16, "length": 128}])
    served, refused = report.calls
    assert served.outcome == "served"
    assert refused.outcome == "refused"
    assert "in the last of 2; no other takes the inputs" in refused.words
    assert refused.range_check.startswith("no profile takes batch 16, length 128 (profile 0: batch 1/1/4, length 2/64")


@pytest.mark.skipif(upstream.MINOR >= (2, 14), reason="this Torch-TensorRT builds several profiles")
@pytest.mark.parametrize("path", ["input", "export"])
def test_before_2_14_the_report_names_the_version_that_can(installed, path):
    report = engines.build(perceptron().with_profiles({"tokens": (1, 1, 8)}, {"tokens": (8, 64, 128)}), path)
    assert f"Torch-TensorRT {upstream.INSTALLED} builds one optimization profile" in report.failed
    assert "TORCH=2.14" in report.failed


def test_just_in_time_there_is_an_engine_for_each_profile(installed):
    case = perceptron().with_profiles({"tokens": (2, 4, 8)}, {"tokens": (8, 64, 128)})
    report = engines.build(case, "jit", [2, 8, 128])
    assert [plan.activation_by_profile for plan in report.plans] == [(), ()]
    assert [call.by for call in report.calls] == ["engine 1", "engine 1", "engine 2"]
    assert "this is 2 programs, one for each" in report.notes[0]


def test_a_lower_min_takes_no_more_memory(installed):
    low, high = (engines.build(perceptron(tokens=(least, 64, 256)), "export").plans[0] for least in (1, 64))
    assert low.activation_bytes == high.activation_bytes
