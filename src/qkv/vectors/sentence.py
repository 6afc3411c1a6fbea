"""A sentence as the vectors of its words."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from qkv.errors import InputError, unknown_name
from qkv.vectors.word_vectors import WordVectors

Unknown = Literal["drop", "zero", "stop"]


@dataclass(frozen=True)
class EmbeddedSentence:
    """The words of a sentence, a vector for each, and which words had none."""

    words: Sequence[str]
    vectors: Float64[Tensor, "words embed_dim"]
    missing: Sequence[str] = ()

    @property
    def labels(self) -> list[str]:
        """The words; those that repeat with their position, counted from 1.

        >>> EmbeddedSentence(["to", "be", "to"], torch.zeros(3, 2, dtype=torch.float64)).labels
        ['to (1)', 'be', 'to (3)']
        """
        return [
            f"{word} ({place})" if list(self.words).count(word) > 1 else word
            for place, word in enumerate(self.words, start=1)
        ]

    def position(self, word: str) -> int:
        """The index of `word`, which may also be its position counted from 1.

        Raises:
            InputError: it is not there, or more than once.
        """
        places = [index for index, one in enumerate(self.words) if one.lower() == word.lower()]
        if not places and word.isdecimal() and 1 <= int(word) <= len(self.words):
            return int(word) - 1
        if not places:
            raise unknown_name("word of the sentence", word, dict.fromkeys(self.words))
        if len(places) > 1:
            told = ", ".join(str(place + 1) for place in places)
            raise InputError(
                f"the word {word!r} stands {len(places)} times in the sentence",
                expected=f"one of its positions {told}",
                hint=str(places[-1] + 1),
            )
        return places[0]


def words_of(sentence: str) -> list[str]:
    """Words and marks, as GloVe's tokens part them.

    >>> words_of("Don't swim, he said: it's 3.5 km!")
    ['Do', "n't", 'swim', ',', 'he', 'said', ':', 'it', "'s", '3.5', 'km', '!']
    """
    return re.findall(r"\w+?(?=n't\b)|n't\b|'\w+|\d+(?:[.,]\d+)+|\w+(?:-\w+)*|[^\w\s]", sentence)


def spellings(words: Iterable[str]) -> set[str]:
    """What a file is asked for, for words to be found as they stand or in lower case."""
    return {form for word in words for form in (word, word.lower())}


def embed_sentences(
    sentences: Sequence[str], vectors: WordVectors, *, unknown: Unknown = "drop"
) -> list[EmbeddedSentence]:
    """The vector of each word, or of the word in lower case.

    Args:
        sentences: each becomes the vectors of its words.
        vectors: where words are looked up.
        unknown: what becomes of words without a vector: `drop` them, give them a vector of `zero`s, or `stop`.

    Raises:
        InputError: a sentence without words, or of which no word has a vector; with `stop`, any word without one.

    >>> vectors = WordVectors(["the", "bank"], np.array([[1.0, 0.0], [3.0, 4.0]]))
    >>> (sentence,) = embed_sentences(["The Bank closed"], vectors)
    >>> sentence.words, sentence.missing
    (['The', 'Bank'], ['closed'])
    """
    if unknown not in get_args(Unknown):
        raise unknown_name("way with unknown words", unknown, get_args(Unknown))
    parted = [words_of(sentence) for sentence in sentences]
    if not all(parted):
        raise InputError(
            "a sentence without words", expected="at least one word", got=repr(sentences[parted.index([])])
        )
    return [_embedded(words, vectors, unknown) for words in parted]


def _embedded(words: list[str], vectors: WordVectors, unknown: Unknown) -> EmbeddedSentence:
    matches = [vectors.row_of(word) for word in words]
    missing = list(dict.fromkeys(word for word, row in zip(words, matches, strict=True) if row is None))
    if missing and (unknown == "stop" or len(missing) == len(set(words))):
        raise InputError(
            f"no vector for {', '.join(map(repr, missing))}",
            expected="words that the vectors have",
            hint="--unknown drop or zero" if len(missing) < len(set(words)) else "--vectors of the sentence's language",
        )
    kept = [(word, row) for word, row in zip(words, matches, strict=True) if row is not None or unknown == "zero"]
    matrix = np.stack([np.zeros(vectors.dim) if row is None else vectors.matrix[row].astype(float) for _, row in kept])
    return EmbeddedSentence([word for word, _ in kept], torch.from_numpy(matrix), missing)
