import json
import math

import pandas as pd
import pytest
import torch

from tutorial_lib import PATHS, ShapeError, Sweep, expand_reshape, plots, sweep
from tutorial_lib.sweep import EAGER, check_sizes, default_sizes

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
    with pytest.raises(ValueError, match="length vary"):
        plots.latency(found)


def test_a_sweep_never_compiles(programs):
    engines = len(programs["jit"].build.engines)
    sweep({"jit": programs["jit"]}, [1, 8], **QUICK)
    assert len(programs["jit"].build.engines) == engines


def test_row_consistency_is_reported_where_there_are_rows(result):
    spreads = result.table.set_index(["path", "batch"])["row_spread"]
    assert math.isnan(spreads["jit", 1])
    assert spreads["jit", 8] >= 0
