"""A masked language model: a hidden word from the words around it, by networks and by counts."""

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn

from qkv import files
from qkv.data import NGramBatches, NGrams
from qkv.errors import InputError, RunError
from qkv.models import (
    CausalLM,
    NGramCounts,
    RecurrentLM,
    RecurrentLMConfig,
    TransformerLM,
    TransformerLMConfig,
    WindowConfig,
    WindowLM,
)
from qkv.recipes.base import Drawn, Reporter, Shown, command, validated
from qkv.recipes.masked_lm_data import DOCSTRINGS, MASK, UNKNOWN, TextConfig, is_ngrams, read_other, read_rows
from qkv.recipes.masked_lm_report import report
from qkv.recipes.masked_lm_show import LanguageModel, Sampling, drawn_texts, followers, predictions
from qkv.train import FitConfig, RunFolder, fit, mean_loss
from qkv.types import Config, Json, Run
from qkv.vectors import WordVectors

ModelName = Literal["window", "recurrent", "transformer", "causal", "counts", "unigram"]
BASELINES: tuple[ModelName, ...] = ("counts", "unigram")

_JUDGED_AT_ONCE = 1000
_FITTED = 10_000  # rows of validation that choose the few numbers of counts


class MaskedFit(FitConfig):
    """How to train: where nothing else is chosen, as the course trained the window network."""

    epochs: PositiveInt = 50
    optimizer: Literal["adamw", "sgd"] = "sgd"
    learning_rate: PositiveFloat = 0.1
    schedule: Literal["inverse-sqrt", "cosine", "linear", "constant"] = "constant"
    warmup_steps: NonNegativeInt = 0
    weight_decay: NonNegativeFloat = 0.0
    clip_norm: PositiveFloat | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    log_every: PositiveInt = 100
    validate_every: PositiveInt | None = 1000


class MaskedConfig(Config):
    """What is read, which words are hidden, by which model they are predicted, and how it is trained."""

    model: ModelName = "window"
    """`window` is a multilayer perceptron trained by gradients derived by hand; `recurrent` and `transformer` read the
    words on both sides, `causal` those before; `counts` are smoothed counts of n-grams, `unigram` of single words."""
    data: str = DOCSTRINGS
    """n-grams (npz), a text whose lines are texts of their own (gzip and zstd too), a folder of texts, a named set such
    as `nlm-250`, or `docstrings`, which needs no file."""
    task: Literal["masked", "next"] = "masked"
    """A hidden word of each row from those around it, or the last word from those before."""
    gradient: Literal["right", "published"] = "right"
    """Of `window`: `published` has the mistake of a published solution."""
    batch_size: PositiveInt = 100
    """Rows in a batch."""
    reach: NonNegativeInt = 3
    """Of `counts`: how many of the nearest words are looked at, on both sides."""
    text: TextConfig = TextConfig()
    window: WindowConfig = WindowConfig()
    transformer: TransformerLMConfig = TransformerLMConfig()
    recurrent: RecurrentLMConfig = RecurrentLMConfig()
    fit: MaskedFit = MaskedFit()


CONFIG = MaskedConfig
VARIATIONS: Mapping[str, str] = {"models": "model", "gradients": "gradient", "tasks": "task"}
_NETWORK: Json = {
    "optimizer": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 400, "weight_decay": 0.01,
    "clip_norm": 1.0, "precision": "auto",
}  # fmt: skip
PRESETS: Mapping[str, Json] = {
    "tiny": {
        "text": {"vocabulary_size": 100},
        "transformer": {"embed_dim": 16, "num_heads": 2, "feedforward_dim": 32, "num_layers": 1},
        "recurrent": {"embed_dim": 16, "hidden_size": 16},
        "fit": _NETWORK
        | {"steps": 300, "learning_rate": 1e-2, "warmup_steps": 20, "validate_every": 100, "log_every": 20},
    },
    "text": {"fit": {"steps": 12_000, "validate_every": 2000}},
    "ngrams": {"fit": {"patience": 15}},  # validations are close together and rise by chance
    "network-text": {"batch_size": 512, "fit": _NETWORK | {"epochs": 2, "validate_every": None}},
    "network-ngrams": {"batch_size": 512, "fit": _NETWORK | {"epochs": 8, "validate_every": None}},
}


def default_preset(config: MaskedConfig) -> str:
    """`ngrams` or `text`, as the data are; with `network` before it for what is trained by autograd."""
    data = "ngrams" if is_ngrams(config.data) else "text"
    return f"network-{data}" if config.model in ("recurrent", "transformer", "causal") else data


# -- training --------------------------------------------------------------------------------------------------------


