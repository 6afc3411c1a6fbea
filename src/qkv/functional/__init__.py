"""Formulas on tensors: no parameters, no files. A mask is boolean, and True means *may be attended to*."""

from qkv.functional.attention import (
    additive_attention,
    additive_attention_weights,
    naive_additive_attention,
    naive_softmax_attention,
    softmax_attention,
    softmax_attention_weights,
)
from qkv.functional.mask import causal_mask, combine_masks, lengths_to_real, mask_from_torch, padding_mask

__all__ = [
    "additive_attention",
    "additive_attention_weights",
    "causal_mask",
    "combine_masks",
    "lengths_to_real",
    "mask_from_torch",
    "naive_additive_attention",
    "naive_softmax_attention",
    "padding_mask",
    "softmax_attention",
    "softmax_attention_weights",
]
