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
from torch.export import Dim
from torch.fx.experimental.symbolic_shapes import ConstraintViolationError

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


def linear(self, x):
    return self.linear(x)


def test_an_example_of_batch_one_becomes_a_constant():
    for call in (lambda: export(linear, R(1, 4), x=batch()), lambda: jit(linear, R(1, 4))):
        found = told(call)
        assert found.kind == "traced at one"
        assert "size 1 in" in found.cause
        assert "2 or more" in found.fix
        assert "specialized it to be a constant (1)" in found.quote
    fixed = export(linear, R(2, 4), x=batch())
    assert fixed.module()(R(1, 4)).shape == (1, 4)


def test_a_dim_times_two_with_an_example_of_one_step():
    def pairs(self, x):
        return x.view(-1, 8) * 1

    found = told(lambda: export(pairs, R(2, 4), x={0: 2 * Dim("h", min=1, max=8)}))
    assert found.kind == "traced at one"
    assert "size 1 in h" in found.cause
    export(pairs, R(4, 4), x={0: 2 * Dim("h", min=1, max=8)})


def test_dim_dynamic_with_an_example_of_one():
    found = told(lambda: export(linear, R(1, 4), x={0: Dim.DYNAMIC}))
    assert found.kind == "traced at one"
    assert "dimension 0 of x" in found.cause


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
    assert found.kind == "fixed size"
    assert "b became the constant 4" in found.cause
    assert "do not mark" in found.fix
    assert "2 or more" not in found.fix  # which would be the fix of a look-alike


@pytest.mark.parametrize("how", ["reshape", "branch", "len", "parameter"])
def test_jit_names_the_line_that_ties_a_size(how):
    found = told(lambda: jit(TIED[how], R(4, 4)))
    assert found.kind == "fixed size"
    assert "test_explain.py:" in found.cause
    assert f'"{how}": lambda' in found.cause
    assert "To see the line" not in found.fix


def test_an_input_beside_it_that_is_not_marked():
    found = told(lambda: export(lambda self, x, y: x + y, R(5, 4), R(5, 4), x=batch(), y=None))
    assert found.kind == "fixed size"
    assert "unmarked input" in found.fix
    both = batch()
    export(lambda self, x, y: x + y, R(5, 4), R(5, 4), x=both, y=both)


def test_two_dims_that_are_one():
    found = told(lambda: export(lambda self, x, y: x + y, R(5, 4), R(5, 4), x=batch(name="bx"), y=batch(name="by")))
    assert found.kind == "equal dims"
    for part in ("bx (dimension 0 of x)", "by (dimension 0 of y)"):
        assert part in found.cause
    assert "same Dim" in found.fix


def test_a_dim_that_is_another_plus_one():
    def shifted(self, x, y):
        return x[1:] + y

    found = told(lambda: export(shifted, R(6, 4), R(5, 4), x=batch(name="bx"), y=batch(name="by")))
    assert found.kind == "related dims"
    assert "Put by + 1 where bx is" in found.fix
    y = Dim("by", min=1, max=31)
    export(shifted, R(6, 4), R(5, 4), x={0: y + 1}, y={0: y})


