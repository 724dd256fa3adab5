"""What upstream's errors about shapes mean, and what to do: ``explain(error)``.

An error is known by its type and a short phrase of its message. Both were provoked with torch 2.13
and 2.11 (``tests/test_explain.py``), apart from the rules in ``_messages.READ``, which were read in
Torch-TensorRT's and TensorRT's source and not run. An error that nothing here fits is said to be unknown.
"""

import html
import math
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tutorial_lib.explain._messages import READ, RULES

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
    """

    kind: str
    cause: str
    fix: str = ""
    quote: str = ""

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
    chain = list(_raised_from(error))
    for one in chain:
        if isinstance(found := getattr(one, "explanation", None), Explanation):
            return found
        if type(one).__module__.partition(".")[0] == "tutorial_lib":
            return Explanation(OURS, _one_line(str(one)))
    return _translated(chain) or _from_context(chain) or _unknown(error)


def _raised_from(error: BaseException) -> Iterator[BaseException]:
    """`error`, and the errors that it says it comes from."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [getattr(one, "inner_exception", None), one.__cause__]


def _from_context(chain: list[BaseException]) -> Explanation | None:
    seen = set(map(id, chain))
    for one in chain:
        context = None if one.__suppress_context__ else one.__context__
        if context is not None and id(context) not in seen:
            earlier = list(_raised_from(context))
            found = _translated(earlier) or _from_context([e for e in earlier if id(e) not in seen])
            if found:
                said = f"{type(chain[0]).__name__} was raised while this was being handled: {found.cause}"
                return Explanation(found.kind, said, found.fix, found.quote)
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
    texts = [str(one) for one in reversed(chain)]
    where = next(filter(None, map(_where, texts)), "")
    for one, text in zip(reversed(chain), texts, strict=True):
        violated = _is_a(one, "UserError ConstraintViolationError") and "Constraints violated" in text
        if violated and (found := _Violation(text, where).explained()):
            return found
    for rule in (*RULES, *READ):
        for one, text in zip(reversed(chain), texts, strict=True):
            match = re.search(rule.pattern, text, flags=re.MULTILINE) if _is_a(one, rule.types) else None
            if match and (not rule.raised_by or _raised_by(one, rule.raised_by)):
                groups = {name: _plain(value or "") for name, value in match.groupdict().items()} | {"where": where}
                line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
                telling = line if len(line) <= LONGEST_QUOTE else text[match.start() :].partition("\n")[0]
                quote = match.groupdict().get("line") or telling
                cause, fix = (_one_line(template.format(**groups)) for template in (rule.cause, rule.fix))
                return Explanation(rule.kind, cause, fix, _one_line(quote, LONGEST_QUOTE))
    return None


def _is_a(error: BaseException, types: str) -> bool:
    return bool({base.__name__ for base in type(error).__mro__} & set(types.split()))


def _raised_by(error: BaseException, pattern: str) -> bool:
    files = [frame.filename.replace("\\", "/") for frame in traceback.extract_tb(error.__traceback__)[-3:]]
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
GUARD = OF + r"(?P<guard>.+?)\.?$"
BOUNDS = OF + r"(?P<low>\d+) <= (?P=x) and (?P=x) <= (?P<high>\d+)"
REMAINDER = OF + r"\(\(?(?:(?P<times>\d+)\*)?(?P=x)\)? % (?P<by>\d+)\) == 0"
ROUNDED = OF + r"\(?(?:(?P<times>\d+)\*)?(?P=x)\)? == \(?(?P<all>\d+)\*\((?P=x) // (?P<by>\d+)\)\)?\.?$"
FRACTION = OF + r"(?P<guard>.*(?:math\.|sym_float).*?)\.?$"
CONSTANT = r"marked (?P<name>.+) as dynamic but your code specialized it to be a constant "
SPECIALIZED = r"guards generated for (?P<name>\S+)(?: = \S+)? resulted in a specialized value of (?P<size>\d+)"


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
            if found := look(self):
                kind, cause, fix, match = found
                quote = match.string.partition(". If you're using")[0]
                return Explanation(kind, _one_line(cause), _one_line(fix), _one_line(quote, LONGEST_QUOTE))
        return None


_Found = tuple[str, str, str, re.Match[str]] | None


def _broken(v: _Violation) -> _Found:
    match = v.first(r"L\['___stack\d+'\]")
    return match and (
        "graph break",
        "The model does not compile in one piece, and a tensor that goes from one piece to the next cannot keep the "
        f"range of the input{v.where}.",
        "torch.compile(model, fullgraph=True) names the line that cuts it: take that out of the model, or do not mark "
        "the dimension.",
        match,
    )


def _at_one(v: _Violation) -> _Found:
    # 2*h became the constant 2: then h is 1
    match = v.first(CONSTANT + r"\((?P<size>[01])\)", r"marked (?P<by>\d+)\*(?P<name>\w+) as .*constant \((?P=by)\)")
    if not match:
        return None
    name, size = _plain(match["name"]), match.groupdict().get("size", "1")
    return (
        "traced at one",
        f"The example has size {size} in {name}, and PyTorch turns a size of 0 or 1 into a constant while it traces.",
        f"Trace with an example that has 2 or more in {name}. The range may still begin at 1.",
        match,
    )


