import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from qkv.errors import InputError, InputTypeError
from qkv.functional import (
    _softmax,
    additive_attention,
    additive_attention_weights,
    bilinear_attention,
    causal_mask,
    cosine_attention,
    kernel_attention,
    naive_additive_attention,
    naive_bilinear_attention,
    naive_cosine_attention,
    naive_kernel_attention,
    naive_softmax_attention,
    polynomial_kernel,
    rbf_kernel,
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


def squared_distances(query: Tensor, key: Tensor) -> Tensor:
    return (query[..., :, None, :] - key[..., None, :, :]).square().sum(-1)


@dataclass(frozen=True)
class Form:
    """A form of attention that takes query, key, value and mask, and its definition."""

    attend: Callable[..., tuple[Tensor, Tensor | None]]
    naive: Callable[..., tuple[Tensor, Tensor]]


def bilinear(formula: Callable) -> Callable:
    """`formula` with a matrix that depends on nothing but the width."""

    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options):
        width = query.shape[-1]
        weight = torch.linspace(-1, 1, width * width, dtype=torch.float64).view(width, width).to(query.dtype)
        return formula(query, key, value, weight, mask, **options)

    return attend


def kernel(formula: Callable, function: Callable) -> Callable:
    return lambda query, key, value, *rest, **options: formula(query, key, value, function, *rest, **options)


