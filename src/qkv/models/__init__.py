"""Networks, one a file: its configuration, its forward pass, its loss, and its verb."""

from qkv.models.bert import BertBatch, BertConfig, BertEncoder, BertTokens
from qkv.models.search import Hypothesis, SearchOptions, search
from qkv.models.seq2seq_rnn import RecurrentConfig, TranslationRNN
from qkv.models.seq2seq_transformer import TransformerConfig, TranslationTransformer
from qkv.models.translation_memory import TranslationMemory

__all__ = [
    "BertBatch",
    "BertConfig",
    "BertEncoder",
    "BertTokens",
    "Hypothesis",
    "RecurrentConfig",
    "SearchOptions",
    "TransformerConfig",
    "TranslationMemory",
    "TranslationRNN",
    "TranslationTransformer",
    "search",
]
