"""Bytes that an engine needs: its weights, and an estimate of what a call needs besides."""

import itertools
import weakref
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
    with _Watch() as watch:
        for tensor in example:
            watch.seen(tensor)
        watch.known.update(_weights(case))
        case.eager(*example)
    return watch.most


def _weights(case: Case) -> dict[int, int]:
    """Bytes of each parameter and buffer by its address, so that what is shared counts once."""
    tensors = itertools.chain(case.model.parameters(), case.model.buffers())
    return {tensor.data_ptr(): tensor.nbytes for tensor in tensors}


class _Watch(TorchDispatchMode):
    """Adds up the storage of tensors that operators make, and takes it off when the last of them is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.most = 0, 0
        self.known: set[int] = set()
        self._views: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.seen(tensor)
        return result

    def seen(self, tensor: torch.Tensor) -> None:
        """Count the storage of `tensor` unless it is counted already."""
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self.known or not size:
            return
        self._views[place] = self._views.get(place, 0) + 1
        if self._views[place] == 1:
            self.alive += size
            self.most = max(self.most, self.alive)
        weakref.finalize(tensor, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._views[place] -= 1
        if not self._views[place]:
            self.alive -= size
