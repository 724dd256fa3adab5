"""Guards of Dynamo's, and what it means that a call failed one.

A call is compared with every graph there is. What a graph says first is its reason to refuse the call. They are in
the order in which a graph that came nearest is found: Dynamo checks the last of these first.
"""

from typing import NamedTuple


class Guard(NamedTuple):
    """A guard with `pattern` in it; `cause` and `fix` are templates for the groups of the pattern.

    `fix_for_one` takes the place of `fix` where the call is known to have size 1 in the dimension of the guard.
    """

    kind: str
    pattern: str
    cause: str
    fix: str
    fix_for_one: str = ""


SIZE = r"(?P<name>[\w.]+(?:\[\d+\])?)\.size\(\)\[(?P<axis>\d+)\]"
FOR_ONE = "Size 1 needs an engine of its own in any case: make that call while compiling is still allowed."
TENSOR = r"tensor '?(?P<name>[^\s']+)'? "

GUARDS = (
    Guard(
        "range",
        rf"(?P<low>\d+) <= {SIZE} <= (?P<high>\d+)",
        "{name} has a size in dimension {axis} that the program was not compiled for: {low} to {high}.",
        "Stay in the range, or mark a wider one.",
        FOR_ONE,
    ),
    Guard(
        "range",
        rf"2 <= {SIZE}",
        "{name} has a size below 2 in dimension {axis}. Sizes 0 and 1 are constants, each with a graph of its own.",
        "Make the call with size 1 while compiling is still allowed, or pad 1 to 2.",
    ),
    Guard(
        "range",
        rf"(?P<low>\d+) <= {SIZE}",
        "{name} has a size below {low} in dimension {axis}.",
        "Stay above, or mark a wider range.",
        FOR_ONE,
    ),
    Guard(
        "range",
        rf"{SIZE} <= (?P<high>\d+)",
        "{name} has a size in dimension {axis} above {high}, up to which the graph is right.",
        "Stay below, or mark a wider range.",
    ),
    Guard(
        "same size",
        rf"(?P<other>[\w.]+(?:\[\d+\])?)\.size\(\)\[(?P<other_axis>\d+)\] == {SIZE}  # duck sizing",
        "{other} in dimension {other_axis} and {name} in dimension {axis} had one size when this was compiled, and the "
        "graph took them for the same dimension. Now they differ.",
        "Make the first call with different sizes there.",
    ),
    Guard(
        "relation",
        r"(?P<what>\S[^\n]*?\.size\(\)\[\d+\][^\n]*?)(?:  #|$)",
        "The graph is right only where {what}, and this call is not.",
        "Look for the line of the model that asks for it; call it only with such sizes, or have it ask for none.",
    ),
    Guard(
        "training",
        r"(?P<name>[\w.]+)\.training == (?P<was>True|False)",
        "{name}.training was {was} when this was compiled, and now it is not.",
        "Call eval() or train() before the first call, and not between calls.",
    ),
    Guard(
        "length",
        r"len\((?P<name>[\w.]+)\) == (?P<was>\d+)",
        "{name} had {was} entries when this was compiled: the loop over them is unrolled.",
        "Keep the number of entries, or stack them to one tensor.",
    ),
    Guard(
        "global",
        r"G\['(?P<name>\w+)'\] == (?P<was>\S+)",
        "The global variable {name} was {was} when this was compiled, and is a constant in the graph.",
        "Pass it as an argument, best as a tensor.",
    ),
    Guard(
        "attribute",
        r"(?P<name>[A-Za-z_]\w*(?:\.\w+)+) == (?P<was>\S+)",
        "{name} was {was} when this was compiled, and an attribute is a constant in the graph.",
        "Pass it as an argument, or keep it as a tensor (register_buffer).",
    ),
    Guard(
        "value",
        r"(?P<name>[A-Za-z_]\w*) == (?P<was>\S+)",
        "The argument {name} was {was} when this was compiled: a value that is no tensor is a constant in the graph.",
        "Pass a tensor. A number gets a symbol when Dynamo sees its second value, and costs one more graph, not many.",
    ),
    Guard(
        "layout",
        TENSOR + r"stride mismatch at index (?P<axis>\d+)\. expected (?P<a>\d+), actual (?P<b>\d+)",
        "{name} lies in memory in another way: its stride in dimension {axis} is {b}, and the graph was compiled for "
        "{a}.",
        "Call it with {name}.contiguous(), or with views of one kind only.",
    ),
    Guard(
        "size",
        TENSOR + r"size mismatch at index (?P<axis>\d+)\. expected (?P<a>(?!1,)\d+), actual 1\b",
        "{name} has 1 in dimension {axis}, and the program was compiled for {a} alone there. Size 1 is a constant.",
        "Expect one more graph, the one for size 1; marking the dimension does not spare it.",
    ),
    Guard(
        "size",
        TENSOR + r"size mismatch at index (?P<axis>\d+)\. expected (?P<a>(?!1,)\d+), actual (?P<b>\d+)",
        "{name} has {b} in dimension {axis}, and the program was compiled for {a} alone there.",
        "Mark that dimension before the first call: torch._dynamo.mark_dynamic({name}, {axis}, min=2, max=...).",
    ),
    Guard(
        "size",
        TENSOR + r"size mismatch at index (?P<axis>\d+)\. expected 1, actual (?P<b>\d+)",
        "{name} has {b} in dimension {axis}, and this graph is the one for size 1 alone.",
        "Make a call with a larger size, marked as dynamic, before this one.",
    ),
    Guard(
        "number of dimensions",
        TENSOR + r"rank mismatch\. expected (?P<a>\d+), actual (?P<b>\d+)",
        "{name} has {b} dimensions, and the program was compiled for {a}.",
        "Reshape it before the call; unsqueeze(0) adds a batch of 1.",
    ),
    Guard(
        "gradients",
        TENSOR + r"requires_grad mismatch\. expected requires_grad=(?P<was>\d)",
        "{name} asks for gradients, or no longer does, and the program was compiled for the other.",
        "Call it with tensors of one kind: {name}.detach() asks for none.",
    ),
    Guard(
        "dtype",
        TENSOR + r"dtype mismatch\. expected (?P<a>\w+), actual (?P<b>\w+)",
        "{name} has the dtype {b}, and the program was compiled for {a}.",
        "Convert it before the call.",
    ),
    Guard(
        "device",
        TENSOR + r"(?:dispatch key set|Tensor device index) mismatch",
        "{name} is on another device, or of another kind (sparse, made in inference mode), than the program was "
        "compiled for.",
        "Move it before the call, and make tensors in one mode.",
    ),
    Guard(
        "type",
        r"expected type of '(?P<name>[^']+)' to be .* but found (?P<b>\S.*)",
        "{name} is now a {b}, and the program was compiled for another type.",
        "Call it with one type.",
    ),
    Guard(
        "aliases",
        r"Duplicate tensors found: (?P<what>.*)",
        "Two arguments are now one and the same tensor: {what}.",
        "Clone one of them.",
    ),
    Guard(
        "mode",
        r"GLOBAL_STATE changed: (?P<what>\S.*?)\s*$",
        "This call runs under another mode ({what}) than the program was compiled under, which would compile it anew.",
        "Call it under the same mode as at first, such as torch.no_grad() around both.",
    ),
)
