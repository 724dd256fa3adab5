"""A model run on fake tensors, which have shapes and no numbers: quick, and without memory, at any size."""

import contextlib
import copy
import logging
from collections.abc import Iterator, Mapping
from unittest import mock

import torch
from torch import nn

from tutorial_lib.core.models import Case

_LOGGER = logging.getLogger("torch._subclasses.fake_tensor")


@contextlib.contextmanager
def without_numbers(case: Case) -> Iterator[nn.Module]:
    """A copy of the case's model, which shares its weights, for the length of a ``with`` block of fake tensors."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    weights = {id(x): x for x in (*case.model.parameters(), *case.model.buffers())}
    model = copy.deepcopy(case.model, weights)  # a call may keep a fake tensor in an attribute
    with (
        torch.no_grad(),
        FakeTensorMode(allow_non_fake_inputs=True),
        mock.patch.object(_LOGGER, "disabled", True),  # it logs whatever the model raises
    ):
        yield model


def empty_inputs(case: Case, sizes: Mapping[str, int]) -> list[torch.Tensor]:
    """Inputs of the case without content, for a size of every dimension."""
    return [torch.empty(spec.shape_at(sizes), dtype=spec.dtype, device=case.device) for spec in case.inputs]


def reads_values(case: Case) -> bool:
    """Whether the model turns a value of a tensor into a Python number or a decision, which fake tensors have not."""
    from torch._subclasses.fake_tensor import DataDependentOutputException

    try:
        with without_numbers(case) as model:
            model(*empty_inputs(case, case.traced))
    except DataDependentOutputException:
        return True
    except Exception:  # what else fails on fake tensors says nothing about values
        return False
    return False
