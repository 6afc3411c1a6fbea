"""Softmax attention at work: what the forms that are a softmax of `query @ key.mT` share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.functional.dropout import dropout as drop
from qkv.functional.mask import full_mask


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scale: float | None,
    is_causal: bool,
    dropout: float,
    need_weights: bool,
) -> tuple[Tensor, Tensor | None]:
    """`softmax_attention` on inputs that were checked, all but the mask."""
    if need_weights:
        weights = drop(softmax_weights(query, key, mask, scale=scale, is_causal=is_causal), dropout)
        return weights @ value, weights
    if mask is not None or query.shape[-2] != key.shape[-2]:  # the fused path takes one or the other, and only squares
        mask, is_causal = full_mask(query, key, mask, is_causal), False
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and torch.is_grad_enabled():
        # torch's backward in bfloat16 takes three to eight times as long as in float32 up to 256 keys.
        with torch.autocast("cpu", enabled=False):
            output = F.scaled_dot_product_attention(
                query.float(), key.float(), value.float(), mask, dropout_p=dropout, is_causal=is_causal, scale=scale
            )
        return output.bfloat16(), None
    output = F.scaled_dot_product_attention(
        query, key, value, mask, dropout_p=dropout, is_causal=is_causal, scale=scale
    )
    return output, None


def full_scale(query: Tensor, scale: float | None) -> float:
    """`scale`, or `1 / sqrt(head_dim)` where it is left out."""
    return query.shape[-1] ** -0.5 if scale is None else scale


def softmax_weights(query: Tensor, key: Tensor, mask: Tensor | None, *, scale: float | None, is_causal: bool) -> Tensor:
    """`softmax_attention_weights` on inputs that were checked, all but the mask."""
    scores = query * full_scale(query, scale) @ key.mT
    return masked_softmax(scores, full_mask(query, key, mask, is_causal)).to(query.dtype)


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """The softmax over the keys that `mask` allows; zeros where it allows none."""
    if mask is None:  # torch's softmax sums in single precision where scores are in half
        return scores.softmax(dim=-1)
    # The lowest number instead of -inf: a row without keys is then finite in both directions, and zeroed after.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(dim=-1).masked_fill(~mask, 0)
