"""Which graphics cards a plan is built for, and which cards run one.

A target is a CUDA compute capability: ``sm89`` is 8.9. Without a target TensorRT for RTX builds one portable plan
for all cards from 8.0 on that it supports; compute capability 7.5 (Turing) has to be asked for.

What was read, and where:

- The names are those of ``tensorrt_rtx.ComputeCapability`` in 1.4.0.76 and 1.5.0.114; a test compares them.
- A plan that was built without a target was refused by an H200 with "Supported compute capabilities: 8.0 8.6 8.9
  12.0 12.1 >12.0".
- Turing: the description of pull request 4643 of pytorch/TensorRT (merged after the branch of release 2.14) says
  that a float32 matrix product with dynamic shapes builds, runs and returns zeros of the right shape, without an
  error. It mends Torch-TensorRT, which then leaves such operators to PyTorch; the wheel of 2.14.0 does not have it,
  and no later one was published when this was written. TensorRT for RTX 1.5 refuses many such products by itself
  ("FP32 GEMM is not supported"), but not all: 8 x 8 was built.
"""

import re
from collections.abc import Iterable
from typing import Any

from tutorial_lib.builds.backends import tensorrt
from tutorial_lib.engines.errors import TargetError

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""Every name, in ascending order."""

PORTABLE = ("sm80", "sm86", "sm89", "sm120", "sm121")
"""What a plan is for that was built without a target; cards above 12.1 run it, too."""

ADDED_IN = {"sm121": (1, 5)}
"""First release of TensorRT for RTX that knows a target; all others are in 1.4."""

TURING_MENDED_IN = (2, 15)
"""First release of Torch-TensorRT that can have pull request 4643."""


def check_target(target: str | None) -> str | None:
    """The target as TensorRT for RTX knows it; None, the portable default, stays None.

    Parameters
    ----------
    target : str or None
        Such as ``sm89``, in lower or upper case.

    Raises
    ------
    TargetError
        If there is no such target.

    Examples
    --------
    >>> check_target("SM89")
    'sm89'
    >>> check_target("sm90")
    Traceback (most recent call last):
    tutorial_lib.engines.errors.TargetError: TensorRT for RTX cannot build for sm90 (compute capability 9.0), which \
data-centre TensorRT serves; targets are sm75, sm80, sm86, sm89, sm120, sm121, or none for a portable plan.
    """
    if target is None:
        return None
    name = target.strip().lower() if isinstance(target, str) else ""
    if name in TARGETS:
        return name
    choice = f"targets are {', '.join(TARGETS)}, or none for a portable plan."
    if not re.fullmatch(r"sm\d{2,3}", name):
        raise TargetError(f"the target is {target!r}; {choice}")
    capability = capability_of(name)
    served = ", which data-centre TensorRT serves" if (9, 0) <= capability < (12, 0) else ""
    shown = f"{name} (compute capability {_show(capability)})"
    raise TargetError(f"TensorRT for RTX cannot build for {shown}{served}; {choice}")


def built_for(target: str | None, tensorrt_version: str) -> tuple[str, ...]:
    """The targets of a plan that was built with `target`, for :attr:`tutorial_lib.builds.plan.Plan.targets`.

    TensorRT's log does not name them, so those of the portable default are :data:`PORTABLE`.
    """
    if target is not None:
        return (target,)
    return tuple(name for name in PORTABLE if _release(tensorrt_version) >= ADDED_IN.get(name, ()))


def apply(config: Any, target: str | None) -> None:
    """Set what :func:`check_target` returned in a ``tensorrt_rtx.IBuilderConfig``; without a target, leave that alone.

    Raises
    ------
    TargetError
        If the installed TensorRT for RTX does not have the target.
    """
    if target is None:
        return
    import tensorrt_rtx  # type: ignore[import-not-found]

    capability = getattr(tensorrt_rtx.ComputeCapability, target.upper(), None)
    if capability is not None:
        config.num_compute_capabilities = 1
        if config.set_compute_capability(capability, 0):
            return
    raise TargetError(f"TensorRT for RTX {tensorrt_rtx.__version__} cannot build for {target}.")


def refusal_after_build(target: str | None, is_dynamic: bool, torch_tensorrt_version: str | None) -> str | None:
    """Why a plan that TensorRT built must not be used, as a sentence; None if it may be.

    Asked after the build, so that TensorRT's own refusal, which says more, comes first.

    Parameters
    ----------
    target : str or None
        What the plan was built for.
    is_dynamic : bool
        Whether an input of it has a range.
    torch_tensorrt_version : str or None
        Version of Torch-TensorRT that made the network; None if it is not known.
    """
    if not is_dynamic or target != "sm75":
        return None
    if torch_tensorrt_version is not None and _release(torch_tensorrt_version) >= TURING_MENDED_IN:
        return None
    mended = ".".join(map(str, TURING_MENDED_IN))
    made = f"Torch-TensorRT {torch_tensorrt_version or 'of unknown version'}"
    return (
        f"TensorRT built a plan for sm75, but with dynamic shapes such plans of {made} can return zeros without an "
        f"error (pytorch/TensorRT pull request 4643, in {mended} at the earliest); use a fixed shape or another target."
    )


def why_not_on(capability: tuple[int, int], targets: Iterable[str]) -> str | None:
    """Why a card cannot run a plan for these targets, as a sentence; None if it can.

    Examples
    --------
    >>> why_not_on((8, 9), ["sm80", "sm86"])
    'the plan was built for sm80, sm86, and this card has compute capability 8.9; build it with target="sm89".'
    """
    shown = _show(capability)
    if not tensorrt.rtx_runs_on(capability):
        instead = "use data-centre TensorRT there" if tensorrt.flavours_for(capability) else "it needs 7.5, 8.x or 12.x"
        return f"TensorRT for RTX does not run on compute capability {shown}; {instead}."
    names = tuple(targets)
    if capability in map(capability_of, names):
        return None
    if capability > (12, 0) and {"sm80", "sm86", "sm89", "sm120"}.issubset(names):  # the portable default
        return None
    name = f"sm{capability[0]}{capability[1]}"
    instead = f'build it with target="{name}"' if name in TARGETS else "build it without a target"
    return f"the plan was built for {', '.join(names)}, and this card has compute capability {shown}; {instead}."


def capability_of(target: str) -> tuple[int, int]:
    """The compute capability of a target.

    Examples
    --------
    >>> capability_of("sm120")
    (12, 0)
    """
    return int(target[2:-1]), int(target[-1])


def _release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _show(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
