import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from qkv.errors import InputError, InputTypeError
from qkv.functional import lengths_to_real
from qkv.nn import GRU, LSTM, GRUCell, LSTMCell, rnn
from qkv.trace import record

BATCH, LENGTH, INPUT, HIDDEN = 5, 7, 3, 11
LENGTHS = torch.tensor([3, 7, 1, 3, 2])
REAL = lengths_to_real(LENGTHS, LENGTH)
PEERS = {LSTM: nn.LSTM, GRU: nn.GRU, LSTMCell: nn.LSTMCell, GRUCell: nn.GRUCell}

layers = pytest.mark.parametrize("kind", [LSTM, GRU])
cells = pytest.mark.parametrize("kind", [LSTMCell, GRUCell])


def tensors(value) -> list[Tensor]:
    """All tensors of an output, in order; of packed ones their rows."""
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, Tensor) else [x for part in value for x in tensors(part)]


def pair(kind, *sizes, **options):
    """Ours and torch's with the same weights."""
    theirs = PEERS[kind](*sizes, **options)
    ours = kind(*sizes, **options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    return ours, theirs


def same(ours: nn.Module, theirs: nn.Module, run: Callable, inputs: list[Tensor], exact: float = 1e-12):
    """Values, and gradients by all inputs and parameters; to 1e-12 in float64."""
    inputs = [x.requires_grad_() for x in inputs]
    values, references = tensors(run(ours, *inputs)), tensors(run(theirs, *inputs))
    assert [x.shape for x in values] == [x.shape for x in references]
    torch.testing.assert_close(values, references, rtol=0, atol=exact)
    cotangents = [torch.randn_like(x) for x in values]
    gradients = torch.autograd.grad(values, [*inputs, *ours.parameters()], cotangents)
    expected = torch.autograd.grad(references, [*inputs, *theirs.parameters()], cotangents)
    assert all(bool(gradient.any()) for gradient in expected)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=20 * exact)


def state(kind, *shape: int) -> list[Tensor]:
    return [torch.randn(*shape, dtype=torch.float64) for _ in range(2 if kind in (LSTM, LSTMCell) else 1)]


def as_hx(states: tuple[Tensor, ...]):
    return states if len(states) == 2 else states[0]


# -- cells -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "exact"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str)
@cells
def test_six_steps_of_a_cell_are_torchs(kind, dtype: torch.dtype, exact: float):
    ours, theirs = pair(kind, 10, 20, dtype=dtype)

    def run(cell: nn.Module, inputs: Tensor) -> list:
        after, all_after = None, []
        for x in inputs:
            after = cell(x, after)
            all_after.append(after)
        return all_after

    same(ours, theirs, run, [torch.randn(6, 3, 10, dtype=dtype)], exact)


@pytest.mark.parametrize("shape", [(), (BATCH,)], ids=["one", "batch"])
@pytest.mark.parametrize("bias", [True, False])
@cells
def test_a_cell_from_a_given_state_is_torchs(kind, bias: bool, shape: tuple[int, ...]):
    ours, theirs = pair(kind, INPUT, HIDDEN, bias=bias, dtype=torch.float64)
    x = torch.randn(*shape, INPUT, dtype=torch.float64)
    same(ours, theirs, lambda cell, x, *hx: cell(x, as_hx(hx)), [x, *state(kind, *shape, HIDDEN)])


# -- layers ----------------------------------------------------------------------------------------------------------

FORMS = list(itertools.product([1, 2], [False, True], [False, True], [True, False]))


@pytest.mark.parametrize(("depth", "bidirectional", "batch_first", "bias"), FORMS)
@layers
def test_layers_are_torchs(kind, depth: int, bidirectional: bool, batch_first: bool, bias: bool):
    options = {"bidirectional": bidirectional, "batch_first": batch_first, "bias": bias, "dtype": torch.float64}
    ours, theirs = pair(kind, INPUT, HIDDEN, depth, **options)
    x = torch.randn(BATCH, LENGTH, INPUT, dtype=torch.float64)
    x = x if batch_first else x.transpose(0, 1).contiguous()
    start = state(kind, depth * (1 + bidirectional), BATCH, HIDDEN)
    same(ours, theirs, lambda layer, x: layer(x), [x])
    same(ours, theirs, lambda layer, x, *hx: layer(x, as_hx(hx)), [x, *start])
    same(ours, theirs, lambda layer, x, *hx: layer(x, as_hx(hx)), [x[:, 0], *(part[:, 0] for part in start)])

    def packed(layer: nn.Module, x: Tensor, *hx: Tensor):
        return layer(pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False), as_hx(hx))

    same(ours, theirs, packed, [x, *start])


