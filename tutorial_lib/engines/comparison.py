"""Two plans layer by layer: which layers only one of them has, and which have other shapes."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

from tutorial_lib.builds.plan import Plan, PlanLayer


@dataclass(frozen=True)
class LayerChange:
    """Consecutive layers of the old plan, and what the new plan has in their place.

    Attributes
    ----------
    old, new : tuple of PlanLayer
        Not both empty.
    shapes_only : bool
        Whether it is one layer, of the same type and made from the same layers of the network, with other tensors.
    """

    old: tuple[PlanLayer, ...]
    new: tuple[PlanLayer, ...]
    shapes_only: bool = False


def layer_changes(old: Plan, new: Plan) -> tuple[LayerChange, ...]:
    """What changed from one plan of a model to another, in the order of the layers; empty if nothing did.

    A layer is known by its type and by the layers of the network that it was made from. Its name and its tactic are
    others in every build.
    """
    changes = []
    matcher = SequenceMatcher(None, [*map(_identity, old.layers)], [*map(_identity, new.layers)], autojunk=False)
    for operation, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        olds, news = old.layers[old_start:old_end], new.layers[new_start:new_end]
        if operation != "equal":
            changes.append(LayerChange(olds, news))
            continue
        for before, after in zip(olds, news, strict=True):
            if (before.inputs, before.outputs) != (after.inputs, after.outputs):
                changes.append(LayerChange((before,), (after,), shapes_only=True))
    return tuple(changes)


def _identity(layer: PlanLayer) -> tuple[str, tuple[str, ...]]:
    """Type and sources; what TensorRT numbers by itself is numbered anew in every build."""
    return layer.type, tuple(re.sub(r"\(Unnamed Layer\* \d+\)", "(Unnamed Layer)", source) for source in layer.sources)
