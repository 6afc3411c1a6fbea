"""Parameters around formulas: names, argument order and state of `torch.nn`, with the weights always to be had."""

from qkv.nn.attention import AdditiveAttention, MultiheadAttention
from qkv.nn.dropout import Dropout
from qkv.nn.embedding import TokenEmbedding
from qkv.nn.position import LearnedPositions, SinusoidalPositions
from qkv.nn.rnn import LSTMDecoder, LSTMEncoder
from qkv.nn.transformer import (
    DecoderCache,
    DecoderLayerCache,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)

__all__ = [
    "AdditiveAttention",
    "DecoderCache",
    "DecoderLayerCache",
    "Dropout",
    "LSTMDecoder",
    "LSTMEncoder",
    "LearnedPositions",
    "MultiheadAttention",
    "SinusoidalPositions",
    "TokenEmbedding",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]
