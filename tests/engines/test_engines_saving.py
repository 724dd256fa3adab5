"""Which ways of saving an ahead-of-time program keep its range, through upstream's real serializer.

What runs is upstream's own: retracing with the range, writing and reading of the file, and its module and operator. An
engine's bytes are a number, under which the process keeps the graph; so loading in another process and TensorRT's own
check of a plan are not covered.
"""

import inside
import pytest
import serialized
import upstream

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        upstream.MINOR < (2, 13),
        reason="the seam below the module is that of Torch-TensorRT 2.13, whose runtime is new",
    ),
]

WHOLE = {1: True, 4: True, 32: True}


@pytest.mark.parametrize("how", ["with an Input", "with dynamic_shapes"])
def test_saving_with_the_range_keeps_it_and_brings_a_guard(run_inside, tmp_path, how):
    found = run_inside(serialized.served_after_saving, str(tmp_path / "program.pt2"), how)
    assert found == {**WHOLE, 33: "Guard failed: x.size()[0] <= 32"}


def test_saving_without_retracing_keeps_it_too(run_inside, tmp_path):
    found = run_inside(serialized.served_after_saving, str(tmp_path / "program.pt2"), "without retracing")
    assert found == {**WHOLE, 33: "Expected input at *args[0].shape[0] to be <= 32, but got 33"}


def test_the_obvious_call_saves_a_program_for_one_batch(run_inside, tmp_path):
    refusal = "Guard failed: x.size()[0] == 4"
    found = run_inside(serialized.served_after_saving, str(tmp_path / "program.pt2"), "with a tensor")
    assert found == {1: refusal, 4: True, 32: refusal, 33: refusal}


@pytest.mark.parametrize(
    ("how", "words"),
    [("with nothing", "no inputs specs were provided"), ("jit", "Saving nn.Module directly is not supported")],
)
def test_what_cannot_be_saved(run_inside, tmp_path, how, words):
    with pytest.raises(inside.Upstream, match=f"ValueError: .*{words}"):
        run_inside(serialized.served_after_saving, str(tmp_path / "program.pt2"), how)


RANGES = {
    "seed": (1, ["batch 1/4/8"]),
    "masked": (1, ["batch 1/4/8", "length 2/5/9"]),
    "hybrid": (2, ["batch 2/4/8"]),  # cut into two engines around an operator that PyTorch runs
    "vit-half": (1, ["batch 1/4/8"]),
    "square": (1, ["batch 1/4/8"]),
}


@pytest.mark.parametrize("path", ["input", "export"])
@pytest.mark.parametrize("name", RANGES)
def test_a_program_of_this_package_comes_back_with_its_whole_range(run_inside, tmp_path, path, name):
    low, ranges = RANGES[name]
    file = str(tmp_path / "program.dynpt")
    agrees, found, same_engines, said, bare = run_inside(serialized.saved_and_loaded, file, path, name, low)
    assert agrees == [True] * 6
    assert found == ranges
    assert same_engines
    assert f"this program was built for {low} to 8" in said
    assert "Guard failed: " in bare
    assert "<= 8" in bare
