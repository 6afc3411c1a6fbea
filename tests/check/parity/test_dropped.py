"""Dropout that follows from values: the same for the same values, in whatever order and layout."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import qkv
from qkv.check.parity.dropped import dropout_by_value, dropped


def test_equal_values_share_their_fate_wherever_they_are():
    x = torch.randn(7, 5, dtype=torch.float64)
    torch.testing.assert_close(dropped(x.T, 0.4).T, dropped(x, 0.4), rtol=0, atol=0)
    kept = dropped(x, 0.4) != 0
    torch.testing.assert_close(dropped(x, 0.4)[kept], x[kept] / 0.6)


def test_about_its_share_is_dropped():
    shares = [(dropped(torch.randn(10_007), p) == 0).float().mean().item() for p in (0.1, 0.5, 0.9)]
    assert shares == pytest.approx([0.1, 0.5, 0.9], abs=0.02)


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_recurrent_layers_of_both_libraries_drop_the_same(layer: str):
    theirs = getattr(nn, layer)(3, 5, 3, dropout=0.4, bidirectional=True).double()
    ours = getattr(qkv.nn, layer)(3, 5, 3, dropout=0.4, bidirectional=True).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    with dropout_by_value() as switch:
        assert torch.equal(theirs(x)[0], theirs.eval()(x)[0])  # off: nothing is dropped
        theirs.train()
        switch.on = True
        torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=0, atol=1e-12)
        assert not torch.allclose(theirs(x)[0], theirs.eval()(x)[0])


def test_torch_is_as_before_afterwards():
    before = F.dropout, F.scaled_dot_product_attention, torch.dropout, nn.modules.rnn._VF
    with dropout_by_value():
        assert F.dropout is not before[0]
    assert (F.dropout, F.scaled_dot_product_attention, torch.dropout, nn.modules.rnn._VF) == before


def test_fused_attention_drops_weights():
    q, k, v = torch.randn(3, 1, 2, 5, 3, dtype=torch.float64).unbind()
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    weights = (q @ k.mT / 3**0.5).masked_fill(~mask, -torch.inf).softmax(-1)
    with dropout_by_value() as switch:
        switch.on = True
        for given in (
            {"attn_mask": mask},
            {"is_causal": True},
            {"attn_mask": torch.zeros(5, 5).double().masked_fill(~mask, -torch.inf)},
        ):
            output = F.scaled_dot_product_attention(q, k, v, dropout_p=0.3, **given)
            torch.testing.assert_close(output, dropped(weights, 0.3) @ v)
