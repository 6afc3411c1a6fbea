"""The definition that the tests hold every normalised form to: queries one by one, over the keys that each may see."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor


def naive_attention(
    weigh: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *others: Tensor
) -> tuple[Tensor, Tensor]:
    """Output and weights, these proportional to `weigh(q, keys, *others)` with `q` of one query.

    Args:
        weigh: gives a positive number for each of `keys`.
        query, key, value: `(*batch, length, width)`.
        mask: True where a query may attend to a key; broadcasts to the weights.
        others: what else `weigh` takes of each item of the batch.
    """
    *batch, queries, keys = (*query.shape[:-1], key.shape[-2])
    mask = torch.ones(keys, dtype=torch.bool, device=query.device) if mask is None else mask
    mask = mask.expand(*batch, queries, keys)
    weights, output = query.new_zeros(*batch, queries, keys), query.new_zeros(*batch, queries, value.shape[-1])
    for *item, i in product(*map(range, (*batch, queries))):
        allowed = mask[(*item, i)].nonzero().flatten().tolist()
        if not allowed:
            continue
        shares = weigh(query[(*item, i)], key[(*item, allowed)], *(other[tuple(item)] for other in others))
        shares = shares / shares.sum()
        weights[(*item, i, allowed)] = shares
        output[(*item, i)] = shares @ value[(*item, allowed)]
    return output, weights


def exponential(scores: Tensor) -> Tensor:
    """`exp(scores)` up to a factor, so that what is proportional to it is their softmax; far scores do not overflow."""
    return (scores - scores.max()).exp()
