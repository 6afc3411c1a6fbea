"""A module beside a reference: layouts of its own pass, mistakes are named with their place, the rest is refused."""
# ruff: noqa: ARG002, ARG005 - signatures are what is tested

import math

import pytest
import torch
from torch import nn

import qkv
from qkv.check import parity
from qkv.errors import InputError, NotFiniteError

SMALL = [{"input_size": 3, "hidden_size": 5}]
OF_ATTENTION = [{"embed_dim": 6, "num_heads": 2}]


class Fused(nn.Module):
    """Both inputs side by side, input by output, gates f, o, i, g, one bias."""

    def __init__(self, n_in, n_hidden):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(n_in + n_hidden, 4 * n_hidden))
        self.b = nn.Parameter(torch.zeros(4 * n_hidden))

    def forward(self, x, state):
        h, c = state
        f, o, i, g = (torch.cat([x, h], 1) @ self.kernel + self.b).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), (o.sigmoid() * c.tanh(), c)


class Nameless(nn.Module):
    """A matrix for each gate, whose names say nothing; states as arguments of their own."""

    def __init__(self, input_size, hidden_size, bias=True):
        super().__init__()
        for k in "1234":
            setattr(self, "W" + k, nn.Linear(input_size, hidden_size, bias=bias))
            setattr(self, "U" + k, nn.Linear(hidden_size, hidden_size, bias=False))

    def forward(self, x, h, c):
        a, b, d, e = (getattr(self, "W" + k)(x) + getattr(self, "U" + k)(h) for k in "1234")
        c = b.sigmoid() * c + d.sigmoid() * a.tanh()
        return e.sigmoid() * c.tanh(), c


class Attention(nn.Module):
    """Four maps, a mask that is 1 where attention is allowed, no weights returned, sequences with the batch second."""

    def __init__(self, d_model, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, q, k, v, mask=None):
        q, k, v = (
            linear(x.transpose(0, 1)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, x in ((self.to_q, q), (self.to_k, k), (self.to_v, v))
        )
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(mask == 0, -math.inf)
        return self.to_out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)).transpose(0, 1)


def test_a_fused_transposed_layout_in_another_order_is_recognised_and_said():
    report = parity(Fused, nn.LSTMCell, sizes=SMALL)
    assert report.ok, report.wrong
    parts = " / ".join(f"weight_ih[{k}]" for k in "foig")
    assert report.mapping["kernel"] == f"({parts} | {parts.replace('ih', 'hh')}).T"


def test_names_that_say_nothing_are_found_by_what_agrees():
    report = parity(Nameless, nn.LSTMCell, sizes=SMALL)
    assert report.ok, report.wrong
    assert [report.mapping[f"W{k}.weight"][-2] for k in "1234"] == ["g", "f", "i", "o"]
    assert any("no state given" in note for note in report.notes)


def test_a_mapping_given_is_taken():
    gates = dict(zip("1234", "gfio", strict=True))
    mapping = {f"W{k}.weight": f"weight_ih[{gate}]" for k, gate in gates.items()}
    mapping |= {f"U{k}.weight": f"weight_hh[{gate}]" for k, gate in gates.items()}
    mapping |= {f"W{k}.bias": f"bias_ih[{gate}] + bias_hh[{gate}]" for k, gate in gates.items()}
    assert parity(Nameless, nn.LSTMCell, sizes=SMALL, mapping=mapping).ok
    swapped = {name: text.replace("[g]", "[o]") for name, text in mapping.items()}
    assert not parity(Nameless, nn.LSTMCell, sizes=SMALL, mapping=swapped).ok


def test_attention_with_an_opposite_mask_and_the_batch_second():
    report = parity(Attention, nn.MultiheadAttention, sizes=OF_ATTENTION)
    assert report.ok, report.wrong
    assert any("opposite of torch's" in note for note in report.notes)
    assert any("(length, batch, width)" in note for note in report.notes)


@pytest.mark.parametrize("layer", ["LSTMCell", "GRUCell"])
def test_our_own_cells(layer: str):
    report = parity(getattr(qkv.nn, layer), getattr(nn, layer), bfloat16=True)
    assert report.ok, report.wrong
    assert report["h"].facts["float64"] < 1e-12 < report["h"].facts["float32"] < report["h"].facts["bfloat16"] < 1


@pytest.mark.nightly
@pytest.mark.parametrize(
    "layer", ["LSTM", "GRU", "MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer"]
)
def test_our_own_layers(layer: str):
    report = parity(getattr(qkv.nn, layer), getattr(nn, layer))
    assert report.ok, report.wrong


