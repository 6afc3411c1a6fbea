"""Training: the loop, the run folder, scores, and runs side by side."""

from qkv.train.classification import CalibrationBin, ClassScores, class_scores, wilson_interval
from qkv.train.compare import Comparison, Group, compare, flat
from qkv.train.fit import Batches, FitConfig, Progress, autocast, fast_bfloat16, fit, learning_rate, mean_loss
from qkv.train.metrics import Estimate, TranslationScores, estimate, translation_scores
from qkv.train.runs import RunFolder
from qkv.train.transcription import (
    SIMILARITIES,
    Transcript,
    TranscriptScores,
    cosine_similarity,
    damerau_levenshtein_similarity,
    jaccard_similarity,
    transcript_scores,
)

__all__ = [
    "SIMILARITIES",
    "Batches",
    "CalibrationBin",
    "ClassScores",
    "Comparison",
    "Estimate",
    "FitConfig",
    "Group",
    "Progress",
    "RunFolder",
    "Transcript",
    "TranscriptScores",
    "TranslationScores",
    "autocast",
    "class_scores",
    "compare",
    "cosine_similarity",
    "damerau_levenshtein_similarity",
    "estimate",
    "fast_bfloat16",
    "fit",
    "flat",
    "jaccard_similarity",
    "learning_rate",
    "mean_loss",
    "transcript_scores",
    "translation_scores",
    "wilson_interval",
]
