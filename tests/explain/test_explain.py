"""Upstream's errors, each provoked here (torch 2.13 and 2.11) and explained; TensorRT's are only read in its source."""

import ctypes
import dataclasses
import logging
import math
import stat
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
import torch._inductor
import torch._inductor.config
import torch._inductor.cpu_vec_isa
from torch import nn
from torch._C._dynamo.guards import assert_size_stride
from torch.export import Dim
from torch.fx.experimental.symbolic_shapes import ConstraintViolationError
from torch.utils._sympy.value_ranges import ValueRanges

from tutorial_lib import PATHS, BuildError, Case, DynamicDim, OutOfRange, ShapeError, TensorSpec, status
from tutorial_lib.builds import backends
from tutorial_lib.explain import Explanation, explain
from tutorial_lib.explain._messages import OTHERWISE, READ, RULES

R = torch.randn


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    with torch.no_grad():
        yield
    logging.disable(logging.NOTSET)


def error_of(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return error
    pytest.fail("there was no error")


def told(call, *arguments):
    return explain(error_of(call, *arguments))


def says(found, kind, *cause, fix=""):
    """Fail unless an explanation is of this kind, with these words in its cause and its fix."""
    assert found.kind == kind
    assert all(words in found.cause for words in cause), found.cause
    assert fix in found.fix, found.fix


def model(forward):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.table = nn.Linear(4, 4), nn.Parameter(torch.ones(8, 4))

    Own.forward = forward
    return Own().eval()


def export(forward, *example, **dynamic_shapes):
    return torch.export.export(model(forward), example, dynamic_shapes=dynamic_shapes or None)


def jit(forward, *example, mark=True, **options):
    program = torch.compile(model(forward), backend="eager", **options)
    if mark:
        torch._dynamo.mark_dynamic(example[0], 0, min=2, max=32)
    program(*example)
    return program


def batch(low=1, high=32, name="b"):
    return {0: Dim(name, min=low, max=high)}


# ---- ranges that the model does not keep ------------------------------------------------------------------------


BOTH = R(4, 4), R(4, 4)


def linear(self, x):
    return self.linear(x)


def pairs(self, x):
    return x.view(-1, 8) * 1


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda: export(linear, R(1, 4), x=batch()), "b"),
        (lambda: jit(linear, R(1, 4)), "dimension 0 of x"),
        (lambda: export(pairs, R(2, 4), x={0: 2 * Dim("h", min=1, max=8)}), "h"),
        (lambda: export(linear, R(1, 4), x={0: Dim.DYNAMIC}), "dimension 0 of x"),
    ],
    ids=["export", "jit", "times two", "Dim.DYNAMIC"],
)
def test_an_example_of_size_one_becomes_a_constant(call, where):
    found = told(call)
    says(found, "traced at one", f"size 1 in {where}", fix="2 or more")
    assert "specialized" in found.quote


def test_what_the_fix_of_an_example_of_size_one_says_works():
    assert export(linear, R(2, 4), x=batch()).module()(R(1, 4)).shape == (1, 4)
    export(pairs, R(4, 4), x={0: 2 * Dim("h", min=1, max=8)})


TIED = {
    "reshape": lambda self, x: x.reshape(4, 4) + 1,
    "branch": lambda self, x: x + 1 if x.shape[0] == 4 else x - 1,
    "int": lambda self, x: x * int(x.shape[0]),
    "len": lambda self, x: torch.stack([x[i] for i in range(len(x))]),
    "root": lambda self, x: x.reshape(-1, int(math.sqrt(x.shape[0])), 4),
    "parameter": lambda self, x: x + self.table[:4],
}


@pytest.mark.parametrize("how", TIED)
def test_a_model_that_needs_one_size(how):
    found = told(lambda: export(TIED[how], R(4, 4), x=batch()))
    says(found, "fixed size", "b became the constant 4", fix="do not mark")
    assert "2 or more" not in found.fix  # which would be the fix of a look-alike


@pytest.mark.parametrize("how", ["branch", "parameter"])
def test_jit_names_the_line_that_ties_a_size(how):
    found = told(lambda: jit(TIED[how], R(4, 4)))
    says(found, "fixed size", "test_explain.py:")
    assert f'"{how}": lambda' in found.cause
    assert "To see the line" not in found.fix


