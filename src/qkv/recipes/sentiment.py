"""Sentiment, or any label of a text: bag of words, LSTM, Transformer, and a published encoder tuned for it."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64

from qkv import files
from qkv.data import Labelled, TextBatches, Vocabulary, clean_text, find, train_vocabulary, word_of
from qkv.errors import InputError, RunError, StoppedError
from qkv.models import (
    BagOfWords,
    BertClassifier,
    BertConfig,
    BertEncoder,
    LSTMClassifier,
    MaskedText,
    TransformerClassifier,
)
from qkv.recipes.base import Drawn, Reporter, Shown, command, device, validated
from qkv.recipes.sentiment_config import SentimentConfig
from qkv.recipes.sentiment_data import (
    PHRASES,
    cleaned,
    fingerprint,
    one_text,
    parts,
    read_known,
    read_unlabelled,
)
from qkv.recipes.sentiment_model import (
    ADAPTED,
    BAG,
    BLENDED,
    ENCODER,
    TAUGHT,
    VOCABULARY,
    Classifier,
    Network,
    Reader,
    forget_beginnings,
    keep_encoder,
    keep_run,
    pool_weights,
    pooled,
    tokens_in,
)
from qkv.recipes.sentiment_report import report
from qkv.recipes.sentiment_show import Answer, seen, word_effects
from qkv.train import RunFolder, class_scores, fit
from qkv.types import Json, Run
from qkv.vectors import vectors_for

CONFIG = SentimentConfig
VARIATIONS: Mapping[str, str] = {"models": "model"}
PRESETS: Mapping[str, Json] = {
    "tiny": {
        "vocabulary_size": 500,
        "lstm": {"embed_dim": 16, "hidden_size": 16, "dropout": 0.0, "word_dropout": 0.0},
        "transformer": {
            "embed_dim": 16, "num_heads": 2, "feedforward_dim": 32, "num_layers": 1, "dropout": 0.0, "word_dropout": 0.0
        },
        "bag_of_words": {"min_count": 1},
        "fit": {"epochs": 2, "precision": "float32", "warmup_steps": 10, "learning_rate": 5e-3, "log_every": 5},
    },
    "phrases": {
        "lstm": {"embed_dim": 64, "hidden_size": 64, "dropout": 0.1, "word_dropout": 0.0},
        "transformer": {"embed_dim": 64, "feedforward_dim": 128, "dropout": 0.1, "word_dropout": 0.0},
        "tokens_per_batch": 1024,
        "fit": {"epochs": 12, "learning_rate": 3e-3, "warmup_steps": 100, "precision": "float32"},
    },
    "texts": {"fit": {"epochs": 5, "learning_rate": 1e-3, "warmup_steps": 200, "patience": 2}},
    "pretrained": {
        "fit": {
            "epochs": 4, "learning_rate": 1e-4, "warmup_steps": 150, "schedule": "linear", "patience": 2,
            "validate_every": 500, "save_every": 300,
        }
    },
}  # fmt: skip


def default_preset(config: SentimentConfig) -> str:
    """`phrases` for the generated ones, `pretrained` for a published encoder, `texts` for all others."""
    return "pretrained" if config.model == "pretrained" else "phrases" if config.data == PHRASES else "texts"


# -- training --------------------------------------------------------------------------------------------------------

_PARTS = ("train", "valid", "test")
_SHOWN = 20


def run(folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:
    """Trains what the folder's configuration says, beside its baselines; leaves weights, words, result and report."""
    config = validated(SentimentConfig, folder.config)
    if config.model == "pretrained" and config.encoder is None:
        raise InputError("there is no encoder to tune", expected="--encoder FOLDER, that of a published BERT")
    if config.model == "blend" and not config.blended:
        raise InputError("there are no runs to blend", expected="--blended RUN,RUN, finished runs on the same data")
    split = parts(config.data, config, reporter.say)
    folder.hold_to_data({part: fingerprint(getattr(split, part)) for part in ("train", "valid", "test")})
    labels = sorted({row.label for row in split.train})
    files.write_json(folder.path / "labels.json", {"labels": labels})
    texts = {name: cleaned(getattr(split, name), config.cleaning) for name in _PARTS}
    targets = {name: _targets(getattr(split, name), labels) for name in _PARTS}
    reporter.say(
        f"{len(split.train):,} texts to train on, {len(split.valid):,} to choose by, {len(split.test):,} to judge by; "
        f"labels {', '.join(labels)}; fitting the bag of words"
    )
    bag = BagOfWords(config.bag_of_words).fit(texts["train"], targets["train"])
    bag.save(folder.path)
    classifier, trained = Classifier(labels, {BAG: bag}, {BAG: 1.0}), {"parameters": bag.parameters}
    if config.model == "blend":
        classifier, trained = _blend(config, folder, classifier, texts["valid"], targets["valid"], reporter)
    elif config.model != BAG:
        network, trained = _train(config, texts, targets, len(labels), folder, reporter, other_threads=other_threads)
        classifier = Classifier(labels, {config.model: network, BAG: bag}, {config.model: 1.0})
    reporter.say(f"judging the {len(split.test):,} test texts")
    each = classifier.answers(texts["test"])
    said = pooled(each, classifier.weights)
    often = np.bincount(targets["train"], minlength=len(labels)) / len(targets["train"])
    beside = each | {"the most frequent label": np.tile(often, (len(split.test), 1))}
    if len(classifier.weights) == 1:  # its answers are those that are judged
        del beside[config.model]
    judged = class_scores(said, targets["test"])
    result = {
        "metrics": _metrics(said, targets["test"], split.test),
        "interval": judged.interval,
        "baselines": {name: _metrics(one, targets["test"], split.test) for name, one in beside.items()},
        "labels": labels,
        "confusion": judged.confusion,
        "calibration": [asdict(one) for one in judged.calibration],
        "mistakes": _mistakes(split.test, said, targets["test"], labels),
        "weights": dict(classifier.weights),
        "texts": {name: len(getattr(split, name)) for name in _PARTS},
        "left_out": {"repeated": split.repeated, "contradicted": split.contradicted},
        "test_data": fingerprint(split.test),
        **trained,
    }
    told = command(sys.modules[__name__], "sentiment", folder)  # pyright: ignore[reportArgumentType] - a Recipe
    page = report(replace(folder.read(), result=result), _telling(classifier, texts["test"]), told)
    files.write_text(folder.path / "report.html", page)
    folder.write_result(result)
    folder.drop_state()
    forget_beginnings(folder.path)


