"""What takes an engine's place where it cannot run: the same graph in PyTorch, behind the engine's profile."""

from collections.abc import Sequence
from typing import Any

import torch

from tutorial_lib.builds.plan import Plan
from tutorial_lib.explain import Explanation

NUMBER = Explanation(
    "number from a tensor",
    "The model takes a number out of a tensor, as .item() or float() does, and computes with it: it is cut there, and "
    "the engine behind the cut was built for a tensor and gets a number.",
    "Compute with the tensor itself, which broadcasts, as in x / scale.",
)
"""Explains a number that reaches an engine as an input."""


class ProfileRefusal(RuntimeError):
    """Inputs that an engine's optimization profile does not hold.

    `position` is the input's number, counted from 0, `reason` the sentence without a name in front.
    """

    def __init__(self, position: int, reason: str, explanation: Explanation | None = None) -> None:
        super().__init__(f"input {position} {reason}")
        self.position, self.reason, self.explanation = position, reason, explanation


class StandIn(torch.nn.Module):
    """The graph of an engine in PyTorch, behind the same profile.

    Parameters
    ----------
    graph : torch.fx.GraphModule
        What TensorRT was asked to build.
    inputs : sequence of torch_tensorrt.Input
        The profile: a range, or one shape, for each input of the graph.
    plan : Plan or None
        What TensorRT built of it; None where nothing was built.
    """

    def __init__(self, graph: torch.fx.GraphModule, inputs: Sequence[Any], plan: Plan | None = None) -> None:
        super().__init__()
        self.graph = graph
        self.profiles = [[profile(spec, number) for spec in inputs] for number in range(count(inputs))]
        self.plan = plan

    def forward(self, *inputs: Any) -> Any:
        """Run the graph.

        Raises
        ------
        ProfileRefusal
            If an input is outside the profile, or not of its dtype; of several profiles, outside the last one tried.
        """
        refusal: ProfileRefusal | None = None
        for ranges in self.profiles:
            try:
                for position, (bounds, value) in enumerate(zip(ranges, inputs, strict=True)):
                    refuse(position, *bounds, value)
            except ProfileRefusal as error:
                refusal = error
            else:
                return self.graph(*inputs)
        assert refusal
        if len(self.profiles) > 1:
            reason = f"{refusal.reason} in the last of {len(self.profiles)}; no other takes the inputs"
            raise ProfileRefusal(refusal.position, reason, refusal.explanation)
        raise refusal

    def set_output_tensors_as_unowned(self, unowned: bool) -> None:
        """Called by the compiler on the last engine of a graph."""

    def setup_engine(self) -> None:
        """Called by the compiler with ``lazy_engine_init``."""


def count(inputs: Sequence[Any]) -> int:
    """How many optimization profiles the inputs of an engine have, 1 where none was declared."""
    return max((len(getattr(spec, "profiles", None) or (0,)) for spec in inputs), default=1)


def profile(spec: Any, number: int) -> tuple[torch.dtype, tuple[int, ...], tuple[int, ...], bool]:
    """Dtype, smallest and largest shape of one engine input, and whether it is a number (a shape tensor)."""
    shape = spec.profiles[number] if getattr(spec, "profiles", None) else spec.shape
    dynamic = isinstance(shape, dict)
    low = tuple(shape["min_shape"] if dynamic else shape)
    high = tuple(shape["max_shape"] if dynamic else shape)
    is_number = bool(getattr(spec, "is_shape_tensor", False))
    return spec.dtype.to(torch.dtype, use_default=True), low, high, is_number


def refuse(
    position: int, dtype: torch.dtype, low: tuple[int, ...], high: tuple[int, ...], is_number: bool, value: Any
) -> None:
    """Raise :class:`ProfileRefusal` if `value` is not in the profile, else return."""
    sizes: tuple[int, ...]
    if is_number:
        sizes, what = (int(value),), "value"
    elif not isinstance(value, torch.Tensor):
        raise ProfileRefusal(position, f"is the number {value}, and the engine takes a tensor", NUMBER)
    else:
        if value.dtype != dtype:
            raise ProfileRefusal(position, f"is {value.dtype}, and the engine takes {dtype}")
        sizes, what = tuple(value.shape), "size"
    if len(sizes) != len(low):
        raise ProfileRefusal(position, f"has {len(sizes)} dimensions, and the engine takes {len(low)}")
    for axis, (size, smallest, largest) in enumerate(zip(sizes, low, high, strict=True)):
        if not smallest <= size <= largest:
            allowed = str(smallest) if smallest == largest else f"{smallest} to {largest}"
            raise ProfileRefusal(
                position, f"has {what} {size} in dim {axis}, and the optimization profile holds {allowed}"
            )