def _fixed(v: _Violation) -> _Found:
    match = v.first(CONSTANT + r"\((?P<size>\d+)\)", SPECIALIZED)
    if not match:
        return None
    name, size = _plain(match["name"]), match["size"]
    find = ' To see the line: mark_dynamic and torch.compile(model, backend="eager"), whose error usually names it.'
    return (
        "fixed size",
        f"While tracing, {name} became the constant {size}, the size in the example: something in the model holds for "
        f"that size alone{v.where}.",
        f"Look for {size} as a number in reshape, view or expand (use x.shape or -1), for int(), len() or an `if` on "
        "the size, for a parameter or an unmarked input beside it, and for a size computed from it that is 1 in the "
        f"example. Or leave it fixed: do not mark it.{'' if v.where else find}",
        match,
    )


def _equal(v: _Violation) -> _Found:
    match = v.first(r"values of (?P<a>\w+) = (?P<x>\S+) and (?P<b>\w+) = (?P<y>\S+) must always be equal")
    return match and (
        "equal dims",
        f"{match['a']} ({_plain(match['x'])}) and {match['b']} ({_plain(match['y'])}) are declared as two, and the "
        "model needs them to be one size.",
        f"Use the same Dim for both: put {match['a']} where {match['b']} is in dynamic_shapes. With this package, give "
        "both inputs the same DynamicDim.",
        match,
    )


def _related(v: _Violation) -> _Found:
    match = v.first(r"values of (?P<a>\w+) = .* must always be related to .* by (?P=a) = (?P<is>.+?)\.?$")
    return match and (
        "related dims",
        f"{match['a']} is not free in this model: it is always {match['is']}.",
        f"Put {match['is']} where {match['a']} is in dynamic_shapes.{v.suggested}",
        match,
    )


def _multiple(v: _Violation) -> _Found:
    # Upstream suggests multiples as well where they merely make a true guard provable; that is no reason.
    match = v.first(REMAINDER, ROUNDED)
    if not match:
        return None
    name, by, times = _plain(match["name"]), int(match["by"]), int(match["times"] or 1)
    step = by // math.gcd(times, by) if "all" not in match.groupdict() else by
    if step == 1 or times * by != int(match.groupdict().get("all", times * by)):
        return None
    say = "Use torch.export, which alone can be told: a number times a Dim."
    offered = re.search(
        rf"^{re.escape(match['name'])} = (?P<new>\d+\*(?P<group>\w+))$", "\n".join(v.fixes), re.MULTILINE
    )
    if offered:
        group = next(
            (fix for fix in v.fixes if fix.startswith(f"{offered['group']} = ")), "a Dim for the number of groups"
        )
        say = f"Tell torch.export: {group}, and {offered['new']} where {name} is in dynamic_shapes."
    return (
        "multiple",
        f"The model takes only multiples of {step} in {name}{v.where}.",
        f"{say} With this package: a DynamicDim with step={step}, on the export path.",
        match,
    )


def _bounded(v: _Violation) -> _Found:
    match = v.first(BOUNDS)
    if not match:
        return None
    low, high, asked = match["low"], match["high"], _plain(match["asked"]) or "without an upper end"
    takes = f"only up to {high}" if int(low) <= 2 else f"only from {low} to {high}"
    return (
        "range",
        f"The model takes {_plain(match['name'])} {takes}, and the range asked for is wider ({asked}){v.where}.",
        "Ask for that range, or move the limit in the model: a table of positions, a slice or an `if` on the size."
        + v.suggested,
        match,
    )


def _guarded(v: _Violation) -> _Found:
    match = v.first(GUARD)
    if not match:
        return None
    later = "torch.export.export(..., prefer_deferred_runtime_asserts_over_guards=True) leaves it to each call"
    say = f"It may hold all the same: {later}. Else ask for a narrower range, or change that line."
    if (size := _counterexample(match)) is not None:
        say = f"It does not hold at {size}, for one: change that line, or ask for sizes where it does."
    return _unproven(match, v, say + v.suggested)


def _counterexample(match: re.Match[str]) -> int | None:
    """The first size in the range that a guard on one size refuses; None if there is none, or it cannot be told."""
    guard = match["guard"].replace(match["x"], "n")
    ends = re.fullmatch(r"(?:(\d+) <= )?\S+ <= (\d+)", match["asked"])  # the name between them may have digits
    if not re.fullmatch(r"(?:\b(?:n|max|min|and|or)\b|[\d\s()+*/%,=!<>-])+", guard) or not ends:
        return None
    low, high = int(ends[1] or 2), int(ends[2])
    for size in range(low, min(high, low + 1000) + 1):
        try:
            if not eval(guard, {"__builtins__": {}, "n": size, "max": max, "min": min}):
                return size
        except ArithmeticError:
            return size
        except SyntaxError:
            return None
    return None


def _fraction(v: _Violation) -> _Found:
    match = v.first(FRACTION)
    whole = "Compute sizes in whole numbers: // instead of int(), math.floor() or a square root of a size; give height "
    return match and _unproven(match, v, f"{whole}and width as dimensions of their own.")


def _unproven(match: re.Match[str], v: _Violation, fix: str) -> _Found:
    cause = f"The model needs {_plain(match['guard'])}, which PyTorch cannot show for every size in the range of "
    return "guard", f"{cause}{_plain(match['name'])}{v.where}.", fix, match
