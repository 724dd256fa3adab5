"""Programs that recompile for one reason each, and what is said of it (torch 2.13)."""

import logging
import stat
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tutorial_lib import expand_reshape, paths, recompiles, status
from tutorial_lib.explain.recompiles import forget, in_words

R = torch.randn
SCALE = 2.0


@pytest.fixture(autouse=True)
def fresh():
    forget(Net())
    with torch.no_grad():
        yield


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.dropout, self.times = nn.Linear(8, 8), nn.Dropout(), 3

    def forward(self, x, n=1):
        return self.dropout(self.linear(x)) * n * SCALE * self.times


def marked(x, **bounds):
    torch._dynamo.mark_dynamic(x, 0, **bounds)
    return x


def compiled_again(*calls, **options):
    """The one recompile of two calls; a call is the arguments, or a pair of what changes and the arguments."""
    net = Net()
    program = torch.compile(net, backend="eager", **options)
    with recompiles() as seen:
        for call in calls:
            change, arguments = call if callable(call[0]) else (lambda _: None, call)
            change(net)
            program(*arguments)
    assert len(seen.compiles) == 2
    (again,) = seen.recompiles
    assert again is seen.compiles[1]
    return again


def another_scale(net):
    global SCALE
    SCALE += 1


@pytest.mark.parametrize(
    ("kind", "says", "second"),
    [
        ("size", "x has 5 in dimension 0, and the program was compiled for 4 alone", (R(5, 8),)),
        ("dtype", "x has the dtype BFloat16", (R(4, 8).bfloat16(),)),
        ("layout", "its stride in dimension 0 is 1, and the graph was compiled for 8", (R(8, 4).T,)),
        ("value", "The argument n was 1", (R(4, 8), 2)),
        ("gradients", "x asks for gradients", (R(4, 8, requires_grad=True),)),
        ("number of dimensions", "x has 3 dimensions", (R(2, 4, 8),)),
        ("training", "self.dropout.training was True", (lambda net: net.eval(), (R(4, 8),))),
        ("attribute", "self.times was 3", (lambda net: setattr(net, "times", 4), (R(4, 8),))),
        ("global", "The global variable SCALE was", (another_scale, (R(4, 8),))),
        ("mode", "grad_mode", (lambda net: torch.set_grad_enabled(True), (R(4, 8),))),
    ],
)
def test_each_reason_is_named(kind, says, second):
    first = (R(4, 8),)
    if kind == "dtype":  # a layer's input and weight need one dtype
        second = (lambda net: net.bfloat16(), second)
    again = compiled_again(first, second)
    assert again.why == kind
    assert says in again.refusals[0].reason.cause
    assert again.refusals[0].graph == again.number.replace("/1", "/0")


def test_a_call_outside_the_marked_range_names_the_range_and_the_size():
    again = compiled_again((marked(R(8, 8), min=4, max=32),), (R(33, 8),))
    assert again.why == "range"
    assert "4 to 32" in again.refusals[0].reason.cause
    assert "mark a wider" in again.refusals[0].reason.fix
    assert again.inputs == ["x [33, 8] float32"]
    (size,) = again.sizes
    assert (size.where, size.low, size.high, size.traced) == ("x, dimension 0:", 2, None, "33")


@pytest.mark.parametrize(("size", "fix"), [(1, "engine of its own"), (3, "mark a wider")])
def test_the_fix_for_a_size_outside_the_range_is_that_for_the_size_of_the_call(size, fix):
    assert fix in compiled_again((marked(R(8, 8), min=4, max=32),), (R(size, 8),)).refusals[0].reason.fix


def test_a_size_below_a_lower_bound_is_told_what_is_true_of_it():
    assert "engine of its own" in in_words("4 <= x.size()[0]", {("x", "0"): "1"}).fix
    assert "wider range" in in_words("4 <= x.size()[0]", {("x", "0"): "3"}).fix
    assert "wider range" in in_words("4 <= x.size()[0]").fix
    assert "size 1" in in_words("2 <= x.size()[0]").fix


def test_a_size_of_one_names_the_graph_that_came_nearest():
    program = torch.compile(Net().eval(), backend="eager")
    with recompiles() as seen:
        for x in (marked(R(8, 8), min=2, max=32), R(1, 8), R(8, 8).double().float().T.contiguous().T):
            program(x)
    assert [each.why for each in seen.compiles] == ["first call", "range", "layout"]
    nearest, other = seen.compiles[2].refusals
    first, second, _ = (each.number for each in seen.compiles)
    assert (nearest.graph, other.graph, other.kind) == (first, second, "size")


