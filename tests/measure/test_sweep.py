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
from tutorial_lib.figures import plots
from tutorial_lib.measure.sweep import EAGER, check_sizes, default_sizes, latencies

QUICK = {"min_samples": 3, "min_seconds": 0.001}


@pytest.fixture(scope="module")
def programs(built, seed):
    return {name: built(name, "eager", seed) for name in PATHS}


@pytest.fixture(scope="module")
def result(programs):
    return sweep(programs, [1, 4, 8], **QUICK)


class Wrong:
    """A program whose numbers are off by a thousandth."""

    def __init__(self, program):
        self.case, self.build, self._program = program.case, program.build, program

    def __call__(self, *inputs):
        return self._program(*inputs) * 1.001


def test_a_row_for_every_program_and_size_eager_included(result):
    assert list(zip(result.table["path"], result.table["batch"], strict=True)) == [
        (name, batch) for batch in (1, 4, 8) for name in (EAGER, *PATHS)
    ]
    assert (result.table.loc[result.table["path"] == EAGER, "speedup"] == 1).all()
    assert (result.table["samples_per_second"] * result.table["median_ms"] / 1000).round(6).tolist() == [
        float(batch) for batch in result.table["batch"]
    ]


def test_all_pairs_of_paths_are_compared_at_every_size(result):
    assert len(result.pairs) == 3 * 3
    assert result.agrees
    assert result.verdict.startswith("All paths agree")


def test_a_wrong_path_is_named_by_table_pairs_and_verdict(programs):
    found = sweep({**programs, "export": Wrong(programs["export"])}, [4], **QUICK)
    assert not found.agrees
    assert found.table.loc[~found.table["agrees"], "path"].tolist() == ["export"]
    assert found.pairs["agrees"].tolist() == [True, False, False]
    assert found.verdict == "1 of 4 results differ from float64, 2 of 3 pairs of paths differ."
    assert "NO" in found.summary()["agrees"].tolist()


def test_json_is_read_back_as_it_was(result, tmp_path):
    result.to_json(tmp_path / "sweep.json")
    again = Sweep.from_json(tmp_path / "sweep.json")
    pd.testing.assert_frame_equal(again.table, result.table)
    pd.testing.assert_frame_equal(again.pairs, result.pairs)
    assert again.provenance == result.provenance
    assert again.verdict == result.verdict
    assert plots.subtitle(again) == plots.subtitle(result)


def test_json_is_valid_for_every_reader_even_with_numbers_that_are_not_finite(programs, tmp_path):
    class Nan(Wrong):
        def __call__(self, *inputs):
            return self._program(*inputs) * torch.nan

    found = sweep({"jit": Nan(programs["jit"])}, [4], **QUICK)
    found.to_json(tmp_path / "nan.json")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "nan.json").read_text(), parse_constant=refuse)
    assert not Sweep.from_json(tmp_path / "nan.json").agrees


def test_provenance_says_what_ran_where(result):
    about = result.provenance
    assert about["backend"] == "eager"
    assert about["dims"] == [{"name": "batch", "min": 1, "opt": 4, "max": 8}]
    assert about["versions"]["torch"] == torch.__version__
    assert about["date"].endswith("+00:00")
    assert "4 x eager" in about["tolerance"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1, "table": 3}'])
def test_a_file_that_is_not_a_sweep_is_refused_in_one_sentence(content, tmp_path):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(ValueError, match=r"bad\.json is not a sweep") as error:
        Sweep.from_json(tmp_path / "bad.json")
    assert "\n" not in str(error.value)


def test_csv_has_the_same_rows(result, tmp_path):
    result.to_csv(tmp_path / "sweep.csv")
    assert pd.read_csv(tmp_path / "sweep.csv")["median_ms"].tolist() == pytest.approx(
        result.table["median_ms"].tolist()
    )


def test_a_failed_write_leaves_nothing_behind(result, tmp_path, monkeypatch):
    (tmp_path / "sweep.json").write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        result.to_json(tmp_path / "sweep.json")
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.json"]
    assert (tmp_path / "sweep.json").read_text() == "old"


def test_sizes_outside_the_range_are_refused_before_anything_runs(programs):
    with pytest.raises(ShapeError, match="batch 9 cannot be measured: the range is 1 to 8"):
        sweep(programs, [4, 9], **QUICK)
    with pytest.raises(ShapeError, match="at least one"):
        sweep(programs, [], **QUICK)