def test_what_passes_on_all_that_it_gets_takes_what_the_one_above_it_does():
    class Doubled(nn.GRUCell):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

        def forward(self, *args, **kwargs):
            return 2 * super().forward(*args, **kwargs)

    report = parity(Doubled, nn.GRUCell, sizes=SMALL)
    assert not report.ok
    assert report.cause == "factor", report.wrong


def test_the_gate_and_the_line_are_named():
    class Wrong(nn.LSTMCell):
        def forward(self, x, hx):
            i, f, g, o = (x @ self.weight_ih.T + self.bias_ih + hx[0] @ self.weight_hh.T + self.bias_hh).chunk(4, 1)
            c = f.sigmoid() * hx[1] + i.sigmoid() * g.tanh()
            return o.tanh() * c.tanh(), c

    report = parity(Wrong, nn.LSTMCell, sizes=SMALL)
    assert (report.cause, report.where) == ("activation", "the output gate o")
    assert report.instead.startswith("o = tanh(")
    assert report["c"].verdict == "correct"  # the gate has no part in it
    assert report["h"].verdict == "wrong"


def test_a_gradient_that_is_cut_is_wrong_though_values_are_right():
    class Cut(nn.GRUCell):
        def forward(self, x, h):
            return super().forward(x, h.detach()) + 0 * h

    report = parity(Cut, nn.GRUCell, sizes=SMALL)
    assert report["h"].verdict == "correct"
    assert report["gradient by input h"].verdict == "wrong"


def test_less_precision_is_named():
    class Rough(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x).float().to(x.dtype)

    report = parity(Rough, nn.LayerNorm, sizes=[{"normalized_shape": 7}])
    assert report.cause == "precision"


def test_two_modules_of_no_case():
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    same, other = (nn.Sequential(nn.Linear(3, 5), act, nn.Linear(5, 2)) for act in (nn.Tanh(), nn.Sigmoid()))
    x = [torch.randn(7, 3)]
    assert parity(same, theirs, arguments=x).ok
    report = parity(other, theirs, arguments=x)
    assert (report.ok, report.cause) == (False, "other")
    assert "first differs in output" in report.explanation


class _NotANumber(nn.LSTMCell):
    def forward(self, x, hx):
        h, c = super().forward(x, hx)
        return h / 0 * 0, c


class _NoParameters(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()

    def forward(self, x, h, c):
        return h, c


class _OtherSizes(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(7, 11))

    def forward(self, x, h, c):
        return h, c


class _Strange(nn.LSTMCell):
    def __init__(self, first, second, third, fourth):
        super().__init__(first, second)


class _Raises(nn.LSTMCell):
    def forward(self, x, hx):
        raise KeyError("gate")


class _OtherShapes(nn.LSTMCell):
    def forward(self, x, hx):
        return super().forward(x, hx)[0].sum()


@pytest.mark.parametrize(
    ("ours", "options", "error", "message"),
    [
        (_NotANumber, {}, NotFiniteError, "gives h that is not finite"),
        (_NoParameters, {}, InputError, "_NoParameters has no parameters"),
        (_OtherSizes, {}, InputError, "could not be mapped to the reference's"),
        (_Strange, {}, InputError, r"takes \(first, second, third, fourth\), which could not be told apart"),
        (_Raises, {}, InputError, "_Raises raises KeyError: 'gate'"),
        (_OtherShapes, {}, InputError, "returns other shapes"),
        (nn.LSTMCell, {"case": "LSTMCel"}, InputError, "unknown case 'LSTMCel'.*Try: LSTMCell"),
        (nn.LSTMCell, {"mapping": {"weight_ij": "weight_ih"}}, InputError, "unknown parameter 'weight_ij'"),
        (nn.LSTMCell, {"mapping": {"weight_ih": "weight_hh"}}, InputError, "does not fit"),
        (nn.LSTMCell, {"sizes": []}, InputError, "sizes is empty"),
        (nn.LSTMCell, {"tolerance": 2.0}, InputError, "tolerance cannot be used"),
        (lambda input_size, hidden_size: 3, {}, InputError.__mro__[1], "makes no module"),
    ],
)
def test_what_cannot_be_compared(ours, options, error, message: str):
    with pytest.raises(error, match=message):
        parity(ours, nn.LSTMCell, **({"sizes": SMALL} | options))


def test_modules_of_no_case_need_arguments():
    with pytest.raises(InputError, match=r"not known what to call Linear with.*--case NAME"):
        parity(nn.Linear(3, 5), nn.Linear(3, 5))
