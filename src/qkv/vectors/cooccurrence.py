"""How often words stand near one another, counted from text of any size.

The matrix is made a row at a time: all places of a word are walked through, the weights of its neighbours are added
up in an array as long as the vocabulary, and what is not zero there is the row, sorted and whole. No pair is hashed,
sorted or merged. Rows do not depend on one another, so threads, and parts that a short memory asks for, change no bit.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Literal, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int, Int32, Int64
from numba.cpython.unsafe.numbers import trailing_zeros
from scipy.sparse import coo_array, csr_array

from qkv.compiled import compiled
from qkv.errors import DataError, InputError, InputTypeError, unknown_name
from qkv.files import atomic, open_arrays
from qkv.vectors._threads import in_threads
from qkv.vectors.corpus import BREAK, Corpus, Reading, Spool, Texts, read_corpus

WEIGHTINGS = ("harmonic", "flat")
FORMAT = 1
"""The version of the file; one of a newer version is refused, not guessed at."""

_MEGABYTE = 1 << 20
_SHIFT, _MASK = 6, 63  # a bit a column tells which ones of a row are not zero, 64 of them in a number
_ENTRY = 8  # bytes of an entry: a column and a value
_TASK_ENTRIES = 1 << 22
_TASKS_PER_THREAD = 8
_SHARDS = 16


class CountProgress(NamedTuple):
    """How far a count has come: rows of the matrix, of how many, and entries in them."""

    rows: int
    total_rows: int
    entries: int


@dataclass(frozen=True)
class Cooccurrence:
    """Words, how often each stands in the text, and how often they stand near one another.

    Attributes:
        words: from the most frequent on.
        frequencies: how often each was met.
        counts: row i, column j: the weights of all places where j stands in the window of i, added up.
    """

    words: list[str]
    frequencies: Int64[np.ndarray, " words"]
    counts: csr_array

    def __post_init__(self) -> None:
        size = len(self.words)
        if self.counts.shape != (size, size) or self.frequencies.shape != (size,):
            raise InputError("counts do not fit words", expected=f"({size}, {size})", got=f"{self.counts.shape}")
        if len(set(self.words)) < size:
            raise InputError("a word stands twice among the words of a count", expected="each once")

    @property
    def entries(self) -> int:
        """How many counts are not zero."""
        return self.counts.nnz

    def toarray(self) -> Float64[np.ndarray, "words words"]:
        """All counts, zeros too, in float64."""
        return self.counts.toarray().astype(np.float64)

    @classmethod
    def from_ngrams(
        cls,
        ngrams: Int[np.ndarray, "ngrams n"],
        words: Sequence[str],
        weights: Float[np.ndarray, " ngrams"] | Int[np.ndarray, " ngrams"] | None = None,
    ) -> "Cooccurrence":
        """Counts of consecutive pairs: row i, column j, how often j follows i in an n-gram.

        Args:
            ngrams: numbers of words.
            weights: how often each n-gram stands for; once where left out.

        Raises:
            InputError: a number without a word, weights that do not fit or are negative.

        >>> pairs = Cooccurrence.from_ngrams(np.array([[0, 1, 1], [1, 1, 0]]), ["a", "b"])
        >>> pairs.toarray()
        array([[0., 1.],
               [1., 2.]])
        """
        ngrams, size = np.asarray(ngrams, np.int64), len(words)
        if ngrams.size and not 0 <= ngrams.min() <= ngrams.max() < size:
            got = f"{ngrams.min()} to {ngrams.max()}"
            raise InputError("ngrams name words that are not there", expected=f"numbers from 0 to {size - 1}", got=got)
        times = np.ones(len(ngrams)) if weights is None else np.asarray(weights, np.float64)
        if times.shape != (len(ngrams),) or not (np.isfinite(times) & (times >= 0)).all():
            raise InputError(
                "weights do not fit ngrams", expected=f"{len(ngrams)} numbers of 0 or more", got=f"shape {times.shape}"
            )
        pairs = np.repeat(times, max(ngrams.shape[1] - 1, 0)), (ngrams[:, :-1].ravel(), ngrams[:, 1:].ravel())
        frequencies = np.bincount(ngrams.ravel(), np.repeat(times, ngrams.shape[1]), minlength=size)
        counts = csr_array(coo_array(pairs, shape=(size, size)).tocsr(), dtype=np.float32)
        return cls(list(words), frequencies.astype(np.int64), counts)

    def merge(self, others: Iterable["Cooccurrence"]) -> "Cooccurrence":
        """This count and others as one, as if their texts had been one: exact where all had the same words.

        A word that some of them lack counts there as never met. Words are ranked anew.
        """
        every = [self, *others]
        total: dict[str, int] = {}
        for one in every:
            for word, times in zip(one.words, one.frequencies.tolist(), strict=True):
                total[word] = total.get(word, 0) + times
        words = sorted(total, key=lambda word: (-total[word], word.encode()))
        rank = {word: i for i, word in enumerate(words)}
        shape = (len(words), len(words))

        def placed(one: Cooccurrence) -> csr_array:
            place = np.array([rank[word] for word in one.words], np.int64)
            coo = one.counts.tocoo()
            return coo_array((coo.data.astype(np.float64), (place[coo.row], place[coo.col])), shape=shape).tocsr()

        counts = csr_array(reduce(lambda left, right: left + right, map(placed, every)), dtype=np.float32)
        counts.sort_indices()
        return Cooccurrence(words, np.array([total[word] for word in words], np.int64), counts)

    # -- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Writes an npz file, whole or not at all."""
        arrays = {
            "format": np.array(FORMAT),
            "words": np.frombuffer(json.dumps(self.words, ensure_ascii=False).encode(), np.uint8),
            "frequencies": self.frequencies,
            "indptr": self.counts.indptr.astype(np.int64),
            "indices": self.counts.indices,
            "values": self.counts.data,
        }
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Cooccurrence":
        """Reads what `save` wrote.

        Raises:
            DataError: it is no such file, or a damaged one.
        """
        path = Path(path)
        with open_arrays(path) as arrays:
            found = dict(arrays)
        try:
            return cls._from_arrays(found, path)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"not a file of counts, or a damaged one ({error})",
                hint="qkv vectors count, which writes them",
                path=path,
            ) from error

    @classmethod
    def _from_arrays(cls, arrays: dict[str, np.ndarray], path: Path) -> "Cooccurrence":
        if "format" not in arrays:
            raise DataError(
                "not a file of counts", expected="what qkv vectors count writes", got=", ".join(arrays), path=path
            )
        if int(arrays["format"]) > FORMAT:
            raise DataError("counts of a newer qkv", hint="a newer qkv", path=path)
        words = json.loads(arrays["words"].tobytes())
        indptr, indices, values = arrays["indptr"], arrays["indices"], arrays["values"].astype(np.float32, copy=False)
        good = (
            len(indptr) == len(words) + 1
            and indptr[0] == 0
            and indptr[-1] == len(indices) == len(values)
            and (np.diff(indptr) >= 0).all()
            and (not len(indices) or (indices.min() >= 0 and indices.max() < len(words)))
            and np.isfinite(values).all()
        )
        if not good:
            raise DataError("counts that do not fit together", hint="count again", path=path)
        counts = csr_array((values, indices, indptr), shape=(len(words), len(words)))
        return cls(words, arrays["frequencies"].astype(np.int64), counts)


