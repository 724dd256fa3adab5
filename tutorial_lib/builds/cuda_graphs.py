"""CUDA graphs for programs with dynamic shapes: one graph for each shape, captured on its first call.

A CUDA graph is a fixed list of kernels with fixed addresses, which the GPU runs without the host. It saves the time
that a small batch spends in Python and in launching kernels. It holds for one shape only, so a dynamic program needs
one graph for each shape; each new one costs several calls, and all of them stay in memory.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

WARM_UP = 3
"""Calls before a capture: libraries choose their kernels and allocate their workspaces then."""

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Capture:
    """One graph, the memory that it reads and writes, and its cost: seconds, and MB of memory that stay."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[torch.Tensor, ...]
    output: Any
    seconds: float
    megabytes: float


class Graphed:
    """A program that is captured once for each shape of its inputs, and replayed from then on.

    Inputs are copied to the memory that the graph reads, and results are copied out, so the next call does not change
    them. A call that captures returns its result like any other. Calls must come from one thread at a time.

    Parameters
    ----------
    program : callable
        A :class:`~tutorial_lib.builds.program.Program` of ``eager`` or ``inductor``, or a model, on a GPU. It must not
        wait for the GPU, as ``.item()`` does. What it refuses stays refused.

    Attributes
    ----------
    captures : dict
        A :class:`Capture` for each shape so far.
    """

    def __init__(self, program: Callable[..., Any]) -> None:
        self._program = program
        self._pool: Any = None
        self.captures: dict[Key, Capture] = {}

    @torch.no_grad()
    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Run the program.

        Raises
        ------
        ValueError
            If an input is not on a GPU.
        ShapeError
            From the program, if an input is not what it was built for.
        """
        key = tuple((tuple(x.shape), x.stride(), x.dtype, x.device) for x in inputs)
        if key not in self.captures:
            if not inputs or any(x.device.type != "cuda" for x in inputs):
                raise ValueError("CUDA graphs need an NVIDIA GPU; call this with tensors that are there.")
            self.captures[key] = self._capture(inputs)
        capture = self.captures[key]
        for buffer, given in zip(capture.inputs, inputs, strict=True):
            buffer.copy_(given)
        capture.graph.replay()
        return pytree.tree_map_only(torch.Tensor, torch.clone, capture.output)

    def _capture(self, inputs: tuple[torch.Tensor, ...]) -> Capture:
        device = inputs[0].device
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()  # as the capture does: memory that others left would be taken off that of the graph
        start, before = time.perf_counter(), torch.cuda.memory_reserved(device)
        buffers = tuple(x.clone() for x in inputs)
        stream = torch.cuda.Stream(device)  # a graph cannot be captured on the default stream
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._program(*buffers)
        torch.cuda.synchronize(device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=stream):
            output = self._program(*buffers)
        self._pool = self._pool or graph.pool()  # replayed one at a time, graphs can share their buffers
        torch.cuda.synchronize(device)
        megabytes = (torch.cuda.memory_reserved(device) - before) / 1e6
        return Capture(graph, buffers, output, time.perf_counter() - start, megabytes)
