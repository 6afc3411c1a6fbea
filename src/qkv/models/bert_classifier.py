"""Classification of texts with a published encoder that is tuned for it, whole or its last map alone."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from qkv.models.bert import BertConfig, BertEncoder
from qkv.models.pooling import mean_pooled
from qkv.nn import Dropout, TokenEmbedding
from qkv.types import Config, TextBatch


class BertClassifierConfig(Config):
    """How a published encoder is tuned."""

    freeze: bool = False
    """Keep the encoder as it is, and learn the output layer alone."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Before the output layer; that inside the encoder is its own."""


class BertClassifier(nn.Module):
    """A BERT (Devlin et al. 2019); the mean of its outputs over the text tells the class.

    Args:
        config: how it is tuned.
        encoder: the published encoder, or sizes for one whose weights will come from a state dict.
        classes: how many labels.

    >>> import torch
    >>> sizes = {"vocab_size": 5, "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2}
    >>> bert = BertConfig(**sizes, intermediate_size=11, max_position_embeddings=7)
    >>> model = BertClassifier(BertClassifierConfig(), bert, classes=3)
    >>> model(torch.tensor([[1, 4, 2]]), torch.ones(1, 3, dtype=torch.bool)).shape
    torch.Size([1, 3])
    """

    def __init__(self, config: BertClassifierConfig, encoder: BertEncoder | BertConfig, classes: int):
        super().__init__()
        self.bert = encoder if isinstance(encoder, BertEncoder) else BertEncoder(encoder)
        self.frozen = config.freeze
        self.bert.requires_grad_(not config.freeze)
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(self.bert.config.hidden_size, classes)

    def train(self, mode: bool = True) -> "BertClassifier":
        """A frozen encoder stays in evaluation mode, without dropout."""
        super().train(mode)
        self.bert.train(mode and not self.frozen)
        return self

    def forward(
        self, ids: Int[Tensor, "batch length"], real: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of each class."""
        return self.output(self.dropout(mean_pooled(self.states(ids, real), real)))

    def states(
        self, ids: Int[Tensor, "batch length"], real: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length embed_dim"]:
        """The output of the encoder at each token."""
        return self.bert(ids, real)

    @property
    def embedding(self) -> TokenEmbedding:
        """That of the encoder's tokens."""
        return self.bert.token_embedding

    def loss(self, batch: TextBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy."""
        return F.cross_entropy(self(batch.ids, batch.real), batch.label)