def test_an_input_beside_it_that_is_not_marked():
    found = told(lambda: export(lambda self, x, y: x + y, R(5, 4), R(5, 4), x=batch(), y=None))
    says(found, "fixed size", fix="unmarked input")
    both = batch()
    export(lambda self, x, y: x + y, R(5, 4), R(5, 4), x=both, y=both)


def test_two_dims_that_are_one():
    found = told(lambda: export(lambda self, x, y: x + y, R(5, 4), R(5, 4), x=batch(name="bx"), y=batch(name="by")))
    says(found, "equal dims", "bx (dimension 0 of x)", "by (dimension 0 of y)", fix="same Dim")


def test_a_dim_that_is_another_plus_one():
    def shifted(self, x, y):
        return x[1:] + y

    found = told(lambda: export(shifted, R(6, 4), R(5, 4), x=batch(name="bx"), y=batch(name="by")))
    says(found, "related dims", fix="Put by + 1 where bx is")
    y = Dim("by", min=1, max=31)
    export(shifted, R(6, 4), R(5, 4), x={0: y + 1}, y={0: y})


def test_sizes_that_must_be_multiples():
    def groups(self, x):
        return x.reshape(x.shape[0] // 4, 4, 4) * 1

    found = told(lambda: export(groups, R(8, 4), x=batch()))
    says(found, "multiple", "multiples of 4 in b", fix="_b = Dim('_b', min=1, max=8), and 4*_b where b is")
    export(groups, R(8, 4), x={0: 4 * Dim("_b", min=1, max=8)})
    found = told(lambda: jit(lambda self, x: x.view(-1, 8) + 1, R(8, 4)))
    says(found, "multiple", "multiples of 2 in dimension 0 of x", fix="torch.export")


def test_the_dim_that_must_be_a_multiple_is_the_one_that_is_named():
    def groups(self, x, y):
        return x + 1 if x.shape[0] < 10 else x, y.view(-1, 8) + 1

    found = told(lambda: export(groups, R(4, 4), R(6, 4), x=batch(), y=batch(name="tokens")))
    says(found, "multiple", "multiples of 2 in tokens", fix="2*_tokens where tokens is")


def test_a_table_of_positions_that_is_shorter_than_the_range():
    def positions(self, x):
        return x + self.table[: x.shape[0]]

    says(told(lambda: export(positions, R(5, 4), x=batch())), "range", "takes b only up to 8", "b <= 32", fix="table")
    export(positions, R(5, 4), x=batch(high=8))


def test_a_branch_on_a_size_limits_the_range_from_below():
    found = told(lambda: export(lambda self, x: x + 1 if x.shape[0] > 3 else x - 1, R(5, 4), x=batch()))
    says(found, "range", "only from 4 to 32")
    found = told(lambda: jit(lambda self, x: x + 1 if x.shape[0] < 10 else x - 1, R(5, 4)))
    says(found, "range", "dimension 0 of x only up to 9")


def test_a_size_that_goes_through_a_fraction():
    found = told(lambda: export(lambda self, x: x[: math.floor(x.shape[0] / 2)], R(6, 4), x=batch()))
    says(found, "guard", "math.floor(dimension 0 of x / 2)", fix="//")
    export(lambda self, x: torch.zeros(x.shape[0] // 2) + 1, R(6, 4), x=batch(low=4))


def test_a_guard_that_is_true_and_not_proven_is_no_multiple_though_upstream_suggests_one():
    def half(self, x):
        return x[: x.shape[0] // 2] * 1

    error = error_of(lambda: export(half, R(6, 4), x=batch(low=4)))
    assert "b = 2*_b" in str(error)
    found = explain(error)
    says(found, "guard", "cannot show", fix="prefer_deferred_runtime_asserts_over_guards=True")
    assert "holds at every size" in found.fix_here
    deferred = torch.export.export(
        model(half), (R(6, 4),), dynamic_shapes={"x": batch(low=4)}, prefer_deferred_runtime_asserts_over_guards=True
    )
    assert deferred.module()(R(7, 4)).shape == (3, 4)


def test_a_relation_that_pytorch_fails_to_write_down():
    def padded(self, x):
        x = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 8)).unflatten(1, (-1, 8))
        return (x @ x.transpose(-1, -2) @ x).flatten(1, 2)

    error = error_of(lambda: export(padded, R(4, 12, 8), x={0: Dim("b", min=1, max=20), 1: Dim("n", min=2, max=40)}))
    assert "inconsistent min" in str(error)
    assert explain(error).kind == "guard"


def test_a_root_of_a_size_is_no_multiple_though_upstream_suggests_one():
    error = error_of(lambda: export(lambda self, x: x.reshape(int(x.shape[0] ** 0.5), -1, 4), R(9, 4), x=batch()))
    assert "b = 3*_b" in str(error)
    assert explain(error).kind == "guard"
    assert "3*_b" not in explain(error).fix


def test_a_model_in_pieces_cannot_keep_the_range():
    found = told(lambda: jit(lambda self, x, n: x[: n.max().item()] + 1, R(5, 4), torch.tensor([2, 3])))
    says(found, "graph break", fix="fullgraph=True")


def test_examples_and_dims_that_contradict_each_other():
    found = told(lambda: export(linear, R(40, 4), x=batch(2, 32)))
    says(found, "example outside the range", "size 40, outside the range 2 to 32")
    says(told(lambda: jit(linear, R(40, 4))), "example outside the range")
    both = batch()
    found = told(lambda: export(lambda self, x, y: (x + 1, y + 1), R(4, 4), R(5, 4), x=both, y=both))
    says(found, "examples disagree", "5 and 4")
    says(told(lambda: export(linear, R(5, 4), x={0: 2 * Dim("h", min=1, max=8)})), "example not a multiple")
    found = told(lambda: export(lambda self, x, y: (x + 1, y + 1), *BOTH, x=batch(1, 8), y=batch(1, 16)))
    says(found, "dim definition", "Dim('b', min=1, max=8) and Dim('b', min=1, max=16)")


# ---- dynamic_shapes and inputs ----------------------------------------------------------------------------------


def add(self, x, y):
    return x + y


WRONG_SHAPES = {
    "name": lambda: export(linear, R(4, 4), y=batch()),
    "missing name": lambda: export(add, *BOTH, x=batch()),
    "missing entry": lambda: torch.export.export(model(add), BOTH, dynamic_shapes=(batch(),)),
    "axis": lambda: export(linear, R(4, 4), x={5: batch()[0]}),
    "list": lambda: export(linear, R(4, 4), x=[batch()[0], None, None]),
    "string": lambda: export(linear, R(4, 4), x={0: "batch"}),
    "number": lambda: export(lambda self, x, n: x + n, R(4, 4), 3, x=batch(name="p"), n=batch(name="q")),
}


@pytest.mark.parametrize("wrong", WRONG_SHAPES)
def test_dynamic_shapes_that_do_not_fit_the_inputs(wrong):
    says(told(WRONG_SHAPES[wrong]), "dynamic_shapes", *(["['y']", "['x']"] if wrong == "name" else []))


# ---- values, prints, writes -------------------------------------------------------------------------------------


def branch_on_item(self, x):
    return x + 1 if x.sum().item() > 0 else x


def branch_on_tensor(self, x):
    return x + 1 if x.sum() > 0 else x


def branch_on_count(self, x):
    found = x.nonzero()
    return found + 1 if found.shape[0] > 3 else found


def loop_over_value(self, x):
    for _ in range(x.sum().int().item()):
        x = x + 1
    return x


@pytest.mark.parametrize("forward", [branch_on_item, branch_on_tensor, branch_on_count, loop_over_value])
@pytest.mark.parametrize("how", ["export", "jit"])
def test_control_flow_that_depends_on_values(how, forward):
    if how == "export":
        found = told(lambda: export(forward, R(4, 4).abs(), x=batch()))
    elif forward is loop_over_value:
        pytest.skip("jit compiles it for one value, and again for the next")
    else:
        with torch._dynamo.config.patch(capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True):
            found = told(lambda: jit(forward, R(4, 4), mark=False, fullgraph=True))
    fix = "pass it in" if forward is loop_over_value else "torch.cond"
    says(found, "data-dependent", "test_explain.py:", fix=fix)


def test_printing_and_logging():
    def prints(self, x):
        print("a")
        return x + 1

    def logs(self, x):
        logging.getLogger("tutorial").warning("a")
        return x + 1

    for forward in (prints, logs):
        says(told(lambda forward=forward: jit(forward, R(4, 4), fullgraph=True)), "printing", fix="is_compiling")
        export(forward, R(4, 4), x=batch())  # which runs it once, while tracing


def test_other_code_that_dynamo_cannot_follow_is_no_print():
    def opens(self, x):
        return x + len(open(__file__).read())

    found = told(lambda: jit(opens, R(4, 4), fullgraph=True))
    says(found, "graph break")
    assert "print" not in found.cause + found.fix


def test_an_operator_that_cannot_be_traced():
    def quantizes(self, x):
        return torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255)

    found = told(lambda: export(quantizes, R(4, 4), x=batch()))
    says(found, "operator", "aten.fake_quantize_per_tensor_affine_cachemask.default")


@dataclasses.dataclass
class Scores:
    scores: torch.Tensor


def test_a_result_of_a_class_that_export_does_not_know():
    found = told(lambda: export(lambda self, x: Scores(self.linear(x)), R(4, 4)))
    says(found, "class of the result", "returns a Scores,")
    torch.export.register_dataclass(Scores)  # what the fix says
    export(lambda self, x: Scores(self.linear(x)), R(4, 4))


class Moments(NamedTuple):
    mean: torch.Tensor


@pytest.mark.slow
def test_a_named_tuple_in_a_package():
    exported = export(lambda self, x: Moments(x.mean(dim=1)), R(4, 4))
    found = told(lambda: torch._inductor.aoti_compile_and_package(exported))
    says(found, "class of the result", "returns a Moments, a named tuple")


def test_a_file_of_the_compilers_cache_that_was_cut_off(tmp_path):
    file = tmp_path / "torchinductor_me" / "c.main.so"
    file.parent.mkdir()
    file.touch()
    assert told(ctypes.CDLL, str(file)).kind == "compiler's cache"


def test_writing_where_one_may_not():
    def writes(self, x):
        x.add_(1)
        return x

    def parameter(self, x):
        with torch.enable_grad():
            self.table.add_(1)
        return x

    assert told(lambda: model(writes)(R(1, 4).expand(4, 4))).kind == "in-place"
    assert told(lambda: model(parameter)(R(4, 4))).kind == "in-place"


# ---- calls ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported():
    with torch.no_grad():
        return export(lambda self, x: self.linear(x) + 1, R(4, 7, 4), x=batch(3, 32))


@pytest.mark.parametrize("guards", [True, False])
@pytest.mark.parametrize(
    ("shape", "expected"), [((33, 7, 4), "<= 32"), ((2, 7, 4), ">= 3"), ((4, 8, 4), "7"), ((4, 7), None)]
)
def test_an_exported_program_called_with_another_size(exported, guards, shape, expected):
    found = told(exported.module(check_guards=guards), R(shape))
    if expected:
        says(found, "call outside the range", expected)
    elif guards:  # a bare IndexError of the code that checks
        says(found, "unknown")
    else:
        says(found, "number of dimensions", "dimensions")


def test_a_guard_that_range_constraints_do_not_show():
    grid = {1: Dim("h", min=2, max=8), 2: Dim("w", min=2, max=8)}
    program = export(lambda self, x: x.flatten(1, 2) + self.table, R(2, 2, 4, 4), x=grid)
    assert str(list(program.range_constraints.values())) == "[VR[2, 8], VR[2, 8]]"
    says(told(lambda: program.module()(R(2, 4, 4, 4))), "hidden guard", "x.size()[1] * x.size()[2] == 8")


def test_a_number_that_breaks_a_promise():
    def first(self, x, n):
        k = n.item()
        torch._check(k >= 2)
        torch._check(k <= 5)
        return x[:k] + 1

    program = export(first, R(9, 4), torch.tensor(3)).module()
    says(told(lambda: program(R(9, 4), torch.tensor(8))), "call outside the range", fix="torch._check")


def forbidden(program, *inputs):
    with torch.compiler.set_stance("fail_on_recompile"):
        program(*inputs)


def test_recompiling_where_it_is_forbidden():
    program = jit(lambda self, x: self.linear(x) + 1, R(4, 4))
    program(R(1, 4))  # an engine of its own, whose reasons are in the messages too
    says(told(forbidden, program, R(33, 4)), "recompile", "not compiled for: 2 to 32")
    says(told(forbidden, program, R(4, 5)), "recompile", "x has 5 in dimension 1", fix="mark_dynamic(x, 1")
    with torch.enable_grad():
        says(told(forbidden, program, R(4, 4)), "recompile", "mode (grad_mode)")
    dtype = told(forbidden, program, R(4, 4).double())
    says(dtype, "recompile")
    assert "dtype mismatch" in dtype.quote


def test_recompiling_as_an_error_of_its_own():
    program = jit(lambda self, x: x + 1, R(4, 4), mark=False, dynamic=False)
    with torch._dynamo.config.patch(error_on_recompile=True):
        says(told(program, R(5, 4)), "recompile", "x has 5 in dimension 0, and the program was compiled for 4")


@pytest.mark.parametrize("how", [{"fail_on_recompile_limit_hit": True}, {}])
def test_the_recompile_limit(how):
    forward = [lambda self, x: x + 1, lambda self, x: x + 2][len(how)]
    program = jit(forward, R(2, 4), mark=False, dynamic=False, fullgraph=not how)
    with torch._dynamo.config.patch(recompile_limit=2, **how):
        says(told(lambda: [program(R(n, 4)) for n in range(3, 7)]), "recompile limit", fix="mark_dynamic")


def inductor_works():
    found = status("inductor", "cpu")
    return pytest.mark.skipif(not found.works, reason=found.reason or "")


PACKAGE = """
import logging, sys, torch
from torch.export import Dim
from tutorial_lib.builds import backends
from tutorial_lib.builds.backends import inductor
from tutorial_lib.explain import explain
logging.disable(logging.CRITICAL)
with torch.no_grad():
    x = torch.randn(4, 7, 4)
    program = torch.export.export(torch.nn.Linear(4, 4), (x,), dynamic_shapes={"input": {0: Dim("b", min=3, max=8)}})
    settings = inductor.settings(backends.as_device("cpu"), {})
    with inductor.patched({**settings, "aot_inductor.compile_wrapper_opt_level": "O0"}):
        file = torch._inductor.aoti_compile_and_package(program, package_path=sys.argv[1])
    package = torch._inductor.aoti_load_package(file)
    for call in (torch.randn(9, 7, 4),), (torch.randn(2, 7, 4),), (torch.randn(4, 8, 4),), (x.double(),), \\
            (torch.randn(4, 4, 7).mT,), (x, x), (x[..., None],):
        try:
            package(*call)
        except Exception as error:
            found = explain(error)
            print(found.kind, found.cause, found.quote, sep=" | ")
        else:
            print("ran")
"""


@pytest.mark.slow
@inductor_works()
def test_a_package_of_aotinductor_that_checks_its_inputs(tmp_path, monkeypatch):
    monkeypatch.setenv("AOTI_RUNTIME_CHECK_INPUTS", "1")  # read once, by the package
    done = subprocess.run(
        [sys.executable, "-c", PACKAGE, str(tmp_path / "model.pt2")], capture_output=True, text=True, timeout=300
    )
    lines = [line for line in done.stdout.splitlines() if " | " in line or line == "ran"]
    kinds = [*["call outside the range"] * 3, "dtype", "strides", "number of inputs", "number of dimensions"]
    found = [line.partition(" | ")[0] for line in lines]
    if "package" in found:  # as with torch 2.11, where the generated code's reasons are on standard error alone
        assert found[:5] == ["package"] * 5
        return
    assert found == kinds, done.stderr
    assert "has 9 in dimension 0" in lines[0]
    assert "compiled for <= 8" in lines[0]
    assert "compiled for >= 3" in lines[1]


# ---- what is not about compiling --------------------------------------------------------------------------------


def test_two_sizes_that_do_not_fit_are_named():
    says(told(lambda: R(1, 401, 3) + R(1, 197, 3)), "sizes", "401 and 197 in dimension 1")


def test_ids_are_to_be_whole_numbers_and_not_of_the_models_dtype():
    says(told(nn.Embedding(10, 4), R(3)), "dtype", fix="long()")
    says(told(model(linear), R(4, 4).double()), "dtype", fix="model's dtype")


CONVOLUTION = nn.Conv2d(3, 4, 3)
META = torch.empty(8, 4, device="meta")
OF_BFLOAT16 = torch.ops.aten._assert_tensor_metadata.default
PROVOKED = {
    "sizes": [
        lambda: export(lambda self, x: x + self.table, R(5, 4), x=batch()),
        lambda: jit(lambda self, x: x + self.table, R(5, 4)),
        lambda: export(linear, R(2, 5), x=batch()),
        lambda: jit(linear, R(2, 5)),
        lambda: model(linear)(R(4, 5)),
        lambda: R(4, 5).view(7, -1),
        lambda: torch.cat([R(4, 5), R(4, 6)]),
        lambda: CONVOLUTION(R(1, 4, 8, 8)),
        lambda: nn.LayerNorm(5)(R(4, 6)),
        lambda: nn.LSTM(4, 4)(R(2, 3, 5)),
    ],
    "dtype": [
        lambda: model(linear)(R(4, 4).double()),
        lambda: jit(lambda self, x: self.linear(x) * 2, R(4, 4).half()),
        lambda: CONVOLUTION(R(2, 3, 8, 8).half()),
        lambda: export(lambda self, x: CONVOLUTION(x), R(2, 3, 8, 8).double()),
        lambda: torch.bmm(R(2, 3, 4), R(2, 4, 5).double()),
        lambda: R(3, 4) @ torch.ones(4, 4, dtype=torch.long),
        lambda: OF_BFLOAT16(torch.ones(2), None, None, torch.bfloat16),
    ],
    "device": [
        lambda: export(linear, META),
        lambda: jit(lambda self, x: x + self.table, META, mark=False),
        lambda: model(linear)(META),
    ],
    "number of inputs": [
        lambda: export(add, R(4, 4)),
        lambda: export(linear, *BOTH),
        lambda: export(linear, R(4, 4)).module()(*BOTH),
        lambda: nn.Linear(4, 4)(*BOTH),
    ],
    "dim definition": [lambda: Dim("b", min=8, max=4), lambda: Dim("my batch", min=1, max=4)],
    "leaves torch": [lambda: export(lambda self, x: x + torch.from_numpy(x.numpy()), R(4, 4))],
    "fault of Inductor": [
        lambda: ValueRanges(0, -1),
        lambda: assert_size_stride(torch.ones(4, 4).t(), (4, 4), (4, 1)),
    ],
    "memory": [lambda: torch.empty(2**50)],
}


@pytest.mark.parametrize("kind", PROVOKED)
def test_an_error_is_known_wherever_it_comes_from(kind):
    assert [told(call).kind for call in PROVOKED[kind]] == [kind] * len(PROVOKED[kind])


def test_a_guard_that_does_not_hold_is_not_called_unproven():
    def fours(self, x):
        return x.reshape(x.shape[0] // 4, 4, -1) * 1

    for name in ("b", "b2"):
        found = told(lambda name=name: export(fours, R(8, 12), x=batch(4, 32, name)))
        says(found, "guard", fix="It does not hold at 9, for one")
    assert "It does not hold at 2, for one" in told(lambda: jit(fours, R(8, 12))).fix  # L['x'].size()[0] has digits


def test_no_guard_is_computed_but_arithmetic():
    reason = (
        "  - Not all values of b = L['x'].size()[0] in the specified range 4 <= b <= 32 satisfy the generated guard "
    )
    for guard in ("__import__('os').getpid() == L['x'].size()[0]", "print(L['x'].size()[0])", "1 +* L['x'].size()[0]"):
        error = ConstraintViolationError(f"Constraints violated (b)!\n{reason}{guard}.")
        assert "It may hold all the same" in explain(error).fix


def test_an_index_outside_its_table():
    says(told(lambda: nn.Embedding(10, 4)(torch.tensor([3, 10]))), "index", fix="high=")


def test_a_line_of_a_notebook_is_a_line_of_the_cell(tmp_path):
    cell = tmp_path / "ipykernel_4711" / "2890.py"
    cell.parent.mkdir()
    cell.write_text("def branch(self, x):\n    if x.sum() > 0:\n        return x + 1\n    return x - 1\n")
    defined = {}
    exec(compile(cell.read_text(), cell, "exec"), defined)
    cause = told(lambda: export(defined["branch"], R(4, 4))).cause
    assert "(line 2 of the cell" in cause
    assert "2890" not in cause


def test_memory_of_a_gpu_that_is_not_here():
    gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB")
    assert explain(gpu).kind == "memory"
    assert "20.00 GiB" in explain(gpu).cause


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_memory_and_devices_of_a_gpu():
    assert told(lambda: torch.empty(2**50, device="cuda")).kind == "memory"
    assert told(lambda: model(linear)(R(4, 4, device="cuda"))).kind == "device"


@pytest.fixture
def compile_with():
    """``compile_with(compiler)``: Inductor uses this C++ compiler and no cache.

    Inductor asks the compiler once a process which vector instructions to use, so a good one is asked before:
    what a broken compiler answers would stay, and make all later tests of the process compile scalar code.
    """
    if status("inductor", "cpu").works:
        with torch._inductor.config.patch(backends.settings("inductor", torch.device("cpu"), None)):
            torch._inductor.cpu_vec_isa.valid_vec_isa_list()

    def patch(compiler):
        return torch._inductor.config.patch({"cpp.cxx": (compiler,), "force_disable_caches": True})

    return patch


def test_no_compiler(compile_with):
    with compile_with("no-such-compiler"):
        says(told(torch.compile(lambda x: x.sin() + 7), R(40, 41)), "C++ compiler", fix="doctor")


@inductor_works()
def test_a_compiler_that_fails(compile_with, tmp_path):
    broken = tmp_path / "g++"
    broken.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) echo "g++ 13";; *)\n'
        'echo "x.cpp:1:10: fatal error: Python.h: No such file or directory" >&2; exit 1;; esac\n'
    )
    broken.chmod(broken.stat().st_mode | stat.S_IEXEC)
    with compile_with(str(broken)):
        found = told(torch.compile(lambda x: x.sin() + 8), R(40, 41))
    says(found, "C++ compiler", fix="python3-dev")
    assert "Python.h" in found.quote


