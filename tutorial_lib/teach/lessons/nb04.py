"""Notebook 4: good and bad requests, what a callable makes of them, and which graph of `torch.compile` answers."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from tutorial_lib.builds import backends
from tutorial_lib.builds.report import EngineInput, range_of
from tutorial_lib.core.models import Case, expand_reshape
from tutorial_lib.explain.recompiles import forget

Call = Callable[..., Any]
RIGHT, WRONG, REFUSED, CRASH, NOT_RUN = "right", "WRONG", "refused", "crash", "not run"


def small_case() -> Case:
    """The model of notebook 1, made small: batches from 4 to 32, tuned for 8; 16 tokens of 48 numbers."""
    return expand_reshape(batch=(4, 8, 32), tokens=16, embed_dim=48)


def requests(case: Case) -> dict[str, Tensor]:
    """Nine requests to :func:`small_case`, [batch, tokens, width], by what is odd about them; on a GPU a tenth."""
    one, two, eight, many = (case.example(batch)[0] for batch in (1, 2, 8, 33))
    return {
        "batch 8": eight,
        "batch 33, above max": many,
        "batch 2, below min": two,
        "batch 1, below min": one,
        "9 tokens, not 16": eight[:, :9].contiguous(),
        "no batch axis": eight[0],
        "float64": eight.double(),
        "float16": eight.half(),
        "not contiguous": eight.mT.contiguous().mT,
        **({"on the CPU": eight.cpu()} if case.device.type == "cuda" else {}),
    }


@dataclass(frozen=True)
class Reply:
    """What became of one request: ``right``, ``WRONG``, ``refused`` or ``crash``, and what was said."""

    outcome: str
    says: str


def send(call: Call, case: Case, x: Tensor) -> Reply:
    """Send `x`, and compare the answer with that of the model, uncompiled."""
    try:
        right = case.model(x)
    except Exception:
        right = None
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # some errors are printed as well as raised
            output = call(x)
    except Exception as error:
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        return Reply(REFUSED, f"{type(error).__name__}: {line.split('  #')[0]}")
    same = right is not None and output.shape == right.shape and torch.allclose(output, right, atol=1e-3)
    return Reply(RIGHT if same else WRONG, f"{list(output.shape)}")


def send_all(make: Callable[[], Call], case: Case) -> pd.DataFrame:
    """Send every request of :func:`requests`, each to a new callable that `make` returns.

    Returns
    -------
    DataFrame
        By request: ``outcome``, ``it says`` and, for what :func:`watch` returns, ``more graphs``.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, x in requests(case).items():
        call = make()
        reply = send(call, case, x)
        rows[name] = {"outcome": reply.outcome, "it says": reply.says}
        if isinstance(call, Watched):
            rows[name]["more graphs"] = len(call.graphs) - 1
    return pd.DataFrame(rows).T.rename_axis("request")


class Numbered:
    """The graphs of one program, numbered from 1, which its backend runs uncompiled.

    Attributes
    ----------
    graphs : list
        The inputs of each graph, with their ranges.
    answered : list of int
        The number of the graph that answered each call.
    """

    def __init__(self) -> None:
        self.graphs: list[tuple[EngineInput, ...]] = []
        self.answered: list[int] = []

    def backend(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Call:
        """A backend for `torch.compile`."""
        values = [node.meta["example_value"] for node in graph.graph.find_nodes(op="placeholder")]
        data = [value for value in values if isinstance(value, Tensor) and not isinstance(value, nn.Parameter)]
        self.graphs.append(tuple(EngineInput("x", "float32", *range_of(value)) for value in data))
        number = len(self.graphs)

        def run(*args: Any) -> Any:
            self.answered.append(number)
            return graph.forward(*args)

        return run


class Watched:
    """`torch.compile` with the backend of :class:`Numbered`, whose attributes it has; see :func:`watch`."""

    def __init__(self, model: Call, **options: Any) -> None:
        forget(model)
        numbered = Numbered()
        self.graphs, self.answered = numbered.graphs, numbered.answered
        self._program = torch.compile(model, backend=numbered.backend, **options)

    def __call__(self, *inputs: Tensor) -> Any:
        """Call the program, which compiles where it must."""
        return self._program(*inputs)


def watch(
    model: Call, *examples: Tensor, unbacked: bool = False, dynamic: bool | None = None, **bounds: int
) -> Watched:
    """Bare `torch.compile`, with the first dimension of each example marked, called once with the examples.

    They are marked with ``mark_dynamic`` and its `bounds`, ``min`` and ``max``, or else with ``mark_unbacked``.
    """
    program = Watched(model, dynamic=dynamic)
    for x in examples:
        if unbacked:
            torch._dynamo.decorators.mark_unbacked(x, 0)
        else:
            torch._dynamo.mark_dynamic(x, 0, **bounds)
    if examples:
        program(*examples)
    return program


def failed_guard(program: Watched, *inputs: Tensor) -> str | None:
    """The guard on sizes that lets no graph answer these inputs, in Dynamo's words; None if one answers."""
    with torch.compiler.set_stance("fail_on_recompile"):
        try:
            program(*inputs)
        except RuntimeError as error:
            lines = (line.split("  #")[0] for line in str(error).splitlines() if ".size()[" in line)
            return next(lines).partition(": ")[2].strip()
    return None


def bare_package() -> dict[str, pd.DataFrame]:
    """What an AOTInductor package answers to each request on the CPU, without its own checks and with them.

    It is built and called in a process of its own, which forks for each request: whatever crashes, crashes alone.

    Returns
    -------
    dict
        ``"checks off"`` and ``"checks on"``, each as of :func:`send_all`; all ``not run`` where there is no C++
        compiler or where processes cannot be forked.
    """
    if backends.status("inductor", "cpu").works and sys.platform == "linux":
        command = [sys.executable, "-m", "tutorial_lib.teach.lessons.nb04_bare_package"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    else:
        names = requests(small_case())
        lines = [[title, name, NOT_RUN, "needs Linux and a C++ compiler"] for title in CHECKS for name in names]
    table = pd.DataFrame(lines, columns=["title", "request", "outcome", "it says"]).set_index("request")
    return {title: table[table["title"] == title].drop(columns="title") for title in CHECKS}


CHECKS = {"checks off": "0", "checks on": "1"}
"""Settings of ``AOTI_RUNTIME_CHECK_INPUTS``."""


def side_by_side(outcomes: Mapping[str, pd.DataFrame]) -> Any:
    """The outcomes of :func:`send_all` by title, in one table; what is wrong without a word is marked."""
    table = pd.DataFrame({title: replies["outcome"] for title, replies in outcomes.items()})
    table = table.reindex(next(iter(outcomes.values())).index).fillna(NOT_RUN)
    bad = "background: #d55e00; color: white"
    return table.style.map(lambda outcome: bad if outcome in (WRONG, CRASH) else "").set_uuid("outcomes")
