"""Every form of attention inside the layers that are built of it."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from qkv.errors import InputError
from qkv.functional import causal_mask, lengths_to_real, padding_mask
from qkv.nn import (
    AttentionConfig,
    FormName,
    MultiheadAttention,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
)
from qkv.trace import record

FORMS: tuple[str, ...] = get_args(FormName)
BATCH, LENGTH, KEYS, EMBED, HEADS = 3, 5, 7, 22, 2
OPTIONS = {"window": 2, "features": 13}


def config(form: str) -> AttentionConfig:
    return AttentionConfig(form=form, **OPTIONS)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def attention(form: str) -> MultiheadAttention:
    return MultiheadAttention(EMBED, HEADS, dtype=torch.float64, attention=config(form))


def real_keys(length: int) -> Tensor:
    return padding_mask(lengths_to_real(torch.tensor([2, length, length - 1]), length))


# -- by hand: one head of width 1, every projection the identity; query 1, keys 1 and 0, values 4 and 8 ----------------

E = math.e
BY_HAND = {
    # scores 1 and 0; all but those below scale by 1 / sqrt(1)
    "softmax": (4 * E + 8) / (E + 1),
    "dot-product": (4 * E + 8) / (E + 1),
    "cosine": (4 * E + 8) / (E + 1),  # cos = 1, and 0 for the key that is zero
    "bilinear": (4 * E + 8) / (E + 1),  # W starts as the scale
    "rbf": (4 + 8 * math.exp(-1 / 2)) / (1 + math.exp(-1 / 2)),  # sigma^2 = 2: exp(0) and exp(-1/2)
    "polynomial": (4 * 4 + 8) / 5,  # (1 + 1)^2 and 1
    "window": (4 * E + 8) / (E + 1),
    "linear-taylor": (4 * 2.5 + 8) / 3.5,  # 1 + 1 + 1/2, and 1
    # cut to length: the key of 0 stays 0, the other has q . k = 0.9
    "linear-taylor-1": (4 * 1.9 + 8) / 2.9,
    "linear-taylor-3": (4 * (1.9 + 0.9**2 / 2 + 0.9**3 / 6) + 8) / (2.9 + 0.9**2 / 2 + 0.9**3 / 6),
    "linear-elu": (4 * 4 + 8 * 2) / 6,  # (1 + 1)(1 + 1) and (1 + 1)(0 + 1)
}


@pytest.mark.parametrize("form", BY_HAND)
def test_by_hand(form: str):
    built = config(form).build(num_heads=1, head_dim=1).double()
    query, key, value = (
        torch.tensor(rows, dtype=torch.float64)[None, None] for rows in ([[1]], [[1], [0]], [[4], [8]])
    )
    if form == "window":  # as many queries as keys
        query = torch.cat([query, query], dim=2)
    output, _ = built(query, key, value)
    assert output[0, 0, 0].item() == pytest.approx(BY_HAND[form])


def test_additive_by_hand():
    # v tanh(q + k) with q = 0, k = artanh(1/2) and 0, v = 2 ln 3: scores ln 3 and 0, weights 3/4 and 1/4.
    built = config("additive").build(num_heads=1, head_dim=1).double()
    with torch.no_grad():
        built.scorer.fill_(2 * math.log(3))
    key, value = torch.tensor([[math.atanh(0.5)], [0]], dtype=torch.float64), torch.tensor([[4.0], [8.0]]).double()
    output, weights = built(torch.zeros(1, 1, 1, 1).double(), key[None, None], value[None, None], need_weights=True)
    assert weights.flatten().tolist() == [pytest.approx(0.75), pytest.approx(0.25)]
    assert output.item() == pytest.approx(5)


def test_random_features_come_near_softmax():
    torch.manual_seed(3)
    built = AttentionConfig(form="linear-random", features=20_000).build(num_heads=1, head_dim=5)
    softmax = AttentionConfig().build(num_heads=1, head_dim=5)
    query, key, value = (0.7 * torch.randn(1, 1, n, 5) for n in (3, 7, 7))
    weights, expected = (form(query, key, value, need_weights=True)[1] for form in (built, softmax))
    assert float((weights - expected).abs().max()) < 0.03
    assert float((weights - 1 / 7).abs().max()) > 0.06  # far from weighing all alike


# -- laws of all forms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_causal", [False, True])
def test_asking_for_weights_changes_nothing_and_they_make_the_output(form: str, is_causal: bool):
    layer, x = attention(form), double(BATCH, LENGTH, EMBED)
    mask = real_keys(LENGTH)
    output, weights = layer(x, x, x, average_attn_weights=False, is_causal=is_causal, mask=mask)
    without, none = layer(x, x, x, need_weights=False, is_causal=is_causal, mask=mask)
    assert none is None
    torch.testing.assert_close(without, output, rtol=0, atol=1e-10)
    _, _, value = layer.project(x)
    torch.testing.assert_close(layer._join(weights @ value), output, rtol=0, atol=1e-10)
    allowed = mask & causal_mask(LENGTH) if is_causal else mask.expand(BATCH, 1, LENGTH, LENGTH)
    if form == "window":
        allowed = allowed & torch.ones(LENGTH, LENGTH).tril(2).triu(-2).bool()
    torch.testing.assert_close(weights.sum(-1), allowed.any(-1).double().expand_as(weights.sum(-1)))
    assert bool((weights.masked_select(~allowed) == 0).all())
    assert bool((weights.masked_select(allowed.expand_as(weights)) != 0).all())


@pytest.mark.parametrize("form", FORMS)
def test_all_parameters_learn(form: str):
    layer = TransformerDecoderLayer(EMBED, HEADS, 11, dropout=0.0, dtype=torch.float64, attention=config(form))
    x, memory = double(BATCH, LENGTH, EMBED), double(BATCH, KEYS, EMBED)
    output = layer(x, memory, tgt_is_causal=True, cross_mask=real_keys(KEYS))
    (output * torch.randn_like(output)).sum().backward()
    assert all(bool(parameter.grad.any()) for parameter in layer.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_no_position_sees_a_later_one(form: str):
    layer = TransformerDecoderLayer(EMBED, HEADS, 11, dropout=0.0, dtype=torch.float64, attention=config(form))
    x, memory = double(BATCH, LENGTH, EMBED).requires_grad_(), double(BATCH, KEYS, EMBED)
    output = layer(x, memory, tgt_is_causal=True)[:, 2]
    (gradient,) = torch.autograd.grad(output, x, torch.randn_like(output))
    assert not bool(gradient[:, 3:].any())
    assert bool(gradient[:, :3].any(dim=-1).all())


@pytest.mark.parametrize("form", [form for form in FORMS if form != "window"])
def test_order_means_nothing_without_a_mask(form: str):
    layer = TransformerEncoderLayer(EMBED, HEADS, 11, dropout=0.0, dtype=torch.float64, attention=config(form))
    x, order = double(BATCH, LENGTH, EMBED), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order], rtol=0, atol=1e-10)


@pytest.mark.parametrize("room", [LENGTH, 997])  # linear forms keep a few keys apart, and sum up many
@pytest.mark.parametrize("form", FORMS)
def test_a_step_at_a_time_is_the_whole_at_once(form: str, room: int):
    layer = TransformerDecoderLayer(EMBED, HEADS, 11, dropout=0.0, dtype=torch.float64, attention=config(form))
    decoder = TransformerDecoder(layer, 2).eval()
    target, memory, mask = double(BATCH, LENGTH, EMBED), double(BATCH, KEYS, EMBED), real_keys(KEYS)
    whole = decoder(target, memory, tgt_is_causal=True, cross_mask=mask)
    cache, chosen = decoder.start(memory, mask, max_length=room), torch.tensor([2, 0, 0])
    for i in range(LENGTH):
        if i == 2:  # as beam search does: a row is left out, another comes twice
            cache.select(chosen)
            target, whole = target[chosen], whole[chosen]
        torch.testing.assert_close(decoder.step(target[:, i : i + 1], cache), whole[:, i : i + 1], rtol=0, atol=1e-8)
    assert (cache.batch, cache.length, cache.max_length) == (3, LENGTH, room)


def test_a_linear_past_is_never_larger_than_its_sum():
    sizes = {}
    for room in (2, LENGTH, 97, 997, 9973):
        past = attention("linear-taylor").form.start(double(BATCH, HEADS, 1, 11), room)
        sizes[room] = past.nbytes
    features = 1 + 11 + 66
    summed = BATCH * HEADS * features * (11 + 1) * 8
    assert sizes == {
        2: BATCH * HEADS * 2 * 22 * 8,
        LENGTH: BATCH * HEADS * 5 * 22 * 8,
        97: summed,
        997: summed,
        9973: summed,
    }


@pytest.mark.parametrize("form", FORMS)
def test_what_is_recorded(form: str):
    layer, x = attention(form), double(BATCH, LENGTH, EMBED)
    with record() as trace:
        recorded, _ = layer(x, x, x, need_weights=False)
    plain, _ = layer(x, x, x, need_weights=False)
    assert torch.equal(recorded, plain)
    (step,) = trace.attention()
    assert step.value.shape == (BATCH, HEADS, LENGTH, LENGTH)
    assert step.facts["kind"] == "self"
    assert step.facts["obtained"] == ("implied" if form.startswith("linear") else "recomputed")
    assert step.facts["signed"] == (form in ("linear-taylor-1", "linear-taylor-3"))


@pytest.mark.parametrize("form", FORMS)
def test_states_load_and_half_precision_trains(form: str):
    layer, other = attention(form), attention(form)
    other.load_state_dict(layer.state_dict())
    x = double(BATCH, LENGTH, EMBED)
    assert torch.equal(layer(x, x, x)[0], other(x, x, x)[0])
    single = other.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = single(*3 * [x.float()], need_weights=False, is_causal=True)
    output.float().square().sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in single.parameters())
    exact, _ = layer(x, x, x, need_weights=False, is_causal=True)
    torch.testing.assert_close(output.double(), exact, rtol=0, atol=0.05)


@pytest.mark.parametrize("form", ["cosine", "rbf", "linear-taylor", "linear-elu"])
@pytest.mark.usefixtures("no_shape_hook")
# Linear attention is called as it is from compiled code, and torch looks at the gradients of what goes in.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled(form: str):
    layer, x = attention(form), double(BATCH, LENGTH, EMBED)
    compiled = torch.compile(lambda x: layer(x, x, x, need_weights=False, is_causal=True)[0], backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x, x, x, need_weights=False, is_causal=True)[0])


# -- refusals --------------------------------------------------------------------------------------------------------


def test_linear_forms_refuse_dropout_on_weights():
    layer = MultiheadAttention(EMBED, HEADS, dropout=0.1, attention=config("linear-elu"))
    x = torch.randn(BATCH, LENGTH, EMBED)
    with pytest.raises(InputError, match=r"no weights to drop.*got 0\.1.*attention_dropout=0"):
        layer(x, x, x)
    layer.eval()(x, x, x)


def test_a_layer_of_linear_attention_drops_no_weights_unless_told():
    layer = TransformerEncoderLayer(EMBED, HEADS, 11, dropout=0.1, attention=config("linear-elu"))
    assert layer(torch.randn(BATCH, LENGTH, EMBED)).shape == (BATCH, LENGTH, EMBED)