# Messages as they stand in the source of Torch-TensorRT 2.11 to 2.14 and of TensorRT. None was seen here.
READ_ONLY = {
    "tensorrt profile": [
        RuntimeError("Expected ctx->setInputShape(name.c_str(), dims) to be true but got false\nError while setting"),
        RuntimeError("Static dimension mismatch while setting input shape for x. Set dimensions are [4,9,768]."),
        RuntimeError("No optimization profile matches the input shapes (x: [64, 3])."),
        RuntimeError("Input x does not satisfy any optimization profiles."),
    ],
    "dtype": [
        RuntimeError("Expected input tensors to have type Half, found type float"),
        AssertionError("Dtype mismatch for 0th input(x). Expect torch.float32, got torch.float16."),
    ],
    "device": [RuntimeError("Expected input tensors to have device cuda, found device cpu")],
    "tensorrt target": [RuntimeError("Cannot compile operation for Turing (SM75): FP32 GEMM is not supported")],
    "tensorrt option": [
        AssertionError("use_explicit_typing was set to True, however found that enabled_precisions was also specified")
    ],
}


@pytest.mark.parametrize("kind", READ_ONLY)
def test_messages_of_tensorrt_that_were_only_read(kind):
    for error in READ_ONLY[kind]:
        assert explain(error).kind == kind


