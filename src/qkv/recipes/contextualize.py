"""Contextualize: what each word of a sentence becomes by attending to the others, and how that can be directed."""

import sys
import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import PositiveInt

from qkv import files
from qkv.functional import naive_softmax_attention
from qkv.recipes.base import Reporter, command, validated
from qkv.recipes.contextualize_report import report
from qkv.recipes.contextualize_search import Found, Trials, ascend, random_trials
from qkv.recipes.explain import Matrices, attend
from qkv.recipes.explain_inputs import read_given
from qkv.recipes.word_vectors import DOCSTRINGS, embedded
from qkv.train import RunFolder
from qkv.types import Config, Json
from qkv.vectors import EmbeddedSentence, Unknown


class ContextualizeConfig(Config):
    """Which sentence, which of its words, and how long matrices are looked for."""

    sentence: str = "the value of the key is returned if the key is in the dictionary"
    """The sentence."""
    vectors: str = DOCSTRINGS
    """A file of word vectors (GloVe, word2vec, fastText, npz, safetensors), a named set, or `docstrings`."""
    unknown: Unknown = "drop"
    """Words without a vector: `drop` them, give them a vector of `zero`s, or `stop`."""
    word: str | None = None
    """The word whose row is looked at: itself, or, where it repeats, its position from 1 among the words that are not
    dropped; the last one by default."""
    to: str | None = None
    """The word that its attention is to be sent to; by default the one least similar to it."""
    width: PositiveInt = 8
    """The width of queries and keys under random and found matrices."""
    trials: PositiveInt = 10_000
    """Pairs of random matrices that are tried as a baseline."""
    steps: PositiveInt = 5_000
    """The most steps of gradient ascent."""


CONFIG = ContextualizeConfig
VARIATIONS: Mapping[str, str] = {"widths": "width"}
PRESETS: Mapping[str, Json] = {"tiny": {"trials": 500}, "default": {}}


def default_preset(config: ContextualizeConfig) -> str:  # noqa: ARG001 - there is one
    return "default"


def run(folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:  # noqa: ARG001 - no state
    """Does what the folder's configuration says, from the beginning; leaves result, report and found matrices."""
    config = validated(ContextualizeConfig, folder.config)
    began = time.monotonic()
    (sentence,) = embedded([config.sentence], config.vectors, unknown=config.unknown)
    if sentence.missing:
        reporter.say(f"no vector for {', '.join(sentence.missing)}: {_TOLD[config.unknown]}")
    x = sentence.vectors
    row = len(x) - 1 if config.word is None else sentence.position(config.word)
    similarities = x @ x[row]
    target = int(similarities.argmin()) if config.to is None else sentence.position(config.to)
    # Words of one vector get one weight: that on the word aimed at is the sum over all of its places.
    aim = (x == x[target]).all(dim=1)

    generator = torch.Generator().manual_seed(folder.seed)
    labels = sentence.labels
    traces = {
        "raw": attend(sentence, scaled=False),
        "scaled": attend(sentence),
        "random": attend(sentence, matrices=Matrices.random(x.shape[1], x.shape[1], config.width, generator)),
    }
    reporter.say(f"{config.trials:,} pairs of random matrices")
    trials = random_trials(x[row], x, aim, width=config.width, count=config.trials, generator=generator)
    reporter.say(f"gradient ascent: {labels[row]} to {labels[target]}")
    found = ascend(x[row], x, aim, width=config.width, steps=config.steps, generator=generator)
    files.write_json(folder.path / "matrices.json", found.matrices.as_json)
    # Checked as any reader of the file would: read back, and recomputed by the definition.
    matrices = read_given(folder.path / "matrices.json").matrices
    assert matrices.query is not None
    assert matrices.key is not None
    traces["found"] = attend(sentence, matrices=matrices)
    _, recomputed = naive_softmax_attention(x @ matrices.query, x @ matrices.key, x)
    result = {
        "metrics": metrics(sentence, row, aim, trials, found, recomputed),
        "words": list(sentence.words),
        "labels": labels,
        "most_similar": labels[int(similarities.argmax())],
        "missing": list(sentence.missing),
        "word": row,
        "to": target,
        "weights": {name: trace["weights"][0, 0].tolist() for name, trace in traces.items()},
        "updated": traces["raw"]["output"].tolist(),
        "ascent": list(found.history),
        "seconds": time.monotonic() - began,
    }
    told = command(sys.modules[__name__], "contextualize", folder)  # pyright: ignore[reportArgumentType] - a Recipe
    page = report(replace(folder.read(), result=result), sentence, traces, trials, told)
    files.write_text(folder.path / "report.html", page)
    folder.write_result(result)


_TOLD: Mapping[Unknown, str] = {"drop": "left out", "zero": "zeros in its place", "stop": ""}


def metrics(
    sentence: EmbeddedSentence,
    row: int,
    aim: torch.Tensor,
    trials: Trials,
    found: Found,
    recomputed: torch.Tensor,
) -> Json:
    """The numbers that a run is compared by, and two rows.

    `similarities` is the chosen word's row of `X Xᵀ`, `softmax` its softmax. `entropy` is that row's, in nats.
    `random_best` and `random_median` are weights on the word aimed at over the random trials, `random_share` the
    share of trials that put more than 0.9999 there. `found_weight` is the weight under the found matrices, recomputed
    from their file by the definition, and `found_steps` how many steps that took.
    """
    similarities = sentence.vectors @ sentence.vectors[row]
    softmax = similarities.softmax(dim=0)
    return {
        "similarities": similarities.tolist(),
        "softmax": softmax.tolist(),
        "entropy": abs(float(torch.special.entr(softmax).sum())),
        "random_best": trials.best,
        "random_median": trials.median,
        "random_share": trials.share_above(0.9999),
        "found_weight": float(recomputed[row, aim].sum()),
        "found_steps": float(found.steps),
    }
