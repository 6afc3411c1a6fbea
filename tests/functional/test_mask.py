import pytest
import torch
from torch import nn

from qkv.errors import InputError, InputTypeError
from qkv.functional import (
    causal_mask,
    combine_masks,
    lengths_to_real,
    mask_from_edges,
    mask_from_torch,
    padding_mask,
    window_mask,
)


def test_causal_mask_by_hand():
    # Two new queries after three keys of the past: the first sees the past and itself, the second everything.
    assert causal_mask(2, 5).tolist() == [[True] * 4 + [False], [True] * 5]
    # More queries than keys: the last query sits at the last key, so the first has nothing.
    assert causal_mask(3, 2).tolist() == [[False, False], [True, False], [True, True]]


def test_causal_mask_is_its_own_bottom_rows():
    assert torch.equal(causal_mask(3, 7), causal_mask(7)[-3:])


def test_window_mask_by_hand():
    assert window_mask(3, 3, 1).int().tolist() == [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    assert window_mask(3, 3, 1, is_causal=True).int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    # One new query after three keys of the past, at which it looks back by two.
    assert window_mask(1, 4, 2, is_causal=True).int().tolist() == [[0, 1, 1, 1]]


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("window", [0, 2, 11])
def test_a_window_is_a_distance(window: int, is_causal: bool):
    for query, row in enumerate(window_mask(7, 7, window, is_causal=is_causal)):
        for key, allowed in enumerate(row):
            assert allowed == (abs(query - key) <= window and not (is_causal and key > query))


def test_a_window_over_everything_is_the_causal_mask_alone():
    assert torch.equal(window_mask(3, 7, 7, is_causal=True), causal_mask(3, 7))
    assert bool(window_mask(3, 7, 7).all())


@pytest.mark.parametrize("window", [-1, 0.5])
@pytest.mark.usefixtures("no_shape_hook")
def test_what_is_no_distance_is_refused(window: float):
    with pytest.raises(InputError, match=rf"window cannot be a distance.*a whole number from 0 on; got {window}"):
        window_mask(3, 3, window)


def test_mask_from_edges_by_hand():
    # An edge from 0 to 2 lets 2 see 0, and not the other way.
    assert mask_from_edges(torch.tensor([[0, 1], [2, 1]]), 3).int().tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert not mask_from_edges(torch.empty(2, 0, dtype=torch.int64), 3).any()


def test_lengths_and_padding_by_hand():
    real = lengths_to_real(torch.tensor([2, 0, 3]), 3)
    assert real.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert torch.equal(padding_mask(real), real.view(3, 1, 1, 3))


def test_combine_masks_allows_what_all_allow():
    real = lengths_to_real(torch.tensor([2, 3]), 3)
    both = combine_masks(causal_mask(3), None, padding_mask(real))
    assert both is not None
    for item in range(2):
        for query in range(3):
            for key in range(3):
                assert both[item, 0, query, key] == (key <= query and bool(real[item, key]))
    assert combine_masks(None, None) is None


@pytest.mark.parametrize("floating", [False, True])
def test_mask_from_torch_flips_both_masks(floating: bool):
    left_out = torch.rand(5, 7) < 0.5
    padding = torch.rand(3, 7) < 0.5
    mask = mask_from_torch(
        torch.zeros(5, 7).masked_fill(left_out, -torch.inf) if floating else left_out,
        torch.zeros(3, 7).masked_fill(padding, -torch.inf) if floating else padding,
        num_heads=2,
    )
    assert mask is not None
    assert torch.equal(mask, ~(left_out | padding[:, None, None, :]))


def test_mask_from_torch_splits_batch_and_heads():
    left_out = torch.rand(3 * 2, 5, 7) < 0.5
    mask = mask_from_torch(left_out, num_heads=2)
    assert mask is not None
    assert torch.equal(mask[2, 1], ~left_out[2 * 2 + 1])


def test_mask_from_torch_reads_torch_own_causal_mask():
    mask = mask_from_torch(nn.Transformer.generate_square_subsequent_mask(5), num_heads=1)
    assert mask is not None
    assert torch.equal(mask, causal_mask(5))


def test_mask_from_torch_without_masks():
    assert mask_from_torch(num_heads=2) is None


def test_mask_from_torch_refuses_biases():
    with pytest.raises(InputError, match=r"attn_mask adds values .* got values from 0 to 0\.5.* a boolean mask"):
        mask_from_torch(torch.tensor([[0.0, 0.5]]), num_heads=1)
    with pytest.raises(InputError, match="key_padding_mask adds values"):
        mask_from_torch(key_padding_mask=torch.tensor([[0.0, torch.nan]]), num_heads=1)


@pytest.mark.parametrize("shape", [(3, 5, 7), (7,), (1, 2, 5, 7)])
@pytest.mark.usefixtures("no_shape_hook")
def test_mask_from_torch_refuses_shapes(shape: tuple[int, ...]):
    with pytest.raises(InputError, match=r"attn_mask has a shape .*batch \* 2 heads"):
        mask_from_torch(torch.zeros(shape, dtype=torch.bool), num_heads=2)


@pytest.mark.usefixtures("no_shape_hook")
def test_mask_from_torch_refuses_integers():
    with pytest.raises(InputTypeError, match=r"key_padding_mask is of a type .*torch\.int64.*key_padding_mask\.bool"):
        mask_from_torch(key_padding_mask=torch.ones(2, 3, dtype=torch.int64), num_heads=2)


def test_masks_that_do_not_fit_together_are_refused():
    with pytest.raises(InputError, match=r"do not fit together.*got \(5, 7\) and \(3, 1, 1, 5\)"):
        combine_masks(torch.ones(5, 7, dtype=torch.bool), torch.ones(3, 1, 1, 5, dtype=torch.bool))