# ---- look-alikes, and what is not known -------------------------------------------------------------------------


def bad_list(self, x):
    [][1] = 0
    return x


def test_look_alikes_are_not_explained():
    for error in (
        ValueError("Constraints violated: You marked b as dynamic but your code specialized it to be a constant (1)"),
        ValueError("recompile limit exceeded"),
        KeyError("Guard failed: x.size()[0] <= 32"),
        AssertionError("Guard failed: the door is open"),
        RuntimeError("40 not in range [2, 32]"),
        RuntimeError("out of memory"),
        TypeError("too many positional arguments"),
        IndexError("list assignment index out of range"),
        RuntimeError("The size of tensor a must match"),
        RuntimeError("Expected input at the door to be on time"),
    ):
        assert explain(error).kind == "unknown", error
    assert told(lambda: export(bad_list, R(4, 4))).kind == "unknown"
    assert told(lambda: (lambda x: x)(1, 2)).kind == "unknown"


def test_an_error_that_is_not_known_is_said_to_be_that():
    def burning(graph, inputs):
        raise ValueError("\n  the backend is on fire\nand more")

    found = told(torch.compile(lambda x: x + 1, backend=burning), R(4))
    says(found, "unknown", "not known")
    assert not found.translated
    assert found.quote == "the backend is on fire"
    assert explain(KeyboardInterrupt()).quote == "KeyboardInterrupt"


