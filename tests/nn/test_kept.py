"""Maps that are made side by side: what they are, and that threads are as they were."""

import pytest
import torch

import qkv
from qkv.nn.kept import _AT_ONCE, Choice, Scaled


@pytest.mark.parametrize("threads", [1, 3])
def test_many_maps_are_made_as_each_is_alone(threads: int):
    heads, queries, keys = 5, 67, 4099
    assert 2 * heads * queries * keys > _AT_ONCE
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, heads, queries, 7, generator=generator)
    key = torch.randn(2, heads, keys, 7, generator=generator)
    attention = Scaled(query, key, None, False, 7**-0.5, None)
    expected = torch.softmax(query @ key.mT * 7**-0.5, -1).topk(11)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        weights, kept = Choice(top=11).keep(attention, "it")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert kept is not None
    assert kept.key_index is not None
    torch.testing.assert_close(weights, expected.values)
    assert torch.equal(kept.key_index, expected.indices)


def test_inference_mode_holds_beside():
    model = torch.nn.MultiheadAttention(4, 2, batch_first=True).eval()
    x = torch.randn(1, 1031, 4)
    with torch.inference_mode(), qkv.record(model, top=3) as trace:
        model(x, x, x, need_weights=False)
    (step,) = trace.attention()
    assert step.value.is_inference()
    assert not step.value.requires_grad
