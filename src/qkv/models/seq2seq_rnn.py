"""Translation with recurrent networks: a bidirectional LSTM reads the source, another writes the target.

Without attention the decoder knows the source only through the state it starts from; with attention it looks back at
every source position, by additive scores.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from qkv.functional.loss import linear_cross_entropy
from qkv.models.embed import scaled_embedding
from qkv.models.search import Hypothesis, SearchOptions, search
from qkv.nn import Dropout, LSTMDecoder, LSTMEncoder
from qkv.trace import scope
from qkv.types import Config, PairBatch


class RecurrentConfig(Config):
    """Sizes of the recurrent encoder and decoder."""

    embed_dim: PositiveInt = 256
    """Width of the embeddings."""
    hidden_size: PositiveInt = 512
    """Width of the LSTMs' states."""
    num_layers: PositiveInt = 1
    """LSTMs on top of each other, on each side."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """On embeddings, between layers and before the output."""
    tie_output: bool = True
    """Let the output layer share the target embedding, where that has the model's width."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """The share of each target that is spread over the whole vocabulary while training."""


class TranslationRNN(nn.Module):
    """The encoder-decoder of Sutskever et al. (2014); with `attention`, the additive scores of Bahdanau et al. (2015)
    from the states of Luong et al. (2015).

    `search` decodes it through `start` and `step`; `forward` is the same computation over a known target.

    Args:
        config: sizes.
        source_size, target_size: sizes of the vocabularies; id 0 is padding on both sides.
        attention: whether the decoder looks back at the source.
        source_dim, target_dim: widths of pretrained embeddings, where a side has them (see `TokenEmbedding`).
        freeze: keep pretrained embeddings as they are.
    """

    def __init__(
        self,
        config: RecurrentConfig,
        source_size: int,
        target_size: int,
        *,
        attention: bool,
        source_dim: int | None = None,
        target_dim: int | None = None,
        freeze: bool = False,
    ):
        super().__init__()
        width, hidden, layers = config.embed_dim, config.hidden_size, config.num_layers
        self.label_smoothing = config.label_smoothing
        self.source_embedding, self.source_scale = scaled_embedding(source_size, width, source_dim, freeze)
        self.target_embedding, self.target_scale = scaled_embedding(target_size, width, target_dim, freeze)
        self.dropout = Dropout(config.dropout)
        between = config.dropout if layers > 1 else 0.0
        self.encoder = LSTMEncoder(width, hidden, layers, between)
        self.decoder = LSTMDecoder(width, hidden, hidden, layers, between, attention=attention)
        self.bridge = nn.Linear(hidden, width)
        tied = config.tie_output and target_dim in (None, width)
        self.output = None if tied else nn.Linear(width, target_size)

    def encode(
        self, source: Int[Tensor, "batch length"], source_mask: Bool[Tensor, "batch length"]
    ) -> tuple[Float[Tensor, "batch length hidden"], tuple[Tensor, Tensor]]:
        """The states over the source, and those from which the decoder starts."""
        with scope("encoder"):
            return self.encoder(self.dropout(self.source_embedding(source) * self.source_scale), source_mask)

    def forward(
        self,
        source: Int[Tensor, "batch source_length"],
        source_mask: Bool[Tensor, "batch source_length"],
        target: Int[Tensor, "batch target_length"],
    ) -> Float[Tensor, "batch target_length vocab"]:
        """Logits of the token after each one of `target`."""
        return F.linear(self._decode(source, source_mask, target), *self._output())

    def _decode(self, source: Tensor, source_mask: Tensor, target: Tensor) -> Tensor:
        """What the output layer sees, at each position of `target`."""
        memory, state = self.encode(source, source_mask)
        with scope("decoder"):
            embedded = self.dropout(self.target_embedding(target) * self.target_scale)
            hidden, _ = self.decoder(embedded, state, memory, source_mask)
        return self.bridge(self.dropout(hidden))

    def loss(self, batch: PairBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the target's tokens; smoothed while training."""
        hidden = self._decode(batch.source, batch.source_mask, batch.target[:, :-1])
        smoothing = self.label_smoothing if self.training else 0.0
        return linear_cross_entropy(
            hidden, *self._output(), batch.target[:, 1:], batch.target_mask[:, 1:], label_smoothing=smoothing
        )

    def translate(
        self,
        source: Int[Tensor, "batch length"],
        source_mask: Bool[Tensor, "batch length"],
        options: SearchOptions,
    ) -> list[Hypothesis]:
        """The best translation found of each source."""
        return search(self, source, source_mask, options)

    def start(
        self, source: Int[Tensor, "batch length"], source_mask: Bool[Tensor, "batch length"], max_length: int
    ) -> "RecurrentState":
        del max_length  # a recurrent state does not grow
        memory, (h, c) = self.encode(source, source_mask)
        return RecurrentState(h, c, memory, source_mask, self.decoder.start(memory))

    def step(self, tokens: Int[Tensor, " rows"], state: "RecurrentState") -> Float[Tensor, "rows vocab"]:
        embedded = self.dropout(self.target_embedding(tokens[:, None]) * self.target_scale)
        carried = (state.h, state.c)
        hidden, (state.h, state.c) = self.decoder(embedded, carried, state.memory, state.source_mask, state.keys)
        return F.linear(self.bridge(self.dropout(hidden.squeeze(1))), *self._output())

    def _output(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the output layer."""
        return (self.target_embedding.weight, None) if self.output is None else (self.output.weight, self.output.bias)


@dataclass
class RecurrentState:
    """The decoder's state `(h, c)`, each `layers rows hidden`, and what it attends to."""

    h: Tensor
    c: Tensor
    memory: Tensor
    source_mask: Tensor
    keys: Tensor | None

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.h, self.c, self.memory, self.keys) if part is not None)

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        self.h, self.c = self.h[:, rows], self.c[:, rows]
        self.memory, self.source_mask = self.memory[rows], self.source_mask[rows]
        self.keys = None if self.keys is None else self.keys[rows]
