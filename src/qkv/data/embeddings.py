"""Pretrained word vectors for the tokens of a vocabulary, from GloVe text and word2vec text or binary files."""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from qkv.data.tokens import Vocabulary, word_of
from qkv.errors import DataError
from qkv.files import open_bytes

MAX_DIM = 100_000
_LONGEST_LINE = 1 << 24


@dataclass(frozen=True)
class Vectors:
    """Words and their vectors, row by row in the order of the file."""

    words: list[str]
    matrix: Float32[np.ndarray, "words dim"]

    @property
    def dim(self) -> int:
        return self.matrix.shape[1]


@dataclass(frozen=True)
class Coverage:
    """How many tokens of a vocabulary got a pretrained vector, and which ones that start a word did not."""

    found: int
    size: int
    missing: list[str]

    @property
    def share(self) -> float:
        return self.found / self.size


def vectors_for(vocabulary: Vocabulary, path: str | Path, seed: int = 0) -> tuple[Float[Tensor, "vocab dim"], Coverage]:
    """A row for every token: the vector of its word, or of its word in lower case.

    Tokens without one (rare words, endings, special tokens) are drawn from a normal distribution as wide as the
    vectors found; padding is zero.

    Raises:
        DataError: the file cannot be read, or has a vector for no token at all.
    """
    words = [word_of(piece) for piece in vocabulary.pieces]
    asked = {form for word in words if word for form in (word, word.lower())}
    vectors = read_vectors(path, asked)
    rows = {word: row for row, word in enumerate(vectors.words)}
    matches = [rows.get(word, rows.get(word.lower())) if word else None for word in words]
    tokens = [i for i, row in enumerate(matches) if row is not None]
    if not tokens:
        raise DataError("no vector for any token of the vocabulary", hint="vectors of the same language", path=path)
    found = torch.from_numpy(vectors.matrix[[row for row in matches if row is not None]])
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(len(words), vectors.dim, generator=generator) * found.std(correction=0)
    matrix[tokens] = found
    matrix[vocabulary.pad_id] = 0
    missing = [word for word, row in zip(words, matches, strict=True) if word and row is None]
    return matrix, Coverage(len(tokens), len(words), missing)


def read_vectors(path: str | Path, words: Collection[str] | None = None) -> Vectors:
    """Reads word vectors, plain or compressed with gzip or zstd; which of three formats, the file itself says.

    GloVe text is a word and its numbers on each line. word2vec (Mikolov et al. 2013) begins with a line of two counts,
    rows and width; its rows are text as in GloVe, or the word, a blank and little-endian float32 values. Where a word
    stands twice the first counts; words that are not UTF-8 are passed over.

    Args:
        words: keep only these, and check the numbers of no other; None keeps all.

    Raises:
        DataError: a row too short or too long, a value that is not a finite number, fewer or more rows than promised.
    """
    path = Path(path)
    asked = None if words is None else {word.encode() for word in words}
    layout = _sniff(path)
    found: dict[str, Float32[np.ndarray, " dim"]] = {}
    for place, word, raw in (_binary_rows if layout.binary else _text_rows)(path, layout):
        if asked is None or word in asked:
            with contextlib.suppress(UnicodeDecodeError):
                found.setdefault(word.decode(), _vector(raw, path, place))
    return Vectors(list(found), np.array(list(found.values()), dtype=np.float32).reshape(-1, layout.dim))


@dataclass(frozen=True)
class _Layout:
    """How a file is laid out; `rows` is None where no header promises a number of them."""

    dim: int
    rows: int | None = None
    binary: bool = False


Raw = bytes | list[bytes]


def _sniff(path: Path) -> _Layout:
    with open_bytes(path) as file:
        fields, sample = file.readline(_LONGEST_LINE).split(), file.read(4096)
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        rows, dim = map(int, fields)
        if not 1 <= dim <= MAX_DIM:
            raise DataError("a header that cannot be", expected=f"1 to {MAX_DIM:,} dimensions", got=str(dim), path=path)
        return _Layout(dim, rows, binary=not _is_number(b"".join(sample.split(maxsplit=2)[1:2])))
    if len(fields) < 2 or not _is_number(fields[-1]):
        raise DataError(
            "not a file of word vectors", expected="a word and its numbers, parted by blanks", path=path, line=1
        )
    return _Layout(len(fields) - 1)


def _text_rows(path: Path, layout: _Layout) -> Iterator[tuple[int, bytes, Raw]]:
    """The line number, word and numbers of each row."""
    rows = 0
    with open_bytes(path) as file:
        for line, text in enumerate(file, start=1):
            fields = text.split()
            if not fields or (line == 1 and layout.rows is not None):
                continue
            numbers = len(fields) - 1
            # Some of GloVe's words hold blanks (". . ."), so more fields are too many only where they are numbers.
            if numbers < layout.dim or (numbers > layout.dim and _is_number(fields[-layout.dim - 1])):
                raise DataError(
                    f"a row too {'short' if numbers < layout.dim else 'long'}",
                    expected=f"{layout.dim} numbers after the word, as line 1 has it",
                    got=str(numbers),
                    hint="fetch the file again: it may be damaged",
                    path=path,
                    line=line,
                )
            rows += 1
            yield line, b" ".join(fields[: -layout.dim]), fields[-layout.dim :]
    if layout.rows is not None and rows != layout.rows:
        raise _wrong_count(layout, str(rows), path)


def _binary_rows(path: Path, layout: _Layout) -> Iterator[tuple[int, bytes, Raw]]:
    """The number, word and bytes of each row."""
    with open_bytes(path) as file:
        file.readline()
        for row in range(layout.rows or 0):
            word = b"".join(iter(lambda: file.read(1) or b" ", b" "))
            raw = file.read(4 * layout.dim)
            if len(raw) < 4 * layout.dim:
                raise _wrong_count(layout, f"{row} whole ones", path)
            # Some writers end a row with a line break, some do not.
            yield row + 1, word.lstrip(b"\n"), raw
        if file.read(2).strip():
            raise _wrong_count(layout, "more", path)


def _wrong_count(layout: _Layout, got: str, path: Path) -> DataError:
    return DataError(
        "not the number of rows that line 1 promises",
        expected=f"{layout.rows} rows",
        got=got,
        hint="fetch the file again: it may be cut short",
        path=path,
    )


def _vector(raw: Raw, path: Path, row: int) -> Float32[np.ndarray, " dim"]:
    try:
        vector = np.frombuffer(raw, "<f4") if isinstance(raw, bytes) else np.array(list(map(float, raw)), np.float32)
    except ValueError as error:
        raise DataError(f"not a number ({error})", path=path, line=row) from error
    if not np.isfinite(vector).all():
        raise DataError("NaN or infinity in a vector", path=path, line=row)
    return vector


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
