"""Bytes that an engine needs: its weights, and an estimate of what a call needs besides."""

import itertools
import weakref
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tutorial_lib.core.models import Case


def weight_bytes(case: Case) -> int:
    """Bytes of the parameters and buffers of the model. Each engine that is built ahead of time brings its own."""
    return sum(_weights(case).values())


def activation_bytes(case: Case, sizes: Mapping[str, int] | None = None) -> int:
    """Most bytes alive at one moment of an eager call at `sizes`, inputs and outputs included, weights not.

    An upper estimate for an engine: a compiler fuses operators and never makes some of these tensors. Workspaces
    of libraries are not counted.
    """
    example = case.example(sizes)
    with _StorageCounter(ignored=set(_weights(case))) as counter:
        for tensor in example:
            counter.count(tensor)
        case.eager(*example)
    return counter.peak_bytes


def _weights(case: Case) -> dict[int, int]:
    """Bytes of each parameter and buffer by its address, so that what is shared counts once."""
    tensors = itertools.chain(case.model.parameters(), case.model.buffers())
    return {tensor.data_ptr(): tensor.nbytes for tensor in tensors}


class _StorageCounter(TorchDispatchMode):
    """Adds the storage of every tensor that an operator makes, and subtracts it when its last tensor is gone."""

    def __init__(self, ignored: set[int]) -> None:
        super().__init__()
        self.peak_bytes = 0
        self._ignored, self._bytes, self._tensors = ignored, 0, Counter[int]()  # tensors by address of their storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor)
        return result

    def count(self, tensor: torch.Tensor) -> None:
        """Add the storage of `tensor`, unless another tensor has it already."""
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._ignored or not size:
            return
        self._tensors[address] += 1
        if self._tensors[address] == 1:
            self._bytes += size
            self.peak_bytes = max(self.peak_bytes, self._bytes)
        weakref.finalize(tensor, self._release, address, size)

    def _release(self, address: int, size: int) -> None:
        self._tensors[address] -= 1
        if not self._tensors[address]:
            self._bytes -= size
