"""Word vectors by name: a file, a named set, or those of docstrings, which need no file."""

from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

from qkv import data
from qkv.vectors import (
    EmbeddedSentence,
    GloveConfig,
    Unknown,
    WordVectors,
    count_cooccurrence,
    embed_sentences,
    spellings,
    train_glove,
    words_of,
)

DOCSTRINGS = "docstrings"


def open_vectors(name: str | Path, words: Collection[str] | None = None) -> WordVectors:
    """The vectors of a named set, of a file, or `docstrings`.

    Args:
        name: which.
        words: of a file or set, keep only these.

    Raises:
        InputError: no set has that name, and it is no path.
        DataError: the file cannot be read.
    """
    return docstring_vectors() if str(name) == DOCSTRINGS else WordVectors.load(data.find(name), words)


@cache
def docstring_vectors() -> WordVectors:
    """GloVe vectors of the words that stand ten times or more in docstrings of Python's standard library and of NumPy.

    The same files give the same vectors. It takes some seconds, once in a process.

    >>> vectors = docstring_vectors()
    >>> vectors.dim, "dictionary" in vectors
    (50, True)
    """
    counted = count_cooccurrence(data.docstrings(), min_count=10, window=10)
    return train_glove(counted, GloveConfig(dim=50)).word_vectors()


def embedded(
    sentences: Sequence[str], vectors: str | Path = DOCSTRINGS, *, unknown: Unknown = "drop"
) -> list[EmbeddedSentence]:
    """The vector of each word of each sentence, from vectors by name, which are read once; see `embed_sentences`."""
    asked = spellings(word for sentence in sentences for word in words_of(sentence))
    return embed_sentences(sentences, open_vectors(vectors, asked), unknown=unknown)
