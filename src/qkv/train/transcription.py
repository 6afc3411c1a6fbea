"""How alike two texts are: measures that see the order of tokens, and measures that do not."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from rapidfuzz.distance import DamerauLevenshtein, Levenshtein
from scipy import stats

from qkv.errors import InputError

Tokens = Sequence[Hashable]


def jaccard_similarity(a: Tokens, b: Tokens) -> float:
    """`|A and B| / |A or B|` of the sets of tokens (Jaccard 1912): blind to order and to how often a token comes.

    Two empty lists are alike.

    >>> jaccard_similarity("one two two".split(), "two three".split())
    0.3333333333333333
    """
    left, right = set(a), set(b)
    return len(left & right) / len(left | right) if left or right else 1.0


def cosine_similarity(a: Tokens, b: Tokens) -> float:
    """The cosine of the angle between the vectors of counts, `a . b / (|a| |b|)`: blind to order.

    Two empty lists are alike; an empty one is like no other.

    >>> cosine_similarity("one two two".split(), "two one two".split())
    1.0
    """
    left, right = Counter(a), Counter(b)
    if not left or not right:
        return float(not left and not right)
    product = sum(count * right[token] for token, count in left.items())
    return product / sqrt(sum(n * n for n in left.values()) * sum(n * n for n in right.values()))


def damerau_levenshtein_similarity(a: Tokens, b: Tokens) -> float:
    """`1 - d / max(len)`, where d counts insertions, deletions, replacements and swaps of neighbours.

    The distance is the unrestricted one (Lowrance and Wagner 1975): between the two of a swap there may be other edits.
    Two empty lists are alike.

    >>> damerau_levenshtein_similarity("one two".split(), "two one".split())
    0.5
    """
    return DamerauLevenshtein.normalized_similarity(a, b)


SIMILARITIES: Mapping[str, Callable[[Tokens, Tokens], float]] = {
    "jaccard": jaccard_similarity,
    "cosine": cosine_similarity,
    "damerau_levenshtein": damerau_levenshtein_similarity,
}


@dataclass(frozen=True)
class Transcript:
    """What was said, what was understood, and how alike they are by each measure, on words and on characters."""

    reference: str
    text: str
    similarities: Mapping[str, float]


@dataclass(frozen=True)
class TranscriptScores:
    """Scores of a set of transcripts.

    Attributes:
        metrics: the mean of each measure over transcripts, such as `jaccard_words`, and `character_error_rate` and
            `word_error_rate`: edits (insertions, deletions, replacements) over tokens of the references, all together.
        each: the transcripts one by one.
    """

    metrics: dict[str, float]
    each: list[Transcript]

    def rank_correlations(self, unit: str = "words") -> dict[str, float | None]:
        """Spearman's rank correlation of each two measures over transcripts; None where one is the same for all."""
        names = [f"{measure}_{unit}" for measure in SIMILARITIES]
        columns = {name: [one.similarities[name] for one in self.each] for name in names}
        found: dict[str, float | None] = {}
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                constant = any(len(set(columns[name])) < 2 for name in (first, second))
                told = None if constant else _rank_correlation(columns[first], columns[second])
                found[f"{first}, {second}"] = told
        return found

    def disputed(self, count: int, unit: str = "words") -> list[Transcript]:
        """The transcripts on which measures differ most, the widest apart first."""

        def spread(one: Transcript) -> float:
            values = [one.similarities[f"{measure}_{unit}"] for measure in SIMILARITIES]
            return max(values) - min(values)

        apart = [one for one in self.each if spread(one) > 0]
        return sorted(apart, key=lambda one: (-spread(one), one.reference))[:count]


def transcript_scores(texts: Sequence[str], references: Sequence[str]) -> TranscriptScores:
    """Scores `texts[i]` against `references[i]`.

    Raises:
        InputError: the two do not fit each other, or there is none.

    >>> scores = transcript_scores(["tow one"], ["two one"])
    >>> scores.metrics["jaccard_words"], scores.metrics["jaccard_characters"], scores.metrics["word_error_rate"]
    (0.3333333333333333, 1.0, 0.5)
    """
    if not texts or len(texts) != len(references):
        raise InputError(
            "transcripts and references do not fit",
            expected="at least one, and as many of the one as of the other",
            got=f"{len(texts)} transcripts, {len(references)} references",
        )
    each = []
    for text, reference in zip(texts, references, strict=True):
        pairs = {"words": (text.split(), reference.split()), "characters": (text, reference)}
        similarities = {
            f"{name}_{unit}": measure(*pair) for unit, pair in pairs.items() for name, measure in SIMILARITIES.items()
        }
        each.append(Transcript(reference, text, similarities))
    metrics = {name: float(np.mean([one.similarities[name] for one in each])) for name in each[0].similarities}
    metrics["character_error_rate"] = _error_rate(texts, references)
    metrics["word_error_rate"] = _error_rate([text.split() for text in texts], [text.split() for text in references])
    return TranscriptScores(metrics, each)


def _rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's: the correlation of ranks, of which equals share their mean."""
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def _error_rate(texts: Sequence[Tokens], references: Sequence[Tokens]) -> float:
    edits = sum(Levenshtein.distance(text, reference) for text, reference in zip(texts, references, strict=True))
    return edits / max(sum(map(len, references)), 1)
