"""Data: readers, vocabularies, batches and generators. Raw things come in, batches go out."""

from qkv.data.batches import PairBatches, TextBatches, batch_of, source_batch
from qkv.data.cleaning import CLEANING, clean_text
from qkv.data.docstrings import docstrings
from qkv.data.generated import date_pair, number_pair, numbers_and_dates
from qkv.data.graphs import Graph, karate, read_graph, read_masks
from qkv.data.image_batches import ImageBatches
from qkv.data.image_sets import (
    Fitting,
    ImageParts,
    ImageSplit,
    read_image_parts,
    read_pictures,
    resized,
    split_images,
)
from qkv.data.images import Images, digits, read_images
from qkv.data.labelled import (
    Labelled,
    LabelledFile,
    LabelledSplit,
    distinct,
    read_column,
    read_labelled,
    require_labels,
    split_labelled,
    text_key,
)
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
from qkv.data.phrases import phrases
from qkv.data.sets import SETS, NamedSet, find, present_word_sets, sha256_of, verify
from qkv.data.structure import Structure, folds, look_up, shares
from qkv.data.tokens import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Vocabulary, train_vocabulary, word_of

__all__ = [
    "BOS_ID",
    "CLEANING",
    "EOS_ID",
    "PAD_ID",
    "SETS",
    "UNK_ID",
    "Fitting",
    "Graph",
    "ImageBatches",
    "ImageParts",
    "ImageSplit",
    "Images",
    "Labelled",
    "LabelledFile",
    "LabelledSplit",
    "NGramBatches",
    "NGrams",
    "NamedSet",
    "Pair",
    "PairBatches",
    "PairFile",
    "Skipped",
    "Split",
    "Structure",
    "TextBatches",
    "TextFile",
    "Vocabulary",
    "batch_of",
    "clean_text",
    "date_pair",
    "digits",
    "distinct",
    "docstrings",
    "find",
    "folds",
    "group_references",
    "karate",
    "look_up",
    "normalise_text",
    "number_pair",
    "numbers_and_dates",
    "phrases",
    "present_word_sets",
    "read_column",
    "read_graph",
    "read_image_parts",
    "read_images",
    "read_labelled",
    "read_masks",
    "read_ngrams",
    "read_pairs",
    "read_pictures",
    "read_texts",
    "require_labels",
    "resized",
    "sentence_key",
    "sha256_of",
    "shares",
    "source_batch",
    "split_images",
    "split_labelled",
    "split_pairs",
    "text_key",
    "train_vocabulary",
    "verify",
    "word_of",
]
