"""What models with Transformers share: sizes whose heads fit, a pre-norm encoder, Glorot weights."""

from collections.abc import Iterable

from pydantic import PositiveInt, model_validator
from torch import nn

from qkv.errors import InputError
from qkv.nn import TransformerEncoder, TransformerEncoderLayer
from qkv.types import Config


class StreamConfig(Config):
    """Sizes of the residual stream."""

    embed_dim: PositiveInt = 128
    """Width of the residual stream."""
    num_heads: PositiveInt = 4
    """Heads of each attention; their widths share `embed_dim`."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "StreamConfig":
        if self.embed_dim % self.num_heads:
            raise InputError(
                "the heads cannot share the width",
                expected="--transformer.num-heads that divides --transformer.embed-dim",
                got=f"{self.num_heads} heads for a width of {self.embed_dim}",
            )
        return self


def pre_norm_encoder(config: StreamConfig, feedforward_dim: int, layers: int, dropout: float) -> TransformerEncoder:
    """Layers that are copies of one, until `glorot` draws weights for each."""
    layer = TransformerEncoderLayer(
        config.embed_dim, config.num_heads, feedforward_dim, dropout, "gelu", norm_first=True, attention_dropout=0.0
    )
    return TransformerEncoder(layer, layers, nn.LayerNorm(config.embed_dim))


def glorot(parameters: Iterable[nn.Parameter]) -> None:
    """Draws every matrix anew (Glorot and Bengio 2010, eq. 16)."""
    for parameter in parameters:
        if parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter)