FORMS = {
    "scaled": Form(partial(softmax_attention, scale=0.3), partial(naive_softmax_attention, scale=0.3)),
    "cosine": Form(partial(cosine_attention, scale=5.0), partial(naive_cosine_attention, scale=5.0)),
    "bilinear": Form(bilinear(bilinear_attention), bilinear(naive_bilinear_attention)),
    "rbf": Form(
        kernel(kernel_attention, rbf_kernel(3.0)),
        kernel(naive_kernel_attention, lambda x, y: (-squared_distances(x, y) / 9).exp()),
    ),
    "polynomial": Form(
        kernel(kernel_attention, polynomial_kernel(2, 0.5)),
        kernel(naive_kernel_attention, lambda x, y: (torch.einsum("...qd,...kd->...qk", x, y) + 0.5).square()),
    ),
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


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


@every_form
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", [(), (QUERIES, KEYS), (BATCH, 1, QUERIES, KEYS), (BATCH, HEADS, QUERIES, KEYS)])
def test_a_form_is_its_definition(form: Form, masked: tuple[int, ...], is_causal: bool, same_values_and_gradients):
    inputs = softmax_inputs()
    mask = random_mask(*masked) if masked else None
    expected, expected_weights = form.naive(*inputs, mask, is_causal=is_causal)
    output, none = form.attend(*inputs, mask, is_causal=is_causal)
    assert none is None
    same_values_and_gradients(output, expected, inputs)
    output, weights = form.attend(*inputs, mask, is_causal=is_causal, need_weights=True)
    assert weights is not None
    same_values_and_gradients(output, expected, inputs)
    same_values_and_gradients(weights, expected_weights, inputs[:2])


@pytest.mark.parametrize("shape", [(), (HEADS,), (BATCH, 1)])
def test_bilinear_attention_compares_what_differs_in_width(shape: tuple[int, ...], same_values_and_gradients):
    query, key, value = softmax_inputs()
    inputs = (query[..., :3], key, value, normal(*shape, 3, HEAD_DIM))
    output, _ = bilinear_attention(*inputs)
    expected, _ = naive_bilinear_attention(*inputs)
    same_values_and_gradients(output, expected, (query, key, value, inputs[-1]))


@pytest.mark.parametrize("keys", [3, 5])
def test_causal_without_a_mask_is_its_definition(keys: int, same_values_and_gradients):
    inputs = softmax_inputs(keys)
    output, _ = softmax_attention(*inputs, is_causal=True)
    expected, _ = naive_softmax_attention(*inputs, causal_mask(QUERIES, keys))
    same_values_and_gradients(output, expected, inputs)


@pytest.mark.parametrize("masked", [False, True])
def test_additive_attention_is_its_definition(masked: bool, same_values_and_gradients):
    inputs = additive_inputs()
    mask = random_mask(BATCH, QUERIES, KEYS) if masked else None
    output, weights = additive_attention(*inputs, mask)
    expected, expected_weights = naive_additive_attention(*inputs, mask)
    same_values_and_gradients(output, expected, inputs)
    query, key, _, scorer = inputs
    same_values_and_gradients(weights, expected_weights, (query, key, scorer))


def test_a_scorer_for_each_head_is_each_head_by_itself(same_values_and_gradients):
    query, key, value = softmax_inputs()
    scorers = normal(HEADS, HEAD_DIM)
    output, _ = additive_attention(query, key, value, scorers)
    heads = [additive_attention(*(x[:, i] for x in (query, key, value)), scorers[i])[0] for i in range(HEADS)]
    same_values_and_gradients(output, torch.stack(heads, dim=1), (query, key, value, scorers))


# -- gradients -------------------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("need_weights", [False, True])
def test_first_and_second_gradients(form: Form, need_weights: bool):
    inputs = (normal(1, 2, 3, 2), normal(1, 2, 5, 2), normal(1, 2, 5, 2))  # what the fused kernels take
    mask = random_mask(3, 5)

    def outputs(*inputs: Tensor) -> list[Tensor]:
        return [part for part in form.attend(*inputs, mask, need_weights=need_weights) if part is not None]

    assert torch.autograd.gradcheck(outputs, inputs)
    assert torch.autograd.gradgradcheck(outputs, inputs)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_second_gradients_by_one_input_alone(which: int):
    inputs = [x.detach() for x in (normal(1, 2, 3, 2), normal(1, 2, 3, 2), normal(1, 2, 3, 2))]

    def output(x: Tensor) -> Tensor:
        return softmax_attention(*inputs[:which], x, *inputs[which + 1 :], is_causal=True)[0]

    assert torch.autograd.gradgradcheck(output, inputs[which].clone().requires_grad_())


def test_the_fused_graph_is_gone_through_as_often_as_asked():
    query, key, value = (normal(1, 2, 5, 7) for _ in range(3))
    output, _ = softmax_attention(query, key, value)
    first, second = (torch.autograd.grad(output.sum(), query, retain_graph=True) for _ in range(2))
    assert torch.equal(first[0], second[0])
    torch.autograd.grad(output.sum(), query)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(output.sum(), query)


def test_checkpoints_and_function_transforms_see_the_fused_path(same_values_and_gradients):
    inputs = tuple(normal(1, 2, 5, 7) for _ in range(3))
    attend = lambda *inputs: softmax_attention(*inputs, is_causal=True)[0]  # noqa: E731
    output = attend(*inputs)
    same_values_and_gradients(checkpoint(attend, *inputs, use_reentrant=False), output, inputs)
    expected = torch.autograd.grad(output.sum(), inputs)
    for ours, theirs in zip(torch.func.grad(lambda x: attend(*x).sum())(inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_additive_attention_gradients():
    inputs = (normal(3, 2), normal(5, 2), normal(5, 3), normal(2))
    mask = random_mask(3, 5)
    assert torch.autograd.gradcheck(lambda *inputs: additive_attention(*inputs, mask), inputs)
    assert torch.autograd.gradgradcheck(lambda *inputs: additive_attention(*inputs, mask), inputs)


# -- laws ------------------------------------------------------------------------------------------------------------


@every_form
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    queries=st.integers(1, 5),
    keys=st.integers(1, 7),
    size=st.sampled_from([0, 1, 100]),  # identical keys; scores about 1; scores of 1e4
    masked=st.booleans(),
    is_causal=st.booleans(),
)
def test_weights_are_shares_of_what_is_allowed(
    form: Form, seed: int, queries: int, keys: int, size: int, masked: bool, is_causal: bool
):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(2, n, 3, generator=generator).double() for n in (queries, keys, keys))
    allowed = torch.rand(2, queries, keys, generator=generator) < 0.5 if masked else torch.ones(2, queries, keys) > 0
    query, key = (size * query).requires_grad_(), (size * key).requires_grad_()
    output, weights = form.attend(
        query, key, value, allowed if masked else None, is_causal=is_causal, need_weights=True
    )
    allowed = allowed & causal_mask(queries, keys) if is_causal else allowed
    assert weights is not None
    assert bool((weights[~allowed] == 0).all())
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(-1), allowed.any(-1).double())
    torch.testing.assert_close(output, weights @ value)
    gradients = torch.autograd.grad(output.square().sum(), (query, key))
    for gradient, seen in zip(gradients, (allowed.any(-1), allowed.any(-2)), strict=True):
        assert bool(gradient.isfinite().all())
        assert bool((gradient[~seen] == 0).all())  # nothing leaks through the mask