def run(folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:
    """Trains what the folder's configuration says, beside its baselines; leaves weights, words, result and report."""
    config = validated(MaskedConfig, folder.config)
    grams, told = read_rows(config.data, config.text)
    reporter.say(f"{told}; {len(grams.train):,} rows to train on, {len(grams.valid):,} to choose by, "
                 f"{len(grams.test):,} to judge by")  # fmt: skip
    folder.hold_to_data({"words": grams.words} | {part: _fingerprint(getattr(grams, part)) for part in _PARTS})
    files.write_tensors(folder.path / "rows.safetensors", {"train": torch.from_numpy(grams.train.astype(np.int32))})
    torch.manual_seed(folder.seed)
    model = _build(config, grams.words, grams.train)
    trained: Json = {}
    if isinstance(model, NGramCounts):
        model.fit(torch.from_numpy(grams.valid[:_FITTED]))
        folder.save_weights(model.state_dict())
    else:
        trained = _fit(model, config, grams, folder, reporter, other_threads=other_threads)
    known = LanguageModel(model.eval(), grams.words, grams.train, config.task)
    vectors = _embedding(known)
    if vectors is not None:
        vectors.save(folder.path / "vectors.npz")
    baselines = {}
    for name in BASELINES:
        if name != config.model:
            reporter.say(f"judging {name}")
            counts = _build(config.model_copy(update={"model": name}), grams.words, grams.train)
            counts.fit(torch.from_numpy(grams.valid[:_FITTED]))  # pyright: ignore[reportCallIssue] - they are counts
            baselines[name] = judge(counts, grams, config.task)
    reporter.say(f"judging {config.model}")
    result = {
        "metrics": judge(model, grams, config.task),
        "baselines": baselines,
        "data": told,
        "rows": {part: len(getattr(grams, part)) for part in _PARTS},
        "seen": seen(grams),
        "test_data": _fingerprint(grams.test),
        "parameters": model.fitted if isinstance(model, NGramCounts) else _size(model),
        **trained,
    }
    shown = report(
        replace(folder.read(), result=result),
        known,
        grams,
        vectors,
        command(sys.modules[__name__], "masked-lm", folder),  # pyright: ignore[reportArgumentType] - a Recipe
    )
    files.write_text(folder.path / "report.html", shown)
    folder.write_result(result)
    folder.drop_state()


_PARTS = ("train", "valid", "test")


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _fit(
    model: nn.Module, config: MaskedConfig, grams: NGrams, folder: RunFolder, reporter: Reporter, *, other_threads: bool
) -> Json:
    """Trains a network; what is to be told of that."""
    masked = config.task == "masked"
    hide = "all" if config.model == "causal" else "random" if masked else "last"
    training = NGramBatches(grams.train, batch_size=config.batch_size, seed=folder.seed, hide=hide)
    each = "each" if masked else "last"
    valid = NGramBatches(grams.valid, batch_size=_JUDGED_AT_ONCE, seed=0, hide=each, shuffle=False)
    reporter.say(f"{config.model} with {_size(model):,} parameters; {len(training):,} batches an epoch")
    at = fit(model, training, valid, config.fit, folder, other_threads=other_threads, on_progress=reporter.progress)
    return {
        "steps": at.step,
        "epochs": at.step / len(training),
        "best_step": at.best_step,
        "valid_loss": at.best_loss,
        "seconds": at.seconds,
        "tokens_per_second": at.tokens / at.seconds,
    }


def _build(config: MaskedConfig, words: Sequence[str], train: Int64[np.ndarray, "rows n"]) -> nn.Module:
    """The model of a configuration, not yet trained; counts have counted."""
    vocab, length = len(words), train.shape[1]
    match config.model:
        case "window":
            return WindowLM(config.window, vocab, length, task=config.task, gradient=config.gradient)
        case "recurrent":
            return RecurrentLM(config.recurrent, vocab)
        case "transformer":
            return TransformerLM(config.transformer, vocab, length)
        case "causal":
            return CausalLM(config.transformer, vocab, length)
        case "counts" | "unigram":
            return NGramCounts(torch.from_numpy(train), vocab, config.reach if config.model == "counts" else 0)


def _embedding(known: LanguageModel) -> WordVectors | None:
    """A vector for each word that is one, the most frequent first; None of models that have none."""
    weights = known.model.state_dict()
    matrix = next((weights[name] for name in ("embedding.weight", "word_embedding_weights") if name in weights), None)
    if matrix is None:
        return None
    frequency = np.bincount(known.rows.ravel(), minlength=len(known.words))
    order = [int(place) for place in np.argsort(-frequency, kind="stable") if known.words[place] not in (MASK, UNKNOWN)]
    return WordVectors([known.words[place] for place in order], matrix.float().numpy()[order])


def _fingerprint(rows: Int64[np.ndarray, "rows n"]) -> str:
    """A short name for exactly these rows in this order."""
    return hashlib.blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=8).hexdigest()