def _build(
    config: SentimentConfig, folder: Path, classes: int, dim: int | None, encoder: BertEncoder | None
) -> LSTMClassifier | TransformerClassifier | BertClassifier:
    """The network of a configuration.

    Args:
        folder: where its tokens are kept.
        dim: the width of pretrained vectors, if there are some.
        encoder: the published encoder with its weights; where left out, they will come from a state dict.
    """
    if config.model == "pretrained":
        return BertClassifier(config.pretrained, encoder or BertConfig.from_folder(folder / ENCODER), classes)
    vocab = len(tokens_in(folder))  # pyright: ignore[reportArgumentType] - a vocabulary
    vectors = {"pretrained_dim": dim, "freeze": config.freeze_embeddings}
    if config.model == "lstm":
        return LSTMClassifier(config.lstm, vocab, classes, **vectors)
    return TransformerClassifier(config.transformer, vocab, classes, max_length=config.max_length, **vectors)


def _train(
    config: SentimentConfig,
    texts: Mapping[str, list[str]],
    targets: Mapping[str, np.ndarray],
    classes: int,
    folder: RunFolder,
    reporter: Reporter,
    *,
    other_threads: bool,
) -> tuple[Network, Json]:
    """A network of a configuration, trained; and what is to be told of that."""
    encoder, matrix, told = None, None, {}
    if config.encoder is not None:
        encoder = BertEncoder.from_folder(config.encoder)
        keep_encoder(Path(config.encoder), folder.path)
    elif not (folder.path / VOCABULARY).exists():
        made = train_vocabulary(texts["train"], config.tokens, config.vocabulary_size, lowercase=True)
        files.write_text(folder.path / VOCABULARY, made.to_json())
    tokens = tokens_in(folder.path)
    if config.embeddings is not None and isinstance(tokens, Vocabulary):
        words = [word_of(piece) for piece in tokens.pieces]
        matrix, coverage = vectors_for(words, find(config.embeddings), pad_id=tokens.pad_id)
        told = {"coverage": coverage.share, "embedding_dim": matrix.shape[1]}
        reporter.say(f"pretrained vectors for {coverage.share:.0%} of the tokens")
    torch.manual_seed(folder.seed)
    model = _build(config, folder.path, classes, told.get("embedding_dim"), encoder)
    if matrix is not None:
        model.embedding.weight.data.copy_(matrix)  # pyright: ignore - those two models have one
    network = Network(config.model, model.to(device()), tokens, config.max_length, config.fit.precision)

    to_learn = targets["train"].tolist()
    if config.teacher is not None:
        to_learn = _taught(config.teacher, config.teacher_share, texts["train"], targets["train"], folder, reporter)
    room, seed = config.tokens_per_batch, folder.seed
    training = network.batches(texts["train"], to_learn, room, seed=seed, shuffle=True)
    valid = network.batches(texts["valid"], targets["valid"].tolist(), room)
    if config.adapt.epochs:
        told |= _adapt(network, training, valid, config, folder, reporter, other_threads=other_threads)
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    reporter.say(f"{config.model} with {parameters:,} parameters to train; {len(training):,} batches an epoch")
    at = fit(
        model,
        training,
        valid,
        config.fit,
        folder,
        device=network.device,
        other_threads=other_threads,
        on_progress=reporter.progress,
    )
    epochs = at.step / len(training)
    return network, told | {
        "parameters": parameters,
        "steps": at.step,
        "epochs": epochs,
        "best_step": at.best_step,
        "valid_loss": at.best_loss,
        "seconds": at.seconds,
        "tokens_per_second": at.tokens / at.seconds,
        "texts_per_second": len(texts["train"]) * epochs / at.seconds,
    }