def test_sizes_that_must_be_multiples():
    def groups(self, x):
        return x.reshape(x.shape[0] // 4, 4, 4) * 1

    found = told(lambda: export(groups, R(8, 4), x=batch()))
    assert found.kind == "multiple"
    assert "multiples of 4 in b" in found.cause
    assert "_b = Dim('_b', min=1, max=8), and 4*_b where b is" in found.fix
    export(groups, R(8, 4), x={0: 4 * Dim("_b", min=1, max=8)})
    by_jit = told(lambda: jit(lambda self, x: x.view(-1, 8) + 1, R(8, 4)))
    assert by_jit.kind == "multiple"
    assert "multiples of 2 in dimension 0 of x" in by_jit.cause
    assert "torch.export" in by_jit.fix


def test_the_dim_that_must_be_a_multiple_is_the_one_that_is_named():
    def groups(self, x, y):
        return x + 1 if x.shape[0] < 10 else x, y.view(-1, 8) + 1

    found = told(lambda: export(groups, R(4, 4), R(6, 4), x=batch(), y=batch(name="tokens")))
    assert found.kind == "multiple"
    assert "multiples of 2 in tokens" in found.cause
    assert "2*_tokens where tokens is" in found.fix


def test_a_table_of_positions_that_is_shorter_than_the_range():
    def positions(self, x):
        return x + self.table[: x.shape[0]]

    found = told(lambda: export(positions, R(5, 4), x=batch()))
    assert found.kind == "range"
    assert "takes b only up to 8" in found.cause
    assert "b <= 32" in found.cause
    assert "table" in found.fix
    export(positions, R(5, 4), x=batch(high=8))


def test_a_branch_on_a_size_limits_the_range_from_below():
    found = told(lambda: export(lambda self, x: x + 1 if x.shape[0] > 3 else x - 1, R(5, 4), x=batch()))
    assert found.kind == "range"
    assert "only from 4 to 32" in found.cause
    by_jit = told(lambda: jit(lambda self, x: x + 1 if x.shape[0] < 10 else x - 1, R(5, 4)))
    assert by_jit.kind == "range"
    assert "dimension 0 of x only up to 9" in by_jit.cause


def test_a_size_that_goes_through_a_fraction():
    found = told(lambda: export(lambda self, x: x[: math.floor(x.shape[0] / 2)], R(6, 4), x=batch()))
    assert found.kind == "guard"
    assert "math.floor(dimension 0 of x / 2)" in found.cause
    assert "//" in found.fix
    export(lambda self, x: torch.zeros(x.shape[0] // 2) + 1, R(6, 4), x=batch(low=4))


def test_a_guard_that_is_true_and_not_proven_is_no_multiple_though_upstream_suggests_one():
    def half(self, x):
        return x[: x.shape[0] // 2] * 1

    error = error_of(lambda: export(half, R(6, 4), x=batch(low=4)))
    assert "b = 2*_b" in str(error)
    found = explain(error)
    assert found.kind == "guard"
    assert "cannot show" in found.cause
    assert "prefer_deferred_runtime_asserts_over_guards=True" in found.fix
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
    assert found.kind == "graph break"
    assert "fullgraph=True" in found.fix


def test_examples_that_contradict_the_dims():
    outside = told(lambda: export(linear, R(40, 4), x=batch(2, 32)))
    assert outside.kind == "example outside the range"
    assert "size 40, outside the range 2 to 32" in outside.cause
    assert told(lambda: jit(linear, R(40, 4))).kind == "example outside the range"
    both = batch()
    disagree = told(lambda: export(lambda self, x, y: (x + 1, y + 1), R(4, 4), R(5, 4), x=both, y=both))
    assert disagree.kind == "examples disagree"
    assert "5 and 4" in disagree.cause
    no_multiple = told(lambda: export(linear, R(5, 4), x={0: 2 * Dim("h", min=1, max=8)}))
    assert no_multiple.kind == "example not a multiple"


# ---- dynamic_shapes and inputs ----------------------------------------------------------------------------------


def add(self, x, y):
    return x + y


BOTH = R(4, 4), R(4, 4)
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
    found = told(WRONG_SHAPES[wrong])
    assert found.kind == "dynamic_shapes"
    if wrong == "name":
        assert "['y']" in found.cause
        assert "['x']" in found.cause


def test_dims_that_cannot_be():
    assert told(lambda: Dim("b", min=8, max=4)).kind == "dim definition"
    assert told(lambda: Dim("my batch", min=1, max=4)).kind == "dim definition"
    twice = told(lambda: export(lambda self, x, y: (x + 1, y + 1), *BOTH, x=batch(1, 8), y=batch(1, 16)))
    assert twice.kind == "dim definition"
    assert "Dim('b', min=1, max=8) and Dim('b', min=1, max=16)" in twice.cause


def test_a_wrong_number_of_inputs():
    exported = export(linear, R(4, 4)).module()
    for call in (
        lambda: export(add, R(4, 4)),
        lambda: export(linear, *BOTH),
        lambda: exported(*BOTH),
        lambda: nn.Linear(4, 4)(*BOTH),
    ):
        assert told(call).kind == "number of inputs"


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
    assert found.kind == "data-dependent"
    assert "test_explain.py:" in found.cause
    assert ("pass it in" if forward is loop_over_value else "torch.cond") in found.fix


def test_what_the_fixes_of_control_flow_say_works():
    export(lambda self, x: torch.where(x.sum() > 0, x + 1, x), R(4, 4), x=batch())
    export(lambda self, x: torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,)), R(4, 4), x=batch())

    def promised(self, x):
        found = x.nonzero()
        torch._check(found.shape[0] > 3)
        return found + 1 if found.shape[0] > 3 else found

    export(promised, R(4, 4), x=batch())


def test_printing_and_logging():
    def prints(self, x):
        print("a")
        return x + 1

    def logs(self, x):
        logging.getLogger("tutorial").warning("a")
        return x + 1

    def silent_when_compiled(self, x):
        if not torch.compiler.is_compiling():
            print("a")
        return x + 1

    for forward in (prints, logs):
        found = told(lambda forward=forward: jit(forward, R(4, 4), fullgraph=True))
        assert found.kind == "printing"
        assert "is_compiling" in found.fix
        export(forward, R(4, 4), x=batch())  # which runs it once, while tracing
    jit(silent_when_compiled, R(4, 4), fullgraph=True)


def test_other_code_that_dynamo_cannot_follow_is_no_print():
    def opens(self, x):
        return x + len(open(__file__).read())

    found = told(lambda: jit(opens, R(4, 4), fullgraph=True))
    assert found.kind == "graph break"
    assert "print" not in found.cause + found.fix


def test_code_that_leaves_torch():
    assert told(lambda: export(lambda self, x: x + torch.from_numpy(x.numpy()), R(4, 4))).kind == "leaves torch"


def test_an_operator_that_cannot_be_traced():
    def quantizes(self, x):
        return torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255)

    found = told(lambda: export(quantizes, R(4, 4), x=batch()))
    assert found.kind == "operator"
    assert "aten.fake_quantize_per_tensor_affine_cachemask.default" in found.cause


@dataclasses.dataclass
class Scores:
    scores: torch.Tensor


def test_a_result_of_a_class_that_export_does_not_know():
    found = told(lambda: export(lambda self, x: Scores(self.linear(x)), R(4, 4)))
    assert found.kind == "class of the result"
    assert "returns a Scores," in found.cause
    torch.export.register_dataclass(Scores)  # what the fix says
    export(lambda self, x: Scores(self.linear(x)), R(4, 4))


class Moments(NamedTuple):
    mean: torch.Tensor


@pytest.mark.slow
def test_a_named_tuple_in_a_package():
    exported = export(lambda self, x: Moments(x.mean(dim=1)), R(4, 4))
    found = told(torch._inductor.aoti_compile_and_package, exported)
    assert found.kind == "class of the result"
    assert "returns a Moments, a named tuple" in found.cause


def test_another_dtype_than_was_captured():
    of_bfloat16 = torch.ops.aten._assert_tensor_metadata.default
    assert told(of_bfloat16, torch.ones(2), None, None, torch.bfloat16).kind == "dtype"


def test_faults_of_inductor():
    from torch._C._dynamo.guards import assert_size_stride
    from torch.utils._sympy.value_ranges import ValueRanges

    for fault in (lambda: ValueRanges(0, -1), lambda: assert_size_stride(torch.ones(4, 4).t(), (4, 4), (4, 1))):
        assert told(fault).kind == "fault of Inductor"


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
    mutating = export(writes, R(4, 4), x=batch()).module()  # no error: the program writes into its input as well
    given = torch.zeros(3, 4)
    mutating(given)
    assert given[0, 0] == 1


# ---- calls ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported():
    with torch.no_grad():
        return export(lambda self, x: self.linear(x) + 1, R(4, 7, 4), x=batch(3, 32))


@pytest.mark.parametrize("guards", [True, False])
@pytest.mark.parametrize(
    ("shape", "says"), [((33, 7, 4), "<= 32"), ((2, 7, 4), ">= 3"), ((4, 8, 4), "7"), ((4, 7), None)]
)
def test_an_exported_program_called_with_another_size(exported, guards, shape, says):
    found = told(exported.module(check_guards=guards), R(shape))
    if not says and guards:  # a bare IndexError of the code that checks
        assert found.kind == "unknown"
    else:
        assert found.kind == ("call outside the range" if says else "number of dimensions")
        assert (says or "dimensions") in found.cause


def test_a_guard_that_range_constraints_do_not_show():
    grid = {1: Dim("h", min=2, max=8), 2: Dim("w", min=2, max=8)}
    program = export(lambda self, x: x.flatten(1, 2) + self.table, R(2, 2, 4, 4), x=grid)
    assert str(list(program.range_constraints.values())) == "[VR[2, 8], VR[2, 8]]"
    found = told(program.module(), R(2, 4, 4, 4))
    assert found.kind == "hidden guard"
    assert "x.size()[1] * x.size()[2] == 8" in found.cause


def test_a_number_that_breaks_a_promise():
    def first(self, x, n):
        k = n.item()
        torch._check(k >= 2)
        torch._check(k <= 5)
        return x[:k] + 1

    program = export(first, R(9, 4), torch.tensor(3)).module()
    found = told(program, R(9, 4), torch.tensor(8))
    assert found.kind == "call outside the range"
    assert "torch._check" in found.fix


def forbidden(program, *inputs):
    with torch.compiler.set_stance("fail_on_recompile"):
        program(*inputs)


def test_recompiling_where_it_is_forbidden():
    program = jit(lambda self, x: self.linear(x) + 1, R(4, 4))
    program(R(1, 4))  # an engine of its own, whose reasons are in the messages too
    outside = told(forbidden, program, R(33, 4))
    assert "not compiled for: 2 to 32" in outside.cause
    fixed = told(forbidden, program, R(4, 5))
    assert "x has 5 in dimension 1" in fixed.cause
    assert "mark_dynamic(x, 1" in fixed.fix
    with torch.enable_grad():
        mode = told(forbidden, program, R(4, 4))
    assert "mode (grad_mode)" in mode.cause
    dtype = told(forbidden, program, R(4, 4).double())
    assert "dtype mismatch" in dtype.quote
    assert {one.kind for one in (outside, fixed, mode, dtype)} == {"recompile"}


def test_recompiling_as_an_error_of_its_own():
    program = jit(lambda self, x: x + 1, R(4, 4), mark=False, dynamic=False)
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = told(program, R(5, 4))
    assert found.kind == "recompile"
    assert "x has 5 in dimension 0, and the program was compiled for 4" in found.cause


@pytest.mark.parametrize("how", [{"fail_on_recompile_limit_hit": True}, {}])
def test_the_recompile_limit(how):
    forward = [lambda self, x: x + 1, lambda self, x: x + 2][len(how)]
    program = jit(forward, R(2, 4), mark=False, dynamic=False, fullgraph=not how)
    with torch._dynamo.config.patch(recompile_limit=2, **how):
        found = told(lambda: [program(R(n, 4)) for n in range(3, 7)])
    assert found.kind == "recompile limit"
    assert "mark_dynamic" in found.fix


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


def test_two_sizes_that_do_not_fit():
    found = told(lambda: R(1, 401, 3) + R(1, 197, 3))
    assert found.kind == "sizes"
    assert "401 and 197 in dimension 1" in found.cause
    assert "table" in found.fix
    for call in (
        lambda: export(lambda self, x: x + self.table, R(5, 4), x=batch()),
        lambda: jit(lambda self, x: x + self.table, R(5, 4)),
        lambda: export(linear, R(2, 5), x=batch()),
        lambda: jit(linear, R(2, 5)),
        lambda: model(linear)(R(4, 5)),
        lambda: R(4, 5).view(7, -1),
        lambda: torch.cat([R(4, 5), R(4, 6)]),
        lambda: nn.Conv2d(3, 4, 3)(R(1, 4, 8, 8)),
        lambda: nn.LayerNorm(5)(R(4, 6)),
        lambda: nn.LSTM(4, 4)(R(2, 3, 5)),
    ):
        assert told(call).kind == "sizes"


def test_dtypes_that_differ():
    convolution = nn.Conv2d(3, 4, 3)
    for call in (
        lambda: model(linear)(R(4, 4).double()),
        lambda: jit(lambda self, x: self.linear(x) * 2, R(4, 4).half()),
        lambda: convolution(R(2, 3, 8, 8).half()),
        lambda: export(lambda self, x: convolution(x), R(2, 3, 8, 8).double()),
        lambda: torch.bmm(R(2, 3, 4), R(2, 4, 5).double()),
        lambda: R(3, 4) @ torch.ones(4, 4, dtype=torch.long),
    ):
        found = told(call)
        assert found.kind == "dtype"
        assert "model's dtype" in found.fix
    ids = told(lambda: nn.Embedding(10, 4)(R(3)))
    assert ids.kind == "dtype"
    assert "long()" in ids.fix  # and not the model's dtype


def test_a_guard_that_does_not_hold_is_not_called_unproven():
    def fours(self, x):
        return x.reshape(x.shape[0] // 4, 4, -1) * 1

    for name in ("b", "b2"):
        groups = told(lambda name=name: export(fours, R(8, 12), x=batch(4, 32, name)))
        assert groups.kind == "guard"
        assert "It does not hold at 9, for one" in groups.fix
    assert "It does not hold at 2, for one" in told(lambda: jit(fours, R(8, 12))).fix  # L['x'].size()[0] has digits
    half = told(lambda: export(lambda self, x: x[: x.shape[0] // 2] * 1, R(16, 4), x=batch(4, 32)))
    assert "It may hold all the same" in half.fix


def test_no_guard_is_computed_but_arithmetic():
    reason = (
        "  - Not all values of b = L['x'].size()[0] in the specified range 4 <= b <= 32 satisfy the generated guard "
    )
    for guard in ("__import__('os').getpid() == L['x'].size()[0]", "print(L['x'].size()[0])", "1 +* L['x'].size()[0]"):
        error = ConstraintViolationError(f"Constraints violated (b)!\n{reason}{guard}.")
        assert "It may hold all the same" in explain(error).fix


def test_an_index_outside_its_table():
    found = told(lambda: nn.Embedding(10, 4)(torch.tensor([3, 10])))
    assert found.kind == "index"
    assert "high=" in found.fix


def test_a_line_of_a_notebook_is_a_line_of_the_cell(tmp_path):
    cell = tmp_path / "ipykernel_4711" / "2890.py"
    cell.parent.mkdir()
    cell.write_text("def branch(self, x):\n    if x.sum() > 0:\n        return x + 1\n    return x - 1\n")
    defined = {}
    exec(compile(cell.read_text(), cell, "exec"), defined)
    cause = told(lambda: export(defined["branch"], R(4, 4))).cause
    assert "(line 2 of the cell" in cause
    assert "2890" not in cause


def test_devices_that_differ():
    for call in (
        lambda: export(linear, torch.empty(4, 4, device="meta")),
        lambda: jit(lambda self, x: x + self.table, torch.empty(8, 4, device="meta"), mark=False),
        lambda: model(linear)(torch.empty(4, 4, device="meta")),
    ):
        assert told(call).kind == "device"


def test_memory():
    found = told(lambda: torch.empty(2**50))
    assert found.kind == "memory"
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
        found = told(torch.compile(lambda x: x.sin() + 7), R(40, 41))
    assert found.kind == "C++ compiler"
    assert "doctor" in found.fix


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
    assert found.kind == "C++ compiler"
    assert "Python.h" in found.quote
    assert "python3-dev" in found.fix


# Messages as they stand in the source of Torch-TensorRT 2.11 to 2.14 and of TensorRT. None was seen here.
READ_ONLY = {
    "tensorrt profile": [
        RuntimeError(
            "[Error thrown at core/runtime/execute_engine.cpp:147] Expected ctx->setInputShape(name.c_str(), dims) "
            "to be true but got false\nError while setting the input shape"
        ),
        RuntimeError("Static dimension mismatch while setting input shape for x. Set dimensions are [4,9,768]."),
        RuntimeError("No optimization profile matches the input shapes (x: [64, 3])."),
        RuntimeError("Input x does not satisfy any optimization profiles."),
    ],
    "dtype": [
        RuntimeError("Expected input tensors to have type Half, found type float"),
        AssertionError("Dtype mismatch for 0th input(x). Expect torch.float32, got torch.float16."),
    ],
    "device": [RuntimeError("Expected input tensors to have device cuda, found device cpu")],
    "tensorrt target": [
        RuntimeError(
            "RuntimeError: \nIBuilder::buildSerializedNetwork: Error Code 9: Cannot compile operation "
            "[MATRIX_MULTIPLY]-[linear] for Turing (SM75): FP32 GEMM is not supported"
        )
    ],
    "tensorrt option": [
        AssertionError(
            "use_explicit_typing was set to True, however found that enabled_precisions was also specified (saw: "
            "{f16}, expected: dtype.f32, dtype.f4)."
        )
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
    assert found.kind == "unknown"
    assert not found.translated
    assert found.quote == "the backend is on fire"
    assert "not known" in found.cause
    assert explain(KeyboardInterrupt()).quote == "KeyboardInterrupt"


def test_an_error_says_what_it_was_raised_from():
    def start():
        try:
            export(linear, R(1, 4), x=batch())
        except Exception as error:
            raise RuntimeError("the service could not start") from error

    assert told(start).kind == "traced at one"


def test_an_error_that_was_only_being_handled_is_said_to_be_that():
    def start():
        try:
            export(linear, R(1, 4), x=batch())
        except Exception:
            [][1]

    found = told(start)
    assert found.kind == "traced at one"
    assert found.cause.startswith("IndexError was raised while this was being handled: ")


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
    assert found.kind == "fixed size"
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


def test_every_rule_is_told_apart_by_a_type_and_fills_its_templates():
    for rule in (*RULES, *READ, *OTHERWISE):
        assert rule.types
        assert not {"Exception", "BaseException"} & set(rule.types.split())
        assert rule.fix.endswith((".", ")."))


class UserError(Exception):
    """Upstream's errors are known by the names of their types."""


def test_an_error_that_hides_the_one_being_handled_is_not_explained_by_that():
    try:
        try:
            nn.functional.embedding(torch.tensor(7), torch.zeros(3, 2))
        except IndexError:
            raise KeyError("mine") from None
    except KeyError as error:
        found = explain(error)
    assert "being handled" not in found.cause


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
    assert (
        "(inner.py:9: return x + self.bias)" in explain(RuntimeError(f"{message}\n\nfrom user code:\n{frames}")).cause
    )


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