@every_form
@pytest.mark.parametrize("need_weights", [False, True])
def test_without_any_key_there_are_zeros(form: Form, need_weights: bool):
    output, weights = form.attend(
        normal(1, 2, 5, 3), *(normal(1, 2, 0, 3) for _ in range(2)), need_weights=need_weights
    )
    assert output.tolist() == torch.zeros(1, 2, 5, 3).tolist()
    assert weights is None or weights.shape == (1, 2, 5, 0)


@every_form
def test_the_order_of_queries_and_of_keys_is_nothing(form: Form):
    query, key, value = softmax_inputs()
    mask = random_mask(QUERIES, KEYS)
    rows, columns = torch.randperm(QUERIES), torch.randperm(KEYS)
    output, weights = form.attend(query, key, value, mask, need_weights=True)
    moved = form.attend(
        query[:, :, rows], key[:, :, columns], value[:, :, columns], mask[rows][:, columns], need_weights=True
    )
    assert weights is not None
    torch.testing.assert_close(moved[0], output[:, :, rows])
    torch.testing.assert_close(moved[1], weights[:, :, rows][..., columns])


@pytest.mark.parametrize("need_weights", [False, True])
def test_cosines_know_no_length(need_weights: bool):
    inputs = softmax_inputs(dtype=torch.float32)
    query, key, value = (x.detach() for x in inputs)
    expected, _ = cosine_attention(query, key, value, scale=5.0)
    for length in (1e-30, 1e30):  # whose squares are nothing, and everything
        output, _ = cosine_attention(length * query, key / length, value, scale=5.0, need_weights=need_weights)
        torch.testing.assert_close(output, expected)


def test_a_vector_of_zeros_has_cosine_0_and_no_gradient():
    query, key, value = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True), torch.eye(2).double(), normal(2, 3)
    output, weights = cosine_attention(query, key, value, need_weights=True)
    assert weights is not None
    assert weights.tolist() == [[0.5, 0.5]]
    (gradient,) = torch.autograd.grad(output.sum(), query, create_graph=True)
    assert gradient.tolist() == [[0, 0]]
    (second,) = torch.autograd.grad(gradient.sum(), query)
    assert second.tolist() == [[0, 0]]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("value_dim", [HEAD_DIM, VALUE_DIM])
def test_maps_made_in_blocks_are_those_of_the_plain_form(masked: bool, value_dim: int, monkeypatch):
    queries, keys, blocks = 263, 257, []  # two blocks of rows, the last one of seven
    made = _softmax._attend_in_blocks
    monkeypatch.setattr(_softmax, "_attend_in_blocks", lambda *inputs: blocks.append(1) or made(*inputs))
    query, key, value = normal(1, 2, queries, HEAD_DIM), normal(1, 2, keys, HEAD_DIM), normal(1, 2, keys, value_dim)
    mask = random_mask(2, queries, keys) if masked else None
    plain = softmax_attention(query, key, value, mask, is_causal=masked, need_weights=True)
    assert not blocks
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            ours = softmax_attention(query, key, value, mask, is_causal=masked, need_weights=True)
        for mine, other in zip(ours, plain, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)
    assert len(blocks) == 2


def test_output_without_weights_is_output_with_weights(same_values_and_gradients):
    inputs = softmax_inputs()
    with_weights, weights = softmax_attention(*inputs, is_causal=True, need_weights=True)
    without, none = softmax_attention(*inputs, is_causal=True)
    assert weights is not None
    assert none is None
    same_values_and_gradients(without, weights @ inputs[2], inputs)
    same_values_and_gradients(with_weights, weights @ inputs[2], inputs)


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