# -- counting --------------------------------------------------------------------------------------------------------


def count_cooccurrence(
    texts: Texts,
    *,
    tokens: Literal["words", "blanks"] = "words",
    lower: bool = True,
    documents: Literal["lines", "running"] = "lines",
    min_count: int = 5,
    max_words: int | None = None,
    words: Sequence[str] | None = None,
    window: int = 15,
    weighting: Literal["harmonic", "flat"] = "harmonic",
    symmetric: bool = True,
    memory_mb: int | None = None,
    shards: str | Path | None = None,
    threads: int | None = None,
    progress: Callable[[CountProgress], None] = lambda _: None,
) -> Cooccurrence:
    """Counts how often words of a vocabulary stand within `window` words of one another.

    Each time weighs the inverse of the distance (Pennington, Socher and Manning 2014, section 4.2), or one. Words that
    are not in the vocabulary are taken out of the text first and leave no gap, as GloVe's own tools have it. Sums are
    made in double precision and rounded once; neither threads nor memory change the result.

    Args:
        texts: files and folders of them as paths, plain or compressed with gzip or zstd; or strings, each a document.
        tokens, lower, documents: how text becomes words; see `qkv.vectors.corpus.Reading`.
        min_count: rarer words are left out.
        max_words: at most so many, the most frequent.
        words: a vocabulary, instead of these two: counts of parts of a text then merge to the count of the whole.
        window: how far apart two words may stand, in words.
        weighting: `harmonic`, 1 / distance, or `flat`.
        symmetric: what stands on either side, or (False) only what follows.
        memory_mb: how much memory to use, half of what is free by default; what takes more lives in temporary files.
        shards: a folder in which finished parts of the matrix are kept, so that a count that was stopped goes on from
            there; they are removed once all are there.
        threads: how many to use, as many as torch has by default.

    Raises:
        InputError: no words are left, or none stand together; an argument that cannot be used.
        InputTypeError: texts of another type.
        DataError: a file that cannot be read, or is no text.
        StorageError: temporary files do not fit on the disk.

    >>> counted = count_cooccurrence(["the cat sat", "the cat ran"], min_count=2)
    >>> counted.words, counted.toarray()
    (['cat', 'the'], array([[0., 2.],
           [2., 0.]]))
    """
    _at_least_one(min_count=min_count, max_words=max_words, window=window, memory_mb=memory_mb, threads=threads)
    if weighting not in WEIGHTINGS:
        raise unknown_name("weighting", str(weighting), WEIGHTINGS)
    if words is not None and len(set(words)) < len(words):
        raise InputError("words has one twice", expected="each word once")
    memory = _free_memory() // 2 if memory_mb is None else memory_mb * _MEGABYTE
    corpus = read_corpus(
        texts, Reading(tokens, lower, documents), min_count=min_count, max_words=max_words, words=words,
        memory=memory // 4,
    )  # fmt: skip
    distances = np.arange(1, window + 1)
    weights = 1 / distances if weighting == "harmonic" else np.ones(window)
    matrix = _Matrix(corpus, weights, symmetric, memory, threads or torch.get_num_threads())
    counts = matrix.count(None if shards is None else Path(shards), progress)
    if not counts.nnz:
        raise InputError(
            "no two words stand together",
            expected="texts of several words",
            got=f"a vocabulary of {len(corpus.words)}, {corpus.words[0]!r} the most frequent",
            hint="--documents running where lines are short; a smaller --min-count",
        )
    return Cooccurrence(corpus.words, corpus.frequencies, counts)


