"""What upstream's errors about shapes mean, and what to do: ``explain(error)``.

An error is known by its type and a short phrase of its message. Both were provoked with torch 2.13
and 2.11 (``tests/explain/test_explain.py``), apart from the rules in ``_messages.READ``, which were read in
Torch-TensorRT's and TensorRT's source and not run. An error that nothing here fits is said to be unknown.
"""

import ast
import html
import operator
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutorial_lib.explain._messages import OTHERWISE, READ, RULES

UNKNOWN, OURS = "unknown", "ours"
LONGEST_QUOTE = 240  # characters


@dataclass(frozen=True)
class Explanation:
    """An error in words.

    Attributes
    ----------
    kind : str
        What sort of error it is; ``unknown`` where nothing here fits, ``ours`` for an error of this package.
    cause, fix : str
        What went wrong, and what to do. An error of this package is its own cause, and says itself what to do.
    quote : str
        The telling line of upstream's message.
    fix_here : str
        What to do with this package, where that is not what to do with upstream's own functions.
    """

    kind: str
    cause: str
    fix: str = ""
    quote: str = ""
    fix_here: str = ""

    @property
    def translated(self) -> bool:
        """Whether upstream's words were understood here."""
        return self.kind not in (UNKNOWN, OURS)

    def _parts(self) -> list[tuple[str, str]]:
        parts = [("Cause", self.cause), ("Fix", self.fix), ("Upstream", self.quote)]
        return [(name, text) for name, text in parts if text]

    def __str__(self) -> str:
        return "\n".join(f"{name + ':':9} {text}" for name, text in self._parts())

    def _repr_html_(self) -> str:
        rows = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in self._parts())
        return f"<dl>{rows}</dl>"


def explain(error: BaseException) -> Explanation:
    """Translate an error of PyTorch or Torch-TensorRT about shapes into its cause and what to do.

    The errors that it was raised from are looked at as well, innermost first. One that was merely being
    handled when it was raised comes last, and is said to be that.

    Examples
    --------
    >>> try:
    ...     torch.export.export(model, (torch.randn(1, 4),), dynamic_shapes={"x": {0: batch}})  # doctest: +SKIP
    ... except Exception as error:
    ...     print(explain(error))
    Cause:    The example has size 1 in batch, and PyTorch turns a size of 0 or 1 into a constant while it traces.
    ...
    """
    chain = list(raised_from(error))
    for raised in chain:
        if isinstance(explanation := getattr(raised, "explanation", None), Explanation):
            return explanation
        if type(raised).__module__.partition(".")[0] == "tutorial_lib":
            return Explanation(OURS, _one_line(str(raised)))
    return _translated(chain) or _from_context(chain) or _unknown(error)


