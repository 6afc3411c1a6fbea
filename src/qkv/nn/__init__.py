"""Parameters around formulas: names, argument order and state of `torch.nn`, with the weights always to be had."""

from qkv.nn.attention import AdditiveAttention, MultiheadAttention
from qkv.nn.dropout import Dropout
from qkv.nn.embedding import TokenEmbedding
from qkv.nn.forms import (
    AdditiveHeads,
    AttentionConfig,
    AttentionForm,
    AttentionOptions,
    BilinearAttention,
    CosineAttention,
    FormName,
    KernelAttention,
    LinearAttention,
    SoftmaxAttention,
    WindowedAttention,
)
from qkv.nn.graph import GATConv, GCNConv, GraphConv
from qkv.nn.position import LearnedPositions, SinusoidalPositions
from qkv.nn.recurrent import GRU, LSTM, GRUCell, LSTMCell
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
    "GRU",
    "LSTM",
    "AdditiveAttention",
    "AdditiveHeads",
    "AttentionConfig",
    "AttentionForm",
    "AttentionOptions",
    "BilinearAttention",
    "CosineAttention",
    "DecoderCache",
    "DecoderLayerCache",
    "Dropout",
    "FormName",
    "GATConv",
    "GCNConv",
    "GRUCell",
    "GraphConv",
    "KernelAttention",
    "LSTMCell",
    "LSTMDecoder",
    "LSTMEncoder",
    "LearnedPositions",
    "LinearAttention",
    "MultiheadAttention",
    "SinusoidalPositions",
    "SoftmaxAttention",
    "TokenEmbedding",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "WindowedAttention",
]
