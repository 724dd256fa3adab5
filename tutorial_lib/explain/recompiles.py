"""Why did it recompile? ``with recompiles() as seen: ...`` reads Dynamo's own account of every compile in the block.

PyTorch writes a structured trace while it compiles (what ``TORCH_TRACE`` puts into a file). :func:`recompiles` listens
to it: which guard of which graph refused the call, the sizes that are symbols with their ranges, and which cache had
the code already. The records were seen with torch 2.13 and read in the source of 2.11.
"""

import html
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from torch import nn
from torch._dynamo import convert_frame, pgo
from torch._dynamo.eval_frame import reset_code  # type: ignore[attr-defined]
from torch._dynamo.external_utils import wrap_inline
from torch._logging._internal import TorchLogsFormatter, trace_log

from tutorial_lib.explain._guards import GUARDS
from tutorial_lib.explain.explanation import Explanation

CACHES = {"aotautograd_cache": "AOTAutograd's cache", "fx_graph_cache": "Inductor's cache of graphs"}
"""The first part of what PyTorch calls a cache in its trace, outermost first."""


@dataclass(frozen=True)
class SymbolicSize:
    """A size that a graph leaves open: `where` it is, and from `low` to `high` (None: no end), traced at `traced`."""

    symbol: str
    where: str
    traced: str
    low: int | None
    high: int | None

    def __str__(self) -> str:
        if self.low is None and self.high is None:
            return f"{self.where} any, traced at {self.traced}"
        return f"{self.where} {self.low} to {'∞' if self.high is None else self.high}, traced at {self.traced}"


@dataclass(frozen=True)
class Refusal:
    """Why an earlier graph could not answer a call: `graph` is its number, such as ``0/1``."""

    graph: str
    reason: Explanation

    @property
    def kind(self) -> str:
        """One of ``size``, ``range``, ``dtype``, ``layout``, ``value``, ``mode`` ... (``tutorial_lib.explain``)."""
        return self.reason.kind


@dataclass
class Compile:
    """One compile: of one piece of Python code, for one call.

    Attributes
    ----------
    number : str
        ``0/1`` is the second graph of the first function.
    function : str
        Name, file and line.
    inputs : list of str
        The tensors of the call: ``x [5, 8] float32``.
    sizes : list of SymbolicSize
        Those that the graph leaves open; all others are constants in it.
    refusals : list of Refusal
        Why no earlier graph was used, the graph that came nearest first. Empty for the first compile.
    cache : str
        The cache that had the generated code, or empty.
    seconds : float or None
        What the compile took.
    failure : str
        Why there is no graph in the end, or empty.
    """

    number: str
    function: str = ""
    inputs: list[str] = field(default_factory=list)
    sizes: list[SymbolicSize] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    cache: str = ""
    seconds: float | None = None
    failure: str = ""

    @property
    def why(self) -> str:
        """One of the kinds of :attr:`Refusal.kind`, of the graph that came nearest, or ``first call``."""
        return self.refusals[0].kind if self.refusals else "first call"

    def lines(self) -> Iterator[str]:
        """What is said of it, line by line."""
        cached = f" (code from {self.cache})" if self.cache else ""
        yield f"{self.number} {self.function}, called with {', '.join(self.inputs) or 'no tensors'}{cached}"
        if self.refusals:
            nearest, *others = self.refusals
            yield f"why: graph {nearest.graph} did not fit. {nearest.reason.cause}"
            yield f"fix: {nearest.reason.fix}"
            if others:
                yield "not nearer: " + "; ".join(f"graph {other.graph} ({other.kind})" for other in others)
        if self.sizes:
            yield "open: " + "; ".join(map(str, self.sizes))
        if self.failure:
            yield f"no graph: {self.failure}"