def test_default_sizes_are_the_corners_opt_and_the_powers_of_two():
    assert default_sizes(expand_reshape((3, 5, 20), embed_dim=12)) == [3, 4, 5, 8, 16, 20]
    assert check_sizes(expand_reshape((3, 5, 20), embed_dim=12), [3]) == [{"batch": 3}]


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


def test_two_dynamic_dimensions_are_swept_by_name(built, masked):
    sizes = [{"batch": 1, "length": 9}, {"batch": 4, "length": 1}]
    found = sweep({"export": built("export", "eager", masked)}, sizes, **QUICK)
    assert found.table[["batch", "length"]].drop_duplicates().values.tolist() == [[1, 9], [4, 1]]
    assert found.agrees
    with pytest.raises(ValueError, match="length vary too"):
        plots.latency(found)


def test_a_sweep_never_compiles(programs):
    engines = len(programs["jit"].build.engines)
    sweep({"jit": programs["jit"]}, [1, 8], **QUICK)
    assert len(programs["jit"].build.engines) == engines


def test_row_consistency_is_reported_where_there_are_rows(result):
    spreads = result.table.set_index(["path", "batch"])["row_spread"]
    assert math.isnan(spreads["jit", 1])
    assert spreads["jit", 8] >= 0


def test_after_every_round_there_is_a_whole_sweep_of_what_is_known(programs):
    seen = []
    found = sweep(programs, [1, 4], min_samples=3, min_seconds=0, after_round=seen.append)
    assert [int(one.table["calls"].max()) for one in seen] == [1, 2, 3]
    for one in seen:
        assert one.table["path"].tolist() == found.table["path"].tolist()
        assert one.table["ratio"].tolist() == found.table["ratio"].tolist()
        assert one.verdict == found.verdict
        assert one.builds == found.builds
        json.loads(one.json())
    assert seen[-1].table["median_ms"].tolist() == found.table["median_ms"].tolist()


def test_every_step_is_told_and_may_end_the_sweep(programs):
    steps = []
    sweep(programs, [1, 4], min_samples=1, min_seconds=0, progress=steps.append)
    assert [(step.stage, step.done) for step in steps] == [
        *[("comparing", 0)] * 4,
        *[("comparing", 1)] * 4,
        *[("warming up", 0)] * 8,
        *[("measuring", 0)] * 8,
    ]
    assert steps[4].text == "comparing at batch 4 (2 of 2)"
    assert all(step.done < step.total for step in steps)

    for last in (steps[0], steps[7], *steps[-9::8]):

        def stops(step, last=last):
            if step == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sweep(programs, [1, 4], min_samples=1, min_seconds=0, progress=stops)


def test_a_first_look_has_latencies_without_agreement(programs, seed):
    steps = []
    looked = latencies(seed, {"jit": programs["jit"]}, [1, 4], progress=steps.append)
    assert list(zip(looked.table["path"], looked.table["batch"], strict=True)) == [
        (EAGER, 1),
        ("jit", 1),
        (EAGER, 4),
        ("jit", 4),
    ]
    assert (looked.table["median_ms"] > 0).all()
    assert (looked.table.loc[looked.table["path"] == EAGER, "speedup"] == 1).all()
    assert looked.table["calls"].tolist() == [1] * 4
    assert looked.table[["ratio", "max_abs", "agrees"]].isna().all(axis=None)
    assert len(looked.pairs) == 0
    assert [build["path"] for build in looked.builds] == ["jit"]
    assert len(steps) == 8
    assert json.loads(looked.json())["table"][0]["ratio"] is None


def test_a_first_look_at_eager_needs_no_program(seed):
    looked = latencies(seed, {}, [1, 4])
    assert looked.table["path"].tolist() == [EAGER] * 2
    assert looked.builds == []
    assert looked.provenance["backend"] == EAGER
    assert looked.provenance["case"] == seed.name


def test_a_first_look_and_a_sweep_have_the_same_columns(programs, seed, result):
    assert set(latencies(seed, programs, [1]).table.columns) == set(result.table.columns)


def test_a_first_look_refuses_sizes_outside_the_range(programs, seed):
    with pytest.raises(ShapeError, match="batch 9 cannot be measured"):
        latencies(seed, programs, [9])


