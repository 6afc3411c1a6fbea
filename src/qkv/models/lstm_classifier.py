"""Classification of texts with an LSTM that reads them from both ends."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from qkv.models.embed import scaled_embedding
from qkv.models.pooling import max_and_mean
from qkv.models.words import WordDropout
from qkv.nn import Dropout, LSTMEncoder
from qkv.types import Config, TextBatch


class LSTMClassifierConfig(Config):
    """Sizes of the LSTM."""

    embed_dim: PositiveInt = 128
    """Width of the embedding."""
    hidden_size: PositiveInt = 128
    """Width of the states of each direction, and of what joins them."""
    num_layers: PositiveInt = 1
    """LSTMs on top of each other."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """On embeddings, between layers and before the output."""
    word_dropout: float = Field(default=0.1, ge=0, lt=1)
    """The share of tokens that are read as unknown while training."""


class LSTMClassifier(nn.Module):
    """An LSTM in both directions (Schuster and Paliwal 1997); the largest and the mean state of each unit over the text
    tell its class.

    Args:
        config: sizes.
        vocab: how many tokens there are; id 0 is padding.
        classes: how many labels.
        pretrained_dim: the width of pretrained embeddings, where there are some (see `TokenEmbedding`).
        freeze: keep pretrained embeddings as they are.

    >>> import torch
    >>> model = LSTMClassifier(LSTMClassifierConfig(embed_dim=3, hidden_size=5), vocab=7, classes=2)
    >>> model(torch.tensor([[4, 5, 0]]), torch.tensor([[True, True, False]])).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        config: LSTMClassifierConfig,
        vocab: int,
        classes: int,
        *,
        pretrained_dim: int | None = None,
        freeze: bool = False,
    ):
        super().__init__()
        width, hidden = config.embed_dim, config.hidden_size
        self.embedding, self.scale = scaled_embedding(vocab, width, pretrained_dim, freeze)
        self.word_dropout = WordDropout(config.word_dropout)
        self.dropout = Dropout(config.dropout)
        self.encoder = LSTMEncoder(width, hidden, config.num_layers, config.dropout)
        for idle in (self.encoder.join_h, self.encoder.join_c):  # a decoder would start from what they join
            idle.requires_grad_(False)
        self.output = nn.Linear(2 * hidden, classes)

    def forward(
        self, ids: Int[Tensor, "batch length"], real: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of each class."""
        states = self.states(self.word_dropout(ids), real)
        return self.output(self.dropout(max_and_mean(states, real)))

    def states(
        self, ids: Int[Tensor, "batch length"], real: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length hidden"]:
        """What is told of each token, from both ends."""
        return self.encoder(self.dropout(self.embedding(ids) * self.scale), real)[0]

    def loss(self, batch: TextBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy."""
        return F.cross_entropy(self(batch.ids, batch.real), batch.label)