def test_what_an_error_was_raised_from_or_was_raised_over_is_explained_and_what_it_hides_is_not():
    def start(how):
        try:
            export(linear, R(1, 4), x=batch())
        except Exception as error:
            if how == "from":
                raise RuntimeError("the service could not start") from error
            if how == "over":
                [][1]
            raise KeyError("mine") from None

    says(told(start, "from"), "traced at one", "The example has size 1")
    says(told(start, "over"), "traced at one", "IndexError was raised while this was being handled: ")
    says(told(start, "hiding"), "unknown")


def test_errors_of_this_package_explain_themselves(built, seed):
    for error in (
        error_of(lambda: DynamicDim("batch", 1, 64, 32)),
        error_of(built("export", "eager", seed), *seed.example(9)),
    ):
        assert isinstance(error, ShapeError | OutOfRange)
        assert explain(error) == Explanation("ours", str(error))
        assert str(explain(error)) == f"Cause:    {error}"


# ---- builds and display -----------------------------------------------------------------------------------------


def test_a_build_error_has_the_cause_and_the_fix(path):
    class Tied(nn.Module):
        def forward(self, images):
            return images.reshape(4, 3) + 1

    case = Case("tied", Tied(), (TensorSpec("images", (DynamicDim("batch", 1, 4, 8), 3)),))
    error = error_of(PATHS[path], case, "eager")
    assert isinstance(error, BuildError)
    found = explain(error)
    assert found is error.explanation
    says(found, "fixed size")
    assert str(error).startswith(f"{path} with eager could not compile tied: While tracing, ")
    assert "\n" not in str(error)
    assert "became the constant 4" in str(error)
    assert "Constraints violated" in str(error.__cause__)
    if path == "jit":
        assert "batch became the constant 4" in str(error)
        assert "images.reshape(4, 3) + 1" in str(error)


