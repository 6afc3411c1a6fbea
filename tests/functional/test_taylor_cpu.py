"""The compiled second-order form against its definition, in double precision."""

from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor

from qkv.functional._taylor_cpu import taylor_attention, usable

CHUNK = 32  # positions that go through the kernels at a time


def inputs(queries: int, keys: int, head_dim: int, value_dim: int, *, seed: int = 0, heads: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (queries, head_dim), (keys, head_dim), (keys, value_dim)
    return [torch.randn(2, heads, *shape, generator=generator).requires_grad_() for shape in shapes]


def definition(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    scores = query @ key.mT
    weights = 1 + scores + scores.square() / 2
    weights = weights.tril() if is_causal else weights
    return weights @ value / weights.sum(-1, keepdim=True)


def assert_is_its_definition(tensors: list[Tensor], *, is_causal: bool):
    exact = [x.detach().double().requires_grad_() for x in tensors]
    output, expected = taylor_attention(*tensors, is_causal=is_causal), definition(*exact, is_causal=is_causal)
    cotangent = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = [output, *torch.autograd.grad(output, tensors, cotangent.float())]
    theirs = [expected, *torch.autograd.grad(expected, exact, cotangent)]
    # An entry is a sum of terms that may cancel, all of them even: with one key nothing comes back to it or to the
    # queries, out of the same terms that make its value's gradient. All are as exact as the largest of these sums.
    scale = max(1.0, *(float(other.detach().abs().max()) for other in theirs))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.double(), other, rtol=0, atol=1e-5 * scale)


def test_by_hand():
    # One coordinate. s = (0, 2): weights 1 + s + s^2/2 = (1, 5), so the second query has (1 * 4 + 5 * 10) / 6 = 9.
    query, key = torch.tensor([[3.0], [2.0]]), torch.tensor([[0.0], [1.0]])
    output = taylor_attention(query, key, torch.tensor([[4.0], [10.0]]), is_causal=True)
    assert output.tolist() == [[4.0], [pytest.approx(9)]]


@settings(max_examples=25)
@given(
    length=st.integers(1, 3 * CHUNK),
    keys=st.integers(1, 2 * CHUNK),
    head_dim=st.integers(1, 17),
    value_dim=st.integers(1, 11),
    is_causal=st.booleans(),
    seed=st.integers(0, 99),
)
@example(length=CHUNK, keys=1, head_dim=16, value_dim=64, is_causal=True, seed=0)
@example(length=CHUNK + 1, keys=2 * CHUNK, head_dim=16, value_dim=64, is_causal=False, seed=0)
@example(length=76, keys=1, head_dim=1, value_dim=9, is_causal=False, seed=0)
@example(length=307, keys=311, head_dim=37, value_dim=41, is_causal=True, seed=0)  # past the small products
@example(length=307, keys=311, head_dim=37, value_dim=41, is_causal=False, seed=0)
def test_values_and_gradients(length: int, keys: int, head_dim: int, value_dim: int, is_causal: bool, seed: int):
    tensors = inputs(length, length if is_causal else keys, head_dim, value_dim, seed=seed, heads=1)
    with torch.no_grad():
        for x in tensors[:2]:
            x *= head_dim**-0.25
    assert_is_its_definition(tensors, is_causal=is_causal)


@pytest.mark.parametrize("is_causal", [False, True])
def test_views_of_any_order(is_causal: bool):
    # As heads come out of a projection: neither the heads nor the positions lie side by side.
    packed = torch.randn(2, 61, 3, 5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert_is_its_definition(list(packed.permute(2, 0, 3, 1, 4).unbind()), is_causal=is_causal)


@pytest.mark.parametrize("is_causal", [False, True])
def test_gradients_of_gradients(is_causal: bool):
    tensors = inputs(5, 5, 2, 3, heads=1)
    exact = [x.detach().double().requires_grad_() for x in tensors]

    def curvature(attend, at: list[Tensor]) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(attend(*at, is_causal=is_causal).square().sum(), at, create_graph=True)
        return torch.autograd.grad(sum(part.square().sum() for part in first), at)

    for mine, other in zip(curvature(taylor_attention, tensors), curvature(definition, exact), strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("is_causal", [False, True])
def test_threads_change_nothing(is_causal: bool):
    tensors = [x.detach() for x in inputs(101, 101, 16, 13)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = taylor_attention(*tensors, is_causal=is_causal)
        torch.set_num_threads(3)
        with ThreadPoolExecutor(4) as pool:  # several callers at once
            outputs = list(pool.map(lambda _: taylor_attention(*tensors, is_causal=is_causal), range(8)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(output, expected) for output in outputs)


def test_what_the_kernels_are_for():
    query, key, value = inputs(5, 7, 2, 3)
    assert usable(query, key, value)
    assert not usable(query.double(), key, value)
    assert not usable(query, key[..., :0, :], value[..., :0, :])
    assert not usable(query.to("meta"), key, value)
