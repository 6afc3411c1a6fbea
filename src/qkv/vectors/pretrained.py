"""Pretrained vectors for the tokens of a vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from qkv.errors import DataError
from qkv.vectors.sentence import spellings
from qkv.vectors.word_vectors import WordVectors


@dataclass(frozen=True)
class Coverage:
    """How many tokens of a vocabulary got a pretrained vector, and which words among them did not."""

    found: int
    size: int
    missing: list[str]

    @property
    def share(self) -> float:
        return self.found / self.size


def vectors_for(
    words: Sequence[str | None], path: str | Path, *, pad_id: int, seed: int = 0
) -> tuple[Float[Tensor, "vocab dim"], Coverage]:
    """A row for every token: the vector of its word, or of its word in lower case.

    Tokens without one (rare words, endings, special tokens) are drawn from a normal distribution as wide as the
    vectors found; padding is zero.

    Args:
        words: the word that each token is; None where it is none, such as an ending.
        path: a file of word vectors.
        pad_id: which token is padding.
        seed: decides what is drawn.

    Raises:
        DataError: the file cannot be read, or has a vector for no token at all.
    """
    vectors = WordVectors.load(path, spellings(word for word in words if word))
    matches = [vectors.row_of(word) if word else None for word in words]
    tokens = [i for i, row in enumerate(matches) if row is not None]
    if not tokens:
        raise DataError("no vector for any token of the vocabulary", hint="vectors of the same language", path=path)
    found = torch.from_numpy(vectors.matrix[[row for row in matches if row is not None]])
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(len(words), vectors.dim, generator=generator) * found.std(correction=0)
    matrix[tokens] = found
    matrix[pad_id] = 0
    missing = [word for word, row in zip(words, matches, strict=True) if word and row is None]
    return matrix, Coverage(len(tokens), len(words), missing)
