"""Reads what TensorRT's builder says while it builds: the memory and the layers of the plan.

Without a GPU a plan cannot be loaded, so its inspector cannot be asked. At the level ``VERBOSE`` the builder prints
the same facts, once per optimization profile. The wording was read off TensorRT for RTX 1.4.0.76, 1.5.0.114 and
1.6.1.120; what a version does not print comes out empty, and tests with a real build notice it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tutorial_lib.builds.plan import PlanLayer

_DTYPES = {
    "float": "float32",
    "half": "float16",
    "bf16": "bfloat16",
    "fp8": "float8_e4m3fn",
}
_TENSOR = re.compile(r"\{ Name: (?P<name>.*?), Dimensions: (?P<dims>\[.*?\]), .*?Datatype: (?P<dtype>\w+)")
_LAYER = re.compile(  # TensorRT for RTX 1.4 has no list of constants
    r"Name: (?P<name>.*?), LayerType: (?P<type>\w*), Inputs: \[(?P<inputs>.*?)\], (?:Constants: \[.*?\], )?"
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>[^,]*), StreamId: \d+, Metadata: (?P<sources>.*)"
)
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
    """

    activation_bytes: tuple[int, ...]
    weight_bytes: int
    scratch_bytes: int
    layers: tuple[PlanLayer, ...]


def read(text: str) -> BuildLog:
    """The facts in the lines that a logger collected during one build."""
    return BuildLog(
        activation_bytes=tuple(_numbers(text, "Total Activation Memory")),
        weight_bytes=max(_numbers(text, "Total Weights Memory"), default=0),
        scratch_bytes=max(_numbers(text, "Max Scratch Memory"), default=0),
        layers=tuple(_layer(match) for match in _LAYER.finditer(_first_profile(text))),
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


def dtype_name(name: str) -> str:
    """PyTorch's name for a TensorRT data type, as its log or its API writes it: ``Float`` is ``float32``."""
    return _DTYPES.get(name.lower(), name.lower())
