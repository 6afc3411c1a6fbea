"""Images: a convolutional network with pooling or with strides, a residual one, a Transformer over patches."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt

from qkv import draw, files
from qkv.data import Images, ImageSplit
from qkv.errors import InputError, RunError
from qkv.models import (
    ImageCNN,
    ImageCNNConfig,
    PatchTransformer,
    PatchTransformerConfig,
    ResidualCNN,
    ResidualCNNConfig,
)
from qkv.recipes.base import Drawn, Reporter, command, device, validated
from qkv.recipes.images_data import ImageDataConfig, fingerprint, parts, read_judged, read_unlabelled
from qkv.recipes.images_model import Classifier, Probabilities, regression
from qkv.recipes.images_report import (
    MISTAKES,
    Answer,
    answer_page,
    attention_over,
    listed,
    report,
    require_convolutions,
)
from qkv.train import FitConfig, RunFolder, class_scores, fit
from qkv.types import Json, Run

CLASSES = "classes.json"


class ImagesConfig(ImageDataConfig):
    """Which images are told apart, by which network, and how it is trained."""

    model: Literal["maxpool", "stride", "residual", "attention"] = "maxpool"
    """The network: two convolutions that halve by max-pooling or by strides, residual blocks, or a Transformer over
    patches. Logistic regression on pixels is run beside each as its baseline."""
    batch_size: PositiveInt = 64
    """Images in a batch."""
    standardise: bool = True
    """Take pixels less their mean and over their deviation, those of the images to train on; else from 0 to 1."""
    shift: NonNegativeInt = 0
    """While training, move each image by up to so many pixels."""
    mirror: bool = False
    """While training, change left and right of every second image."""
    mirror_answers: bool = False
    """Answer with the mean of what is said of an image and of its mirror image."""
    cnn: ImageCNNConfig = ImageCNNConfig()
    residual: ResidualCNNConfig = ResidualCNNConfig()
    transformer: PatchTransformerConfig = PatchTransformerConfig()
    fit: FitConfig = FitConfig()


CONFIG = ImagesConfig
VARIATIONS: Mapping[str, str] = {"models": "model", "learning_rates": "fit.learning_rate"}
_DESCENT: Json = {"optimizer": "sgd", "clip_norm": None, "log_every": 100, "patience": 100}
PRESETS: Mapping[str, Json] = {
    "tiny": {
        "batch_size": 32,
        "residual": {"channels": 4, "blocks": 1},
        "transformer": {"embed_dim": 16, "num_heads": 2, "patch": 7, "feedforward_dim": 32, "num_layers": 2},
        "fit": {"epochs": 2, "precision": "float32", "warmup_steps": 10, "learning_rate": 3e-3, "log_every": 5},
    },
    "published": {
        "batch_size": 8,
        "standardise": False,
        "cnn": {"dropout": 0.7},
        "fit": _DESCENT | {
            "epochs": 15, "learning_rate": 0.01, "momentum": 0.0, "weight_decay": 0.0, "warmup_steps": 0,
            "schedule": "constant", "precision": "float32",
        },
    },
    "convolutions": {
        "shift": 1,
        "cnn": {"dropout": 0.3},
        "fit": _DESCENT | {
            "epochs": 20, "learning_rate": 0.03, "weight_decay": 5e-4, "warmup_steps": 100, "precision": "float32",
        },
    },
    "residual": {
        "shift": 2, "mirror": True, "mirror_answers": True,
        "fit": _DESCENT | {"epochs": 16, "learning_rate": 0.1, "weight_decay": 5e-4, "warmup_steps": 200},
    },
    "attention": {
        "shift": 2,
        "fit": {"epochs": 30, "learning_rate": 2e-3, "weight_decay": 0.05, "warmup_steps": 200, "patience": 100},
    },
}  # fmt: skip


def default_preset(config: ImagesConfig) -> str:
    """That of the model: `residual`, `attention`, or `convolutions` for both others."""
    return config.model if config.model in PRESETS else "convolutions"


# -- training --------------------------------------------------------------------------------------------------------


def run(folder: RunFolder, reporter: Reporter, *, other_threads: bool = False) -> None:
    """Trains what the folder's configuration says, beside its baselines; leaves weights, classes, result and report."""
    config = validated(ImagesConfig, folder.config)
    split = parts(config, reporter.say)
    each = {"train": split.train, "valid": split.valid, "test": split.test}
    folder.hold_to_data({part: fingerprint(images) for part, images in each.items()})
    reporter.say(
        f"{len(split.train):,} images to train on, {len(split.valid):,} to choose by, {len(split.test):,} to judge by; "
        f"classes {listed(split.names)}"
    )
    classifier = _prepared(config, split, folder)
    trained = _train(config, classifier, split, folder, reporter, other_threads=other_threads)
    reporter.say(f"judging the {len(split.test):,} test images, and fitting logistic regression on pixels")
    said = classifier.probabilities(split.test)
    judged = class_scores(said, split.test.labels)
    chosen, learned = (class_scores(classifier.probabilities(one), one.labels) for one in (split.valid, split.train))
    classes = len(split.names)
    often = np.bincount(split.train.labels, minlength=classes) / len(split.train)
    beside = {
        "logistic regression": regression(split.train, split.test, classes),
        "the most frequent class": np.tile(often, (len(split.test), 1)),
    }
    result = {
        "metrics": judged.metrics,
        "interval": judged.interval,
        "valid_accuracy": chosen.accuracy,
        "valid_loss": chosen.cross_entropy,
        "train_accuracy": learned.accuracy,
        "train_loss": learned.cross_entropy,
        "baselines": {name: class_scores(one, split.test.labels).metrics for name, one in beside.items()},
        "labels": list(split.names),
        "confusion": judged.confusion,
        "calibration": [asdict(one) for one in judged.calibration],
        "mistakes": _mistakes(said, split.test, split.names),
        "images": {part: len(images) for part, images in each.items()},
        "repeated": split.repeated,
        "test_data": fingerprint(split.test),
        **trained,
    }
    told = command(sys.modules[__name__], "images", folder)  # pyright: ignore[reportArgumentType] - a Recipe
    page = report(replace(folder.read(), result=result), classifier, split.test, told)
    files.write_text(folder.path / "report.html", page)
    folder.write_result(result)
    folder.drop_state()


