"""Classification of texts with a Transformer encoder."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from qkv.functional import padding_mask
from qkv.models.embed import scaled_embedding
from qkv.models.pooling import max_and_mean
from qkv.models.transformer_stack import StreamConfig, glorot, pre_norm_encoder
from qkv.models.words import WordDropout
from qkv.nn import Dropout, SinusoidalPositions
from qkv.trace import scope
from qkv.types import TextBatch


class TransformerClassifierConfig(StreamConfig):
    """Sizes of the Transformer."""

    feedforward_dim: PositiveInt = 256
    """Hidden width of the feed-forward blocks."""
    num_layers: PositiveInt = 2
    """Layers on top of each other."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """On embeddings, on the output of every block and before the output."""
    word_dropout: float = Field(default=0.1, ge=0, lt=1)
    """The share of tokens that are read as unknown while training."""


class TransformerClassifier(nn.Module):
    """The encoder of Vaswani et al. (2017), pre-norm; the largest and the mean output of each unit over the
    text tell its class.

    Args:
        config: sizes.
        vocab: how many tokens there are; id 0 is padding.
        classes: how many labels.
        max_length: the most tokens in a text.
        pretrained_dim: the width of pretrained embeddings, where there are some (see `TokenEmbedding`).
        freeze: keep pretrained embeddings as they are.

    >>> import torch
    >>> sizes = TransformerClassifierConfig(embed_dim=8, num_heads=2, feedforward_dim=11)
    >>> model = TransformerClassifier(sizes, vocab=7, classes=2, max_length=5)
    >>> model(torch.tensor([[4, 5, 0]]), torch.tensor([[True, True, False]])).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        config: TransformerClassifierConfig,
        vocab: int,
        classes: int,
        *,
        max_length: int,
        pretrained_dim: int | None = None,
        freeze: bool = False,
    ):
        super().__init__()
        width = config.embed_dim
        self.embedding, self.scale = scaled_embedding(vocab, width, pretrained_dim, freeze)
        self.positions = SinusoidalPositions(width, max_length)
        self.word_dropout = WordDropout(config.word_dropout)
        self.dropout = Dropout(config.dropout)
        self.encoder = pre_norm_encoder(config, config.feedforward_dim, config.num_layers, config.dropout)
        self.output = nn.Linear(2 * width, classes)
        glorot(self.encoder.parameters())

    def forward(
        self, ids: Int[Tensor, "batch length"], real: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of each class."""
        states = self.states(self.word_dropout(ids), real)
        return self.output(self.dropout(max_and_mean(states, real)))

    def states(
        self, ids: Int[Tensor, "batch length"], real: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length embed_dim"]:
        """The output of the encoder at each token."""
        embedded = self.positions(self.embedding(ids) * self.scale)
        with scope("encoder"):
            return self.encoder(self.dropout(embedded), mask=padding_mask(real))

    def loss(self, batch: TextBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy."""
        return F.cross_entropy(self(batch.ids, batch.real), batch.label)
