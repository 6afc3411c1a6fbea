"""A masked language model with a Transformer: every word sees all others, and the hidden one is read off its place."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional.loss import linear_cross_entropy
from qkv.models.embed import tied_embedding
from qkv.nn import Dropout, LearnedPositions, TransformerEncoder, TransformerEncoderLayer
from qkv.trace import scope
from qkv.types import MASK_ID, Config, NGramBatch


class TransformerLMConfig(Config):
    """Sizes of the Transformer."""

    embed_dim: PositiveInt = 128
    """Width of the residual stream."""
    num_heads: PositiveInt = 4
    """Heads of each attention; their widths share `embed_dim`."""
    feedforward_dim: PositiveInt = 512
    """Hidden width of the feed-forward blocks."""
    num_layers: PositiveInt = 3
    """Layers on top of each other."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """On embeddings and on the output of every block."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "TransformerLMConfig":
        if self.embed_dim % self.num_heads:
            raise InputError(
                "the heads cannot share the width",
                expected="--transformer.num-heads that divides --transformer.embed-dim",
                got=f"{self.num_heads} heads for a width of {self.embed_dim}",
            )
        return self


class TransformerLM(nn.Module):
    """The encoder of Vaswani et al. (2017), pre-norm, as a masked language model (Devlin et al. 2019, section 3.1).

    Every hidden word is read as the mask. The output layer shares the embedding (Press and Wolf 2017).

    Args:
        config: sizes.
        vocab: how many words there are, the mask at 0 among them.
        length: how many words stand in a row.

    >>> import torch
    >>> batch = NGramBatch(torch.tensor([[3, 1, 2, 5, 4]]), torch.tensor([[False, True, False, False, False]]))
    >>> model = TransformerLM(TransformerLMConfig(embed_dim=8, num_heads=2, num_layers=1), vocab=7, length=5)
    >>> model.log_probabilities(batch).shape
    torch.Size([1, 7])
    """

    def __init__(self, config: TransformerLMConfig, vocab: int, length: int):
        super().__init__()
        self.embedding, self.scale = tied_embedding(vocab, config.embed_dim)
        self.output_bias = nn.Parameter(self.embedding.weight.new_zeros(vocab))
        self.positions = LearnedPositions(length, config.embed_dim)
        self.dropout = Dropout(config.dropout)
        self.encoder = transformer_stack(config)

    def encode(
        self, ids: Int64[Tensor, "batch length"], hidden: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length embed_dim"]:
        """What the output layer sees at each place."""
        read = ids.masked_fill(hidden, MASK_ID)
        with scope("encoder"):
            return self.encoder(self.dropout(self.positions(self.embedding(read) * self.scale)))

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


def transformer_stack(config: TransformerLMConfig) -> TransformerEncoder:
    """Pre-norm layers, each with its own Glorot weights."""
    width = config.embed_dim
    layer = TransformerEncoderLayer(
        width, config.num_heads, config.feedforward_dim, config.dropout, "gelu", norm_first=True, attention_dropout=0.0
    )
    stack = TransformerEncoder(layer, config.num_layers, nn.LayerNorm(width))
    for parameter in stack.parameters():
        if parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter)  # the stack holds copies of one layer until here
    return stack
