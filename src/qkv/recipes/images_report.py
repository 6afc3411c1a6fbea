"""The page that tells a run of the recipe images, and the one of a single image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from qkv import draw
from qkv.data import Images
from qkv.draw import Calibrated, Facts, Figure, Heading, Paragraph, Preformatted, Table
from qkv.draw.report import Block
from qkv.errors import InputError
from qkv.models import ImageCNN, PatchTransformer, ResidualCNN
from qkv.recipes.base import attended, loss_curves
from qkv.recipes.images_model import Classifier, over_image, patch_labels
from qkv.types import Json, Run

MISTAKES = 16
_CALLED = {
    "maxpool": "convolutional network with max-pooling",
    "stride": "convolutional network with strides",
    "residual": "residual network",
    "attention": "Transformer over patches",
}


def report(run: Run, classifier: Classifier, test: Images, command: str) -> str:
    """The report of a finished run; `test` are the images that it was judged by."""
    result, config = run.result, run.config
    low, high = (f"{end:.1%}" for end in result["interval"])
    mistakes = result["mistakes"][:MISTAKES]
    made: list[Block] = [
        Paragraph(
            f"A {_CALLED[config['model']]} tells {len(result['labels'])} classes of images apart: {config['data']}. It "
            "was chosen on the validation part; the scores below are of the test part, which shares no image with the "
            "others and was read once."
        ),
        Heading("Scores on the test part"),
        _scores(run),
        Paragraph(
            f"Accuracy of {result['metrics']['accuracy']:.1%}, between {low} and {high} with other images of the same "
            "kind (95 % interval). That of other seeds takes several runs: --seeds 3."
        ),
        Heading("Learned, or learned by heart"),
        _gap(result),
        Heading("How training went"),
        Figure(
            draw.svg(draw.curves(loss_curves(run))),
            "Loss an image. While training, dropout and what is done to images raise it; the validation loss has none "
            "of that.",
        ),
        Heading("What was taken for what"),
        _confusion(result),
        Heading("How far to believe it"),
        Figure(
            draw.svg(draw.calibration([Calibrated(**one) for one in result["calibration"]])),
            "Answers by their confidence. On the dashed line as many are right as the confidence says; below it the "
            f"model is too sure. They lie {result['metrics']['calibration_error']:.1%} apart in the mean.",
        ),
        Heading("The surest mistakes"),
    ]
    if mistakes:
        pixels = torch.from_numpy(test.pixels[[one["image"] for one in mistakes]]).float()
        labels = [f"{one['label']}: {one['answer']} {one['probability']:.0%}" for one in mistakes]
        told = "Of the test part: the class, and what it was taken for."
        made.append(Figure(draw.images_svg(pixels, labels=labels), told))
    else:
        made.append(Paragraph("There are none."))
    made += [Heading("What the network sees"), *insides(classifier, test.at(np.array([0])))]
    made += [Heading("What was trained on what"), Facts(facts(run)), Preformatted(command)]
    return draw.report_page(f"Images: {config['model']} on {config['data']}", made)


def _scores(run: Run) -> Table:
    rows: Mapping[str, Mapping[str, Any]] = {run.config["model"]: run.result["metrics"]} | run.result["baselines"]
    return Table(
        ["", "accuracy", "macro F1", "cross-entropy", "calibration error"],
        [
            [
                name,
                *(f"{100 * scores[share]:.2f}%" for share in ("accuracy", "macro_f1")),
                *(f"{scores[number]:.4f}" for number in ("cross_entropy", "calibration_error")),
            ]
            for name, scores in rows.items()
        ],
        best={"accuracy": "highest", "macro F1": "highest", "cross-entropy": "lowest"},
    )


def _gap(result: Mapping[str, Any]) -> Table:
    return Table(
        ["part", "images", "accuracy", "cross-entropy"],
        [
            ["training", result["images"]["train"], result["train_accuracy"], result["train_loss"]],
            ["validation", result["images"]["valid"], result["valid_accuracy"], result["valid_loss"]],
            ["test", result["images"]["test"], result["metrics"]["accuracy"], result["metrics"]["cross_entropy"]],
        ],
        digits=4,
        caption="The same weights on all parts, without dropout and with images as they are.",
    )


def _confusion(result: Mapping[str, Any]) -> Table:
    labels, counts = result["labels"], result["confusion"]
    return Table(
        ["class", "right", *labels],
        [
            [label, f"{100 * row[place] / max(sum(row), 1):.1f}%", *row]
            for place, (label, row) in enumerate(zip(labels, counts, strict=True))
        ],
        caption="Test images by their class (rows) and the answer (columns).",
    )


def facts(run: Run) -> dict[str, str]:
    """What a reader needs to know to judge the scores."""
    result, images = run.result, run.result["images"]
    return {
        "data": run.config["data"],
        "images": f"{images['train']:,} to train on, {images['valid']:,} to choose by, {images['test']:,} to judge by",
        "left out": f"{result['repeated']:,} images to train on that are in another part too",
        "parameters": f"{result['parameters']:,}",
        "training": f"{result['steps']:,} steps, {result['epochs']:.1f} epochs, {result['seconds']:,.0f} seconds",
        "speed": f"{result['images_per_second']:,.0f} images a second",
        "weights taken from": f"step {result['best_step']:,}, validation loss {result['valid_loss']:.4f}",
        "seed": str(run.seed),
    }


# -- one image -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What is said of an image: how probable each class is."""

    name: str
    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def told(self) -> str:
        return f"{self.label} {self.probabilities[self.label]:.1%}"

    @property
    def document(self) -> Json:
        return {"prediction": self.label, "probabilities": self.probabilities}


