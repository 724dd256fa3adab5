"""Recorded runs: what cannot be trusted is refused in one sentence, and what is shown says where it is from."""

import json
import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from tutorial_lib.builds.backends import as_device
from tutorial_lib.cli import commands
from tutorial_lib.core.models import MODELS
from tutorial_lib.core.shapes import DynamicDim, ShapeError
from tutorial_lib.experiments import recordings
from tutorial_lib.experiments.campaign import measured
from tutorial_lib.experiments.recordings import RecordedError, load, of
from tutorial_lib.experiments.result import Failure
from tutorial_lib.experiments.results_file import Line, key
from tutorial_lib.experiments.setting import Setting
from tutorial_lib.figures import plots
from tutorial_lib.studio import Studio, views

ROOT = Path(__file__).parents[2]
RECORDINGS = sorted((ROOT / recordings.FOLDER).glob("*.json"))
ONE = Setting("perceptron", (DynamicDim("tokens", 1, 4, 8),), "eager", paths=("jit", "export"), sizes=(1, 4), samples=2)
COMMAND = "python -m tutorial_lib record --models perceptron --out x.json"


def run_of(setting):
    return Line(key(setting), 1, measured(MODELS["perceptron"], setting, "cpu", 0), host="a-host")


@pytest.fixture(scope="module")
def runs():
    other = Setting("perceptron", ONE.ranges, "eager", "bf16", ("export",), (4,), samples=2)
    fails = Setting("perceptron", ONE.ranges, "eager", "tf32", ("export",), (4,), samples=2)
    return [run_of(ONE), run_of(other), run_of(fails)]


@pytest.fixture
def recording(runs):
    return of(runs, COMMAND, ["Other work ran beside it."])


@pytest.fixture
def file(recording, tmp_path):
    recording.save(tmp_path / "run.json")
    return tmp_path / "run.json"


def test_a_recording_is_read_back_as_it_was(recording, file):
    again = load(file)
    assert again.metadata == recording.metadata
    assert [line.to_dict() for line in again.runs] == [line.to_dict() for line in recording.runs]
    assert again.table.equals(recording.table)
    text = file.read_text()
    assert text.startswith('{\n "tutorial_lib": "recorded run",\n "schema": 2,')
    assert sum(line.startswith('{"key":') for line in text.splitlines()) == len(again.runs)
    assert max(len(digits) for digits in re.findall(r"\d\.(\d+)e-\d\d\b", text)) <= recordings.DIGITS - 1


def test_it_says_what_it_was_measured_on_when_with_what_and_by_which_command(recording):
    metadata = recording.metadata
    assert metadata.device.startswith("CPU (")
    assert metadata.date.endswith("+00:00")
    assert metadata.versions["torch"] in recording.label
    assert metadata.command == COMMAND
    assert metadata.conditions["samples"] == 6, "before each of two rounds and after the last, for two settings"
    low, high = metadata.conditions["load_average_1_min"]
    assert low <= high
    assert recording.warnings == ("Other work ran beside it.",)


