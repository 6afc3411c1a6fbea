"""Losses as formulas."""

from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qkv.functional.plain import opened

_ROWS = 512  # positions whose logits are held at once


def linear_cross_entropy(
    hidden: Float[Tensor, "batch length width"],
    weight: Float[Tensor, "vocab width"],
    bias: Float[Tensor, " vocab"] | None,
    target: Int[Tensor, "batch length"],
    mask: Bool[Tensor, "batch length"],
    *,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """The mean of `-log softmax(hidden @ weight.T + bias)[target]` over the positions where `mask` is True.

    With smoothing e the target distribution is `(1 - e) onehot + e / vocab` (Szegedy et al. 2016, section 7).

    The output layer and its loss are half of the time of a small translator. `naive_linear_cross_entropy` is the
    definition; here positions go through a few hundred at a time, so that logits are never held whole, and their
    gradient `softmax - (1 - e) onehot - e / vocab` is formed on the spot. The last term is the same for all logits, so
    it needs no pass over them: it meets the sums of `weight` and `hidden` instead. Under autocast the products are in
    its type, all sums in float32. Second derivatives go through the definition.

    >>> weight, target = torch.tensor([[0.0], [9.0]]), torch.tensor([[1, 1]])
    >>> loss = linear_cross_entropy(torch.tensor([[[0.0], [1.0]]]), weight, None, target, torch.tensor([[True, False]]))
    >>> round(loss.item(), 4)  # log 2: the second position does not count
    0.6931
    """
    if opened("linear cross-entropy"):
        return naive_linear_cross_entropy(hidden, weight, bias, target, mask, label_smoothing=label_smoothing)
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    real = hidden[mask].to(dtype)
    cast = None if bias is None else bias.to(dtype)
    return _LinearCrossEntropy.apply(real, weight.to(dtype), cast, target[mask], label_smoothing)


def naive_linear_cross_entropy(
    hidden: Float[Tensor, "batch length width"],
    weight: Float[Tensor, "vocab width"],
    bias: Float[Tensor, " vocab"] | None,
    target: Int[Tensor, "batch length"],
    mask: Bool[Tensor, "batch length"],
    *,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """`linear_cross_entropy` as it is defined."""
    logits = F.linear(hidden[mask], weight, bias)
    return F.cross_entropy(logits, target[mask], label_smoothing=label_smoothing)


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over the positions; backward only scales them."""

    @staticmethod
    @no_type_check
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, e: float) -> Tensor:
        count, vocab = target.shape[0], weight.shape[0]
        exact = torch.promote_types(hidden.dtype, torch.float32)
        wanted = any(ctx.needs_input_grad)
        loss = torch.zeros((), dtype=exact, device=hidden.device)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=exact)
        grad_bias = torch.zeros(vocab, dtype=exact, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, count, _ROWS):
                h, gold = hidden[start : start + _ROWS], target[start : start + _ROWS, None]
                logits = F.linear(h, weight, bias)
                softmax = logits.softmax(dim=1, dtype=exact)
                # log sum exp, read off where the softmax is largest and cannot underflow
                log_sum = logits.amax(dim=1).to(exact) - softmax.amax(dim=1).log()
                loss += log_sum.sum() - (1 - e) * logits.gather(1, gold).sum(dtype=exact)
                if wanted:
                    softmax.scatter_add_(1, gold, softmax.new_full(gold.shape, e - 1))
                    gradient = softmax.to(hidden.dtype)
                    grad_hidden[start : start + _ROWS] = gradient @ weight
                    grad_weight += gradient.T @ h
                    if bias is not None:
                        grad_bias += softmax.sum(dim=0)
            if e:
                sum_hidden, sum_weight = hidden.sum(dim=0, dtype=exact), weight.sum(dim=0, dtype=exact)
                sum_logits = sum_hidden @ sum_weight + (0 if bias is None else count * bias.sum(dtype=exact))
                loss -= e / vocab * sum_logits
                grad_hidden -= (e / vocab * sum_weight).to(hidden.dtype)
                grad_weight -= e / vocab * sum_hidden
                grad_bias -= e / vocab * count
        gradients = grad_hidden, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)
        ctx.save_for_backward(hidden, weight, bias, target, *gradients)
        ctx.count, ctx.smoothing = count, e
        return loss / count

    @staticmethod
    @no_type_check
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target, *gradients = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # a derivative of what is returned here will be wanted
            loss = F.cross_entropy(F.linear(hidden, weight, bias), target, label_smoothing=ctx.smoothing)
            wanted = [x for x, need in zip((hidden, weight, bias), needed, strict=True) if need]
            found = iter(torch.autograd.grad(loss, wanted, grad.to(loss.dtype), create_graph=True))
        else:
            found = (x * (grad / ctx.count).to(x.dtype) for x, need in zip(gradients, needed, strict=True) if need)
        return *(next(found) if need else None for need in needed), None, None
