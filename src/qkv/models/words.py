"""What happens to tokens before they are embedded."""

import torch
from jaxtyping import Int
from torch import Tensor, nn

from qkv.functional.dropout import require_probability

UNKNOWN_ID = 3
"""Which token stands for those that have none, in vocabularies made here."""


class WordDropout(nn.Module):
    """Reads tokens as unknown at random while training, so that no single word is relied on (Iyyer et al. 2015, s. 3).

    Padding, id 0, stays.

    Args:
        p: the share of tokens.

    >>> WordDropout(0.999).train()(torch.tensor([[7, 5, 0]])).tolist()
    [[3, 3, 0]]
    """

    def __init__(self, p: float):
        super().__init__()
        require_probability(p)
        self.p = p

    def forward(self, ids: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        if not self.training or self.p == 0:
            return ids
        hidden = torch.rand(ids.shape, device=ids.device) < self.p
        return ids.masked_fill(hidden & (ids != 0), UNKNOWN_ID)