def _prepared(config: ImagesConfig, split: ImageSplit, folder: RunFolder) -> Classifier:
    """The untrained network with what it takes pixels by, which is kept in the folder."""
    mean, deviation = 0.0, 1.0
    if config.standardise:
        pixels = split.train.pixels / np.float32(split.train.full)
        mean, deviation = float(pixels.mean()), float(pixels.std()) or 1.0
    kept = {"classes": list(split.names), "mean": mean, "deviation": deviation}
    files.write_json(folder.path / CLASSES, kept)
    torch.manual_seed(folder.seed)
    return _classifier(config, kept)


def _classifier(config: ImagesConfig, kept: Json) -> Classifier:
    classes = len(kept["classes"])
    if config.model == "residual":
        model = ResidualCNN(config.residual, classes)
    elif config.model == "attention":
        model = PatchTransformer(config.transformer, classes, config.size)
    else:
        model = ImageCNN(config.cnn, config.model, classes, config.size)
    return Classifier(
        model.to(device()), kept["classes"], kept["mean"], kept["deviation"], config.fit.precision,
        config.mirror_answers,
    )  # fmt: skip


def _train(
    config: ImagesConfig,
    classifier: Classifier,
    split: ImageSplit,
    folder: RunFolder,
    reporter: Reporter,
    *,
    other_threads: bool,
) -> Json:
    """Trains the network; what is to be told of that."""
    model = classifier.model
    training = classifier.batches(
        split.train,
        config.batch_size,
        seed=folder.seed,
        shuffle=True,
        shift=config.shift,
        mirror=config.mirror,
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    reporter.say(f"{config.model} with {parameters:,} parameters; {len(training):,} batches an epoch")
    at = fit(
        model,
        training,
        classifier.batches(split.valid),
        config.fit,
        folder,
        device=classifier.device,
        other_threads=other_threads,
        on_progress=reporter.progress,
    )
    return {
        "parameters": parameters,
        "steps": at.step,
        "epochs": at.step / len(training),
        "best_step": at.best_step,
        "seconds": at.seconds,
        "images_per_second": at.tokens / at.seconds,
    }


def _mistakes(said: Probabilities, images: Images, names: Sequence[str]) -> list[Json]:
    """The answers that were wrong, the surest first."""
    answers = said.argmax(axis=1)
    wrong = np.flatnonzero(answers != images.labels)
    surest = wrong[np.argsort(-said[wrong].max(axis=1), kind="stable")][:MISTAKES]
    return [
        {
            "image": i,
            "label": names[int(images.labels[i])],
            "answer": names[int(answers[i])],
            "probability": float(said[i].max()),
        }
        for i in surest.tolist()
    ]


# -- doors -----------------------------------------------------------------------------------------------------------


def load(run: Run) -> Classifier:
    """The network that a finished run left.

    Raises:
        RunError: the weights are not those of its configuration.
        DataError: a file is missing or damaged.
    """
    classifier = _classifier(validated(ImagesConfig, run.config), files.read_json(run.path / CLASSES))
    try:
        classifier.model.load_state_dict(RunFolder.open(run.path).load_weights())
    except RuntimeError as error:
        raise RunError("the weights are not those of this configuration", path=run.path) from error
    return classifier


def evaluate(run: Run, data: str | None, reporter: Reporter, *, convert: bool = False) -> Json:
    """Scores a finished run on other data: their test part where they have one, else their validation part, else all;
    or again on its own test part. `convert` brings images of another size or in colour to those of the run."""
    config, classifier = _asked(run, convert), load(run)
    if data is None:
        images, part = parts(config, reporter.say).test, "test"
    else:
        images, part = read_judged(data, config, classifier.names, reporter.say)
        reporter.say(f"{data}: {len(images):,} images{'' if part == 'train' else f', its {part} part'}")
        if part == "train" and data == config.data:
            reporter.say(f"{data}: those trained on are among them; without --data the test part alone is scored")
    judged = class_scores(classifier.probabilities(images), images.labels)
    return {
        "metrics": judged.metrics,
        "interval": judged.interval,
        "labels": list(classifier.names),
        "confusion": judged.confusion,
        "part": part,
        "images": len(images),
    }


def predict(run: Run, data: str, out: Path, reporter: Reporter, *, convert: bool = False) -> Json:
    """Tells the classes of the images of `data`; writes a CSV with a row for each: what it is called (a picture's file,
    or its number in a file of many), its class, the probability of each class. `convert` as for `evaluate`."""
    config, classifier = _asked(run, convert), load(run)
    names, images = read_unlabelled(data, config, reporter.say)
    said = classifier.probabilities(images)
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["image", "class", *classifier.names])
    for name, row in zip(names, said.tolist(), strict=True):
        writer.writerow([name, classifier.names[int(np.argmax(row))], *(f"{one:.6f}" for one in row)])
    files.write_text(out, table.getvalue())
    return {"images": len(images), "out": str(out)}


