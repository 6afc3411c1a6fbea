"""A masked language model with a Transformer: every word sees all others, and the hidden one is read off its place."""

from jaxtyping import Bool, Float, Int64
from pydantic import Field, PositiveInt
from torch import Tensor

from qkv.models.masked import MaskedLM
from qkv.models.transformer_stack import StreamConfig, glorot, pre_norm_encoder
from qkv.nn import Dropout, LearnedPositions, TransformerEncoder
from qkv.trace import scope
from qkv.types import MASK_ID


class TransformerLMConfig(StreamConfig):
    """Sizes of the Transformer."""

    feedforward_dim: PositiveInt = 512
    """Hidden width of the feed-forward blocks."""
    num_layers: PositiveInt = 3
    """Layers on top of each other."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """On embeddings and on the output of every block."""


class TransformerLM(MaskedLM):
    """The encoder of Vaswani et al. (2017), pre-norm, as a masked language model (Devlin et al. 2019, section 3.1).

    Every hidden word is read as the mask. The output layer shares the embedding (Press and Wolf 2017).

    Args:
        config: sizes.
        vocab: how many words there are, the mask at 0 among them.
        length: how many words stand in a row.

    >>> import torch
    >>> from qkv.types import NGramBatch
    >>> batch = NGramBatch(torch.tensor([[3, 1, 2, 5, 4]]), torch.tensor([[False, True, False, False, False]]))
    >>> model = TransformerLM(TransformerLMConfig(embed_dim=8, num_heads=2, num_layers=1), vocab=7, length=5)
    >>> model.log_probabilities(batch).shape
    torch.Size([1, 7])
    """

    def __init__(self, config: TransformerLMConfig, vocab: int, length: int):
        super().__init__(vocab, config.embed_dim)
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


def transformer_stack(config: TransformerLMConfig) -> TransformerEncoder:
    """Pre-norm layers, each with its own Glorot weights."""
    stack = pre_norm_encoder(config, config.feedforward_dim, config.num_layers, config.dropout)
    glorot(stack.parameters())
    return stack
