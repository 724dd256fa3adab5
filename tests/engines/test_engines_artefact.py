"""Saved programs of the tensorrt backend, through upstream's real serializer, with numbers for engines.

What runs is upstream's own: retracing with the range, writing and reading of the file, and its module and
operator. An engine's bytes are a number, under which this process keeps the graph; so loading in another
process, TensorRT's own check of a plan, and the memory that a copy of an engine takes are not covered.
"""

import inside_artefact as ours
import pytest
import upstream

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        upstream.MINOR < (2, 13),
        reason="the seam below the module is that of Torch-TensorRT 2.13, whose runtime is new",
    ),
]

AHEAD = ("input", "export")
RANGES = {
    "seed": (1, ["batch 1/4/8"]),
    "masked": (1, ["batch 1/4/8", "length 2/5/9"]),
    "hybrid": (2, ["batch 2/4/8"]),  # cut into two engines around an operator that PyTorch runs
    "vit-half": (1, ["batch 1/4/8"]),
    "square": (1, ["batch 1/4/8"]),
}


@pytest.mark.parametrize("path", AHEAD)
@pytest.mark.parametrize("name", RANGES)
def test_a_program_comes_back_with_its_whole_range(run_inside, tmp_path, path, name):
    low, ranges = RANGES[name]
    agrees, found, same_engines, said, bare = run_inside(
        ours.saved_and_loaded, str(tmp_path / "program.dynpt"), path, name, low
    )
    assert agrees == [True] * 6
    assert found == ranges
    assert same_engines
    assert f"this program was built for {low} to 8" in said
    assert "Guard failed: " in bare
    assert "<= 8" in bare


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("byte", "is damaged (Bad CRC-32 for file 'program.pt2')"),
        (
            "graphics card",
            "was built for a GPU of compute capability 9.0, and this one has 8.0; build it again here with",
        ),
        ("jit", "what the jit path built cannot be saved"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_unpickled(run_inside, tmp_path, change, words):
    assert words in run_inside(ours.refused, str(tmp_path / "program.dynpt"), change)
