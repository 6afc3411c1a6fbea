"""A masked language model with recurrent networks: one reads up to the hidden word, one from the end back to it."""

from jaxtyping import Bool, Float, Int64
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from qkv.models.masked import MaskedLM
from qkv.nn import Dropout
from qkv.nn.rnn import lstm_layer
from qkv.types import MASK_ID, Config


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


class RecurrentLM(MaskedLM):
    """Two LSTMs over the row, one from each end; the states of both at the hidden word predict it (Schuster and Paliwal
    1997).

    Every hidden word is read as the mask. The output layer shares the embedding.

    Args:
        config: sizes.
        vocab: how many words there are, the mask at 0 among them.

    >>> import torch
    >>> from qkv.types import NGramBatch
    >>> batch = NGramBatch(torch.tensor([[3, 1, 2, 5, 4]]), torch.tensor([[False, True, False, False, False]]))
    >>> RecurrentLM(RecurrentLMConfig(embed_dim=8, hidden_size=11), vocab=7).log_probabilities(batch).shape
    torch.Size([1, 7])
    """

    def __init__(self, config: RecurrentLMConfig, vocab: int):
        width, hidden = config.embed_dim, config.hidden_size
        super().__init__(vocab, width)
        self.dropout = Dropout(config.dropout)
        self.lstm = lstm_layer(width, hidden, config.num_layers, config.dropout, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, width)

    def encode(
        self, ids: Int64[Tensor, "batch length"], hidden: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length embed_dim"]:
        """What the output layer sees at each place."""
        read = ids.masked_fill(hidden, MASK_ID)
        states, _ = self.lstm(self.dropout(self.embedding(read) * self.scale))
        return self.bridge(self.dropout(states))