@pytest.mark.parametrize("batch_first", [False, True])
@layers
def test_padding_takes_no_part(kind, batch_first: bool):
    options = {"bidirectional": True, "batch_first": batch_first, "dtype": torch.float64}
    ours, theirs = pair(kind, INPUT, HIDDEN, 2, **options)
    x = torch.randn(BATCH, LENGTH, INPUT, dtype=torch.float64)

    def run(layer: nn.Module, x: Tensor):
        x = x if batch_first else x.transpose(0, 1)
        if layer is ours:
            return layer(x, real=REAL)
        output, last = layer(pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False))
        return pad_packed_sequence(output, batch_first, total_length=LENGTH)[0], last

    same(ours, theirs, run, [x])
    output, _ = run(ours, x)
    other, _ = run(ours, x + 9 * ~REAL[..., None])
    assert torch.equal(output, other)


def test_packed_sequences_that_lie_in_order_need_no_order():
    ours, theirs = pair(LSTM, INPUT, HIDDEN, dtype=torch.float64)
    x = torch.randn(4, 3, INPUT, dtype=torch.float64)
    same(ours, theirs, lambda layer, x: layer(pack_padded_sequence(x, torch.tensor([4, 2, 2]))), [x])


@layers
def test_single_precision_is_torchs_to_1e_6(kind):
    ours, theirs = pair(kind, 10, 20, 2, bidirectional=True)
    x = torch.randn(6, 3, 10)
    torch.testing.assert_close(tensors(ours(x)), tensors(theirs(x)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", PEERS)
def test_initial_values_are_torchs(kind):
    torch.manual_seed(1)
    ours = kind(INPUT, HIDDEN)
    torch.manual_seed(1)
    theirs = PEERS[kind](INPUT, HIDDEN)
    assert all(torch.equal(mine, other) for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True))


@layers
def test_dropout_lies_between_layers(kind):
    x = torch.randn(LENGTH, BATCH, INPUT)
    one, two = (kind(INPUT, HIDDEN, depth, dropout=0.5) for depth in (1, 2))
    assert torch.equal(one(x)[0], one(x)[0])
    assert not torch.equal(two(x)[0], two(x)[0])
    two.eval()
    assert torch.equal(two(x)[0], two(x)[0])


@layers
def test_second_derivatives(kind):
    layer, x = kind(2, 2, bidirectional=True, dtype=torch.float64), torch.randn(2, 2, 2, dtype=torch.float64)
    names, weights = zip(*layer.named_parameters(), strict=True)

    def output(x: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,))[0]

    assert torch.autograd.gradgradcheck(output, (x.requires_grad_(), *weights), fast_mode=True)


@pytest.mark.usefixtures("no_shape_hook")
@layers
def test_compiled_is_eager(kind):
    layer, x = kind(INPUT, HIDDEN), torch.randn(2, BATCH, INPUT)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(tensors(compiled(x)), tensors(layer(x)), rtol=0, atol=1e-6)


@layers
def test_under_autocast_it_stays_in_the_weights_type(kind):
    layer, x = kind(INPUT, HIDDEN), torch.randn(LENGTH, BATCH, INPUT).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x)[0]
    assert torch.equal(output, layer(x.float())[0])


def test_models_run_on_either_layer(monkeypatch):
    x = torch.randn(BATCH, LENGTH, INPUT)
    theirs = rnn.LSTMEncoder(INPUT, HIDDEN, 2)
    assert isinstance(theirs.lstm, nn.LSTM)
    monkeypatch.setattr(rnn, "LAYER", LSTM)
    ours = rnn.LSTMEncoder(INPUT, HIDDEN, 2)
    assert isinstance(ours.lstm, LSTM)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(tensors(ours(x, REAL)), tensors(theirs(x, REAL)), rtol=0, atol=2e-6)


# -- recording -------------------------------------------------------------------------------------------------------


