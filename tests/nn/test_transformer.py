from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional import causal_mask, lengths_to_real, padding_mask
from qkv.nn import TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer
from qkv.trace import record

BATCH, LENGTH, KEYS, EMBED, HEADS, INNER, LAYERS = 3, 5, 7, 22, 2, 13, 2
REAL, MEMORY_REAL = lengths_to_real(torch.tensor([5, 3, 1]), LENGTH), lengths_to_real(torch.tensor([7, 2, 3]), KEYS)
SIZES = {"d_model": EMBED, "nhead": HEADS, "dim_feedforward": INNER}

every_form = pytest.mark.parametrize(
    "form",
    [
        {"norm_first": norm_first, "activation": activation}
        for norm_first in (False, True)
        for activation in ("relu", "gelu")
    ]
    + [{"activation": torch.tanh, "bias": False, "layer_norm_eps": 0.1}],
    ids=["post-relu", "post-gelu", "pre-relu", "pre-gelu", "post-tanh-without-bias"],
)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def encoder_layers(**form) -> tuple[TransformerEncoderLayer, nn.TransformerEncoderLayer]:
    options = {**SIZES, "dropout": 0.0, "dtype": torch.float64, **form}
    return TransformerEncoderLayer(**options), nn.TransformerEncoderLayer(**options, batch_first=True)


def decoder_layers(**form) -> tuple[TransformerDecoderLayer, nn.TransformerDecoderLayer]:
    options = {**SIZES, "dropout": 0.0, "dtype": torch.float64, **form}
    return TransformerDecoderLayer(**options), nn.TransformerDecoderLayer(**options, batch_first=True)


def encode(module: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: module(x, ~causal_mask(LENGTH), src_key_padding_mask=~REAL, is_causal=True)


def decode(module: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    memory_mask = torch.zeros(LENGTH, KEYS, dtype=torch.bool)
    memory_mask[:, 1] = True
    return lambda tgt, memory: module(
        tgt,
        memory,
        tgt_mask=~causal_mask(LENGTH),
        memory_mask=memory_mask,
        tgt_key_padding_mask=~REAL,
        memory_key_padding_mask=~MEMORY_REAL,
        tgt_is_causal=True,
    )


def small_decoder(norm_first: bool = True, dtype: torch.dtype = torch.float64, **form) -> TransformerDecoder:
    layer = TransformerDecoderLayer(**{**SIZES, "norm_first": norm_first, "dtype": dtype, **form})
    decoder = TransformerDecoder(layer, LAYERS, nn.LayerNorm(EMBED, dtype=dtype) if norm_first else None)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return decoder.eval()


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_encoder_layer_by_hand():
    # Values and the feed-forward network are zero, so the layer is norm(norm(x)): (1, 3) has mean 2 and deviation 1,
    # (-1, 1) after the norm, and the second norm leaves it. With the norm first it is x itself.
    for norm_first, expected in ((False, [-1, 1]), (True, [1, 3])):
        layer = TransformerEncoderLayer(2, 1, 3, norm_first=norm_first, layer_norm_eps=0.0, dtype=torch.float64)
        for parameter in (layer.self_attn.out_proj.weight, layer.linear2.weight, layer.linear2.bias):
            nn.init.zeros_(parameter)
        output = layer.eval()(torch.tensor([[[1, 3]]], dtype=torch.float64))
        assert output.tolist() == [[pytest.approx(expected, abs=1e-12)]]


# -- parity ----------------------------------------------------------------------------------------------------------


@every_form
def test_encoder_layer_is_torch(same_as_torch, form: dict):
    ours, theirs = encoder_layers(**form)
    same_as_torch(ours, theirs, [double(BATCH, LENGTH, EMBED)], encode(ours), encode(theirs))


@every_form
def test_decoder_layer_is_torch(same_as_torch, form: dict):
    ours, theirs = decoder_layers(**form)
    inputs = [double(BATCH, LENGTH, EMBED), double(BATCH, KEYS, EMBED)]
    same_as_torch(ours, theirs, inputs, decode(ours), decode(theirs))


@pytest.mark.parametrize("norm_first", [False, True])
def test_stacks_are_torch(same_as_torch, norm_first: bool):
    def norm() -> nn.LayerNorm | None:
        return nn.LayerNorm(EMBED, dtype=torch.float64) if norm_first else None

    (our_encoder, their_encoder), (our_decoder, their_decoder) = (
        encoder_layers(norm_first=norm_first),
        decoder_layers(norm_first=norm_first),
    )
    ours = TransformerEncoder(our_encoder, LAYERS, norm())
    theirs = nn.TransformerEncoder(their_encoder, LAYERS, norm(), enable_nested_tensor=False)
    same_as_torch(ours, theirs, [double(BATCH, LENGTH, EMBED)], encode(ours), encode(theirs))
    ours = TransformerDecoder(our_decoder, LAYERS, norm())
    theirs = nn.TransformerDecoder(their_decoder, LAYERS, norm())
    inputs = [double(BATCH, LENGTH, EMBED), double(BATCH, KEYS, EMBED)]
    same_as_torch(ours, theirs, inputs, decode(ours), decode(theirs))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (TransformerEncoderLayer, nn.TransformerEncoderLayer),
        (TransformerDecoderLayer, nn.TransformerDecoderLayer),
    ],
)
def test_initial_values_and_positions_of_arguments_are_torch(ours: type[nn.Module], theirs: type[nn.Module]):
    arguments = (EMBED, HEADS, INNER, 0.3, "gelu", 1e-3, True, True, False)
    torch.manual_seed(1)
    mine = ours(*arguments)
    torch.manual_seed(1)
    other = theirs(*arguments)
    assert list(mine.state_dict()) == list(other.state_dict())
    assert all(torch.equal(mine.state_dict()[name], value) for name, value in other.state_dict().items())
    assert mine.norm_first is True
    assert mine.activation is F.gelu
    assert (mine.norm1.eps, mine.dropout.p, mine.self_attn.dropout) == (1e-3, 0.3, 0.3)