def _taught(
    teacher: str,
    share: float,
    texts: Sequence[str],
    targets: Int64[np.ndarray, " texts"],
    folder: RunFolder,
    reporter: Reporter,
) -> Float32[np.ndarray, "texts classes"]:
    """What a network is to say of each text: what the teacher says, and the label for the rest.

    The mean of the cross-entropies with either of them, as in Hinton, Vinyals and Dean (2015, section 2), is the
    cross-entropy with their mean. The answers are kept with the run, that goes on without its teacher.
    """
    path = folder.path / TAUGHT
    if not path.exists():
        run = RunFolder.open(Path(teacher)).finished()
        _require_fit(run, folder, "learned from")
        reporter.say(f"asking {teacher} for its answers to the {len(texts):,} texts to train on")
        asked = _answers(str(run.path.resolve()), tuple(texts))
        files.write_tensors(path, {"answers": torch.from_numpy(asked).float()})
    answers = files.read_tensors(path)["answers"].numpy()
    labels = np.eye(answers.shape[1], dtype=np.float32)[targets]
    return np.float32(share) * answers + np.float32(1 - share) * labels


@lru_cache(maxsize=1)
def _answers(path: str, texts: tuple[str, ...]) -> Float[np.ndarray, "texts classes"]:
    """Those of a run, asked once for all seeds that learn from it."""
    return load(RunFolder.open(Path(path)).finished()).probabilities(texts)