def show(run: Run, text: str, *, layer: int | None = None, head: int | None = None, convert: bool = False) -> Drawn:
    """The class of one image, how sure that is, and what the network sees of it: what convolutions make of it, or what
    is attended to.

    Args:
        text: the file of a picture, or the number of an image of the test part, counted from 0.
        convert: as for `evaluate`.

    Raises:
        InputError: no such image, layer or head.
    """
    config, classifier = _asked(run, convert), load(run)
    image, name = _one(config, text)
    probabilities = classifier.probabilities(image)[0].tolist()
    answer = Answer(name, dict(zip(classifier.names, probabilities, strict=True)))
    if isinstance(classifier.model, PatchTransformer):
        svg = attention_over(classifier, image, layer=layer, head=head, title=answer.told)
        page = answer_page(classifier, image, answer, svg)
    else:
        require_convolutions(layer, head)
        made = torch.cat((torch.from_numpy(image.pixels).float() / image.full, _brightened(classifier, image)))
        svg = draw.images_svg(made, title=answer.told)
        page = answer_page(classifier, image, answer, None)
    lines = [f"{share:.4f}  {label}" for label, share in sorted(answer.probabilities.items(), key=lambda one: -one[1])]
    return Drawn("\n".join([name, answer.told, *lines]), page, svg, draw.figure_png(svg), answer.document)


def _asked(run: Run, convert: bool) -> ImagesConfig:
    """The configuration of a run, with images converted where that is asked for now."""
    config: ImagesConfig = validated(ImagesConfig, run.config)
    return config.model_copy(update={"convert": True}) if convert else config


def _one(config: ImagesConfig, text: str) -> tuple[Images, str]:
    """One image, and what it is called."""
    if not text.removeprefix("-").isdecimal():
        said: list[str] = []
        names, images = read_unlabelled(text, config, said.append)
        if len(images) > 1:
            raise InputError("these are several images", expected="the file of one picture", got=text)
        return images, ": ".join([names[0], *said])
    test = parts(config, lambda _: None).test
    if not 0 <= int(text) < len(test):
        raise InputError("there is no such test image", expected=f"0 to {len(test) - 1}", got=text)
    return test.at(np.array([int(text)])), f"test image {text}"


def _brightened(classifier: Classifier, image: Images) -> torch.Tensor:
    """What the first convolution makes of an image, at its size and from 0 to 1."""
    made = classifier.seen(image)["conv1"].float().relu()
    grown = F.interpolate(made, image.size)[0]
    return grown / grown.max().clamp(min=1e-9)
