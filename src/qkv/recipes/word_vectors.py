"""Word vectors by name: a file, a named set, or those of docstrings, which need no file."""

from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

from qkv import data
from qkv.vectors import EmbeddedSentence, Unknown, WordVectors, embed_sentences, spellings, words_of

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
    """Vectors of the words in docstrings of Python's standard library; the same Python gives the same ones.

    >>> vectors = docstring_vectors()
    >>> vectors.dim, "dictionary" in vectors
    (50, True)
    """
    return WordVectors(*data.docstring_counts())


def embedded(
    sentences: Sequence[str], vectors: str | Path = DOCSTRINGS, *, unknown: Unknown = "drop"
) -> list[EmbeddedSentence]:
    """The vector of each word of each sentence, from vectors by name, which are read once; see `embed_sentences`."""
    asked = spellings(word for sentence in sentences for word in words_of(sentence))
    return embed_sentences(sentences, open_vectors(vectors, asked), unknown=unknown)
