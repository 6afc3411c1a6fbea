import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional import (
    additive_attention,
    additive_attention_weights,
    causal_mask,
    naive_additive_attention,
    naive_softmax_attention,
    softmax_attention,
    softmax_attention_weights,
)

BATCH, HEADS, QUERIES, KEYS, HEAD_DIM, VALUE_DIM = 2, 3, 5, 7, 11, 13


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def softmax_inputs(keys: int = KEYS, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    return (
        normal(BATCH, HEADS, QUERIES, HEAD_DIM, dtype=dtype),
        normal(BATCH, HEADS, keys, HEAD_DIM, dtype=dtype),
        normal(BATCH, HEADS, keys, VALUE_DIM, dtype=dtype),
    )


def additive_inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return normal(BATCH, QUERIES, HEAD_DIM), normal(BATCH, KEYS, HEAD_DIM), normal(BATCH, KEYS, 13), normal(HEAD_DIM)


def random_mask(*shape: int) -> Tensor:
    """A mask whose second row of queries allows nothing."""
    mask = torch.rand(*shape) < 0.5
    mask[..., 1, :] = False
    return mask


def assert_same_values_and_gradients(ours: Tensor, theirs: Tensor, inputs: tuple[Tensor, ...]):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    cotangent = torch.randn_like(ours)
    gradients = [torch.autograd.grad(output, inputs, cotangent, retain_graph=True) for output in (ours, theirs)]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


# -- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("need_weights", [False, True])
def test_softmax_attention_by_hand(need_weights: bool):
    # head_dim 4, so the scale is 1/2; scores ln 3 and 0, weights 3/4 and 1/4, output 3/4 * 4 + 1/4 * 8 = 5.
    query = torch.tensor([[2 * math.log(3), 0, 0, 0]], dtype=torch.float64)
    key = torch.tensor([[1, 5, 5, 5], [0, 5, 5, 5]], dtype=torch.float64)
    value = torch.tensor([[4], [8]], dtype=torch.float64)
    output, weights = softmax_attention(query, key, value, need_weights=need_weights)
    assert output.item() == pytest.approx(5, abs=1e-12)
    assert weights is None or weights.tolist() == [[pytest.approx(0.75), pytest.approx(0.25)]]


def test_additive_attention_by_hand():
    # tanh(artanh(1/2) + 0) = 1/2 and tanh(0 + 0) = 0; v = 2 ln 3, so scores ln 3 and 0: weights 3/4 and 1/4.
    query = torch.zeros(1, 1, dtype=torch.float64)
    key = torch.tensor([[math.atanh(0.5)], [0]], dtype=torch.float64)
    value = torch.tensor([[4], [8]], dtype=torch.float64)
    output, weights = additive_attention(query, key, value, torch.tensor([2 * math.log(3)], dtype=torch.float64))
    assert weights.tolist() == [[pytest.approx(0.75), pytest.approx(0.25)]]
    assert output.item() == pytest.approx(5)


# -- parity with the definitions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", [(), (QUERIES, KEYS), (BATCH, 1, QUERIES, KEYS), (BATCH, HEADS, QUERIES, KEYS)])
@pytest.mark.parametrize("need_weights", [False, True])
def test_softmax_attention_is_its_definition(masked: tuple[int, ...], is_causal: bool, need_weights: bool):
    inputs = softmax_inputs()
    mask = random_mask(*masked) if masked else None
    output, weights = softmax_attention(*inputs, mask, scale=0.3, is_causal=is_causal, need_weights=need_weights)
    expected, expected_weights = naive_softmax_attention(*inputs, mask, scale=0.3, is_causal=is_causal)
    assert_same_values_and_gradients(output, expected, inputs)
    if weights is not None:
        assert_same_values_and_gradients(weights, expected_weights, inputs[:2])


@pytest.mark.parametrize("keys", [3, 5])
def test_causal_without_a_mask_is_its_definition(keys: int):
    inputs = softmax_inputs(keys)
    output, _ = softmax_attention(*inputs, is_causal=True)
    expected, _ = naive_softmax_attention(*inputs, causal_mask(QUERIES, keys))
    assert_same_values_and_gradients(output, expected, inputs)


@pytest.mark.parametrize("masked", [False, True])
def test_additive_attention_is_its_definition(masked: bool):
    inputs = additive_inputs()
    mask = random_mask(BATCH, QUERIES, KEYS) if masked else None
    output, weights = additive_attention(*inputs, mask)
    expected, expected_weights = naive_additive_attention(*inputs, mask)
    assert_same_values_and_gradients(output, expected, inputs)
    query, key, _, scorer = inputs
    assert_same_values_and_gradients(weights, expected_weights, (query, key, scorer))


def test_a_scorer_for_each_head_is_each_head_by_itself():
    query, key, value = softmax_inputs()
    scorers = normal(HEADS, HEAD_DIM)
    output, _ = additive_attention(query, key, value, scorers)
    heads = [additive_attention(*(x[:, i] for x in (query, key, value)), scorers[i])[0] for i in range(HEADS)]
    assert_same_values_and_gradients(output, torch.stack(heads, dim=1), (query, key, value, scorers))


# -- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("need_weights", [False, True])
def test_softmax_attention_gradients(need_weights: bool):
    inputs = (normal(2, 3, 2), normal(2, 5, 2), normal(2, 5, 3))
    mask = random_mask(2, 3, 5)

    def outputs(*inputs: Tensor) -> list[Tensor]:
        return [part for part in softmax_attention(*inputs, mask, need_weights=need_weights) if part is not None]

    assert torch.autograd.gradcheck(outputs, inputs)


def test_additive_attention_gradients():
    inputs = (normal(3, 2), normal(5, 2), normal(5, 3), normal(2))
    mask = random_mask(3, 5)
    assert torch.autograd.gradcheck(lambda *inputs: additive_attention(*inputs, mask), inputs)


# -- laws ------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), queries=st.integers(1, 5), keys=st.integers(1, 7), is_causal=st.booleans())
def test_weights_are_shares_of_what_is_allowed(seed: int, queries: int, keys: int, is_causal: bool):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(2, n, 3, generator=generator).double() * 4 for n in (queries, keys, keys))
    mask = torch.rand(2, queries, keys, generator=generator) < 0.5
    for output, weights in (
        softmax_attention(query, key, value, mask, is_causal=is_causal, need_weights=True),
        additive_attention(query, key, value, value[0, 0], mask & causal_mask(queries, keys) if is_causal else mask),
    ):
        allowed = mask & causal_mask(queries, keys) if is_causal else mask
        assert weights is not None
        assert bool((weights[~allowed] == 0).all())
        assert bool((weights >= 0).all())
        torch.testing.assert_close(weights.sum(-1), allowed.any(-1).double())
        torch.testing.assert_close(output, weights @ value)


