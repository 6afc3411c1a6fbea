"""Speech to text: an encoder that reads a log-mel spectrogram, and two decoders to choose from that write its text."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional import padding_mask
from qkv.functional.loss import linear_cross_entropy
from qkv.models.search import Hypothesis, SearchOptions, search
from qkv.models.transformer_stack import StreamConfig, glorot
from qkv.nn import (
    DecoderCache,
    Dropout,
    LearnedPositions,
    MultiheadAttention,
    SinusoidalPositions,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from qkv.nn.forms import Past
from qkv.nn.rnn import State, lstm_layer
from qkv.trace import scope
from qkv.types import SpeechBatch

DecoderName = Literal["lstm", "attention"]


class SpeechConfig(StreamConfig):
    """Sizes of the encoder and of either decoder."""

    embed_dim: PositiveInt = 200
    """Width of the residual stream."""
    num_heads: PositiveInt = 2
    """Heads of each attention; their widths share `embed_dim`."""
    feedforward_dim: PositiveInt = 400
    """Hidden width of the feed-forward blocks."""
    encoder_layers: PositiveInt = 2
    """Transformer blocks above the two convolutions of the encoder."""
    kernel_size: PositiveInt = 3
    """Frames that each convolution sees at a time, an odd number: what they see together they need not find by
    attention."""
    standardize: bool = False
    """Bring each recording to mean 0 and deviation 1 before the first convolution: sooner learned, where there are few
    recordings."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """On embeddings and on the output of every block."""
    max_frames: PositiveInt = 3000
    """Longest recording, in frames; at 10 ms a frame 3,000 are half a minute."""
    max_length: PositiveInt = Field(default=98, ge=2)
    """Longest text, in tokens, its start counted."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """The share of each target that is spread over the whole vocabulary while training."""
    ctc_share: float = Field(default=0.3, ge=0, lt=1)
    """The share of the training loss that asks the encoder alone for the text, in order (CTC): alignment is found
    sooner. 0 leaves it out."""

    @field_validator("kernel_size")
    @classmethod
    def _centred(cls, size: int) -> int:
        if size % 2 == 0:
            raise InputError("a convolution needs a frame in its middle", expected="an odd kernel size", got=str(size))
        return size


class AudioEncoder(nn.Module):
    """Reads a log-mel spectrogram: two convolutions, the second of which halves its length, then Transformer blocks.

    After Radford et al. (2023), section 2.2: convolutions (there of width 3) with GELU, sinusoidal positions, pre-norm
    blocks, a last norm. Padding is silent: what stands in real places is as it would be without any.

    >>> encoder = AudioEncoder(SpeechConfig(embed_dim=6, feedforward_dim=11), mels=5)
    >>> memory, real = encoder(torch.randn(1, 7, 5), torch.ones(1, 7, dtype=torch.bool))
    >>> memory.shape, real.shape
    (torch.Size([1, 4, 6]), torch.Size([1, 4]))
    """

    def __init__(self, config: SpeechConfig, mels: int = 80):
        super().__init__()
        width = config.embed_dim
        self.standardize = config.standardize
        size, around = config.kernel_size, config.kernel_size // 2
        self.conv1 = nn.Conv1d(mels, width, size, padding=around)
        self.conv2 = nn.Conv1d(width, width, size, stride=2, padding=around)
        for conv in (self.conv1, self.conv2):  # as loud as the positions that are added to them
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        # Twice the room of the longest: padding, and a recording played slower, are longer.
        self.positions = SinusoidalPositions(width, config.max_frames)
        self.dropout = Dropout(config.dropout)
        layer = TransformerEncoderLayer(
            width, config.num_heads, config.feedforward_dim, config.dropout, "gelu", norm_first=True,
            attention_dropout=0.0, key_bias=False,
        )  # fmt: skip
        self.blocks = TransformerEncoder(layer, config.encoder_layers, nn.LayerNorm(width))
        glorot(self.blocks.parameters())  # until here, layers are copies of one

    def forward(
        self, log_mel: Float[Tensor, "batch frames mels"], real: Bool[Tensor, "batch frames"]
    ) -> tuple[Float[Tensor, "batch half embed_dim"], Bool[Tensor, "batch half"]]:
        """One vector for every second frame, and which of them are real."""
        x = _standardized(log_mel, real) if self.standardize else log_mel
        x = F.gelu(self.conv1(_hushed(x, real).transpose(1, 2)))
        x = F.gelu(self.conv2(_hushed(x.transpose(1, 2), real).transpose(1, 2)))
        half = real[:, ::2]
        x = self.dropout(self.positions(x.transpose(1, 2)))
        return self.blocks(x, mask=padding_mask(half)), half


class AttentionTextDecoder(nn.Module):
    """Writes by attention alone: embedding, learned positions, a pre-norm Transformer block, a norm, a linear map."""

    def __init__(self, config: SpeechConfig, symbols: int):
        super().__init__()
        width = config.embed_dim
        self.embedding = _embedding(symbols, width)
        self.positions = LearnedPositions(config.max_length, width)
        self.dropout = Dropout(config.dropout)
        layer = TransformerDecoderLayer(
            width, config.num_heads, config.feedforward_dim, config.dropout, "gelu", norm_first=True,
            attention_dropout=0.0, key_bias=False,
        )  # fmt: skip
        self.blocks = TransformerDecoder(layer, 1, nn.LayerNorm(width))
        self.output = nn.Linear(width, symbols)
        glorot(self.blocks.parameters())

    def forward(
        self,
        target: Int[Tensor, "batch length"],
        memory: Float[Tensor, "batch keys embed_dim"],
        real: Bool[Tensor, "batch keys"],
    ) -> Float[Tensor, "batch length embed_dim"]:
        """What the output layer sees, at each position of `target`."""
        # Padding stands at the end of the target: a causal mask already keeps it from every real position.
        return self.blocks(self._embed(target), memory, tgt_is_causal=True, cross_mask=padding_mask(real))

    def start(self, memory: Tensor, real: Tensor, max_length: int) -> DecoderCache:
        return self.blocks.start(memory, padding_mask(real), max_length)

    def step(self, tokens: Int[Tensor, " rows"], state: DecoderCache) -> Float[Tensor, "rows embed_dim"]:
        return self.blocks.step(self._embed(tokens[:, None], state.length), state).squeeze(1)

    def _embed(self, target: Tensor, start: int = 0) -> Tensor:
        return self.dropout(self.positions(self.embedding(target), start))


class LSTMTextDecoder(nn.Module):
    """Writes by recurrence: embedding, norm and an LSTM; a pre-norm block of attention to the recording and a
    feed-forward network; a norm, a linear map.

    What is attended to does not feed back into the recurrence, so that a known target takes one call.
    """

    def __init__(self, config: SpeechConfig, symbols: int):
        super().__init__()
        width = config.embed_dim
        self.embedding = _embedding(symbols, width)
        self.embedding_norm = nn.LayerNorm(width)
        self.dropout = Dropout(config.dropout)
        self.lstm = lstm_layer(width, width, 1, 0.0)
        self.multihead_attn = MultiheadAttention(width, config.num_heads, key_bias=False)
        self.linear1 = nn.Linear(width, config.feedforward_dim)
        self.linear2 = nn.Linear(config.feedforward_dim, width)
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.output = nn.Linear(width, symbols)
        glorot([*self.multihead_attn.parameters(), *self.linear1.parameters(), *self.linear2.parameters()])

    def forward(
        self,
        target: Int[Tensor, "batch length"],
        memory: Float[Tensor, "batch keys embed_dim"],
        real: Bool[Tensor, "batch keys"],
    ) -> Float[Tensor, "batch length embed_dim"]:
        """What the output layer sees, at each position of `target`."""
        x, _ = self.lstm(self._embed(target))
        with scope("multihead_attn"):
            mask = padding_mask(real)
            read, _ = self.multihead_attn(self.norm1(x), memory, memory, need_weights=False, mask=mask)
        return self._feed_forward(x + self.dropout(read))

    def start(self, memory: Tensor, real: Tensor, max_length: int) -> "RecurrentSpeechState":
        del max_length  # a recurrent state does not grow
        mask = padding_mask(real)
        h = memory.new_zeros(1, len(memory), memory.shape[2])
        return RecurrentSpeechState((h, h), self.multihead_attn.keep(memory, mask), mask)

    def step(self, tokens: Int[Tensor, " rows"], state: "RecurrentSpeechState") -> Float[Tensor, "rows embed_dim"]:
        x, state.carried = self.lstm(self._embed(tokens[:, None]), state.carried)
        with scope("multihead_attn"):
            read = self.multihead_attn.read(self.norm1(x), state.memory, state.mask)
        return self._feed_forward(x + self.dropout(read)).squeeze(1)

    def _embed(self, target: Tensor) -> Tensor:
        return self.dropout(self.embedding_norm(self.embedding(target)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.linear2(self.dropout(F.gelu(self.linear1(self.norm2(x))))))
        return self.norm(x)


@dataclass
class RecurrentSpeechState:
    """The decoder's `(h, c)`, each `1 rows embed_dim`, and the recording that it attends to."""

    carried: State
    memory: Past
    mask: Bool[Tensor, "rows 1 1 keys"]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.carried) + self.memory.nbytes

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        h, c = self.carried
        self.carried = (h[:, rows], c[:, rows])
        self.memory.select(rows)
        self.mask = self.mask[rows]


