"""Classifiers of images as the recipe images has them: images in, probabilities out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from qkv.data import ImageBatches, Images
from qkv.models import ImageCNN, PatchTransformer, ResidualCNN
from qkv.trace import record
from qkv.train import autocast
from qkv.types import AttentionMap, Trace

Probabilities = Float[np.ndarray, "images classes"]
_TOGETHER = 500  # images that are read without gradients


@dataclass(frozen=True)
class Classifier:
    """A network with what it takes pixels by.

    Attributes:
        names: of the classes.
        mean, deviation: of pixels from 0 to 1, which it is given in units of these.
        precision: what answers are computed in.
        mirrored: whether it answers with the mean over an image and its mirror image.
    """

    model: ImageCNN | ResidualCNN | PatchTransformer
    names: Sequence[str]
    mean: float
    deviation: float
    precision: Literal["auto", "float32", "bfloat16"]
    mirrored: bool

    @property
    def device(self) -> torch.device:
        return self.model.output.weight.device

    def batches(
        self, images: Images, batch_size: int = _TOGETHER, *, shuffle: bool = False, **drawn: Any
    ) -> ImageBatches:
        """Images as the network takes them, in their order unless they are shuffled; `drawn` as for `ImageBatches`."""
        pixels = {"mean": self.mean, "deviation": self.deviation}
        return ImageBatches(images, batch_size=batch_size, shuffle=shuffle, **pixels, **drawn)

    def probabilities(self, images: Images) -> Probabilities:
        """How likely each image has each class."""
        self.model.eval()
        found = []
        with torch.inference_mode(), autocast(self.precision, self.device)():
            for batch in self.batches(images).epoch(0):
                pixels = batch.pixels.to(self.device)
                views = (pixels, pixels.flip(-1)) if self.mirrored else (pixels,)
                found.append(sum(self.model(view).double().exp() for view in views) / len(views))
        return torch.cat(found).cpu().numpy()

    def seen(self, images: Images) -> Trace:
        """What the network records of images: what convolutions make of them, or what patches attend to."""
        self.model.eval()
        (batch,) = self.batches(images, len(images)).epoch(0)
        with record() as trace, torch.inference_mode():
            self.model(batch.pixels.to(self.device))
        return trace


def patch_labels(model: PatchTransformer) -> list[str]:
    """What the tokens of a Transformer over patches are called: the class, then row and column, counted from 0."""
    return ["[class]", *(f"{row},{column}" for row in range(model.side) for column in range(model.side))]


def over_image(attention: AttentionMap, side: int) -> Float[Tensor, "heads side side"]:
    """What the token of the class attends to, patch by patch, as shares of what goes to patches at all."""
    weights = attention.weights[:, 0, 1:]
    return (weights / weights.sum(dim=-1, keepdim=True)).unflatten(-1, (side, side))


def regression(train: Images, judged: Images, classes: int) -> Probabilities:
    """What logistic regression on pixels says: the classical baseline."""
    x, y = (one.pixels.reshape(len(one), -1) / np.float32(one.full) for one in (train, judged))
    solved = LogisticRegression(C=0.1, max_iter=500, tol=1e-3).fit(x, train.labels)
    found = np.zeros((len(judged), classes))
    found[:, solved.classes_] = solved.predict_proba(y)
    return found
