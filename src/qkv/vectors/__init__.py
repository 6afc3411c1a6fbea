"""Word vectors: kept, read and written, searched, judged; counted and trained from text."""

from qkv.vectors.cooccurrence import Cooccurrence, CountProgress, count_cooccurrence
from qkv.vectors.corpus import Reading
from qkv.vectors.evaluation import (
    AnalogyScore,
    AnalogySet,
    SimilarityScore,
    SimilaritySet,
    read_set,
    score,
)
from qkv.vectors.glove import GloveConfig, GloveProgress, GloveVectors, glove_loss, train_glove
from qkv.vectors.nearest import MEASURES, Measure, Search, naive_nearest
from qkv.vectors.pretrained import Coverage, vectors_for
from qkv.vectors.sentence import EmbeddedSentence, Unknown, embed_sentences, spellings, words_of
from qkv.vectors.word_vectors import METHODS, Method, Neighbour, WordVectors

__all__ = [
    "MEASURES",
    "METHODS",
    "AnalogyScore",
    "AnalogySet",
    "Cooccurrence",
    "CountProgress",
    "Coverage",
    "EmbeddedSentence",
    "GloveConfig",
    "GloveProgress",
    "GloveVectors",
    "Measure",
    "Method",
    "Neighbour",
    "Reading",
    "Search",
    "SimilarityScore",
    "SimilaritySet",
    "Unknown",
    "WordVectors",
    "count_cooccurrence",
    "embed_sentences",
    "glove_loss",
    "naive_nearest",
    "read_set",
    "score",
    "spellings",
    "train_glove",
    "vectors_for",
    "words_of",
]
