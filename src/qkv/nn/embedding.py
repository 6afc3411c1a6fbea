"""Tokens as vectors: learned here, or pretrained and frozen or tuned."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from qkv.errors import InputError


class TokenEmbedding(nn.Module):
    """A vector for each token, through a linear map where pretrained vectors have another width than the model.

    Args:
        num_embeddings: how many tokens.
        embed_dim: the width that comes out.
        padding_idx: the token whose vector starts at zero and takes no gradient.
        pretrained: vectors to start from, a row a token.
        pretrained_dim: the width of those vectors, where they themselves will come from a state dict.
        freeze: whether the vectors stay as they are; a linear map after them still learns.

    Raises:
        InputError: pretrained vectors whose number or width is not the one given.

    >>> embedding = TokenEmbedding(7, 5, pretrained=torch.randn(7, 3), freeze=True)
    >>> embedding(torch.tensor([[0, 6]])).shape, list(embedding.state_dict())
    (torch.Size([1, 2, 5]), ['weight', 'project.weight'])
    """

    def __init__(
        self,
        num_embeddings: int,
        embed_dim: int,
        padding_idx: int | None = None,
        *,
        pretrained: Float[Tensor, "num pretrained_dim"] | None = None,
        pretrained_dim: int | None = None,
        freeze: bool = False,
    ):
        super().__init__()
        if pretrained is not None:
            expected = (num_embeddings, pretrained.shape[1] if pretrained_dim is None else pretrained_dim)
            if pretrained.shape != expected:
                raise InputError(
                    "the pretrained vectors do not fit",
                    expected=f"{expected[0]} rows of width {expected[1]}",
                    got=f"{pretrained.shape[0]} rows of width {pretrained.shape[1]}",
                )
            pretrained_dim = pretrained.shape[1]
        width = embed_dim if pretrained_dim is None else pretrained_dim
        self.padding_idx = padding_idx
        self.weight = nn.Parameter(torch.empty(num_embeddings, width), requires_grad=not freeze)
        self.project = nn.Linear(width, embed_dim, bias=False) if width != embed_dim else None
        with torch.no_grad():
            self.weight.normal_() if pretrained is None else self.weight.copy_(pretrained)
            if padding_idx is not None:
                self.weight[padding_idx] = 0

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch embed_dim"]:
        """The vectors of `ids`."""
        vectors = F.embedding(ids, self.weight, self.padding_idx)
        return vectors if self.project is None else self.project(vectors)
