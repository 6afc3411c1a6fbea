import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qkv.errors import InputError
from qkv.functional import head_overlap, head_statistics


def weights_of(heads: int, length: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    scores = torch.randn(heads, length, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (scale * scores).softmax(-1)


def test_by_hand():
    # Three tokens, the last a separator. One head reads the token before (the first reads itself), one reads 1/2, 1/4,
    # 1/4 whoever asks.
    before = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    spread = 3 * [[0.5, 0.25, 0.25]]
    found = head_statistics(torch.tensor([before, spread]), torch.tensor([False, False, True]))
    expected = {
        "entropy": [0.0, 1.5 * math.log(2)],  # 1/2 log 2 + 2 x 1/4 log 4
        "distance": [2 / 3, (0.75 + 0.75 + 1.25) / 3],  # rows: 1/4 + 2/4; 1/2 + 1/4; 2/2 + 1/4
        "itself": [1 / 3, 1 / 3],  # 1, 0, 0; 1/2, 1/4, 1/4
        "previous": [1.0, 0.375],  # over the two that have one: 1, 1; 1/2, 1/4
        "next": [0.0, 0.25],
        "first": [2 / 3, 0.5],
        "separators": [0.0, 0.25],
        "overlap": [(0.5 + 0.5 + 0.25) / 3] * 2,  # min of each entry: 1/2; 1/2; 1/4
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], torch.tensor(values), msg=lambda m, n=name: f"{n}: {m}")


def test_between_two_texts_by_hand():
    # Two queries, three keys, the last a separator: one reads the first key, one the two others alike.
    weights = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]])
    found = head_statistics(weights, torch.tensor([False, False, True]), kind="cross")
    expected = {"entropy": math.log(2) / 2, "first": 0.5, "separators": 0.25, "overlap": 0.0}
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected)
    square = weights_of(2, 3)
    assert torch.equal(head_statistics(square, kind="cross")["entropy"], head_statistics(square)["entropy"])


@given(st.integers(1, 5), st.integers(1, 11), st.sampled_from([0.0, 1.0, 1e4]), st.integers(0, 100))
def test_laws(heads: int, length: int, scale: float, seed: int):
    weights = weights_of(heads, length, scale, seed)
    everywhere = torch.ones(length, dtype=torch.bool)
    found = head_statistics(weights, everywhere)
    assert all(bool(value.isfinite().all()) and value.shape == (heads,) for value in found.values())
    assert bool((found["entropy"] <= math.log(length) + 1e-9).all())
    assert bool((found["entropy"] >= 0).all())
    torch.testing.assert_close(found["separators"], torch.ones(heads, dtype=torch.float64))
    # Read backwards, the previous token is the next one; relabelled heads relabel their numbers.
    backwards = head_statistics(weights.flip(-1, -2).flip(0))
    for name, other in {"previous": "next", "next": "previous"}.items():
        torch.testing.assert_close(backwards[name], found[other].flip(0))
    for name in ("entropy", "distance", "itself", "overlap"):
        torch.testing.assert_close(backwards[name], found[name].flip(0))
    overlap = head_overlap(weights)
    assert torch.equal(overlap, overlap.T)
    torch.testing.assert_close(overlap.diagonal(), torch.ones(heads, dtype=torch.float64))
    variation = (weights[0] - weights[-1]).abs().sum(-1).mean() / 2
    torch.testing.assert_close(overlap[0, -1], 1 - variation)


def test_a_row_without_keys_counts_as_zeros():
    weights = weights_of(2, 3)
    weights[:, 1] = 0
    found = head_statistics(weights)
    torch.testing.assert_close(found["itself"], (weights[:, 0, 0] + weights[:, 2, 2]) / 3)
    assert head_overlap(weights)[0, 0] == pytest.approx(2 / 3)


def test_gradients():
    weights = weights_of(2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: tuple(head_statistics(w).values()), weights)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("statistic", [head_statistics, head_overlap])
def test_what_is_refused(statistic):
    for shape in ((2, 0, 3), (2, 3, 0), (3, 3)):
        with pytest.raises(InputError, match=rf"weights are not those of heads\..*got {re.escape(str(shape))}"):
            statistic(torch.rand(*shape))
    with pytest.raises(InputError, match=r"weights are negative in places.*Got a smallest one of -0.5"):
        statistic(torch.tensor([[[1.5, -0.5], [0.0, 1.0]]]))


@pytest.mark.usefixtures("no_shape_hook")
def test_what_self_attention_is_not():
    with pytest.raises(InputError, match=r"not those of heads over one text.*got \(2, 3, 5\).*Try: kind='cross'"):
        head_statistics(torch.rand(2, 3, 5))
    with pytest.raises(InputError, match=r"separators do not fit the weights. Expected 3 of them; got \(2,\)"):
        head_statistics(weights_of(2, 3), torch.tensor([True, False]))
