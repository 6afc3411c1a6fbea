"""Translation with a Transformer: an encoder that reads the source, a decoder that attends to it."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from qkv.functional import padding_mask
from qkv.functional.loss import linear_cross_entropy
from qkv.models.embed import scaled_embedding
from qkv.models.search import Hypothesis, SearchOptions, search
from qkv.models.transformer_stack import StreamConfig, glorot
from qkv.nn import (
    AttentionConfig,
    DecoderCache,
    Dropout,
    LearnedPositions,
    SinusoidalPositions,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from qkv.trace import scope
from qkv.types import PairBatch


class TransformerConfig(StreamConfig):
    """Sizes of the Transformer."""

    embed_dim: PositiveInt = 256
    """Width of the residual stream."""
    num_heads: PositiveInt = 4
    """Heads of each attention; their widths share `embed_dim`, so that any number has the same parameters."""
    feedforward_dim: PositiveInt = 1024
    """Hidden width of the feed-forward blocks."""
    encoder_layers: PositiveInt = 3
    """Layers that read the source."""
    decoder_layers: PositiveInt = 3
    """Layers that write the target."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """On embeddings and on the output of every block."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """On attention weights; any but 0 leaves the fused path while training."""
    norm_first: bool = True
    """LayerNorm before each block (pre-norm) instead of after it."""
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    """What tells one place from another: fixed waves, or an embedding of places."""
    max_length: PositiveInt = 256
    """Longest sentence, in tokens."""
    tie_output: bool = True
    """Let the output layer share the target embedding, where that has the model's width."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """The share of each target that is spread over the whole vocabulary while training."""


class TranslationTransformer(nn.Module):
    """The encoder-decoder of Vaswani et al. (2017), pre-norm by default.

    `search` decodes it through `start` and `step`; `forward` is the same computation over a known target.

    Args:
        config: sizes.
        source_size, target_size: sizes of the vocabularies; id 0 is padding on both sides.
        source_dim, target_dim: widths of pretrained embeddings, where a side has them (see `TokenEmbedding`).
        freeze: keep pretrained embeddings as they are.
        attention: another form than softmax, in encoder and decoder.
    """

    def __init__(
        self,
        config: TransformerConfig,
        source_size: int,
        target_size: int,
        *,
        source_dim: int | None = None,
        target_dim: int | None = None,
        freeze: bool = False,
        attention: AttentionConfig | None = None,
    ):
        super().__init__()
        width = config.embed_dim
        self.label_smoothing = config.label_smoothing
        self.source_embedding, self.source_scale = scaled_embedding(source_size, width, source_dim, freeze)
        self.target_embedding, self.target_scale = scaled_embedding(target_size, width, target_dim, freeze)
        self.positions = (
            SinusoidalPositions(width, config.max_length)
            if config.positions == "sinusoidal"
            else LearnedPositions(config.max_length, width)
        )
        self.dropout = Dropout(config.dropout)
        sizes = (width, config.num_heads, config.feedforward_dim, config.dropout)
        kind = {"norm_first": config.norm_first, "attention_dropout": config.attention_dropout, "attention": attention}
        encoder_layer = TransformerEncoderLayer(*sizes, **kind)
        decoder_layer = TransformerDecoderLayer(*sizes, **kind)
        # Pre-norm leaves the residual stream without a norm at its end.
        last_norms = [nn.LayerNorm(width) if config.norm_first else None for _ in range(2)]
        self.encoder = TransformerEncoder(encoder_layer, config.encoder_layers, last_norms[0])
        self.decoder = TransformerDecoder(decoder_layer, config.decoder_layers, last_norms[1])
        tied = config.tie_output and target_dim in (None, width)
        self.output = None if tied else nn.Linear(width, target_size)
        glorot([*self.encoder.parameters(), *self.decoder.parameters()])  # until here, layers are copies of one

    def encode(
        self, source: Int[Tensor, "batch length"], source_mask: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length embed_dim"]:
        with scope("encoder"):
            return self.encoder(
                self._embed(self.source_embedding(source) * self.source_scale), mask=padding_mask(source_mask)
            )

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
        memory = self.encode(source, source_mask)
        embedded = self._embed(self.target_embedding(target) * self.target_scale)
        with scope("decoder"):
            # Padding stands at the end of the target: a causal mask already keeps it from every real position.
            return self.decoder(embedded, memory, tgt_is_causal=True, cross_mask=padding_mask(source_mask))

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
    ) -> DecoderCache:
        return self.decoder.start(self.encode(source, source_mask), padding_mask(source_mask), max_length)

    def step(self, tokens: Int[Tensor, " rows"], state: DecoderCache) -> Float[Tensor, "rows vocab"]:
        embedded = self._embed(self.target_embedding(tokens[:, None]) * self.target_scale, state.length)
        return F.linear(self.decoder.step(embedded, state).squeeze(1), *self._output())

    def _embed(self, embedded: Tensor, start: int = 0) -> Tensor:
        return self.dropout(self.positions(embedded, start))

    def _output(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the output layer."""
        return (self.target_embedding.weight, None) if self.output is None else (self.output.weight, self.output.bias)
