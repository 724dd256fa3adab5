import json
import math

import pandas as pd
import pytest
import torch
from torch import nn

from tutorial_lib import (
    PATHS,
    Case,
    DynamicDim,
    ShapeError,
    Sweep,
    TensorSpec,
    expand_reshape,
    grid,
    paths,
    sweep,
    text_encoder,
    vit_any_size,
)
from tutorial_lib.builds.backends import as_device
from tutorial_lib.checks.agreement import NotRepeatable
from tutorial_lib.measure.sweep import EAGER, check_sizes, default_sizes, latencies

QUICK = {"min_samples": 3, "min_seconds": 0.001}


@pytest.fixture(scope="module")
def programs(built, seed):
    return {name: built(name, "eager", seed) for name in PATHS}


@pytest.fixture(scope="module")
def result(programs):
    return sweep(programs, [1, 4, 8], **QUICK)


class Changed:
    """A program whose results are changed."""

    def __init__(self, program, change):
        self.case, self.build, self._program, self._change = program.case, program.build, program, change

    def __call__(self, *inputs):
        return self._change(self._program(*inputs))


def test_a_row_for_every_program_and_size_eager_included(result):
    assert list(zip(result.table["path"], result.table["batch"], strict=True)) == [
        (name, batch) for batch in (1, 4, 8) for name in (EAGER, *PATHS)
    ]
    assert (result.table.loc[result.table["path"] == EAGER, "speedup"] == 1).all()
    samples = result.table["samples_per_second"] * result.table["median_ms"] / 1000
    assert samples.tolist() == pytest.approx(result.table["batch"].tolist())
    assert len(result.pairs) == 3 * 3
    assert result.verdict == "All paths agree with float64, and with each other, at every size that was measured."


def test_a_wrong_path_is_named_by_table_pairs_and_verdict(programs):
    wrong = sweep({**programs, "export": Changed(programs["export"], lambda result: 1.001 * result)}, [4], **QUICK)
    assert not wrong.agrees
    assert wrong.table.loc[~wrong.table["agrees"], "path"].tolist() == ["export"]
    assert wrong.pairs["agrees"].tolist() == [True, False, False]
    assert wrong.verdict == "1 of 4 results differ from float64, 2 of 3 pairs of paths differ."
    assert "NO" in wrong.summary()["agrees"].tolist()


def test_a_pair_differs_wherever_among_its_tensors_the_nan_is():
    class Two(nn.Module):
        def forward(self, x):
            return x + 1, x * 2

    case = Case("two", Two(), (TensorSpec("x", (DynamicDim("batch", 1, 2, 4), 3)),)).to(as_device())
    program = paths.export(case, "eager")
    broken = Changed(program, lambda results: (results[0], torch.nan * results[1]))
    swept = sweep({"export": program, "broken": broken}, [2], rows=False, **QUICK)
    assert swept.pairs["agrees"].tolist() == [False]


def test_json_is_read_back_as_it_was_and_csv_has_the_same_rows(result, tmp_path):
    result.to_json(tmp_path / "sweep.json")
    again = Sweep.from_json(tmp_path / "sweep.json")
    pd.testing.assert_frame_equal(again.table, result.table)
    pd.testing.assert_frame_equal(again.pairs, result.pairs)
    assert (again.provenance, again.verdict) == (result.provenance, result.verdict)
    result.to_csv(tmp_path / "sweep.csv")
    rows = pd.read_csv(tmp_path / "sweep.csv")["median_ms"]
    assert rows.tolist() == pytest.approx(result.table["median_ms"].tolist())


def test_json_is_valid_for_every_reader_even_with_numbers_that_are_not_finite(programs, tmp_path):
    nan = Changed(programs["jit"], lambda result: torch.nan * result)
    sweep({"jit": nan}, [4], **QUICK).to_json(tmp_path / "nan.json")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "nan.json").read_text(), parse_constant=refuse)
    assert not Sweep.from_json(tmp_path / "nan.json").agrees


