import math

import pytest
import torch

from qkv.errors import InputError
from qkv.nn import LearnedPositions, SinusoidalPositions


def test_sinusoidal_positions_by_hand():
    # Width 4: rates 1 and 1 / 10000^(2/4) = 1/100. Position 3 is (sin 3, cos 3, sin 0.03, cos 0.03).
    expected = [math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)]
    assert SinusoidalPositions(4, 5)(torch.zeros(1, 5, 4))[0, 3].tolist() == pytest.approx(expected, abs=1e-6)


def test_an_odd_width_ends_with_a_sine():
    assert torch.equal(
        SinusoidalPositions(1, 3)(torch.zeros(1, 3, 1))[0, :, 0], torch.arange(3.0).double().sin().float()
    )


def test_a_shift_is_a_rotation():
    # The reason for this form (Vaswani et al. 2017, section 3.5): position p + k is a linear function of p.
    table = SinusoidalPositions(2, 11).double()(torch.zeros(1, 11, 2, dtype=torch.float64))[0]
    rotation = torch.tensor([[math.cos(3), math.sin(3)], [-math.sin(3), math.cos(3)]], dtype=torch.float64)
    torch.testing.assert_close(table[3:], table[:-3] @ rotation.T, atol=1e-6, rtol=0)


@pytest.mark.parametrize("positions", [SinusoidalPositions(5, 7), LearnedPositions(7, 5)], ids=str)
def test_positions_are_added_from_start(positions: torch.nn.Module):
    x = torch.randn(2, 7, 5)
    whole = positions(x)
    torch.testing.assert_close(positions(x[:, 3:5], start=3), whole[:, 3:5])
    torch.testing.assert_close(whole - x, positions(torch.zeros(2, 7, 5)))
    assert not torch.allclose(positions(x[:, 3:5]), whole[:, 3:5])


def test_what_is_saved():
    assert list(SinusoidalPositions(5, 7).state_dict()) == []
    assert LearnedPositions(7, 5).state_dict()["weight"].shape == (7, 5)


@pytest.mark.parametrize("positions", [SinusoidalPositions(5, 7), LearnedPositions(7, 5)], ids=str)
def test_longer_sequences_are_refused(positions: torch.nn.Module):
    positions(torch.zeros(1, 7, 5))
    with pytest.raises(InputError, match=r"longer than there are positions\. Expected at most 7; got 8"):
        positions(torch.zeros(1, 8, 5))
    with pytest.raises(InputError, match="at most 7; got 8"):
        positions(torch.zeros(1, 1, 5), start=7)
