"""Embeddings that an output layer can share."""

from torch import nn

from qkv.nn import TokenEmbedding


def scaled_embedding(size: int, width: int, pretrained_dim: int | None, freeze: bool) -> tuple[TokenEmbedding, float]:
    """An embedding, and the factor that its output is to be multiplied by.

    An output layer wants rows of norm 1, the layers above want entries of size 1: rows are drawn with deviation
    `width ** -0.5` and multiplied by `width ** 0.5` on the way in (Vaswani et al., 2017, section 3.4). Pretrained
    vectors are taken as they are. Id 0 is padding.
    """
    if pretrained_dim is not None:
        return TokenEmbedding(size, width, 0, pretrained_dim=pretrained_dim, freeze=freeze), 1.0
    embedding = TokenEmbedding(size, width, 0)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    nn.init.zeros_(embedding.weight[0].detach())
    return embedding, width**0.5


def tied_embedding(size: int, width: int) -> tuple[nn.Embedding, float]:
    """As `scaled_embedding`, where no id is padding."""
    embedding = nn.Embedding(size, width)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    return embedding, width**0.5