def test_provenance_says_what_ran_where_in_which_precision(result, seed):
    provenance = result.provenance
    assert provenance["backend"] == "eager"
    assert provenance["dims"] == [{"name": "batch", "min": 1, "opt": 4, "max": 8}]
    assert provenance["inputs"] == {"x": "[batch 1/4/8, 7, 48] torch.float32"}
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["date"].endswith("+00:00")
    assert "4 x eager" in provenance["tolerance"]
    text = text_encoder((1, 2, 4), (2, 4, 8), vocabulary=9, positions=8, embed_dim=8, depth=1, heads=2)
    for case, precision in ((seed.in_precision("bf16"), "bf16"), (seed, "float32"), (text, "float32")):
        looked = latencies(case, {}, [4])  # no program is needed for a look at eager
        assert looked.provenance["precision"] == precision
        assert (looked.provenance["backend"], looked.provenance["case"]) == (EAGER, case.name)
        assert (looked.table["path"].tolist(), looked.builds) == ([EAGER], [])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1, "table": 3}'])
def test_a_file_that_is_not_a_sweep_is_refused_in_one_sentence(content, tmp_path):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(ValueError, match=r"bad\.json is not a sweep") as error:
        Sweep.from_json(tmp_path / "bad.json")
    assert "\n" not in str(error.value)


def test_default_sizes_are_the_corners_opt_and_the_powers_of_two_times_the_step():
    assert default_sizes(expand_reshape((3, 5, 20), embed_dim=12)) == [3, 4, 5, 8, 16, 20]
    height = vit_any_size(embed_dim=12, depth=1).inputs[0].shape[2]
    assert default_sizes(Case("turned", nn.Identity(), (TensorSpec("x", (height, 3)),))) == [96, 128, 224, 256, 320]


def test_a_model_that_writes_into_its_input_is_not_measured():
    class Gain(nn.Module):
        def forward(self, x):
            x *= 2
            return x

    case = Case("gain", Gain(), (TensorSpec("x", (DynamicDim("batch", 1, 4, 8), 16)),)).to(as_device())
    with pytest.raises(NotRepeatable, match="gain writes into its input x"):
        sweep({"export": paths.export(case, "eager")}, [4])


def test_programs_of_different_cases_are_not_compared(programs, built, masked):
    with pytest.raises(ValueError, match="different cases"):
        sweep({"jit": programs["jit"], "export": built("export", "eager", masked)}, [2], **QUICK)
    with pytest.raises(ValueError, match="nothing to compare"):
        sweep({}, [2])


def test_a_sweep_never_compiles(programs):
    engines = len(programs["jit"].build.engines)
    sweep({"jit": programs["jit"]}, [1, 8], **QUICK)
    assert len(programs["jit"].build.engines) == engines


def test_row_consistency_is_reported_where_there_are_rows(result):
    spreads = result.table.set_index(["path", "batch"])["row_spread"]
    assert math.isnan(spreads["jit", 1])
    assert spreads["jit", 8] >= 0


def test_after_every_round_there_is_a_whole_sweep_of_what_is_known(programs):
    rounds = []
    swept = sweep(programs, [1, 4], min_samples=3, min_seconds=0, after_round=rounds.append)
    assert [int(so_far.table["calls"].max()) for so_far in rounds] == [1, 2, 3]
    for so_far in rounds:
        assert so_far.table[["path", "ratio"]].equals(swept.table[["path", "ratio"]])
        assert so_far.verdict == swept.verdict
        assert so_far.builds == swept.builds
    assert rounds[-1].table["median_ms"].tolist() == swept.table["median_ms"].tolist()