# -- decoding a position at a time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_steps_are_the_whole(norm_first: bool, masked: bool):
    decoder = small_decoder(norm_first)
    target, memory = double(BATCH, LENGTH, EMBED), double(BATCH, KEYS, EMBED)
    cross_mask = padding_mask(MEMORY_REAL) if masked else None
    whole = decoder(target, memory, tgt_is_causal=True, cross_mask=cross_mask)
    cache = decoder.start(memory, cross_mask, max_length=LENGTH)
    for i in range(LENGTH):
        assert cache.length == i
        output = decoder.step(target[:, i : i + 1], cache)
        torch.testing.assert_close(output[:, 0], whole[:, i], rtol=0, atol=1e-10)


def test_selected_rows_go_on_as_if_alone():
    decoder = small_decoder()
    target, memory = double(BATCH, LENGTH, EMBED), double(BATCH, KEYS, EMBED)
    cross_mask = padding_mask(MEMORY_REAL)
    cache = decoder.start(memory, cross_mask, max_length=LENGTH + 2)
    for i in range(2):
        decoder.step(target[:, i : i + 1], cache)
    chosen = torch.tensor([2, 0, 2, 1, 0])  # one row of a beam may have several successors
    cache.select(chosen)
    assert (cache.batch, cache.length, cache.max_length) == (5, 2, LENGTH + 2)
    chosen = chosen[[4, 1]]
    cache.select(torch.tensor([4, 1]))  # and a finished one none
    whole = decoder(target[chosen], memory[chosen], tgt_is_causal=True, cross_mask=cross_mask[chosen])
    for i in range(2, LENGTH):
        output = decoder.step(target[chosen, i : i + 1], cache)
        torch.testing.assert_close(output[:, 0], whole[:, i], rtol=0, atol=1e-10)


def test_steps_in_half_precision():
    decoder = small_decoder(dtype=torch.float32)
    target, memory = torch.randn(BATCH, LENGTH, EMBED), torch.randn(BATCH, KEYS, EMBED)
    with torch.autocast("cpu", torch.bfloat16):
        whole = decoder(target, memory, tgt_is_causal=True)
        cache = decoder.start(memory, None, max_length=LENGTH)
        steps = [decoder.step(target[:, i : i + 1], cache) for i in range(LENGTH)]
    assert cache.layers[0].self_past.key.dtype == torch.bfloat16
    torch.testing.assert_close(torch.cat(steps, dim=1).float(), whole.float(), rtol=0.1, atol=0.1)


@pytest.mark.usefixtures("no_shape_hook")
def test_steps_that_do_not_fit_are_refused():
    decoder = small_decoder()
    cache = decoder.start(double(BATCH, KEYS, EMBED), None, max_length=1)
    with pytest.raises(InputError, match=r"does not fit the cache.*each of 3 rows; got \(1, 1, 22\)"):
        decoder.step(double(1, 1, EMBED), cache)
    with pytest.raises(InputError, match=r"does not fit the cache.*got \(3, 2, 22\)"):
        decoder.step(double(BATCH, 2, EMBED), cache)
    decoder.step(double(BATCH, 1, EMBED), cache)
    with pytest.raises(InputError, match=r"the cache is full at 1 positions.*larger max_length"):
        decoder.step(double(BATCH, 1, EMBED), cache)


# -- laws ------------------------------------------------------------------------------------------------------------


