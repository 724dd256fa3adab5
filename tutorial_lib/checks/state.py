"""Models whose calls are not alike, since they keep state or are random; what a build may leave changed: nothing.

State does not survive compiling. An ahead-of-time program of Inductor's gives the same result for ever (its buffers are
constants: https://github.com/pytorch/pytorch/issues/165444), one of ``torch.export`` writes into the model it came
from, and just in time all programs of a model share what it keeps. So a model with state is refused, by the name of
what it writes into, before anything is built.
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tutorial_lib.checks.agreement import NotRepeatable

PLAIN = (bool, int, float, str)
_MODULES_OWN = frozenset(vars(nn.Module()))


class WritesState(ValueError):
    """A model that keeps something from one call for the next; the sentence names what, and what to do instead."""


def refuse_state(name: str, model: nn.Module, inputs: Sequence[torch.Tensor]) -> None:
    """Call a copy of `model` in eager and see whether that changes it, or is random; the model itself is not called.

    It gets copies of `inputs`; errors call it `name`. A model that cannot be copied or cannot run is not judged: the
    build will say what is wrong with it.

    Raises
    ------
    WritesState
        If the call writes into a buffer, a parameter or a tensor in an attribute, or counts in an attribute on
        which the result depends.
    NotRepeatable
        If it draws random numbers, and gives another result when it is called again.
    """
    random_before = _random_states()
    try:
        model_copy = copy.deepcopy(model)
        versions = {path: tensor._version for path, (_, tensor) in _tensors(model_copy).items()}
        plain = _plain(model_copy)
        with torch.no_grad():
            first = model_copy(*(x.clone() for x in inputs))
    except Exception:
        return
    is_random = not all(map(torch.equal, random_before, _random_states()))
    before, after = _tensors(model), _tensors(model_copy)
    for path, (kind, tensor) in after.items():
        if path in before and (tensor._version != versions.get(path) or not _equal(tensor, before[path][1])):
            raise WritesState(_sentence(name, f"writes into its {kind} {path}"))
    changed = [path for path, value in _plain(model_copy).items() if plain.get(path, value) != value]
    changed += [path for path in after if path not in before]
    if changed and not _repeats(model_copy, inputs, first):
        raise WritesState(_sentence(name, f"changes its attribute {changed[0]}"))
    if is_random and not _repeats(model_copy, inputs, first):
        raise NotRepeatable.random(name)


def refuse_writes(name: str, exported: torch.export.ExportedProgram) -> None:
    """Look for writes into parameters and buffers in the graph of an exported program.

    Raises
    ------
    WritesState
        If there is one, also one that only sizes other than the examples' would reach.
    """
    signature = exported.graph_signature
    owners = {**signature.inputs_to_buffers, **signature.inputs_to_parameters}
    source = {node: owners[node.name] for node in exported.graph.find_nodes(op="placeholder") if node.name in owners}
    written = [*signature.buffers_to_mutate.values(), *getattr(signature, "parameters_to_mutate", {}).values()]
    for node in exported.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for argument, value in zip(schema.arguments if schema else (), node.args, strict=False):
            if isinstance(value, torch.fx.Node) and value in source and argument.alias_info is not None:
                source[node] = source[value]  # a view of it, or itself
                if argument.alias_info.is_write:
                    written.append(source[value])
        if node.target == torch.ops.aten.batch_norm.default and node.args[5]:  # training: its schema does not tell
            written += [source[value] for value in node.args[3:5] if value in source]
    if written:
        kind = "parameter" if written[0] in signature.parameters else "buffer"
        raise WritesState(_sentence(name, f"writes into its {kind} {written[0]}"))


@contextlib.contextmanager
def unchanged(name: str, model: nn.Module) -> Iterator[None]:
    """Put the buffers of `model` back if something inside the ``with`` block changes them.

    Raises
    ------
    WritesState
        If it does: the model writes into them at some sizes only, which a single call does not show.
    """
    before = {path: tensor.detach().clone() for path, tensor in model.named_buffers()}
    versions = {path: tensor._version for path, (_, tensor) in _tensors(model).items()}
    try:
        yield
    finally:  # what is written explains an error, too
        now = dict(model.named_buffers())
        written = [
            path
            for path, (_, tensor) in _tensors(model).items()
            if versions.get(path, tensor._version) != tensor._version
            or (path in before and not _equal(tensor, before[path]))
        ]
        for path, tensor in before.items():
            if path in written:
                if now[path].shape == tensor.shape:
                    now[path].copy_(tensor)
                else:
                    owner, _, attribute = path.rpartition(".")
                    setattr(model.get_submodule(owner), attribute, tensor)
        if written:
            kind = _tensors(model)[written[0]][0]
            raise WritesState(_sentence(name, f"writes into its {kind} {written[0]} at some sizes"))


def _sentence(name: str, what: str) -> str:
    return (
        f"{name} {what}, so one call changes the next, which compiled programs forget or share: "
        "pass it in as an input and return the new value."
    )


def _random_states() -> list[torch.Tensor]:
    """The state of every generator that a model draws from by default."""
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *on_gpu]


def _tensors(model: nn.Module) -> dict[str, tuple[str, torch.Tensor]]:
    """Every tensor that a model holds, with what it is, by its dotted name."""
    held: dict[str, tuple[str, torch.Tensor]] = {}
    held.update({path: ("parameter", tensor) for path, tensor in model.named_parameters(remove_duplicate=False)})
    held.update({path: ("buffer", tensor) for path, tensor in model.named_buffers(remove_duplicate=False)})
    for prefix, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute not in _MODULES_OWN and isinstance(value, (torch.Tensor, list, tuple, dict)):
                path = f"{prefix}.{attribute}".lstrip(".")
                several = not isinstance(value, torch.Tensor)
                for index, tensor in enumerate(pytree.tree_leaves(value)):
                    if isinstance(tensor, torch.Tensor) and not isinstance(tensor, nn.Parameter):
                        held.setdefault(f"{path}[{index}]" if several else path, ("attribute", tensor))
    return {path: each for path, each in held.items() if not each[1].is_inference()}


def _plain(model: nn.Module) -> dict[str, Any]:
    """The numbers and strings that a model holds as attributes, by their dotted names."""
    return {
        f"{prefix}.{attribute}".lstrip("."): value
        for prefix, module in model.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, PLAIN)
    }


def _repeats(model: nn.Module, inputs: Sequence[torch.Tensor], first: Any) -> bool:
    with torch.no_grad():
        again = model(*(x.clone() for x in inputs))
    given, expected = (
        [leaf for leaf in pytree.tree_leaves(each) if isinstance(leaf, torch.Tensor)] for each in (again, first)
    )
    return len(given) == len(expected) and all(map(_close, given, expected))


def _close(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-3, atol=1e-4, equal_nan=True)


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if first is second or torch.equal(first, second):
        return True
    return bool(((first == second) | ((first != first) & (second != second))).all())