def test_recording_shows_gates_and_states_of_all_steps():
    layer = LSTM(INPUT, HIDDEN, 2, batch_first=True, bidirectional=True)
    x = torch.randn(BATCH, LENGTH, INPUT)
    with record() as trace:
        output, (h, c) = layer(x, real=REAL)
    suffixes = ("l0", "l0_reverse", "l1", "l1_reverse")
    assert trace.names == [f"{suffix}.{name}" for suffix in suffixes for name in "ifgoch"]
    assert torch.equal(torch.cat((trace["l1.h"], trace["l1_reverse.h"]), dim=-1), output)
    i, f, g, o, cells, hidden = (trace[f"l0.{name}"] for name in "ifgoch")
    assert cells.shape == (BATCH, LENGTH, HIDDEN)
    before = torch.cat((torch.zeros(BATCH, 1, HIDDEN), cells[:, :-1]), dim=1)
    torch.testing.assert_close(cells, f * before + i * g)
    torch.testing.assert_close(hidden, o * cells.tanh(), rtol=0, atol=1e-6)
    # Backwards, a step's state comes from the position after it; each sequence ends in its own place.
    f, cells = trace["l0_reverse.f"], trace["l0_reverse.c"]
    after = torch.cat((cells[:, 1:], torch.zeros(BATCH, 1, HIDDEN)), dim=1)
    torch.testing.assert_close(cells, f * after + trace["l0_reverse.i"] * trace["l0_reverse.g"])
    assert torch.equal(cells[:, 0], c[1])
    torch.testing.assert_close(h[0], hidden[torch.arange(BATCH), LENGTHS - 1])


def test_a_gru_records_too():
    layer, x = GRU(INPUT, HIDDEN), torch.randn(LENGTH, BATCH, INPUT)
    with record() as trace:
        output, _ = layer(x)
    assert trace.names == ["l0.r", "l0.z", "l0.n", "l0.h"]
    assert torch.equal(trace["l0.h"].transpose(0, 1), output)


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSTM(3, 5, proj_size=2), r"proj_size is not supported\. Expected 0; got 2\. Try: a linear map"),
        (lambda: LSTM(0, 5), r"input_size and hidden_size .* 1 or more; got 0 and 5"),
        (lambda: GRUCell(3, -1), r"input_size and hidden_size .* 1 or more; got 3 and -1"),
        (lambda: GRU(3, 5, 0), r"num_layers .* 1 or more; got 0"),
        (lambda: GRU(3, 5, dropout=2.0), r"p cannot be a probability"),
    ],
)
def test_modules_that_cannot_be_are_refused(make: Callable, message: str):
    with pytest.raises(InputError, match=message):
        make()


def ragged() -> Tensor:
    real = REAL.clone()
    real[3, 1] = False
    return real


X = torch.randn(BATCH, LENGTH, INPUT)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda layer: layer(X[..., :2]), r"input is not as wide .* 3 numbers a position; got shape \(5, 7, 2\)"),
        (lambda layer: layer(X[:, :0]), r"input has a shape .* \(batch, length, 3\), or \(length, 3\) without a batch"),
        (lambda layer: layer(X[0, 0]), r"input has a shape"),
        (lambda layer: layer(X.double()), r"input is of another type than the weights\. Expected torch\.float32"),
        (lambda layer: layer(X.long()), r"input is of a type that cannot be read\. .*; got torch\.int64"),
        (lambda layer: layer([1.0]), r"input is of a type that cannot be read\. .*; got list"),
        (lambda layer: layer(X, (torch.zeros(2, 5, 11), torch.zeros(1, 5, 11))), r"h_0 does not fit .* \(1, 5, 11\)"),
        (lambda layer: layer(X, (torch.zeros(1, 5, 11), torch.zeros(1, 4, 11))), r"c_0 does not fit .* \(1, 5, 11\)"),
        (lambda layer: layer(X, real=ragged()), r"sequence 3 of the batch has padding before its end"),
        (lambda layer: layer(X, real=REAL & False), r"sequence 0 of the batch is empty"),
        (lambda layer: layer(X, real=REAL.T), r"real does not fit .* \(5, 7\), batch and length; .* \(7, 5\)"),
        (lambda layer: layer(X[0], real=REAL[0]), r"real does not fit .* an input with a batch"),
        (lambda layer: layer(pack_padded_sequence(X, LENGTHS, True, False), real=REAL), r"real is given beside"),
    ],
)
@pytest.mark.usefixtures("no_shape_hook")
def test_inputs_that_do_not_fit_are_refused(run: Callable, message: str):
    with pytest.raises((InputError, InputTypeError), match=message):
        run(LSTM(INPUT, HIDDEN, batch_first=True))


@pytest.mark.usefixtures("no_shape_hook")
def test_a_cell_refuses_a_state_of_another_size():
    with pytest.raises(InputError, match=r"c does not fit the input\. Expected \(5, 11\); got \(5, 7\)"):
        LSTMCell(INPUT, HIDDEN)(X[:, 0], (torch.zeros(5, 11), torch.zeros(5, 7)))
