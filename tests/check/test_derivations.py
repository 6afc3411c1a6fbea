"""The backward passes that mistakes are planted in are right: torch has the same losses and gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.check.planted import derivations
from tests.check.planted.cases import SLOPES, Case, right


def window(embedding, w1, b1, w2, b2, *, ids, hidden) -> Tensor:
    e = F.embedding(ids.masked_fill(hidden, 0), embedding).flatten(1)
    z = F.linear(torch.sigmoid(F.linear(e, w1, b1)), w2, b2).unflatten(1, (ids.shape[1], -1))
    return F.cross_entropy(z[hidden], ids[hidden])


def lstm(weight_ih, weight_hh, bias, h0, c0, *, x, target) -> Tensor:
    state = h0.expand(x.shape[1], -1), c0.expand(x.shape[1], -1)
    loss = torch.zeros((), dtype=x.dtype)
    for step, wanted in zip(x, target, strict=True):
        state = torch.lstm_cell(step, state, weight_ih, weight_hh, bias, torch.zeros_like(bias))
        loss = loss + F.mse_loss(state[0], wanted, reduction="sum") / (2 * x.shape[1])
    return loss


def attention(x, wq, wk, wv, wo, *, real, allowed, target) -> Tensor:
    y = F.scaled_dot_product_attention(x @ wq, x @ wk, x @ wv, attn_mask=allowed) @ wo
    return F.mse_loss(y[real], target[real], reduction="sum") / (2 * int(real.sum()))


def layer_norm(w1, b1, gamma, beta, w2, b2, *, x, labels, activation, slope) -> Tensor:
    slopes = {derivations.tanh_slope: torch.tanh, derivations.relu_slope: F.relu}
    h = slopes.get(slope, F.hardtanh)(F.layer_norm(F.linear(x, w1, b1), b1.shape, gamma, beta, derivations.EPS))
    assert activation in [pair[0] for pair in SLOPES.values()]
    return F.cross_entropy(F.linear(h, w2, b2), labels)


def convolution(images, filters, bias, weight, *, target, stride, padding) -> Tensor:
    pooled = F.relu(F.conv2d(images, filters, bias, stride, padding)).mean(dim=(2, 3))
    return F.mse_loss(pooled @ weight.T, target, reduction="sum") / (2 * len(target))


def max_pooling(filters, bias, weight, *, images, target, stride) -> Tensor:
    top = F.conv2d(images, filters, bias, stride).flatten(2).max(dim=-1).values
    return F.mse_loss(top @ weight.T, target, reduction="sum") / (2 * len(target))


BY_TORCH: dict[Callable[..., Any], Callable[..., Tensor]] = {
    derivations.window: window,
    derivations.lstm: lstm,
    derivations.attention: attention,
    derivations.layer_norm: layer_norm,
    derivations.convolution: convolution,
    derivations.max_pooling: max_pooling,
}


@pytest.mark.parametrize("case", right(), ids=lambda case: case.name)
def test_gradients_are_those_of_autograd(case: Case):
    single = "float32" in case.name
    close = partial(np.testing.assert_allclose, rtol=1e-5 if single else 0, atol=1e-5 if single else 1e-10)
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in case.parameters.items()}
    data = {name: torch.tensor(v) if isinstance(v, np.ndarray) else v for name, v in case.data.items()}
    expected = BY_TORCH[case.derivation](**tensors, **data)
    loss, gradients = case.function(case.parameters)
    close(loss, expected.item())
    assert list(gradients) == list(tensors)
    by_torch = torch.autograd.grad(expected, list(tensors.values()))
    for (name, gradient), other in zip(gradients.items(), by_torch, strict=True):
        assert gradient.dtype == (np.float32 if single else np.float64), name
        close(gradient, other.numpy(), err_msg=name)
        assert gradient.any(), f"{name} has no gradient to compare"
