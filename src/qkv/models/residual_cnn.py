"""A residual convolutional classifier of images."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from qkv.models.image_cnn import log_probabilities
from qkv.nn import Dropout
from qkv.trace import step
from qkv.types import Config, ImageBatch


class ResidualCNNConfig(Config):
    """Sizes of the residual network."""

    channels: PositiveInt = 16
    """Of the first stage; each of the two that follow has twice as many, at half the height and width."""
    blocks: PositiveInt = 2
    """In a stage."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Before the output."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """The share of a label that is spread over all classes while training (Szegedy et al. 2016, section 7)."""


class ResidualBlock(nn.Module):
    """`x + F(x)`, where F is norm, ReLU, convolution, twice (He et al. 2016b, figure 1b); where sizes change, x goes
    through the mean of each 2 x 2 and a convolution of one pixel.

    Args:
        inputs, outputs: channels.
        stride: 2 halves height and width.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, bias=False)
        self.stride = stride

    def forward(self, x: Float[Tensor, "batch inputs _ _"]) -> Float[Tensor, "batch outputs _ _"]:
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return self.shortcut(x) + y


class ResidualCNN(nn.Module):
    """A convolution, three stages of residual blocks (He et al. 2016b), the mean over places, and one linear layer.

    Args:
        config: sizes.
        classes: how many there are.

    >>> sum(p.numel() for p in ResidualCNN(ResidualCNNConfig(), classes=10).parameters())
    174778
    """

    def __init__(self, config: ResidualCNNConfig, classes: int):
        super().__init__()
        widths = [config.channels * 2**stage for stage in range(3)]
        self.stem = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        shapes = [
            (widths[max(stage - 1, 0)], width, 2 if stage else 1) if block == 0 else (width, width, 1)
            for stage, width in enumerate(widths)
            for block in range(config.blocks)
        ]
        self.blocks = nn.Sequential(*(ResidualBlock(*shape) for shape in shapes))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(widths[-1], classes)
        self.label_smoothing = config.label_smoothing
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # as convolutions in bfloat16 are fastest, by a factor of two

    def forward(self, pixels: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch classes"]:
        """Logarithms of the probabilities of each class; records what the first convolution and the stages make of the
        images.
        """
        x = step("conv1", self.stem(pixels))
        x = step("conv2", F.relu(self.norm(self.blocks(x))))
        return log_probabilities(self.output(self.dropout(x.mean(dim=(2, 3)))))

    def loss(self, batch: ImageBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy; of smoothed labels while training."""
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(self(batch.pixels), batch.label, label_smoothing=smoothing)
