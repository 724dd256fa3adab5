"""A compiled program as readers get it: a range check in front, and the report of its build."""

import contextlib
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch._dynamo.convert_frame import compile_lock
from torch._dynamo.exc import BackendCompilerFailed

from tutorial_lib.builds import compat
from tutorial_lib.builds.report import Build, Engine
from tutorial_lib.checks.range_check import Guard, OutOfRange
from tutorial_lib.core import precision
from tutorial_lib.core.models import Case
from tutorial_lib.core.profiles import Profile
from tutorial_lib.core.shapes import TensorSpec

LOCK = compile_lock
"""Held during every build. It is Dynamo's own lock, so a recompile in another thread waits too.

Tracing is not thread-safe: two exports, or an export beside a just-in-time compile, corrupt each
other. Where :func:`calls_wait`, calls of programs that are already built take it as well.
"""
_thread = threading.local()
"""Whether this thread has a CUDA context. An AOTInductor package does not create one: if it is the first to use
the GPU in a thread, it fails with "invalid device context" (seen with torch 2.11 on an H100)."""
OUTSIDE = ("raise", "recompile", "eager")


def calls_wait(device: torch.device) -> bool:
    """Whether a call has to wait while another thread builds.

    On a CPU with torch 2.13 it need not (``tests/builds/test_threads.py``). With torch 2.11 on a GPU, calls during a
    build were seen to fail; other combinations were not tried, so calls wait there too.
    """
    return device.type != "cpu" or not compat.calls_on_cpu_may_run_beside_a_build()


class Recompile(RuntimeError):
    """A call that would have compiled a further engine without having been allowed to."""


class Program:
    """A compiled program behind its range check, built here or loaded from a file.

    Call it with one tensor for each of `inputs`. It runs without gradients. The program without its range check is
    not public: it may read past a buffer or compile again unseen.

    Attributes
    ----------
    inputs : tuple of TensorSpec
        Names, shapes, dtypes and the ranges it was built for.
    device : torch.device
        Where its inputs have to be.
    profiles : tuple of Profile
        If it was built for several, one of them has to hold the sizes of a call.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        device: torch.device,
        program: Callable[..., Any],
        build: Build,
        allows_tf32: bool | None,
        profiles: Sequence[Profile] = (),
    ) -> None:
        self.inputs = tuple(inputs)
        self.device = device
        self._program = program
        self._build = build
        self.profiles = tuple(profiles)
        self._guard = Guard(self.inputs, device, self.profiles)
        self._tf32 = allows_tf32
        self._on_gpu = device.type == "cuda"
        self._lock: AbstractContextManager[Any] | None = LOCK if calls_wait(device) else None

    @property
    def build(self) -> Build:
        """The report of the build."""
        return self._build

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Run the program.

        Raises
        ------
        ShapeError
            If an input is not what the program was built for (:class:`OutOfRange` if only a size is not).
        """
        self._guard(inputs)
        return self._call(inputs)

    def _call(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        if torch.is_grad_enabled() or torch.is_inference_mode_enabled():  # Dynamo guards on both modes
            with torch.inference_mode(False), torch.no_grad():
                return self._run(inputs)
        return self._run(inputs)

    def _run(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        if self._on_gpu and not getattr(_thread, "has_context", False):
            torch.cuda.set_device(torch.cuda.current_device())
            _thread.has_context = True
        if self._tf32 is not None and not precision.in_force(self._tf32):
            with precision.tf32(self._tf32):  # library calls read the switches, and Dynamo guards on them
                return self._run(inputs)
        if self._lock is None:
            return self._program(*inputs)
        with self._lock:
            return self._run_alone(inputs)

    def _run_alone(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        return self._program(*inputs)


class Compiled(Program):
    """A program that was built here: it has its model, and it reports the engines that it builds later.

    Attributes
    ----------
    case : Case
        The model and the ranges it was compiled for.
    serialize : callable or None
        Gives the bytes that the backend itself can load, for :mod:`tutorial_lib.builds.saving`; None just in time.
    """

    def __init__(
        self,
        case: Case,
        program: Callable[..., Any],
        build: Build,
        engines: Sequence[Engine],
        compiling: Callable[[], AbstractContextManager[None]],
        serialize: Callable[[], bytes] | None = None,
    ) -> None:
        super().__init__(case.inputs, case.device, program, build, case.allows_tf32, case.profiles)
        self.case = case
        self._engines = engines  # the build's own list, which grows when a call compiles
        self._compiling = compiling
        self.serialize = serialize
        self._outside = "raise"
        if build.path == "jit" and self._lock is None:  # Dynamo's look-up of the right engine is not thread-safe
            self._lock = threading.RLock()

    @property
    def build(self) -> Build:
        """The report of the build, with every engine built since."""
        return replace(self._build, engines=tuple(self._engines))

    def noting(self, **facts: Any) -> "Compiled":
        """Set these fields of the build's report, and return this program."""
        self._build = replace(self._build, **facts)
        return self

    @property
    def outside(self) -> str:
        """What a call outside the range does: ``raise``, ``recompile`` (counted) or ``eager``.

        Only the jit path can recompile.
        """
        return self._outside

    @outside.setter
    def outside(self, choice: str) -> None:
        if choice not in OUTSIDE:
            raise ValueError(f"outside is {choice!r}; use {', '.join(OUTSIDE)}.")
        if choice == "recompile" and self._build.path != "jit":
            raise ValueError(
                f"the {self._build.path} path was compiled ahead of time and cannot recompile; use raise or eager."
            )
        if choice == "recompile" and self.profiles:
            raise ValueError("the programs of several profiles do not recompile; use raise or eager.")
        self._outside = choice

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Run the program; on a call outside the range, do what :attr:`outside` says."""
        try:
            self._guard(inputs)
        except OutOfRange:
            if self._outside == "raise":
                raise
            return self._call_outside(inputs)
        return self._call(inputs)

    def _run_alone(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        try:
            return self._program(*inputs)
        except BackendCompilerFailed as error:
            if not isinstance(error.inner_exception, Recompile):
                raise
        # Dynamo guards on more than matters here, such as the stride of a dimension of size 1, or whether two inputs
        # are one tensor. New views with contiguous strides pass these guards.
        plain = [torch.as_strided(x, x.shape, torch.empty(x.shape, device="meta").stride()) for x in inputs]
        try:
            return self._program(*plain)
        except BackendCompilerFailed as error:
            if not isinstance(error.inner_exception, Recompile):
                raise
            raise Recompile(f"{error.inner_exception} ({self._why(inputs)})") from None

    @torch.inference_mode(False)
    @torch.no_grad()
    def _call_outside(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        if self._outside == "eager":
            return self.case.eager(*inputs)
        with self._lock or contextlib.nullcontext(), self._compiling():
            return self._program(*inputs)

    def _why(self, inputs: tuple[torch.Tensor, ...]) -> str:
        """Dynamo's own reason for wanting to recompile."""
        try:
            with LOCK, torch.compiler.set_stance("fail_on_recompile"):
                self._program(*inputs)
        except Exception as error:
            reasons = re.findall(r"^ *- (\d+/\d+: .+)", str(error), flags=re.MULTILINE)
            # one for each engine; those that refuse a size, such as the engine for size 1, were not meant
            meant = [reason for reason in reasons if "size" not in reason]
            return (meant or reasons or str(error).splitlines())[0].partition("  #")[0].rstrip()  # the guard alone
        return "no reason found"

    def __repr__(self) -> str:
        return f"<Compiled {self.case.name}: {self._build.path} with {self._build.backend}>"
