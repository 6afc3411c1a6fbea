import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional import naive_windowed_attention, softmax_attention, window, window_mask, windowed_attention

BATCH, HEADS, LENGTH, HEAD_DIM, VALUE_DIM = 2, 3, 29, 5, 7


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 5 or of the window, so that a few dozen positions make several, and the last is not full."""
    torch.manual_seed(0)
    monkeypatch.setattr(window, "_BLOCK", 5)


def inputs(*batch: int, length: int = LENGTH, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (
        torch.randn(*batch, length, width, dtype=dtype, requires_grad=True) for width in (HEAD_DIM, HEAD_DIM, VALUE_DIM)
    )
    return query, key, value


def random_mask(*shape: int) -> Tensor:
    """A mask that hides key 11 from all, and everything from query 3 where it has rows."""
    mask = torch.rand(*shape) < 0.7
    mask[..., 11] = False
    if shape[-2:-1] != (1,):
        mask[..., 3, :] = False
    return mask


def test_by_hand():
    # Equal scores: each query averages the values in its window.
    query, value = torch.zeros(4, 1).double(), torch.tensor([[1.0], [2.0], [6.0], [9.0]]).double()
    both, _ = windowed_attention(query, query, value, 1)
    assert both.flatten().tolist() == pytest.approx([1.5, 3, 17 / 3, 7.5])
    causal, weights = windowed_attention(query, query, value, 1, is_causal=True, need_weights=True)
    assert causal.flatten().tolist() == pytest.approx([1, 1.5, 4, 7.5])
    assert weights is not None
    assert weights.tolist() == [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5]]


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("shape", [(), (1, LENGTH), (LENGTH, LENGTH), (BATCH, 1, 1, LENGTH), (HEADS, LENGTH, LENGTH)])
@pytest.mark.parametrize("near", [0, 2, 7, 40])
def test_it_is_its_definition(near: int, shape: tuple[int, ...], is_causal: bool, same_values_and_gradients):
    qkv = inputs(BATCH, HEADS)
    mask = random_mask(*shape) if shape else None
    allowed = window_mask(LENGTH, LENGTH, near, is_causal=is_causal)
    expected, _ = softmax_attention(*qkv, allowed if mask is None else allowed & mask, scale=0.7)
    output, none = windowed_attention(*qkv, near, mask, scale=0.7, is_causal=is_causal)
    assert none is None
    same_values_and_gradients(output, expected, qkv)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_its_naive_twin(masked: bool, is_causal: bool, same_values_and_gradients):
    qkv = inputs(2)
    mask = random_mask(LENGTH, LENGTH) if masked else None
    expected, expected_weights = naive_windowed_attention(*qkv, 3, mask, is_causal=is_causal)
    output, _ = windowed_attention(*qkv, 3, mask, is_causal=is_causal)
    same_values_and_gradients(output, expected, qkv)
    output, weights = windowed_attention(*qkv, 3, mask, is_causal=is_causal, need_weights=True)
    same_values_and_gradients(output, expected, qkv)
    same_values_and_gradients(weights, expected_weights, qkv[:2])


def test_first_and_second_gradients():
    qkv = tuple(torch.randn(17, 2, dtype=torch.float64, requires_grad=True) for _ in range(3))
    attend = lambda *qkv: windowed_attention(*qkv, 1, is_causal=True)[0]  # noqa: E731
    assert torch.autograd.gradcheck(attend, qkv)
    assert torch.autograd.gradgradcheck(attend, qkv)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    length=st.integers(1, 37),
    near=st.integers(0, 9),
    size=st.sampled_from([0, 1, 100]),
    is_causal=st.booleans(),
)
def test_blocks_are_the_weights_times_the_values(seed: int, length: int, near: int, size: int, is_causal: bool):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(2, length, 3, generator=generator).double() for _ in range(3))
    mask = torch.rand(length, length, generator=generator) < 0.6
    query, key = (size * query).requires_grad_(), size * key
    output, _ = windowed_attention(query, key, value, near, mask, is_causal=is_causal)
    _, weights = windowed_attention(query, key, value, near, mask, is_causal=is_causal, need_weights=True)
    allowed = mask & window_mask(length, length, near, is_causal=is_causal)
    assert weights is not None
    assert bool((weights[:, ~allowed] == 0).all())
    torch.testing.assert_close(weights.sum(-1), allowed.any(-1).double().expand(2, length))
    torch.testing.assert_close(output, weights @ value)
    (gradient,) = torch.autograd.grad(output.square().sum(), query)
    assert bool(gradient.isfinite().all())


def test_what_is_hidden_leaks_nothing():
    query, key, value = inputs(BATCH, HEADS)
    output, _ = windowed_attention(query, key, value, 2, random_mask(LENGTH, LENGTH))
    gradients = torch.autograd.grad(output[..., :23, :].square().sum(), (query, key, value))
    assert bool((output[..., 3, :] == 0).all())
    assert bool((gradients[0][..., 3, :] == 0).all())
    for gradient in gradients[1:]:
        assert bool((gradient[..., 11, :] == 0).all())  # hidden by the mask
        assert bool((gradient[..., 25:, :] == 0).all())  # and by distance: 22 + 2 is the last that is seen
        assert bool((gradient[..., 24, :] != 0).any())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_stays_near(dtype: torch.dtype, autocast: bool):
    qkv = inputs(BATCH, HEADS, dtype=torch.float32 if autocast else dtype)
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        output, _ = windowed_attention(*qkv, 3)
    gradients = torch.autograd.grad(output.float().square().sum(), qkv)
    exact = tuple(x.detach().double().requires_grad_() for x in qkv)
    expected, _ = windowed_attention(*exact, 3)
    references = torch.autograd.grad(expected.square().sum(), exact)
    assert output.dtype == dtype
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=2**-6)
    for ours, theirs in zip(gradients, references, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=2**-4, atol=2**-4)


@pytest.mark.usefixtures("no_shape_hook")
def test_a_mask_of_keys_alone_needs_no_axis_of_queries():
    qkv, mask = inputs(BATCH), random_mask(1, LENGTH)
    ours, theirs = (windowed_attention(*qkv, 3, one)[0] for one in (mask[0], mask))
    assert torch.equal(ours, theirs)


def test_dropout_scales_up_what_it_leaves():
    query, key, _ = inputs(1, 2, length=211)
    output, _ = windowed_attention(query, key, torch.ones(1, 2, 211, 1).double(), 20, dropout=0.5)
    assert output.mean().item() == pytest.approx(1, abs=0.1)
    assert output.std().item() > 0.01


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.usefixtures("no_shape_hook")
def test_compiled_whole_it_is_the_same(is_causal: bool, same_values_and_gradients):
    qkv = inputs(2)
    mask = random_mask(LENGTH, LENGTH)
    attend = lambda *qkv: windowed_attention(*qkv, 3, mask, is_causal=is_causal)[0]  # noqa: E731
    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    same_values_and_gradients(compiled(*qkv), attend(*qkv), qkv)


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [3, LENGTH])
def test_a_negative_window_is_refused(length: int):
    with pytest.raises(InputError, match=r"window cannot be a distance.*from 0 on; got -1"):
        windowed_attention(*inputs(length=length), -1)


@pytest.mark.usefixtures("no_shape_hook")
def test_unequal_lengths_and_masks_that_do_not_fit_are_refused():
    query, key, value = inputs(BATCH)
    with pytest.raises(InputError, match=r"query and key differ in length.*got 28 and 29"):
        windowed_attention(query[:, 1:], key, value, 2)
    with pytest.raises(InputError, match=r"mask does not fit .*\(2, 29, 29\).*got \(28, 29\)"):
        windowed_attention(query, key, value, 2, torch.ones(28, 29, dtype=torch.bool))
    with pytest.raises(InputTypeError, match="mask is of a type"):
        windowed_attention(query, key, value, 2, torch.ones(29, 29))


def test_what_is_not_finite_is_named_where_it_was_given():
    query, key, value = (x.detach() for x in inputs(BATCH))
    key[1, 23, 2] = torch.nan
    with pytest.raises(InputError, match=r"key is not finite.*got nan at \(1, 23, 2\)"):
        windowed_attention(query, key, value, 2)
