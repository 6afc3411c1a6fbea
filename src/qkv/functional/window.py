"""Sliding-window attention: each query sees the keys near it, at a cost that grows with the length, not its square."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from qkv.errors import InputError
from qkv.functional._inputs import check_finite, check_inputs
from qkv.functional._naive import exponential, naive_attention
from qkv.functional._softmax import attend, full_scale
from qkv.functional.mask import check_window, combine_masks, full_mask, window_mask

_BLOCK = 64  # queries at least that go together: with fewer, products are too small to be fast


def windowed_attention(
    query: Float[Tensor, "*batch length head_dim"],
    key: Float[Tensor, "*batch length head_dim"],
    value: Float[Tensor, "*batch length value_dim"],
    window: int,
    mask: Bool[Tensor, "*#batch #length length"] | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> tuple[Float[Tensor, "*batch length value_dim"], Float[Tensor, "*batch length length"] | None]:
    """`softmax_attention` over the keys at most `window` away (Beltagy et al. 2020, section 3.1), causal or on both
    sides.

    Queries go in blocks, each with the keys that any of its block may see, so time and memory are
    `O(length * window)`; weights, which are a whole map of zeros outside the window, cost `O(length^2)` when asked for.

    Args:
        query, key, value, scale, dropout, need_weights: as in `softmax_attention`; as many queries as keys.
        window: query i sees keys j with `|i - j| <= window`; if causal, `0 <= i - j <= window`.
        mask: True where a query may attend to a key; narrows the window.
        is_causal: no query sees a key after it.

    Raises:
        InputTypeError: tensors that are not floating, or a mask that is not boolean.
        InputError: a negative window, shapes that cannot go together, NaN or infinity, or scores that overflow.

    >>> query, key, value = torch.zeros(3, 1), torch.zeros(3, 1), torch.tensor([[1.0], [3.0], [7.0]])
    >>> windowed_attention(query, key, value, 1)[0].T
    tensor([[2.0000, 3.6667, 5.0000]])
    """
    check_inputs(query=query, key=key, value=value)
    check_window(window)
    _check_lengths(query, key)
    mask = full_mask(query, key, mask)
    before, after = window, 0 if is_causal else window
    block, length = max(window, _BLOCK), query.shape[-2]
    if need_weights or length <= before + block + after:
        near = window_mask(length, length, window, is_causal=is_causal, device=query.device)
        output, weights = attend(
            query,
            key,
            value,
            combine_masks(mask, near),
            scale=scale,
            is_causal=False,
            dropout=dropout,
            need_weights=need_weights,
        )
    else:
        blocked, weights = attend(
            _blocks(query, block),
            _blocks(key, block, before, after),
            _blocks(value, block, before, after),
            _mask_blocks(query, mask, block, before, after),
            scale=scale,
            is_causal=False,
            dropout=dropout,
            need_weights=False,
        )
        output = blocked.flatten(1, 2)[:, :length].reshape(*query.shape[:-1], -1)
    check_finite(output, query=query, key=key, value=value)
    return output, weights


def naive_windowed_attention(
    query: Float[Tensor, "*batch length head_dim"],
    key: Float[Tensor, "*batch length head_dim"],
    value: Float[Tensor, "*batch length value_dim"],
    window: int,
    mask: Bool[Tensor, "*#batch #length length"] | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
) -> tuple[Float[Tensor, "*batch length value_dim"], Float[Tensor, "*batch length length"]]:
    """The definition of `windowed_attention`: for each query, the softmax over the keys that it may see."""
    factor = full_scale(query, scale)
    away = torch.arange(query.shape[-2])[:, None] - torch.arange(key.shape[-2])
    near = (away >= 0) & (away <= window) if is_causal else away.abs() <= window
    mask = combine_masks(full_mask(query, key, mask), near.to(query.device))
    return naive_attention(lambda q, keys: exponential(keys @ q * factor), query, key, value, mask)


def _blocks(x: Tensor, block: int, before: int = 0, after: int = 0) -> Tensor:
    """`(*batch, length, width)` as `(items, blocks, before + block + after, width)`, zeros beyond both ends.

    Blocks overlap in one memory: a view of the padded tensor.
    """
    padded = F.pad(x, (0, 0, before, -x.shape[-2] % block + after))
    return padded.reshape(-1, *padded.shape[-2:]).unfold(-2, before + block + after, block).mT


def _mask_blocks(query: Tensor, mask: Tensor | None, block: int, before: int, after: int) -> Tensor:
    """What the queries of each block may see of its keys, broadcasting to `(items, blocks, block, keys)`."""
    *batch, length, _ = query.shape
    keys, missing = before + block + after, -length % block
    mask = torch.ones(1, length, dtype=torch.bool, device=query.device) if mask is None else torch.atleast_2d(mask)
    if mask.shape[-2] == 1:
        near = F.pad(mask, (before, missing + after)).unfold(-1, keys, block).movedim(-2, -3)
    else:  # of all blocks of rows with all blocks of keys, those of a row's own keys
        padded = F.pad(mask, (before, missing + after, 0, missing))
        squares = padded.unfold(-2, block, block).unfold(-2, keys, block)
        near = squares.diagonal(dim1=-4, dim2=-3).movedim(-1, -3)
    # From where it stands in its block's keys, a query sees `before + after` further ones.
    near = near & window_mask(block, keys, before + after, is_causal=True, device=query.device)
    return near.expand(*batch, *near.shape[-3:]).flatten(0, -4) if mask.dim() > 2 else near[None]


def _check_lengths(query: Tensor, key: Tensor) -> None:
    if query.shape[-2] != key.shape[-2]:
        raise InputError(
            "query and key differ in length, and a window is measured between their positions",
            expected="as many queries as keys",
            got=f"{query.shape[-2]} and {key.shape[-2]}",
        )