def raised_from(error: BaseException) -> Iterator[BaseException]:
    """`error`, and the errors that it says it comes from."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        raised = waiting.pop(0)
        if isinstance(raised, BaseException) and id(raised) not in seen:
            seen.add(id(raised))
            yield raised
            waiting += [getattr(raised, "inner_exception", None), raised.__cause__]


def _from_context(chain: list[BaseException]) -> Explanation | None:
    seen = set(map(id, chain))
    for raised in chain:
        context = None if raised.__suppress_context__ else raised.__context__
        if context is not None and id(context) not in seen:
            earlier = list(raised_from(context))
            explanation = _translated(earlier) or _from_context([e for e in earlier if id(e) not in seen])
            if explanation:
                cause = f"{type(chain[0]).__name__} was raised while this was being handled: {explanation.cause}"
                return replace(explanation, cause=cause)
    return None


def _unknown(error: BaseException) -> Explanation:
    inner = getattr(error, "inner_exception", None)
    telling = inner if isinstance(inner, BaseException) else error
    line = next((_one_line(line) for line in str(telling).splitlines() if line.strip()), "")
    return Explanation(
        UNKNOWN,
        f"{type(telling).__name__} is not known here in these words, so this is no explanation of it.",
        "Call the model on the same example without compiling it. If that fails too, it is not about compiling; "
        "else read upstream's whole message.",
        line or type(telling).__name__,
    )


# ---- one rule for one message -----------------------------------------------------------------------------------


def _translated(chain: list[BaseException]) -> Explanation | None:
    texts = [str(error) for error in reversed(chain)]
    where = next(filter(None, map(_where, texts)), "")
    for error, text in zip(reversed(chain), texts, strict=True):
        violated = _is_a(error, "UserError ConstraintViolationError") and "Constraints violated" in text
        if violated and (explanation := _Violation(text, where).explained()):
            return explanation
    for rule in (*RULES, *READ, *OTHERWISE):
        for error, text in zip(reversed(chain), texts, strict=True):
            match = re.search(rule.pattern, text, flags=re.MULTILINE) if _is_a(error, rule.types) else None
            if match and (not rule.raised_by or _raised_by(error, rule.raised_by, rule.frames)):
                groups = {name: _plain(value or "") for name, value in match.groupdict().items()} | {"where": where}
                line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
                telling = line if len(line) <= LONGEST_QUOTE else text[match.start() :].partition("\n")[0]
                quote = match.groupdict().get("line") or telling
                cause, fix = (_one_line(template.format(**groups)) for template in (rule.cause, rule.fix))
                return Explanation(rule.kind, cause, fix, _one_line(quote, LONGEST_QUOTE))
    return None


def _is_a(error: BaseException, types: str) -> bool:
    return bool({base.__name__ for base in type(error).__mro__} & set(types.split()))


def _raised_by(error: BaseException, pattern: str, frames: int) -> bool:
    """Whether one of the last `frames` frames that `error` came through is in a file with `pattern` in its path."""
    files = [frame.filename.replace("\\", "/") for frame in traceback.extract_tb(error.__traceback__)[-frames:]]
    return any(re.search(pattern, file) for file in files)


def _one_line(text: str, longest: int = 2000) -> str:
    text = " ".join(text.split()).removeprefix("- ")
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _plain(text: str) -> str:
    """``L['x'].size()[0]`` is dimension 0 of x."""
    if re.fullmatch(r"[su]\d+", text):
        return "a size that varies"
    text = re.sub(r"\bL((?:\['\w+'\]|\[\d+\]|\.\w+(?!\w*\())+?)\.size\(\)\[(\d+)\]", r"dimension \2 of L\1", text)
    text = re.sub(r"\binputs\['(\w+)'\]\.shape\[(\d+)\]", r"dimension \2 of \1", text)
    return re.sub(r"\bL\['(\w+)'\]", r"\1", text)


def _where(text: str) -> str:
    """The line of the user's code that a message names, in brackets, after a space."""
    frames = re.findall(r'File "([^"<\n]+)", line (\d+), in .+\n +(?!File ")(\S.*)', text)
    for file, line, code in reversed(frames):
        if not re.search(
            r"/torch/|/torch_tensorrt/|/lib/python3|/tutorial_lib/builds/job\.py", file.replace("\\", "/")
        ):
            return f" ({_place(file, line)}: {_one_line(code, 90)})"
    caused = re.search(r"^Caused by: \((?!_)([^\s()]+\.py):(\d+) in ", text, flags=re.MULTILINE)
    return f" ({_place(caused[1], caused[2])})" if caused else ""


def _place(file: str, line: str) -> str:
    """``model.py:12``; the cells of a notebook are files too, with numbers for names."""
    return f"line {line} of the cell" if "ipykernel_" in file else f"{Path(file).name}:{line}"


# ---- "Constraints violated" -------------------------------------------------------------------------------------

OF = (
    r"Not all values of (?P<name>.+?) = (?P<x>\S+) in the specified range ?(?P<asked>.*?) ?satisfy the generated guard "
)
GUARD = OF + r"(?P<guard>.+?)\.?(?:Specializations|$)"
BOUNDS = OF + r"(?P<low>\d+) <= (?P=x) and (?P=x) <= (?P<high>\d+)"
FRACTION = OF + r"(?P<guard>.*(?:math\.|sym_float).*?)\.?$"
CONSTANT = r"marked (?P<name>.+) as dynamic but your code specialized it to be a constant "
SPECIALIZED = r"guards generated for (?P<name>\S+)(?: = \S+)? resulted in a specialized value of (?P<size>\d+)"
TRIED = 200
"""How many sizes of a range guards are tried at."""


class _Violation:
    """Upstream's reasons why a range cannot be kept, its suggestions, and the user's line."""

    def __init__(self, text: str, where: str) -> None:
        self.reasons = [line.strip() for line in text.splitlines() if line.lstrip().startswith("- ")]
        offered = re.search(r"^Suggested fixes:\n((?:  .+\n?)+)", text, flags=re.MULTILINE)
        self.fixes = [line.strip() for line in offered[1].splitlines()] if offered else []
        self.suggested = f" Upstream suggests: {'; '.join(self.fixes)}." if self.fixes else ""
        self.where = where

    def first(self, *patterns: str) -> re.Match[str] | None:
        """The first match of the first pattern that is in any reason."""
        matches = (re.search(pattern, reason) for pattern in patterns for reason in self.reasons)
        return next(filter(None, matches), None)

    def explained(self) -> Explanation | None:
        """By the most telling reason, which is rarely the first."""
        # a fraction before a multiple, which upstream then suggests though it holds for the example alone
        for look in (_broken, _at_one, _fixed, _equal, _related, _fraction, _multiple, _bounded, _guarded):
            if explanation := look(self):
                return explanation
        return None

    def offered_step(self, name: str) -> tuple[int, str, str] | None:
        """What upstream suggests for multiples: the number, the Dim to multiply by it, and how to make that Dim."""
        suggestions = "\n".join(self.fixes)
        times = re.search(rf"^{re.escape(name)} = (\d+)\*(\w+)$", suggestions, re.MULTILINE)
        if not times:
            return None
        definition = re.search(rf"^{times[2]} = .+$", suggestions, re.MULTILINE)
        return int(times[1]), times[2], definition[0] if definition else "a Dim for the number of groups"


