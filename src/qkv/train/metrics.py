"""Scores by their standard definitions, and what several seeds say together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from scipy import stats

from qkv.errors import InputError


@dataclass(frozen=True)
class TranslationScores:
    """Scores of a set of translations against one or more references each.

    Attributes:
        bleu: corpus BLEU (Papineni et al., 2002) as sacrebleu computes it, 0 to 100.
        chrf: corpus chrF (Popović, 2015), 0 to 100.
        exact_match: the share of translations equal to one of their references, 0 to 1.
        signatures: sacrebleu's own statement of how each score was computed, to be quoted with it.
    """

    bleu: float
    chrf: float
    exact_match: float
    signatures: dict[str, str]

    @property
    def metrics(self) -> dict[str, float]:
        return {"bleu": self.bleu, "chrf": self.chrf, "exact_match": self.exact_match}


def translation_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> TranslationScores:
    """Scores `hypotheses[i]` against all of `references[i]`.

    Raises:
        InputError: where the two do not fit each other, are empty, or a reference is missing.

    >>> scores = translation_scores(["two hundred and one"], [["two hundred and one", "two hundred one"]])
    >>> round(scores.bleu), scores.exact_match
    (100, 1.0)
    """
    if not hypotheses or len(hypotheses) != len(references) or not all(references):
        raise InputError(
            "translations and references do not fit",
            expected="at least one translation, and at least one reference for each",
            got=f"{len(hypotheses)} translations, {sum(map(bool, references))} with references",
        )
    most = max(map(len, references))
    streams = [[options[i] if i < len(options) else None for options in references] for i in range(most)]
    bleu, chrf = BLEU(), CHRF()
    bleu_score = bleu.corpus_score(list(hypotheses), streams).score  # pyright: ignore[reportArgumentType]
    chrf_score = chrf.corpus_score(list(hypotheses), streams).score  # pyright: ignore[reportArgumentType]
    exact = sum(text in options for text, options in zip(hypotheses, references, strict=True)) / len(hypotheses)
    signatures = {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
    return TranslationScores(bleu_score, chrf_score, exact, signatures)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds; `margin` is half its 95 % interval (Student's t), NaN for a single seed."""

    mean: float
    margin: float
    count: int

    def __format__(self, spec: str) -> str:
        spec = spec or ".2f"
        return f"{self.mean:{spec}}" + ("" if math.isnan(self.margin) else f" ± {self.margin:{spec}}")


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values and its 95 % interval, `t(0.975, n - 1) s / sqrt(n)`.

    >>> f"{estimate([1.0, 2.0, 3.0]):.2f}"
    '2.00 ± 2.48'
    >>> f"{estimate([1.0]):.2f}"
    '1.00'
    """
    if not values:
        raise InputError("no values to average")
    count = len(values)
    spread = float(np.std(values, ddof=1)) if count > 1 else math.nan
    margin = float(stats.t.ppf(0.975, count - 1)) * spread / math.sqrt(count) if count > 1 else math.nan
    return Estimate(float(np.mean(values)), margin, count)
