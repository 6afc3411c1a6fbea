import math

import pytest
import torch
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional import causal_mask, lengths_to_real, naive_additive_attention, naive_softmax_attention, padding_mask
from qkv.nn import AdditiveAttention, MultiheadAttention, TransformerDecoderLayer, TransformerEncoderLayer
from qkv.trace import record, scope

BATCH, QUERIES, KEYS, EMBED, HEADS, KDIM, VDIM = 3, 5, 7, 22, 2, 11, 13


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def pair(**options) -> tuple[MultiheadAttention, nn.MultiheadAttention]:
    return (
        MultiheadAttention(EMBED, HEADS, dtype=torch.float64, **options),
        nn.MultiheadAttention(EMBED, HEADS, dtype=torch.float64, batch_first=True, **options),
    )


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_multihead_attention_by_hand():
    # Every projection the identity, so each of the two heads sees one coordinate and the scale is 1. Head 1: scores
    # ln 3 * (1, 0), weights 3/4 and 1/4, output 3/4 * 1 + 1/4 * 0. Head 2: scores 0 and 0, output the mean of 2 and 6.
    attention = MultiheadAttention(2, 2, dtype=torch.float64)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.eye(2).repeat(3, 1))
        attention.out_proj.weight.copy_(torch.eye(2))
    query = torch.tensor([[[math.log(3), 0]]], dtype=torch.float64)
    memory = torch.tensor([[[1, 2], [0, 6]]], dtype=torch.float64)
    output, weights = attention(query, memory, memory)
    assert output.tolist() == [[[pytest.approx(0.75), pytest.approx(4)]]]
    assert weights is not None
    assert weights.tolist() == [[[pytest.approx(0.625), pytest.approx(0.375)]]]


def test_additive_attention_by_hand():
    # W = 1 with bias 0, U = 1, v = 2 ln 3: scores 2 ln 3 * tanh(0 + artanh(1/2)) = ln 3 and 0, weights 3/4 and 1/4.
    attention = AdditiveAttention(1, 1, 1).double()
    with torch.no_grad():
        for parameter, value in zip(attention.parameters(), (2 * math.log(3), 1, 0, 1), strict=True):
            parameter.fill_(value)
    key = torch.tensor([[[math.atanh(0.5)], [0]]], dtype=torch.float64)
    output, weights = attention(torch.zeros(1, 1, 1, dtype=torch.float64), key, 4 * torch.ones_like(key))
    assert weights.tolist() == [[[pytest.approx(0.75), pytest.approx(0.25)]]]
    assert output.item() == pytest.approx(4)


# -- parity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"kdim": KDIM, "vdim": VDIM}, {"bias": False}, {"kdim": KDIM, "bias": False}], ids=str
)
def test_cross_attention_is_torch(same_as_torch, options: dict, need_weights: bool):
    ours, theirs = pair(**options)
    inputs = (double(BATCH, QUERIES, EMBED), double(BATCH, KEYS, ours.kdim), double(BATCH, KEYS, ours.vdim))
    masks = {
        "key_padding_mask": ~lengths_to_real(torch.tensor([7, 5, 2]), KEYS),
        "attn_mask": torch.rand(BATCH * HEADS, QUERIES, KEYS) < 0.3,
    }
    masks["attn_mask"][..., 0] = False  # torch gives NaN where nothing is left

    def run(module: nn.Module):
        def call(*inputs: Tensor) -> Tensor:
            output, weights = module(*inputs, need_weights=need_weights, average_attn_weights=False, **masks)
            return torch.cat((output.flatten(), weights.flatten())) if need_weights else output

        return call

    same_as_torch(ours, theirs, inputs, run(ours), run(theirs))


@pytest.mark.parametrize("shared", [1, 2])  # how many of key and value are the query itself
def test_shared_inputs_are_torch(same_as_torch, shared: int):
    ours, theirs = pair()
    causal = ~causal_mask(KEYS)

    def run(module: nn.Module):
        return lambda x, *rest: module(x, *(x, x) if shared == 2 else 2 * rest, attn_mask=causal, is_causal=True)[0]

    inputs = [double(BATCH, KEYS, EMBED) for _ in range(3 - shared)]
    same_as_torch(ours, theirs, inputs, run(ours), run(theirs))


def test_floating_masks_are_torch(same_as_torch):
    ours, theirs = pair()
    mask = nn.Transformer.generate_square_subsequent_mask(KEYS, dtype=torch.float64)
    padding = torch.zeros(BATCH, KEYS, dtype=torch.float64).masked_fill(
        ~lengths_to_real(torch.tensor([7, 5, 2]), KEYS), -torch.inf
    )

    def run(module: nn.Module):
        return lambda x: module(x, x, x, key_padding_mask=padding, attn_mask=mask)[0]

    same_as_torch(ours, theirs, [double(BATCH, KEYS, EMBED)], run(ours), run(theirs))