def answer_page(classifier: Classifier, image: Images, answer: Answer, attention: str | None) -> str:
    """A page of one image: the answer, and what the network sees of it; `attention` is the figure of what is attended
    to, where something is."""
    ranked = sorted(answer.probabilities.items(), key=lambda one: -one[1])
    told = "What the token that stands for the class attends to, as shares of what goes to patches."
    inside = insides(classifier, image) if attention is None else [Figure(attention, told)]
    table = Table(["class", "probability"], [list(one) for one in ranked], digits=4)
    return draw.report_page(answer.told, [Paragraph(answer.name), table, *inside])


def insides(classifier: Classifier, image: Images) -> list[Block]:
    """What the network makes of one image: filters and what comes out of them, or what patches attend to."""
    if isinstance(classifier.model, PatchTransformer):
        told = "What the token of the class attends to on the first test image: mean over heads, layer by layer."
        return [Figure(attention_over(classifier, image), told)]
    trace = classifier.seen(image)
    given = torch.from_numpy(image.pixels).float()
    return [
        Figure(draw.images_svg(given), "The image."),
        Figure(draw.images_svg(filters(classifier.model)), "The filters of the first convolution: black is the least."),
        Figure(draw.images_svg(trace["conv1"][0].float()), "What each of them makes of it."),
        Figure(draw.images_svg(trace["conv2"][0].float()), "The channels of the last convolution."),
    ]


def filters(model: ImageCNN | ResidualCNN) -> Float[Tensor, "channels 3 3"]:
    """The weights of the first convolution."""
    first = model.conv1 if isinstance(model, ImageCNN) else model.stem
    return first.weight.detach()[:, 0]


def attention_over(
    classifier: Classifier, image: Images, *, layer: int | None = None, head: int | None = None, title: str = ""
) -> str:
    """The figure of what the token of the class attends to: the mean of each layer's heads, the heads of one layer, or
    one head.

    Raises:
        InputError: no such layer or head.
    """
    model = classifier.model
    assert isinstance(model, PatchTransformer)
    maps = classifier.seen(image).maps(patch_labels(model))
    if layer is None and head is None:
        drawn = {f"layer {number}": over_image(one.mean(), model.side)[0] for number, one in enumerate(maps)}
        drawn["mean"] = torch.stack(list(drawn.values())).mean(dim=0)
    else:
        figure = attended(maps, layer=layer, head=head)
        heads = maps[layer] if layer is not None and head is None else figure
        names = [f"layer {layer}, head {number}" for number in range(heads.heads)]
        if head is not None:
            names = [f"{'mean of layers' if layer is None else f'layer {layer}'}, head {head}"]
        drawn = dict(zip(names, over_image(heads, model.side), strict=True))
    pixels = torch.from_numpy(image.pixels[0]).float()
    return draw.image_weights_svg(pixels, torch.stack(list(drawn.values())), labels=list(drawn), title=title or None)


def require_convolutions(layer: int | None, head: int | None) -> None:
    """Refuses a layer or head of a network without attention."""
    if layer is not None or head is not None:
        raise InputError("this model has no attention", expected="a run of --model attention", got="--layer or --head")


def listed(labels: Sequence[str]) -> str:
    """Names in a line, the first of many."""
    return ", ".join(labels[:12]) + (f", ... ({len(labels)})" if len(labels) > 12 else "")
