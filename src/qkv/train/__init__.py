"""Training: the loop, the run folder, scores, and runs side by side."""

from qkv.train.classification import CalibrationBin, ClassScores, class_scores, wilson_interval
from qkv.train.compare import Comparison, Group, compare, flat
from qkv.train.fit import Batches, FitConfig, Progress, autocast, fast_bfloat16, fit, learning_rate, mean_loss
from qkv.train.metrics import Estimate, TranslationScores, estimate, translation_scores
from qkv.train.runs import RunFolder

__all__ = [
    "Batches",
    "CalibrationBin",
    "ClassScores",
    "Comparison",
    "Estimate",
    "FitConfig",
    "Group",
    "Progress",
    "RunFolder",
    "TranslationScores",
    "autocast",
    "class_scores",
    "compare",
    "estimate",
    "fast_bfloat16",
    "fit",
    "flat",
    "learning_rate",
    "mean_loss",
    "translation_scores",
    "wilson_interval",
]
