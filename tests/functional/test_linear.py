import math
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional import (
    EluFeatures,
    FeatureMap,
    LinearState,
    RandomFeatures,
    TaylorFeatures,
    causal_mask,
    linear_attention,
    linear_attention_read,
    linear_attention_start,
    linear_attention_step,
    linear_attention_weights,
    naive_linear_attention,
)
from qkv.functional import linear as room

BATCH, HEADS, QUERIES, KEYS, HEAD_DIM, VALUE_DIM = 2, 3, 13, 17, 5, 7

MAPS = [
    *(TaylorFeatures(order) for order in (1, 2, 3)),
    EluFeatures(),
    RandomFeatures.draw(HEAD_DIM, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
]
every_map = pytest.mark.parametrize("phi", MAPS, ids=["taylor-1", "taylor-2", "taylor-3", "elu", "random"])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 3 in spans of 6, so that 17 keys are several of both, the last ones shorter."""
    monkeypatch.setattr(room, "_CHUNK", 3)
    monkeypatch.setattr(room, "_SPAN", 6)


def short(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Vectors of length 0.9, so that no product is below -1 and odd orders stay positive."""
    return (0.9 * F.normalize(torch.randn(*shape, dtype=dtype), dim=-1)).requires_grad_()


def inputs(queries: int = QUERIES, keys: int = KEYS, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    query, key = short(BATCH, HEADS, queries, HEAD_DIM, dtype=dtype), short(BATCH, HEADS, keys, HEAD_DIM, dtype=dtype)
    return query, key, torch.randn(BATCH, HEADS, keys, VALUE_DIM, dtype=dtype, requires_grad=True)


def masks(queries: int = QUERIES, keys: int = KEYS) -> dict[str, Tensor | None]:
    """Padding hides the first two keys of one item, and all of another; the full mask hides all from one query."""
    padding, full = torch.rand(BATCH, 1, 1, keys) < 0.6, torch.rand(BATCH, 1, queries, keys) < 0.6
    padding[0, ..., :2], padding[1], full[..., 1, :] = False, False, False
    return {"none": None, "padding": padding, "full": full}


def assert_same_values_and_gradients(ours: Tensor, theirs: Tensor, inputs: tuple[Tensor, ...]):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    cotangent = torch.randn_like(ours)
    gradients = [torch.autograd.grad(output, inputs, cotangent, retain_graph=True) for output in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


# -- by hand ---------------------------------------------------------------------------------------------------------

QUERY, KEY = [[1.0], [2.0]], [[1.0], [-1.0]]


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize(
    ("phi", "weights"),
    [
        # s = 1, -1 and 2, -2. Order 2: 2.5 and 0.5; 5 and 1. Both rows 5/6, 1/6.
        (TaylorFeatures(2), [[5 / 6, 1 / 6], [5 / 6, 1 / 6]]),
        # Order 1: 2 and 0; 3 and -1.
        (TaylorFeatures(1), [[1, 0], [1.5, -0.5]]),
        # elu + 1: keys 2 and 1/e; the query cancels.
        (EluFeatures(), [[2 / (2 + 1 / math.e), 1 / (2 * math.e + 1)]] * 2),
    ],
    ids=["taylor-2", "taylor-1", "elu"],
)
def test_linear_attention_by_hand(phi: FeatureMap, weights: list[list[float]], need_weights: bool):
    query, key, value = (torch.tensor(x, dtype=torch.float64) for x in (QUERY, KEY, [[6.0], [12.0]]))
    output, found = linear_attention(query, key, value, phi, need_weights=need_weights)
    assert output.flatten().tolist() == pytest.approx([6 * a + 12 * b for a, b in weights])
    assert found is None or found.flatten().tolist() == pytest.approx([*weights[0], *weights[1]])
    # Causally the first query sees the first key alone.
    output, _ = linear_attention(query, key, value, phi, is_causal=True, need_weights=need_weights)
    assert output.flatten().tolist() == pytest.approx([6, 6 * weights[1][0] + 12 * weights[1][1]])


def test_the_state_by_hand():
    # Order 1, phi = (1, k): keys 1 and -1 with values 6 and 12. S = (18, -6), z = (2, 0).
    key, value = torch.tensor(KEY), torch.tensor([[6.0], [12.0]])
    state = linear_attention_start(key, value, TaylorFeatures(1))
    assert state.weighted.tolist() == [[18], [-6]]
    assert state.total.tolist() == [2, 0]
    # A third key 2 with value 3 makes (21, 0) and (3, 2); the query 1/2 reads 21 / 4.
    output, state = linear_attention_step(
        torch.tensor([[0.5]]), torch.tensor([[2.0]]), torch.tensor([[3.0]]), state, TaylorFeatures(1)
    )
    assert output.item() == pytest.approx(21 / 4)
    assert (state.weighted.tolist(), state.total.tolist()) == ([[21], [0]], [3, 2])


# -- parity with the definition --------------------------------------------------------------------------------------


@every_map
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", ["none", "padding", "full"])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.usefixtures("small_chunks")
def test_linear_attention_is_its_definition(phi: FeatureMap, masked: str, is_causal: bool, need_weights: bool):
    given, mask = inputs(), masks()[masked]
    output, weights = linear_attention(*given, phi, mask, is_causal=is_causal, need_weights=need_weights)
    expected, expected_weights = naive_linear_attention(*given, phi, mask, is_causal=is_causal)
    assert_same_values_and_gradients(output, expected, given)
    if weights is not None:
        assert_same_values_and_gradients(weights, expected_weights, given[:2])


@every_map
@pytest.mark.parametrize(("queries", "keys"), [(7, 17), (17, 7), (1, 23), (23, 1), (17, 17)])
@pytest.mark.usefixtures("small_chunks")
def test_the_last_query_sits_at_the_last_key(phi: FeatureMap, queries: int, keys: int):
    given = inputs(queries, keys)
    expected, _ = naive_linear_attention(*given, phi, causal_mask(queries, keys))
    assert_same_values_and_gradients(linear_attention(*given, phi, is_causal=True)[0], expected, given)


def test_chunks_of_the_real_size_are_the_definition():
    query, key, value = (short(1100, 2), short(1301, 2), short(1301, 3))
    for is_causal in (False, True):
        output, _ = linear_attention(query, key, value, TaylorFeatures(), is_causal=is_causal)
        weights = linear_attention_weights(query, key, TaylorFeatures(), is_causal=is_causal)
        assert_same_values_and_gradients(output, weights @ value, (query, key, value))


@every_map
def test_steps_are_the_definition(phi: FeatureMap):
    given = query, key, value = inputs(KEYS, KEYS)
    padding = masks()["padding"]
    assert padding is not None
    padding[1, ..., 3] = True
    state = linear_attention_start(key[..., :4, :], value[..., :4, :], phi, padding[..., :4])
    outputs = []
    for i in range(4, KEYS):
        row = slice(i, i + 1)
        output, state = linear_attention_step(query[..., row, :], key[..., row, :], value[..., row, :], state, phi)
        outputs.append(output)
    padding[..., 4:] = True
    expected, _ = naive_linear_attention(*given, phi, padding, is_causal=True)
    assert_same_values_and_gradients(torch.cat(outputs, dim=-2), expected[..., 4:, :], given)


@every_map
def test_a_memory_is_read_as_it_is_attended_to(phi: FeatureMap):
    given = query, key, value = inputs()
    padding = masks()["padding"]
    state = linear_attention_start(key, value, phi, padding)
    expected, _ = naive_linear_attention(*given, phi, padding)
    assert_same_values_and_gradients(linear_attention_read(query, state, phi), expected, given)


@torch.no_grad()
def test_steps_stay_with_the_chunks_in_single_precision():
    query, key, value = (torch.randn(2, 307, n) for n in (4, 4, 3))
    phi = TaylorFeatures()
    state = linear_attention_start(key[:, :0], value[:, :0], phi)
    outputs = []
    for q, k, v in zip(query.split(1, 1), key.split(1, 1), value.split(1, 1), strict=True):
        output, state = linear_attention_step(q, k, v, state, phi)
        outputs.append(output)
    together, _ = linear_attention(query, key, value, phi, is_causal=True)
    torch.testing.assert_close(torch.cat(outputs, dim=1), together, rtol=0, atol=3e-6)


# -- gradients -------------------------------------------------------------------------------------------------------


@every_map
@pytest.mark.parametrize("form", ["causal", "all", "padding", "weights"])
@pytest.mark.usefixtures("small_chunks")
def test_gradients(phi: FeatureMap, form: str):
    given = short(7, HEAD_DIM), short(8, HEAD_DIM), short(8, 2)
    mask = torch.arange(8)[None] > 1 if form == "padding" else None

    def outputs(*given: Tensor) -> list[Tensor]:
        options = {"is_causal": form != "all", "need_weights": form == "weights"}
        return [part for part in linear_attention(*given, phi, mask, **options) if part is not None]

    assert torch.autograd.gradcheck(outputs, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(outputs, given, fast_mode=True)


@pytest.mark.parametrize("needed", [0, 1, 2])
@pytest.mark.usefixtures("small_chunks")
def test_one_gradient_alone(needed: int):
    given = [x.detach() for x in inputs(KEYS)]
    given[needed].requires_grad_()
    ours, theirs = (
        form(*given, TaylorFeatures(), is_causal=True)[0] for form in (linear_attention, naive_linear_attention)
    )
    (first,), (expected,) = (
        torch.autograd.grad(x.square().sum(), given[needed], create_graph=True) for x in (ours, theirs)
    )
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-10)
    second = [torch.autograd.grad(x.square().sum(), given[needed])[0] for x in (first, expected)]
    torch.testing.assert_close(*second, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("small_chunks")
def test_backward_holds_no_features():
    held = []
    query, key, value = inputs(KEYS)
    size = TaylorFeatures().size(HEAD_DIM)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: held.append(x.shape) or x, lambda x: x):
        linear_attention(query, key, value, TaylorFeatures(), is_causal=True)
    assert (BATCH, HEADS, size, VALUE_DIM) in held  # states are kept, one a span
    assert not any(shape[-1] in (size, KEYS) and shape[-2] > 6 for shape in held if len(shape) == 4)


# -- laws ------------------------------------------------------------------------------------------------------------


@every_map
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    queries=st.integers(1, 9),
    keys=st.integers(1, 9),
    is_causal=st.booleans(),
    scale=st.sampled_from([0.0, 1.0, 10.0, 100.0]),
    key_only=st.booleans(),
    same=st.booleans(),
)
def test_weights_are_shares_of_what_is_allowed(
    phi: FeatureMap, seed: int, queries: int, keys: int, is_causal: bool, scale: float, key_only: bool, same: bool
):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(2, n, HEAD_DIM, generator=generator).double() * s
        for n, s in ((queries, scale), (keys, scale), (keys, 1))
    )
    if same:
        key = key[:, :1].expand_as(key)
    mask = torch.rand(2, 1 if key_only else queries, keys, generator=generator) < 0.6
    allowed = mask & causal_mask(queries, keys) if is_causal else mask.expand(2, queries, keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_CHUNK", 2)
        patch.setattr(room, "_SPAN", 4)
        options = {"is_causal": is_causal, "vanishing": "zeros"}
        output, none = linear_attention(query, key, value, phi, mask, **options)
        with_weights, weights = linear_attention(query, key, value, phi, mask, **options, need_weights=True)
    assert none is None
    assert weights is not None
    assert bool((weights[~allowed] == 0).all())
    if not phi.signed:
        assert bool((weights >= 0).all())
    there = weights.any(dim=-1)
    assert not bool((there & ~allowed.any(dim=-1)).any())
    if not phi.may_vanish:
        assert torch.equal(there, allowed.any(dim=-1))
    torch.testing.assert_close(weights.sum(dim=-1), there.double())
    torch.testing.assert_close(with_weights, weights @ value)
    # Where weights cancel, rounding grows as the normaliser shrinks: up to a million times.
    close = weights.abs().sum(dim=-1) < 1e3
    assume(bool(close.any()))
    torch.testing.assert_close(output[close], with_weights[close], rtol=1e-8, atol=1e-8)


@every_map
@pytest.mark.parametrize("masked", ["padding", "full"])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.usefixtures("small_chunks")
def test_masks_leak_nothing(phi: FeatureMap, masked: str, is_causal: bool):
    query, key, value = inputs()
    mask = masks()[masked]
    assert mask is not None
    allowed = (mask & causal_mask(QUERIES, KEYS) if is_causal else mask).expand(BATCH, HEADS, QUERIES, KEYS)
    output, _ = linear_attention(query, key, value, phi, mask, is_causal=is_causal)
    for i in range(QUERIES):
        gradients = torch.autograd.grad(output[..., i, :].sum(), (query, key, value), retain_graph=True)
        nobody = ~allowed[..., i, :]
        assert not any(bool(gradient[nobody].any()) for gradient in gradients[1:])
        empty = ~allowed[..., i, :].any(dim=-1)
        assert not bool(output[..., i, :][empty].any())
        assert not bool(gradients[0][..., i, :][empty].any())
    seen = torch.autograd.grad(output.square().sum(), value)[0].any(dim=-1)
    assert torch.equal(seen, allowed.any(dim=-2))


@every_map
@pytest.mark.usefixtures("small_chunks")
def test_the_order_of_keys_and_queries_does_not_matter(phi: FeatureMap):
    query, key, value = inputs()
    output, _ = linear_attention(query, key, value, phi)
    rows, columns = torch.randperm(QUERIES), torch.randperm(KEYS)
    moved, _ = linear_attention(query[..., rows, :], key[..., columns, :], value[..., columns, :], phi)
    torch.testing.assert_close(moved, output[..., rows, :])


@every_map
@pytest.mark.parametrize("length", [1, 200])
@pytest.mark.parametrize("form", ["all", "causal"])
def test_scores_of_ten_thousand_stay_in_range(phi: FeatureMap, length: int, form: str):
    query, key = (100 * F.normalize(torch.randn(2, length, HEAD_DIM), dim=-1).requires_grad_() for _ in range(2))
    value = torch.randn(2, length, VALUE_DIM, requires_grad=True)
    output, _ = linear_attention(query, key, value, phi, is_causal=form == "causal", vanishing="zeros")
    assert bool(output.isfinite().all())
    gradients = torch.autograd.grad(output.sum(), (query, key, value))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("lead", [(), (2, 3, 2)])
def test_any_leading_axes_do(lead: tuple[int, ...]):
    query, key, value = (short(*lead, 200, n) for n in (HEAD_DIM, HEAD_DIM, VALUE_DIM))
    output, _ = linear_attention(query, key, value, TaylorFeatures(), is_causal=True)
    weights = linear_attention_weights(query, key, TaylorFeatures(), is_causal=True)
    assert_same_values_and_gradients(output, weights @ value, (query, key, value))


def test_no_keys_give_zeros():
    query, nothing = torch.randn(2, 300, HEAD_DIM), torch.zeros(2, 0, HEAD_DIM)
    for phi in (TaylorFeatures(1), TaylorFeatures(2), EluFeatures()):
        for is_causal in (False, True):
            output, _ = linear_attention(query, nothing, nothing, phi, is_causal=is_causal)
            assert output.shape == (2, 300, HEAD_DIM)
            assert not bool(output.any())
    assert not bool(
        linear_attention_read(query, linear_attention_start(nothing, nothing, EluFeatures()), EluFeatures()).any()
    )


# -- normalisers that vanish -----------------------------------------------------------------------------------------


def opposed(length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Order 1 weighs keys 2 and 0 by 1 + 2 q and 1: at q = -1 as many of both cancel, elsewhere they do not."""
    query = torch.zeros(1, length, 1, dtype=torch.float64)
    query[0, 7] = -1
    key = torch.zeros_like(query)
    key[0, 1::2] = 2
    return query, key, torch.ones(1, length, 1, dtype=torch.float64)


FORMS: dict[str, Callable] = {
    "at once": lambda *inputs, **options: linear_attention(*inputs, TaylorFeatures(1), **options)[0],
    "weights": lambda *inputs, **options: linear_attention(*inputs, TaylorFeatures(1), need_weights=True, **options)[0],
    "state": lambda query, *memory, is_causal, **options: linear_attention_read(  # noqa: ARG005
        query, linear_attention_start(*memory, TaylorFeatures(1)), TaylorFeatures(1), **options
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("length", [8, 300])
def test_weights_that_cancel(form: str, is_causal: bool, length: int):
    # The query at 7 is the only one, causally as well: it sees four keys of each kind, or 150.
    with pytest.raises(InputError, match=r"weights of query \(0, 7\) add up to nothing.*got 1 queries.*vanishing"):
        FORMS[form](*opposed(length), is_causal=is_causal)
    output = FORMS[form](*opposed(length), is_causal=is_causal, vanishing="zeros")
    assert output.flatten().tolist() == pytest.approx([0.0 if i == 7 else 1.0 for i in range(length)])


@pytest.mark.parametrize("share", [0.5e-6, 2e-6])
@pytest.mark.parametrize("length", [8, 300])
def test_they_cancel_below_a_millionth(share: float, length: int):
    query, key, value = opposed(length)
    # Half the keys weigh 1, half -1 + 2 e: the sum is e of the sum of absolute values (to first order).
    query[0, 7] = -1 + share
    output, _ = linear_attention(query, key, value, TaylorFeatures(1), vanishing="zeros")
    assert output[0, 7].item() == (0 if share < 1e-6 else pytest.approx(1))


@pytest.mark.parametrize("length", [3, 300])
def test_weights_too_small_for_their_type(length: int):
    # elu + 1 is exp(-200) on these keys, which float32 does not hold.
    query, key, value = torch.zeros(length, 2), torch.full((length, 2), -200.0), torch.ones(length, 3)
    with pytest.raises(InputError, match=r"weights of query \(0,\) add up to nothing"):
        linear_attention(query, key, value, EluFeatures())
    output, _ = linear_attention(query, key, value, EluFeatures(), vanishing="zeros")
    assert not bool(output.any())


@pytest.mark.parametrize("length", [8, 300])
def test_nothing_to_attend_to_is_not_a_refusal(length: int):
    query, key, value = (torch.rand(2, length, 3) for _ in range(3))
    padding = (torch.arange(length) > 4).expand(2, 1, length).clone()
    padding[1] = False
    for phi in (TaylorFeatures(1), TaylorFeatures(2), EluFeatures()):
        output, _ = linear_attention(query, key, value, phi, padding, is_causal=True)
        assert torch.equal(output.any(dim=-1), torch.stack([torch.arange(length) > 4, torch.zeros(length).bool()]))


@pytest.mark.usefixtures("small_chunks")
def test_gradients_of_rows_that_vanish_are_zero():
    query, key, value = (x.requires_grad_() for x in opposed(8))
    output, _ = linear_attention(query, key, value, TaylorFeatures(1), vanishing="zeros")
    gradient = torch.autograd.grad((output * torch.randn_like(output)).sum(), (query, key, value))
    assert all(bool(x.isfinite().all()) for x in gradient)
    assert gradient[0][0, 7] == 0


# -- types, autocast, compiled ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("is_causal", [False, True])
def test_half_precision_sums_in_single(dtype: torch.dtype, autocast: bool, is_causal: bool):
    # Only inputs and results are in half: the one error is the last rounding.
    given = inputs(500, 500, dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output, _ = linear_attention(*given, TaylorFeatures(), is_causal=is_causal)
        weights = linear_attention_weights(*given[:2], TaylorFeatures(), is_causal=is_causal)
    exact = [x.detach().double().requires_grad_() for x in given]
    expected_weights = linear_attention_weights(*exact[:2], TaylorFeatures(), is_causal=is_causal)
    expected = expected_weights @ exact[2]
    cotangent = torch.randn_like(output)
    ours = [output, weights, *torch.autograd.grad(output, given, cotangent)]
    theirs = [expected, expected_weights, *torch.autograd.grad(expected, exact, cotangent.double())]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine.double(), other, rtol=2**-8, atol=1e-6)


def test_autocast_leaves_single_precision_alone():
    given = inputs(300, 300, torch.float32)
    expected, _ = linear_attention(*given, TaylorFeatures())
    expected_gradient = torch.autograd.grad(expected.sum(), given[0])[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = linear_attention(*given, TaylorFeatures())
        gradient = torch.autograd.grad(output.sum(), given[0])[0]
    assert torch.equal(output, expected)
    assert torch.equal(gradient, expected_gradient)


@pytest.mark.parametrize("length", [512, 4099])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("folded", [False, True])  # compiled for a processor is the folded one alone
def test_error_in_single_precision(folded: bool, length: int, is_causal: bool):
    phi = TaylorFeatures(folded=folded)
    query, key, value = torch.randn(1, length, 16), torch.randn(1, length, 16), torch.randn(1, length, 3)
    output, _ = linear_attention(query, key, value, phi, is_causal=is_causal)
    exact, _ = linear_attention(query.double(), key.double(), value.double(), phi, is_causal=is_causal)
    assert (output - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize("length", [11, 300])
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, wherever code goes on behind a graph's end
@pytest.mark.usefixtures("no_shape_hook")
def test_compiled_is_eager(length: int):
    given = inputs(length, length)
    from torch._dynamo.testing import CompileCounterWithBackend  # takes seconds to load

    calls = CompileCounterWithBackend("aot_eager")

    def form(*given: Tensor) -> Tensor:
        return linear_attention(*given, TaylorFeatures(), is_causal=True)[0].sin()

    compiled = torch.compile(form, backend=calls)
    assert_same_values_and_gradients(compiled(*given), form(*given), given)
    first = calls.frame_count
    compiled(*given)
    assert calls.frame_count == first
    assert first == 1 or length > 128  # a short one is one graph


# -- refusals --------------------------------------------------------------------------------------------------------


def test_what_cannot_go_together_is_refused():
    query, key, value = (x.detach() for x in inputs())
    phi = TaylorFeatures()
    key = key.clone()
    key[0, 1, 2, 3] = torch.nan
    for form in (
        lambda: linear_attention(query, key, value, phi),
        lambda: linear_attention_weights(query, key, phi),
        lambda: linear_attention_start(key, value, phi),
    ):
        with pytest.raises(InputError, match=r"key is not finite.*got nan at \(0, 1, 2, 3\)"):
            form()


@pytest.mark.usefixtures("no_shape_hook")
def test_shapes_and_types_that_cannot_be_used_are_refused():
    query, key, value = (x.detach() for x in inputs())
    phi = TaylorFeatures()
    with pytest.raises(InputError, match="key"):
        linear_attention(query, key[..., :3], value, phi)
    with pytest.raises(InputError, match="value"):
        linear_attention(query, key, value[..., :3, :], phi)
    with pytest.raises(InputTypeError, match="query"):
        linear_attention(query.long(), key, value, phi)
    with pytest.raises(InputTypeError, match="mask is of a type"):
        linear_attention(query, key, value, phi, torch.ones(QUERIES, KEYS))
    with pytest.raises(InputError, match="mask does not fit"):
        linear_attention(query, key, value, phi, torch.ones(1, KEYS + 1, dtype=torch.bool))
    with pytest.raises(InputError, match="mask does not fit"):
        linear_attention_start(key, value, phi, torch.ones(KEYS, KEYS, dtype=torch.bool))
    with pytest.raises(InputError, match=r"unknown vanishing 'rise'\. Expected one of raise, zeros.*Try: raise"):
        linear_attention(query, key, value, phi, vanishing="rise")  # pyright: ignore[reportArgumentType]


def test_a_state_of_something_else_is_refused():
    query, key, value = (x.detach()[..., :1, :] for x in inputs())
    state = linear_attention_start(key, value, TaylorFeatures(1))
    assert isinstance(state, LinearState)
    with pytest.raises(InputError, match=r"state does not fit query.*\(2, 3, 21\).*got \(2, 3, 6\)"):
        linear_attention_read(query, state, TaylorFeatures(2))
    with pytest.raises(InputError, match="state does not fit key"):
        linear_attention_step(query[0], key[0], value[0], state, TaylorFeatures(1))
