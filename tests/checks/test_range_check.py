import numpy as np
import pytest
import torch

from tutorial_lib import DynamicDim, OutOfRange, ShapeError, TensorSpec
from tutorial_lib.builds.backends import as_device
from tutorial_lib.checks import range_check as guard_module
from tutorial_lib.checks.range_check import Guard

DEVICE = as_device()


def guard(*specs):
    return Guard(specs or (TensorSpec("x", (DynamicDim("batch", 2, 4, 8), 3, 5)),), DEVICE)


def right(batch=4):
    return torch.zeros(batch, 3, 5, device=DEVICE)


class Subclass(torch.Tensor):
    pass


def inference_tensor():
    with torch.inference_mode():
        return right()


WRONG = {  # each differs from right() in this one property
    "fixed size": (lambda: torch.zeros(4, 3, 6, device=DEVICE), ["x has size 6 in dim 2", "fixed at 5"]),
    "rank": (lambda: torch.zeros(4, 15, device=DEVICE), ["2 dimensions", "(4, 15)", "[batch, 3, 5]"]),
    "scalar": (lambda: torch.tensor(1.0, device=DEVICE), ["0 dimensions"]),
    "dtype": (lambda: right().double(), ["torch.float64", "x.to(torch.float32)"]),
    "device": (lambda: right().to("meta"), ["on meta", f"x.to('{DEVICE}')"]),
    "transposed": (lambda: torch.zeros(4, 5, 3, device=DEVICE).mT, ["(15, 1, 3)", "x.contiguous()"]),
    "expanded": (lambda: right(1).expand(4, -1, -1), ["not contiguous", "x.contiguous()"]),
    "requires grad": (lambda: right().requires_grad_(), ["requires grad", "x.detach()"]),
    "parameter": (lambda: torch.nn.Parameter(right()), ["requires grad", "x.detach()"]),
    "inference tensor": (inference_tensor, ["inference_mode", "x.clone()"]),
    "subclass": (lambda: right().as_subclass(Subclass), ["Subclass", "plain torch.Tensor"]),
    "sparse": (lambda: right().to_sparse(), ["torch.sparse_coo", "x.to_dense()"]),
    "nested": (lambda: torch.nested.as_nested_tensor([right()[0]] * 4), ["x"]),
    "lazily negated": (lambda: torch._neg_view(right()), ["x"]),
    "array": (lambda: np.zeros((4, 3, 5), np.float32), ["ndarray", "torch.Tensor"]),
    "nothing": (lambda: None, ["NoneType", "torch.Tensor"]),
}


@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_input_is_refused_in_one_sentence_before_and_after_a_right_one(wrong):
    make, words = WRONG[wrong]
    check = guard()
    for _ in range(2):
        with pytest.raises(ShapeError) as refused:
            check([make()])
        message = str(refused.value)
        assert not isinstance(refused.value, OutOfRange)
        assert all(word in message for word in words), message
        assert "\n" not in message
        check([right()])  # the guard remembers what it accepted
        check([right()])


def test_every_size_in_range_is_accepted_again_and_again_and_no_other():
    check = guard()
    for _ in range(3):
        for batch in (2, 3, 4, 8):
            check([right(batch)])
        for batch in (0, 1, 9, 100):
            with pytest.raises(OutOfRange, match=rf"^batch is {batch} on x; .* 2 to 8"):
                check([right(batch)])
    fixed = guard(TensorSpec("x", (DynamicDim("batch", 4, 4, 4), 3, 5)))
    fixed([right()])
    with pytest.raises(OutOfRange, match=r"batch is 3 on x.* built for 4:"):
        fixed([right(3)])


def test_the_number_of_inputs_is_checked():
    for count in (0, 2):
        with pytest.raises(ShapeError, match=rf"{count} inputs.* takes 1 \(x\)"):
            guard()([right()] * count)


def test_a_wrong_tensor_is_never_called_out_of_range():
    # OutOfRange is what `outside` may serve by other means: then everything else has to be right
    for wrong in (right(9).double(), torch.zeros(9, 3, 6, device=DEVICE), torch.zeros(9, 5, 3, device=DEVICE).mT):
        with pytest.raises(ShapeError) as refused:
            guard()([wrong])
        assert not isinstance(refused.value, OutOfRange)


@pytest.fixture
def shared():
    batch, length = DynamicDim("batch", 1, 4, 8), DynamicDim("length", 2, 4, 6)
    return guard(TensorSpec("x", (batch, length, 3)), TensorSpec("mask", (length, batch)))


def pair(x, mask):
    return [torch.zeros(x, device=DEVICE), torch.zeros(mask, device=DEVICE)]


def test_a_shared_dim_has_to_be_one_size_in_its_own_range(shared):
    shared(pair((4, 5, 3), (5, 4)))
    for _ in range(2):
        with pytest.raises(ShapeError, match="batch is 4 on x but 3 on mask"):
            shared(pair((4, 5, 3), (5, 3)))
        with pytest.raises(ShapeError, match="length is 5 on x but 6 on mask"):
            shared(pair((4, 5, 3), (6, 4)))
    shared(pair((3, 6, 3), (6, 3)))
    with pytest.raises(OutOfRange, match=r"length is 7 on x.* 2 to 6"):
        shared(pair((4, 7, 3), (7, 4)))
    with pytest.raises(OutOfRange, match=r"batch is 9 on x.* 1 to 8"):
        shared(pair((9, 4, 3), (4, 9)))
    x, mask = pair((4, 5, 3), (5, 4))
    with pytest.raises(ShapeError, match=r"mask is torch\.float64"):
        shared([x, mask.double()])


def test_two_axes_of_one_tensor_that_share_a_dim_have_to_be_one_size():
    side = DynamicDim("side", 1, 4, 8)
    check = guard(TensorSpec("x", (side, side)))
    check([torch.zeros(3, 3, device=DEVICE)])
    with pytest.raises(ShapeError, match="side is 3 on x but 4"):
        check([torch.zeros(3, 4, device=DEVICE)])


def test_what_looks_unusual_but_is_right_is_accepted():
    check = guard(TensorSpec("x", (DynamicDim("batch", 1, 4, 8), 3, 5)))
    check([torch.nn.Parameter(right(), requires_grad=False)])
    check([torch.zeros(100, device=DEVICE)[7:67].view(4, 3, 5)])  # in the middle of a larger buffer
    check([right(8)[2:6]])
    check([right().narrow(0, 2, 1)])
    for stride in (15, 5, 1, 1000):  # that of a dim of size one means nothing
        check([torch.zeros(2000, device=DEVICE).as_strided((1, 3, 5), (stride, 5, 1))])


def test_the_memory_of_accepted_inputs_is_bounded_and_holds_none_that_was_refused(monkeypatch):
    monkeypatch.setattr(guard_module, "REMEMBERED", 16)
    check = guard(TensorSpec("x", (DynamicDim("batch", 1, 4, 1000), 3)))
    for batch in range(1, 101):
        for _ in range(2):
            check([torch.zeros(batch, 3, device=DEVICE)])
        assert len(check._accepted) <= 16
    before = set(check._accepted)
    with pytest.raises(OutOfRange):
        check([torch.zeros(1001, 3, device=DEVICE)])
    assert check._accepted == before