def test_averaged_weights_are_torch():
    ours, theirs = pair()
    ours.load_state_dict(theirs.state_dict())
    x = double(BATCH, KEYS, EMBED)
    torch.testing.assert_close(ours(x, x, x)[1], theirs(x, x, x)[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"kdim": KDIM, "vdim": VDIM}], ids=str)
def test_initial_values_are_torch(options: dict):
    torch.manual_seed(1)
    ours = MultiheadAttention(EMBED, HEADS, **options).state_dict()
    torch.manual_seed(1)
    theirs = nn.MultiheadAttention(EMBED, HEADS, **options).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_heads_are_the_definition():
    attention = MultiheadAttention(EMBED, HEADS, dtype=torch.float64)
    x = double(BATCH, KEYS, EMBED)
    q, k, v = attention.project(x)
    head_outputs, weights = naive_softmax_attention(q, k, v, is_causal=True)
    output, none = attention(x, x, x, need_weights=False, is_causal=True)
    assert none is None
    torch.testing.assert_close(output, attention.out_proj(head_outputs.transpose(1, 2).flatten(-2)))
    open_output, open_weights = attention(x, x, x, average_attn_weights=False, mask=causal_mask(KEYS))
    torch.testing.assert_close(open_output, output)
    torch.testing.assert_close(open_weights, weights)


def test_additive_attention_is_the_definition():
    attention = AdditiveAttention(KDIM, VDIM, 17).double()
    query, memory = double(BATCH, QUERIES, KDIM), double(BATCH, KEYS, VDIM)
    mask = padding_mask(lengths_to_real(torch.tensor([7, 5, 0]), KEYS))[:, 0]
    expected, expected_weights = naive_additive_attention(
        attention.project_query(query), attention.project_key(memory), memory, attention.scorer, mask
    )
    for output, weights in (
        attention(query, memory, memory, mask),
        attention.attend(query, attention.project_key(memory), memory, mask),
    ):
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(weights, expected_weights)


# -- laws ------------------------------------------------------------------------------------------------------------


def test_the_house_mask_and_torch_masks_are_each_other():
    attention = MultiheadAttention(EMBED, HEADS)
    x = torch.randn(BATCH, KEYS, EMBED)
    real = lengths_to_real(torch.tensor([7, 5, 2]), KEYS)
    flipped, _ = attention(x, x, x, key_padding_mask=~real, attn_mask=~causal_mask(KEYS))
    house, _ = attention(x, x, x, mask=padding_mask(real), is_causal=True)
    assert torch.equal(flipped, house)
    assert not torch.equal(house, attention(x, x, x)[0])


def test_nothing_to_attend_to_gives_the_bias_and_finite_gradients():
    attention = MultiheadAttention(EMBED, HEADS)
    x = torch.randn(BATCH, KEYS, EMBED)
    nothing = torch.ones(BATCH, KEYS, dtype=torch.bool)
    for need_weights in (False, True):
        output, _ = attention(x, x, x, key_padding_mask=nothing, need_weights=need_weights)
        assert torch.equal(output, attention.out_proj.bias.expand_as(output))
        attention.zero_grad()
        output.square().sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in attention.parameters() if p.grad is not None)


def test_dropout_is_for_training():
    attention = MultiheadAttention(EMBED, HEADS, dropout=0.5)
    x = torch.randn(BATCH, KEYS, EMBED)
    assert not torch.equal(attention(x, x, x)[0], attention(x, x, x)[0])
    attention.eval()
    assert torch.equal(attention(x, x, x)[0], attention(x, x, x)[0])


@pytest.mark.parametrize(
    ("need_weights", "obtained", "backend"),
    [(False, "recomputed", "scaled_dot_product_attention"), (True, "captured", "softmax")],
)
def test_recording_shows_the_weights_and_changes_nothing(need_weights: bool, obtained: str, backend: str):
    attention = MultiheadAttention(EMBED, HEADS)
    x, memory = torch.randn(BATCH, QUERIES, EMBED), torch.randn(BATCH, KEYS, EMBED)
    mask = padding_mask(lengths_to_real(torch.tensor([7, 5, 2]), KEYS))
    silent, _ = attention(x, memory, memory, need_weights=need_weights, mask=mask)
    with record() as trace, scope("multihead_attn"):
        output, _ = attention(x, memory, memory, need_weights=need_weights, mask=mask)
        attention(x, x, x, need_weights=need_weights)
    assert torch.equal(silent, output)
    assert trace.names == 2 * ["multihead_attn.weights"]
    cross, own = trace.attention()
    assert dict(cross.facts) == {"kind": "cross", "obtained": obtained, "backend": backend, "signed": False}
    assert own.facts["kind"] == "self"
    _, weights = attention(x, memory, memory, mask=mask, average_attn_weights=False)
    torch.testing.assert_close(cross.value, weights)


