"""Float64 results that were computed before: a reference is run once for a model and its inputs, not once a comparison.

A model may be changed between two builds, by an optimizer, through ``.data`` or by an attribute that is no tensor. So
a result is found again only by all that could tell: the model itself, where its parameters and buffers are and how
often they were written, the inputs, and every bit of what eager computes from them now. Where eager's results differ
from call to call, the reference is run each time.
"""

import hashlib
import itertools
import threading
import weakref
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import torch
from cachetools import LRUCache
from torch import nn

from tutorial_lib.checks.results import tensors

BYTES = 256 << 20
"""Memory for results; what was used longest ago goes first. A larger result is not kept."""

Key = tuple["weakref.ref[nn.Module]", tuple[Any, ...], bytes]


def _bytes(result: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors(result))


_results: MutableMapping[Key, Any] = LRUCache(BYTES, getsizeof=_bytes)
_lock = threading.Lock()


def remembered(model: nn.Module, inputs: Sequence[torch.Tensor], eager: Any, compute: Callable[[], Any]) -> Any:
    """What `compute` returns, or returned before for the same model, inputs and eager results.

    `eager` is what `model`, in its own precision, returns for `inputs` now; `compute` runs the reference. Do not write
    into the result.

    Raises
    ------
    UncomparableResult
        If the result is of a class that cannot be taken apart.
    """
    key: Key = weakref.ref(model), _versions(model), _digest([*inputs, *tensors(eager)])
    with _lock:
        for other in [other for other in _results if other[0]() is None]:
            del _results[other]
        if key in _results:
            return _results[key]
    result = compute()
    with _lock:
        if _bytes(result) <= BYTES:
            _results[key] = result
    return result


def _versions(model: nn.Module) -> tuple[Any, ...]:
    """Where each parameter and buffer is, and how often it was written in a way that PyTorch counts."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return tuple((x.data_ptr(), 0 if x.is_inference() else x._version) for x in tensors)


@torch.no_grad()
def _digest(values: Sequence[torch.Tensor]) -> bytes:
    digest = hashlib.sha1(usedforsecurity=False)  # the fastest here: 2 GB/s
    for value in values:
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).cpu().numpy().data)
    return digest.digest()
