import sys

import pytest
import torch
from torch import Tensor, nn

from qkv.check.curvature_report import agreement, as_loss
from qkv.errors import InputError, InputTypeError
from qkv.nn import TransformerEncoderLayer


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def verdicts(report) -> dict[str, str]:
    return {claim.name: claim.verdict for claim in report.claims}


ALL_RIGHT = {"reverse-over-reverse": "correct", "difference of gradients": "correct", "symmetry": "correct"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_is_right_agrees(dtype: torch.dtype):
    model, x = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype), double(7, 3).to(dtype)
    report = agreement(lambda m: m(x).square().mean(), model)
    assert report.ok
    assert verdicts(report) == ALL_RIGHT
    assert report["reverse-over-reverse"].tolerance == (1e-6 if dtype == torch.float64 else 1e-3)
    assert report["symmetry"].facts == {"parameters": 26}


class Gate(torch.autograd.Function):
    """`sum x^3`, whose backward pass, where it is `wrong`, takes `3 x_i x_(i-1)` for `3 x_i^2`: no gradient at all."""

    @staticmethod
    def forward(ctx, x: Tensor, wrong: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.wrong = wrong
        return (x**3).sum()

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * 3 * x * (x.roll(1) if ctx.wrong else x), None


@pytest.mark.parametrize("wrong", [False, True])
def test_a_backward_pass_that_is_no_gradient_is_found(wrong: bool):
    report = agreement(lambda x: Gate.apply(x, wrong), double(5), title="gate")
    assert verdicts(report) == {
        "difference of gradients": "wrong" if wrong else "correct",
        "forward-over-reverse": "undecided",
        "symmetry": "wrong" if wrong else "correct",
    }
    assert report.ok == (not wrong)
    assert report.notes[0] == "Held to reverse-over-reverse, along 3 random vectors, by 5 parameters."
    if wrong:
        assert report["difference of gradients"].facts["parameter"] == "argument 1"
        assert "the gradient of nothing" in report["symmetry"].explanation


class Detached(torch.autograd.Function):
    """`sum x^3`, whose backward pass hides that it depends on x: a right gradient, and no curvature."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x**3).sum()

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * 3 * x.detach() ** 2


def test_curvature_that_autograd_does_not_see_is_found_by_differences():
    report = agreement(lambda x: Detached.apply(x), double(5))
    assert verdicts(report)["difference of gradients"] == "wrong"
    (entry,) = report["difference of gradients"].entries
    assert entry.value == 0
    assert abs(entry.claimed) > 0.1


def test_a_kink_nearby_leaves_differences_undecided():
    # The slope of |x| jumps at 0, which is a millionth away: the difference steps over it, and halves with its step.
    report = agreement(lambda x: x.abs().sum() + (x**2).sum(), torch.tensor([1e-6, 2.0], dtype=torch.float64))
    assert verdicts(report) == ALL_RIGHT | {"difference of gradients": "undecided"}
    assert "there is a kink nearby" in report["difference of gradients"].explanation
    assert report.ok


def test_dropout_that_falls_otherwise_leaves_differences_undecided():
    layer, x = TransformerEncoderLayer(6, 2, 5, dropout=0.5, activation="gelu").double(), double(3, 5, 6)
    report = agreement(lambda m: m(x).sin().sum(), layer)
    assert verdicts(report) == ALL_RIGHT | {"difference of gradients": "undecided"}
    assert "evaluation mode" in report["difference of gradients"].explanation
    assert verdicts(agreement(lambda m: m(x).sin().sum(), layer.eval())) == ALL_RIGHT


def test_what_cannot_be_compared_is_refused():
    def loss(x: Tensor) -> Tensor:
        return x.square().sum()

    with pytest.raises(InputError, match=r"loss of curvature does not depend on any.*got argument 1.*\.detach"):
        agreement(lambda x: loss(x.detach()), torch.ones(3))
    with pytest.raises(InputError, match="2 or more; got 1"):
        agreement(loss, torch.ones(3), vectors=1)
    with pytest.raises(InputError, match=r"no way is named. Expected one or more of forward, reverse, difference"):
        agreement(loss, torch.ones(3), ways=[])
    with pytest.raises(InputError, match=r"seed is too small. Expected 0 or more; got -1"):
        agreement(loss, torch.ones(3), seed=-1)
    for tolerance in (-1.0, 0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match=r"tolerance cannot be used. Expected between 0 and 1"):
            agreement(loss, torch.ones(3), tolerance=tolerance)


@pytest.mark.usefixtures("no_shape_hook")
def test_unknown_ways_are_refused():
    with pytest.raises(InputError, match="unknown way 'sideways'"):
        agreement(torch.sum, torch.ones(3), ways=["sideways"])


# -- anyone's code ---------------------------------------------------------------------------------------------------


def test_modules_are_called_by_their_loss():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def loss(self, x: Tensor, power: int) -> Tensor:
            return (x @ self.weight) ** power

    for thing in (Model, Model()):
        loss, model = as_loss(thing, [torch.ones(3), 2], "Model")
        assert isinstance(model, Model)
        assert loss(model).item() == 9
        assert model.weight.dtype == torch.float64
    loss, model = as_loss(nn.Linear(3, 1, bias=False), [torch.zeros(3)], "linear")
    assert loss(model).item() == 0


def test_functions_are_differentiated_by_what_asks_for_it():
    def loss(weight: Tensor, places: Tensor, x: Tensor) -> Tensor:
        return (weight[places] * x).sum()

    arguments = [torch.ones(3), torch.tensor([0, 2]), torch.tensor([5.0, 7.0])]
    found, parameters = as_loss(loss, arguments, "loss")
    assert [x.tolist() for x in parameters] == [[1, 1, 1], [5, 7]]
    found, parameters = as_loss(loss, [arguments[0].requires_grad_(), *arguments[1:]], "loss")
    assert [x.tolist() for x in parameters] == [[1, 1, 1]]
    assert found(2 * parameters[0]).item() == 24


def test_code_that_cannot_be_called_is_refused():
    with pytest.raises(InputTypeError, match=r"three has no curvature.*got int"):
        as_loss(3, [], "three")
    with pytest.raises(InputTypeError, match=r"loss came without tensors.*got str.*`loss_sample` beside it"):
        as_loss(len, ["text"], "loss")
    with pytest.raises(InputError, match=r"test_curvature_report.py, line \d+: loss raises RuntimeError: .*must match"):
        as_loss(lambda x: (x + torch.ones(2)).sum(), [torch.ones(3)], "loss")
    with pytest.raises(InputError, match=r"test_curvature_report.py, line \d+: loss raises SystemExit: 3"):
        as_loss(lambda x: sys.exit(len(x)), [torch.ones(3)], "loss")
    with pytest.raises(InputError, match=r"^linear raises RuntimeError: "):  # in a line of torch, which says nothing
        as_loss(nn.Linear(2, 1), [torch.ones(3)], "linear")