def test_sizes_taken_for_one_dimension_are_told_apart():
    program = torch.compile(lambda x, y: x + y[:1], backend="eager", dynamic=True)
    with recompiles() as seen:
        program(R(5), R(5))
        program(R(6), R(7))
    assert seen.compiles[1].why == "same size"


def test_a_piece_after_a_graph_break_and_a_limit_are_said():
    def broken(x):
        x = x + 1
        print(end="")
        return x * 2

    program = torch.compile(broken, backend="eager", dynamic=False)
    with recompiles() as seen, torch._dynamo.config.patch(recompile_limit=2):
        for size in (2, 3, 4):
            program(R(size))
    assert any("the rest of broken" in each.function for each in seen.compiles)
    assert "recompile_limit" in seen.compiles[-1].failure


def test_a_compile_that_fails_is_noted_and_raises_as_before():
    program = torch.compile(lambda x: x + torch.ones(4, 1), backend="eager")
    with recompiles() as seen, pytest.raises(Exception, match="specialized it to be a constant"):
        program(marked(R(4, 8)))
    assert "Constraints violated" in seen.compiles[0].failure
    assert "no graph: " in str(seen)


def test_the_trace_is_read_where_logging_is_off_and_left_as_it_was():
    trace = logging.getLogger("torch.__trace")
    before = list(trace.handlers)
    logging.disable(logging.CRITICAL)
    try:
        with recompiles() as seen:
            torch.compile(lambda x: x + 1, backend="eager")(R(3))
    finally:
        logging.disable(logging.NOTSET)
    assert len(seen.compiles) == 1
    assert trace.handlers == before
    torch.compile(lambda x: x + 2, backend="eager")(R(3))
    assert len(seen.compiles) == 1


def test_programs_of_this_package_are_seen_too():
    program = paths.jit(expand_reshape(batch=(4, 8, 32), tokens=2, embed_dim=12), "eager")
    program.outside = "recompile"
    with recompiles() as seen:
        program(R(33, 2, 12))
    assert [each.why for each in seen.compiles] == ["range"]
    assert "33" in str(seen)


def test_the_whole_report_where_tlparse_is_installed(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "tlparse"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\nfolder = pathlib.Path(sys.argv[3])\n"
        "folder.mkdir()\n(folder / 'index.html').write_text(open(sys.argv[1]).read()[:1])\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    with recompiles(report=tmp_path / "report") as seen:
        torch.compile(lambda x: x + 3, backend="eager")(R(3))
    assert seen.report == tmp_path / "report" / "pages" / "index.html"
    assert (tmp_path / "report" / "trace.log").stat().st_size > 1000
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with recompiles(report=tmp_path / "report") as seen:
        pass
    assert seen.report is None


def test_an_unknown_guard_is_quoted():
    explanation = in_words("___check_something(x)  # a line\nUser stack trace")
    assert (explanation.kind, explanation.quote) == ("other", "___check_something(x)")


@pytest.mark.slow
@pytest.mark.skipif(not status("inductor", "cpu").works, reason="needs a C++ compiler")
def test_the_cache_that_had_the_code_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def function(x):
        return (x * 2).relu()

    for expected in ("", "AOTAutograd's cache"):
        forget(function)
        with recompiles() as seen:
            torch.compile(function)(R(33, 7))
        assert seen.compiles[0].cache == expected


def test_forgetting_one_function_leaves_what_was_built_of_others():
    case = expand_reshape(batch=(1, 4, 8), embed_dim=48, tokens=7)
    program = paths.jit(case, "eager")
    net = Net()
    first = torch.compile(net, backend="eager")
    first(R(2, 8))
    forget(net)
    with recompiles() as seen:
        first(R(3, 8))
        program(*case.example(5))
    (again,) = seen.compiles
    assert again.why == "first call"
    assert again.sizes == [], "the sizes that it saw are forgotten, too"


def test_a_function_that_is_not_written_in_python_is_forgotten_too():
    first = torch.compile(torch.add, backend="eager")
    forget(torch.add)
    for _ in range(2):
        with recompiles() as seen:
            first(R(2, 8), R(2, 8))
        assert len(seen.compiles) == 1
        forget(torch.add)
