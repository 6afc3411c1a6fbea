"""What tells positions apart, added to the embedded tokens."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qkv.errors import InputError


class SinusoidalPositions(nn.Module):
    """Adds `sin(position / 10000^(2i / embed_dim))` and the cosine, in turn (Vaswani et al. 2017, section 3.5).

    Args:
        embed_dim: the width.
        max_length: how many positions the table holds.

    >>> SinusoidalPositions(embed_dim=2, max_length=3)(torch.zeros(1, 2, 2))
    tensor([[[0.0000, 1.0000],
             [0.8415, 0.5403]]])
    """

    table: Float[Tensor, "max_length embed_dim"]

    def __init__(self, embed_dim: int, max_length: int):
        super().__init__()
        even = torch.arange(0, embed_dim, 2, dtype=torch.float64)
        angle = torch.arange(max_length, dtype=torch.float64)[:, None] / 10000 ** (even / embed_dim)
        table = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)[:, :embed_dim]
        self.register_buffer("table", table.to(torch.get_default_dtype()), persistent=False)

    def forward(
        self, x: Float[Tensor, "batch length embed_dim"], start: int = 0
    ) -> Float[Tensor, "batch length embed_dim"]:
        """`x` with its positions added, which count from `start`.

        Raises:
            InputError: positions past the end of the table.
        """
        return x + _positions(self.table, start, x.shape[1])


class LearnedPositions(nn.Module):
    """Adds a learned vector for each position (Gehring et al. 2017, section 3.1).

    Args:
        max_length: how many positions there are.
        embed_dim: the width.

    >>> LearnedPositions(max_length=3, embed_dim=5)(torch.zeros(1, 2, 5)).shape
    torch.Size([1, 2, 5])
    """

    def __init__(self, max_length: int, embed_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, embed_dim).normal_(std=0.02))

    def forward(
        self, x: Float[Tensor, "batch length embed_dim"], start: int = 0
    ) -> Float[Tensor, "batch length embed_dim"]:
        """`x` with its positions added, which count from `start`.

        Raises:
            InputError: positions past the last one.
        """
        return x + _positions(self.weight, start, x.shape[1])


def _positions(
    table: Float[Tensor, "max_length embed_dim"], start: int, length: int
) -> Float[Tensor, "length embed_dim"]:
    if start + length > table.shape[0]:
        raise InputError(
            "the sequence is longer than there are positions",
            expected=f"at most {table.shape[0]}",
            got=f"{start + length}",
            hint="a larger max_length, or shorter sequences",
        )
    return table[start : start + length]
