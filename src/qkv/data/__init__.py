"""Data: readers, vocabularies, batches and generators. Raw things come in, batches go out."""

from qkv.data.batches import PairBatches, batch_of, source_batch
from qkv.data.docstrings import docstrings
from qkv.data.generated import date_pair, number_pair, numbers_and_dates
from qkv.data.images import Images, digits, read_images
from qkv.data.ngrams import NGramBatches, NGrams, read_ngrams
from qkv.data.pairs import (
    Pair,
    PairFile,
    Skipped,
    Split,
    TextFile,
    group_references,
    normalise_text,
    read_pairs,
    read_texts,
    sentence_key,
    split_pairs,
)
from qkv.data.sets import SETS, NamedSet, find, present_word_sets, sha256_of, verify
from qkv.data.tokens import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Vocabulary, train_vocabulary, word_of

__all__ = [
    "BOS_ID",
    "EOS_ID",
    "PAD_ID",
    "SETS",
    "UNK_ID",
    "Images",
    "NGramBatches",
    "NGrams",
    "NamedSet",
    "Pair",
    "PairBatches",
    "PairFile",
    "Skipped",
    "Split",
    "TextFile",
    "Vocabulary",
    "batch_of",
    "date_pair",
    "digits",
    "docstrings",
    "find",
    "group_references",
    "normalise_text",
    "number_pair",
    "numbers_and_dates",
    "present_word_sets",
    "read_images",
    "read_ngrams",
    "read_pairs",
    "read_texts",
    "sentence_key",
    "sha256_of",
    "source_batch",
    "split_pairs",
    "train_vocabulary",
    "verify",
    "word_of",
]
