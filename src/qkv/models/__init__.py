"""Networks, one a file: its configuration, its forward pass, its loss, and its verb."""

from qkv.models.bag_of_words import BagOfWords, BagOfWordsConfig
from qkv.models.bert import BertBatch, BertConfig, BertEncoder, BertTokens
from qkv.models.bert_classifier import BertClassifier, BertClassifierConfig
from qkv.models.causal_lm import CausalLM
from qkv.models.geometric import GeometricNetwork
from qkv.models.graph_network import GraphBatch, GraphNetwork, GraphNetworkConfig, NodeClassifier, NodeRegressor
from qkv.models.image_cnn import ImageCNN, ImageCNNConfig
from qkv.models.lstm_classifier import LSTMClassifier, LSTMClassifierConfig
from qkv.models.masked_text import MaskedText
from qkv.models.ngram_counts import NGramCounts
from qkv.models.node_tables import NodeTable, TableName
from qkv.models.patch_transformer import PatchTransformer, PatchTransformerConfig
from qkv.models.recurrent_lm import RecurrentLM, RecurrentLMConfig
from qkv.models.residual_cnn import ResidualCNN, ResidualCNNConfig
from qkv.models.search import Hypothesis, SearchOptions, search
from qkv.models.seq2seq_rnn import RecurrentConfig, TranslationRNN
from qkv.models.seq2seq_transformer import TransformerConfig, TranslationTransformer
from qkv.models.speech_to_text import SpeechConfig, SpeechToText
from qkv.models.transformer_classifier import TransformerClassifier, TransformerClassifierConfig
from qkv.models.transformer_lm import TransformerLM, TransformerLMConfig
from qkv.models.translation_memory import TranslationMemory
from qkv.models.window_lm import WindowConfig, WindowLM

__all__ = [
    "BagOfWords",
    "BagOfWordsConfig",
    "BertBatch",
    "BertClassifier",
    "BertClassifierConfig",
    "BertConfig",
    "BertEncoder",
    "BertTokens",
    "CausalLM",
    "GeometricNetwork",
    "GraphBatch",
    "GraphNetwork",
    "GraphNetworkConfig",
    "Hypothesis",
    "ImageCNN",
    "ImageCNNConfig",
    "LSTMClassifier",
    "LSTMClassifierConfig",
    "MaskedText",
    "NGramCounts",
    "NodeClassifier",
    "NodeRegressor",
    "NodeTable",
    "PatchTransformer",
    "PatchTransformerConfig",
    "RecurrentConfig",
    "RecurrentLM",
    "RecurrentLMConfig",
    "ResidualCNN",
    "ResidualCNNConfig",
    "SearchOptions",
    "SpeechConfig",
    "SpeechToText",
    "TableName",
    "TransformerClassifier",
    "TransformerClassifierConfig",
    "TransformerConfig",
    "TransformerLM",
    "TransformerLMConfig",
    "TranslationMemory",
    "TranslationRNN",
    "TranslationTransformer",
    "WindowConfig",
    "WindowLM",
    "search",
]