class SpeechToText(nn.Module):
    """An `AudioEncoder` and one of two decoders.

    `search` decodes it through `start` and `step`; `forward` is the same computation over a known text.

    Args:
        config: sizes.
        symbols: the size of the vocabulary; id 0 is padding.
        decoder: `attention` or `lstm`.
        mels: the width of the spectrogram.
    """

    def __init__(self, config: SpeechConfig, symbols: int, decoder: DecoderName, *, mels: int = 80):
        super().__init__()
        self.label_smoothing, self.ctc_share = config.label_smoothing, config.ctc_share
        self.encoder = AudioEncoder(config, mels)
        self.decoder = (AttentionTextDecoder if decoder == "attention" else LSTMTextDecoder)(config, symbols)
        self.ctc = nn.Linear(config.embed_dim, symbols) if config.ctc_share else None

    def encode(
        self, log_mel: Float[Tensor, "batch frames mels"], log_mel_mask: Bool[Tensor, "batch frames"]
    ) -> tuple[Float[Tensor, "batch half embed_dim"], Bool[Tensor, "batch half"]]:
        with scope("encoder"):
            return self.encoder(log_mel, log_mel_mask)

    def forward(
        self,
        log_mel: Float[Tensor, "batch frames mels"],
        log_mel_mask: Bool[Tensor, "batch frames"],
        target: Int[Tensor, "batch target_length"],
    ) -> Float[Tensor, "batch target_length symbols"]:
        """Logits of the token after each one of `target`."""
        memory, real = self.encode(log_mel, log_mel_mask)
        return self.decoder.output(self._decode(target, memory, real))

    def _decode(self, target: Tensor, memory: Tensor, real: Tensor) -> Tensor:
        with scope("decoder"):
            return self.decoder(target, memory, real)

    def loss(self, batch: SpeechBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the target's tokens; while training smoothed, and joined with CTC.

        `(1 - share) cross_entropy + share ctc` (Kim, Hori and Watanabe 2017, eq. 11), both a token.
        """
        memory, real = self.encode(batch.log_mel, batch.log_mel_mask)
        hidden = self._decode(batch.target[:, :-1], memory, real)
        smoothing = self.label_smoothing if self.training else 0.0
        weight, bias = self.decoder.output.weight, self.decoder.output.bias
        loss = linear_cross_entropy(
            hidden, weight, bias, batch.target[:, 1:], batch.target_mask[:, 1:], label_smoothing=smoothing
        )
        if self.ctc is None or not self.training:
            return loss
        return (1 - self.ctc_share) * loss + self.ctc_share * self._ctc(self.ctc(memory), real, batch)

    def _ctc(
        self,
        logits: Float[Tensor, "batch half symbols"],
        real: Bool[Tensor, "batch half"],
        batch: SpeechBatch,
    ) -> Float[Tensor, ""]:
        """Connectionist temporal classification (Graves et al. 2006) of the text without start and end, a token; the
        padding's id is the blank. A text too long for its recording counts nothing."""
        exact = torch.promote_types(logits.dtype, torch.float32)
        lengths = batch.target_mask.sum(dim=1) - 2
        total = F.ctc_loss(
            logits.log_softmax(dim=-1, dtype=exact).transpose(0, 1), batch.target[:, 1:-1], real.sum(dim=1), lengths,
            reduction="sum", zero_infinity=True,
        )  # fmt: skip
        return total / lengths.sum().clamp(min=1)

    def transcribe(
        self,
        log_mel: Float[Tensor, "batch frames mels"],
        log_mel_mask: Bool[Tensor, "batch frames"],
        options: SearchOptions,
    ) -> list[Hypothesis]:
        """The best text found for each recording."""
        return search(self, log_mel, log_mel_mask, options)

    def start(
        self, source: Float[Tensor, "batch frames mels"], source_mask: Bool[Tensor, "batch frames"], max_length: int
    ) -> DecoderCache | RecurrentSpeechState:
        memory, real = self.encode(source, source_mask)
        with scope("decoder"):
            return self.decoder.start(memory, real, max_length)

    def step(
        self, tokens: Int[Tensor, " rows"], state: DecoderCache | RecurrentSpeechState
    ) -> Float[Tensor, "rows symbols"]:
        return self.decoder.output(self.decoder.step(tokens, state))  # pyright: ignore - its own decoder's state


def _hushed(x: Float[Tensor, "batch frames width"], real: Bool[Tensor, "batch frames"]) -> Tensor:
    """Zeros in the place of padding, as a convolution has them past the end."""
    return x * real[:, :, None]


def _embedding(symbols: int, width: int) -> nn.Embedding:
    """As small as the learned positions, so that neither drowns the other."""
    embedding = nn.Embedding(symbols, width, padding_idx=0)
    nn.init.normal_(embedding.weight, std=0.02)
    nn.init.zeros_(embedding.weight[0].detach())
    return embedding


def _standardized(x: Float[Tensor, "batch frames mels"], real: Bool[Tensor, "batch frames"]) -> Tensor:
    """Each recording with mean 0 and deviation 1 over its real frames; what never changes becomes 0."""
    share = real[..., None].to(x.dtype) / (real.sum(dim=1) * x.shape[2])[:, None, None]
    x = x - (share * x).sum(dim=(1, 2), keepdim=True)
    return x * (share * x.square()).sum(dim=(1, 2), keepdim=True).clamp_min(1e-8).rsqrt()
