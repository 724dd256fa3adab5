"""Models of one's own by what is typed on a command line."""

from unittest import mock

import pytest
import torch
from torch import nn

from tutorial_lib.core.model_source import ModelSourceError, load_case

FILE = """
import torch
from torch import nn
from tutorial_lib import Case, DynamicDim, TensorSpec


def layer():
    model = nn.Linear(4, 2)
    model.load_state_dict(torch.load({checkpoint!r}))
    return Case("layer", model, (TensorSpec("input", (DynamicDim("batch", 1, 2, 4), 4)),))


def number():
    return 3


def broken():
    return 1 / 0
"""


@pytest.fixture
def source(tmp_path):
    """A file of models, and a checkpoint that says that it was saved on a GPU."""
    checkpoint = tmp_path / "weights.pt"
    with mock.patch("torch.serialization.location_tag", return_value="cuda:0"):
        torch.save(nn.Linear(4, 2).state_dict(), checkpoint)
    file = tmp_path / "mine.py"
    file.write_text(FILE.format(checkpoint=str(checkpoint)))
    return file


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes what was saved on one")
def test_a_checkpoint_that_was_saved_on_a_gpu_loads_where_there_is_none(source):
    case = load_case(f"{source}::layer", 1, 3, 8)
    assert case.device == torch.device("cpu")
    assert str(case.dims["batch"]) == "batch 1/3/8"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("::number", "returned a int, not a Case"),
        ("::broken", "ZeroDivisionError"),
        ("::missing", "has no function 'missing'"),
        (".txt::layer", "there is no file"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(source, what, words):
    with pytest.raises(ModelSourceError) as caught:
        load_case(f"{source}{what}")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "no.such.module:function", "json:dumps"])
def test_a_name_that_is_no_model_is_refused(name):
    with pytest.raises(ModelSourceError):
        load_case(name)