class Recompiles:
    """The compiles that were seen, in their order; printing it tells why each of them happened.

    Attributes
    ----------
    compiles : list of Compile
        The first compile of a function included.
    report : Path or None
        The page that ``tlparse`` made, where that was asked for and is installed.
    """

    def __init__(self) -> None:
        self.compiles: list[Compile] = []
        self.report: Path | None = None

    @property
    def recompiles(self) -> list[Compile]:
        """Those that happened although there was a graph."""
        return [each for each in self.compiles if each.refusals]

    def __str__(self) -> str:
        again = len(self.recompiles)
        head = f"{len(self.compiles)} compile{'s' * (len(self.compiles) != 1)}, {again} of them again"
        lines = [f"  {line}" if index else line for each in self.compiles for index, line in enumerate(each.lines())]
        return "\n".join([head, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


@contextmanager
def recompiles(report: str | Path | None = None) -> Iterator[Recompiles]:
    """Note every compile inside the ``with`` block, of all threads.

    Parameters
    ----------
    report : path, optional
        A folder for the whole trace, and for the page that ``tlparse`` makes of it where that is installed
        (``pip install tlparse``). What is in it is replaced.

    Examples
    --------
    >>> import torch
    >>> net = torch.compile(torch.nn.Linear(8, 8), backend="eager")
    >>> with recompiles() as seen:
    ...     for x in (torch.ones(4, 8), torch.ones(5, 8), torch.ones(5, 8, dtype=torch.float64)):
    ...         try:
    ...             y = net(x)
    ...         except Exception:
    ...             pass
    >>> [each.why for each in seen.compiles]
    ['first call', 'size', 'dtype']
    """
    seen = Recompiles()
    handlers: list[logging.Handler] = [_Listener(seen)]
    if report is not None:
        Path(report).mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(Path(report) / "trace.log", mode="w"))
        handlers[1].setFormatter(TorchLogsFormatter(trace=True))
    # logging.disable(), which notebooks use against PyTorch's many lines, would silence the trace too
    with mock.patch.object(trace_log, "isEnabledFor", return_value=True):
        for handler in handlers:
            trace_log.addHandler(handler)
        try:
            yield seen
        finally:
            for handler in handlers:
                trace_log.removeHandler(handler)
                handler.close()
    if report is not None:
        seen.report = _page(Path(report))


def _page(folder: Path) -> Path | None:
    """Let ``tlparse``, which is a program, make a page of the trace in `folder`."""
    program = shutil.which("tlparse") or shutil.which("tlparse", path=str(Path(sys.executable).parent))
    if program is None:
        return None
    command = [program, str(folder / "trace.log"), "-o", str(folder / "pages"), "--overwrite", "--no-browser"]
    done = subprocess.run(command, capture_output=True, check=False)
    page = folder / "pages" / "index.html"
    return page if done.returncode == 0 and page.is_file() else None


class _Listener(logging.Handler):
    """Reads the records of the structured trace as they come."""

    def __init__(self, seen: Recompiles) -> None:
        super().__init__(logging.DEBUG)
        self.seen = seen
        self.open: dict[str, Compile] = {}
        self.shapes: dict[tuple[Any, Any], str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        metadata: dict[str, Any] = getattr(record, "metadata", {})
        if "frame_id" not in metadata:
            return
        name = next(iter(metadata))
        number = f"{metadata['frame_id']}/{metadata.get('frame_compile_id', 0)}"
        read = getattr(self, f"_{name}", None)
        try:
            if read is not None:
                read(self._compile(number), metadata[name], getattr(record, "payload", None) or "")
        except Exception:  # a record of another shape than today's; a handler must not break the compile
            self.handleError(record)
        if name == "compilation_metrics":
            self.open.pop(number, None)  # after torch._dynamo.reset() the numbers start again

    def _compile(self, number: str) -> Compile:
        if number not in self.open:
            self.open[number] = Compile(number)
            self.seen.compiles.append(self.open[number])
        return self.open[number]

    def _artifact(self, compiled: Compile, value: dict[str, Any], payload: str) -> None:
        if value["name"] == "recompile_reasons":
            reasons = json.loads(payload) if payload.lstrip().startswith("[") else [payload]
            compiled.refusals = sorted(map(_refusal, reasons), key=_distance)
        for cache, words in CACHES.items():
            if value["name"] == f"{cache}_hit":
                compiled.cache = words  # the outermost comes last

    def _describe_tensor(self, compiled: Compile, value: dict[str, Any], payload: str) -> None:
        dtype = value["dtype"].removeprefix("torch.")
        self.shapes[value["describer_id"], value["id"]] = f"{value['size']} {dtype}"

    def _describe_source(self, compiled: Compile, value: dict[str, Any], payload: str) -> None:
        argument = re.fullmatch(r"L\['(\w+)'\]((?:\[\d+\])?)", value["source"])
        shape = self.shapes.get((value["describer_id"], value["id"]))
        if argument and shape and (shown := f"{argument[1]}{argument[2]} {shape}") not in compiled.inputs:
            compiled.inputs.append(shown)

    def _create_symbol(self, compiled: Compile, value: dict[str, Any], payload: str) -> None:
        low, high = re.fullmatch(r"\[(\S+), (\S+)\]", value["vr"]).groups()  # type: ignore[union-attr]
        size = SymbolicSize(value["symbol"], _where(value["source"]), value["val"], _finite(low), _finite(high))
        compiled.sizes = [other for other in compiled.sizes if other.symbol != size.symbol] + [size]

    def _symbolic_shape_specialization(self, compiled: Compile, value: dict[str, Any], payload: str) -> None:
        compiled.sizes = [size for size in compiled.sizes if size.symbol != value["symbol"]]

    def _compilation_metrics(self, compiled: Compile, value: dict[str, Any], payload: str) -> None:
        compiled.seconds = value.get("entire_frame_compile_time_s")
        sizes = _sizes(compiled.inputs)  # Dynamo says why it compiles before it says for which call
        compiled.refusals = [
            replace(refusal, reason=in_words(refusal.reason.quote, sizes)) if refusal.kind == "range" else refusal
            for refusal in compiled.refusals
        ]
        if value.get("co_name"):
            resumed = re.fullmatch(r"torch_dynamo_resume_in_(\w+)_at_(\d+)", value["co_name"])
            name = f"the rest of {resumed[1]} from line {resumed[2]} on" if resumed else value["co_name"]
            if Path(value["co_filename"]).name == "external_utils.py":
                name = "a layer of PyTorch's"
            compiled.function = f"{name} ({Path(value['co_filename']).name}:{value['co_firstlineno']})"
        if not value.get("co_name"):
            compiled.failure = "Dynamo compiles a function only so often (recompile_limit), so this call ran uncompiled"
        elif value.get("fail_reason"):
            compiled.failure = f"{value['fail_type']}: {value['fail_reason'].strip().splitlines()[0]}"


def _refusal(text: str) -> Refusal:
    """Upstream's line, ``0/1: tensor 'x' dtype mismatch. ...``, in words."""
    graph, _, guard = text.partition(": ")
    return Refusal(graph, in_words(guard))


def _sizes(inputs: list[str]) -> dict[tuple[str, str], str]:
    """The sizes of a call's tensors, each given as ``x [5, 8] float32``, by name and dimension."""
    sizes = {}
    for each in inputs:
        name, _, rest = each.partition(" ")
        for axis, size in enumerate(rest.rpartition(" ")[0].strip("[]").split(", ")):
            sizes[name, str(axis)] = size
    return sizes


def in_words(guard: str, sizes: Mapping[tuple[str, str], str] | None = None) -> Explanation:
    """What it means that a call failed this guard, as Dynamo writes it; `sizes` are those of the call, where known.

    Examples
    --------
    >>> print(in_words("tensor 'x' dtype mismatch. expected Float, actual Double").cause)
    x has the dtype Double, and the program was compiled for Float.
    """
    plain = re.sub(r"\._(?:modules|parameters|buffers)\['(\w+)'\]", r".\1", guard.strip())
    quote = plain.partition("\n")[0].partition("  #")[0].rstrip()
    for known in GUARDS:
        if match := re.match(known.pattern, plain, flags=re.MULTILINE):
            groups = match.groupdict()
            size = (sizes or {}).get((groups.get("name", ""), groups.get("axis", "")))
            fix = known.fix_for_one if size == "1" and known.fix_for_one else known.fix
            return Explanation(known.kind, known.cause.format(**groups), fix.format(**groups), quote)
    return Explanation("other", f"It needs {quote}.", "Look for what changed between the calls.", quote)


def _distance(refusal: Refusal) -> tuple[int, int]:
    """How far a graph was from answering: Dynamo checks some guards later than others; of modes, how many changed."""
    kinds = list(dict.fromkeys(guard.kind for guard in GUARDS))
    rank = kinds.index(refusal.kind) if refusal.kind in kinds else 0
    return rank, len(refusal.reason.quote.split()) if refusal.kind == "mode" else 0


def _where(source: str) -> str:
    plain = re.sub(r"[LG]\['(\w+)'\]", r"\1", source)
    size = re.fullmatch(r"(.+)\.size\(\)\[(\d+)\]", plain)
    return f"{size[1]}, dimension {size[2]}:" if size else f"{plain}:"


def _finite(bound: str) -> int | None:
    return int(bound) if re.fullmatch(r"-?\d+", bound) else None


def forget(model: Callable[..., Any]) -> None:
    """Let Dynamo forget the graphs of one model or function, and the sizes that it saw there.

    ``torch._dynamo.reset`` forgets those of every program in the process, and one that may not compile again, such as
    :func:`tutorial_lib.paths.jit` returns, could then not be called any more.
    """
    function: Any = type(model).forward if isinstance(model, nn.Module) else model
    if not hasattr(function, "__code__"):  # one that is not written in Python, for which Dynamo compiles this frame
        function = wrap_inline(function)
    code = function.__code__
    with convert_frame.compile_lock:
        reset_code(code)
        states, place = pgo.get_code_state(), (code.co_firstlineno, code.co_name)
        for known in [known for known in states if (known.firstlineno, known.name) == place]:
            del states[known]
