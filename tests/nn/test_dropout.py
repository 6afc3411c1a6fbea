import pytest
import torch
from torch import nn

from qkv.errors import InputError
from qkv.nn import Dropout


def test_it_drops_while_training_alone():
    x, layer = torch.ones(97, 101), Dropout(0.25)
    output = layer(x)
    assert output.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert (output == 0).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_it_stands_where_torchs_stood():
    ours, theirs = nn.Sequential(nn.Linear(2, 3), Dropout(0.1)), nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.1))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(5, 2)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert (Dropout().p, repr(Dropout(0.1))) == (nn.Dropout().p, "Dropout(p=0.1)")


def test_the_seed_decides():
    layer, x = Dropout(0.5), torch.ones(97)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)


@pytest.mark.parametrize("p", [-0.1, 1.5])
def test_what_is_no_probability(p: float):
    with pytest.raises(InputError, match="Expected a number from 0 to 1"):
        Dropout(p)
