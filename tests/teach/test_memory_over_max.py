"""The panel of notebook 0: an engine for each stop of the slider, built or read from a recording."""

import shutil

import pytest

from tutorial_lib import teach
from tutorial_lib.engines import EnginesUnavailable, install

RECORDING = "notebooks/00_start_here.json"


@pytest.fixture
def nothing_can_be_built(monkeypatch):
    def located():
        raise EnginesUnavailable("TensorRT for RTX is not installed here.")

    monkeypatch.setattr(install, "located", located)


def test_memory_follows_the_slider_also_where_only_the_recording_is(nothing_can_be_built):
    panel = teach.panels.memory_over_max(RECORDING)
    assert "85.7 MB" in panel.told.value
    assert "recorded with Torch-TensorRT" in panel.told.value
    for size in panel.slider.options:
        panel.slider.value = size[1]
        assert f"1 to {size[1]} reserves" in panel.told.value
    memory = [panel.reports[size].activation_bytes for size in sorted(panel.reports)]
    assert memory == sorted(memory)
    assert memory[-1] > 20 * memory[0]
    assert 'alt="An engine for batches from 1 to 256 reserves 628 MB' in panel.figure.value


def test_a_machine_without_engines_and_without_a_recording_says_so(nothing_can_be_built, tmp_path):
    panel = teach.panels.memory_over_max(tmp_path / "none.json")
    assert "not installed here" in panel.told.value
    assert panel.figure.value == ""


def test_a_panel_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match="'no_such'; there are memory_over_max"):
        _ = teach.panels.no_such


@pytest.mark.slow
def test_the_engine_is_built_here_where_that_works(tmp_path):
    try:
        install.located()
    except EnginesUnavailable as error:
        pytest.skip(str(error))
    shutil.copy(RECORDING, tmp_path / "copy.json")
    panel = teach.panels.memory_over_max(tmp_path / "copy.json")
    assert "reserves" in panel.set_max(8)
    assert "recorded" not in panel.told.value