def _adapt(
    network: Network,
    training: TextBatches,
    valid: TextBatches,
    config: SentimentConfig,
    folder: RunFolder,
    reporter: Reporter,
    *,
    other_threads: bool,
) -> Json:
    """Trains a network on texts without their labels; returns what is to be told of that.

    It is a run inside the run, so that it is not done again where the run goes on after it.
    """
    path, tokens, model = folder.path / ADAPTED, network.tokens, network.model
    fresh = not path.exists()
    inner = RunFolder.create(path, recipe="sentiment", config={}, seed=folder.seed) if fresh else RunFolder.open(path)
    reading = MaskedText(model, tokens.mask_id, config.adapt.share, spared=tokens.mark_ids).to(network.device)
    told = {"epochs": config.adapt.epochs, "learning_rate": config.adapt.learning_rate}
    throughout = {"steps": None, "minutes": None, "validate_every": None, "patience": told["epochs"], "average": 0.0}
    reporter.say(f"reading the texts without their labels, epochs: {told['epochs']}")
    try:
        at = fit(
            reading,
            training,
            valid,
            config.fit.model_copy(update=throughout | told),
            inner,
            device=network.device,
            other_threads=other_threads,
            on_progress=reporter.progress,
        )
    except StoppedError as error:
        raise StoppedError(str(error), hint=f"qkv resume {folder.path}", path=folder.path) from error
    return {"adapted": told | {"valid_loss": at.best_loss, "seconds": at.seconds, "steps": at.step}}


def _blend(
    config: SentimentConfig,
    folder: RunFolder,
    alone: Classifier,
    texts: Sequence[str],
    targets: Int64[np.ndarray, " texts"],
    reporter: Reporter,
) -> tuple[Classifier, Json]:
    """The runs of a configuration and the bag of words `alone`, joined by what the validation texts tell of them; and
    what is to be told of that."""
    readers, parameters = dict(alone.readers), 0
    for given in config.blended:
        run = RunFolder.open(Path(given)).finished()
        name = run.path.resolve().name
        _require_fit(run, folder, "blended")
        if name in readers:
            raise InputError(f"two readers would be called {name}", hint="another name for one of the folders")
        keep_run(run.path, folder.path / BLENDED / name)
        readers[name] = load(run)
        parameters += run.result["parameters"]
    together = Classifier(alone.labels, readers, {})
    weights = pool_weights(together.answers(texts), targets)
    reporter.say(f"weights: {', '.join(f'{name} {weight:.2f}' for name, weight in weights.items())}")
    return replace(together, weights=weights), {"parameters": parameters}


def _require_fit(run: Run, folder: RunFolder, used: str) -> None:
    """Refuses to use a run of another recipe, and one that may have learned from the texts by which others are
    chosen or judged."""
    if run.recipe != "sentiment":
        raise InputError(f"{run.path} cannot be {used}", expected="runs of sentiment", got=f"one of {run.recipe}")
    same = ("data", "valid_share", "test_share", "split_seed", "cleaning")
    theirs, ours = ({name: each[name] for name in same} for each in (run.config, folder.config))
    if theirs != ours or files.read_json(run.path / "data.json") != files.read_json(folder.path / "data.json"):
        raise InputError(
            f"{run.path} has learned from other texts than are to be learned from here",
            expected=f"the same as here: {_told(ours)}",
            got=_told(theirs),
        )


def _told(settings: Mapping[str, object]) -> str:
    return ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())


# -- judging ---------------------------------------------------------------------------------------------------------


def _targets(rows: Sequence[Labelled], labels: Sequence[str]) -> Int64[np.ndarray, " texts"]:
    place = {label: number for number, label in enumerate(labels)}
    return np.array([place[row.label] for row in rows])


def _metrics(
    said: Float[np.ndarray, "texts classes"], targets: Int64[np.ndarray, " texts"], rows: Sequence[Labelled]
) -> dict[str, float]:
    """The scores of all answers, and the accuracy of each group of rows, where there are groups."""
    groups, right = np.array([row.group for row in rows]), said.argmax(axis=1) == targets
    names = [name for name in sorted(set(groups.tolist())) if name]
    return class_scores(said, targets).metrics | {
        f"accuracy_{name}": float(right[groups == name].mean()) for name in names
    }


def _mistakes(
    rows: Sequence[Labelled],
    said: Float[np.ndarray, "texts classes"],
    targets: Int64[np.ndarray, " texts"],
    labels: Sequence[str],
) -> list[Json]:
    """The answers that were wrong, the surest first."""
    wrong = np.flatnonzero(said.argmax(axis=1) != targets)
    surest = wrong[np.argsort(-said[wrong].max(axis=1), kind="stable")][:_SHOWN]
    return [
        {
            "text": rows[i].text,
            "label": rows[i].label,
            "answer": labels[int(said[i].argmax())],
            "probability": float(said[i].max()),
        }
        for i in surest.tolist()
    ]