def _at_least_one(**given: int | None) -> None:
    for name, value in given.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise InputTypeError(f"{name} cannot be used", expected="a whole number", got=repr(value))
        if value is not None and value < 1:
            raise InputError(f"{name} is too small", expected="1 or more", got=str(value))


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, AttributeError, OSError):  # a system that does not tell
        return 4096 * _MEGABYTE


class _Rows(NamedTuple):
    """Neighbouring rows of the matrix: their lengths, and their entries one after the other."""

    lengths: Int64[np.ndarray, " rows"]
    indices: Int32[np.ndarray, " entries"]
    values: Float32[np.ndarray, " entries"]


@dataclass(frozen=True)
class _Matrix:
    """What a matrix of counts is made from, and with how many bytes and threads."""

    corpus: Corpus
    weights: Float64[np.ndarray, " window"]
    symmetric: bool
    memory: int
    threads: int

    @property
    def longest(self) -> Int64[np.ndarray, " words"]:
        """What no row is longer than: all that is known of it before it is made."""
        return np.minimum(self.corpus.frequencies * (len(self.weights) * (1 + self.symmetric)), len(self.corpus.words))

    def count(self, shards: Path | None, progress: Callable[[CountProgress], None]) -> csr_array:
        """The whole matrix, part after part."""
        size = len(self.corpus.words)
        parts = _cut(self.corpus.frequencies * 8, self.memory // 4)
        if shards is not None:
            shards = shards / self._fingerprint()
            most = max(int(self.longest.sum()) // _SHARDS, 1)
            parts = [(first + a, first + b) for first, last in parts for a, b in _cut(self.longest[first:last], most)]
        lengths, indices, values = Spool(np.int64, self.memory), *self._spools()
        entries = 0
        for first, last in parts:
            for made in self._kept_part(shards, first, last) if shards is not None else self._part(first, last):
                lengths.append(made.lengths)
                indices.append(made.indices)
                values.append(made.values)
                entries += len(made.values)
            progress(CountProgress(last, size, entries))
        indptr = np.concatenate([[0], np.cumsum(lengths.array())])
        counts = csr_array((size, size), dtype=np.float32)
        # Given as arguments, columns would be copied into the wider type of the offsets.
        counts.data, counts.indices = values.array(), indices.array()
        counts.indptr = indptr.astype(np.int32) if entries < 2**31 else indptr
        if shards is not None:
            shutil.rmtree(shards)
        return counts

    def _spools(self) -> tuple[Spool, Spool]:
        return Spool(np.int32, self.memory // 8), Spool(np.float32, self.memory // 8)

    def _part(self, first: int, last: int) -> Iterator[_Rows]:
        """The rows of the words from `first` to `last`, in groups made side by side."""
        offsets = np.concatenate([[0], np.cumsum(self.corpus.frequencies[first:last])])
        places = np.empty(offsets[-1], np.int64)
        _gather_places(self.corpus.stream, first, last, offsets, places)
        longest = self.longest[first:last]
        share = int(longest.sum()) // (self.threads * _TASKS_PER_THREAD)
        most = min(self.memory // (8 * self.threads * _ENTRY), share, _TASK_ENTRIES)
        size = len(self.corpus.words)

        def rows(group: tuple[int, int]) -> _Rows:
            begin, end = group
            room = int(longest[begin:end].sum())
            lengths = np.empty(end - begin, np.int64)
            indices, values = np.empty(room, np.int32), np.empty(room, np.float32)
            stream, own = self.corpus.stream, offsets[begin : end + 1]
            count = _count_rows(stream, places, own, self.weights, self.symmetric, size, lengths, indices, values)
            return _Rows(lengths, indices[:count].copy(), values[:count].copy())

        return in_threads(rows, _cut(longest, most), self.threads)

    def _kept_part(self, shards: Path, first: int, last: int) -> list[_Rows]:
        """The same from a file, which is written first where it is not there."""
        path = shards / f"{first}-{last}.npz"
        if not path.exists():
            made = _Rows(*(np.concatenate(each) for each in zip(*self._part(first, last), strict=True)))
            with atomic(path) as temporary, temporary.open("wb") as file:
                np.savez(file, lengths=made.lengths, indices=made.indices, values=made.values)
        try:
            with open_arrays(path) as arrays:
                return [_Rows(*(arrays[name] for name in _Rows._fields))]
        except (DataError, KeyError) as error:
            raise DataError("a damaged part of a count", hint="remove it and count again", path=path) from error

    def _fingerprint(self) -> str:
        """A name that no other matrix has."""
        digest = hashlib.sha256("\n".join(self.corpus.words).encode())
        for array in (self.corpus.stream, self.weights, np.array(self.symmetric)):
            digest.update(array.data)
        return digest.hexdigest()[:16]


def _cut(costs: Int64[np.ndarray, " rows"], most: int) -> list[tuple[int, int]]:
    """Neighbouring rows in groups that cost at most so much, or are one row."""
    bounds, cost = [0], 0
    for row, own in enumerate(costs.tolist()):
        if cost + own > most and row > bounds[-1]:
            bounds.append(row)
            cost = 0
        cost += own
    return [*zip(bounds, [*bounds[1:], len(costs)], strict=True)]


@no_type_check
@compiled
def _gather_places(stream, first, last, offsets, places):
    """Where the words from `first` to `last` stand, word by word."""
    following = offsets[:-1].copy()
    for i in range(len(stream)):
        if first <= stream[i] < last:
            word = stream[i] - first
            places[following[word]] = i
            following[word] += 1


@no_type_check
@compiled
def _count_rows(stream, places, offsets, weights, symmetric, size, lengths, indices, values):
    """Writes the rows of the words whose places lie between `offsets`, one after the other; how many entries."""
    total = np.zeros(size)
    touched = np.zeros((size >> _SHIFT) + 1, np.uint64)
    window, n = len(weights), 0
    for row in range(len(lengths)):
        for place in places[offsets[row] : offsets[row + 1]]:
            for distance in range(1, min(window, len(stream) - 1 - place) + 1):
                other = stream[place + distance]
                if other == BREAK:
                    break
                total[other] += weights[distance - 1]
                touched[other >> _SHIFT] |= np.uint64(1) << np.uint64(other & _MASK)
            if symmetric:
                for distance in range(1, min(window, place) + 1):
                    other = stream[place - distance]
                    if other == BREAK:
                        break
                    total[other] += weights[distance - 1]
                    touched[other >> _SHIFT] |= np.uint64(1) << np.uint64(other & _MASK)
        begin = n
        for group in range(len(touched)):
            left = touched[group]
            touched[group] = 0
            while left:
                other = (group << _SHIFT) + np.int64(trailing_zeros(left))
                left &= left - np.uint64(1)
                indices[n], values[n] = other, total[other]
                total[other] = 0
                n += 1
        lengths[row] = n - begin
    return n
