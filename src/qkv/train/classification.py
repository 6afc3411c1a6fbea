"""How well probabilities tell classes, and how far they are to be believed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

from qkv.errors import InputError

BINS = 10


@dataclass(frozen=True)
class CalibrationBin:
    """Answers given with about the same confidence: the mean of it, the share that was right, and how many."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class ClassScores:
    """Scores of predicted classes.

    Attributes:
        accuracy: the share of answers that are right.
        interval: its 95 % interval over other texts of the same kind, for this trained model (Wilson 1927).
        macro_f1: the mean over classes of `2 TP / (2 TP + FP + FN)`.
        cross_entropy: the mean of `-log p` of the right class.
        calibration_error: the mean over answers of how far confidence and accuracy lie apart in their bin (Guo et al.
            2017, eq. 3).
        confusion: rows are the right classes, columns the answers.
        calibration: the bins that are not empty, from the least sure on.
    """

    accuracy: float
    interval: tuple[float, float]
    macro_f1: float
    cross_entropy: float
    calibration_error: float
    confusion: list[list[int]]
    calibration: list[CalibrationBin]

    @property
    def metrics(self) -> dict[str, float]:
        return {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "cross_entropy": self.cross_entropy,
            "calibration_error": self.calibration_error,
        }


def class_scores(probabilities: Float[np.ndarray, "texts classes"], labels: Int[np.ndarray, " texts"]) -> ClassScores:
    """Scores the most probable class of each text against its label.

    Raises:
        InputError: there is no text, or not a row of probabilities for each label.

    >>> scores = class_scores(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1]))
    >>> round(scores.accuracy, 3), scores.confusion
    (0.667, [[1, 1], [0, 1]])
    """
    if not len(labels) or len(labels) != len(probabilities):
        raise InputError(
            "labels and probabilities do not fit",
            expected="at least one label, and a row of probabilities for each",
            got=f"{len(labels)} labels, {len(probabilities)} rows",
        )
    classes = probabilities.shape[1]
    answers, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = answers == labels
    confusion = np.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, classes)
    found = confusion.diagonal()
    seen = np.maximum(confusion.sum(axis=0) + confusion.sum(axis=1), 1)
    gold = probabilities[np.arange(len(labels)), labels]
    bins = calibration_bins(confidence, right)
    return ClassScores(
        accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), len(right)),
        macro_f1=float((2 * found / seen)[confusion.sum(axis=1) > 0].mean()),
        cross_entropy=float(-np.log(np.maximum(gold, np.finfo(np.float64).tiny)).mean()),
        calibration_error=sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / len(right),
        confusion=confusion.tolist(),
        calibration=bins,
    )


def calibration_bins(
    confidence: Float[np.ndarray, " answers"], right: Sequence[bool] | np.ndarray, bins: int = BINS
) -> list[CalibrationBin]:
    """Answers by their confidence, in equal steps from 0 to 1; bins without answers are left out.

    >>> calibration_bins(np.array([0.75, 0.8125, 0.9375]), [True, False, True], bins=5)
    [CalibrationBin(confidence=0.75, accuracy=1.0, count=1), CalibrationBin(confidence=0.875, accuracy=0.5, count=2)]
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    hit = np.asarray(right)
    return [
        CalibrationBin(float(confidence[place == i].mean()), float(hit[place == i].mean()), int((place == i).sum()))
        for i in np.unique(place)
    ]


def wilson_interval(successes: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Where a share lies of which `successes` of `count` were seen (Wilson 1927).

    >>> tuple(round(end, 3) for end in wilson_interval(8, 10))
    (0.49, 0.943)
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, spread = successes / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    margin = z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, middle - margin), min(1.0, middle + margin)
