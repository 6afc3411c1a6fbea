"""Classification of texts with a Transformer encoder."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional import padding_mask
from qkv.models.embed import scaled_embedding
from qkv.models.pooling import mean_pooled
from qkv.models.words import WordDropout
from qkv.nn import Dropout, SinusoidalPositions, TransformerEncoder, TransformerEncoderLayer
from qkv.trace import scope
from qkv.types import Config, TextBatch


class TransformerClassifierConfig(Config):
    """Sizes of the Transformer."""

    embed_dim: PositiveInt = 128
    """Width of the residual stream."""
    num_heads: PositiveInt = 4
    """Heads of each attention; their widths share `embed_dim`."""
    feedforward_dim: PositiveInt = 256
    """Hidden width of the feed-forward blocks."""
    num_layers: PositiveInt = 2
    """Layers on top of each other."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """On embeddings, on the output of every block and before the output."""
    word_dropout: float = Field(default=0.1, ge=0, lt=1)
    """The share of tokens that are read as unknown while training."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "TransformerClassifierConfig":
        if self.embed_dim % self.num_heads:
            raise InputError(
                "the heads cannot share the width",
                expected="--transformer.num-heads that divides --transformer.embed-dim",
                got=f"{self.num_heads} heads for a width of {self.embed_dim}",
            )
        return self


class TransformerClassifier(nn.Module):
    """The encoder of Vaswani et al. (2017), pre-norm; the mean of its outputs over the text tells the class.

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
        layer = TransformerEncoderLayer(
            width,
            config.num_heads,
            config.feedforward_dim,
            config.dropout,
            "gelu",
            norm_first=True,
            attention_dropout=0.0,
        )
        self.encoder = TransformerEncoder(layer, config.num_layers, nn.LayerNorm(width))
        self.output = nn.Linear(width, classes)
        for parameter in self.encoder.parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)  # the stack holds copies of one layer until here

    def forward(
        self, ids: Int[Tensor, "batch length"], real: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of each class."""
        embedded = self.embedding(self.word_dropout(ids)) * self.scale
        with scope("encoder"):
            states = self.encoder(self.dropout(self.positions(embedded)), mask=padding_mask(real))
        return self.output(self.dropout(mean_pooled(states, real)))

    def loss(self, batch: TextBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy."""
        return F.cross_entropy(self(batch.ids, batch.real), batch.label)
