"""Words and their vectors: looked up, compared, searched, read and written."""

import difflib
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from qkv.errors import InputError, NotFiniteError, unknown_name
from qkv.vectors import formats
from qkv.vectors.nearest import MEASURES, Measure, Search, exact_scores, require_top

Method = Literal["3cosadd", "3cosmul"]
METHODS: tuple[Method, ...] = get_args(Method)
EPSILON = 0.001
_LIKELY = 50_000


class Neighbour(NamedTuple):
    """A word, and how near it is: a cosine, a product, or, where the measure is Euclidean, a distance."""

    word: str
    score: float


class WordVectors:
    """Words and a matrix of their vectors, row by row.

    Args:
        words: each once.
        matrix: a row for each, kept in float32.
        check: read everything now, for words that repeat and numbers that are none. What is memory-mapped is checked
            where it is first used instead, so that opening it costs nothing.

    Raises:
        InputError: a word twice, or not one row for each word.
        NotFiniteError: NaN or infinity.

    >>> vectors = WordVectors(["king", "queen", "man"], np.array([[2, 1], [1, 2], [1.5, 0]], dtype=np.float32))
    >>> vectors["queen"]
    array([1., 2.], dtype=float32)
    >>> [near.word for near in vectors.nearest("man", top=2)]
    ['king', 'queen']
    """

    def __init__(self, words: Sequence[str], matrix: np.ndarray, *, check: bool = True):
        matrix = np.asarray(matrix)
        if matrix.ndim != 2 or len(matrix) != len(words) or not matrix.shape[1]:
            raise InputError(
                "matrix does not fit words", expected=f"{len(words):,} rows of numbers", got=f"shape {matrix.shape}"
            )
        self.words = list(words)
        self.matrix: Float32[np.ndarray, "words dim"] = matrix.astype(np.float32, copy=False)
        self._searches: dict[Measure, Search] = {}
        if check:
            self._require_sound()

    def _require_sound(self) -> None:
        _ = self.key_to_index
        finite = np.isfinite(self.matrix).all(axis=1)
        if not finite.all():
            raise NotFiniteError(f"NaN or infinity in the vector of {self.words[int(finite.argmin())]!r}")

    # -- files -------------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | Path, words: Collection[str] | None = None) -> "WordVectors":
        """Opens a file of word vectors, in any format and compression that `qkv.vectors.formats.read` knows.

        Args:
            path: the file; npz and safetensors are memory-mapped.
            words: keep only these, in the order of the file.

        Raises:
            DataError: it is no such file, or a damaged one; the message names the line.
        """
        return cls(*formats.read(path, words), check=False)

    def save(self, path: str | Path) -> Path:
        """Writes a file in the format of its ending: see `qkv.vectors.formats.write`.

        Raises:
            InputError: no format has that ending, or holds such a word; a word twice, as a mapped file may have it.
            NotFiniteError: NaN or infinity.
            StorageError: the file cannot be written.
        """
        self._require_sound()
        return formats.write(path, self.words, self.matrix)

    # -- looking up --------------------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        return self.matrix.shape[1]

    @cached_property
    def key_to_index(self) -> dict[str, int]:
        """The row of each word."""
        rows = {word: row for row, word in enumerate(self.words)}
        if len(rows) < len(self.words):
            again = next(word for row, word in enumerate(self.words) if rows[word] != row)
            raise InputError(f"the word {again!r} stands twice", expected="each word once")
        return rows

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.key_to_index

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __repr__(self) -> str:
        return f"WordVectors({len(self):,} words, {self.dim} dimensions)"

    def __getitem__(self, word: str | Sequence[str]) -> Float32[np.ndarray, "*words dim"]:
        """The vector of a word, or a row for each of several."""
        return self.matrix[self.index(word) if isinstance(word, str) else self.indices(word)]

    def index(self, word: str) -> int:
        """The row of a word.

        Raises:
            InputError: there is none; words that are spelt alike are suggested.
        """
        row = self.key_to_index.get(word)
        if row is None:
            # The frequent words stand first in nearly all files; looking through all of a large one takes seconds.
            near = [word.lower()] * (word.lower() in self) or difflib.get_close_matches(word, self.words[:_LIKELY], n=3)
            raise InputError(
                f"no vector for {word!r}", expected=f"one of {len(self):,} words", hint=" or ".join(map(repr, near))
            )
        return row

    def row_of(self, word: str) -> int | None:
        """The row of a word as it stands, or of the word in lower case; None where there is neither."""
        return self.key_to_index.get(word, self.key_to_index.get(word.lower()))

    def indices(self, words: Sequence[str]) -> Int64[np.ndarray, " asked"]:
        """The rows of several words."""
        return np.array([self.index(word) for word in words], dtype=np.int64)

    def subset(self, words: Sequence[str]) -> "WordVectors":
        """These words and their vectors, in this order."""
        return WordVectors(words, self[list(words)])

    # -- comparing ---------------------------------------------------------------------------------------------------

    def similarity(self, word: str, other: str) -> float:
        """The cosine of the angle between two vectors; 0 where one of them is zero."""
        return float(self.similarities([word], [other])[0, 0])

    def distance(self, word: str, other: str, *, by: Literal["cosine", "euclidean"] = "cosine") -> float:
        """One minus the cosine, or the length of the difference."""
        measured = float(self.similarities([word], [other], by=by)[0, 0])
        return 1 - measured if by == "cosine" else measured

    def similarities(
        self, words: Sequence[str], others: Sequence[str] | None = None, *, by: Measure = "cosine"
    ) -> Float64[np.ndarray, "words others"]:
        """A matrix of how near each of `words` is to each of `others`, or of themselves.

        >>> WordVectors(["a", "b"], np.array([[3, 0], [0, 4]])).similarities(["a", "b"], by="euclidean")
        array([[0., 5.],
               [5., 0.]])
        """
        rows, columns = self.indices(words), self.indices(words if others is None else others)
        return exact_scores(self.matrix[rows], self.matrix, np.tile(columns, (len(rows), 1)), _measure(by))

    def odd_one_out(self, words: Sequence[str]) -> str:
        """The word whose direction is least like the mean direction of all of them.

        Raises:
            InputError: fewer than three words, of which none could be odd.
        """
        if len(words) < 3:
            raise InputError("too few words for one to be odd", expected="three or more", got=str(len(words)))
        unit = self._unit(words)
        return words[int((unit @ unit.mean(axis=0)).argmin())]

    # -- searching ---------------------------------------------------------------------------------------------------

    def nearest(
        self,
        positive: str | Sequence[str] | Float[np.ndarray, " dim"],
        negative: str | Sequence[str] = (),
        *,
        top: int = 10,
        by: Measure = "cosine",
    ) -> list[Neighbour]:
        """The words nearest to a word, to a vector, or to what words add up to; those words themselves are left out.

        Args:
            positive: what is added: words, or one vector.
            negative: words that are taken away.
            top: how many.
            by: `cosine`, for which directions are added (vectors of length 1); `dot` or `euclidean`, for which vectors
                are, as they are.

        Raises:
            InputError: a word without a vector, or none at all.
        """
        query, asked = self._sum(positive, negative, by)
        return self._found(query[None], [asked], top, by)[0]

    def nearest_many(
        self, queries: Sequence[str] | Float[np.ndarray, "queries dim"], *, top: int = 10, by: Measure = "cosine"
    ) -> list[list[Neighbour]]:
        """The nearest words of each of many words, or rows of vectors: much faster than one after the other."""
        if isinstance(queries, np.ndarray):
            return self._found(queries, [set()] * len(queries), top, by)
        rows = self.indices(queries)
        return self._found(self.matrix[rows], [{row} for row in rows.tolist()], top, by)

    def analogy(self, a: str, b: str, c: str, *, top: int = 10, method: Method = "3cosadd") -> list[Neighbour]:
        """What is to `c` as `b` is to `a`; the three words themselves are left out.

        `3cosadd` takes the largest `cos(d, b - a + c)` with directions (Mikolov et al. 2013); `3cosmul` the largest
        `cos(d, b) cos(d, c) / (cos(d, a) + 0.001)` with cosines moved to 0 ... 1 (Levy and Goldberg 2014, eq. 4).

        Raises:
            InputError: a word without a vector, or an unknown method.
        """
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
        if method == "3cosadd":
            return self.nearest([b, c], [a], top=top)
        require_top(top)
        to_a, to_b, to_c = (1 + (self.search("cosine").rows.numpy() @ self._unit([a, b, c]).T).T) / 2
        scores = to_b * to_c / (to_a + EPSILON)
        scores[self.indices([a, b, c])] = -np.inf
        rows = np.argsort(-scores, kind="stable")[: min(top, len(self) - len({a, b, c}))]
        return [Neighbour(self.words[row], float(scores[row])) for row in rows]

    def _found(
        self, queries: Float[np.ndarray, "queries dim"], asked: Sequence[set[int]], top: int, by: Measure
    ) -> list[list[Neighbour]]:
        require_top(top)
        most = max(map(len, asked), default=0)
        rows, scores = self.search(by)(queries, top + most)
        return [
            [Neighbour(self.words[row], score) for row, score in zip(*some, strict=True) if row not in own][:top]
            for *some, own in zip(rows.tolist(), scores.tolist(), asked, strict=True)
        ]

    def _sum(
        self, positive: str | Sequence[str] | np.ndarray, negative: str | Sequence[str], by: Measure
    ) -> tuple[Float[np.ndarray, " dim"], set[int]]:
        """The query that words add up to, and the rows of those words."""
        if isinstance(positive, np.ndarray):
            if positive.shape != (self.dim,):
                raise InputError(
                    "not a vector like these", expected=f"{self.dim} numbers", got=f"shape {positive.shape}"
                )
            return positive, set()
        added, taken = ([one] if isinstance(one, str) else list(one) for one in (positive, negative))
        if not added and not taken:
            raise InputError("nothing to look for", expected="at least one word")
        rows = self.indices([*added, *taken])
        signs = np.repeat([1.0, -1.0], [len(added), len(taken)])
        vectors = self._unit([*added, *taken]) if _measure(by) == "cosine" else self.matrix[rows]
        return signs @ vectors, set(rows.tolist())

    def _unit(self, words: Sequence[str]) -> Float64[np.ndarray, "words dim"]:
        vectors = self[list(words)].astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths == 0, 1, lengths)

    def search(self, by: Measure) -> Search:
        """The rows made ready for a measure, once."""
        if by not in self._searches:
            self._searches[by] = Search(self.matrix, by)
        return self._searches[by]

    # -- under gensim's names ----------------------------------------------------------------------------------------

    def most_similar(
        self,
        positive: str | Sequence[str] | Float[np.ndarray, " dim"] = (),
        negative: str | Sequence[str] = (),
        topn: int = 10,
    ) -> list[Neighbour]:
        """`nearest` by cosine."""
        return self.nearest(positive, negative, top=topn)

    def doesnt_match(self, words: Sequence[str]) -> str:
        """`odd_one_out`."""
        return self.odd_one_out(words)

    @property
    def index_to_key(self) -> list[str]:
        return self.words

    @property
    def vectors(self) -> Float32[np.ndarray, "words dim"]:
        return self.matrix

    @property
    def vector_size(self) -> int:
        return self.dim


def _measure(by: Measure) -> Measure:
    if by not in MEASURES:
        raise unknown_name("measure", by, MEASURES)
    return by
