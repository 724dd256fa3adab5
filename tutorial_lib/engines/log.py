"""Collects what TensorRT says, and reads the memory and the layers of the plan in what its builder says.

Without a GPU a plan cannot be loaded, so its inspector cannot be asked. At the level ``VERBOSE`` the builder prints
the same facts: memory once for each optimization profile, and the layers of all of them in one list. The wording was
read off TensorRT for RTX 1.4.0.76, 1.5.0.114 and 1.6.1.120; what a version does not print comes out empty, and tests
with a real build notice it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
_SUBGRAPH = re.compile(r"_(myl\d+)_\d+$")  # layers of one profile that TensorRT compiled together
_PROFILE = re.compile(r"\[profile (\d+)\]")  # in the names of layers and tensors of any profile but the first
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
        Of all profiles, each with its number.
    """

    activation_bytes: tuple[int, ...]
    weight_bytes: int
    scratch_bytes: int
    layers: tuple[PlanLayer, ...]


def collector(trt: Any) -> Any:
    """A logger for TensorRT, the module `trt`, that keeps its messages."""

    class Log(trt.ILogger):  # type: ignore[misc]
        error, warning = int(trt.ILogger.Severity.ERROR), int(trt.ILogger.Severity.WARNING)

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[int, str]] = []  # severity, a small one is grave, and message

        def log(self, severity: Any, text: str) -> None:
            self.lines.append((int(severity), text))

        def reason(self) -> str:
            """The first error, which is the cause of those after it."""
            return next((text for severity, text in self.lines if severity <= self.error), "it gave no reason")

    return Log()


def read(text: str) -> BuildLog:
    """The facts in the lines that a logger collected during one build."""
    return BuildLog(
        activation_bytes=tuple(_numbers(text, "Total Activation Memory")),
        weight_bytes=max(_numbers(text, "Total Weights Memory"), default=0),
        scratch_bytes=max(_numbers(text, "Max Scratch Memory"), default=0),
        layers=tuple(_layers(text)),
    )


def _numbers(text: str, label: str) -> Iterator[int]:
    return (int(number) for number in re.findall(rf"{label}: (\d+)", text))


def _layers(text: str) -> Iterator[PlanLayer]:
    """Every layer with its profile, which some layer of its subgraph names."""
    matches = list(_LAYER.finditer(text))
    profiles: dict[str, int] = {}
    for match in matches:
        named = max(map(int, _PROFILE.findall(match[0])), default=0)
        profiles[_subgraph(match)] = max(named, profiles.get(_subgraph(match), 0))
    return (_layer(match, profiles[_subgraph(match)]) for match in matches)


def _subgraph(match: re.Match[str]) -> str:
    inside = _SUBGRAPH.search(match["name"])
    return inside[1] if inside else match["name"]


def _layer(match: re.Match[str], profile: int) -> PlanLayer:
    return PlanLayer(
        name=match["name"],
        type=match["type"],
        sources=tuple(filter(None, match["sources"].strip().split(SOURCE_SEPARATOR))),
        inputs=tuple(_tensors(match["inputs"])),
        outputs=tuple(_tensors(match["outputs"])),
        tactic=match["tactic"],
        profile=profile,
    )


def _tensors(text: str) -> Iterator[str]:
    return (f"{dtype_name(match['dtype'])} {match['dims']}" for match in _TENSOR.finditer(text))


def dtype_name(name: str) -> str:
    """PyTorch's name for a TensorRT data type, as its log or its API writes it: ``Float`` is ``float32``."""
    return _DTYPES.get(name.lower(), name.lower())