def test_every_step_is_told(programs):
    steps = []
    sweep(programs, [1, 4], min_samples=1, min_seconds=0, progress=steps.append)
    assert [(step.stage, step.done) for step in steps] == [
        *[("comparing", 0)] * 4,
        *[("comparing", 1)] * 4,
        *[("measuring", 0)] * 8,
    ]
    assert steps[4].text == "comparing at batch 4 (2 of 2)"
    assert all(step.done < step.total for step in steps)


def test_a_first_look_has_latencies_without_agreement(programs, seed, result):
    steps = []
    looked = latencies(seed, {"jit": programs["jit"]}, [1, 4], progress=steps.append)
    assert looked.table[["path", "batch"]].values.tolist() == [[EAGER, 1], ["jit", 1], [EAGER, 4], ["jit", 4]]
    assert (looked.table["median_ms"] > 0).all()
    assert looked.table["calls"].tolist() == [1] * 4
    assert looked.table[["ratio", "max_abs", "agrees"]].isna().all(axis=None)
    assert len(looked.pairs) == 0
    assert [build["path"] for build in looked.builds] == ["jit"]
    assert len(steps) == 4
    assert json.loads(looked.json())["table"][0]["ratio"] is None
    assert set(looked.table.columns) == set(result.table.columns)


@pytest.fixture(scope="module")
def gridded(built, masked):
    return sweep({"export": built("export", "eager", masked)}, grid(masked, batch=[1, 4], length=[1, 5, 9]), **QUICK)


def test_a_grid_has_every_combination_once_and_the_rest_at_opt(masked):
    assert grid(masked, batch=[1, 4, 1], length=(9, 5)) == [
        {"batch": batch, "length": length} for batch in (1, 4) for length in (9, 5)
    ]
    assert grid(masked, length=range(1, 3)) == [{"batch": 2, "length": 1}, {"batch": 2, "length": 2}]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"batch": [1], "length": [9, 10]}, "length 10 cannot be measured: the range is 1 to 9"),
        ({"width": [1]}, "no dynamic dimension 'width'; it has batch, length"),
        ({"batch": 4}, r"batch: 4 is not a list"),
        ({}, "has batch, length"),
        ({"batch": []}, "at least one"),
    ],
)
def test_sizes_that_cannot_be_measured_are_refused(masked, sizes, said):
    with pytest.raises(ShapeError, match=said):
        grid(masked, **sizes)


def test_sizes_out_of_range_or_between_steps_are_refused_before_anything_runs(programs):
    with pytest.raises(ShapeError, match="batch 9 cannot be measured"):
        sweep(programs, [4, 9], **QUICK)
    with pytest.raises(ShapeError, match="at least one"):
        sweep(programs, [], **QUICK)
    images = vit_any_size(embed_dim=12, depth=1).with_ranges(batch=(2, 2, 2))
    with pytest.raises(ShapeError, match="height 100 cannot be measured: it is no multiple of 16"):
        check_sizes(images, [{"height": 100}])


def test_a_grid_can_be_cut_to_one_line(gridded, tmp_path):
    assert gridded.agrees  # without any pairs of paths
    assert gridded.held == {}
    line = gridded.at(batch=4)
    assert line.held == {"batch": 4}
    assert line.table[["length", "batch"]].drop_duplicates().values.tolist() == [[1, 4], [5, 4], [9, 4]]
    assert [dim["name"] for dim in line.provenance["dims"]] == ["length", "batch"]
    assert list(gridded.summary().columns[:3]) == ["batch", "length", "path"]
    gridded.to_json(tmp_path / "grid.json")
    pd.testing.assert_frame_equal(Sweep.from_json(tmp_path / "grid.json").at(batch=4).table, line.table)


def test_sizes_that_were_not_measured_are_refused(gridded):
    with pytest.raises(ShapeError, match="length 3 was not measured; what was is batch 1, 4; length 1, 5, 9"):
        gridded.at(length=3)
    some = gridded.at(batch=4, length=9)
    assert len(some.table) == 2
    with pytest.raises(ShapeError, match="length 1 was not measured"):
        some.at(length=1)
