"""Notebook 6: what `torch.export` finds out, the map, the exercises."""

import pytest
import torch
from torch.export import Dim

from tutorial_lib import grid, paths, sweep, text_encoder
from tutorial_lib.teach import panels
from tutorial_lib.teach.lessons import nb06


def test_ranges_that_export_finds_are_read_from_its_program():
    _, (shape,) = nb06.ranges_of(Dim.AUTO, nb06.plain, torch.randn(8, 16, 4))
    assert shape[:2] == [(2, "∞"), (2, "∞")]
    _, (fixed,) = nb06.ranges_of(Dim.AUTO, nb06.only_8, torch.randn(8, 16, 4))
    assert fixed[0] == 8


def test_the_map_tells_what_a_size_costs_and_what_padding_it_would():
    case = text_encoder(batch=(1, 2, 4), length=(8, 16, 32), depth=1)
    sizes = grid(case, batch=[1, 4], length=[8, 32])
    found = sweep({"export": paths.export(case, "eager")}, sizes, min_samples=2, min_seconds=0.001, rows=False)
    panel = panels.heatmap(found, "export")
    assert set(panel.buttons) == {(1, 8), (1, 32), (4, 8), (4, 32)}
    panel.buttons[1, 8].click()
    assert "batch 1, length 8" in panel.told.value
    assert "Padded to 4 x 32 it would take" in panel.told.value
    assert "Everything that is padded" in panel.point(4, 32)
    assert "was not measured" in panel.point(2, 8)


def agree(ids, mask):
    return ids.shape == mask.shape and 1 <= len(ids) <= 8 and 8 <= ids.shape[1] <= 256


BOXES = ("batch from 2, length from 8", "batch from 1, length from 8", "batch from 1, length from 1")
S = Dim("s", min=2, max=16)


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("06.engines", dict(zip(BOXES, (1, 2, 4), strict=True)), None),
        ("06.engines", dict(zip(BOXES, (1, 2, 3), strict=True)), "does not make 3"),
        ("06.dims", {"x": {0: 2 * S}, "y": {0: S}}, None),
        ("06.dims", {"x": {0: Dim("frames", min=4, max=32)}, "y": {0: S}}, "multiples of 2"),
        ("06.dims", {"x": {0: Dim.AUTO}, "y": {0: Dim.AUTO}}, "should be 4 to 32"),
        ("06.dims", {"x": {}, "y": {}}, "fixed"),
        ("06.flatten", lambda x: x.reshape(-1, 24), None),
        ("06.flatten", lambda x: x.reshape(8, -1), "became the constant 8"),
        ("06.flatten", lambda x: x.reshape(-1, 12), "a batch of 1 gives"),
        ("06.agree", agree, None),
        ("06.agree", lambda ids, mask: agree(ids, ids), "'mask too short'"),
        ("06.agree", lambda ids, mask: agree(ids, mask) and len(ids) > 1, "'1 x 8': you refuse"),
    ],
)
def test_right_answers_pass_and_others_hear_what_is_wrong(key, answer, said, judged):
    judged(key, answer, said)
