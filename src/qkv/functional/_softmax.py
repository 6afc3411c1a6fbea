"""Softmax attention at work: what the forms share whose scores are products `query @ key.mT`."""

from itertools import product
from typing import Any, no_type_check

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.functional._inputs import values_are_there
from qkv.functional.dropout import dropout as drop
from qkv.functional.mask import full_mask
from qkv.functional.plain import opened
from qkv.team import side_by_side

_ROWS = 256  # queries whose weights are made at once: with 2,048 keys 2 MB, which a core's cache holds
_LARGE = 2**16  # entries of one map from which on blocks pay


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
    in_the_open = not need_weights and opened("softmax attention")
    if need_weights or in_the_open:
        if dropout == 0 and not in_the_open and _in_blocks(query, key, value):
            return _attend_in_blocks(query, key, value, full_mask(query, key, mask, is_causal), scale)
        weights = drop(softmax_weights(query, key, mask, scale=scale, is_causal=is_causal), dropout)
        return weights @ value, weights if need_weights else None
    if mask is not None or query.shape[-2] != key.shape[-2]:  # the fused path takes one or the other, and only squares
        mask, is_causal = full_mask(query, key, mask, is_causal), False
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and torch.is_grad_enabled():
        # torch's backward in bfloat16 takes three to eight times as long as in float32 up to 256 keys.
        with torch.autocast("cpu", enabled=False):
            output = _fused(query.float(), key.float(), value.float(), mask, scale, is_causal, dropout)
        return output.bfloat16(), None
    return _fused(query, key, value, mask, scale, is_causal, dropout), None


def softmax_weights(query: Tensor, key: Tensor, mask: Tensor | None, *, scale: float | None, is_causal: bool) -> Tensor:
    """`softmax_attention_weights` on inputs that were checked, all but the mask."""
    scores = query * full_scale(query, scale) @ key.mT
    return masked_softmax(scores, full_mask(query, key, mask, is_causal)).to(query.dtype)


def full_scale(query: Tensor, scale: float | None) -> float:
    """`scale`, or `1 / sqrt(head_dim)` where it is left out."""
    return query.shape[-1] ** -0.5 if scale is None else scale


def masked_softmax(scores: Tensor, mask: Tensor | None, *, out: Tensor | None = None) -> Tensor:
    """The softmax over the keys that `mask` allows; zeros where it allows none."""
    if mask is None:  # torch's softmax sums in single precision where scores are in half
        return torch.softmax(scores, dim=-1, out=out)
    # The lowest number instead of -inf: a row without keys is then finite in both directions, and zeroed after.
    hidden, lowest = ~mask, torch.finfo(scores.dtype).min
    weights = torch.softmax(scores.masked_fill(hidden, lowest), dim=-1, out=out)
    return weights.masked_fill(hidden, 0) if out is None else weights.masked_fill_(hidden, 0)


# -- without weights -------------------------------------------------------------------------------------------------


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float | None,
    is_causal: bool,
    dropout: float,
) -> Tensor:
    trains = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    # Kernels take tensors of four axes, and on a processor no dropout: what else torch does is differentiable twice.
    if trains and dropout == 0 and query.dim() == 4 and values_are_there(query):
        return _TwiceDifferentiable.apply(query, key, value, mask, scale, is_causal)
    return F.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout, is_causal=is_causal, scale=scale)


class _TwiceDifferentiable(torch.autograd.Function):
    """`scaled_dot_product_attention`, with the plain form's second derivative where its kernels have but a first."""

    @staticmethod
    @no_type_check
    def forward(ctx: Any, query, key, value, mask, scale, is_causal) -> Tensor:
        ctx.save_for_backward(query, key, value, mask)
        ctx.scale, ctx.is_causal = scale, is_causal
        ctx.leaves, ctx.output = _TwiceDifferentiable.graph(ctx, query, key, value, mask)
        return ctx.output.detach()

    @staticmethod
    @no_type_check
    def graph(ctx: Any, query, key, value, mask) -> tuple[list[Tensor], Tensor]:
        """torch's own graph of the kernel, from leaves of its own."""
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in (query, key, value)]
            return leaves, F.scaled_dot_product_attention(*leaves, mask, is_causal=ctx.is_causal, scale=ctx.scale)

    @staticmethod
    @no_type_check
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, mask = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of what is returned here will be wanted
            query, key, value = inputs
            weights = softmax_weights(query, key, mask, scale=ctx.scale, is_causal=ctx.is_causal)
            wanted = [x for x, needed in zip(inputs, ctx.needs_input_grad, strict=False) if needed]
            gradients = iter(torch.autograd.grad(weights @ value, wanted, grad, create_graph=True))
            return *(next(gradients) if needed else None for needed in ctx.needs_input_grad[:3]), None, None, None
        if ctx.output is None:  # this is not the first time, and memory went after that
            ctx.leaves, ctx.output = _TwiceDifferentiable.graph(ctx, *inputs, mask)
        gradients = torch.autograd.grad(ctx.output, ctx.leaves, grad)
        ctx.leaves = ctx.output = None
        return *gradients, None, None, None


# -- with weights ----------------------------------------------------------------------------------------------------


def _in_blocks(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether `_attend_in_blocks` can be taken and is worth it: on a processor, where nothing is differentiated."""
    return (
        query.device.type == "cpu"
        and query.dtype in (torch.float32, torch.float64)
        and query.shape[-2] * key.shape[-2] >= _LARGE
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value)))
        and not torch.is_autocast_enabled("cpu")
        and values_are_there(query)
    )


def _attend_in_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor]:
    """Output and weights, the map written once: scores, softmax and output of a block of queries while it is in cache.

    The plain form goes through the map four times. Half of the remaining cost were page faults: NumPy, unlike torch,
    asks the system for huge pages, which are 512 times fewer.
    """
    *batch, queries, _ = query.shape
    keys, query = key.shape[-2], query * full_scale(query, scale)
    weights = torch.from_numpy(np.empty((*batch, queries, keys), dtype=query.numpy().dtype))
    output = query.new_empty(*batch, queries, value.shape[-1])
    mask = None if mask is None else mask.expand(*batch, queries, keys)

    def one_map(item: tuple[int, ...]) -> None:
        q, k, v, w, o = (x[item] for x in (query, key, value, weights, output))
        scores = q.new_empty(_ROWS, keys)
        for start in range(0, queries, _ROWS):
            rows = slice(start, start + _ROWS)
            torch.mm(q[rows], k.mT, out=scores[: len(q[rows])])
            masked_softmax(scores[: len(q[rows])], None if mask is None else mask[item][rows], out=w[rows])
            torch.mm(w[rows], v, out=o[rows])

    maps = list(product(*map(range, batch)))
    if len(maps) < torch.get_num_threads():  # then threads share the operations
        for item in maps:
            one_map(item)
    else:
        side_by_side(one_map, maps)
    return output, weights
