"""CUDA graphs where there is no GPU; tests/test_gpu.py has the rest."""

import pytest
import torch

from tutorial_lib.builds.cuda_graphs import Graphed
from tutorial_lib.measure.memory import peak


def test_without_a_gpu_the_program_is_not_called_and_one_sentence_says_why():
    graphed = Graphed(lambda x: pytest.fail("called"))
    with pytest.raises(ValueError, match="call this with tensors that are there"):
        graphed(torch.ones(2))
    with pytest.raises(ValueError, match="NVIDIA GPU"):
        graphed()
    assert not graphed.captures


def test_memory_is_of_gpus_only():
    assert peak(lambda: 3, torch.device("cpu")) == (3, None)