def test_output_without_weights_is_output_with_weights():
    inputs = softmax_inputs()
    with_weights, weights = softmax_attention(*inputs, is_causal=True, need_weights=True)
    without, none = softmax_attention(*inputs, is_causal=True)
    assert weights is not None
    assert none is None
    assert_same_values_and_gradients(without, weights @ inputs[2], inputs)
    assert_same_values_and_gradients(with_weights, weights @ inputs[2], inputs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("keys", [KEYS, 1031])  # the fused path walks long rows in blocks
def test_nothing_to_attend_to_gives_zeros(dtype: torch.dtype, dropout: float, need_weights: bool, keys: int):
    inputs = softmax_inputs(keys, dtype)
    mask = random_mask(BATCH, 1, QUERIES, keys)
    output, weights = softmax_attention(*inputs, mask, dropout=dropout, need_weights=need_weights)
    assert bool((output[:, :, 1] == 0).all())
    assert bool(output.isfinite().all())
    assert weights is None or bool((weights[:, :, 1] == 0).all())
    gradients = torch.autograd.grad(output.float().square().sum(), inputs)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert bool((gradients[0][:, :, 1] == 0).all())


@pytest.mark.parametrize("need_weights", [False, True])
def test_a_masked_key_leaks_nothing(need_weights: bool):
    query, key, value = softmax_inputs()
    mask = torch.ones(QUERIES, KEYS, dtype=torch.bool)
    mask[:, 2] = False
    output, _ = softmax_attention(query, key, value, mask, need_weights=need_weights)
    key, value = key.clone(), value.clone()
    key[:, :, 2], value[:, :, 2] = 1e3, -1e3
    other, _ = softmax_attention(query, key, value, mask, need_weights=need_weights)
    assert torch.equal(output, other)


def test_dropout_scales_up_what_it_leaves_and_hands_out_what_made_the_output():
    query, key, value = softmax_inputs(keys=97)
    plain = softmax_attention_weights(query, key)
    output, weights = softmax_attention(query, key, value, dropout=0.5, need_weights=True)
    assert weights is not None
    kept = weights != 0
    assert 0.4 < kept.double().mean() < 0.6
    torch.testing.assert_close(weights[kept], 2 * plain[kept])
    torch.testing.assert_close(output, weights @ value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_single(dtype: torch.dtype):
    # 1031 equal scores: in bfloat16 a running sum of ones stops at 256, and the weights would be four times too large.
    query, key = torch.zeros(1, 2, dtype=dtype), torch.zeros(1031, 2, dtype=dtype)
    for weights in (
        softmax_attention_weights(query, key),
        additive_attention_weights(query, key, torch.ones(2, dtype=dtype)),
    ):
        assert weights.dtype == dtype
        assert weights.double().sum().item() == pytest.approx(1, rel=2**-8)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("form", ["plain", "masked", "causal"])
def test_bfloat16_trains_in_single(form: str, autocast: bool):
    # Only the inputs and what is handed out are in bfloat16, so the one error is the last rounding, by half a unit in
    # the eighth bit. In bfloat16 throughout, gradients are off by several units.
    inputs = softmax_inputs(dtype=torch.bfloat16)
    mask = random_mask(QUERIES, KEYS) if form == "masked" else None
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output, _ = softmax_attention(*inputs, mask, is_causal=form == "causal")
    cotangent = torch.randn_like(output)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected, _ = naive_softmax_attention(*exact, mask, is_causal=form == "causal")
    ours = [output, *torch.autograd.grad(output, inputs, cotangent)]
    theirs = [expected, *torch.autograd.grad(expected, exact, cotangent.double())]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.bfloat16
        torch.testing.assert_close(mine.double(), other, rtol=2**-8, atol=1e-6)


def test_bfloat16_without_gradients_stays_on_its_own_path(monkeypatch):
    seen = []
    fused = torch.nn.functional.scaled_dot_product_attention
    spy = lambda query, *rest, **options: seen.append(query.dtype) or fused(query, *rest, **options)  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    inputs = softmax_inputs(dtype=torch.bfloat16)
    softmax_attention(*inputs)
    with torch.no_grad():
        output, _ = softmax_attention(*inputs)
    assert seen == [torch.float32, torch.bfloat16]
    assert output.dtype == torch.bfloat16


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.usefixtures("no_shape_hook")
def test_masks_that_are_not_boolean_are_refused(need_weights: bool):
    with pytest.raises(InputTypeError, match=r"mask is of a type .*got torch\.float64.*mask_from_torch"):
        softmax_attention(*softmax_inputs(), torch.zeros(5, 7, dtype=torch.float64), need_weights=need_weights)
    with pytest.raises(InputTypeError, match="mask is of a type"):
        additive_attention(*additive_inputs(), torch.zeros(5, 7))


@pytest.mark.parametrize("shape", [(7, 5), (3, 1, 5, 7), (1, 2, 3, 5, 7)])
@pytest.mark.usefixtures("no_shape_hook")
def test_masks_of_other_shapes_are_refused(shape: tuple[int, ...]):
    with pytest.raises(InputError, match=r"mask does not fit .*\(2, 3, 5, 7\)"):
        softmax_attention(*softmax_inputs(), torch.ones(shape, dtype=torch.bool))
