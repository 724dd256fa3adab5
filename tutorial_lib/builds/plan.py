"""What TensorRT built: the plan of one engine, its memory, its layers and its inputs and outputs.

A *plan* is what TensorRT calls a serialized engine. TensorRT for RTX builds one without a GPU and makes the final
kernels on the card that runs it, so the entries of :attr:`Plan.layers` are layers of the plan, not kernels.
"""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch

from tutorial_lib.core import plain_values

Shape = tuple[int, ...]
"""Sizes of a tensor, or the values of a shape tensor."""

Profile = tuple[Shape, Shape, Shape]
"""(min, opt, max) of one input in one optimization profile."""

UNRESERVED_ELEMENTS = 2**31
"""Results with this many elements or more at max are allocated at run time by TensorRT for RTX 1.5."""


@dataclass(frozen=True)
class PlanTensor:
    """One input or output of a plan, from TensorRT's own table.

    Attributes
    ----------
    name : str
        What TensorRT calls it.
    dtype : str
        Such as ``float32``.
    kind : str
        For an input, as :attr:`tutorial_lib.builds.report.EngineInput.kind`: ``data``, ``weight``, ``shape`` or
        ``intermediate``; empty where it is not known, and for outputs.
    profiles : tuple of Profile
        The range of an input in each optimization profile; the three are equal where it is fixed. Empty for
        outputs. For a shape tensor these are ranges of its values, not of its sizes.
    is_shape_tensor : bool
        Whether TensorRT reads its values, on the CPU, to compute sizes.
    argument : str
        For an input, the model's own name of it where that differs; else empty.
    """

    name: str
    dtype: str
    kind: str = ""
    profiles: tuple[Profile, ...] = ()
    is_shape_tensor: bool = False
    argument: str = ""

    @property
    def is_dynamic(self) -> bool:
        """Whether it has more than one shape, or a shape tensor more than one value."""
        return len({shape for profile in self.profiles for shape in profile}) > 1


@dataclass(frozen=True)
class PlanLayer:
    """One layer of a plan.

    Attributes
    ----------
    name, type : str
        As TensorRT writes them.
    sources : tuple of str
        Layers of the network that it was made from.
    inputs, outputs : tuple of str
        dtype and sizes of its tensors, such as ``float32 [-1,196,768]``; -1 is dynamic.
    tactic : str
        The implementation that the builder chose. The card that runs the plan makes the final kernel, so tactics
        of two plans cannot be compared.
    profile : int
        The optimization profile that it is for, from 0.
    """

    name: str
    type: str
    sources: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    tactic: str = ""
    profile: int = 0


@dataclass(frozen=True)
class Plan:
    """A plan that TensorRT built, not run.

    Attributes
    ----------
    plan_bytes : int
        Size of the serialized plan.
    activation_bytes : int
        GPU memory for intermediate results that a context of this plan needs: the most over all profiles. Where
        :attr:`allocates_at_run_time` is true, it is more.
    weight_bytes : int
        Weights inside the plan; where the weights are inputs there are hardly any.
    scratch_bytes : int
        The most that a single layer needs for itself while it runs; part of `activation_bytes`.
    network_layers, shape_layers : int
        Layers of the network that was given to the builder, and how many of them compute shapes.
    layers : tuple of PlanLayer
        What the builder made of them: for several profiles, once for each.
    inputs, outputs : tuple of PlanTensor
        In binding order.
    targets : tuple of str
        Compute capabilities that it was built for, such as ``("sm80", "sm86")``.
    conversion_seconds, build_seconds : float
        From the traced graph to a network, and from the network to the plan.
    messages : tuple of str
        TensorRT's warnings and errors.
    versions : dict
        Versions by package: ``tensorrt-rtx``, ``torch-tensorrt-rtx``, ``torch``.
    activation_by_profile : tuple of int
        Bytes of activation memory that each of several profiles needs; empty where there is one.
    data : bytes or None
        The serialized plan where it was asked for: native code for a GPU.
    """

    plan_bytes: int
    activation_bytes: int
    weight_bytes: int
    scratch_bytes: int
    network_layers: int
    shape_layers: int
    layers: tuple[PlanLayer, ...]
    inputs: tuple[PlanTensor, ...]
    outputs: tuple[PlanTensor, ...]
    targets: tuple[str, ...]
    conversion_seconds: float
    build_seconds: float
    messages: tuple[str, ...]
    versions: dict[str, str]
    activation_by_profile: tuple[int, ...] = ()
    data: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def tensorrt_version(self) -> str:
        """Version of TensorRT for RTX that built it, the only one that can run it; empty if it is not known."""
        return self.versions.get("tensorrt-rtx", "")

    @property
    def allocates_at_run_time(self) -> bool:
        """Whether it has results for which TensorRT reserves nothing, so that `activation_bytes` leaves them out.

        TensorRT for RTX 1.5 does so with results that have :data:`UNRESERVED_ELEMENTS` or more at max.
        """
        return bool(self._allocated)

    @property
    def least_run_time_bytes(self) -> int:
        """The least that it allocates at run time at its largest shapes, beyond `activation_bytes`; 0 if nothing.

        TensorRT does not say how much. One of these results at least has :data:`UNRESERVED_ELEMENTS`.
        """
        return min((UNRESERVED_ELEMENTS * _itemsize(layer) for layer in self._allocated), default=0)

    @property
    def _allocated(self) -> tuple[PlanLayer, ...]:
        return tuple(layer for layer in self.layers if layer.type == "allocate")

    @property
    def is_dynamic(self) -> bool:
        """Whether any input has more than one shape."""
        return any(tensor.is_dynamic for tensor in self.inputs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without `data`."""
        plain = asdict(replace(self, data=None))
        del plain["data"]
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Plan":
        """The inverse of :meth:`to_dict`, also after a way through JSON.

        Raises
        ------
        ValueError
            If a field is missing, unknown or of another type, or a number is negative or not finite.
        """
        if isinstance(plain, dict) and "data" in plain:
            raise ValueError("plan has a field 'data', and JSON holds no bytes")
        plan = plain_values.read(cls, plain, "plan")
        for attribute in fields(cls):
            value = getattr(plan, attribute.name)
            if isinstance(value, int | float) and value < 0:
                raise ValueError(f"plan.{attribute.name} is {value}, not 0 or more")
        return plan


def _itemsize(layer: PlanLayer) -> int:
    """Bytes of one element of what a layer allocates, which is its input; 1 where its dtype is not known."""
    dtype = getattr(torch, layer.inputs[0].split()[0], None) if layer.inputs else None
    return dtype.itemsize if isinstance(dtype, torch.dtype) else 1


def show_activation(plan: Plan) -> str:
    """The activation memory of a plan for people; what the plan allocates at run time is not in the number."""
    return show_bytes(plan.activation_bytes) + (" and more at run time" if plan.allocates_at_run_time else "")


def show_bytes(size: int) -> str:
    """Bytes for people, with three digits: ``9.92 GB`` (a GB is 10**9 bytes)."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= 0.9995 * step:  # what three digits round up to
            amount = size / step
            return f"{amount:.3g} {unit}" if amount < 999.5 else f"{amount:.0f} {unit}"
    return f"{size} bytes"