@every_form
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_single(form: Form, dtype: torch.dtype):
    # 1031 equal scores: in bfloat16 a running sum of ones stops at 256, and the weights would be four times too large.
    query, key = torch.zeros(1, 2, dtype=dtype), torch.zeros(1031, 2, dtype=dtype)
    output, weights = form.attend(query, key, torch.ones_like(key), need_weights=True)
    assert weights is not None
    assert output.dtype == weights.dtype == dtype
    assert weights.double().sum().item() == pytest.approx(1, rel=2**-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_additive_attention_in_half_precision_sums_in_single(dtype: torch.dtype):
    query, key = torch.zeros(1, 2, dtype=dtype), torch.zeros(1031, 2, dtype=dtype)
    weights = additive_attention_weights(query, key, torch.ones(2, dtype=dtype))
    assert weights.dtype == dtype
    assert weights.double().sum().item() == pytest.approx(1, rel=2**-8)


@every_form
@pytest.mark.parametrize("need_weights", [False, True])
def test_autocast_stays_near(form: Form, need_weights: bool):
    inputs = softmax_inputs(dtype=torch.float32)
    expected, _ = form.attend(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = form.attend(*inputs, need_weights=need_weights)
        gradients = torch.autograd.grad(output.float().square().sum(), inputs)
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=2**-4)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize(("name", "need_weights"), [*((name, False) for name in FORMS), ("scaled", True)])
@pytest.mark.usefixtures("no_shape_hook")
def test_compiled_whole_it_is_the_same(name: str, need_weights: bool, same_values_and_gradients):
    inputs = tuple(normal(*x.shape[1:]) for x in softmax_inputs())
    mask = random_mask(QUERIES, KEYS)
    attend = lambda *inputs: FORMS[name].attend(*inputs, mask, need_weights=need_weights)[0]  # noqa: E731
    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    same_values_and_gradients(compiled(*inputs), attend(*inputs), inputs)


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


@pytest.mark.parametrize("name", ["query", "key", "value"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("need_weights", [False, True])
def test_inputs_that_are_not_finite_are_named(name: str, bad: float, need_weights: bool):
    inputs = dict(zip(("query", "key", "value"), (x.detach() for x in softmax_inputs()), strict=True))
    inputs[name][1, 2, 3, 5] = bad
    with pytest.raises(InputError, match=rf"{name} is not finite.*got {bad} at \(1, 2, 3, 5\)"):
        softmax_attention(**inputs, need_weights=need_weights)


@pytest.mark.parametrize("name", ["query", "key", "value", "scorer"])
def test_additive_inputs_that_are_not_finite_are_named(name: str):
    # Half of all places would hide an infinity: its tanh is 1.
    inputs = dict(zip(("query", "key", "value", "scorer"), (x.detach() for x in additive_inputs()), strict=True))
    inputs[name][..., -1] = -torch.inf
    with pytest.raises(InputError, match=f"{name} is not finite"):
        additive_attention(**inputs)


def test_scores_that_overflow_are_told_from_inputs_that_do():
    query, key = torch.full((1, 2), 200.0).half(), torch.tensor([[200.0], [-200.0]]).expand(2, 2).half()
    with pytest.raises(InputError, match=r"scores overflow torch\.float16.*up to 6\.55e\+04.*smaller scale"):
        softmax_attention(query, key, key, scale=1.0, need_weights=True)
    softmax_attention(query.float(), key.float(), key.float(), scale=1.0, need_weights=True)


def test_values_whose_sum_overflows_are_fine():
    query, key, value = torch.zeros(3, 1), torch.zeros(1, 1), torch.full((1, 1), 3e38)
    assert torch.equal(softmax_attention(query, key, value)[0], value.expand(3, 1))


@every_form
@pytest.mark.usefixtures("no_shape_hook")
def test_shapes_and_types_that_cannot_go_together_are_refused(form: Form):
    query, key, value = softmax_inputs()
    with pytest.raises(InputTypeError, match=r"key is of a type .*got torch\.int64.*key\.float\(\)"):
        form.attend(query, key.long(), value)
    with pytest.raises(InputTypeError, match=r"query and value are of different types.*torch\.float64 and torch\.fl"):
        form.attend(query, key, value.float())
    with pytest.raises(InputError, match=r"query has a shape .*\(\.\.\., length, width\); got \(5,\)"):
        form.attend(query[0, 0, :, 0], key, value)
    with pytest.raises(InputError, match=r"query and key differ in their leading axes.*\(2, 3, 5, 11\) and \(3, 7, 11"):
        form.attend(query, key[0], value)
    with pytest.raises(InputError, match=r"key and value differ in length.*got 7 keys and 6 values"):
        form.attend(query, key, value[:, :, 1:])
    if form is not FORMS["bilinear"]:
        with pytest.raises(InputError, match=r"query and key differ in width.*got 11 and 7.*bilinear_attention"):
            form.attend(query, key[..., :7], value)


@pytest.mark.usefixtures("no_shape_hook")
def test_a_weight_of_another_shape_is_refused():
    query, key, value = softmax_inputs()
    with pytest.raises(InputError, match=r"weight does not fit .*\(\.\.\., 11, 7\); got \(7, 11\)"):
        bilinear_attention(query, key[..., :7], value, normal(7, 11))