# -- judging ---------------------------------------------------------------------------------------------------------


def judge(model: nn.Module, grams: NGrams, task: Literal["masked", "next"]) -> Json:
    """Cross-entropies in nats a hidden word: means over all places, and a row of those of the test part by place.

    Each place of each row is hidden in turn. `cross_entropy` is that of the test part and `perplexity` its exponential;
    that of training is of its first rows, as many as the test part has.
    """
    parts = {"train": grams.train[: len(grams.test)], "valid": grams.valid, "test": grams.test}
    by_place = {part: _by_place(model, rows, task) for part, rows in parts.items()}
    means = {part: sum(losses) / len(losses) for part, losses in by_place.items()}
    return {
        "cross_entropy": means["test"],
        "perplexity": math.exp(means["test"]),
        "cross_entropy_valid": means["valid"],
        "cross_entropy_train": means["train"],
        "cross_entropy_by_place": by_place["test"],
    }


def _by_place(model: nn.Module, rows: Int64[np.ndarray, "rows n"], task: Literal["masked", "next"]) -> list[float]:
    """The mean loss with the word of each place hidden, or of the last one alone."""
    n = rows.shape[1]
    places = range(n) if task == "masked" else range(n - 1, n)
    return [
        mean_loss(model, NGramBatches(rows, batch_size=_JUDGED_AT_ONCE, seed=0, hide=place, shuffle=False))
        for place in places
    ]


def seen(grams: NGrams) -> float:
    """The share of test rows that stand in training too, word for word."""
    known = {row.tobytes() for row in grams.train}
    return sum(row.tobytes() in known for row in grams.test) / len(grams.test)


# -- doors -----------------------------------------------------------------------------------------------------------


def load(run: Run) -> LanguageModel:
    """The model that a finished run left."""
    config = validated(MaskedConfig, run.config)
    words = files.read_json(run.path / "data.json")["words"]
    rows = files.read_tensors(run.path / "rows.safetensors")["train"].long().numpy()
    model = _build(config, words, rows)
    try:
        model.load_state_dict(RunFolder.open(run.path).load_weights())
    except RuntimeError as error:
        raise RunError("the weights are not those of this configuration", path=run.path) from error
    return LanguageModel(model.eval(), words, rows, config.task)


def evaluate(run: Run, data: str | None, reporter: Reporter) -> Json:
    """Cross-entropy of a finished run on its test part, or on all rows of `data`."""
    config, known = validated(MaskedConfig, run.config), load(run)
    if data is None:
        rows = read_rows(config.data, config.text)[0].test
        if _fingerprint(rows) != run.result["test_data"]:
            raise RunError(
                "the data have changed since this run", hint="--data, for their rows as they are", path=run.path
            )
    else:
        rows = read_other(data, known.words, known.length, config.text)
        reporter.say(f"{data}: {len(rows):,} rows of {known.length} words that this run knows")
        if data == config.data:
            reporter.say("all its rows, those trained on too; without --data only the test part is scored")
    losses = _by_place(known.model, rows, config.task)
    mean = sum(losses) / len(losses)
    return {
        "metrics": {"cross_entropy": mean, "perplexity": math.exp(mean)},
        "cross_entropy_by_place": losses,
        "rows": len(rows),
    }


def show(
    run: Run,
    text: str | None,
    *,
    layer: int | None = None,
    head: int | None = None,
    context: str | None = None,
    samples: int | None = None,
    length: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    seed: int | None = None,
) -> Shown | Drawn:
    """What the run expects in the place of `[MASK]`; what followed `context` in training; texts drawn word by word.

    Args:
        samples, length, temperature, top_k, seed: of causal models: see `Sampling`.

    Raises:
        InputError: a word that is not in the vocabulary, no mask or several, a phrase that is no row, nothing to ask.
    """
    known = load(run)
    asked = {"samples": samples, "length": length, "temperature": temperature, "top_k": top_k, "seed": seed}
    given: Json = {name: value for name, value in asked.items() if value is not None}
    if context is not None:
        if text is not None:
            raise InputError("a phrase and --context together", expected="one of them")
        return followers(known, context)
    if known.is_causal:
        if layer is not None or head is not None:
            raise InputError("texts are drawn, and no attention is shown", expected="a run of transformer")
        return drawn_texts(known, text or "", Sampling(**given))
    if given:
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise InputError(f"this model draws no texts, so that {option} says nothing", expected="a run of causal")
    if text is None:
        raise InputError("there is no phrase", expected="one with [MASK] in it, or --context", path=run.path)
    return predictions(known, text, layer=layer, head=head)
