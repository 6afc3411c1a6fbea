"""Losses as formulas."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def masked_cross_entropy(
    logits: Float[Tensor, "batch length vocab"],
    target: Int[Tensor, "batch length"],
    mask: Bool[Tensor, "batch length"],
    *,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """The mean of `-log softmax(logits)[target]` over the positions where `mask` is True.

    With smoothing e the target distribution is `(1 - e) onehot + e / vocab` (Szegedy et al., 2016, section 7).

    >>> import torch
    >>> logits = torch.tensor([[[0.0, 0.0], [9.0, 0.0]]])
    >>> loss = masked_cross_entropy(logits, torch.tensor([[1, 1]]), torch.tensor([[True, False]]))
    >>> round(loss.item(), 4)  # log 2: the second position does not count
    0.6931
    """
    gold = target.masked_fill(~mask, -100)  # cross_entropy's own mark for positions to leave out
    return F.cross_entropy(logits.flatten(0, 1), gold.flatten(), label_smoothing=label_smoothing)