def _because(reason: re.Match[str], kind: str, cause: str, fix: str, fix_here: str = "") -> Explanation:
    quote = _one_line(reason.string.partition(". If you're using")[0], LONGEST_QUOTE)
    return Explanation(kind, _one_line(cause), _one_line(fix), quote, _one_line(fix_here))


def _broken(v: _Violation) -> Explanation | None:
    match = v.first(r"L\['___stack\d+'\]")
    return match and _because(
        match,
        "graph break",
        "The model does not compile in one piece, and a tensor that goes from one piece to the next cannot keep the "
        f"range of the input{v.where}.",
        "torch.compile(model, fullgraph=True) names the line that cuts it: take that out of the model, or do not mark "
        "the dimension.",
    )


def _at_one(v: _Violation) -> Explanation | None:
    # 2*h became the constant 2: then h is 1
    match = v.first(CONSTANT + r"\((?P<size>[01])\)", r"marked (?P<by>\d+)\*(?P<name>\w+) as .*constant \((?P=by)\)")
    if not match:
        return None
    name, size = _plain(match["name"]), match.groupdict().get("size", "1")
    return _because(
        match,
        "traced at one",
        f"The example has size {size} in {name}, and PyTorch turns a size of 0 or 1 into a constant while it traces.",
        f"Trace with an example that has 2 or more in {name}. The range may still begin at 1.",
    )


def _fixed(v: _Violation) -> Explanation | None:
    match = v.first(CONSTANT + r"\((?P<size>\d+)\)", SPECIALIZED)
    if not match:
        return None
    name, size = _plain(match["name"]), match["size"]
    find = ' To see the line: mark_dynamic and torch.compile(model, backend="eager"), whose error usually names it.'
    look = (
        f"Look for {size} as a number in reshape, view or expand (use x.shape or -1), for int(), len() or an `if` on "
        "the size, for a parameter or an unmarked input beside it, and for a size computed from it that is 1 in the "
        "example."
    )
    return _because(
        match,
        "fixed size",
        f"While tracing, {name} became the constant {size}, the size in the example: something in the model holds for "
        f"that size alone{v.where}.",
        f"{look} Or leave it fixed: do not mark it.{'' if v.where else find}",
        f"{look} Or leave it fixed: {size} instead of a DynamicDim.",
    )


def _equal(v: _Violation) -> Explanation | None:
    match = v.first(r"values of (?P<a>\w+) = (?P<x>\S+) and (?P<b>\w+) = (?P<y>\S+) must always be equal")
    return match and _because(
        match,
        "equal dims",
        f"{match['a']} ({_plain(match['x'])}) and {match['b']} ({_plain(match['y'])}) are declared as two, and the "
        "model needs them to be one size.",
        f"Use the same Dim for both: put {match['a']} where {match['b']} is in dynamic_shapes.",
        "Give both inputs the same DynamicDim.",
    )


def _related(v: _Violation) -> Explanation | None:
    match = v.first(r"values of (?P<a>\w+) = .* must always be related to .* by (?P=a) = (?P<is>.+?)\.?$")
    return match and _because(
        match,
        "related dims",
        f"{match['a']} is not free in this model: it is always {match['is']}.",
        f"Put {match['is']} where {match['a']} is in dynamic_shapes.{v.suggested}",
        f"With this package, write {match['is']} for {match['a']} in the TensorSpec: a DynamicDim can be multiplied by "
        "a number and have one added.",
    )


def _multiple(v: _Violation) -> Explanation | None:
    """By trying sizes: upstream suggests multiples as well where they merely make a true guard provable."""
    equations: dict[str, list[re.Match[str]]] = {}
    for reason in v.reasons:
        match = re.search(GUARD, reason)
        if match and " == " in match["guard"]:
            equations.setdefault(match["name"], []).append(match)
    for matches in equations.values():
        for together in (matches, *([match] for match in matches)):
            sizes = _sizes_of(together[0])
            holds = [size for size in sizes if all(_holds(match, size) is not False for match in together)]
            if step := _common_step(sizes, holds):
                return _only_multiples(v, together[0], step)
    return None


