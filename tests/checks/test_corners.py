"""Programs are compared with eager at the ends of every range, within a budget, and what is left out is told."""

import math

import pytest
import torch
from torch import nn

from tutorial_lib import PATHS, BuildError, Case, DynamicDim, TensorSpec, sweep
from tutorial_lib.checks import corners
from tutorial_lib.checks.agreement import NotRepeatable
from tutorial_lib.checks.corners import WrongAtCorner, check_corners, estimate, free_bytes, label, too_large


class Scores(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return torch.softmax(self.linear(x) @ self.linear(x).mT, -1)


@pytest.fixture
def case():
    shape = (DynamicDim("batch", 1, 3, 6), DynamicDim("length", 2, 5, 12), 8)
    return Case("scores", Scores(), (TensorSpec("x", shape),))


def test_the_corners_are_each_end_by_itself_and_all_together(case):
    assert [tuple(sizes.values()) for sizes in corners.corners(case.dims)] == [
        (1, 5),
        (3, 2),
        (1, 2),
        (3, 5),
        (6, 5),
        (3, 12),
        (6, 12),
    ]


def test_a_right_program_is_checked_at_every_corner(case, path):
    build = PATHS[path](case, "eager").build
    assert set(build.checked) == {label(sizes) for sizes in corners.corners(case.dims)}
    assert build.not_checked == ()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"batch": 6}, r"batch 6 .*a max of 5\."),
        ({"length": 2}, r"length 2 .*a min of 3\."),
        ({"batch": 6, "length": 12}, "a max of 5 for batch or a max of 11 for length"),
        ({"batch": 3, "length": 5}, "batch 3 and length 5"),
    ],
)
def test_a_program_that_is_wrong_at_one_end_alone_is_refused_with_what_to_type(case, wrong, told):
    def program(x):
        sizes = dict(zip(case.dims, x.shape, strict=False))
        factor = 1.01 if wrong.items() <= sizes.items() and (len(wrong) > 1 or sizes != case.sizes()) else 1
        return case.model(x) * factor

    with pytest.raises(WrongAtCorner, match=f"is wrong at .*{told}"):
        check_corners(case, program)


@pytest.mark.parametrize("error", [RuntimeError, AssertionError])  # the latter is a guard of torch.export's
@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (lambda batch, length: length < 12, r"cannot run at length 12 \(no kernel\); use a max of 11"),
        (lambda batch, length: batch == 3, "use another path or backend"),  # no other end is advised
    ],
)
def test_a_program_that_fails_where_eager_does_not_is_refused(case, error, runs, told):
    def program(x):
        if not runs(*x.shape[:2]):
            raise error("no kernel")
        return case.model(x)

    with pytest.raises(WrongAtCorner, match=told):
        check_corners(case, program)


def test_a_random_model_is_refused_though_its_errors_are_as_large_as_the_program_s():
    class Dropout(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5)

    case = Case("dropout", Dropout(), (TensorSpec("x", (DynamicDim("batch", 1, 4, 8), 16)),))
    with pytest.raises(NotRepeatable):
        check_corners(case, case.model)


def test_a_table_that_is_shorter_than_the_range_is_found_by_eager_before_the_program_runs():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 4)

        def forward(self, x):
            return x + self.table(torch.arange(x.shape[1]))

    x = TensorSpec("x", (2, DynamicDim("length", 2, 5, 12), 4))
    with pytest.raises(BuildError, match=r"^positions itself cannot run at length 12 .*limit="):
        PATHS["export"](Case("positions", Positions(), (x,)), "eager")


def test_sizes_above_opt_are_left_out_beyond_the_budget_and_the_verdict_says_so(case):
    with corners.budget(0.0):
        program = PATHS["export"](case, "eager")
    assert [entry.split(":")[0] for entry in program.build.not_checked] == [
        "batch 6, length 5",
        "batch 3, length 12",
        "batch 6, length 12",
    ]
    assert "batch 1, length 2" in program.build.checked
    assert "batch 6, length 12" in str(program.build)
    result = sweep({"export": program}, [3, 6], min_samples=1, min_seconds=0.0)
    assert result.agrees
    assert "Not checked: export at batch 3, length 12" in result.verdict
    assert "batch 6, length 5" not in result.verdict  # the sweep itself has compared it
    assert corners._budget == corners.BUDGET_SECONDS  # after the block


@pytest.mark.parametrize(("seconds", "left", "said"), [(0.25001, 0.5, "0.51 s"), (0.2, 0.39999, "0.40 s")])
def test_the_seconds_that_are_too_many_are_told_apart_from_those_that_are_left(case, monkeypatch, seconds, left, said):
    monkeypatch.setattr(corners, "estimate", lambda case, sizes: None)  # the seconds then grow with the sizes
    smaller, larger = {"batch": 3, "length": 5}, {"batch": 6, "length": 5}
    reason = corners._too_slow(case, larger, (smaller, seconds), left, {})
    assert reason.startswith(f"eager takes about {said}, and of the 0.5 s for checks above opt ")
    assert reason.endswith(f" {math.floor(100 * left) / 100:.2f} s are left")
    assert said not in reason.split(", and")[1]


def test_memory_and_work_are_estimated_without_running_the_model(case):
    small, large = estimate(case, {"batch": 1, "length": 4}), estimate(case, {"batch": 2, "length": 4})
    assert large.flops == 2 * small.flops > 0
    assert small.written_bytes < large.written_bytes <= 2 * small.written_bytes
    assert small.written_bytes >= small.peak_bytes >= 4 * (4 * 8 + 4 * 4)
    quadratic = estimate(case, {"batch": 1, "length": 4000})
    assert quadratic.peak_bytes > 4 * 4000 * 4000
    assert quadratic.times(small) > 1000**2 / 10


def test_what_does_not_fit_in_memory_is_not_run():
    x = TensorSpec("x", (DynamicDim("length", 2, 4, 2**30), 8))
    case = Case("huge", Scores(), (x,))
    assert free_bytes(case.device) > 2**20
    assert too_large(case, {"length": 4}) is None
    build = PATHS["export"](case, "eager").build
    (entry,) = build.not_checked
    assert entry.startswith("length 1073741824: comparing takes about")


class Adds(nn.Module):
    def forward(self, x):
        x += 1
        return x * 2


def test_a_program_has_to_write_into_its_inputs_as_eager_does():
    case = Case("adds", Adds(), (TensorSpec("x", (DynamicDim("batch", 1, 4, 9), 3)),))
    assert check_corners(case, Adds()).checked
    for program in (lambda x: (x + 1) * 2, lambda x: (x + 1) * 2 + 0 * x.zero_()):
        with pytest.raises(WrongAtCorner, match="leaves other numbers in its inputs"):
            check_corners(case, program)


class Kernel(nn.Module):
    def forward(self, x):
        return nn.functional.avg_pool1d(x, 6)


def test_where_the_model_itself_cannot_run_its_range_is_blamed():
    case = Case("kernel", Kernel(), (TensorSpec("x", (1, 2, DynamicDim("length", 4, 12, 20))),))
    with pytest.raises(WrongAtCorner, match=r"kernel itself cannot run at length 4.* min of 6"):
        check_corners(case, case.eager)
