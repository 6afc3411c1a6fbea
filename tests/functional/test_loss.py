import math

import pytest
import torch
from torch import Tensor

from qkv.functional import loss
from qkv.functional.loss import linear_cross_entropy, naive_linear_cross_entropy

BATCH, LENGTH, WIDTH, VOCAB = 3, 7, 5, 11


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Real positions are about a dozen here: pieces of five make several, the last one shorter."""
    torch.manual_seed(0)
    monkeypatch.setattr(loss, "_ROWS", 5)


def inputs(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    shapes = (BATCH, LENGTH, WIDTH), (VOCAB, WIDTH), (VOCAB,)
    hidden, weight, bias = ((scale * torch.randn(*shape, dtype=dtype)).requires_grad_() for shape in shapes)
    return hidden, weight, bias


def gold() -> tuple[Tensor, Tensor]:
    mask = torch.rand(BATCH, LENGTH) < 0.6
    mask[0] = False  # a row of nothing but padding
    assert int(mask.sum()) % 5 not in (0, int(mask.sum()))
    return torch.randint(VOCAB, (BATCH, LENGTH)), mask


@pytest.mark.parametrize("formula", [linear_cross_entropy, naive_linear_cross_entropy])
def test_smoothing_by_hand(formula):
    # Logits ln 3 and 0: -log softmax is ln 4/3 and ln 4. With e = 1/2 the first of two words is wanted by 3/4, the
    # second by 1/4: 3/4 (ln 4 - ln 3) + 1/4 ln 4 = ln 4 - 3/4 ln 3. The masked position would add to it.
    hidden = torch.tensor([[[math.log(3)], [5.0]]], dtype=torch.float64)
    weight = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    target, mask = torch.tensor([[0, 1]]), torch.tensor([[True, False]])
    value = formula(hidden, weight, None, target, mask, label_smoothing=0.5)
    assert value.item() == pytest.approx(math.log(4) - 0.75 * math.log(3), abs=1e-12)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("biased", [False, True])
def test_it_is_its_definition(biased: bool, label_smoothing: float):
    hidden, weight, bias = inputs()
    given = (hidden, weight, bias) if biased else (hidden, weight)
    rest = (*gold(), label_smoothing)

    def gradients(formula) -> list[Tensor]:
        target, mask, smoothing = rest
        value = formula(hidden, weight, bias if biased else None, target, mask, label_smoothing=smoothing)
        return [value, *torch.autograd.grad(3 * value, given)]

    for ours, theirs in zip(gradients(linear_cross_entropy), gradients(naive_linear_cross_entropy), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_gradients():
    target, mask = gold()

    def value(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, weight, bias, target, mask, label_smoothing=0.1)

    assert torch.autograd.gradcheck(value, inputs())


def test_a_frozen_output_layer_still_passes_gradients_on():
    (hidden, weight, bias), (target, mask) = inputs(), gold()
    expected = torch.autograd.grad(naive_linear_cross_entropy(hidden, weight, bias, target, mask), hidden)
    ours = torch.autograd.grad(linear_cross_entropy(hidden, weight.detach(), bias.detach(), target, mask), hidden)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


def test_padding_leaks_nothing():
    (hidden, weight, bias), (target, mask) = inputs(), gold()
    value = linear_cross_entropy(hidden, weight, bias, target, mask)
    (gradient,) = torch.autograd.grad(value, hidden)
    assert bool((gradient[~mask] == 0).all())
    assert bool((gradient[mask] != 0).all())
    other = torch.where(mask[..., None], hidden, 1e3)
    assert torch.equal(linear_cross_entropy(other, weight, bias, target.where(mask, 0), mask), value)


def test_far_logits_stay_finite():
    (hidden, weight, bias), (target, mask) = inputs(scale=300.0), gold()
    value = linear_cross_entropy(hidden, weight, bias, target, mask, label_smoothing=0.1)
    expected = naive_linear_cross_entropy(hidden, weight, bias, target, mask, label_smoothing=0.1)
    assert value.item() > 1e4
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)


def test_autocast_takes_products_in_its_type_and_sums_in_float32():
    # Products of bfloat16 numbers are off by 2**-9 of their size, which the mean over positions does not add up.
    (hidden, weight, bias), (target, mask) = inputs(torch.float32), gold()
    expected = naive_linear_cross_entropy(hidden, weight, bias, target, mask, label_smoothing=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = linear_cross_entropy(hidden, weight, bias, target, mask, label_smoothing=0.1)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=2**-8)
    gradients = torch.autograd.grad(value, (hidden, weight, bias))
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, (hidden, weight, bias)), strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm() / theirs.norm()) < 2**-6


@pytest.mark.parametrize("biased", [False, True])
def test_second_derivatives(biased: bool):
    (hidden, weight, bias), (target, mask) = inputs(), gold()
    given = (hidden, weight, bias) if biased else (hidden, weight)

    def value(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return linear_cross_entropy(hidden, weight, bias, target, mask, label_smoothing=0.1)

    assert torch.autograd.gradgradcheck(value, given)
    # The loss itself differentiated twice: what comes down is a constant one, which asks for no gradient.
    (gradient,) = torch.autograd.grad(value(*given), hidden, create_graph=True)
    expected = naive_linear_cross_entropy(hidden, weight, bias if biased else None, target, mask, label_smoothing=0.1)
    (theirs,) = torch.autograd.grad(expected, hidden, create_graph=True)
    for ours, own in zip(
        torch.autograd.grad(gradient.square().sum(), given, allow_unused=True),
        torch.autograd.grad(theirs.square().sum(), given, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, own, rtol=0, atol=1e-10)


def test_nothing_learned_costs_the_entropy_of_the_vocabulary():
    # Equal logits: log 11 whatever is wanted, and however smoothed.
    target, mask = gold()
    for e in (0.0, 0.3):
        zero = torch.zeros(BATCH, LENGTH, WIDTH), torch.zeros(VOCAB, WIDTH), torch.zeros(VOCAB)
        assert linear_cross_entropy(*zero, target, mask, label_smoothing=e).item() == pytest.approx(math.log(VOCAB))