def test_recording_additive_attention():
    attention = AdditiveAttention(3, 5, 7)
    memory = torch.randn(BATCH, KEYS, 5)
    with record() as trace:
        _, weights = attention(torch.randn(BATCH, QUERIES, 3), memory, memory)
    (step,) = trace.attention()
    assert torch.equal(step.value, weights[:, None])
    assert dict(step.facts) == {"kind": "cross", "obtained": "captured", "backend": "additive", "signed": False}


@pytest.mark.parametrize("need_weights", [False, True])
def test_half_precision_by_autocast(need_weights: bool):
    attention = MultiheadAttention(EMBED, HEADS)
    x = torch.randn(BATCH, KEYS, EMBED)
    full, _ = attention(x, x, x, need_weights=need_weights, is_causal=True)
    with torch.autocast("cpu", torch.bfloat16), record() as trace:
        half, _ = attention(x, x, x, need_weights=need_weights, is_causal=True)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)
    assert len(trace.attention()) == 1
    half.sum().backward()


@pytest.mark.usefixtures("no_shape_hook")
def test_compiled_is_eager():
    attention = MultiheadAttention(EMBED, HEADS)
    x, memory = torch.randn(BATCH, QUERIES, EMBED), torch.randn(BATCH, KEYS, EMBED)
    mask = padding_mask(lengths_to_real(torch.tensor([7, 5, 0]), KEYS))

    def both(x: Tensor, memory: Tensor) -> Tensor:
        own, _ = attention(x, x, x, need_weights=False, is_causal=True)
        crossed, _ = attention(own, memory, memory, mask=mask)
        return crossed

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, memory), both(x, memory))


# -- refusals --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_built_is_refused():
    with pytest.raises(InputError, match=r"num_heads divides; got embed_dim=22, num_heads=3"):
        MultiheadAttention(22, 3)
    with pytest.raises(InputError, match=r"batch_first=False is not supported.*x\.transpose\(0, 1\)"):
        MultiheadAttention(22, 2, batch_first=False)
    for name in ("add_bias_kv", "add_zero_attn"):
        with pytest.raises(InputError, match="add_bias_kv and add_zero_attn are not supported"):
            MultiheadAttention(22, 2, **{name: True})


@pytest.mark.usefixtures("no_shape_hook")
def test_other_widths_are_refused():
    attention = MultiheadAttention(EMBED, HEADS, kdim=KDIM)
    query, key, value = torch.randn(3, 5, 22), torch.randn(3, 7, 11), torch.randn(3, 7, 22)
    with pytest.raises(InputError, match=r"query cannot .*\(batch, length, 22\); got \(5, 22\).*x\[None\]"):
        attention(query[0], key, value)
    with pytest.raises(InputError, match=r"key cannot .*\(batch, length, 11\); got \(3, 7, 22\)"):
        attention(query, value, value)
    with pytest.raises(InputError, match=r"value cannot .*\(batch, length, 22\); got \(3, 7, 11\)"):
        attention(query, key, key)


@pytest.mark.parametrize("cross", [False, True])
def test_keys_without_biases_attend_as_those_with_zeros(cross):
    ours = MultiheadAttention(6, 2, key_bias=False).double()
    theirs = nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64)
    nn.init.normal_(ours.in_proj_bias)
    state = ours.state_dict()
    of_query, of_value = state["in_proj_bias"].chunk(2)
    theirs.load_state_dict(state | {"in_proj_bias": torch.cat((of_query, torch.zeros(6).double(), of_value))})
    x = torch.randn(3, 5, 6, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(3, 7, 6, dtype=torch.float64) if cross else x
    (output, _), (expected, _) = ours(x, memory, memory), theirs(x, memory, memory)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(output)
    mine = torch.autograd.grad(output, [x, ours.in_proj_weight, ours.in_proj_bias], cotangent)
    other = torch.autograd.grad(expected, [x, theirs.in_proj_weight, theirs.in_proj_bias], cotangent)
    torch.testing.assert_close(mine[:2], other[:2], rtol=0, atol=1e-12)
    torch.testing.assert_close(mine[2], torch.cat((other[2][:6], other[2][12:])), rtol=0, atol=1e-12)
    past = ours.keep(memory)
    torch.testing.assert_close(ours.read(x[:, :1], past), ours(x[:, :1], memory, memory)[0], rtol=0, atol=1e-12)
    # a key's bias adds the same to every score of a query: softmax does not see it
    torch.testing.assert_close(other[2][6:12], torch.zeros(6).double(), rtol=0, atol=1e-12)


def test_layers_hand_on_that_their_keys_have_no_biases():
    for layer in (TransformerEncoderLayer(6, 2, 11, key_bias=False), TransformerDecoderLayer(6, 2, 11, key_bias=False)):
        sizes = [len(value) for name, value in layer.state_dict().items() if name.endswith("in_proj_bias")]
        assert set(sizes) == {12}