def test_house_masks_are_torch_masks_flipped():
    encoder = TransformerEncoder(encoder_layers()[0], LAYERS)
    x = double(BATCH, LENGTH, EMBED)
    assert torch.equal(encoder(x, src_key_padding_mask=~REAL), encoder(x, mask=padding_mask(REAL)))
    layer, memory = decoder_layers()[0], double(BATCH, KEYS, EMBED)
    torches = layer(x, memory, tgt_key_padding_mask=~REAL, memory_key_padding_mask=~MEMORY_REAL, tgt_is_causal=True)
    house = layer(x, memory, self_mask=padding_mask(REAL) & causal_mask(LENGTH), cross_mask=padding_mask(MEMORY_REAL))
    torch.testing.assert_close(house, torches)


def test_the_future_and_the_padding_leak_nothing():
    decoder = small_decoder()
    target, memory = double(BATCH, LENGTH, EMBED), double(BATCH, KEYS, EMBED)
    cross_mask = padding_mask(MEMORY_REAL)
    output = decoder(target, memory, tgt_is_causal=True, cross_mask=cross_mask)
    target[:, 3:] = double(BATCH, LENGTH - 3, EMBED)
    memory = memory + ~MEMORY_REAL[..., None] * 1.0
    other = decoder(target, memory, tgt_is_causal=True, cross_mask=cross_mask)
    torch.testing.assert_close(other[:, :3], output[:, :3], rtol=0, atol=1e-12)
    assert not torch.isclose(other[:, 3:], output[:, 3:]).all()


def test_dropout_of_weights_is_its_own():
    layer = TransformerDecoderLayer(**SIZES, dropout=0.3, attention_dropout=0.0)
    assert (layer.dropout.p, layer.self_attn.dropout, layer.multihead_attn.dropout) == (0.3, 0.0, 0.0)
    x, memory = torch.randn(BATCH, LENGTH, EMBED), torch.randn(BATCH, KEYS, EMBED)
    assert not torch.equal(layer(x, memory), layer(x, memory))
    layer.eval()
    assert torch.equal(layer(x, memory), layer(x, memory))
    assert TransformerEncoderLayer(**SIZES, dropout=0.3).self_attn.dropout == 0.3


def test_recording_names_every_attention_and_changes_nothing():
    encoder, decoder = TransformerEncoder(encoder_layers()[0], LAYERS), small_decoder()
    x, memory = double(BATCH, LENGTH, EMBED), double(BATCH, KEYS, EMBED)
    silent = decoder(x, memory, tgt_is_causal=True)
    with record() as trace:
        assert torch.equal(decoder(x, memory, tgt_is_causal=True), silent)
    assert trace.names == [
        f"layers.{i}.{attention}.weights" for i in range(LAYERS) for attention in ("self_attn", "multihead_attn")
    ]
    assert trace["layers.1.multihead_attn.weights"].shape == (BATCH, HEADS, LENGTH, KEYS)
    cache = decoder.start(memory, None, max_length=LENGTH)
    with record() as steps:
        for i in range(LENGTH):
            decoder.step(x[:, i : i + 1], cache)
    for step in trace.attention():
        rows = [other.value for other in steps.attention() if other.name == step.name]
        for i, row in enumerate(rows):
            torch.testing.assert_close(row[:, :, 0], step.value[:, :, i, : row.shape[-1]])
        assert step.facts["kind"] == ("self" if "self_attn" in step.name else "cross")
    with record() as trace:
        encoder(memory)
    assert trace.names == ["layers.0.self_attn.weights", "layers.1.self_attn.weights"]


@pytest.mark.usefixtures("no_shape_hook")
def test_compiled_is_eager():
    decoder = small_decoder(dtype=torch.float32)
    x, memory = torch.randn(BATCH, LENGTH, EMBED), torch.randn(BATCH, KEYS, EMBED)
    cross_mask = padding_mask(MEMORY_REAL)

    def run(x: Tensor, memory: Tensor) -> Tensor:
        return decoder(x, memory, tgt_is_causal=True, cross_mask=cross_mask)

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, memory), run(x, memory))
    with record() as trace:
        compiled(x, memory)
    assert trace.names == []


# -- refusals --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_built_is_refused():
    with pytest.raises(InputError, match=r"unknown activation 'glu'\. Expected one of relu, gelu\. Try: gelu"):
        TransformerEncoderLayer(**SIZES, activation="glu")
    for layer in (TransformerEncoderLayer, TransformerDecoderLayer):
        with pytest.raises(InputError, match="batch_first=False is not supported"):
            layer(**SIZES, batch_first=False)
    with pytest.raises(InputError, match="num_heads divides"):
        TransformerDecoderLayer(22, 3)