def test_the_precision_stands_in_the_provenance(built, seed):
    case = seed.in_precision("bf16")
    found = sweep({"export": built("export", "eager", case)}, [4], **QUICK)
    assert found.provenance["precision"] == "bf16"
    assert found.provenance["inputs"] == {"x": "[batch 1/4/8, 7, 48] torch.bfloat16"}
    assert found.agrees
    assert sweep({"export": built("export", "eager", seed)}, [4], **QUICK).provenance["precision"] == "float32"


# ---- several dimensions -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gridded(built, masked):
    return sweep({"export": built("export", "eager", masked)}, grid(masked, batch=[1, 4], length=[1, 5, 9]), **QUICK)


def test_a_grid_has_every_combination_once_and_the_rest_at_opt(masked):
    assert grid(masked, batch=[1, 4, 1], length=(9, 5)) == [
        {"batch": batch, "length": length} for batch in (1, 4) for length in (9, 5)
    ]
    assert grid(masked, length=range(1, 3)) == [{"batch": 2, "length": 1}, {"batch": 2, "length": 2}]


def test_a_grid_that_cannot_be_measured_is_refused(masked):
    with pytest.raises(ShapeError, match="length 10 cannot be measured: the range is 1 to 9"):
        grid(masked, batch=[1], length=[9, 10])
    with pytest.raises(ShapeError, match=r"no dynamic dimension 'width'; it has batch, length"):
        grid(masked, width=[1])
    with pytest.raises(ShapeError, match=r"batch: 4 is not a list of sizes; give one such as \[4\]"):
        grid(masked, batch=4)
    with pytest.raises(ShapeError, match="at least one dimension; masked has batch, length"):
        grid(masked)
    with pytest.raises(ShapeError, match="at least one"):
        grid(masked, batch=[])


def test_steps_are_kept_to():
    case = vit_any_size(embed_dim=12, depth=1).with_ranges(batch=(2, 2, 2))
    with pytest.raises(ShapeError, match="height 100 cannot be measured: it is no multiple of 16"):
        grid(case, height=[100])
    heights = Case("heights", case.model, tuple(case.inputs)).with_ranges(height=(96, 224, 320)).dims["height"]
    assert heights.step == 16


def test_default_sizes_of_a_dim_in_steps_are_multiples():
    spec = vit_any_size(embed_dim=12, depth=1).inputs[0]
    turned = Case("turned", torch.nn.Identity(), (type(spec)("images", (spec.shape[2], 3)),))
    assert default_sizes(turned) == [96, 128, 224, 256, 320]


def test_one_line_of_a_grid_is_drawn_over_the_other_dimension(gridded):
    assert gridded.held == {}
    line = gridded.at(batch=4)
    assert line.held == {"batch": 4}
    assert set(line.table["length"]) == {1, 5, 9}
    axes = plots.latency(line).axes[0]
    assert axes.get_xlabel().startswith("length")
    assert "length 1/5/9, batch 1/2/4 (min/opt/max), batch 4" in axes.get_title(loc="left")
    with pytest.raises(ValueError, match=r"length vary too; plot sweep\.at\(length=\.\.\.\), or a heatmap"):
        plots.latency(gridded)


def test_sizes_that_were_not_measured_are_refused(gridded):
    with pytest.raises(ShapeError, match="length 3 was not measured; what was is batch 1, 4; length 1, 5, 9"):
        gridded.at(length=3)
    some = gridded.at(batch=4, length=9)
    assert len(some.table) == 2
    with pytest.raises(ShapeError, match="length 1 was not measured"):
        some.at(length=1)


def test_a_summary_of_a_grid_names_both_sizes(gridded):
    summary = gridded.summary()
    assert list(summary.columns[:3]) == ["batch", "length", "path"]
    assert len(summary) == 2 * 3 * 2


def test_a_grid_is_read_back_as_it_was(gridded, tmp_path):
    gridded.to_json(tmp_path / "grid.json")
    again = Sweep.from_json(tmp_path / "grid.json")
    assert again.agrees == gridded.agrees  # without any pairs of paths
    pd.testing.assert_frame_equal(again.at(length=5).table, gridded.at(length=5).table)


def test_the_precision_of_a_model_of_integers_is_that_of_its_weights():
    case = text_encoder((1, 2, 4), (2, 4, 8), vocabulary=9, positions=8, embed_dim=8, depth=1, heads=2)
    assert latencies(case, {}, [2]).provenance["precision"] == "float32"
