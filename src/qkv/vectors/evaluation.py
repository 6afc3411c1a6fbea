"""How well word vectors agree with people: similarities of pairs by rank correlation, analogies by accuracy."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from qkv.errors import DataError, unknown_name
from qkv.files import read_text_lines
from qkv.vectors.nearest import exact_scores
from qkv.vectors.word_vectors import EPSILON, METHODS, Method, WordVectors

_QUESTIONS_AT_ONCE = 64


@dataclass(frozen=True)
class SimilaritySet:
    """Pairs of words, and how similar people find them."""

    name: str
    pairs: Sequence[tuple[str, str, float]]


@dataclass(frozen=True)
class AnalogySet:
    """Questions by category: `a` is to `b` as `c` is to `d`."""

    name: str
    categories: Sequence[tuple[str, Sequence[tuple[str, str, str, str]]]]


@dataclass(frozen=True)
class SimilarityScore:
    """Spearman's correlation over the pairs of which both words have a vector; None where those are fewer than two."""

    name: str
    spearman: float | None
    covered: int
    size: int


@dataclass(frozen=True)
class CategoryScore:
    """How many questions of a category were answered, out of those of which all four words have a vector."""

    name: str
    correct: int
    covered: int
    size: int

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.covered if self.covered else None


@dataclass(frozen=True)
class AnalogyScore(CategoryScore):
    """The same over all questions, with its categories."""

    categories: Sequence[CategoryScore] = ()


def read_set(path: str | Path) -> SimilaritySet | AnalogySet:
    """Reads an evaluation set, named as its file; which kind it is, the file itself says.

    Similarities are two words and a score a line, parted by tabs, commas or blanks; a first line without a score is a
    header. Analogies (Mikolov et al. 2013) are four words a line, under lines such as `: capital-common-countries`.

    Raises:
        DataError: a line that is neither; the message names it.
    """
    path = Path(path)
    pairs: list[tuple[str, str, float]] = []
    categories: dict[str, list[tuple[str, str, str, str]]] = {}
    questions: list[tuple[str, str, str, str]] | None = None
    for line, text in read_text_lines(path):
        if text.startswith(":"):
            questions = categories.setdefault(text[1:].strip(), [])
        elif questions is not None and text.strip():
            fields = text.split()
            if len(fields) != 4:
                raise DataError("not an analogy", expected="four words", got=repr(text), path=path, line=line)
            questions.append((fields[0], fields[1], fields[2], fields[3]))
        elif text.strip():
            first, second, score = _pair(text, path, line) or ("", "", None)
            if score is not None:
                pairs.append((first, second, score))
    name = path.name.partition(".")[0]
    if bool(pairs) == any(categories.values()):
        raise DataError("not an evaluation set", expected="two words and a score, or four words, a line", path=path)
    return SimilaritySet(name, pairs) if pairs else AnalogySet(name, list(categories.items()))


def _pair(text: str, path: Path, line: int) -> tuple[str, str, float] | None:
    fields = [field.strip() for field in re.split(r"\t|," if "\t" in text or "," in text else r"\s+", text.strip())]
    try:
        _, _, third = fields
        score = float(third)
    except ValueError as error:  # other than three fields, or not a number
        if line == 1 and len(fields) == 3:
            return None
        raise DataError(
            "not a pair of words", expected="two words and a score", got=repr(text), path=path, line=line
        ) from error
    if not np.isfinite(score):
        raise DataError("a score that is no number", got=third, path=path, line=line)
    return fields[0], fields[1], score


def score_similarities(vectors: WordVectors, judged: SimilaritySet) -> SimilarityScore:
    """Spearman's rank correlation of cosines with what people said; words count as they stand or in lower case.

    >>> vectors = WordVectors(["a", "b", "c"], np.array([[1, 0], [1, 0.1], [0, 1]]))
    >>> score_similarities(vectors, SimilaritySet("toy", [("A", "b", 9.0), ("a", "c", 1.0), ("a", "x", 5.0)]))
    SimilarityScore(name='toy', spearman=1.0, covered=2, size=3)
    """
    from scipy.stats import rankdata

    found = [(vectors.row_of(a), vectors.row_of(b), score) for a, b, score in judged.pairs]
    known = [(a, b, score) for a, b, score in found if a is not None and b is not None]
    correlation = None
    if len({score for *_, score in known}) > 1:
        left, right = (np.array([pair[side] for pair in known]) for side in (0, 1))
        cosines = exact_scores(vectors.matrix[left], vectors.matrix, right[:, None], "cosine")[:, 0]
        if len(np.unique(cosines)) > 1:
            people = [score for *_, score in known]
            correlation = round(float(np.corrcoef(rankdata(cosines), rankdata(people))[0, 1]), 12)
    return SimilarityScore(judged.name, correlation, len(known), len(judged.pairs))


def score_analogies(vectors: WordVectors, asked: AnalogySet, *, method: Method = "3cosadd") -> AnalogyScore:
    """The share of analogies answered by exactly the expected word, among all words but the three of the question.

    Raises:
        InputError: an unknown method.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    scores = []
    for name, questions in asked.categories:
        rows = [[vectors.row_of(word) for word in question] for question in questions]
        known = np.array([row for row in rows if None not in row], dtype=np.int64).reshape(-1, 4)
        correct = int((answers(vectors, known[:, :3], method) == known[:, 3]).sum())
        scores.append(CategoryScore(name, correct, len(known), len(questions)))
    correct, covered, size = (sum(getattr(one, field) for one in scores) for field in ("correct", "covered", "size"))
    return AnalogyScore(asked.name, correct, covered, size, scores)


def answers(
    vectors: WordVectors, questions: Int64[np.ndarray, "questions three"], method: Method
) -> Int64[np.ndarray, " questions"]:
    """The row that answers each question, which is three rows; -1 where there are no other words."""
    if not len(questions) or len(vectors) < 4:
        return np.full(len(questions), -1)
    search = vectors.search("cosine")
    unit = search.rows
    a, b, c = (unit[questions[:, place]] for place in range(3))
    if method == "3cosadd":
        rows, _ = search((b - a + c).numpy(), 4)  # the best one, and up to three of the question
        own = (rows[:, :, None] == questions[:, None, :]).any(axis=2)
        return np.take_along_axis(rows, own.argmin(axis=1)[:, None], axis=1)[:, 0]
    best = []
    for start in range(0, len(questions), _QUESTIONS_AT_ONCE):
        some = slice(start, start + _QUESTIONS_AT_ONCE)
        to_a, to_b, to_c = ((1 + one[some] @ unit.T) / 2 for one in (a, b, c))
        scores = (to_b * to_c / (to_a + EPSILON)).scatter_(1, torch.from_numpy(questions[some]), -torch.inf)
        best.append(scores.argmax(dim=1))
    return torch.cat(best).numpy()


def score(
    vectors: WordVectors, judged: SimilaritySet | AnalogySet, *, method: Method = "3cosadd"
) -> SimilarityScore | AnalogyScore:
    """How well vectors do on a set of either kind."""
    if isinstance(judged, SimilaritySet):
        return score_similarities(vectors, judged)
    return score_analogies(vectors, judged, method=method)
