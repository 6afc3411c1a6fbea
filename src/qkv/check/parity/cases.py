"""The cases that ship."""

from qkv.check.parity.case import Case
from qkv.check.parity.cases_attention import MultiheadAttention, TransformerDecoderLayer, TransformerEncoderLayer
from qkv.check.parity.cases_plain import Conv2d, Embedding, LayerNorm
from qkv.check.parity.cases_recurrent import GRU, LSTM, GRUCell, LSTMCell

CASES: dict[str, Case] = {
    case.name: case()
    for case in (
        LSTMCell,
        GRUCell,
        LSTM,
        GRU,
        MultiheadAttention,
        TransformerEncoderLayer,
        TransformerDecoderLayer,
        Conv2d,
        Embedding,
        LayerNorm,
    )
}
"""The layers of `torch.nn` that are known by name."""