def test_it_shows_as_three_lines_and_as_escaped_html():
    found = Explanation("range", "a <= b", 'use "c" & d', "<script>")
    assert [line.split(":")[0] for line in str(found).splitlines()] == ["Cause", "Fix", "Upstream"]
    page = found._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "a &lt;= b" in page


def test_every_rule_is_told_apart_by_a_type():
    for rule in (*RULES, *READ, *OTHERWISE):
        assert rule.types
        assert not {"Exception", "BaseException"} & set(rule.types.split())


class UserError(Exception):
    """Upstream's errors are known by the names of their types."""


def test_the_first_size_that_breaks_a_guard_is_named():
    reason = "Not all values of b = L['x'].size()[0] in the specified range 4 <= b <= 64 satisfy the generated guard "
    found = explain(UserError(f"Constraints violated (b)!\n  - {reason}(L['x'].size()[0] // 4) <= 2"))
    assert "does not hold at 12" in found.fix


def test_the_innermost_line_of_the_user_is_quoted():
    frames = (
        '  File "/home/me/outer.py", line 3, in call\n    return self.inner(x)\n'
        '  File "/home/me/inner.py", line 9, in forward\n    return x + self.bias\n'
    )
    message = "The size of tensor a (2) must match the size of tensor b (3) at non-singleton dimension 1"
    found = explain(RuntimeError(f"{message}\n\nfrom user code:\n{frames}"))
    says(found, "sizes", "(inner.py:9: return x + self.bias)")


def test_a_converter_that_fails_after_a_refused_layer_is_not_blamed():
    message = (
        "ValueError: __len__() should return >= 0\n\nWhile executing %permute : [num_users=1] = call_function"
        "[target=torch.ops.aten.permute.default](args = (%x,))\n"
        "ITensor::getDimensions: Error Code 4: API Usage Error ([SOFTMAX]-[_softmax]: input has type Int32. "
        "In checkType at /optimizer/nodeBase.cpp:455)"
    )
    explanation = explain(RuntimeError(message))
    assert "input has type Int32" in explanation.cause
    assert "permute" not in str(explanation.cause + explanation.fix)
    without_log = explain(RuntimeError(message.partition("ITensor")[0]))
    assert "aten.permute.default" in without_log.cause
