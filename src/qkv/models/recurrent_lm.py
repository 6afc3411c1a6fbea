"""A masked language model with recurrent networks: one reads up to the hidden word, one from the end back to it."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from qkv.functional.loss import linear_cross_entropy
from qkv.models.embed import tied_embedding
from qkv.nn import Dropout
from qkv.types import MASK_ID, Config, NGramBatch


class RecurrentLMConfig(Config):
    """Sizes of the recurrent networks."""

    embed_dim: PositiveInt = 128
    """Width of the embedding."""
    hidden_size: PositiveInt = 256
    """Width of the states of each direction."""
    num_layers: PositiveInt = 1
    """LSTMs on top of each other, in each direction."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """On embeddings, between layers and before the output."""


class RecurrentLM(nn.Module):
    """Two LSTMs over the row, one from each end; the states of both at the hidden word predict it (Schuster and Paliwal
    1997).

    Every hidden word is read as the mask. The output layer shares the embedding.

    Args:
        config: sizes.
        vocab: how many words there are, the mask at 0 among them.

    >>> import torch
    >>> batch = NGramBatch(torch.tensor([[3, 1, 2, 5, 4]]), torch.tensor([[False, True, False, False, False]]))
    >>> RecurrentLM(RecurrentLMConfig(embed_dim=8, hidden_size=11), vocab=7).log_probabilities(batch).shape
    torch.Size([1, 7])
    """

    def __init__(self, config: RecurrentLMConfig, vocab: int):
        super().__init__()
        width, hidden = config.embed_dim, config.hidden_size
        self.embedding, self.scale = tied_embedding(vocab, width)
        self.output_bias = nn.Parameter(self.embedding.weight.new_zeros(vocab))
        self.dropout = Dropout(config.dropout)
        between = config.dropout if config.num_layers > 1 else 0.0
        self.lstm = nn.LSTM(width, hidden, config.num_layers, batch_first=True, dropout=between, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, width)

    def encode(
        self, ids: Int64[Tensor, "batch length"], hidden: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length embed_dim"]:
        """What the output layer sees at each place."""
        read = ids.masked_fill(hidden, MASK_ID)
        states, _ = self.lstm(self.dropout(self.embedding(read) * self.scale))
        return self.bridge(self.dropout(states))

    def forward(
        self, ids: Int64[Tensor, "batch length"], hidden: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "predictions vocab"]:
        """Logits of each hidden word, row by row."""
        return F.linear(self.encode(ids, hidden)[hidden], self.embedding.weight, self.output_bias)

    def loss(self, batch: NGramBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the hidden words."""
        states = self.encode(batch.ids, batch.hidden)
        return linear_cross_entropy(states, self.embedding.weight, self.output_bias, batch.ids, batch.hidden)

    def log_probabilities(self, batch: NGramBatch) -> Float[Tensor, "predictions vocab"]:
        """The logarithm of each word's probability in each hidden place, row by row."""
        return self(batch.ids, batch.hidden).log_softmax(dim=-1)
