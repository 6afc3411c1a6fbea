import pytest
import torch
from torch import Tensor

from qkv.functional import TaylorFeatures, in_the_open, linear_attention, softmax_attention
from qkv.functional.loss import linear_cross_entropy
from qkv.nn import TransformerEncoderLayer


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def softmax(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return softmax_attention(query, key, value, is_causal=True)[0]


def linear(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return linear_attention(query, key, value, TaylorFeatures(), is_causal=True)[0]


@pytest.mark.parametrize(("form", "name"), [(softmax, "softmax attention"), (linear, "linear attention")])
def test_the_open_path_gives_the_same_values_and_gradients_and_says_so(form, name: str):
    torch.manual_seed(0)
    given = [double(1, 2, 131, 3).requires_grad_() for _ in range(3)]
    said: list[str] = []
    fast = form(*given)
    with in_the_open(said.append):
        plain = form(*given)
    assert said == [name]
    torch.testing.assert_close(plain, fast, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(fast)
    for ours, theirs in zip(
        torch.autograd.grad(plain, given, cotangent), torch.autograd.grad(fast, given, cotangent), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_cross_entropy_in_the_open_has_a_second_derivative():
    torch.manual_seed(0)
    hidden, weight, bias = double(2, 3, 5).requires_grad_(), double(7, 5).requires_grad_(), double(7).requires_grad_()
    target, mask = torch.randint(7, (2, 3)), torch.ones(2, 3, dtype=torch.bool)

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, weight, bias, target, mask, label_smoothing=0.1)

    with in_the_open():
        assert torch.autograd.gradgradcheck(loss, (hidden, weight, bias))


def test_torchs_own_transforms_go_through_in_the_open():
    torch.manual_seed(0)
    layer = TransformerEncoderLayer(6, 2, 5, 0.0, torch.tanh).double()
    x, parameters = double(1, 3, 6), {name: p.detach() for name, p in layer.named_parameters()}

    def loss(bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters | {"linear1.bias": bias}, (x,)).sin().sum()

    at = parameters["linear1.bias"]
    with in_the_open():
        forward = torch.func.jacfwd(torch.func.jacrev(loss))(at)
        reverse = torch.func.jacrev(torch.func.jacrev(loss))(at)
    torch.testing.assert_close(forward, reverse)


def test_it_ends_with_its_block_even_by_an_error():
    said: list[str] = []
    with pytest.raises(ZeroDivisionError), in_the_open(said.append):
        raise ZeroDivisionError
    softmax(*double(3, 1, 2, 3, 2).unbind())
    assert said == []
