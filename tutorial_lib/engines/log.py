"""Reads what TensorRT's builder says while it builds: memory, layers of the plan, inputs and outputs.

Without a GPU a plan cannot be loaded, so its inspector cannot be asked. At the level ``VERBOSE`` the builder prints
the same facts, once per optimization profile. The wording was read off TensorRT for RTX 1.4.0.76, 1.5.0.114 and
1.6.1.120; what a version does not print comes out empty, and tests with a real build notice it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tutorial_lib.plan import PlanLayer, PlanTensor, Profile

_DTYPES = {
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Int8": "int8",
    "UInt8": "uint8",
    "Int32": "int32",
    "Int64": "int64",
    "Bool": "bool",
    "FP8": "float8",
}
_TENSOR = re.compile(r"\{ Name: (?P<name>.*?), Dimensions: (?P<dims>\[.*?\]), .*?Datatype: (?P<dtype>\w+)")
_LAYER = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>\w*), Inputs: \[(?P<inputs>.*?)\], Constants: \[.*?\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>[^,]*), StreamId: \d+, Metadata: (?P<sources>.*)"
)
_BINDING = re.compile(
    r"Name: (?P<name>.*?), IOMode: (?P<mode>Input|Output), DataType: (?P<dtype>\w+), Dimensions: .*?, "
    r".*?IsShapeInferenceIO: (?P<is_shape>true|false), ProfileInfo: \[(?P<profiles>.*)\]"
)
_PROFILE = re.compile(r"MinShape: \[(?P<min>.*?)\], OptShape: \[(?P<opt>.*?)\], MaxShape: \[(?P<max>.*?)\]")
SOURCE_SEPARATOR = "\x1f"
"""Between the sources of a fused layer: TensorRT joins the metadata of the layers that it fuses with this character."""


@dataclass(frozen=True)
class BuildLog:
    """What the builder printed of one plan.

    Attributes
    ----------
    activation_bytes : tuple of int
        Memory for intermediate results, by optimization profile.
    weight_bytes, scratch_bytes : int
        Weights in the plan; the most that one layer needs for itself.
    layers : tuple of PlanLayer
        Of the first profile.
    inputs, outputs : tuple of PlanTensor
        In binding order, without their kinds.
    """

    activation_bytes: tuple[int, ...]
    weight_bytes: int
    scratch_bytes: int
    layers: tuple[PlanLayer, ...]
    inputs: tuple[PlanTensor, ...]
    outputs: tuple[PlanTensor, ...]


def read(text: str) -> BuildLog:
    """The facts in the lines that a logger collected during one build."""
    bindings = [(match["mode"], _binding(match)) for match in _BINDING.finditer(text)]
    return BuildLog(
        activation_bytes=tuple(_numbers(text, "Total Activation Memory")),
        weight_bytes=max(_numbers(text, "Total Weights Memory"), default=0),
        scratch_bytes=max(_numbers(text, "Max Scratch Memory"), default=0),
        layers=tuple(_layer(match) for match in _LAYER.finditer(_first_profile(text))),
        inputs=tuple(tensor for mode, tensor in bindings if mode == "Input"),
        outputs=tuple(tensor for mode, tensor in bindings if mode == "Output"),
    )


def _numbers(text: str, label: str) -> Iterator[int]:
    return (int(number) for number in re.findall(rf"{label}: (\d+)", text))


def _first_profile(text: str) -> str:
    """The text up to the second list of layers: with several profiles there is one list for each."""
    starts = [match.start() for match in re.finditer(r"^Layers\b.*:$", text, flags=re.MULTILINE)]
    return text[: starts[1]] if len(starts) > 1 else text


def _layer(match: re.Match[str]) -> PlanLayer:
    return PlanLayer(
        name=match["name"],
        type=match["type"],
        sources=tuple(filter(None, match["sources"].strip().split(SOURCE_SEPARATOR))),
        inputs=tuple(_tensors(match["inputs"])),
        outputs=tuple(_tensors(match["outputs"])),
        tactic=match["tactic"],
    )


def _tensors(text: str) -> Iterator[str]:
    return (f"{dtype_name(match['dtype'])} {match['dims']}" for match in _TENSOR.finditer(text))


def _binding(match: re.Match[str]) -> PlanTensor:
    profiles: list[Profile] = [
        (_sizes(profile["min"]), _sizes(profile["opt"]), _sizes(profile["max"]))
        for profile in _PROFILE.finditer(match["profiles"])
    ]
    return PlanTensor(
        name=match["name"],
        dtype=dtype_name(match["dtype"]),
        profiles=tuple(profiles),
        is_shape_tensor=match["is_shape"] == "true",
    )


def dtype_name(name: str) -> str:
    """PyTorch's name for a TensorRT data type: ``Float`` is ``float32``."""
    return _DTYPES.get(name, name.lower())


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(",") if size.strip())
