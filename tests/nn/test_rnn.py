import pytest
import torch
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional import lengths_to_real, naive_additive_attention
from qkv.nn import LSTMDecoder, LSTMEncoder
from qkv.trace import record

BATCH, LENGTH, KEYS, INPUT, HIDDEN, MEMORY, LAYERS = 3, 5, 7, 2, 11, 13, 2
LENGTHS = [7, 2, 5]
REAL = lengths_to_real(torch.tensor(LENGTHS), KEYS)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def small_decoder(attention: bool = True) -> LSTMDecoder:
    return LSTMDecoder(INPUT, HIDDEN, MEMORY, LAYERS, attention=attention).double()


def state() -> tuple[Tensor, Tensor]:
    return double(LAYERS, BATCH, HIDDEN), double(LAYERS, BATCH, HIDDEN)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_takes_no_part(bidirectional: bool):
    encoder = LSTMEncoder(INPUT, HIDDEN, LAYERS, bidirectional=bidirectional).double()
    x = double(BATCH, KEYS, INPUT).requires_grad_()
    memory, (h, c) = encoder(x, REAL)
    assert memory.shape == (BATCH, KEYS, HIDDEN)
    assert h.shape == c.shape == (LAYERS, BATCH, HIDDEN)
    for i, length in enumerate(LENGTHS):
        alone, (h_alone, c_alone) = encoder(x[i : i + 1, :length], torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(memory[i, :length], alone[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(h[:, i], h_alone[:, 0], rtol=0, atol=1e-10)
        torch.testing.assert_close(c[:, i], c_alone[:, 0], rtol=0, atol=1e-10)
    (gradient,) = torch.autograd.grad((memory * REAL[..., None]).sum() + h.sum() + c.sum(), x)
    assert bool((gradient[~REAL] == 0).all())
    assert bool((gradient[REAL] != 0).any(dim=-1).all())


def test_encoder_joins_both_directions_by_hand():
    # Joined by (1, 10): the memory is forward + 10 * backward of torch's own LSTM, and the state joins the last of
    # the forward direction with the first of the backward one.
    encoder = LSTMEncoder(INPUT, 1).double()
    for join in (encoder.join_memory, encoder.join_h, encoder.join_c):
        join.weight.data = torch.tensor([[1, 10]], dtype=torch.float64)
        nn.init.zeros_(join.bias)
    x = double(1, 3, INPUT)
    memory, (h, _) = encoder(x, torch.ones(1, 3, dtype=torch.bool))
    directions, _ = encoder.lstm(x)
    torch.testing.assert_close(memory[..., 0], directions[..., 0] + 10 * directions[..., 1])
    torch.testing.assert_close(h[0, 0, 0], directions[0, -1, 0] + 10 * directions[0, 0, 1])


def test_one_direction_is_torch():
    encoder = LSTMEncoder(INPUT, HIDDEN, LAYERS, bidirectional=False).double()
    theirs = nn.LSTM(INPUT, HIDDEN, LAYERS, batch_first=True).double()
    theirs.load_state_dict({name.removeprefix("lstm."): value for name, value in encoder.state_dict().items()})
    x = double(BATCH, KEYS, INPUT)
    memory, (h, c) = encoder(x, torch.ones(BATCH, KEYS, dtype=torch.bool))
    expected, (expected_h, expected_c) = theirs(x)
    assert torch.equal(memory, expected)
    assert torch.equal(h, expected_h)
    assert torch.equal(c, expected_c)


def test_decoder_is_its_equation():
    decoder, memory, x, before = small_decoder(), double(BATCH, KEYS, MEMORY), double(BATCH, LENGTH, INPUT), state()
    output, (h, c) = decoder(x, before, memory, REAL)
    hidden, (expected_h, expected_c) = decoder.lstm(x, before)
    assert decoder.attention is not None
    assert decoder.combine is not None
    query, key = decoder.attention.project_query(hidden), decoder.attention.project_key(memory)
    context, _ = naive_additive_attention(query, key, memory, decoder.attention.scorer, REAL[:, None])
    expected = torch.tanh(torch.cat((context, hidden), dim=-1) @ decoder.combine.weight.T)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)
    assert torch.equal(h, expected_h)
    assert torch.equal(c, expected_c)


def test_decoder_without_attention_is_its_state():
    decoder, memory, before = small_decoder(attention=False), double(BATCH, KEYS, MEMORY), state()
    output, (h, _) = decoder(double(BATCH, LENGTH, INPUT), before, memory)
    assert torch.equal(output[:, -1], h[-1])
    assert decoder.start(memory) is None


@pytest.mark.parametrize("attention", [False, True])
def test_steps_are_the_whole(attention: bool):
    decoder, memory, carried = small_decoder(attention), double(BATCH, KEYS, MEMORY), state()
    x = double(BATCH, LENGTH, INPUT)
    whole, last = decoder(x, carried, memory, REAL)
    keys = decoder.start(memory)
    for i in range(LENGTH):
        output, carried = decoder(x[:, i : i + 1], carried, memory, REAL, keys)
        torch.testing.assert_close(output[:, 0], whole[:, i], rtol=0, atol=1e-10)
    torch.testing.assert_close(carried, last, rtol=0, atol=1e-10)


def test_gradients():
    decoder, memory, x = LSTMDecoder(2, 3, 2).double(), double(1, 3, 2), double(1, 2, 2)
    before = (double(1, 1, 3), double(1, 1, 3))

    def output(x: Tensor, h: Tensor, c: Tensor, memory: Tensor) -> Tensor:
        return decoder(x, (h, c), memory)[0]

    assert torch.autograd.gradcheck(output, [part.requires_grad_() for part in (x, *before, memory)])


def test_padded_memory_leaks_nothing():
    decoder, memory, x, before = small_decoder(), double(BATCH, KEYS, MEMORY), double(BATCH, LENGTH, INPUT), state()
    output, _ = decoder(x, before, memory, REAL)
    other, _ = decoder(x, before, memory + 3 * ~REAL[..., None], REAL)
    assert torch.equal(output, other)


def test_recording_names_the_attention():
    decoder, memory = small_decoder(), double(BATCH, KEYS, MEMORY)
    with record() as trace:
        decoder(double(BATCH, LENGTH, INPUT), state(), memory, REAL)
    assert trace.names == ["attention.weights"]
    weights = trace["attention.weights"]
    assert weights.shape == (BATCH, 1, LENGTH, KEYS)
    assert bool((weights[:, 0].transpose(1, 2)[~REAL] == 0).all())


def test_half_precision_by_autocast():
    encoder, decoder = LSTMEncoder(INPUT, HIDDEN), LSTMDecoder(INPUT, HIDDEN, HIDDEN)
    x, y = torch.randn(BATCH, KEYS, INPUT), torch.randn(BATCH, LENGTH, INPUT)

    def run() -> Tensor:
        memory, before = encoder(x, REAL)
        return decoder(y, before, memory, REAL)[0]

    with torch.autocast("cpu", torch.bfloat16):
        half = run()
        half.float().sum().backward()
    torch.testing.assert_close(half.float(), run(), rtol=0.05, atol=0.05)


@pytest.mark.usefixtures("no_shape_hook")
def test_compiled_is_eager():
    decoder, memory, x, before = small_decoder(), double(BATCH, KEYS, MEMORY), double(BATCH, LENGTH, INPUT), state()
    compiled = torch.compile(decoder, backend="aot_eager")
    with torch.no_grad():  # torch warns of its own LSTM under compilation otherwise
        torch.testing.assert_close(compiled(x, before, memory, REAL), decoder(x, before, memory, REAL))


def test_dropout_lies_between_layers():
    x, real = torch.randn(BATCH, KEYS, INPUT), torch.ones(BATCH, KEYS, dtype=torch.bool)
    one, two = (LSTMEncoder(INPUT, HIDDEN, layers, dropout=0.5) for layers in (1, 2))
    assert torch.equal(one(x, real)[0], one(x, real)[0])
    assert not torch.equal(two(x, real)[0], two(x, real)[0])


def test_empty_sequences_are_refused():
    real = REAL.clone()
    real[1] = False
    with pytest.raises(InputError, match=r"sequence 1 of the batch is empty\. Expected at least one real position"):
        LSTMEncoder(INPUT, HIDDEN)(torch.randn(BATCH, KEYS, INPUT), real)
