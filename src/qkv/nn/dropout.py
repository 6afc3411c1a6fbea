"""Dropout as a module."""

from jaxtyping import Float
from torch import Tensor, nn

from qkv.functional.dropout import dropout, require_probability


class Dropout(nn.Module):
    """Sets entries to zero while training; see `qkv.functional.dropout` for why it is not torch's.

    Args:
        p: the share of entries, 0 to 1.

    Raises:
        InputError: a `p` outside 0 to 1.
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        require_probability(p)
        self.p = p

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
