"""A small convolutional classifier of images that makes them smaller by max-pooling, or by steps of two."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.nn import Dropout
from qkv.trace import step
from qkv.types import Config, ImageBatch

_KERNEL = 3


class ImageCNNConfig(Config):
    """Sizes of the convolutional networks with and without pooling."""

    padding: NonNegativeInt = 1
    """Zeros around the image for the first convolution; the second has none."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Between the first and the second linear layer."""


class ImageCNN(nn.Module):
    """Two convolutions, each followed by ReLU, of 8 and 16 channels, and three linear layers; `maxpool` takes the
    largest of each 2 x 2 after a convolution, `stride` only computes every second row and column of it.

    A window of max-pooling looks at four places and so makes the same of an image that is moved a little; a stride
    costs a quarter of the convolutions.

    Args:
        config: padding and dropout.
        kind: how images become smaller.
        classes: how many there are.
        size: height and width of the images.

    Raises:
        InputError: images so small that nothing is left of them.

    >>> sum(p.numel() for p in ImageCNN(ImageCNNConfig(padding=0), "maxpool", classes=4, size=28).parameters())
    168572
    """

    def __init__(self, config: ImageCNNConfig, kind: Literal["maxpool", "stride"], classes: int, size: int):
        super().__init__()
        self.pooling, stride = kind == "maxpool", 1 if kind == "maxpool" else 2
        self.conv1 = nn.Conv2d(1, 8, _KERNEL, stride, config.padding)
        self.conv2 = nn.Conv2d(8, 16, _KERNEL, stride)
        left = _halved(_halved(size, config.padding, self.pooling), 0, self.pooling)
        if left < 1:
            raise InputError("the images are too small", expected="at least 10 x 10", got=f"{size} x {size}")
        self.linear1 = nn.Linear(16 * left**2, 320)
        self.dropout = Dropout(config.dropout)
        self.linear2 = nn.Linear(320, 120)
        self.output = nn.Linear(120, classes)

    def forward(self, pixels: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch classes"]:
        """Logarithms of the probabilities of each class; records what the convolutions make of the images."""
        x = step("conv1", self._smaller(F.relu(self.conv1(pixels))))
        x = step("conv2", self._smaller(F.relu(self.conv2(x))))
        x = self.dropout(F.relu(self.linear1(x.flatten(1))))
        return log_probabilities(self.output(F.relu(self.linear2(x))))

    def loss(self, batch: ImageBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy."""
        return F.nll_loss(self(batch.pixels), batch.label)

    def _smaller(self, x: Float[Tensor, "batch channels _ _"]) -> Float[Tensor, "batch channels _ _"]:
        return F.max_pool2d(x, 2) if self.pooling else x


def log_probabilities(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    """Log-softmax, in single precision where `logits` have less: 8 bits are too few to tell how sure an answer is."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=1)


def _halved(size: int, padding: int, pooling: bool) -> int:
    """Rows after a convolution and pooling by two, or after a convolution with a stride of two."""
    reached = size + 2 * padding - _KERNEL
    return (reached + 1) // 2 if pooling else reached // 2 + 1