def _only_multiples(v: _Violation, match: re.Match[str], step: int) -> Explanation:
    name, say = _plain(match["name"]), "Use torch.export, which alone can be told: a number times a Dim."
    if (offered := v.offered_step(match["name"])) and offered[0] == step:
        _, group, definition = offered
        say = f"Tell torch.export: {definition}, and {step}*{group} where {name} is in dynamic_shapes."
    cause = f"Traced with this example, the model takes only multiples of {step} in {name}{v.where}."
    return _because(match, "multiple", cause, say, step_advice(step))


def step_advice(step: int) -> str:
    """What to do with this package for a model that takes multiples of `step` only."""
    return f"Give the DynamicDim step={step} and take the export path: no other can be told."


def _sizes_of(match: re.Match[str]) -> range:
    """The first sizes of the range that a guard is told for; none if the range cannot be read."""
    ends = re.fullmatch(r"(?:(\d+) <= )?\S+ <= (\d+)", match["asked"])  # the name between them may have digits
    if not ends:
        return range(0)
    low, high = int(ends[1] or 2), int(ends[2])
    return range(low, min(high, low + TRIED) + 1)


def _common_step(sizes: range, holds: list[int]) -> int | None:
    """The number that divides just the sizes in `holds`, if there is one above 1."""
    if len(holds) < 2 or len(holds) == len(sizes):
        return None
    step = holds[1] - holds[0]
    return step if holds == [size for size in sizes if size % step == 0] else None


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.And: lambda *values: all(values),
    ast.Or: lambda *values: any(values),
}


def _holds(match: re.Match[str], size: int) -> bool | None:
    """Whether a guard on one size holds at `size`; None if it is not one that can be computed here."""
    try:
        tree = ast.parse(match["guard"].replace(match["x"], "n"), mode="eval")
        return bool(_value(tree.body, size))
    except ArithmeticError:
        return False
    except (SyntaxError, ValueError):
        return None


def _value(node: ast.AST, size: int) -> Any:
    """The value of whole-number arithmetic on one name, which stands for `size`."""
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id="n"):
            return size
        case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, size), _value(right, size))
        case ast.UnaryOp(op, operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand, size))
        case ast.Compare(left, [op], [right]) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, size), _value(right, size))
        case ast.BoolOp(op, values):
            return _OPERATORS[type(op)](*(_value(value, size) for value in values))
        case ast.Call(ast.Name(id="max" | "min" as name), arguments):
            return (max if name == "max" else min)(_value(argument, size) for argument in arguments)
    raise ValueError(f"{type(node).__name__} is not computed")


def _bounded(v: _Violation) -> Explanation | None:
    match = v.first(BOUNDS)
    if not match:
        return None
    low, high, asked = match["low"], match["high"], _plain(match["asked"]) or "without an upper end"
    takes = f"only up to {high}" if int(low) <= 2 else f"only from {low} to {high}"
    return _because(
        match,
        "range",
        f"Traced with this example, the model takes {_plain(match['name'])} {takes}, and the range asked for is wider "
        f"({asked}){v.where}.",
        "Ask for that range, or find what sets the limit: it may be a table, a slice, an `if` on the size, or a size "
        f"computed from it that is 1 in the example (then trace with a larger one).{v.suggested}",
    )


def _guarded(v: _Violation) -> Explanation | None:
    match = v.first(GUARD)
    if not match:
        return None
    holds = {size: _holds(match, size) for size in _sizes_of(match)}
    if refused := [size for size, held in holds.items() if held is False]:
        return _unproven(
            match, v, f"It does not hold at {refused[0]}, for one: change that line, or ask for sizes where it does."
        )
    say = (
        "It may hold all the same: torch.export.export(..., prefer_deferred_runtime_asserts_over_guards=True) leaves "
        f"it to each call. Else ask for a narrower range, or change that line.{v.suggested}"
    )
    offered = v.offered_step(match["name"])
    multiples = (
        f", or ask for multiples of {offered[0]}, for which it can: {step_advice(offered[0])}" if offered else ""
    )
    true = "It holds at every size that was tried. " if holds and all(holds.values()) else ""
    return _unproven(match, v, say, f"{true}Change that line, or ask for a narrower range{multiples or '.'}")


def _fraction(v: _Violation) -> Explanation | None:
    match = v.first(FRACTION)
    whole = "Compute sizes in whole numbers: // instead of int(), math.floor() or a square root of a size; give height "
    return match and _unproven(match, v, f"{whole}and width as dimensions of their own.")


def _unproven(match: re.Match[str], v: _Violation, fix: str, fix_here: str = "") -> Explanation:
    cause = f"The model needs {_plain(match['guard'])}, which PyTorch cannot show for every size in the range of "
    return _because(match, "guard", f"{cause}{_plain(match['name'])}{v.where}.", fix, fix_here)