def _telling(classifier: Classifier, texts: Sequence[str]) -> Answer:
    """Of the texts whose lengths are nearest to ten words, the one whose answer hangs most on a single word."""
    short = sorted(texts, key=lambda text: abs(len(text.split()) - 10))[:20]
    answers = [word_effects(classifier, text) for text in short]
    return max(answers, key=lambda answer: max((abs(one.effect) for one in answer.effects), default=0.0))


# -- doors -----------------------------------------------------------------------------------------------------------


def load(run: Run) -> Classifier:
    """The model that a finished run left.

    Raises:
        RunError: the weights are not those of its configuration.
        DataError: a file is missing or damaged.
    """
    config = validated(SentimentConfig, run.config)
    labels = files.read_json(run.path / "labels.json")["labels"]
    readers: dict[str, Reader] = {BAG: BagOfWords.load(run.path, config.bag_of_words)}
    if config.model == "blend":
        parts_of_it = sorted((run.path / BLENDED).iterdir())
        readers |= {path.name: load(RunFolder.open(path).finished()) for path in parts_of_it}
    elif config.model != BAG:
        tokens = tokens_in(run.path)
        model = _build(config, run.path, len(labels), run.result.get("embedding_dim"), None)
        try:
            model.load_state_dict(RunFolder.open(run.path).load_weights())
        except RuntimeError as error:
            raise RunError("the weights are not those of this configuration", path=run.path) from error
        readers[config.model] = Network(
            config.model, model.to(device()), tokens, config.max_length, config.fit.precision
        )
    return Classifier(labels, readers, run.result["weights"])


def evaluate(run: Run, data: str | None, reporter: Reporter) -> Json:
    """Scores a finished run on all texts of `data`, or again on its own test part."""
    config, classifier = validated(SentimentConfig, run.config), load(run)
    if data is None:
        rows = parts(config.data, config, reporter.say).test
    else:
        # Other data need not have the groups of those trained on.
        asked = config if data == config.data else config.model_copy(update={"group_column": None})
        rows = read_known(data, asked, classifier.labels, reporter.say)
        if data == config.data != PHRASES:
            reporter.say(f"{data}: all texts, those trained on too; without --data only the test part is scored")
    said, targets = classifier.probabilities(cleaned(rows, config.cleaning)), _targets(rows, classifier.labels)
    judged = class_scores(said, targets)
    return {
        "metrics": _metrics(said, targets, rows),
        "interval": judged.interval,
        "labels": classifier.labels,
        "confusion": judged.confusion,
        "texts": len(rows),
    }


def predict(run: Run, data: str, out: Path, reporter: Reporter) -> Json:
    """Labels the texts of `data`; writes a CSV with a row for each: text, label, the probability of each label."""
    config, classifier = validated(SentimentConfig, run.config), load(run)
    read = read_unlabelled(data, config, reporter.say)
    rows = [row for row, text in enumerate(read) if text]
    said = classifier.probabilities([clean_text(read[row], config.cleaning) or read[row] for row in rows])
    written = dict(zip(rows, said.tolist(), strict=True))
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["text", "label", *classifier.labels])
    for row, text in enumerate(read):
        found = written.get(row)
        told = ["", *[""] * len(classifier.labels)] if found is None else [classifier.label(found), *_short(found)]
        writer.writerow([text, *told])
    files.write_text(out, table.getvalue())
    return {"texts": len(rows), "out": str(out)}


def _short(probabilities: Sequence[float]) -> list[str]:
    return [f"{one:.6f}" for one in probabilities]


def show(run: Run, text: str, *, layer: int | None = None, head: int | None = None) -> Shown | Drawn:
    """The label of `text`, how sure that is, what leaving each word out changes, and what was attended to, if anything.

    Raises:
        InputError: an empty text, or no such layer or head.
    """
    config = validated(SentimentConfig, run.config)
    return seen(load(run), one_text(text, config.cleaning), layer=layer, head=head)