def test_names_of_hosts_and_folders_are_not_kept(runs, tmp_path):
    (failed,) = [line for line in runs if line.result.failures]
    at_home = replace(failed.result, failures={"": Failure("no file /home/somebody/model.py.")})
    recording = of([runs[0], replace(failed, result=at_home)], "record --out /home/somebody/x.json", ["in /home/me/a"])
    recording.save(tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text()
    assert "a-host" not in text
    assert "/home" not in text
    assert recording.metadata.command == "record --out x.json"
    assert recording.runs[1].result.failures[""].sentence == "no file model.py."


def test_the_table_has_every_row_and_every_row_says_that_it_is_recorded(recording):
    table = recording.table
    assert table["recorded"].unique().tolist() == [recording.label]
    assert table["recorded"][0].startswith("recorded on CPU (")
    assert len(table) == 3 * 2 + 2 + 1
    assert table["error"].notna().sum() == 1


@pytest.mark.parametrize("plot", [plots.latency, plots.agreement, plots.build_time, plots.overview, plots.panel])
def test_every_figure_of_a_recording_says_so(recording, plot):
    figure = plot(recording.sweep(precision="fp32"))
    assert isinstance(figure, Figure)
    words = " ".join([figure.get_suptitle(), *(axes.get_title(loc="left") for axes in figure.axes)])
    assert recording.label in words.replace("\n", " ")


def legend_of(figure):
    return [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]


def test_a_recording_is_drawn_behind_a_live_run_with_its_label(recording):
    figure = plots.latency(recording.sweep(precision="fp32"), behind=recording.behind(precision="bf16"))
    assert any(text.startswith(recording.label) for text in legend_of(figure))


def test_a_run_of_a_recording_has_its_setting_and_its_builds_and_says_that_it_is_recorded(recording):
    result = recording.run(precision="fp32")
    assert result.setting == ONE
    assert [build.path for build in result.builds] == ["jit", "export"]
    assert result.builds[0].engines[0].data[0].max == (8, 256)
    assert result.recorded == recording.label


@pytest.fixture
def studio():
    studio = Studio(device="cpu")
    studio.set(model="perceptron", tokens=(1, 4, 8), backend="eager", paths=["export"], sizes=[1, 4], samples=2)
    studio.set(engines=False)
    yield studio
    studio.close()


def test_the_studio_shows_a_recording_as_a_pin_that_says_so(studio, recording, file):
    assert studio.show_recorded(file, precision="fp32") == "A"
    assert studio.pins["A"].recorded == recording.label
    assert recording.label in studio._panel.pins.children[0].children[0].value
    studio.build()
    snapshot = studio.snapshot()
    table = views.table(snapshot.result, snapshot.behind)
    assert f"A: 1 / 4 / 8, eager fp32, {recording.label}" in table
    assert table.count(">A, recorded</th>") == 2
    figure = views.figure(snapshot.result, snapshot.behind)
    assert any(recording.label in text for text in legend_of(figure))
    assert "recorded" not in plots.subtitle(snapshot.result.sweep)


def test_the_studio_does_not_take_a_recording_for_its_own_result(studio, file):
    letter = studio.show_recorded(file, precision="fp32")
    with pytest.raises(ShapeError, match="A was recorded on"):
        studio.restore(letter)
    assert studio.result is None
    studio.unpin(letter)
    with pytest.raises(RecordedError, match="2 settings fit model perceptron"):
        studio.show_recorded(file)
    assert not studio.pins


def test_a_choice_that_is_not_one_setting_lists_what_there_is(recording):
    with pytest.raises(RecordedError, match="2 settings fit without a choice; the recording has: perceptron 1 / 4 / 8"):
        recording.sweep()
    with pytest.raises(RecordedError, match="no setting fits precision fp16"):
        recording.sweep(precision="fp16")


def test_nothing_measured_is_nothing_recorded(runs):
    with pytest.raises(RecordedError, match="nothing to record: precision tf32: "):
        of([runs[2]], COMMAND)
    with pytest.raises(RecordedError, match="there are no settings"):
        of([], COMMAND)


@pytest.mark.parametrize(("what", "value"), [("device", "NVIDIA A100"), ("versions", {"torch": "2.0"})])
def test_devices_and_versions_are_not_mixed(runs, what, value):
    other = runs[1].result
    sweep = replace(other.sweep, provenance={**other.sweep.provenance, what: value})
    mixed = [runs[0], replace(runs[1], result=replace(other, sweep=sweep))]
    with pytest.raises(RecordedError, match="record them apart"):
        of(mixed, COMMAND)


def sweep(content):
    return content["runs"][0]["result"]["sweep"]


def row(content):
    return sweep(content)["table"][0]


WRONG = {
    "another kind": (lambda c: c.update(tutorial_lib="campaign"), "is no recorded run"),
    "another schema": (lambda c: c.update(schema=9), "schema 9"),
    "no device": (lambda c: c["about"].pop("device"), "about has no field 'device'"),
    "empty device": (lambda c: c["about"].update(device=" "), r"about\.device is empty"),
    "no date": (lambda c: c["about"].update(date="yesterday"), "no date with a time zone"),
    "a date without a zone": (lambda c: c["about"].update(date="2026-01-01T00:00:00"), "no date with a time zone"),
    "no torch": (lambda c: c["about"].update(versions={}), "does not name torch"),
    "no runs": (lambda c: c.update(runs=[]), "has no runs"),
    "runs as text": (lambda c: c.update(runs="x"), "has no runs"),
    "only failures": (lambda c: c.update(runs=c["runs"][2:]), "every setting failed"),
    "nothing at all": (lambda c: c["runs"][2]["result"].update(failures={}), "neither results nor a failure"),
    "no setting": (lambda c: c["runs"][1]["result"].pop("setting"), r"runs\[1\]\.result has no field 'setting'"),
    "no rows": (lambda c: sweep(c).update(table=[]), r"sweep\.table is empty"),
    "a missing latency": (lambda c: row(c).update(median_ms=None), "median_ms of row 0 is nan"),
    "a latency of zero": (lambda c: row(c).update(median_ms=0), r"median_ms of row 0 is 0\.0"),
    "a latency as text": (lambda c: row(c).update(p90_ms="1"), "p90_ms of row 0 is '1'"),
    "a row without its size": (lambda c: row(c).pop("tokens"), "has rows without tokens"),
    "a row without agreement": (lambda c: [r.pop("worst_index") for r in sweep(c)["table"]], "be read"),
    "TensorRT's version": (lambda c: sweep(c)["provenance"].update(backend="tensorrt"), "does not name its version"),
    "NaN": (lambda c: row(c).update(median_ms=math.nan), "holds NaN"),
}


@pytest.mark.parametrize(("edit", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_in_one_sentence_that_says_where(file, edit, said):
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    with pytest.raises(RecordedError, match=said) as error:
        load(file)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(file))


@pytest.mark.parametrize("share", [0, 0.3, 0.999])
def test_a_file_that_was_cut_off_is_refused(file, share):
    content = file.read_text()
    file.write_text(content[: math.floor(share * len(content))])
    with pytest.raises(RecordedError, match=r"cut off or no JSON \(line \d+\)"):
        load(file)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path):
    with pytest.raises(RecordedError, match="cannot be read"):
        load(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordedError, match="cannot be used"):
        load(tmp_path / "bytes.json")


def test_what_could_not_be_read_back_is_not_written(recording, tmp_path):
    recording.runs[0].result.sweep.table.loc[0, "median_ms"] = math.nan
    with pytest.raises(RecordedError, match="median_ms of row 0 is nan"):
        recording.save(tmp_path / "nan.json")
    assert not (tmp_path / "nan.json").exists()


# What this project keeps.
each_kept = pytest.mark.parametrize("file", RECORDINGS, ids=lambda path: path.stem)


@each_kept
def test_every_recording_of_the_project_can_be_used_and_made_again(file):
    kept = load(file)
    assert kept.label.startswith(f"recorded on {kept.metadata.device} at ")
    words = shlex.split(kept.metadata.command)
    assert words[:4] == ["python", "-m", "tutorial_lib", "record"]
    args = commands._parser().parse_args(words[3:])
    settings, *_ = commands._record_settings(args, as_device("cpu"))
    texts = [str(setting) for setting in settings]
    assert all(str(line.result.setting) in texts for line in kept.runs)


@each_kept
def test_a_recording_of_the_project_names_no_host_user_or_folder(file):
    text = file.read_text(encoding="utf-8")
    assert not re.findall(r"(?:^|[\s\"'(=:])~?/(?:home|root|tmp|usr|opt|work|mnt|var|Users|data|scratch)\b", text)
    assert '"host"' not in text
    content = json.loads(text)
    assert recordings.without_folders(content) == content


def test_a_recording_of_the_first_schema_is_the_same_in_this_one(tmp_path):
    content = json.loads((ROOT / recordings.FOLDER / "h100.json").read_text(encoding="utf-8"))
    assert content["schema"] == 1
    (tmp_path / "old.json").write_text(json.dumps({**content, "runs": content["runs"][:2]}))
    old = load(tmp_path / "old.json")
    old.save(tmp_path / "again.json")
    again = load(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["schema"] == 2
    assert again.metadata == old.metadata
    assert again.table.equals(old.table)
    assert [len(line.result.builds) for line in again.runs] == [len(line.result.builds) for line in old.runs]
